//! An account in rows: what a store that keeps accounts outside the process reads and writes.
//!
//! A verb needs what the account shares, what its user has, and the hold that it is about: never more. So a verb costs
//! the same in an account of one user and of ten thousand, and what a store keeps of a user or a hold can go by itself.
//! An account that was put together from some of its rows is decided by like a whole one: no rule looks at the purse of
//! another user, or at the holds one by one.

use serde::{Deserialize, Serialize};

use super::account::{Account, Purse};
use super::counter::Slot;
use super::hold::Hold;
use super::record::{HoldRecord, JobRecord};
use super::terms::Terms;
use crate::policy::compiled::{GuardRule, Period, Policy, Scope, Source, Window};
use crate::units::{AccountId, DecisionId, Seq, Timestamp, UserId};

/// What all users of an account share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedRow {
    /// The seq of the newest record.
    pub seq: Seq,
    /// The account's own counters and balances.
    pub purse: Purse,
}

/// An open hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRow {
    /// What it holds, and when that ends.
    pub record: HoldRecord,
    /// Whether the request has left for the upstream.
    pub dispatched: bool,
    /// What it has become, where the answer was not the end of the call.
    pub job: Option<Box<JobRecord>>,
}

impl Purse {
    /// From when on it says nothing any more that a missing one does not: its windows have ended, its buckets are
    /// empty. `None`: it has balances, a place is taken, or it counts what this policy does not know.
    pub fn idle_at(&self, policy: &Policy) -> Option<Timestamp> {
        if !self.balances().is_empty() {
            return None;
        }
        let mut ends = self.counters.iter().map(|slot| idle_at(slot, policy));
        ends.try_fold(Timestamp::default(), |latest, end| end.map(|end| latest.max(end)))
    }
}

fn idle_at(slot: &Slot, policy: &Policy) -> Option<Timestamp> {
    let waterfalls = policy.plans.iter().flat_map(|plan| plan.waterfalls.iter().flatten());
    waterfalls
        .flat_map(|waterfall| {
            let guards = waterfall.guards.iter().map(|guard| match &guard.rule {
                GuardRule::Rate(rate) => (guard.key, Some(slot.at.plus(rate.drains_in(slot.used)))),
                GuardRule::Concurrent { .. } => (guard.key, None),
                GuardRule::Spend { window } => (window.key, Some(end_of(slot, window))),
            });
            let windows = waterfall.layers.iter().filter_map(|layer| match &layer.source {
                Source::Window(windows) => Some(windows),
                Source::Balance(_) => None,
            });
            let windows = windows.flat_map(|layer| &layer.windows);
            guards.chain(windows.map(|window| (window.key, Some(end_of(slot, window)))))
        })
        .find(|(key, _)| *key == slot.key)
        .and_then(|(_, end)| end)
}

fn end_of(slot: &Slot, window: &Window) -> Timestamp {
    match &window.period {
        Period::FirstUse(length) => slot.at.plus(*length),
        Period::Calendar(..) => window.period.instance_at(slot.at).end,
    }
}

impl Account {
    /// An account of which only this is known.
    pub fn of_row(id: AccountId, row: SharedRow) -> Self {
        let mut account = Self::new(id);
        account.seq = row.seq;
        account.share(row.purse);
        account
    }

    /// Puts in what a user has.
    pub fn put_user(&mut self, user: UserId, purse: Purse) {
        *self.purse_mut(Scope::User, user) = purse;
    }

    /// Puts in an open hold as it stands: what it reserves is counted already.
    pub fn put_hold(&mut self, row: &HoldRow, terms: Terms) {
        let HoldRow { record, dispatched, job } = row;
        let hold = Hold { dispatched: *dispatched, job: job.clone(), ..Hold::of_record(record, terms) };
        self.holds.put(Box::new(hold));
    }

    /// What all users share.
    pub fn shared_row(&self) -> SharedRow {
        let purse = self.purse(Scope::Account, UserId::MIN).cloned().unwrap_or_default();
        SharedRow { seq: self.seq, purse }
    }

    /// An open hold.
    pub fn hold_row(&self, decision: DecisionId) -> Option<HoldRow> {
        let hold = self.holds.find(decision)?;
        Some(HoldRow { record: hold.record(self.id), dispatched: hold.dispatched, job: hold.job.clone() })
    }
}
