//! The books as replay reads them: what happened, account by account, in the order in which it happened.
//!
//! Replay makes the money of the books anew, or asks what other rules would have made of them. So a store tells what
//! went in (calls, grants, entries) beside what came out (money, balance updates), one entry at a time: sorting is the
//! store's, and a reader keeps no more than one account.

use std::sync::Arc;

use super::LedgerError;
use super::books::Books;
use super::rows::{BlockRow, Cause, DecisionRow, RevisedBy, UpdateKind};
use crate::access::record::{AdjustmentRecord, DrawEntry, Grade, GrantRecord, Outcome};
use crate::policy::compiled::Name;
use crate::units::{
    AccountId, Credits, DecisionId, GrantId, PolicyVersion, Price, Quantities, Seq, Timestamp, Unit, UserId,
};

/// One place of an account's sequence, with all that is booked under it.
#[derive(Debug)]
pub struct Entry {
    /// The account.
    pub account: AccountId,
    /// Its place.
    pub seq: Seq,
    /// What is booked there.
    pub what: EntryKind,
    /// The balance updates of it, in the order in which they were booked.
    pub updates: Vec<RecordedUpdate>,
}

/// What an entry is.
#[derive(Debug)]
pub enum EntryKind {
    /// A usage event, with its first monetization event.
    Call(Box<RecordedCall>),
    /// A later monetization event of a call, with what it took the place of.
    Correction(Box<RecordedCall>, Box<Replaced>),
    /// A grant.
    Grant(GrantRecord),
    /// An adjustment.
    Adjustment(AdjustmentRecord),
    /// Any other record, by the word for its kind.
    Other(String),
    /// Nothing but balance updates.
    Nothing,
}

/// A call as a usage event tells it, or the correction of one.
#[derive(Debug)]
pub struct RecordedCall {
    /// The decision.
    pub decision: DecisionId,
    /// Who called.
    pub user: UserId,
    /// The product.
    pub feature: Name,
    /// The account's plan then.
    pub plan: Name,
    /// The policy that decided.
    pub decided_by: PolicyVersion,
    /// The model as the request named it.
    pub model: Arc<str>,
    /// The size of the video.
    pub size: Option<Arc<str>>,
    /// The tier that it was priced in.
    pub tier: Option<Arc<str>>,
    /// The feature's unit.
    pub unit: Unit,
    /// What became of it.
    pub outcome: Outcome,
    /// What was used.
    pub used: Quantities,
    /// When it was held.
    pub held_at: Timestamp,
    /// When it ended, or was corrected.
    pub ended_at: Timestamp,
    /// Where the truth was drawn from.
    pub draws: Vec<DrawEntry>,
    /// Its monetization event.
    pub money: Option<RecordedMoney>,
}

/// A monetization event, in micro-credits.
#[derive(Clone, Copy, Debug)]
pub struct RecordedMoney {
    /// The policy that priced.
    pub policy: PolicyVersion,
    /// The exact price; `None` where it cannot be read.
    pub price: Option<Price>,
    /// The price, rounded up.
    pub gross: i64,
    /// What windows covered.
    pub covered: i64,
    /// What is not owed.
    pub forgiven: i64,
    /// The part of it beyond policy.
    pub excess: i64,
    /// What balances gave.
    pub charged: i64,
    /// The part of what is not owed that operators have given back.
    pub refunded: i64,
}

/// What a revision took the place of.
#[derive(Debug)]
pub struct Replaced {
    /// Who said so.
    pub by: RevisedBy,
    /// When the call was settled before; a refund settles nothing.
    pub at: Timestamp,
    /// Where it was drawn from.
    pub draws: Vec<DrawEntry>,
    /// Its monetization event.
    pub money: RecordedMoney,
}

/// A balance update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedUpdate {
    /// Whose balance, where it is a user's.
    pub user: Option<UserId>,
    /// The balance.
    pub balance: Name,
    /// Why.
    pub kind: UpdateKind,
    /// What caused it.
    pub cause: Cause,
    /// The grant it touches; none where it touches the debt.
    pub grant: Option<GrantId>,
    /// How much, in micro-credits.
    pub amount: i64,
    /// What the balance stood at before it.
    pub before: i64,
    /// What it stood at after it.
    pub after: i64,
    /// When.
    pub at: Timestamp,
    /// Its hash.
    pub hash: [u8; 32],
}

/// The place of what is asked for.
pub(super) const REQUEST: Seq = Seq(u64::MAX);

/// Something that an account asked for or was given.
#[derive(Debug)]
pub enum Request {
    /// Credits that an operator granted.
    Grant(GrantRecord),
    /// A balance that an operator adjusted.
    Adjustment(AdjustmentRecord),
    /// What became of a call's money after its end.
    Revision(RecordedRevision),
    /// A call that was let through.
    Call(Box<AskedCall>),
    /// A block of the decision log. One that does not say its plan has the one that the account is on now.
    Block(Box<BlockRow>),
}

/// A call that was let through.
#[derive(Debug)]
pub struct AskedCall {
    /// As it is settled now.
    pub settled: DecisionRow,
    /// How it ended, whatever was said of it later.
    pub end: RecordedEnd,
}

/// How a call ended, and what it used.
#[derive(Clone, Debug)]
pub struct RecordedEnd {
    /// What became of it.
    pub outcome: Outcome,
    /// How sure the quantities are.
    pub grade: Grade,
    /// The tier that it was priced in.
    pub tier: Option<Arc<str>>,
    /// What was used.
    pub used: Quantities,
}

/// A later monetization event of a call, by what made it.
#[derive(Debug)]
pub struct RecordedRevision {
    /// Its place in the account's sequence.
    pub seq: Seq,
    /// The call.
    pub decision: DecisionId,
    /// When.
    pub at: Timestamp,
    /// What made it.
    pub what: RevisionKind,
}

/// What makes a later monetization event of a call.
#[derive(Debug)]
pub enum RevisionKind {
    /// The truth came after the deadline.
    Truth(RecordedEnd),
    /// An operator gave something back.
    Refund {
        /// How much.
        amount: Credits,
        /// What is charged still.
        charged: Credits,
    },
    /// An operator priced it by another policy.
    Price,
}

impl Request {
    /// When it was, and in which place. What is asked for has none, and comes behind what has.
    pub const fn place(&self) -> (Timestamp, Seq) {
        match self {
            Self::Grant(grant) => (grant.granted_at, grant.seq),
            Self::Adjustment(adjustment) => (adjustment.adjusted_at, adjustment.seq),
            Self::Revision(revision) => (revision.at, revision.seq),
            Self::Call(call) => (call.settled.held_at, REQUEST),
            Self::Block(block) => (block.at, REQUEST),
        }
    }
}

/// What happened, as of one instant.
pub trait Recorded: Books {
    /// Every numbered record and every balance update of a known balance, in the order of accounts and places.
    fn entries(&self, visit: &mut dyn FnMut(Entry)) -> Result<(), LedgerError>;
    /// What was asked for, in the order of accounts and of when it began; what is numbered of an instant in its order,
    /// before requests of it.
    fn requests(&self, visit: &mut dyn FnMut(AccountId, Request)) -> Result<(), LedgerError>;
    /// The calls that ended from one instant on and before another, in no order.
    fn ended(
        &self,
        from: Timestamp,
        until: Timestamp,
        visit: &mut dyn FnMut(DecisionRow),
    ) -> Result<(), LedgerError>;
}
