//! The meter: live counts, and the one place where a hold is taken, changed and ended.
//!
//! One machine keeps them in memory (`memory`), which is the reference for every other store. Nothing outside this
//! folder knows which it is.
//!
//! # Contract of every implementation
//!
//! - **Atomic**: a verb does all of what it says to an account, or nothing, and no other verb sees it half done.
//! - **Idempotent**: `hold` of a decision that is held answers with that hold. The first end of a decision wins; a
//!   later `finish` or `void` finds no hold and changes nothing. `grant` of a grant that is known changes nothing, nor
//!   does `adjust` or `revise` by an order that is. Of a call's revisions each number is given once: `revise` with a
//!   prior that is not the newest changes nothing.
//! - **Numbered**: every record of an account gets the next `seq`, and reaches the journal in that order.
//! - **Durable**: a verb returns when the change is made; its [`Ticket`] resolves when the journal has it. Whoever
//!   promises something to the outside waits for the ticket first.
//! - **Cancel-safe**: a verb that was polled once is carried out; dropping its future loses only the answer.

pub mod began;
#[cfg(test)]
pub(crate) mod lives;
pub mod memory;
pub mod queue;
pub mod redis;
mod restored;

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::access::record::{
    AdjustmentRecord, CorrectionRecord, EndRecord, Ending, GrantRecord, JobRecord, Record,
};
use crate::access::{
    AdjustmentOrder, Ask, Block, Demand, Extended, GrantOrder, Held, Hold, NoSuchHold, Prior, Revision,
    Standing, Terms, TooMuch, Unadjustable, Unrevisable,
};
use crate::journal::{self, Tag, Ticket};
use crate::policy::compiled::{FeatureIndex, PlanIndex, Policy};
use crate::units::{AccountId, DecisionId, GrantId, OrderId, Timestamp, UserId};

/// Why the meter could not answer. What it did, if anything, is undone or ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// The journal takes no new holds: the disk is full, a write failed, or settlement is too far behind.
    #[error("the journal takes no new holds")]
    Journal(#[source] crate::journal::AppendError),
    /// A balance would hold more than any amount may be.
    #[error("the balance would hold more than any amount of credits may be")]
    TooMuch,
    /// The store of live counts did not do it, or is not known to have.
    #[error("the store of live counts did not do it")]
    Store(#[source] redis::StoreError),
    /// No open hold has this id: it ended before, or never was.
    #[error("no open hold has this id")]
    NoSuchHold,
}

/// The answer to a request for a hold.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most are the large one, and each lives for one call")]
pub enum Verdict {
    /// It is held; forward it once the ticket has resolved.
    Allow(Held, Ticket),
    /// It is not; nothing was taken.
    Block(Block),
}

/// What came of a revision.
#[derive(Debug)]
pub enum Revised {
    /// It is made; the ticket tells when it is durable.
    Now(Box<CorrectionRecord>, Ticket),
    /// A newer revision than the prior was made, or this order carried out, and the books do not have it yet.
    Behind,
    /// The call's money stays as it is.
    Not(Unrevisable),
}

/// What came of an adjustment.
#[derive(Debug)]
pub enum Adjusting {
    /// It is made; the ticket tells when it is durable.
    Now(AdjustmentRecord, Ticket),
    /// This order was carried out, and the books do not have it yet.
    Behind,
    /// The balance stays as it is.
    Not(Unadjustable),
}

/// Something that the books have, so that nobody need ask the meter for it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Booked {
    /// A grant.
    Grant(GrantId),
    /// An adjustment or a refund.
    Order(OrderId),
}

/// Live counts.
#[async_trait]
pub trait Meter: Send + Sync + 'static {
    /// Decides, and takes all that the decision proposes, or nothing.
    async fn hold(&self, account: AccountId, ask: Ask) -> Result<Verdict, MeterError>;

    /// Notes that a held request is about to leave for the upstream.
    async fn dispatch(&self, account: AccountId, decision: DecisionId) -> Result<(), MeterError>;

    /// Reserves what a larger estimate needs beyond what is held.
    async fn extend(
        &self,
        account: AccountId,
        decision: DecisionId,
        estimate: Demand,
    ) -> Result<Extended, MeterError>;

    /// Moves the deadline of a hold to `expires_at`; never to an earlier one.
    async fn renew(
        &self,
        account: AccountId,
        decision: DecisionId,
        expires_at: Timestamp,
    ) -> Result<(), MeterError>;

    /// Makes a hold a job: what it paid for is made in the background, and it lives until that ends or until
    /// `job.expires_at`, over restarts too. Again with the same resource changes nothing. After an error of the journal
    /// it is a job all the same, for as long as this process lives.
    async fn begin_job(&self, job: JobRecord) -> Result<Ticket, MeterError>;

    /// The open jobs.
    async fn jobs(&self) -> Result<Vec<JobRecord>, MeterError>;

    /// Ends a hold with what was used.
    async fn finish(
        &self,
        account: AccountId,
        decision: DecisionId,
        used: Demand,
        ending: Ending,
    ) -> Result<(Box<EndRecord>, Ticket), MeterError>;

    /// Ends a hold with nothing used: everything goes back but the count of requests in guards.
    async fn void(
        &self,
        account: AccountId,
        decision: DecisionId,
        ending: Ending,
    ) -> Result<(Box<EndRecord>, Ticket), MeterError> {
        self.finish(account, decision, Demand::nothing(), ending).await
    }

    /// Makes the next revision of a call's money: a truth after its deadline, another price, a refund.
    async fn revise(
        &self,
        account: AccountId,
        prior: Prior,
        revision: Revision,
    ) -> Result<Revised, MeterError>;

    /// What revisions of calls of an account would be, one after the other, as of now. Changes nothing.
    async fn rehearse(
        &self,
        account: AccountId,
        revisions: Vec<(Prior, Revision)>,
    ) -> Result<Vec<Result<CorrectionRecord, Unrevisable>>, MeterError>;

    /// Changes what is left of a grant, or what a balance owes, seen by the very next request.
    async fn adjust(&self, account: AccountId, order: AdjustmentOrder) -> Result<Adjusting, MeterError>;

    /// Whether an adjustment or refund was made and is still on its way to the books.
    async fn is_ordered(&self, account: AccountId, order: OrderId) -> Result<bool, MeterError>;

    /// Grants credits, seen by the very next request. `None` where the grant is live already.
    async fn grant(
        &self,
        account: AccountId,
        order: GrantOrder,
    ) -> Result<Option<(GrantRecord, Ticket)>, MeterError>;

    /// Whether a grant was made and is still on its way to the books.
    async fn is_granting(&self, account: AccountId, grant: GrantId) -> Result<bool, MeterError>;

    /// What is left for a user in a feature.
    async fn standing(
        &self,
        account: AccountId,
        user: UserId,
        policy: &Policy,
        plan: PlanIndex,
        feature: FeatureIndex,
    ) -> Result<Standing, MeterError>;

    /// What would happen to a request, and why. Takes nothing, issues nothing.
    async fn explain(&self, account: AccountId, ask: &Ask) -> Result<Explained, MeterError>;

    /// The hold of a decision in flight.
    async fn in_flight(
        &self,
        account: AccountId,
        decision: DecisionId,
    ) -> Result<Option<InFlight>, MeterError>;

    /// Ends what is past its deadline, takes out what has expired, and says what it did. Called by the sweeper.
    async fn sweep(&self) -> Result<Swept, MeterError>;

    /// Numbers to watch.
    fn stats(&self) -> MeterStats;
}

/// What would happen to a request.
#[derive(Debug)]
pub struct Explained {
    /// The draws that it would hold, by names; or why it would be blocked.
    pub outcome: Result<ExplainedAllow, Block>,
    /// What is left everywhere, before it.
    pub standing: Standing,
}

/// What a request would hold.
#[derive(Debug)]
pub struct ExplainedAllow {
    /// Where it would be drawn from.
    pub draws: Vec<crate::access::record::DrawEntry>,
    /// The demand, after a clamp.
    pub demand: Demand,
    /// The output tokens it would be cut down to.
    pub clamped_to: Option<u64>,
}

/// A decision in flight.
#[derive(Debug)]
pub struct InFlight {
    /// Who calls.
    pub user: UserId,
    /// When it was held.
    pub held_at: Timestamp,
    /// When it ends unless it is renewed.
    pub expires_at: Timestamp,
    /// What it holds, by names.
    pub draws: Vec<crate::access::record::DrawEntry>,
    /// The estimate.
    pub demand: Demand,
    /// The product.
    pub feature: crate::policy::compiled::Name,
    /// The model.
    pub model: std::sync::Arc<str>,
    /// What it was decided and is priced by.
    pub terms: Terms,
}

impl InFlight {
    /// What a hold is.
    fn of(hold: &Hold) -> Self {
        Self {
            user: hold.user,
            held_at: hold.held_at,
            expires_at: hold.expires_at,
            draws: hold.terms.entries(&hold.draws),
            demand: hold.demand.clone(),
            feature: hold.terms.feature().name.clone(),
            model: hold.terms.model.clone(),
            terms: hold.terms.clone(),
        }
    }
}

impl From<NoSuchHold> for MeterError {
    fn from(_: NoSuchHold) -> Self {
        Self::NoSuchHold
    }
}

impl From<TooMuch> for MeterError {
    fn from(_: TooMuch) -> Self {
        Self::TooMuch
    }
}

/// What a record does to a hold in the journal, and to which.
const fn effect_of(record: &Record) -> (Tag, journal::Id) {
    match record {
        Record::Hold(hold) => (Tag::Hold, *hold.decision.as_bytes()),
        // Kept with the hold's own frame for as long as that is open.
        Record::Job(job) => (Tag::Hold, *job.decision.as_bytes()),
        Record::End(end) => (Tag::End, *end.decision.as_bytes()),
        Record::Grant(_)
        | Record::Expiry(_)
        | Record::Correction(_)
        | Record::Made(_)
        | Record::Revision(_)
        | Record::Adjustment(_) => (Tag::Other, [0; 16]),
    }
}

/// Locks. A panic elsewhere does not poison the counts: every change is made whole or, by a panic, not at all before
/// its record exists.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Holds that never left and were given back.
    pub voided: u64,
    /// Holds that left and were charged at their floor.
    pub floored: u64,
    /// Grants of which something expired.
    pub expired: u64,
}

/// Numbers to watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterStats {
    /// Accounts with live state.
    pub accounts: u64,
    /// Open holds.
    pub holds: u64,
    /// Ends that the store has not taken yet.
    pub owed: u64,
}
