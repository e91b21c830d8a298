//! The embedded meter: accounts in memory, one lock each. The reference for every other store.
//!
//! A record is handed to the journal while its account is locked, so that the journal's order is the order of `seq`.
//! The lock is held for a microsecond or two and never across an await. Open holds are listed beside the accounts, so
//! that the sweeper looks at what is in flight and not at everybody.

mod orders;
mod recover;
mod sweep;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;

use super::{
    Adjusting, Explained, ExplainedAllow, InFlight, Meter, MeterError, MeterStats, Revised, Swept, Verdict,
    effect_of, lock,
};
use crate::access::record::{CorrectionRecord, EndRecord, Ending, GrantRecord, JobRecord, Record};
use crate::access::{
    Account, AdjustmentOrder, Ask, Demand, Extended, GrantOrder, Prior, Revision, Standing, Unrevisable,
};
use crate::journal::{AppendError, Frame, Journal, Ticket};
use crate::policy::compiled::{FeatureIndex, PlanIndex, Policy};
use crate::units::planted::{Bug, planted};
use crate::units::time::Clock;
use crate::units::{AccountId, DecisionId, GrantId, IdMap, OrderId, Timestamp, UserId};

pub use recover::{RecoverError, Recovered, Restoring};

const SHARDS: usize = 64;

/// Live counts of all accounts, in memory.
pub struct MemoryMeter {
    live: Live,
    journal: Arc<Journal>,
}

/// The counts by themselves.
struct Live {
    shards: Box<[Mutex<Shard>]>,
    expiries: Mutex<BinaryHeap<Reverse<(Timestamp, AccountId)>>>,
    /// Grants that are on their way to the books: what makes `grant` idempotent until the books do.
    pending_grants: Mutex<HashSet<GrantId>>,
    /// Adjustments and refunds on their way to the books, likewise.
    pending_orders: Mutex<HashSet<OrderId>>,
    /// The newest revision of calls that were revised by this process, or in what its journal had: each number is given
    /// once, whatever the caller has read of the books. Kept for as long as the process lives: what is revised is few,
    /// and a million of them take 40 MB.
    revised: Mutex<HashMap<DecisionId, u32>>,
    clock: Clock,
}

#[derive(Default)]
struct Shard {
    accounts: IdMap<AccountId, Arc<Mutex<Account>>>,
    open: IdMap<DecisionId, AccountId>,
}

impl Live {
    fn new(clock: Clock) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            expiries: Mutex::default(),
            pending_grants: Mutex::default(),
            pending_orders: Mutex::default(),
            revised: Mutex::default(),
            clock,
        }
    }

    fn shard(&self, account: AccountId) -> MutexGuard<'_, Shard> {
        lock(&self.shards[account.shard(SHARDS)])
    }

    fn account(&self, id: AccountId) -> Arc<Mutex<Account>> {
        let mut shard = self.shard(id);
        Arc::clone(shard.accounts.entry(id).or_insert_with(|| Arc::new(Mutex::new(Account::new(id)))))
    }

    fn watch_expiry(&self, account: &Account) {
        if let Some(at) = account.next_expiry(self.clock.now()) {
            lock(&self.expiries).push(Reverse((at, account.id)));
        }
    }
}

impl MemoryMeter {
    /// Hands a record to the journal. Called under the account's lock, which makes file order the order of `seq`.
    fn journal(&self, record: &Record) -> Result<Ticket, AppendError> {
        let (tag, id) = effect_of(record);
        self.journal.append(Frame { tag, id, payload: &record.bytes() })
    }

    /// The holds that are open now, each with its account.
    fn open(&self) -> Vec<(DecisionId, Arc<Mutex<Account>>)> {
        let mut open = Vec::new();
        for shard in &self.live.shards {
            let shard = lock(shard);
            let account = |id| shard.accounts.get(id).map(Arc::clone);
            open.extend(shard.open.iter().filter_map(|(decision, id)| Some((*decision, account(id)?))));
        }
        open
    }

    fn end(
        &self,
        account: &mut Account,
        decision: DecisionId,
        used: Demand,
        ending: Ending,
        now: Timestamp,
    ) -> Result<(Box<EndRecord>, Ticket), MeterError> {
        let end = account.finish(decision, used, ending, now)?;
        self.live.shard(account.id).open.remove(&decision);
        let record = Record::End(end);
        let ticket = self.journal(&record).map_err(MeterError::Journal)?;
        let Record::End(end) = record else { return Err(MeterError::NoSuchHold) };
        Ok((end, ticket))
    }
}

#[async_trait]
impl Meter for MemoryMeter {
    async fn hold(&self, id: AccountId, ask: Ask) -> Result<Verdict, MeterError> {
        let account = self.live.account(id);
        let mut account = lock(&account);
        // Read under the lock, so that the instants of an account's records follow their order.
        let now = self.live.clock.now();
        if let Some(held) = account.held_already(&ask, now) {
            return Ok(Verdict::Allow(held, self.journal.flush()));
        }
        let proposal = match account.propose(ask, now) {
            Ok(proposal) => proposal,
            Err(block) => {
                if planted(Bug::BlockUsesANumber) {
                    account.seq = account.seq.next();
                }
                return Ok(Verdict::Block(block));
            }
        };
        // Queued before it is taken: a decision that cannot be kept is not made, and uses no number.
        let record = Record::Hold(Box::new(proposal.record(id)));
        let ticket = self.journal(&record).map_err(MeterError::Journal)?;
        let issues = proposal.issues();
        let held = account.accept(proposal, now);
        self.live.shard(id).open.insert(held.decision, id);
        if issues {
            self.live.watch_expiry(&account);
        }
        Ok(Verdict::Allow(held, ticket))
    }

    async fn dispatch(&self, id: AccountId, decision: DecisionId) -> Result<(), MeterError> {
        Ok(lock(&self.live.account(id)).dispatch(decision)?)
    }

    async fn extend(
        &self,
        id: AccountId,
        decision: DecisionId,
        estimate: Demand,
    ) -> Result<Extended, MeterError> {
        let now = self.live.clock.now();
        Ok(lock(&self.live.account(id)).extend(decision, estimate, now)?)
    }

    async fn renew(
        &self,
        id: AccountId,
        decision: DecisionId,
        expires_at: Timestamp,
    ) -> Result<(), MeterError> {
        Ok(lock(&self.live.account(id)).renew(decision, expires_at)?)
    }

    async fn begin_job(&self, job: JobRecord) -> Result<Ticket, MeterError> {
        let account = self.live.account(job.account);
        let mut account = lock(&account);
        account.begin_job(job.clone())?;
        self.journal(&Record::Job(job)).map_err(MeterError::Journal)
    }

    async fn jobs(&self) -> Result<Vec<JobRecord>, MeterError> {
        let mut jobs = Vec::new();
        for (decision, account) in self.open() {
            jobs.extend(lock(&account).hold_of(decision).and_then(|hold| hold.job.as_deref().cloned()));
        }
        Ok(jobs)
    }

    async fn finish(
        &self,
        id: AccountId,
        decision: DecisionId,
        used: Demand,
        ending: Ending,
    ) -> Result<(Box<EndRecord>, Ticket), MeterError> {
        let account = self.live.account(id);
        let mut account = lock(&account);
        self.end(&mut account, decision, used, ending, self.live.clock.now())
    }

    async fn revise(&self, id: AccountId, prior: Prior, revision: Revision) -> Result<Revised, MeterError> {
        self.revise_now(id, &prior, revision)
    }

    async fn rehearse(
        &self,
        id: AccountId,
        revisions: Vec<(Prior, Revision)>,
    ) -> Result<Vec<Result<CorrectionRecord, Unrevisable>>, MeterError> {
        Ok(self.rehearse_now(id, revisions))
    }

    async fn adjust(&self, id: AccountId, order: AdjustmentOrder) -> Result<Adjusting, MeterError> {
        self.adjust_now(id, &order)
    }

    async fn is_ordered(&self, _account: AccountId, order: OrderId) -> Result<bool, MeterError> {
        Ok(lock(&self.live.pending_orders).contains(&order))
    }

    async fn grant(
        &self,
        id: AccountId,
        order: GrantOrder,
    ) -> Result<Option<(GrantRecord, Ticket)>, MeterError> {
        let account = self.live.account(id);
        let mut account = lock(&account);
        if lock(&self.live.pending_grants).contains(&order.grant) && !planted(Bug::GrantAppliedTwice) {
            return Ok(None);
        }
        let key = order.key;
        let grant = account.grant(order, self.live.clock.now())?;
        let record = Record::Grant(grant.clone());
        let ticket = self.journal(&record).map_err(MeterError::Journal)?;
        lock(&self.live.pending_grants).insert(grant.grant);
        account.granted(&grant, key);
        self.live.watch_expiry(&account);
        Ok(Some((grant, ticket)))
    }

    async fn is_granting(&self, _account: AccountId, grant: GrantId) -> Result<bool, MeterError> {
        Ok(lock(&self.live.pending_grants).contains(&grant))
    }

    async fn standing(
        &self,
        id: AccountId,
        user: UserId,
        policy: &Policy,
        plan: PlanIndex,
        feature: FeatureIndex,
    ) -> Result<Standing, MeterError> {
        let now = self.live.clock.now();
        Ok(lock(&self.live.account(id)).standing(policy, plan, feature, user, now))
    }

    async fn explain(&self, id: AccountId, ask: &Ask) -> Result<Explained, MeterError> {
        let now = self.live.clock.now();
        let account = self.live.account(id);
        let account = lock(&account);
        let terms = &ask.terms;
        let outcome = account.decide(terms, ask.user, &ask.demand, now).map(|draft| ExplainedAllow {
            draws: terms.entries(&draft.walk.draws),
            demand: draft.demand,
            clamped_to: draft.clamped_to,
        });
        let standing = account.standing(&terms.policy, terms.plan, terms.feature, ask.user, now);
        Ok(Explained { outcome, standing })
    }

    async fn in_flight(&self, id: AccountId, decision: DecisionId) -> Result<Option<InFlight>, MeterError> {
        let account = self.live.account(id);
        let account = lock(&account);
        Ok(account.hold_of(decision).map(InFlight::of))
    }

    async fn sweep(&self) -> Result<Swept, MeterError> {
        self.sweep_now()
    }

    fn stats(&self) -> MeterStats {
        let mut stats = MeterStats::default();
        for shard in &self.live.shards {
            let shard = lock(shard);
            stats.accounts += shard.accounts.len() as u64;
            stats.holds += shard.open.len() as u64;
        }
        stats
    }
}

#[cfg(test)]
mod tests;
