//! What one account has in the books, followed update by update.

use std::collections::HashMap;

use crate::audit::regenerate::Weighed;
use crate::ledger::chain::{self, Link};
use crate::ledger::recorded::RecordedUpdate;
use crate::ledger::rows::{Cause, UpdateKind};
use crate::policy::compiled::{CounterKey, Name};
use crate::units::{AccountId, Credits, GrantId, Seq, SignedCredits, Timestamp, UserId};

/// One account's books so far.
#[derive(Debug)]
pub(super) struct AccountBooks {
    pub(super) account: AccountId,
    balances: Vec<Balance>,
    /// When each grant expires.
    expiries: HashMap<GrantId, Option<Timestamp>>,
    /// What was forgiven within policy, by feature and month.
    forgiven: HashMap<(CounterKey, Timestamp), u64>,
}

/// One balance so far.
#[derive(Debug)]
struct Balance {
    user: Option<UserId>,
    name: Name,
    standing: i64,
    debt: i64,
    hash: [u8; 32],
}

/// A change that follows from an entry, not yet put behind the others of its balance.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) user: Option<UserId>,
    pub(super) balance: Name,
    pub(super) kind: UpdateKind,
    pub(super) grant: Option<GrantId>,
    pub(super) amount: i64,
}

/// Where a line stands: its record's place, cause and instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) seq: Seq,
    pub(super) cause: Cause,
    pub(super) at: Timestamp,
}

impl AccountBooks {
    pub(super) fn new(account: AccountId) -> Self {
        Self { account, balances: Vec::new(), expiries: HashMap::new(), forgiven: HashMap::new() }
    }

    /// What is owed on a balance.
    pub(super) fn debt(&self, user: Option<UserId>, name: &Name) -> Credits {
        let debt = self.find(user, name).map_or(0, |balance| balance.debt.max(0));
        Credits::from_micros(debt.unsigned_abs()).unwrap_or(Credits::MAX)
    }

    /// What was forgiven of a feature in the month of an instant.
    pub(super) fn forgiven(&self, feature: CounterKey, at: Timestamp) -> u64 {
        self.forgiven.get(&(feature, Weighed::month(at))).copied().unwrap_or(0)
    }

    /// Counts what was forgiven.
    pub(super) fn forgive(&mut self, feature: CounterKey, at: Timestamp, micros: u64) {
        if micros > 0 {
            let sum = self.forgiven.entry((feature, Weighed::month(at))).or_default();
            *sum = sum.saturating_add(micros);
        }
    }

    /// Takes back what was forgiven, where a correction forgives it anew: in the same month.
    pub(super) fn unforgive(&mut self, feature: CounterKey, then: Timestamp, now: Timestamp, micros: u64) {
        let month = Weighed::month(then);
        if month == Weighed::month(now)
            && let Some(sum) = self.forgiven.get_mut(&(feature, month))
        {
            *sum = sum.saturating_sub(micros);
        }
    }

    /// Remembers a grant.
    pub(super) fn grant(&mut self, grant: GrantId, expires_at: Option<Timestamp>) {
        self.expiries.insert(grant, expires_at);
    }

    /// Whether a grant had expired at an instant. One that is not known has not.
    pub(super) fn had_expired(&self, grant: Option<GrantId>, at: Timestamp) -> bool {
        let expiry = grant.and_then(|grant| self.expiries.get(&grant).copied().flatten());
        expiry.is_some_and(|expiry| expiry <= at)
    }

    /// The update that a line makes, behind the newest of its balance.
    pub(super) fn update(&self, line: &Line, placed: Placed) -> RecordedUpdate {
        let balance = self.find(line.user, &line.balance);
        let (before, previous) =
            balance.map_or((0, chain::START), |balance| (balance.standing, balance.hash));
        let after = before.saturating_add(line.amount);
        let signed = |micros| SignedCredits::from_micros(micros).unwrap_or_default();
        let link = Link {
            account: self.account,
            user: line.user,
            balance: &line.balance,
            seq: placed.seq,
            kind: line.kind,
            cause: placed.cause,
            grant: line.grant,
            amount: signed(line.amount),
            before: signed(before),
            after: signed(after),
            at: placed.at,
        };
        RecordedUpdate {
            user: line.user,
            balance: line.balance.clone(),
            kind: line.kind,
            cause: placed.cause,
            grant: line.grant,
            amount: line.amount,
            before,
            after,
            at: placed.at,
            hash: link.hash(&previous),
        }
    }

    /// Goes on from an update as it is booked.
    pub(super) fn apply(&mut self, update: &RecordedUpdate) {
        let known = |balance: &Balance| balance.user == update.user && balance.name == update.balance;
        let place = self.balances.iter().position(known).unwrap_or_else(|| {
            let (user, name) = (update.user, update.balance.clone());
            self.balances.push(Balance { user, name, standing: 0, debt: 0, hash: chain::START });
            self.balances.len() - 1
        });
        let balance = &mut self.balances[place];
        balance.standing = update.after;
        balance.hash = update.hash;
        if update.grant.is_none() {
            balance.debt = balance.debt.saturating_sub(update.amount);
        }
    }

    fn find(&self, user: Option<UserId>, name: &Name) -> Option<&Balance> {
        self.balances.iter().find(|balance| balance.user == user && balance.name == *name)
    }
}
