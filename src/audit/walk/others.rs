//! The numbered records that are no usage event, in the order of booking.
//!
//! One is gone through as soon as its account has come to the one before it. In books that hold that is so for each in
//! turn: when one is wanted, all that was booked before it has been gone through. Where it is not, records are looked
//! up by their account instead.

use std::collections::VecDeque;

use super::Walk;
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedRecord, Books};
use crate::units::{AccountId, Seq};

/// Records that are read together.
const PAGE: u32 = 512;

/// The records that are still to come.
pub(super) struct Others<'a> {
    books: &'a dyn Books,
    page: VecDeque<BookedRecord>,
    after: i64,
    ended: bool,
}

impl<'a> Others<'a> {
    /// All records; none where they are not `wanted` in order.
    pub(super) const fn new(books: &'a dyn Books, wanted: bool) -> Self {
        Self { books, page: VecDeque::new(), after: 0, ended: !wanted }
    }

    /// The next one.
    fn peek(&mut self) -> Result<Option<&BookedRecord>, LedgerError> {
        if self.page.is_empty() && !self.ended {
            self.page = self.books.records(self.after, PAGE)?.into();
            match self.page.back() {
                Some(last) => self.after = last.place,
                None => self.ended = true,
            }
        }
        Ok(self.page.front())
    }

    /// Whether this one is among the next.
    fn is_near(&mut self, account: AccountId, seq: Seq) -> Result<bool, LedgerError> {
        self.peek()?;
        Ok(self.page.iter().any(|record| (record.account, record.seq) == (account, seq)))
    }
}

impl Walk<'_> {
    /// Goes through the next record, if its account has come to it.
    pub(super) fn next_record(&mut self) -> Result<bool, LedgerError> {
        loop {
            let Some(next) = self.others.peek()? else { return Ok(false) };
            let newest = self.accounts.get(&next.account).and_then(|account| account.seq);
            // Of no account of this portion, or looked up before.
            if newest.is_none_or(|newest| next.seq <= newest) {
                self.others.page.pop_front();
                continue;
            }
            let (id, seq) = (next.account, next.seq);
            if self.waits(id, seq) || newest.unwrap_or_default().next() != seq {
                return Ok(false);
            }
            let Some(record) = self.others.page.pop_front() else { return Ok(false) };
            self.record(&record)?;
            return Ok(true);
        }
    }

    /// Whether a record stands behind one of its account that is looked at now: what that one says is not all known yet.
    fn waits(&self, id: AccountId, seq: Seq) -> bool {
        self.present.iter().any(|(account, present)| *account == id && *present < seq)
    }

    /// Goes through an account's records up to this one, if it is a record and nothing is missing before it.
    pub(super) fn reach(&mut self, id: AccountId, seq: Seq) -> Result<(), LedgerError> {
        let before = Seq(seq.0.saturating_sub(1));
        if !self.others.is_near(id, seq)? && self.books.records_of(id, before, seq.next())?.is_empty() {
            return Ok(());
        }
        while self.newest(id).unwrap_or_default() < seq && self.next_record()? {}
        let newest = self.newest(id).unwrap_or_default();
        if newest >= seq || self.waits(id, seq) {
            return Ok(());
        }
        let records = self.books.records_of(id, newest, seq.next())?;
        let reaches = records.iter().zip(newest.0 + 1..).all(|(record, next)| record.seq.0 == next)
            && records.last().is_some_and(|last| last.seq == seq);
        if reaches {
            for record in records {
                self.record(&record)?;
            }
        }
        Ok(())
    }
}
