//! The way back after a restart: the books, then the journal's records that the books may not have, then the holds
//! that were open. A job goes on as it was; any other hold without an end counts as dispatched and accepted, and is
//! charged at its floor.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{Live, MemoryMeter, lock};
use crate::access::ledgered::Gap;
use crate::access::record::{GrantRecord, HoldRecord, JobRecord, MadeRecord, Record};
use crate::access::{Account, Terms};
use crate::journal::{self, Journal};
use crate::ledger::rows::Restored;
use crate::meter::MeterError;
use crate::meter::restored::{account_of, restore};
use crate::policy::compiled::{CounterKey, Policy};
use crate::units::planted::{Bug, planted};
use crate::units::time::Clock;
use crate::units::{AccountId, DecisionId, PolicyVersion};

/// What a restart took up again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records that the journal had.
    pub records: u64,
    /// Holds that were open and are charged at their floor.
    pub floored: u64,
    /// Jobs that were open and go on.
    pub jobs: u64,
}

/// Why live state cannot be made from books and journal.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A frame of the journal is not a record of this version.
    #[error("a record of the journal cannot be read: was it written by a newer version?")]
    Unreadable(#[source] postcard::Error),
    /// Records are missing between the books and the journal.
    #[error("the journal does not follow the books of account {account}")]
    Gap {
        /// Whose.
        account: AccountId,
        /// Where.
        #[source]
        source: Gap,
    },
    /// An open hold was decided by a policy that the books do not have.
    #[error("an open hold was decided by policy {version}, which the books do not have")]
    PolicyMissing {
        /// Which.
        version: PolicyVersion,
    },
    /// The journal could not take the ends of the holds.
    #[error("the ends of open holds could not be journalled")]
    Journal(#[source] MeterError),
}

/// Live state that is being restored: rows of the books go in, then the journal's frames in order; a meter comes out.
pub struct Restoring {
    live: Live,
    open: HashMap<DecisionId, Box<HoldRecord>>,
    jobs: HashMap<DecisionId, JobRecord>,
    made: Vec<MadeRecord>,
    recovered: Recovered,
}

impl Restoring {
    /// Nothing restored yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            live: Live::new(clock),
            open: HashMap::new(),
            jobs: HashMap::new(),
            made: Vec::new(),
            recovered: Recovered::default(),
        }
    }

    /// Sets live state to what the books say, row by row.
    pub fn row(&self, row: &Restored) {
        let Some(id) = account_of(row) else { return };
        let account = self.live.account(id);
        let mut account = lock(&account);
        restore(&mut account, row);
        if matches!(row, Restored::Grant(_)) {
            self.live.watch_expiry(&account);
        }
    }

    /// Applies the next frame of the journal, which the books may have or not.
    pub fn frame(&mut self, payload: &[u8]) -> Result<(), RecoverError> {
        let record: Record = postcard::from_bytes(payload).map_err(RecoverError::Unreadable)?;
        self.recovered.records += 1;
        self.replay(&record)?;
        match record {
            Record::Hold(hold) => {
                self.open.insert(hold.decision, hold);
            }
            Record::End(end) => {
                if !planted(Bug::EndForgottenAtRestart) {
                    self.open.remove(&end.decision);
                }
                self.jobs.remove(&end.decision);
            }
            Record::Job(job) => {
                self.jobs.insert(job.decision, job);
            }
            Record::Correction(_) | Record::Revision(_) => self.live.revised(&record),
            Record::Adjustment(adjustment) => {
                lock(&self.live.pending_orders).insert(adjustment.id);
            }
            Record::Made(made) => self.made.push(made),
            Record::Grant(_) | Record::Expiry(_) => {}
        }
        Ok(())
    }

    /// Keeps only the holds that the journal says are open: of a long-lived one's segment the ends of its neighbours may
    /// be gone, since the books have them.
    pub fn keep_open(&mut self, open: &HashSet<journal::Id>) {
        if planted(Bug::EndForgottenAtRestart) {
            return;
        }
        self.open.retain(|decision, _| open.contains(decision.as_bytes()));
    }

    /// What was made upstream, as far as the journal still tells of it: the books may not have it yet.
    pub fn take_made(&mut self) -> Vec<MadeRecord> {
        std::mem::take(&mut self.made)
    }

    /// The policies that the open holds were decided by.
    pub fn policies(&self) -> Vec<PolicyVersion> {
        let versions: BTreeSet<_> = self.open.values().map(|hold| hold.policy).collect();
        versions.into_iter().collect()
    }

    /// The meter, with the jobs that were open going on, and other holds that were open ended at their floor. `policy` finds a policy by version.
    pub fn meter(
        self,
        journal: Arc<Journal>,
        policy: impl Fn(PolicyVersion) -> Option<Arc<Policy>>,
    ) -> Result<(MemoryMeter, Recovered), RecoverError> {
        let mut open: Vec<_> = self.open.into_values().collect();
        open.sort_unstable_by_key(|hold| hold.decision);
        let meter = MemoryMeter { live: self.live, journal };
        // All of them reserve before the first one ends: what one lacks may not be taken from another's reservation.
        for hold in &open {
            take_up(&meter, hold, &policy)?;
        }
        let (mut jobs, mut recovered) = (self.jobs, self.recovered);
        for hold in &open {
            if let Some(job) = jobs.remove(&hold.decision).filter(|_| !planted(Bug::JobsForgotten)) {
                go_on(&meter, job);
                recovered.jobs += 1;
            } else {
                end_at_floor(&meter, hold)?;
                recovered.floored += 1;
            }
        }
        Ok((meter, recovered))
    }

    fn replay(&self, record: &Record) -> Result<(), RecoverError> {
        let account = record.account();
        let state = self.live.account(account);
        let mut state = lock(&state);
        self.live.clock.no_earlier_than(record.at());
        let replayed = match record {
            Record::Hold(hold) => {
                hold.issued.iter().try_for_each(|grant| self.replay_grant(&mut state, grant))
            }
            Record::End(end) => state.replay_end(end, CounterKey::of_balance),
            Record::Grant(grant) => self.replay_grant(&mut state, grant),
            Record::Expiry(expiry) => state.replay_expiry(expiry),
            Record::Job(_) | Record::Made(_) => Ok(()),
            Record::Correction(correction) => state.replay_correction(correction, CounterKey::of_balance),
            Record::Revision(revision) => {
                state.replay_correction(&revision.correction, CounterKey::of_balance)
            }
            Record::Adjustment(adjustment) => {
                let key = CounterKey::of_balance(&adjustment.balance);
                state.replay_adjustment(adjustment, key)
            }
        };
        // What came back to a grant that was spent expires once more.
        if record.revision().is_some() || matches!(record, Record::Adjustment(_)) {
            self.live.watch_expiry(&state);
        }
        replayed.map_err(|source| RecoverError::Gap { account, source })
    }

    fn replay_grant(&self, state: &mut Account, grant: &GrantRecord) -> Result<(), Gap> {
        lock(&self.live.pending_grants).insert(grant.grant);
        state.replay_grant(grant, CounterKey::of_balance(&grant.balance))?;
        self.live.watch_expiry(state);
        Ok(())
    }
}

fn take_up(
    meter: &MemoryMeter,
    record: &HoldRecord,
    policy: impl Fn(PolicyVersion) -> Option<Arc<Policy>>,
) -> Result<(), RecoverError> {
    let missing = || RecoverError::PolicyMissing { version: record.policy };
    let policy = policy(record.policy).ok_or_else(missing)?;
    let terms = Terms::of_record(record, policy).ok_or_else(missing)?;
    lock(&meter.live.account(record.account)).take_up(record, terms);
    Ok(())
}

fn go_on(meter: &MemoryMeter, job: JobRecord) {
    let (id, decision) = (job.account, job.decision);
    let account = meter.live.account(id);
    if lock(&account).begin_job(job).is_ok() {
        meter.live.shard(id).open.insert(decision, id);
    }
}

fn end_at_floor(meter: &MemoryMeter, record: &HoldRecord) -> Result<(), RecoverError> {
    let account = meter.live.account(record.account);
    let mut account = lock(&account);
    let Some(hold) = account.hold_of(record.decision) else { return Ok(()) };
    let (used, ending) = hold.at_crash();
    let now = meter.live.clock.now();
    let ended = meter.end(&mut account, record.decision, used, ending, now);
    let _unawaited = ended.map_err(RecoverError::Journal)?;
    Ok(())
}
