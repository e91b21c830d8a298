//! I5, I8 and I12 of balances: every update follows from the one before it, none goes below the floor, and what a
//! balance is said to stand at is what its updates come to.

use std::collections::HashMap;

use super::invariant::Invariant;
use super::report::AuditReport;
use super::{PORTION, Snapshots, Steps};
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedStanding, BookedUpdate, Books, SequenceRow};
use crate::ledger::chain::{self, Link};
use crate::ledger::rows::UpdateKind;
use crate::units::{AccountId, SignedCredits};

/// One balance as its updates pass.
struct Followed {
    booked: BookedStanding,
    floor: i64,
    standing: i64,
    hash: [u8; 32],
    debt: i64,
    in_total: i128,
    out_total: i128,
}

/// What is followed at the same time.
#[derive(Default)]
struct Portion {
    balances: HashMap<i64, Followed>,
    /// The newest update of each account.
    newest: HashMap<AccountId, Option<i64>>,
}

pub(super) fn check(
    books: &dyn Books,
    snapshots: &Snapshots,
    report: &mut AuditReport,
    steps: &mut Steps<'_>,
) -> Result<(), LedgerError> {
    let mut after = None;
    loop {
        let standings = books.standings(after, PORTION)?;
        let Some(last) = standings.last() else { return Ok(()) };
        after = Some(last.account);
        let mut portion = Portion::default();
        for booked in standings {
            portion.newest.insert(booked.account, None);
            portion.balances.insert(booked.balance, Followed::new(booked, snapshots));
        }
        books.updates(&mut |update| {
            steps.one();
            portion.follow(&update, report);
        })?;
        check_heads(books, &portion, report)?;
        let mut balances: Vec<_> = portion.balances.into_values().collect();
        balances.sort_unstable_by_key(|followed| followed.booked.balance);
        for followed in balances {
            followed.finish(report);
        }
    }
}

fn check_heads(books: &dyn Books, portion: &Portion, report: &mut AuditReport) -> Result<(), LedgerError> {
    books.sequences(&mut |row| {
        if let SequenceRow::Account { account, head: Some(head) } = row
            && let Some(newest) = portion.newest.get(&account)
        {
            let subject = || account.to_string();
            report.compare(Invariant::I8, subject, "newest balance update", newest, &head.change);
        }
    })
}

impl Portion {
    fn follow(&mut self, update: &BookedUpdate, report: &mut AuditReport) {
        let Some(followed) = self.balances.get_mut(&update.balance) else { return };
        if let Some(newest) = self.newest.get_mut(&followed.booked.account) {
            let subject = || place(followed, update);
            report.compare(Invariant::I8, subject, "update before it", newest, &update.previous);
            *newest = Some(update.place);
        }
        followed.follow(update, report);
    }
}

fn place(followed: &Followed, update: &BookedUpdate) -> String {
    format!("{} update {}", followed.name(), update.place)
}

impl Followed {
    fn new(booked: BookedStanding, snapshots: &Snapshots) -> Self {
        let floor = snapshots.floor(&booked.name);
        Self { booked, floor, standing: 0, hash: chain::START, debt: 0, in_total: 0, out_total: 0 }
    }

    fn name(&self) -> String {
        let owner = self.booked.user.map_or_else(|| self.booked.account.to_string(), |user| user.to_string());
        format!("{owner} {}", self.booked.name)
    }

    fn follow(&mut self, update: &BookedUpdate, report: &mut AuditReport) {
        let subject = || place(self, update);
        report.compare(Invariant::I8, subject, "before", &self.standing, &update.before);
        let after = update.before.saturating_add(update.amount);
        report.compare(Invariant::I8, subject, "after", &after, &update.after);
        let hash = self.hash_of(update).map(hex::encode);
        report.compare(Invariant::I8, subject, "hash", &hash, &Some(hex::encode(update.hash)));
        if update.after < self.floor {
            let floor = format!("at least {}", self.floor);
            report.violated(Invariant::I5, subject, "what the balance stands at", floor, update.after);
        }
        let sign_is_right = match update.kind {
            UpdateKind::Grant | UpdateKind::Refund => update.amount >= 0,
            UpdateKind::Debit | UpdateKind::Expiry => update.amount <= 0,
            UpdateKind::Adjustment => true,
        };
        if !sign_is_right {
            let kind = update.kind.as_str();
            report.violated(
                Invariant::I12,
                subject,
                "amount",
                format_args!("the sign of a {kind}"),
                update.amount,
            );
        }
        let amount = i128::from(update.amount);
        match update.kind {
            UpdateKind::Grant | UpdateKind::Refund | UpdateKind::Adjustment => self.in_total += amount,
            UpdateKind::Debit | UpdateKind::Expiry => self.out_total -= amount,
        }
        if update.grant.is_none() {
            self.debt = self.debt.saturating_sub(update.amount);
        }
        self.standing = update.after;
        self.hash = update.hash;
    }

    /// The hash that follows from the one before it; `None` where an amount is none.
    fn hash_of(&self, update: &BookedUpdate) -> Option<[u8; 32]> {
        let link = Link {
            account: self.booked.account,
            user: self.booked.user,
            balance: &self.booked.name,
            seq: update.seq,
            kind: update.kind,
            cause: update.cause,
            grant: update.grant,
            amount: SignedCredits::from_micros(update.amount)?,
            before: SignedCredits::from_micros(update.before)?,
            after: SignedCredits::from_micros(update.after)?,
            at: update.at,
        };
        Some(link.hash(&self.hash))
    }

    fn finish(self, report: &mut AuditReport) {
        let subject = || self.name();
        let booked = &self.booked;
        report.compare(
            Invariant::I8,
            subject,
            "what the balance stands at",
            &self.standing,
            &booked.standing,
        );
        let (expected, found) = (hex::encode(self.hash), hex::encode(booked.hash));
        report.compare(Invariant::I8, subject, "hash of the newest update", &expected, &found);
        report.compare(Invariant::I8, subject, "debt", &self.debt, &booked.debt);
        if self.debt < 0 || self.debt > -self.floor {
            let limit = format!("from 0 to {}", -self.floor);
            report.violated(Invariant::I5, subject, "debt", limit, self.debt);
        }
        let explained = i128::from(booked.standing) + self.out_total;
        report.compare(Invariant::I12, subject, "balance + debited + expired", &self.in_total, &explained);
    }
}
