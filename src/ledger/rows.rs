//! What the ledger takes and tells.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::reason::Block;
use crate::access::record::{Charge, CounterEntry, DrawEntry, Grade, GrantOrigin, MadeVideo, Outcome};
use crate::policy::compiled::Name;
use crate::units::{
    AccountId, Credits, DecisionId, GrantId, KeyId, OrderId, PolicyVersion, Price, Quantities, Seq,
    SignedCredits, Timestamp, Unit, UserId,
};

/// How many rows to tell at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page(pub u16);

/// Who pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// Its id.
    pub id: AccountId,
    /// Its name, for people; unique.
    pub name: Arc<str>,
    /// The plan it is on.
    pub plan: Name,
    /// Whether it may call.
    pub status: AccountStatus,
    /// When it was added.
    pub created_at: Timestamp,
}

/// Whether an account may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountStatus {
    /// It may.
    Active,
    /// It may not, until it is active again. Its books stay as they are.
    Suspended,
}

impl AccountStatus {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// Its id.
    pub id: UserId,
    /// Who pays.
    pub account: AccountId,
    /// Its name, for people; unique within the account.
    pub name: Arc<str>,
    /// When it was added.
    pub created_at: Timestamp,
}

/// One API key. The key itself is shown once and never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub user: UserId,
    /// Who pays.
    pub account: AccountId,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// The beginning of the key, so that people can tell keys apart.
    pub hint: Arc<str>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From then on it is refused.
    pub expires_at: Option<Timestamp>,
    /// Since then it is refused.
    pub revoked_at: Option<Timestamp>,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Records that were booked now.
    pub booked: u64,
    /// Records that had been booked before, the same.
    pub repeated: u64,
    /// Records that contradict the books: their place is taken by other content, or what they say does not add up, or
    /// names what is not there. Left out.
    pub conflicts: Vec<(AccountId, Seq)>,
    /// Records that wait for an earlier one: left out, to be given again.
    pub waiting: Vec<(AccountId, Seq)>,
}

/// One thing that live state is made of. Accounts come first, then what belongs to them.
#[derive(Clone, Debug)]
pub enum Restored {
    /// An account, and the newest record that is booked for it.
    Account(AccountRow, Seq),
    /// A user.
    User(UserRow),
    /// A key, revoked ones left out.
    Key(KeyRow),
    /// A counter; the user is the owner's, or any where the account owns it.
    Counter(AccountId, UserId, CounterEntry),
    /// A grant with something left in it, or one that policy issued.
    Grant(GrantRow),
    /// What an account, or one of its users, owes on a balance.
    Debt(AccountId, Option<UserId>, Name, Credits),
}

/// A grant and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRow {
    /// Its id.
    pub grant: GrantId,
    /// Who pays.
    pub account: AccountId,
    /// Whose balance, where it is a user's.
    pub user: Option<UserId>,
    /// The balance.
    pub balance: Name,
    /// How much was granted.
    pub amount: Credits,
    /// What is left of it.
    pub remaining: Credits,
    /// Lower is drawn first.
    pub priority: u16,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// Who ordered it, or why.
    pub origin: GrantOrigin,
}

/// One balance update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceUpdateRow {
    /// Its place in the books.
    pub place: i64,
    /// The place of the record that it is a part of.
    pub seq: Seq,
    /// Who pays.
    pub account: AccountId,
    /// Whose balance, where it is a user's.
    pub user: Option<UserId>,
    /// The balance.
    pub balance: Name,
    /// Why: grant, debit, refund, expiry or adjustment.
    pub kind: UpdateKind,
    /// What caused it.
    pub cause: Cause,
    /// The grant it touches; none where it touches the debt.
    pub grant: Option<GrantId>,
    /// How much, with its sign.
    pub amount: SignedCredits,
    /// What the balance stood at before it.
    pub before: SignedCredits,
    /// What it stood at after it.
    pub after: SignedCredits,
    /// When.
    pub at: Timestamp,
    /// Its hash, over its content and the hash of the update before it on the same balance.
    pub hash: [u8; 32],
}

/// Why a balance changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpdateKind {
    /// It was granted credits.
    Grant,
    /// A call was charged.
    Debit,
    /// A correction gave back.
    Refund,
    /// A grant came to its end.
    Expiry,
    /// Between grants and debt of the same balance, or by the operator.
    Adjustment,
}

impl UpdateKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Debit => "debit",
            Self::Refund => "refund",
            Self::Expiry => "expiry",
            Self::Adjustment => "adjustment",
        }
    }
}

/// What caused a balance update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The end of this call.
    Decision(DecisionId),
    /// This grant: that it was given, or that its time ran out.
    Grant(GrantId),
    /// This adjustment.
    Adjustment(OrderId),
}

impl Cause {
    /// The word for its kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Decision(_) => "decision",
            Self::Grant(_) => "grant",
            Self::Adjustment(_) => "adjustment",
        }
    }

    /// The 16 bytes of its id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        match self {
            Self::Decision(decision) => decision.as_bytes(),
            Self::Grant(grant) => grant.as_bytes(),
            Self::Adjustment(order) => order.as_bytes(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decision(decision) => decision.fmt(f),
            Self::Grant(grant) => grant.fmt(f),
            Self::Adjustment(order) => order.fmt(f),
        }
    }
}

/// A booked decision: usage event and monetization event together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionRow {
    /// The decision.
    pub decision: DecisionId,
    /// Its record's place in the account's sequence.
    pub seq: Seq,
    /// Who pays.
    pub account: AccountId,
    /// Who called.
    pub user: UserId,
    /// The product.
    pub feature: Name,
    /// The plan then.
    pub plan: Name,
    /// The model.
    pub model: Arc<str>,
    /// The size of the video.
    pub size: Option<Arc<str>>,
    /// The policy that decided.
    pub policy: PolicyVersion,
    /// The feature's unit.
    pub unit: Unit,
    /// When it was held.
    pub held_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Of its money, the one that counts: 1, or more where it was corrected. What follows is as of it.
    pub revision: u32,
    /// The policy that priced it.
    pub priced_by: PolicyVersion,
    /// When its money was settled: at its end, by a later truth or by another price; a refund settles nothing.
    pub settled_at: Timestamp,
    /// Why there is such a revision; none for the first.
    pub revised: Option<RevisedRow>,
    /// What became of it.
    pub outcome: Outcome,
    /// How sure the quantities are.
    pub grade: Grade,
    /// The tier that it was priced in.
    pub tier: Option<Arc<str>>,
    /// The HTTP status of the upstream's answer.
    pub status: Option<u16>,
    /// The estimate.
    pub estimate: Quantities,
    /// What was used.
    pub used: Quantities,
    /// The exact price of it.
    pub price: Price,
    /// The draws of the hold.
    pub held: Vec<DrawEntry>,
    /// The draws of the truth.
    pub draws: Vec<DrawEntry>,
    /// The money.
    pub charge: Charge,
    /// The part of what it forgives that operators have given back.
    pub refunded: Credits,
}

/// Why the money of a call became another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisedRow {
    /// When.
    pub at: Timestamp,
    /// Who said so.
    pub by: RevisedBy,
    /// What the operator wrote about it; nobody wrote about a truth.
    pub reason: Option<Arc<str>>,
}

/// Who said that the money of a call is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevisedBy {
    /// The upstream, after the deadline.
    Truth,
    /// An operator, who gave a part back.
    Refund,
    /// An operator, who priced it anew.
    Rerate,
}

impl RevisedBy {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Truth => "truth",
            Self::Refund => "refund",
            Self::Rerate => "rerate",
        }
    }
}

/// A refund that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundRow {
    /// What makes it the same.
    pub id: OrderId,
    /// Who was paid back.
    pub account: AccountId,
    /// The call.
    pub decision: DecisionId,
    /// The revision of its money.
    pub revision: u32,
    /// How much was given back.
    pub amount: Credits,
    /// What is charged since then.
    pub charged: Credits,
    /// When.
    pub refunded_at: Timestamp,
    /// What the operator made it the same by.
    pub idempotency_key: Arc<str>,
    /// What the operator wrote about it.
    pub reason: Arc<str>,
}

/// Whose a thing made upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The account.
    pub account: AccountId,
    /// The user that made it.
    pub user: UserId,
    /// When it was made; of a response, when its call ended or became a job.
    pub made_at: Timestamp,
    /// What it is.
    pub what: Owned,
    /// The upstream that has it, by its name; none for what was made before upstreams had names.
    pub upstream: Option<Name>,
}

/// A thing made upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    /// A response.
    Response {
        /// Tokens of its whole context, for the estimate of what continues it.
        context_tokens: u64,
    },
    /// A video.
    Video(MadeVideo),
    /// A character.
    Character,
}

/// Where a page of a user's videos begins, and which way it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideosFrom {
    /// Behind this video, by when it was made and its id.
    pub after: Option<(Timestamp, Arc<str>)>,
    /// Whether the newest come first.
    pub newest_first: bool,
}

/// A logged block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRow {
    /// The decision.
    pub decision: DecisionId,
    /// When.
    pub at: Timestamp,
    /// Who would have paid.
    pub account: AccountId,
    /// Who called.
    pub user: UserId,
    /// The product.
    pub feature: Name,
    /// The model.
    pub model: Arc<str>,
    /// The policy that decided.
    pub policy: PolicyVersion,
    /// The account's plan then; what was logged by older programs does not say it.
    pub plan: Option<Name>,
    /// The tier that the request asked for.
    pub tier: Option<Arc<str>>,
    /// The size of the video.
    pub size: Option<Arc<str>>,
    /// What was asked for.
    pub estimate: Quantities,
    /// Why not.
    pub block: Block,
    /// How many the row stands for: equal ones of one user and second are one.
    pub count: u64,
}
