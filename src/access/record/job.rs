//! Records of calls that outlive their request: that one does, and a truth that came after its deadline.

use serde::{Deserialize, Serialize};

use super::{Charge, CounterEntry, DrawEntry, Ending, GrantEntry, Resource};
use crate::access::demand::Demand;
use crate::policy::compiled::{Name, Scope};
use crate::units::{
    AccountId, Credits, DecisionId, GrantId, PolicyVersion, Seq, SignedCredits, Timestamp, UserId,
};

/// A call whose answer is not its end: what it makes is made in the background. Journalled beside its hold, which lives
/// until the job's end is known, or its deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The decision.
    pub decision: DecisionId,
    /// Who pays.
    pub account: AccountId,
    /// Who calls.
    pub user: UserId,
    /// What is made.
    pub kind: JobKind,
    /// What it is upstream; it belongs to the account.
    pub resource: Resource,
    /// When the upstream took it on.
    pub began_at: Timestamp,
    /// When it ends if nobody tells its end before.
    pub expires_at: Timestamp,
}

/// What a job makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// A video: whole, or nothing is charged.
    Video,
    /// A background response: charged by its usage, however it ends.
    Response,
}

impl JobKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Response => "response",
        }
    }
}

/// The next revision of a call's money, by itself: the truth about the call, told after its deadline had ended it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorrectionRecord {
    /// Its place in the account's sequence.
    pub seq: Seq,
    /// The decision.
    pub decision: DecisionId,
    /// Who pays.
    pub account: AccountId,
    /// Who called.
    pub user: UserId,
    /// When it was corrected.
    pub corrected_at: Timestamp,
    /// The policy that prices.
    pub policy: PolicyVersion,
    /// Its place among the monetization events of the decision; that of the end is 1.
    pub revision: u32,
    /// How it went.
    pub ending: Ending,
    /// What was used.
    pub used: Demand,
    /// Where the truth is drawn from, all of it.
    pub draws: Vec<DrawEntry>,
    /// The money of it, all of it.
    pub charge: Charge,
    /// What was charged before.
    pub charged_before: Credits,
    /// What goes back to balances, and what is taken beyond what had been.
    pub moves: Vec<MoveEntry>,
    /// Debts that what came back has paid.
    pub repaid: Vec<GrantEntry>,
    /// What came back to grants that had expired.
    pub expired: Vec<GrantEntry>,
    /// What the counters it touched stand at.
    pub counters: Vec<CounterEntry>,
}

/// A change of a balance by a correction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveEntry {
    /// Whose balance.
    pub scope: Scope,
    /// The balance.
    pub balance: Name,
    /// The grant; none where it is what the balance owes.
    pub grant: Option<GrantId>,
    /// How much goes back; below zero, how much is taken.
    pub amount: SignedCredits,
    /// The grant's priority, since one that was spent is not at hand any more.
    pub priority: u16,
    /// When the grant expires.
    pub expires_at: Option<Timestamp>,
}
