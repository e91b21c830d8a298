//! The books as the audit reads them: whole, raw, as of one instant, and never by way of what it is to prove.
//!
//! Rows come in an order that lets the reader keep little: events, money and updates of one decision together, an
//! account's records in the order of their places, updates in the order in which they were booked. Amounts are bare
//! integers, since a broken book may hold what is no amount. A store implements it on a connection of its own, so that
//! a gateway goes on writing meanwhile.

use super::LedgerError;
use super::rows::{Cause, UpdateKind};
use crate::access::record::{DrawEntry, GrantRecord};
use crate::policy::compiled::Name;
use crate::units::{AccountId, DecisionId, GrantId, PolicyVersion, Price, Seq, Timestamp, UserId};

/// One decision in the three datasets.
#[derive(Debug)]
pub struct BookedCall {
    /// The decision.
    pub decision: DecisionId,
    /// Its usage event.
    pub event: Option<BookedEvent>,
    /// Its monetization events, by revision.
    pub money: Vec<BookedMoney>,
    /// Its debits and refunds.
    pub moved: Option<BookedMoves>,
}

/// A usage event, as far as sums depend on it.
#[derive(Debug)]
pub struct BookedEvent {
    /// Who pays.
    pub account: AccountId,
    /// The policy that decided.
    pub policy: PolicyVersion,
    /// The final draws; `None` where they cannot be read.
    pub draws: Option<Vec<DrawEntry>>,
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
}

/// The debits and refunds of one decision together.
#[derive(Clone, Copy, Debug)]
pub struct BookedMoves {
    /// Their sum, in micro-credits.
    pub amount: i64,
    /// The smallest and the largest account among their balances; `None` where a balance does not exist.
    pub accounts: Option<(AccountId, AccountId)>,
}

/// An account's sequence, told as its head and then its records in their order.
#[derive(Debug)]
pub enum SequenceRow {
    /// An account begins.
    Account {
        /// Which.
        account: AccountId,
        /// Its head, if it has one.
        head: Option<BookedHead>,
    },
    /// A record of the account that began last.
    Record {
        /// Its place.
        seq: Seq,
        /// Of a usage event: its place in the books, and the one it names as the account's event before it.
        event: Option<(i64, Option<i64>)>,
    },
}

/// The newest of an account.
#[derive(Clone, Copy, Debug)]
pub struct BookedHead {
    /// Its newest record.
    pub seq: Seq,
    /// The place of its newest usage event.
    pub event: Option<i64>,
    /// The place of its newest balance update.
    pub change: Option<i64>,
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

/// A grant, what was booked on it, and what is said to be left of it.
#[derive(Debug)]
pub struct BookedGrantSums {
    /// Which.
    pub grant: GrantId,
    /// As it was granted, with the digest that its record was booked with; `None` where updates name a grant that is
    /// not there.
    pub record: Option<(GrantRecord, i64, Option<[u8; 16]>)>,
    /// The sums of its updates, in micro-credits.
    pub sums: GrantSums,
    /// What is said to be left of it, in micro-credits.
    pub remaining: i64,
}

/// The sums of a grant's updates, in micro-credits.
#[derive(Clone, Copy, Debug, Default)]
pub struct GrantSums {
    /// How many updates granted it.
    pub grants: i64,
    /// What they granted.
    pub granted: i64,
    /// What of it paid a debt at once.
    pub repaid: i64,
    /// All of its updates.
    pub total: i64,
    /// The smallest and the largest balance among them.
    pub balances: Option<(i64, i64)>,
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
    /// Policy snapshots.
    pub policies: u64,
}

/// The books as of one instant.
pub trait Books {
    /// How many rows there are.
    fn sizes(&self) -> Result<Sizes, LedgerError>;
    /// Policy snapshots.
    fn policies(&self, visit: &mut dyn FnMut(PolicyVersion, &str)) -> Result<(), LedgerError>;
    /// Every decision that is in one of the three datasets, in the order of their ids.
    fn calls(&self, visit: &mut dyn FnMut(BookedCall)) -> Result<(), LedgerError>;
    /// Every account that has a head or a record, in the order of their ids, each with its records.
    fn sequences(&self, visit: &mut dyn FnMut(SequenceRow)) -> Result<(), LedgerError>;
    /// The balances of the next accounts after one, about as many as asked for, and no account in part.
    fn standings(&self, after: Option<AccountId>, about: u32) -> Result<Vec<BookedStanding>, LedgerError>;
    /// All balance updates in the order in which they were booked.
    fn updates(&self, visit: &mut dyn FnMut(BookedUpdate)) -> Result<(), LedgerError>;
    /// Every grant that exists or that updates name, in the order of their ids.
    fn grants(&self, visit: &mut dyn FnMut(BookedGrantSums)) -> Result<(), LedgerError>;
    /// The first rows that name others which are not there, `limit` of each kind at most.
    fn strays(&self, limit: u32) -> Result<Vec<Stray>, LedgerError>;
}
