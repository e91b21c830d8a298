//! Booking a batch: which records are booked, repeated, left out or wait, and the rows that they add. Every store
//! shares it; what it reads and where its rows go is a [`Shelf`].

use super::LedgerError;
use super::cells::{self, CallTexts, CorrectionTexts};
use super::chain;
use super::chain::rows::{Cell, EVENT, MONEY, RECORD, RowBytes, RowKind};
use super::posting::{self, Contradiction, Numbered, Purse, Purses, Update};
use super::rows::{Applied, Cause};
use crate::access::record::{
    AdjustmentRecord, CorrectionRecord, EndRecord, GrantRecord, JobRecord, MadeRecord, Record, Resource,
    RevisionOrder, RevisionRecord,
};
use crate::policy::compiled::{Name, Scope};
use crate::units::planted::{Bug, planted};
use crate::units::{AccountId, Credits, DecisionId, Seq, UserId};

/// An account, or one of its users.
pub(super) type Owner = (AccountId, Option<UserId>);

/// The newest rows of an account.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    /// Its newest record.
    pub seq: Seq,
    /// The place of its newest usage event.
    pub event: Option<i64>,
    /// The place of its newest balance update.
    pub change: Option<i64>,
    /// The hash of its newest record; none where that was booked before there was a chain.
    pub hash: Option<[u8; 32]>,
    /// Whether it differs from what is stored.
    pub changed: bool,
}

/// A balance update with its place among the others.
pub(super) struct UpdateRow<'a> {
    /// The balance's row.
    pub balance: i64,
    /// The record's place.
    pub seq: Seq,
    /// The place of the account's update before it.
    pub previous: Option<i64>,
    /// What caused it.
    pub cause: Cause,
    /// When.
    pub at: crate::units::Timestamp,
    /// The rest of it.
    pub update: &'a Update,
}

/// What booking reads, and where its rows go. A store writes the heads and purses that have changed at the end of a
/// batch; after an error nothing of it counts.
pub(super) trait Shelf {
    /// The newest of an account; `None` where there is no such account.
    fn head(&mut self, account: AccountId) -> Result<Option<Head>, LedgerError>;
    /// Changes it.
    fn set_head(&mut self, account: AccountId, head: Head);
    /// Takes out what an owner has.
    fn take_purse(&mut self, owner: Owner) -> Result<Purse, LedgerError>;
    /// Puts it back, changed or not.
    fn return_purse(&mut self, owner: Owner, purse: Purse, changed: bool);
    /// The digest of what is booked as this record, if it is.
    fn booked_digest(&mut self, record: &Numbered<'_>) -> Result<Option<[u8; 16]>, LedgerError>;
    /// What a revision of an account's decision has charged, and what operators have given back by then.
    fn charged(
        &mut self,
        decision: DecisionId,
        revision: u32,
        account: AccountId,
    ) -> Result<Option<(Credits, Credits)>, LedgerError>;
    /// Adds a usage event and tells its place; `None` where its decision is booked already.
    fn add_event(
        &mut self,
        row: &[Cell<'_>; EVENT.len()],
        previous: Option<i64>,
        hash: &[u8; 32],
    ) -> Result<Option<i64>, LedgerError>;
    /// Adds a monetization event: its cells in the order of [`MONEY`], of a correction those of
    /// [`ORDER`](super::chain::rows::ORDER) behind them; `false` where its revision or its order is booked already.
    fn add_money(&mut self, row: &[Cell<'_>]) -> Result<bool, LedgerError>;
    /// Adds any other record.
    fn add_record(&mut self, row: &[Cell<'_>; RECORD.len()], hash: &[u8; 32]) -> Result<(), LedgerError>;
    /// Adds a grant of a balance; `false` where it is booked already.
    fn add_grant(&mut self, record: &GrantRecord, balance: i64) -> Result<bool, LedgerError>;
    /// Adds an adjustment of a balance; `false` where it is booked already.
    fn add_adjustment(&mut self, record: &AdjustmentRecord, balance: i64) -> Result<bool, LedgerError>;
    /// Adds a balance at zero and tells its row.
    fn add_balance(&mut self, owner: Owner, name: &Name) -> Result<i64, LedgerError>;
    /// Adds a balance update and tells its place.
    fn add_update(&mut self, row: &UpdateRow<'_>) -> Result<i64, LedgerError>;
    /// Notes whose a response is.
    fn own(&mut self, resource: &Resource, end: &EndRecord) -> Result<(), LedgerError>;
    /// Notes whose a job's resource is, before its end is known. A job whose end is booked says nothing new: what it
    /// made may be deleted by now.
    fn own_job(&mut self, job: &JobRecord) -> Result<(), LedgerError>;
    /// Notes whose a thing made upstream is.
    fn own_made(&mut self, made: &MadeRecord) -> Result<(), LedgerError>;
}

/// Books the records of a batch, one after the other.
pub(super) fn book(shelf: &mut impl Shelf, batch: &[Record]) -> Result<Applied, LedgerError> {
    let mut booking =
        Booking { shelf, scratch: Vec::new(), bytes: RowBytes::default(), applied: Applied::default() };
    for record in batch {
        if let Record::Job(job) = record {
            booking.shelf.own_job(job)?;
        }
        for numbered in posting::numbered(record) {
            booking.take(numbered)?;
        }
        if let Record::Made(made) = record {
            booking.shelf.own_made(made)?;
        }
    }
    Ok(booking.applied)
}

/// A batch under way.
struct Booking<'s, S> {
    shelf: &'s mut S,
    scratch: Vec<u8>,
    bytes: RowBytes,
    applied: Applied,
}

impl<S: Shelf> Booking<'_, S> {
    fn take(&mut self, record: Numbered<'_>) -> Result<(), LedgerError> {
        let (account, seq) = (record.account(), record.seq());
        let Some(head) = self.shelf.head(account)? else {
            self.refuse(record, Contradiction::NoAccount);
            return Ok(());
        };
        if seq <= head.seq {
            let digest = record.digest(&mut self.scratch);
            if self.shelf.booked_digest(&record)? == Some(digest) || planted(Bug::KeyConflictApplied) {
                self.applied.repeated += 1;
            } else {
                self.refuse(record, Contradiction::Other);
            }
        } else if seq != head.seq.next() && !planted(Bug::GapBooked) {
            self.applied.waiting.push((account, seq));
        } else if let Err(contradiction) = self.book(record, head)? {
            self.refuse(record, contradiction);
        } else {
            self.applied.booked += 1;
        }
        Ok(())
    }

    fn book(
        &mut self,
        record: Numbered<'_>,
        mut head: Head,
    ) -> Result<Result<(), Contradiction>, LedgerError> {
        let (account, user) = (record.account(), record.user());
        let mut shared = self.shelf.take_purse((account, None))?;
        let mut own = match user {
            Some(user) => self.shelf.take_purse((account, Some(user)))?,
            None => Purse::default(),
        };
        let mut purses = Purses { shared: &mut shared, own: &mut own };
        let booked = match posting::plan(record, &mut purses) {
            Err(contradiction) => Err(contradiction),
            Ok(_) if !self.add(&record, &mut head, &mut purses)? => Err(Contradiction::Taken),
            Ok(plan) => {
                for update in plan.carry_out(&mut purses) {
                    head.change = Some(self.add_update(&record, &update, head.change, &mut purses)?);
                }
                head.seq = record.seq();
                head.changed = true;
                self.shelf.set_head(account, head);
                Ok(())
            }
        };
        self.shelf.return_purse((account, None), shared, booked.is_ok());
        if user.is_some() {
            self.shelf.return_purse((account, user), own, booked.is_ok());
        }
        Ok(booked)
    }

    /// Adds what a record says beside its balance updates. `false` where its decision or grant is booked already.
    fn add(
        &mut self,
        record: &Numbered<'_>,
        head: &mut Head,
        purses: &mut Purses<'_>,
    ) -> Result<bool, LedgerError> {
        let digest = record.digest(&mut self.scratch);
        let (kind, money) = match record {
            Numbered::End(end) if end.ending.reached_upstream => return self.add_call(end, &digest, head),
            Numbered::Correction(correction) => match self.add_correction(correction, None, &digest)? {
                Some(money) => ("correction", Some(money)),
                None => return Ok(false),
            },
            Numbered::Revision(revision) => {
                match self.add_correction(&revision.correction, Some(revision), &digest)? {
                    Some(money) => ("correction", Some(money)),
                    None => return Ok(false),
                }
            }
            Numbered::Adjustment(adjustment) if self.add_adjustment(adjustment, purses)? => {
                ("adjustment", None)
            }
            Numbered::End(_) => ("void", None),
            Numbered::Grant(grant) if self.add_grant(grant, purses)? => ("grant", None),
            Numbered::Grant(_) | Numbered::Adjustment(_) => return Ok(false),
            Numbered::Expiry(_) => ("expiry", None),
        };
        let account = record.account();
        let row = cells::record(&account, record.seq(), kind, &digest);
        let hash = linked(head, &cells::hash(&mut self.bytes, RowKind::Record, &row, money.as_ref()));
        self.shelf.add_record(&row, &hash)?;
        Ok(true)
    }

    fn add_call(&mut self, end: &EndRecord, digest: &[u8; 16], head: &mut Head) -> Result<bool, LedgerError> {
        let texts = CallTexts::of(end);
        let (event, money) = (cells::event(end, &texts, digest), cells::money(end, &texts));
        let money_hash = cells::hash(&mut self.bytes, RowKind::Money, &money, None);
        let row_hash = cells::hash(&mut self.bytes, RowKind::Event, &event, Some(&money_hash));
        let mut linked_head = *head;
        let hash = linked(&mut linked_head, &row_hash);
        let Some(place) = self.shelf.add_event(&event, head.event, &hash)? else { return Ok(false) };
        *head = Head { event: Some(place), ..linked_head };
        self.shelf.add_money(&money)?;
        if let Some(resource) = &end.ending.resource {
            self.shelf.own(resource, end)?;
        }
        Ok(true)
    }

    /// Adds the next revision and tells its hash. `None` where the one before it is not there, or says something else
    /// was charged or given back.
    fn add_correction(
        &mut self,
        record: &CorrectionRecord,
        ordered: Option<&RevisionRecord>,
        digest: &[u8; 16],
    ) -> Result<Option<[u8; 32]>, LedgerError> {
        let before = record.revision.saturating_sub(1);
        let fits = |(charged, refunded): (Credits, Credits)| {
            charged == record.charged_before && is_given_back(refunded, record, ordered)
        };
        if !self.shelf.charged(record.decision, before, record.account)?.is_some_and(fits) {
            return Ok(None);
        }
        let texts = CorrectionTexts::of(record);
        let row = cells::correction(record, ordered, &texts, digest);
        let (kind, hashed) = match ordered {
            Some(_) => (RowKind::Ordered, &row[..]),
            None => (RowKind::Money, &row[..MONEY.len()]),
        };
        let hash = cells::hash(&mut self.bytes, kind, hashed, None);
        Ok(self.shelf.add_money(&row)?.then_some(hash))
    }

    fn add_grant(&mut self, record: &GrantRecord, purses: &mut Purses<'_>) -> Result<bool, LedgerError> {
        match self.row_of(purses, (record.account, record.user), &record.balance)? {
            Some(row) => self.shelf.add_grant(record, row),
            None => Ok(false),
        }
    }

    fn add_adjustment(
        &mut self,
        record: &AdjustmentRecord,
        purses: &mut Purses<'_>,
    ) -> Result<bool, LedgerError> {
        match self.row_of(purses, (record.account, record.user), &record.balance)? {
            Some(row) => self.shelf.add_adjustment(record, row),
            None => Ok(false),
        }
    }

    /// The row of an owner's balance; `None` where it has no such balance.
    fn row_of(
        &mut self,
        purses: &mut Purses<'_>,
        owner: Owner,
        name: &Name,
    ) -> Result<Option<i64>, LedgerError> {
        let purse = purses.of(if owner.1.is_some() { Scope::User } else { Scope::Account });
        let Some(place) = purse.balances.iter().position(|balance| balance.name == *name) else {
            return Ok(None);
        };
        self.balance_row(purse, place, owner).map(Some)
    }

    fn add_update(
        &mut self,
        record: &Numbered<'_>,
        update: &Update,
        previous: Option<i64>,
        purses: &mut Purses<'_>,
    ) -> Result<i64, LedgerError> {
        let user = record.user().filter(|_| update.scope == Scope::User);
        let balance = self.balance_row(purses.of(update.scope), update.balance, (record.account(), user))?;
        let cause = record.cause(update);
        let (seq, at) = (record.seq(), record.at());
        self.shelf.add_update(&UpdateRow { balance, seq, previous, cause, at, update })
    }

    /// The row of a balance; a new one is added at zero, and gets its state at the end of the batch.
    fn balance_row(&mut self, purse: &mut Purse, place: usize, owner: Owner) -> Result<i64, LedgerError> {
        let balance = &mut purse.balances[place];
        if let Some(row) = balance.row {
            return Ok(row);
        }
        let row = self.shelf.add_balance(owner, &balance.name)?;
        balance.row = Some(row);
        Ok(row)
    }

    fn refuse(&mut self, record: Numbered<'_>, why: Contradiction) {
        let (account, seq) = (record.account(), record.seq());
        tracing::error!(account.id = %account, record.seq = seq.0, reason = %why, "a record contradicts the books");
        self.applied.conflicts.push((account, seq));
    }
}

/// Puts a row behind the account's newest record. A chain that had not begun begins here.
fn linked(head: &mut Head, row: &[u8; 32]) -> [u8; 32] {
    let hash = chain::rows::link(&head.hash.unwrap_or(chain::START), row);
    head.hash = Some(hash);
    hash
}

/// Whether what a revision says is given back follows from what was before.
fn is_given_back(before: Credits, record: &CorrectionRecord, ordered: Option<&RevisionRecord>) -> bool {
    let Some(RevisionRecord { refunded, order, .. }) = ordered else { return before.is_zero() };
    match order {
        RevisionOrder::Refund { .. } => {
            let back = record.charged_before.checked_sub(record.charge.charged);
            back.and_then(|back| before.checked_add(back)) == Some(*refunded)
        }
        RevisionOrder::Rerate { .. } => *refunded <= before,
    }
}
