//! The way back after a restart: the books, then the journal's records that the books may not have, then the holds
//! that were open. A hold without an end counts as dispatched and accepted, and is charged at its floor.

use std::collections::HashMap;
use std::sync::Arc;

use super::sweep::at_floor;
use super::{MemoryMeter, lock};
use crate::access::ledgered::Gap;
use crate::access::record::{HoldRecord, Outcome, Record};
use crate::access::{Account, Terms};
use crate::ledger::rows::Restored;
use crate::meter::MeterError;
use crate::policy::compiled::{CounterKey, Policy};
use crate::units::{AccountId, DecisionId, PolicyVersion};

/// What a restart took up again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records that the journal had.
    pub records: u64,
    /// Holds that were open and are charged at their floor.
    pub floored: u64,
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

/// A recovery under way: frames of the journal go in, in order; the open holds come out ended.
pub struct Recovery<'a> {
    meter: &'a MemoryMeter,
    open: HashMap<DecisionId, Box<HoldRecord>>,
    recovered: Recovered,
}

impl MemoryMeter {
    /// Sets live state to what the books say, row by row.
    pub fn restore(&self, row: &Restored) {
        let with = |id, change: &dyn Fn(&mut Account)| change(&mut lock(&self.account(id)));
        match row {
            Restored::Account(account, seq) => with(account.id, &|state| state.seq = *seq),
            Restored::Counter(account, user, entry) => {
                with(*account, &|state| state.restore_counter(*user, entry));
            }
            Restored::Grant(account, grant) => with(*account, &|state| {
                state.restore_grant(grant);
                self.watch_expiry(state);
            }),
            Restored::Debt(account, user, balance, debt) => {
                with(*account, &|state| state.restore_debt(*user, *balance, *debt));
            }
            Restored::User(_) | Restored::Key(_) => {}
        }
    }

    /// Begins to apply what the journal has beyond the books.
    pub fn recover(&self) -> Recovery<'_> {
        Recovery { meter: self, open: HashMap::new(), recovered: Recovered::default() }
    }
}

impl Recovery<'_> {
    /// Applies the next frame of the journal.
    pub fn frame(&mut self, payload: &[u8]) -> Result<(), RecoverError> {
        let record: Record = postcard::from_bytes(payload).map_err(RecoverError::Unreadable)?;
        self.recovered.records += 1;
        self.replay(&record)?;
        match record {
            Record::Hold(hold) => {
                self.open.insert(hold.decision, hold);
            }
            Record::End(end) => {
                self.open.remove(&end.decision);
            }
            Record::Grant(_) | Record::Expiry(_) => {}
        }
        Ok(())
    }

    /// Ends the holds that were open. `policy` finds a policy by version.
    pub fn finish(
        self,
        policy: impl Fn(PolicyVersion) -> Option<Arc<Policy>>,
    ) -> Result<Recovered, RecoverError> {
        let mut open: Vec<_> = self.open.into_values().collect();
        open.sort_unstable_by_key(|hold| hold.decision);
        // All of them reserve before the first one ends: what one lacks may not be taken from another's reservation.
        for hold in &open {
            take_up(self.meter, hold, &policy)?;
        }
        for hold in &open {
            end_at_floor(self.meter, hold)?;
        }
        Ok(Recovered { floored: open.len() as u64, ..self.recovered })
    }

    fn replay(&self, record: &Record) -> Result<(), RecoverError> {
        let account = record.account();
        let state = self.meter.account(account);
        let mut state = lock(&state);
        self.meter.clock.no_earlier_than(record.at());
        let replayed = match record {
            Record::Hold(hold) => {
                let mut issued = hold.issued.iter();
                issued.try_for_each(|grant| state.replay_grant(grant, CounterKey::of_balance(&grant.balance)))
            }
            Record::End(end) => state.replay_end(end, CounterKey::of_balance),
            Record::Grant(grant) => {
                lock(&self.meter.pending_grants).insert(grant.grant);
                state.replay_grant(grant, CounterKey::of_balance(&grant.balance))
            }
            Record::Expiry(expiry) => state.replay_expiry(expiry),
        };
        if !matches!(record, Record::End(_) | Record::Expiry(_)) {
            self.meter.watch_expiry(&state);
        }
        replayed.map_err(|source| RecoverError::Gap { account, source })
    }
}

fn take_up(
    meter: &MemoryMeter,
    record: &HoldRecord,
    policy: impl Fn(PolicyVersion) -> Option<Arc<Policy>>,
) -> Result<(), RecoverError> {
    let missing = || RecoverError::PolicyMissing { version: record.policy };
    let policy = policy(record.policy).ok_or_else(missing)?;
    let terms = Terms {
        plan: policy.plan(&record.plan).ok_or_else(missing)?,
        feature: policy.feature(&record.feature).ok_or_else(missing)?,
        policy,
        model: record.model.clone(),
        tier: record.tier.clone(),
        size: record.size.clone(),
    };
    lock(&meter.account(record.account)).take_up(record, terms);
    Ok(())
}

fn end_at_floor(meter: &MemoryMeter, record: &HoldRecord) -> Result<(), RecoverError> {
    let account = meter.account(record.account);
    let mut account = lock(&account);
    let Some(hold) = account.hold_of(record.decision) else { return Ok(()) };
    let (used, ending) = at_floor(hold, Outcome::Crashed);
    let now = meter.clock.now();
    meter.end(&mut account, record.decision, used, ending, now).map_err(RecoverError::Journal)?;
    Ok(())
}
