//! Booking a batch: one transaction, in which each row that changes is written once at the end.

use rusqlite::TransactionBehavior;

use super::cache::{Cache, Owner};
use super::insert::Inserts;
use super::state::States;
use super::writer::Books;
use crate::access::record::{
    AdjustmentRecord, EndRecord, GrantRecord, JobRecord, MadeRecord, Record, Resource,
};
use crate::ledger::LedgerError;
use crate::ledger::booking::{self, Head, Shelf, UpdateRow};
use crate::ledger::chain::rows::{Cell, EVENT, RECORD};
use crate::ledger::posting::{Numbered, Purse};
use crate::ledger::rows::Applied;
use crate::policy::compiled::Name;
use crate::units::{AccountId, Credits, DecisionId};

/// Books all records of a batch, or none.
pub(super) fn apply(books: &mut Books, batch: &[Record]) -> Result<Applied, LedgerError> {
    let applied = attempt(books, batch);
    if applied.is_err() {
        // It may hold what has not been stored.
        books.cache = Cache::default();
    }
    applied
}

fn attempt(books: &mut Books, batch: &[Record]) -> Result<Applied, LedgerError> {
    let transaction = books.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut open = Open {
        inserts: Inserts::prepare(&transaction)?,
        states: States::prepare(&transaction)?,
        cache: &mut books.cache,
        touched: Touched::default(),
    };
    let applied = booking::book(&mut open, batch)?;
    open.states.write(open.cache, &mut open.touched)?;
    drop(open);
    transaction.commit()?;
    books.cache.age();
    Ok(applied)
}

/// What the transaction changes beside the rows that it adds.
#[derive(Default)]
pub(super) struct Touched {
    /// Accounts with a new newest record.
    pub accounts: Vec<AccountId>,
    /// Owners whose counters or balances changed.
    pub owners: Vec<Owner>,
}

/// The file within a transaction.
struct Open<'c, 'b> {
    inserts: Inserts<'c>,
    states: States<'c>,
    cache: &'b mut Cache,
    touched: Touched,
}

impl Shelf for Open<'_, '_> {
    fn head(&mut self, account: AccountId) -> Result<Option<Head>, LedgerError> {
        let is_there = self.states.recall_head(self.cache, account)?;
        Ok(self.cache.heads.young(&account).filter(|_| is_there).copied())
    }

    fn set_head(&mut self, account: AccountId, head: Head) {
        if let Some(kept) = self.cache.heads.young(&account) {
            if !kept.changed {
                self.touched.accounts.push(account);
            }
            *kept = head;
        }
    }

    fn take_purse(&mut self, owner: Owner) -> Result<Purse, LedgerError> {
        self.states.recall_purse(self.cache, owner)?;
        let kept = self.cache.purses.young(&owner);
        let gone = || LedgerError::Corrupt { what: format!("what was just read of {} is gone", owner.0) };
        kept.map(|kept| std::mem::take(&mut kept.purse)).ok_or_else(gone)
    }

    fn return_purse(&mut self, owner: Owner, purse: Purse, changed: bool) {
        if let Some(kept) = self.cache.purses.young(&owner) {
            kept.purse = purse;
            if changed && !std::mem::replace(&mut kept.touched, true) {
                self.touched.owners.push(owner);
            }
        }
    }

    fn booked_digest(&mut self, record: &Numbered<'_>) -> Result<Option<[u8; 16]>, LedgerError> {
        Ok(self.inserts.booked_digest(record)?)
    }

    fn charged(
        &mut self,
        decision: DecisionId,
        revision: u32,
        account: AccountId,
    ) -> Result<Option<(Credits, Credits)>, LedgerError> {
        Ok(self.inserts.charged(decision, revision, account)?)
    }

    fn add_event(
        &mut self,
        row: &[Cell<'_>; EVENT.len()],
        previous: Option<i64>,
        hash: &[u8; 32],
    ) -> Result<Option<i64>, LedgerError> {
        Ok(self.inserts.event(row, previous, hash)?)
    }

    fn add_money(&mut self, row: &[Cell<'_>]) -> Result<bool, LedgerError> {
        Ok(self.inserts.money(row)?)
    }

    fn add_record(&mut self, row: &[Cell<'_>; RECORD.len()], hash: &[u8; 32]) -> Result<(), LedgerError> {
        Ok(self.inserts.record(row, hash)?)
    }

    fn add_grant(&mut self, record: &GrantRecord, balance: i64) -> Result<bool, LedgerError> {
        Ok(self.inserts.grant(record, balance)?)
    }

    fn add_adjustment(&mut self, record: &AdjustmentRecord, balance: i64) -> Result<bool, LedgerError> {
        Ok(self.inserts.adjustment(record, balance)?)
    }

    fn add_balance(&mut self, owner: Owner, name: &Name) -> Result<i64, LedgerError> {
        Ok(self.inserts.balance(owner, name)?)
    }

    fn add_update(&mut self, row: &UpdateRow<'_>) -> Result<i64, LedgerError> {
        Ok(self.inserts.update(row)?)
    }

    fn own(&mut self, resource: &Resource, end: &EndRecord) -> Result<(), LedgerError> {
        Ok(self.inserts.own(resource, end)?)
    }

    fn own_job(&mut self, job: &JobRecord) -> Result<(), LedgerError> {
        Ok(self.inserts.job(job)?)
    }

    fn own_made(&mut self, made: &MadeRecord) -> Result<(), LedgerError> {
        Ok(self.inserts.made(made)?)
    }
}
