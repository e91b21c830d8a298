//! What a request must meet: let through with these draws, or not.

use super::super::rules::{Balance, Feature, LAUNCH_MS, RULES, Rules};
use super::{Auditor, Call, Grant, Id, Owner, Source, State, Take, Use, Written};

/// What a request must meet.
#[derive(Debug)]
pub(in crate::simulation) enum Verdict {
    /// It is let through.
    Allow(Box<Call>, Option<Grant>),
    /// Too many are in flight.
    Places,
    /// More may be spent than is allowed.
    Capped,
    /// Not all of it can be had.
    Lacking,
}

/// What an estimate takes.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) takes: Vec<Take>,
    /// What balances have to give.
    pub(super) cost: u64,
    /// What they do not have of it.
    pub(super) lacking: u64,
}

impl Auditor {
    /// What one more request must meet.
    pub(in crate::simulation) fn verdict(&self, call: &Call, issue: Id, now: i64) -> Verdict {
        let rules = &RULES[call.rules];
        let limit = if call.feature == Feature::Codex { rules.places } else { rules.jobs };
        let mine = |other: &&Call| other.open && other.user == call.user && other.feature == call.feature;
        if self.state.calls.values().filter(mine).count() >= limit {
            return Verdict::Places;
        }
        let offer = self.state.offer(call, rules, issue, now);
        let whole = self.passes(call, offer.as_ref(), now);
        if let Verdict::Allow(..) = whole {
            return whole;
        }
        // The longest answer that can be paid for, if it is worth having.
        let least = if call.feature == Feature::Codex { rules.minimum } else { call.estimate.output };
        for output in (least..call.estimate.output).rev() {
            let estimate = Use { output, ..call.estimate };
            let shorter = self.passes(&Call { estimate, ..call.clone() }, offer.as_ref(), now);
            if let Verdict::Allow(..) = shorter {
                return shorter;
            }
        }
        whole
    }

    /// Whether a request can be paid for, and may be.
    fn passes(&self, call: &Call, offer: Option<&Grant>, now: i64) -> Verdict {
        let Walked { takes, cost, lacking } = self.state.walk(call, None, offer, now);
        if cost > self.state.cap_left(call, now) {
            return Verdict::Capped;
        }
        if lacking > 0 {
            return Verdict::Lacking;
        }
        let drawn = |offer: &&Grant| takes.iter().any(|take| take.source == Source::Grant(offer.id));
        let issued = offer.filter(drawn).cloned();
        let spends = vec![(self.state.cap_window(call, now).0, cost)];
        let written = Written { estimate: call.estimate, takes: takes.clone(), spends: spends.clone() };
        Verdict::Allow(Box::new(Call { takes, spends, written, ..call.clone() }), issued)
    }

    /// A larger estimate: whether all that it needs beyond what is held can be had, and is taken.
    pub(in crate::simulation) fn extended(&mut self, id: Id, estimate: Use, now: i64) -> bool {
        let Some(mut call) = self.state.calls.get(&id).cloned() else { return false };
        if call.whole(estimate) < call.whole(call.estimate) {
            return true;
        }
        let held = (call.whole(call.estimate), call.takes.clone());
        call.estimate = estimate;
        let more = self.state.walk(&call, Some(held), None, now);
        if more.lacking > 0 || more.cost > self.state.cap_left(&call, now) {
            return false;
        }
        call.takes.extend(more.takes);
        call.spends.push((self.state.cap_window(&call, now).0, more.cost));
        self.state.calls.insert(id, call);
        true
    }
}

impl State {
    /// What policy gives to a user who has not got it yet.
    fn offer(&self, call: &Call, rules: &Rules, id: Id, now: i64) -> Option<Grant> {
        let owner = Owner { account: call.account, user: Some(call.user) };
        let had = self.grants.iter().any(|it| it.issued && it.owner == owner);
        let wanted = call.feature == Feature::Codex && !had && self.debt(owner, Balance::Launch) == 0;
        wanted.then_some(Grant {
            id,
            owner,
            balance: Balance::Launch,
            amount: rules.launch,
            priority: 100,
            expires: now + LAUNCH_MS,
            left: rules.launch,
            issued: true,
        })
    }
}
