//! The books as the audit reads them: whole, raw, as of one instant, and never by way of what it is to prove.
//!
//! Events and balance updates come in the order in which they were booked, page by page, so that a reader keeps little;
//! everything else is looked up by its key. Amounts are bare integers and words may be unreadable, since a broken book
//! may hold what is none. A store implements it on a connection of its own, so that a gateway goes on writing meanwhile.

use smallvec::SmallVec;

use super::LedgerError;
use super::chain::rows::{OwnedCell, RowBytes};
use super::rows::{Cause, RevisedBy, UpdateKind};
use crate::access::record::{AdjustmentRecord, DrawEntry, GrantRecord, Outcome};
use crate::policy::compiled::Name;
use crate::units::{
    AccountId, DecisionId, GrantId, OrderId, PolicyVersion, Price, Quantities, Seq, Timestamp, Unit, UserId,
};

/// A usage event with its money.
#[derive(Debug)]
pub struct BookedEvent {
    /// Its place in the books.
    pub place: i64,
    /// The decision.
    pub decision: DecisionId,
    /// Who pays.
    pub account: AccountId,
    /// Who called.
    pub user: UserId,
    /// Its place among the account's records.
    pub seq: Seq,
    /// The place it names as the account's event before it.
    pub previous: Option<i64>,
    /// The product.
    pub feature: Name,
    /// The plan then.
    pub plan: Name,
    /// The model.
    pub model: Name,
    /// The size of the video.
    pub size: Option<Name>,
    /// The tier that it was priced in.
    pub tier: Option<Name>,
    /// The policy that decided.
    pub policy: PolicyVersion,
    /// The feature's unit; `None` where it cannot be read, as below.
    pub unit: Option<Unit>,
    /// When it was held.
    pub held_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// What was used.
    pub used: Option<Quantities>,
    /// The final draws.
    pub draws: Option<Vec<DrawEntry>>,
    /// The hash of its row.
    pub row: [u8; 32],
    /// The link of the chain that it was booked with; `None` before there was a chain.
    pub hash: Option<[u8; 32]>,
    /// Its monetization events, by revision.
    pub money: SmallVec<[BookedMoney; 1]>,
}

/// A monetization event, in micro-credits.
#[derive(Debug)]
pub struct BookedMoney {
    /// Its revision, from 1.
    pub revision: i64,
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
    /// The hash of its row.
    pub row: [u8; 32],
    /// What a correction says beside its money.
    pub correction: Option<Box<BookedCorrection>>,
}

/// What a revision says of a call beside its money.
#[derive(Debug)]
pub struct BookedCorrection {
    /// Who pays.
    pub account: Option<AccountId>,
    /// Its record's place.
    pub seq: Seq,
    /// When it was told.
    pub corrected_at: Timestamp,
    /// By whom; `None` where it cannot be read, as below.
    pub by: Option<RevisedBy>,
    /// What became of the call; `None` where it cannot be read, as below.
    pub outcome: Option<Outcome>,
    /// The tier that it was priced in.
    pub tier: Option<Name>,
    /// What was used.
    pub used: Option<Quantities>,
    /// Where the truth is drawn from.
    pub draws: Option<Vec<DrawEntry>>,
    /// The digest of its record.
    pub digest: Option<Vec<u8>>,
}

/// A numbered record that is no usage event.
#[derive(Debug)]
pub struct BookedRecord {
    /// Its place in the books.
    pub place: i64,
    /// Who pays.
    pub account: AccountId,
    /// Its place among the account's records.
    pub seq: Seq,
    /// `void`, `grant`, `expiry`, `correction`…
    pub kind: Name,
    /// The digest of what it says.
    pub digest: Vec<u8>,
    /// Its row, to be hashed; with the money of a correction.
    pub bytes: RowBytes,
    /// The link of the chain that it was booked with; `None` before there was a chain.
    pub hash: Option<[u8; 32]>,
}

/// The newest of an account.
#[derive(Clone, Copy, Debug)]
pub struct BookedHead {
    /// Which.
    pub account: AccountId,
    /// Its newest record.
    pub seq: Seq,
    /// The place of its newest usage event.
    pub event: Option<i64>,
    /// The place of its newest balance update.
    pub change: Option<i64>,
    /// The newest link of its chain.
    pub hash: Option<[u8; 32]>,
}

/// What a balance is said to stand at.
#[derive(Clone, Debug)]
pub struct BookedStanding {
    /// Its row.
    pub balance: i64,
    /// Who pays.
    pub account: AccountId,
    /// Whose it is, where it is a user's.
    pub user: Option<UserId>,
    /// Its name.
    pub name: Name,
    /// What remains of all grants, less the debt, in micro-credits.
    pub standing: i64,
    /// What is owed, in micro-credits.
    pub debt: i64,
    /// The hash of its newest update.
    pub hash: [u8; 32],
}

/// A balance update.
#[derive(Clone, Copy, Debug)]
pub struct BookedUpdate {
    /// Its place in the books.
    pub place: i64,
    /// The balance's row.
    pub balance: i64,
    /// The place it names as the account's update before it.
    pub previous: Option<i64>,
    /// The record's place.
    pub seq: Seq,
    /// Why; `None` where it cannot be read, as below.
    pub kind: Option<UpdateKind>,
    /// What caused it.
    pub cause: Option<Cause>,
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

/// A grant as it was granted.
#[derive(Debug)]
pub struct BookedGrant {
    /// What its record says.
    pub record: GrantRecord,
    /// The balance's row.
    pub balance: i64,
}

/// An adjustment as it was made.
#[derive(Debug)]
pub struct BookedAdjustment {
    /// What its record says.
    pub record: AdjustmentRecord,
    /// The balance's row.
    pub balance: i64,
}

/// A usage event and its monetization events, cell by cell as they are hashed.
#[derive(Debug)]
pub struct BookedCells {
    /// The usage event's.
    pub event: Vec<OwnedCell>,
    /// The monetization events', by revision.
    pub money: Vec<Vec<OwnedCell>>,
}

/// A row that names another which is not there.
#[derive(Clone, Debug)]
pub struct Stray {
    /// What it is, and what it lacks.
    pub what: &'static str,
    /// Which.
    pub id: String,
}

/// How many rows there are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// Accounts.
    pub accounts: u64,
    /// Usage events.
    pub usage_events: u64,
    /// Monetization events.
    pub monetization_events: u64,
    /// Balance updates.
    pub balance_updates: u64,
    /// Balances.
    pub balances: u64,
    /// Grants.
    pub grants: u64,
    /// Adjustments.
    pub adjustments: u64,
    /// What is left of grants.
    pub remainders: u64,
    /// Records that are no usage events.
    pub records: u64,
    /// Policy snapshots.
    pub policies: u64,
}

/// How far the books go: the newest place of each table that grows. What is booked later stands behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Of usage events.
    pub events: i64,
    /// Of other records.
    pub records: i64,
    /// Of balance updates.
    pub updates: i64,
}

/// The books as of one instant.
pub trait Books {
    /// How many rows there are.
    fn sizes(&self) -> Result<Sizes, LedgerError>;
    /// How far the books go.
    fn extent(&self) -> Result<Extent, LedgerError>;
    /// The first place of each table that grows; 1 where it is empty.
    fn first_places(&self) -> Result<Extent, LedgerError>;
    /// Policy snapshots, by their versions.
    fn policies(&self, visit: &mut dyn FnMut(PolicyVersion, &str)) -> Result<(), LedgerError>;
    /// The heads of the next accounts after one, in the order of their ids.
    fn heads(&self, after: Option<AccountId>, limit: u32) -> Result<Vec<BookedHead>, LedgerError>;
    /// The balances of the accounts after one and up to another, in the order of account, user and name.
    fn balances(
        &self,
        after: Option<AccountId>,
        up_to: Option<AccountId>,
        visit: &mut dyn FnMut(BookedStanding),
    ) -> Result<(), LedgerError>;
    /// One balance.
    fn standing(&self, balance: i64) -> Result<Option<BookedStanding>, LedgerError>;
    /// Whether there is such a balance.
    fn has_balance(&self, balance: i64) -> Result<bool, LedgerError>;
    /// What is said to be left of grants: balance, grant, micro-credits.
    fn remainders(&self, visit: &mut dyn FnMut(i64, GrantId, i64)) -> Result<(), LedgerError>;
    /// The next usage events after a place.
    fn events(&self, after: i64, limit: u32) -> Result<Vec<BookedEvent>, LedgerError>;
    /// The next balance updates after a place.
    fn updates(&self, after: i64, limit: u32) -> Result<Vec<BookedUpdate>, LedgerError>;
    /// The next records that are no usage events, after a place.
    fn records(&self, after: i64, limit: u32) -> Result<Vec<BookedRecord>, LedgerError>;
    /// An account's next records that are no usage events, after one and before another.
    fn records_of(
        &self,
        account: AccountId,
        after: Seq,
        before: Seq,
    ) -> Result<Vec<BookedRecord>, LedgerError>;
    /// A usage event as it is hashed.
    fn cells(&self, decision: DecisionId) -> Result<Option<BookedCells>, LedgerError>;
    /// The hashes of an account's rows after one, in the order of their records.
    fn rows_after(&self, account: AccountId, seq: Seq) -> Result<Vec<[u8; 32]>, LedgerError>;
    /// An account's balance updates from a record on, in the order of booking.
    fn updates_from(&self, account: AccountId, seq: Seq) -> Result<Vec<BookedUpdate>, LedgerError>;
    /// A grant.
    fn grant(&self, grant: GrantId) -> Result<Option<BookedGrant>, LedgerError>;
    /// The hash of the monetization event that a record of this place adds to an earlier call.
    fn revision_row(&self, account: AccountId, seq: Seq) -> Result<Option<[u8; 32]>, LedgerError>;
    /// An adjustment.
    fn adjustment(&self, order: OrderId) -> Result<Option<BookedAdjustment>, LedgerError>;
    /// The place after which everything stands that happened since an instant, of usage events and of updates.
    fn before(&self, since: Timestamp) -> Result<Extent, LedgerError>;
    /// The link of the record in this place of an account.
    fn link_of(&self, account: AccountId, seq: Seq) -> Result<Option<[u8; 32]>, LedgerError>;
    /// The hash of a balance's newest update at or before a place of the account's updates.
    fn hash_of(&self, balance: i64, at_or_before: Option<i64>) -> Result<Option<[u8; 32]>, LedgerError>;
    /// The first rows that name others which are not there, `limit` of each kind at most; those that a pass over the
    /// events meets are looked for only where some were `lost`.
    fn strays(&self, lost: bool, limit: u32) -> Result<Vec<Stray>, LedgerError>;
}
