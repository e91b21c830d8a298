//! I5, I8 and I12: balances and grants, followed update by update in the order of booking. Every update follows from
//! the one before it, none goes below its floor, no grant gives what it does not have, and what a balance is said to
//! stand at is what its updates come to.

use super::invariant::Invariant;
use super::report::AuditReport;
use crate::ledger::books::{BookedStanding, BookedUpdate};
use crate::ledger::chain::{self, Link};
use crate::ledger::rows::UpdateKind;
use crate::units::{GrantId, IdMap, SignedCredits, Timestamp};

/// One balance as its updates pass.
pub(super) struct Followed {
    /// What it is said to be.
    pub(super) booked: BookedStanding,
    /// What it owes, in micro-credits.
    pub(super) debt: i64,
    /// Its hash at the checkpoint that the books are held against.
    pub(super) checked: Option<[u8; 32]>,
    floor: i64,
    standing: i64,
    hash: Hash,
    in_total: i128,
    out_total: i128,
    grants: IdMap<GrantId, Left>,
    /// Whether it is followed from its beginning.
    whole: bool,
}

/// The hash of the update before.
enum Hash {
    Known([u8; 32]),
    /// It is not found: the next one is believed.
    Unknown,
    /// It is not looked for yet.
    Unread,
}

/// What is left of a grant.
#[derive(Clone, Copy)]
struct Left {
    amount: i64,
    expires_at: Option<Timestamp>,
}

/// What an update was seen to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The update.
    pub(super) update: BookedUpdate,
    /// What the balance owed before it.
    pub(super) debt_before: i64,
    /// When the grant it touches expires.
    pub(super) expires_at: Option<Timestamp>,
}

impl Followed {
    /// A balance from its beginning.
    pub(super) fn new(booked: BookedStanding, floor: i64) -> Self {
        Self {
            booked,
            debt: 0,
            checked: None,
            floor,
            standing: 0,
            hash: Hash::Known(chain::START),
            in_total: 0,
            out_total: 0,
            grants: IdMap::default(),
            whole: true,
        }
    }

    /// A balance of which all is believed that came before the first update that is followed.
    pub(super) fn later(booked: BookedStanding, floor: i64) -> Self {
        Self { hash: Hash::Unread, whole: false, ..Self::new(booked, floor) }
    }

    /// Whether its first update is still to come.
    pub(super) const fn is_unread(&self) -> bool {
        matches!(self.hash, Hash::Unread)
    }

    /// Begins before `first`, behind the update of this hash.
    pub(super) fn begin_before(&mut self, first: &BookedUpdate, hash: Option<[u8; 32]>) {
        self.standing = first.before;
        self.hash = hash.map_or(Hash::Unknown, Hash::Known);
    }

    /// Whether it is followed from its beginning.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Its owner and name.
    pub(super) fn name(&self) -> String {
        let owner = self.booked.user.map_or_else(|| self.booked.account.to_string(), |user| user.to_string());
        format!("{owner} {}", self.booked.name)
    }

    /// Follows its next update. `expires_at` tells it of a grant, where the update is the first of one.
    pub(super) fn follow(
        &mut self,
        update: &BookedUpdate,
        expires_at: Option<Timestamp>,
        report: &mut AuditReport,
    ) -> Seen {
        let subject = || format!("{} update {}", self.name(), update.place);
        report.compare(Invariant::I8, subject, "before", &self.standing, &update.before);
        let after = update.before.saturating_add(update.amount);
        report.compare(Invariant::I8, subject, "after", &after, &update.after);
        if let Hash::Known(previous) = &self.hash {
            let hash = self.hash_behind(previous, update);
            report.compare_hashes(Invariant::I8, subject, "hash", hash.as_ref(), Some(&update.hash));
        }
        if update.after < self.floor {
            let floor = format!("at least {}", self.floor);
            report.violated(Invariant::I5, subject, "what the balance stands at", floor, update.after);
        }
        let expected = match update.kind {
            Some(UpdateKind::Grant | UpdateKind::Refund) if update.amount < 0 => Some("at least 0"),
            Some(UpdateKind::Debit | UpdateKind::Expiry) if update.amount > 0 => Some("at most 0"),
            _ => None,
        };
        if let Some(expected) = expected {
            report.violated(Invariant::I12, subject, "amount", expected, update.amount);
        }
        let amount = i128::from(update.amount);
        match update.kind {
            Some(UpdateKind::Grant | UpdateKind::Refund | UpdateKind::Adjustment) => self.in_total += amount,
            Some(UpdateKind::Debit | UpdateKind::Expiry) => self.out_total -= amount,
            None => report.violated(Invariant::I12, subject, "kind", "one of five", "not readable"),
        }
        let debt_before = self.debt;
        let expires_at = if let Some(grant) = update.grant {
            self.follow_grant(grant, update, expires_at, report)
        } else {
            self.debt = self.debt.saturating_sub(update.amount);
            None
        };
        self.standing = update.after;
        self.hash = Hash::Known(update.hash);
        Seen { update: *update, debt_before, expires_at }
    }

    fn follow_grant(
        &mut self,
        grant: GrantId,
        update: &BookedUpdate,
        expires_at: Option<Timestamp>,
        report: &mut AuditReport,
    ) -> Option<Timestamp> {
        let known = self.grants.get(&grant).copied();
        let mut left = known.unwrap_or(Left { amount: 0, expires_at });
        left.amount = left.amount.saturating_add(update.amount);
        if left.amount < 0 && self.whole {
            let subject = || format!("{} update {}: {grant}", self.name(), update.place);
            report.violated(Invariant::I5, subject, "what is left of the grant", "at least 0", left.amount);
        }
        let is_early = |end: Timestamp| update.kind == Some(UpdateKind::Expiry) && update.at < end;
        if let Some(end) = left.expires_at.filter(|end| is_early(*end)) {
            let subject = || format!("{} update {}: {grant}", self.name(), update.place);
            report.violated(Invariant::I11, subject, "expiry", format_args!("at {end} or later"), update.at);
        }
        // A spent grant is forgotten, so that memory follows what is left.
        if left.amount == 0 {
            self.grants.remove(&grant);
        } else {
            self.grants.insert(grant, left);
        }
        left.expires_at
    }

    /// Whether a grant's end is known without asking for the grant.
    pub(super) fn knows(&self, grant: GrantId) -> bool {
        self.grants.contains_key(&grant)
    }

    /// The hash that follows from the one before it; `None` where an amount is none or a word cannot be read.
    fn hash_behind(&self, previous: &[u8; 32], update: &BookedUpdate) -> Option<[u8; 32]> {
        let link = Link {
            account: self.booked.account,
            user: self.booked.user,
            balance: &self.booked.name,
            seq: update.seq,
            kind: update.kind?,
            cause: update.cause?,
            grant: update.grant,
            amount: SignedCredits::from_micros(update.amount)?,
            before: SignedCredits::from_micros(update.before)?,
            after: SignedCredits::from_micros(update.after)?,
            at: update.at,
        };
        Some(link.hash(previous))
    }

    /// What is said to be left of one of its grants.
    pub(super) fn remainder(&mut self, grant: GrantId, remaining: i64, report: &mut AuditReport) {
        let subject = || format!("{}: {grant}", self.booked.name);
        let left = self.grants.remove(&grant).map(|left| left.amount);
        if self.whole {
            report.compare(Invariant::I12, subject, "what is left of it", &left.unwrap_or(0), &remaining);
        } else if remaining < 0 {
            report.violated(Invariant::I5, subject, "what is left of it", "at least 0", remaining);
        }
    }

    /// Its end: what it is said to stand at, against what was followed.
    pub(super) fn finish(&self, report: &mut AuditReport) {
        let subject = || self.name();
        let booked = &self.booked;
        if self.is_unread() {
            return;
        }
        report.compare(
            Invariant::I8,
            subject,
            "what the balance stands at",
            &self.standing,
            &booked.standing,
        );
        if let Hash::Known(hash) = &self.hash {
            let what = "hash of the newest update";
            report.compare_hashes(Invariant::I8, subject, what, Some(hash), Some(&booked.hash));
        }
        if !self.whole {
            return;
        }
        report.compare(Invariant::I8, subject, "debt", &self.debt, &booked.debt);
        if self.debt < 0 || self.debt > -self.floor {
            let limit = format!("from 0 to {}", -self.floor);
            report.violated(Invariant::I5, subject, "debt", limit, self.debt);
        }
        let explained = i128::from(booked.standing) + self.out_total;
        let what = "balance + debited + expired";
        report.compare(Invariant::I12, subject, what, &self.in_total, &explained);
        let mut lost: Vec<_> = self.grants.iter().filter(|(_, left)| left.amount != 0).collect();
        lost.sort_unstable_by_key(|(grant, _)| **grant);
        for (grant, left) in lost {
            let subject = || format!("{}: {grant}", booked.name);
            report.compare(Invariant::I12, subject, "what is left of it", &left.amount, &0);
        }
    }
}
