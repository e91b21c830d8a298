//! Booking a batch: one transaction, in which each row that changes is written once at the end.

use rusqlite::TransactionBehavior;

use super::cache::{Cache, Owner};
use super::insert::Inserts;
use super::state::States;
use super::writer::Books;
use crate::access::record::Record;
use crate::ledger::LedgerError;
use crate::ledger::posting::{self, Contradiction, Numbered, Purse};
use crate::ledger::rows::Applied;
use crate::units::AccountId;
use crate::units::planted::{Bug, planted};

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
    let mut booking = Booking {
        inserts: Inserts::prepare(&transaction)?,
        states: States::prepare(&transaction)?,
        cache: &mut books.cache,
        touched: Touched::default(),
        scratch: Vec::new(),
        applied: Applied::default(),
    };
    for record in batch {
        if let Record::Job(job) = record {
            booking.inserts.job(job)?;
        }
        for numbered in posting::numbered(record) {
            booking.take(numbered)?;
        }
        if let Record::Made(made) = record {
            booking.inserts.made(made)?;
        }
    }
    let applied = booking.finish()?;
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

/// A batch under way.
struct Booking<'c, 'b> {
    inserts: Inserts<'c>,
    states: States<'c>,
    cache: &'b mut Cache,
    touched: Touched,
    scratch: Vec<u8>,
    applied: Applied,
}

impl Booking<'_, '_> {
    fn take(&mut self, record: Numbered<'_>) -> Result<(), LedgerError> {
        let (account, seq) = (record.account(), record.seq());
        if !self.states.recall_head(self.cache, account)? {
            self.refuse(record, Contradiction::NoAccount);
            return Ok(());
        }
        let newest = self.cache.heads.young(&account).map(|head| head.seq).unwrap_or_default();
        if seq <= newest {
            let digest = record.digest(&mut self.scratch);
            if self.inserts.booked_digest(&record)? == Some(digest) || planted(Bug::KeyConflictApplied) {
                self.applied.repeated += 1;
            } else {
                self.refuse(record, Contradiction::Other);
            }
        } else if seq != newest.next() && !planted(Bug::GapBooked) {
            self.applied.waiting.push((account, seq));
        } else if let Err(contradiction) = self.book(record)? {
            self.refuse(record, contradiction);
        } else {
            self.applied.booked += 1;
        }
        Ok(())
    }

    fn book(&mut self, record: Numbered<'_>) -> Result<Result<(), Contradiction>, LedgerError> {
        let (account, user) = (record.account(), record.user());
        self.states.recall_purse(self.cache, (account, None))?;
        if user.is_some() {
            self.states.recall_purse(self.cache, (account, user))?;
        }
        let mut nobody = Purse::default();
        let purses = self.cache.purses.pair(account, user, &mut nobody);
        let (Some(mut purses), Some(head)) = (purses, self.cache.heads.young(&account)) else {
            return Err(LedgerError::Corrupt { what: format!("what was just read of {account} is gone") });
        };
        let plan = match posting::plan(record, &mut purses) {
            Ok(plan) => plan,
            Err(contradiction) => return Ok(Err(contradiction)),
        };
        let digest = record.digest(&mut self.scratch);
        if !self.inserts.record(&record, &digest, head, &mut purses)? {
            return Ok(Err(Contradiction::Taken));
        }
        for update in plan.carry_out(&mut purses) {
            head.change = Some(self.inserts.update(&record, &update, head.change, &mut purses)?);
        }
        head.seq = record.seq();
        if !std::mem::replace(&mut head.changed, true) {
            self.touched.accounts.push(account);
        }
        for owner in [Some((account, None)), user.map(|user| (account, Some(user)))].into_iter().flatten() {
            if let Some(kept) = self.cache.purses.young(&owner)
                && !std::mem::replace(&mut kept.touched, true)
            {
                self.touched.owners.push(owner);
            }
        }
        Ok(Ok(()))
    }

    fn refuse(&mut self, record: Numbered<'_>, why: Contradiction) {
        let (account, seq) = (record.account(), record.seq());
        tracing::error!(account.id = %account, record.seq = seq.0, reason = %why, "a record contradicts the books");
        self.applied.conflicts.push((account, seq));
    }

    /// Writes what was touched.
    fn finish(mut self) -> Result<Applied, LedgerError> {
        self.states.write(self.cache, &mut self.touched)?;
        Ok(self.applied)
    }
}
