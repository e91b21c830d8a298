//! Balances: grants in their order of use, and debt.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::counter::Holds;
use crate::policy::compiled::{Balance, CounterKey, Issue};
use crate::units::planted::{Bug, planted};
use crate::units::{Credits, GrantId, SignedCredits, Timestamp};

/// The priority of a grant that names none, and of those that policy issues. Lower is drawn first.
pub const DEFAULT_PRIORITY: u16 = 100;

/// What one owner has of one balance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceState {
    /// Which balance.
    pub key: CounterKey,
    /// Whether policy has granted its once-for-ever issue.
    pub issued: bool,
    /// What is owed; the next grant pays it first.
    pub debt: Credits,
    /// In the order they are drawn: priority, earliest expiry, id. Most balances have one, which needs no allocation.
    grants: SmallVec<[GrantState; 1]>,
}

/// What is left of one grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantState {
    /// Which grant.
    pub id: GrantId,
    /// Lower is drawn first.
    pub priority: u16,
    /// From then on only what is held can be drawn. [`Timestamp::NEVER`], if it does not expire: half of what an option
    /// would take, of a million grants.
    pub expires_at: Timestamp,
    /// Neither drawn nor expired.
    pub remaining: Credits,
    /// The part of it that holds have reserved.
    pub held: Credits,
}

impl GrantState {
    fn order(&self, other: &Self) -> Ordering {
        if planted(Bug::PriorityIgnored) {
            return (self.expires_at, self.id).cmp(&(other.expires_at, other.id));
        }
        (self.priority, self.expires_at, self.id).cmp(&(other.priority, other.expires_at, other.id))
    }

    /// When it expires, if it does.
    pub fn expiry(&self) -> Option<Timestamp> {
        (self.expires_at != Timestamp::NEVER).then_some(self.expires_at)
    }

    /// Whether it has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    /// What a new hold could take of it.
    pub fn available(&self, now: Timestamp, holds: Holds) -> Credits {
        match holds {
            _ if self.is_expired(now) && !planted(Bug::ExpiredGrantDrawn) => Credits::ZERO,
            Holds::Count => self.remaining.saturating_sub(self.held),
            Holds::Ignore => self.remaining,
        }
    }
}

impl BalanceState {
    /// An empty balance.
    pub fn new(key: CounterKey) -> Self {
        Self { key, ..Self::default() }
    }

    /// The grants in the order they are drawn.
    pub fn grants(&self) -> &[GrantState] {
        &self.grants
    }

    /// One grant.
    pub fn grant_mut(&mut self, id: GrantId) -> Option<&mut GrantState> {
        self.grants.iter_mut().find(|grant| grant.id == id)
    }

    /// Whether it has a grant of which something is left.
    pub(super) fn has(&self, id: GrantId) -> bool {
        self.grants.iter().any(|grant| grant.id == id)
    }

    pub(super) fn grants_mut(&mut self) -> &mut [GrantState] {
        &mut self.grants
    }

    /// Puts a grant in its place, if anything is left in it.
    pub fn insert(&mut self, grant: GrantState) {
        if grant.remaining.is_zero() {
            return;
        }
        let place = self.grants.partition_point(|other| other.order(&grant) == Ordering::Less);
        self.grants.reserve_exact(1);
        self.grants.insert(place, grant);
    }

    /// Forgets grants with nothing left in them.
    pub fn prune(&mut self) {
        self.grants.retain(|grant| !grant.remaining.is_zero() || !grant.held.is_zero());
    }

    /// What new holds could take: nothing while it is in debt, which what voided holds give back would pay first.
    pub fn available(&self, now: Timestamp, holds: Holds) -> Credits {
        if holds == Holds::Count && !self.debt.is_zero() {
            return Credits::ZERO;
        }
        let available = |grant: &GrantState| grant.available(now, holds);
        let sum = self.grants.iter().map(available).fold(Credits::ZERO, Credits::saturating_add);
        sum.saturating_sub(self.debt)
    }

    /// All that remains of its grants, holds included. `None`: more than any amount may be.
    pub fn remaining(&self) -> Option<Credits> {
        self.grants.iter().try_fold(Credits::ZERO, |sum, grant| sum.checked_add(grant.remaining))
    }

    /// What the balance stands at: all that remains, holds included, less what is owed.
    pub fn standing(&self) -> SignedCredits {
        let remaining =
            self.grants.iter().fold(Credits::ZERO, |sum, grant| sum.saturating_add(grant.remaining));
        remaining.signed().checked_sub(self.debt.signed()).unwrap_or_default()
    }

    /// Pays what is owed out of what is free, grant by grant, and says which grant paid how much.
    pub fn repay(&mut self, now: Timestamp) -> Vec<(GrantId, Credits)> {
        let mut paid = Vec::new();
        if planted(Bug::DebtNeverRepaid) {
            return paid;
        }
        for grant in &mut self.grants {
            let part = self.debt.min(grant.available(now, Holds::Count));
            if !part.is_zero() {
                grant.remaining = grant.remaining.saturating_sub(part);
                self.debt = self.debt.saturating_sub(part);
                paid.push((grant.id, part));
            }
        }
        paid
    }

    /// Takes out what has expired and is not held, and says how much of which grant that was.
    pub fn expire(&mut self, now: Timestamp) -> Vec<(GrantId, Credits)> {
        let mut expired = Vec::new();
        for grant in self.grants.iter_mut().filter(|grant| grant.is_expired(now)) {
            if planted(Bug::ExpiryTakesHeld) {
                grant.held = Credits::ZERO;
            }
            let free = grant.remaining.saturating_sub(grant.held);
            if !free.is_zero() {
                grant.remaining = grant.held;
                expired.push((grant.id, free));
            }
        }
        expired
    }
}

/// The grant that policy would issue at `now`, where it has not done so yet.
pub fn issuable(
    balance: &Balance,
    state: Option<&BalanceState>,
    owner: &[u8; 16],
    now: Timestamp,
) -> Option<GrantState> {
    let issue = balance.issue.filter(|issue| issue.is_open(now))?;
    let fresh =
        state.is_none_or(|state| (!state.issued || planted(Bug::GrantIssuedTwice)) && state.debt.is_zero());
    fresh.then(|| GrantState {
        id: GrantId::derived(&[b"issue", owner, balance.name.as_bytes()]),
        priority: DEFAULT_PRIORITY,
        expires_at: issue.expires_after.map_or(Timestamp::NEVER, |span| now.plus(span)),
        remaining: issue.amount,
        held: Credits::ZERO,
    })
}

impl Issue {
    /// Whether it is being given out at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

/// Merges an issuable grant into the order of use.
pub fn in_order<'a>(
    grants: &'a [GrantState],
    issuable: Option<&'a GrantState>,
) -> impl Iterator<Item = &'a GrantState> {
    let place = issuable
        .map_or(grants.len(), |new| grants.partition_point(|grant| grant.order(new) == Ordering::Less));
    grants[..place].iter().chain(issuable).chain(&grants[place..])
}
