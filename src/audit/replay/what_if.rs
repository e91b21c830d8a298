//! What another policy would have done: the recorded calls and blocks, asked again of the access core under it.
//!
//! Every account begins with nothing, as it did. What operators granted is granted at its instant, and what they adjusted
//! or gave back is at its own (`ordered`); what policy issues is issued by the new one. Each recorded call asks for its
//! recorded estimate at the instant at which it was held, and ends as it is recorded to have ended at the instant at which
//! it did; a truth that came late comes late. Each logged block asks for what it had asked for. The order is that of the
//! instants; of an instant first what is numbered, in its order, and then requests.
//!
//! # What it cannot know
//!
//! - What a blocked call would have used and how long it would have taken: it is taken to use its estimate, and to end
//!   at once.
//! - Blocks that the log has forgotten or dropped, and calls that never left: they are left out.
//! - Other prices that operators ordered for calls: those of the new policy take their place.
//! - What users would have done next, had they been answered otherwise.
//! - Estimates are those that were held: after a clamp, with what was held later. A clamp of the new policy cuts the
//!   recorded output.
//!
//! Bounds: one account with its grants, its users, its calls that are open or were corrected, [`USERS`] users, one tally for each plan and feature.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use crate::access::Reason;
use crate::ledger::LedgerError;
use crate::ledger::recorded::{Recorded, Request};
use crate::policy::compiled::{Name, Policy};
use crate::units::{AccountId, Timestamp, UserId};

mod again;
mod ordered;
mod told;

use again::Again;
pub use ordered::Orders;
pub use told::{CreditSum, Tally};

/// Users that a report names, those with the most changes first; the rest is counted.
const USERS: usize = 100;

/// What another policy would have done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WhatIf {
    /// The policy that was asked.
    pub policy: String,
    /// The instant from which on requests are counted; those before it only make the accounts what they were.
    pub since: Option<String>,
    /// The first logged block: what was blocked before it is not known.
    pub blocks_known_since: Option<String>,
    /// By plan and feature.
    pub tallies: Vec<PlanTally>,
    /// The users with the most changes.
    pub users: Vec<UserChange>,
    /// Users of whom at least one request would have gone the other way.
    pub users_changed: u64,
    /// Users who were blocked at least once, and would never have been.
    pub users_freed: u64,
    /// Users who were never blocked, and would have been.
    pub users_stopped: u64,
    /// What operators ordered of balances and calls, and how far it could be carried out.
    pub orders: Orders,
}

/// What was and would have been of one feature in one plan.
#[derive(Clone, Debug, Serialize)]
pub struct PlanTally {
    /// The plan.
    pub plan: Name,
    /// The feature.
    pub feature: Name,
    /// What was recorded.
    pub then: Tally,
    /// What the policy would have done.
    pub now: Tally,
    /// Requests that were let through and would have been blocked.
    pub newly_blocked: u64,
    /// Requests that were blocked and would have been let through.
    pub newly_allowed: u64,
}

/// A user of whom requests would have gone the other way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserChange {
    /// The account.
    pub account: String,
    /// The user.
    pub user: String,
    /// Blocks that were.
    pub blocked_then: u64,
    /// Blocks that would have been.
    pub blocked_now: u64,
    /// Requests that were let through and would have been blocked.
    pub newly_blocked: u64,
    /// Requests that were blocked and would have been let through.
    pub newly_allowed: u64,
}

/// How one request went, then and now.
pub(super) struct Sides {
    pub(super) then: Side,
    pub(super) now: Side,
    /// How many requests it stands for.
    pub(super) count: u64,
}

/// Let through, or why not.
pub(super) type Side = Result<(), Reason>;

/// Asks every recorded request of `policy`, and counts those from `since` on.
pub fn what_if(
    books: &dyn Recorded,
    policy: &Arc<Policy>,
    since: Option<Timestamp>,
    progress: &mut dyn FnMut(u64),
) -> Result<WhatIf, LedgerError> {
    let mut asking = Asking { policy, since, account: None, told: Telling::default() };
    let mut requests = 0u64;
    books.requests(&mut |account, request| {
        requests += 1;
        if requests.is_multiple_of(super::NOTE_EVERY) {
            progress(requests);
        }
        asking.request(account, &request);
    })?;
    asking.close();
    let mut report = asking.told.report();
    report.policy = policy.version.to_string();
    report.since = since.map(|since| since.to_string());
    Ok(report)
}

struct Asking<'a> {
    policy: &'a Arc<Policy>,
    since: Option<Timestamp>,
    account: Option<Again<'a>>,
    told: Telling,
}

impl Asking<'_> {
    fn request(&mut self, account: AccountId, request: &Request) {
        if self.account.as_ref().is_none_or(|again| again.id() != account) {
            self.close();
            self.account = Some(Again::new(account, self.policy, self.since));
        }
        if let Some(again) = &mut self.account {
            again.request(request, &mut self.told);
        }
    }

    fn close(&mut self) {
        if let Some(mut again) = self.account.take() {
            again.close(&mut self.told);
            self.told.close(again.id());
        }
    }
}

/// What has been counted so far.
#[derive(Default)]
pub(super) struct Telling {
    tallies: BTreeMap<(Name, Name), PlanTally>,
    /// Of the account at hand.
    users: HashMap<UserId, UserChange>,
    most: Vec<UserChange>,
    first_block: Option<Timestamp>,
    changed: u64,
    freed: u64,
    stopped: u64,
    pub(super) orders: Orders,
}

impl Telling {
    pub(super) fn tally(&mut self, plan: &Name, feature: &Name) -> &mut PlanTally {
        let key = (Arc::clone(plan), Arc::clone(feature));
        self.tallies.entry(key).or_insert_with(|| PlanTally {
            plan: Arc::clone(plan),
            feature: Arc::clone(feature),
            then: Tally::default(),
            now: Tally::default(),
            newly_blocked: 0,
            newly_allowed: 0,
        })
    }

    /// Notes when a block was logged.
    pub(super) fn logged(&mut self, at: Timestamp) {
        self.first_block = Some(self.first_block.map_or(at, |first| first.min(at)));
    }

    /// Counts requests on both sides.
    pub(super) fn count(&mut self, plan: &Name, feature: &Name, user: UserId, sides: &Sides) {
        let Sides { then, now, count } = sides;
        let (newly_blocked, newly_allowed) = match (then, now) {
            (Ok(()), Err(_)) => (*count, 0),
            (Err(_), Ok(())) => (0, *count),
            _ => (0, 0),
        };
        let tally = self.tally(plan, feature);
        tally.then.decided(*then, *count);
        tally.now.decided(*now, *count);
        tally.newly_blocked += newly_blocked;
        tally.newly_allowed += newly_allowed;
        let change = self.users.entry(user).or_insert_with(|| UserChange {
            account: String::new(),
            user: user.to_string(),
            blocked_then: 0,
            blocked_now: 0,
            newly_blocked: 0,
            newly_allowed: 0,
        });
        change.blocked_then += if then.is_err() { *count } else { 0 };
        change.blocked_now += if now.is_err() { *count } else { 0 };
        change.newly_blocked += newly_blocked;
        change.newly_allowed += newly_allowed;
    }

    /// The users of an account have been.
    fn close(&mut self, account: AccountId) {
        for (_, mut change) in self.users.drain() {
            if change.newly_allowed == 0 && change.newly_blocked == 0 {
                continue;
            }
            change.account = account.to_string();
            self.changed += 1;
            self.freed += u64::from(change.blocked_then > 0 && change.blocked_now == 0);
            self.stopped += u64::from(change.blocked_then == 0 && change.blocked_now > 0);
            self.most.push(change);
        }
        if self.most.len() > 2 * USERS {
            self.keep_the_most();
        }
    }

    fn keep_the_most(&mut self) {
        let changes = |change: &UserChange| change.newly_allowed.saturating_add(change.newly_blocked);
        self.most.sort_by(|a, b| (Reverse(changes(a)), &a.user).cmp(&(Reverse(changes(b)), &b.user)));
        self.most.truncate(USERS);
    }

    fn report(mut self) -> WhatIf {
        self.keep_the_most();
        WhatIf {
            blocks_known_since: self.first_block.map(|at| at.to_string()),
            tallies: self.tallies.into_values().collect(),
            users: self.most,
            users_changed: self.changed,
            users_freed: self.freed,
            users_stopped: self.stopped,
            orders: self.orders,
            ..WhatIf::default()
        }
    }
}

#[cfg(test)]
mod tests;
