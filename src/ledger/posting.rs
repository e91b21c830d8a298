//! Posting: what a record changes in the books, computed from what its owners have there. Pure; every store shares it.
//!
//! A record that adds up is booked even where it takes more than was there: what was decided has happened, and the
//! audit tells. One that does not add up, or that names what is not there, is a [`Contradiction`] and changes nothing.
//!
//! # Order within a record
//!
//! Draws, then what expired, then repayments: first into the debt, then out of the grant. So no balance passes below
//! its bound between two updates of one record, which would look like a broken I5.

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::chain::{self, Link};
use super::rows::{Cause, UpdateKind};
use crate::access::record::{
    AdjustmentRecord, Charge, CorrectionRecord, EndRecord, ExpiryRecord, GrantEntry, GrantRecord,
    OriginEntry, Record, RevisionRecord,
};
use crate::policy::compiled::Scope;
use crate::units::planted::{Bug, planted};
use crate::units::{AccountId, Credits, GrantId, Seq, SignedCredits, Timestamp, UserId};

mod purse;

pub use purse::{BookedBalance, Purse, Purses, Remainder};

/// A record with a place in its account's sequence. A hold has none; what it issues has.
#[derive(Clone, Copy, Debug)]
pub enum Numbered<'a> {
    /// The end of a hold.
    End(&'a EndRecord),
    /// Credits for a balance.
    Grant(&'a GrantRecord),
    /// Grants that came to their end.
    Expiry(&'a ExpiryRecord),
    /// The truth about a call that had ended without it.
    Correction(&'a CorrectionRecord),
    /// The next revision of a call's money, ordered by an operator.
    Revision(&'a RevisionRecord),
    /// A balance adjusted by an operator.
    Adjustment(&'a AdjustmentRecord),
}

/// Why a record cannot be booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// `gross = covered + forgiven + charged`, or the draws from balances and `charged`, do not agree.
    #[error("its money does not add up")]
    Sum,
    /// It takes from a grant that has nothing left or never was.
    #[error("it takes from {0}, of which nothing is left")]
    NoGrant(GrantId),
    /// A balance would leave the range of amounts.
    #[error("a balance would be larger than any amount")]
    Overflow,
    /// What it books is booked under another place.
    #[error("it is booked under another place")]
    Taken,
    /// Its place is taken by other content.
    #[error("other content is booked in its place")]
    Other,
    /// It belongs to an account that does not exist.
    #[error("its account does not exist")]
    NoAccount,
}

/// One balance update, computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// Whose balance.
    pub scope: Scope,
    /// Its place in [`Purse::balances`].
    pub balance: usize,
    /// Why.
    pub kind: UpdateKind,
    /// The grant it touches; none where it touches the debt.
    pub grant: Option<GrantId>,
    /// How much.
    pub amount: SignedCredits,
    /// What the balance stood at before it.
    pub before: SignedCredits,
    /// What it stood at after it.
    pub after: SignedCredits,
    /// Its hash.
    pub hash: [u8; 32],
}

/// The balance updates of one record, in their order.
pub type Updates = SmallVec<[Update; 4]>;

/// A change of a balance before it is put behind the others.
struct Line {
    scope: Scope,
    balance: usize,
    kind: UpdateKind,
    grant: Option<GrantId>,
    amount: SignedCredits,
}

type Lines = SmallVec<[Line; 4]>;

/// What a record changes, found to add up, not yet changed.
pub struct Plan<'a> {
    record: Numbered<'a>,
    lines: Lines,
}

/// The numbered records in a record, in the order of their places.
pub fn numbered(record: &Record) -> impl Iterator<Item = Numbered<'_>> {
    let (issued, other) = match record {
        Record::Hold(hold) => (hold.issued.as_slice(), None),
        Record::End(end) => (&[][..], Some(Numbered::End(end))),
        Record::Grant(grant) => (&[][..], Some(Numbered::Grant(grant))),
        Record::Expiry(expiry) => (&[][..], Some(Numbered::Expiry(expiry))),
        Record::Job(_) | Record::Made(_) => (&[][..], None),
        Record::Correction(correction) => (&[][..], Some(Numbered::Correction(correction))),
        Record::Revision(revision) => (&[][..], Some(Numbered::Revision(revision))),
        Record::Adjustment(adjustment) => (&[][..], Some(Numbered::Adjustment(adjustment))),
    };
    issued.iter().map(Numbered::Grant).chain(other)
}

impl Numbered<'_> {
    /// The account it belongs to.
    pub const fn account(&self) -> AccountId {
        match self {
            Self::End(end) => end.account,
            Self::Grant(grant) => grant.account,
            Self::Expiry(expiry) => expiry.account,
            Self::Correction(correction) => correction.account,
            Self::Revision(revision) => revision.correction.account,
            Self::Adjustment(adjustment) => adjustment.account,
        }
    }

    /// The user whose purse it touches beside the account's own.
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::End(end) => Some(end.user),
            Self::Grant(grant) => grant.user,
            Self::Expiry(expiry) => expiry.user,
            Self::Correction(correction) => Some(correction.user),
            Self::Revision(revision) => Some(revision.correction.user),
            Self::Adjustment(adjustment) => adjustment.user,
        }
    }

    /// Its place.
    pub const fn seq(&self) -> Seq {
        match self {
            Self::End(end) => end.seq,
            Self::Grant(grant) => grant.seq,
            Self::Expiry(expiry) => expiry.seq,
            Self::Correction(correction) => correction.seq,
            Self::Revision(revision) => revision.correction.seq,
            Self::Adjustment(adjustment) => adjustment.seq,
        }
    }

    /// When what it tells happened.
    pub const fn at(&self) -> Timestamp {
        match self {
            Self::End(end) => end.ended_at,
            Self::Grant(grant) => grant.granted_at,
            Self::Expiry(expiry) => expiry.expired_at,
            Self::Correction(correction) => correction.corrected_at,
            Self::Revision(revision) => revision.correction.corrected_at,
            Self::Adjustment(adjustment) => adjustment.adjusted_at,
        }
    }

    /// What caused an update of it. What a sweep expires is caused by the grant's own end.
    pub fn cause(&self, update: &Update) -> Cause {
        match self {
            Self::End(end) => Cause::Decision(end.decision),
            Self::Correction(correction) => Cause::Decision(correction.decision),
            Self::Revision(revision) => Cause::Decision(revision.correction.decision),
            Self::Adjustment(adjustment) => Cause::Adjustment(adjustment.id),
            Self::Grant(grant) => Cause::Grant(grant.grant),
            Self::Expiry(_) => Cause::Grant(update.grant.unwrap_or(GrantId::MIN)),
        }
    }

    /// The beginning of the SHA-256 of all it says: what tells a repetition from a conflict. `scratch` is overwritten.
    pub fn digest(&self, scratch: &mut Vec<u8>) -> [u8; 16] {
        scratch.clear();
        let room = std::mem::take(scratch);
        let written = match self {
            Self::End(end) => postcard::to_extend(end, room),
            Self::Grant(grant) => postcard::to_extend(grant, room),
            Self::Expiry(expiry) => postcard::to_extend(expiry, room),
            Self::Correction(correction) => postcard::to_extend(correction, room),
            Self::Revision(revision) => postcard::to_extend(revision, room),
            Self::Adjustment(adjustment) => postcard::to_extend(adjustment, room),
        };
        // Writing into memory has no way to fail; were it to, an empty text would only match itself.
        *scratch = written.unwrap_or_default();
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(&*scratch)[..16]);
        digest
    }
}

/// Computes what a record changes. Nothing is changed yet.
pub fn plan<'a>(record: Numbered<'a>, purses: &mut Purses<'_>) -> Result<Plan<'a>, Contradiction> {
    let lines = match record {
        Numbered::End(end) => end_lines(end, purses)?,
        Numbered::Grant(grant) => grant_lines(grant, purses)?,
        Numbered::Expiry(expiry) => {
            let expired = expiry.grants.iter().map(|entry| expiry_line(entry, purses));
            expired.collect::<Result<_, _>>()?
        }
        Numbered::Correction(correction) => correction_lines(correction, purses)?,
        Numbered::Revision(revision) => {
            let charge = &revision.correction.charge;
            let within = revision.refunded.checked_add(charge.excess);
            if within.is_none_or(|within| within > charge.forgiven) {
                return Err(Contradiction::Sum);
            }
            correction_lines(&revision.correction, purses)?
        }
        Numbered::Adjustment(adjustment) => adjustment_lines(adjustment, purses)?,
    };
    check_range(&lines, purses)?;
    Ok(Plan { record, lines })
}

impl Plan<'_> {
    /// Changes it, in the purses that it was made from.
    pub fn carry_out(self, purses: &mut Purses<'_>) -> Updates {
        let updates = self.lines.iter().map(|line| carry_out(line, &self.record, purses)).collect();
        let counters = match self.record {
            Numbered::End(end) => &end.counters[..],
            Numbered::Correction(correction) => &correction.counters,
            Numbered::Revision(revision) => &revision.correction.counters,
            Numbered::Grant(_) | Numbered::Expiry(_) | Numbered::Adjustment(_) => &[],
        };
        for entry in counters {
            purses.of(entry.scope).set(entry);
        }
        updates
    }
}

fn end_lines(end: &EndRecord, purses: &mut Purses<'_>) -> Result<Lines, Contradiction> {
    let charge = &end.charge;
    check_sum(charge)?;
    let mut drawn = Credits::ZERO;
    let mut lines = Lines::new();
    for draw in &end.draws {
        let (balance, grant) = match &draw.origin {
            OriginEntry::Windows(_) => continue,
            OriginEntry::Grant { balance, grant } => (balance, Some(*grant)),
            OriginEntry::Debt { balance } => (balance, None),
        };
        let amount = Credits::from_micros(draw.amount.get()).ok_or(Contradiction::Overflow)?;
        drawn = drawn.checked_add(amount).ok_or(Contradiction::Overflow)?;
        let line = Line {
            scope: draw.scope,
            balance: purses.of(draw.scope).place_of(balance),
            kind: UpdateKind::Debit,
            grant,
            amount: minus(amount),
        };
        join(&mut lines, line)?;
    }
    if drawn != charge.charged || !(end.ending.reached_upstream || lines.is_empty()) {
        return Err(Contradiction::Sum);
    }
    for entry in &end.expired {
        join(&mut lines, expiry_line(entry, purses)?)?;
    }
    for entry in &end.repaid {
        let balance = purses.of(entry.scope).holder_of(entry.grant)?;
        repay(&mut lines, entry, balance)?;
    }
    Ok(lines)
}

/// What a correction moves: back as refunds, beyond as debits; then what that expired and repaid.
fn correction_lines(correction: &CorrectionRecord, purses: &mut Purses<'_>) -> Result<Lines, Contradiction> {
    let charge = &correction.charge;
    check_sum(charge)?;
    let mut moved = SignedCredits::ZERO;
    let mut lines = Lines::new();
    for entry in &correction.moves {
        moved = moved.checked_add(entry.amount).ok_or(Contradiction::Overflow)?;
        let back = entry.amount > SignedCredits::ZERO;
        let line = Line {
            scope: entry.scope,
            balance: purses.of(entry.scope).place_of(&entry.balance),
            kind: if back { UpdateKind::Refund } else { UpdateKind::Debit },
            grant: entry.grant,
            amount: entry.amount,
        };
        join(&mut lines, line)?;
    }
    let expected = correction.charged_before.signed().checked_sub(charge.charged.signed());
    if expected != Some(moved) || !correction.ending.reached_upstream {
        return Err(Contradiction::Sum);
    }
    // A grant that was spent has no remainder until what comes back is booked.
    let mut place = |entry: &GrantEntry| match correction.balance_of(entry) {
        Some(balance) => Ok(purses.of(entry.scope).place_of(balance)),
        None => purses.of(entry.scope).holder_of(entry.grant),
    };
    for entry in &correction.expired {
        let (balance, kind) = (place(entry)?, UpdateKind::Expiry);
        let (scope, grant) = (entry.scope, Some(entry.grant));
        join(&mut lines, Line { scope, balance, kind, grant, amount: minus(entry.amount) })?;
    }
    for entry in &correction.repaid {
        let balance = place(entry)?;
        repay(&mut lines, entry, balance)?;
    }
    Ok(lines)
}

fn check_sum(charge: &Charge) -> Result<(), Contradiction> {
    let parts = charge.covered.checked_add(charge.forgiven).and_then(|sum| sum.checked_add(charge.charged));
    let adds_up = parts == Some(charge.gross) && charge.excess <= charge.forgiven;
    if adds_up { Ok(()) } else { Err(Contradiction::Sum) }
}

/// First into the debt, then out of the grant.
fn repay(lines: &mut Lines, entry: &GrantEntry, balance: usize) -> Result<(), Contradiction> {
    let (scope, kind) = (entry.scope, UpdateKind::Adjustment);
    join(lines, Line { scope, balance, kind, grant: None, amount: entry.amount.signed() })?;
    join(lines, Line { scope, balance, kind, grant: Some(entry.grant), amount: minus(entry.amount) })
}

fn expiry_line(entry: &GrantEntry, purses: &mut Purses<'_>) -> Result<Line, Contradiction> {
    Ok(Line {
        scope: entry.scope,
        balance: purses.of(entry.scope).holder_of(entry.grant)?,
        kind: UpdateKind::Expiry,
        grant: Some(entry.grant),
        amount: minus(entry.amount),
    })
}

fn grant_lines(record: &GrantRecord, purses: &mut Purses<'_>) -> Result<Lines, Contradiction> {
    if record.repaid > record.amount {
        return Err(Contradiction::Sum);
    }
    let scope = if record.user.is_some() { Scope::User } else { Scope::Account };
    let balance = purses.of(scope).place_of(&record.balance);
    let line = |kind, grant, amount| Line { scope, balance, kind, grant, amount };
    let mut lines = Lines::new();
    lines.push(line(UpdateKind::Grant, Some(record.grant), record.amount.signed()));
    if !record.repaid.is_zero() {
        lines.push(line(UpdateKind::Adjustment, None, record.repaid.signed()));
        lines.push(line(UpdateKind::Adjustment, Some(record.grant), minus(record.repaid)));
    }
    Ok(lines)
}

/// What is added to a grant less what pays a debt, then the debt; or the debt alone.
fn adjustment_lines(record: &AdjustmentRecord, purses: &mut Purses<'_>) -> Result<Lines, Contradiction> {
    let of_grant = record.grant.is_some();
    if record.amount == SignedCredits::ZERO
        || record.repaid > record.amount.available()
        || !(of_grant || record.repaid.is_zero())
    {
        return Err(Contradiction::Sum);
    }
    let scope = if record.user.is_some() { Scope::User } else { Scope::Account };
    let balance = purses.of(scope).place_of(&record.balance);
    let kind = UpdateKind::Adjustment;
    let repaid = record.repaid.signed();
    let rest = record.amount.checked_sub(repaid).ok_or(Contradiction::Overflow)?;
    let mut lines = Lines::new();
    for (grant, amount) in [(record.grant, rest), (None, repaid)] {
        if amount != SignedCredits::ZERO {
            join(&mut lines, Line { scope, balance, kind, grant, amount })?;
        }
    }
    Ok(lines)
}

/// Adds a line, or adds it to one of the same key: an update's key is its cause, kind, balance and grant.
fn join(lines: &mut Lines, line: Line) -> Result<(), Contradiction> {
    let key = |line: &Line| (line.scope, line.balance, line.kind, line.grant);
    match lines.iter_mut().find(|other| key(other) == key(&line)) {
        Some(other) => {
            other.amount = other.amount.checked_add(line.amount).ok_or(Contradiction::Overflow)?;
        }
        None => lines.push(line),
    }
    Ok(())
}

/// Whether all balances stay amounts, whatever the order of the lines.
fn check_range(lines: &Lines, purses: &mut Purses<'_>) -> Result<(), Contradiction> {
    for line in lines {
        let of_balance =
            lines.iter().filter(|other| (other.scope, other.balance) == (line.scope, line.balance));
        let sums = of_balance.fold((0i64, 0i64), |(up, down), other| {
            let micros = other.amount.micros();
            (up.saturating_add(micros.max(0)), down.saturating_add(micros.min(0)))
        });
        let balance = &purses.of(line.scope).balances[line.balance];
        let stays = |from: SignedCredits| {
            [sums.0, sums.1]
                .iter()
                .all(|by| SignedCredits::from_micros(from.micros().saturating_add(*by)).is_some())
        };
        let remainders = balance.remainders.iter().map(|remainder| remainder.remaining);
        let in_range = [balance.standing, balance.debt].into_iter().chain(remainders).all(stays);
        if !in_range {
            return Err(Contradiction::Overflow);
        }
    }
    Ok(())
}

/// Puts a line behind the newest update of its balance. No sum leaves its range: that has been checked.
fn carry_out(line: &Line, record: &Numbered<'_>, purses: &mut Purses<'_>) -> Update {
    let balance = &mut purses.of(line.scope).balances[line.balance];
    let before = balance.standing;
    let after = before.checked_add(line.amount).unwrap_or_default();
    let mut update = Update {
        scope: line.scope,
        balance: line.balance,
        kind: line.kind,
        grant: line.grant,
        amount: line.amount,
        before,
        after,
        hash: chain::START,
    };
    let link = Link {
        account: record.account(),
        user: record.user().filter(|_| line.scope == Scope::User),
        balance: &balance.name,
        seq: record.seq(),
        kind: line.kind,
        cause: record.cause(&update),
        grant: line.grant,
        amount: line.amount,
        before,
        after,
        at: record.at(),
    };
    let skips = line.kind == UpdateKind::Expiry && planted(Bug::ChainSkipped);
    update.hash = link.hash(if skips { &chain::START } else { &balance.hash });
    balance.hash = update.hash;
    balance.standing = after;
    match line.grant {
        Some(grant) => {
            balance.change(grant, line.amount);
            if line.kind == UpdateKind::Debit && planted(Bug::DoubleApply) {
                balance.change(grant, line.amount);
            }
        }
        None => balance.debt = balance.debt.checked_sub(line.amount).unwrap_or_default(),
    }
    balance.changed = true;
    update
}

fn minus(amount: Credits) -> SignedCredits {
    SignedCredits::ZERO.checked_sub(amount.signed()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
