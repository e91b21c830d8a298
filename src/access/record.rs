//! Records: what has been decided and done, as the journal keeps it and the ledger books it.
//!
//! A record says everything that its booking needs; settlement computes nothing but sums and hashes. Records of an
//! account are numbered without gaps. The layout is the journal's format: add variants, never change one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::counter::Slot;
use super::demand::Demand;
use super::draw::{Draws, GuardCharges};
use crate::policy::compiled::{CounterKey, Name, Scope};
use crate::units::{
    AccountId, Amount, Credits, DecisionId, GrantId, PolicyVersion, Seq, Timestamp, Unit, UserId,
};

mod entry;
mod job;
mod made;
mod ordered;

pub use entry::Entry;
pub use job::{CorrectionRecord, JobKind, JobRecord, MoveEntry};
pub use made::{MadeRecord, MadeVideo};
pub use ordered::{AdjustmentRecord, RevisionOrder, RevisionRecord};

/// What the journal keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A request was let through; its end follows.
    Hold(Box<HoldRecord>),
    /// A hold ended.
    End(Box<EndRecord>),
    /// A balance was granted credits.
    Grant(GrantRecord),
    /// Grants expired.
    Expiry(ExpiryRecord),
    /// A call goes on after its answer; its end follows.
    Job(JobRecord),
    /// The truth about a call, told after it had been ended without it.
    Correction(Box<CorrectionRecord>),
    /// Something was made upstream, which belongs to its account from then on.
    Made(MadeRecord),
    /// An operator ordered the next revision of a call's money.
    Revision(Box<RevisionRecord>),
    /// An operator adjusted a balance.
    Adjustment(AdjustmentRecord),
}

/// Reservations of a request in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// The decision.
    pub decision: DecisionId,
    /// Who pays.
    pub account: AccountId,
    /// Who calls.
    pub user: UserId,
    /// When it was held.
    pub held_at: Timestamp,
    /// When it ends unless it is renewed.
    pub expires_at: Timestamp,
    /// The policy that decided.
    pub policy: PolicyVersion,
    /// The account's plan.
    pub plan: Name,
    /// The product.
    pub feature: Name,
    /// The model as the request named it.
    pub model: Arc<str>,
    /// The tier that the request asked for.
    pub tier: Option<Arc<str>>,
    /// The size of the video.
    pub size: Option<Arc<str>>,
    /// The estimate.
    pub demand: Demand,
    /// Where it is drawn from; layers by their place in that policy's waterfall.
    pub draws: Draws,
    /// What guards counted.
    pub charges: GuardCharges,
    /// What policy issued with it: numbered records of their own.
    pub issued: Vec<GrantRecord>,
}

impl HoldRecord {
    /// A hold of the same call that has drawn nothing, for a call that is to end again.
    pub fn of_end(end: &EndRecord) -> Self {
        Self {
            decision: end.decision,
            account: end.account,
            user: end.user,
            held_at: end.held_at,
            expires_at: end.held_at,
            policy: end.policy,
            plan: end.plan.clone(),
            feature: end.feature.clone(),
            model: Arc::clone(&end.model),
            tier: end.ending.tier.clone(),
            size: end.size.clone(),
            demand: end.estimate.clone(),
            draws: Draws::default(),
            charges: GuardCharges::default(),
            issued: Vec::new(),
        }
    }
}

/// The end of a hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    /// Its place in the account's sequence.
    pub seq: Seq,
    /// The decision.
    pub decision: DecisionId,
    /// Who pays.
    pub account: AccountId,
    /// Who called.
    pub user: UserId,
    /// When it was held.
    pub held_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The policy that decided, and prices.
    pub policy: PolicyVersion,
    /// The account's plan then.
    pub plan: Name,
    /// The product.
    pub feature: Name,
    /// The feature's unit.
    pub unit: Unit,
    /// The model as the request named it.
    pub model: Arc<str>,
    /// The size of the video.
    pub size: Option<Arc<str>>,
    /// How it went.
    pub ending: Ending,
    /// What was estimated and held.
    pub estimate: Demand,
    /// What was used.
    pub used: Demand,
    /// Where the estimate was drawn from.
    pub held: Vec<DrawEntry>,
    /// Where the truth was drawn from.
    pub draws: Vec<DrawEntry>,
    /// The money of it.
    pub charge: Charge,
    /// Debts that what came back has paid.
    pub repaid: Vec<GrantEntry>,
    /// What expired while it was held, and came back.
    pub expired: Vec<GrantEntry>,
    /// What the counters it touched stand at.
    pub counters: Vec<CounterEntry>,
}

/// How a hold ended, and how sure its quantities are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// What became of the call.
    pub outcome: Outcome,
    /// How sure the quantities are.
    pub grade: Grade,
    /// Whether the request left for the upstream. If not, it is no use.
    pub reached_upstream: bool,
    /// The HTTP status of the upstream's answer.
    pub status: Option<u16>,
    /// The tier that the answer named, or the request where it named none.
    pub tier: Option<Arc<str>>,
    /// What the call made upstream, which belongs to the account.
    pub resource: Option<Resource>,
}

/// A thing that a call made upstream.
///
/// The journal keeps it as one text, as it did when there was one upstream: the id alone, or the upstream's name, a
/// separator that neither has, and the id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Arc<str>", into = "Arc<str>")]
pub struct Resource {
    /// Its id there.
    pub id: Arc<str>,
    /// The upstream's name; none for what was made before upstreams had names.
    pub upstream: Option<Name>,
}

/// Between an upstream's name and an id: ASCII's unit separator.
const SEPARATOR: char = '\u{1f}';

impl From<Arc<str>> for Resource {
    fn from(text: Arc<str>) -> Self {
        match text.split_once(SEPARATOR) {
            Some((upstream, id)) => Self { id: id.into(), upstream: Some(upstream.into()) },
            None => Self { id: text, upstream: None },
        }
    }
}

impl From<Resource> for Arc<str> {
    fn from(Resource { id, upstream }: Resource) -> Self {
        match upstream {
            Some(upstream) => format!("{upstream}{SEPARATOR}{id}").into(),
            None => id,
        }
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It ended as it should.
    Completed,
    /// It ended short: at a bound on its output, or filtered.
    Incomplete,
    /// The upstream said that it failed.
    Failed,
    /// The upstream refused it, or failed before it accepted.
    Refused,
    /// The upstream's answer was cut.
    Cut,
    /// The client went away.
    ClientGone,
    /// It was cancelled.
    Cancelled,
    /// Nobody told its end before its deadline.
    Expired,
    /// The gateway died with it.
    Crashed,
    /// It was never sent.
    NotSent,
    /// The gateway ended it: nothing was left to pay for more.
    Stopped,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 11] = [
        Self::Completed,
        Self::Incomplete,
        Self::Failed,
        Self::Refused,
        Self::Cut,
        Self::ClientGone,
        Self::Cancelled,
        Self::Expired,
        Self::Crashed,
        Self::NotSent,
        Self::Stopped,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Cut => "cut",
            Self::ClientGone => "client-gone",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Crashed => "crashed",
            Self::NotSent => "not-sent",
            Self::Stopped => "stopped",
        }
    }
}

/// How sure quantities are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// The upstream said so.
    Exact,
    /// Counted from what passed.
    Estimated,
    /// The input estimate and the output that was seen.
    Floor,
}

impl Grade {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Estimated => "estimated",
            Self::Floor => "floor",
        }
    }
}

/// A draw by names, for readers who do not have the policy at hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrawEntry {
    /// The layer.
    pub layer: Name,
    /// What is taken…
    pub amount: Amount,
    /// … in this unit.
    pub unit: Unit,
    /// How much of the demand that covers, in the feature's unit; micro-credits of a balance.
    pub covers: Amount,
    /// Whose window or balance.
    pub scope: Scope,
    /// Out of what exactly.
    pub origin: OriginEntry,
}

/// The instance or grant that a draw names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OriginEntry {
    /// Instances, by counter and start.
    Windows(Vec<(CounterKey, Timestamp)>),
    /// A grant of a balance.
    Grant {
        /// The balance.
        balance: Name,
        /// The grant.
        grant: GrantId,
    },
    /// The balance owes it.
    Debt {
        /// The balance.
        balance: Name,
    },
}

/// A part of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantEntry {
    /// Whose balance.
    pub scope: Scope,
    /// The balance.
    pub balance: CounterKey,
    /// The grant.
    pub grant: GrantId,
    /// How much.
    pub amount: Credits,
}

/// The money of a finished call: `gross = covered + forgiven + charged`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The price of what was used, rounded up.
    pub gross: Credits,
    /// What windows covered of it.
    pub covered: Credits,
    /// What could be drawn nowhere and is not owed.
    pub forgiven: Credits,
    /// The part of `forgiven` beyond what policy forgives and lends: an alarm.
    pub excess: Credits,
    /// What balances gave, debt included.
    pub charged: Credits,
}

/// What a counter stands at after a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterEntry {
    /// Whose counter.
    pub scope: Scope,
    /// Its state; `held` is zero, holds are not booked.
    pub slot: Slot,
}

/// Credits for a balance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// Its place in the account's sequence.
    pub seq: Seq,
    /// The grant; the same for a repeated order.
    pub grant: GrantId,
    /// Who pays.
    pub account: AccountId,
    /// Whose balance, where it is a user's.
    pub user: Option<UserId>,
    /// The balance.
    pub balance: Name,
    /// How much.
    pub amount: Credits,
    /// How much of it paid a debt at once.
    pub repaid: Credits,
    /// Lower is drawn first.
    pub priority: u16,
    /// When the rest of it expires.
    pub expires_at: Option<Timestamp>,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// Who ordered it, or why.
    pub origin: GrantOrigin,
}

/// Where a grant comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantOrigin {
    /// The operator, with a key that makes the order idempotent.
    Operator {
        /// The key.
        idempotency_key: Arc<str>,
        /// What the operator wrote about it.
        note: Option<Arc<str>>,
    },
    /// Policy, with the first allowed draw.
    Issue {
        /// That draw's decision.
        decision: DecisionId,
    },
}

/// Grants that came to their end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiryRecord {
    /// Its place in the account's sequence.
    pub seq: Seq,
    /// Who paid.
    pub account: AccountId,
    /// The user whose balance it is, or the account.
    pub user: Option<UserId>,
    /// When it was taken out.
    pub expired_at: Timestamp,
    /// What.
    pub grants: Vec<GrantEntry>,
}

impl Ending {
    /// The end of a hold whose request never left.
    pub const fn not_sent() -> Self {
        Self {
            outcome: Outcome::NotSent,
            grade: Grade::Exact,
            reached_upstream: false,
            status: None,
            tier: None,
            resource: None,
        }
    }
}

impl Record {
    /// When it was made.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Hold(hold) => hold.held_at,
            Self::Job(job) => job.began_at,
            Self::Correction(correction) => correction.corrected_at,
            Self::End(end) => end.ended_at,
            Self::Grant(grant) => grant.granted_at,
            Self::Expiry(expiry) => expiry.expired_at,
            Self::Made(made) => made.made_at,
            Self::Revision(revision) => revision.correction.corrected_at,
            Self::Adjustment(adjustment) => adjustment.adjusted_at,
        }
    }

    /// Its place in the account's sequence; a hold, a job and what was made have none of their own.
    pub fn seq(&self) -> Option<Seq> {
        match self {
            Self::Hold(_) | Self::Job(_) | Self::Made(_) => None,
            Self::End(end) => Some(end.seq),
            Self::Grant(grant) => Some(grant.seq),
            Self::Expiry(expiry) => Some(expiry.seq),
            Self::Correction(correction) => Some(correction.seq),
            Self::Revision(revision) => Some(revision.correction.seq),
            Self::Adjustment(adjustment) => Some(adjustment.seq),
        }
    }

    /// The account it belongs to.
    pub fn account(&self) -> AccountId {
        match self {
            Self::Hold(hold) => hold.account,
            Self::Job(job) => job.account,
            Self::Correction(correction) => correction.account,
            Self::End(end) => end.account,
            Self::Grant(grant) => grant.account,
            Self::Expiry(expiry) => expiry.account,
            Self::Made(made) => made.account,
            Self::Revision(revision) => revision.correction.account,
            Self::Adjustment(adjustment) => adjustment.account,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_upstream_is_kept_as_one_text_and_old_texts_are_read() {
        for (upstream, text) in [(None, "resp_1"), (Some("backup"), "backup\u{1f}resp_1")] {
            let resource = Resource { id: "resp_1".into(), upstream: upstream.map(Name::from) };
            let kept = postcard::to_stdvec(&resource).unwrap();
            assert_eq!(postcard::from_bytes::<String>(&kept).unwrap(), text);
            assert_eq!(postcard::from_bytes::<Resource>(&kept).unwrap(), resource);
        }
    }
}
