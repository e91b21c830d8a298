//! What the meter's verbs do to a state, asked by gateways.

use std::sync::Arc;

use overfall::access::record::{EndRecord, Ending, JobKind, JobRecord, Outcome, Record, Resource};
use overfall::access::{Account, Demand, Extended};
use overfall::audit::Invariant;
use overfall::policy::compiled::CounterKey;
use overfall::units::{DecisionId, Seq};

use super::Protocol;
use super::bend::Bend;
use super::properties;
use super::scene::{Scene, TICK, account, at, decision, demand, ending, grant, terms};
use super::state::{Call, Gateway, Meter, State};

impl Protocol {
    /// Ends a hold, if nobody has before.
    pub(crate) fn end(
        &self,
        state: &mut State,
        gateway: usize,
        id: DecisionId,
        used: Demand,
        ending: Ending,
    ) -> bool {
        let now = at(state.now);
        let mut ended = None;
        state.with_meter(|meter| ended = meter.account.finish(id, used, ending, now).ok());
        if ended.is_none() && self.bend == Some(Bend::EndsTwice) {
            ended = ended_twice(state, id);
        }
        match ended {
            Some(end) => self.keep(state, gateway, Record::End(end)),
            None => return false,
        }
        true
    }

    pub(crate) fn ask(&self, state: &mut State, call: usize) {
        let plan = &self.bounds.calls[call];
        let (ask, now) = (self.scene.ask(call, plan, state.policy), at(state.now));
        let before = state.meter.clone();
        let Some(meter) = &before else { return };
        let proposed = if self.bend == Some(Bend::OverlooksHolds) {
            without_holds(state).propose(ask, now)
        } else {
            meter.account.propose(ask, now)
        };
        let Ok(proposal) = proposed else {
            state.calls[call] = Call::Blocked;
            if state.meter != before {
                state.broken = Some(Invariant::I2);
            }
            return;
        };
        // Journalled before it is taken.
        self.keep(state, plan.gateway, Record::Hold(Box::new(proposal.record(account()))));
        state.with_meter(|meter| drop(meter.account.accept(proposal, now)));
        state.calls[call] = Call::Held;
        admitted(state, call);
    }

    pub(crate) fn leave(&self, state: &mut State, call: usize) {
        let gateway = self.bounds.calls[call].gateway;
        self.end(state, gateway, decision(call), Demand::nothing(), Ending::not_sent());
        state.calls[call] = Call::Unsent;
    }

    pub(crate) fn refuse(&self, state: &mut State, call: usize) {
        let gateway = self.bounds.calls[call].gateway;
        let ended = self.end(state, gateway, decision(call), Demand::nothing(), ending(Outcome::Refused));
        state.calls[call] = if ended { Call::Refused } else { Call::Ended };
    }

    /// A refusal is told once its void is durable.
    pub(crate) fn tell(&self, state: &mut State, call: usize) -> Option<()> {
        let frames = state.gateways[self.bounds.calls[call].gateway].durable();
        let booked = state.books.end_of(decision(call)).is_some();
        if !booked && !Gateway::has_end(frames, decision(call)) && self.bend != Some(Bend::TellsTooEarly) {
            return None;
        }
        state.calls[call] = Call::Told;
        Some(())
    }

    /// A sweep leaves nothing that is past its deadline.
    pub(crate) fn swept(&self, state: &mut State, gateway: usize) {
        if self.bend != Some(Bend::NeverSweeps) {
            self.sweep(state, gateway);
        }
        let now = at(state.now);
        let is_late = |meter: &Arc<Meter>| meter.account.holds().any(|hold| hold.expires_at <= now);
        if state.meter.as_ref().is_some_and(is_late) {
            state.broken = Some(Invariant::I9);
        }
    }

    /// More is held whole, or nothing is.
    pub(crate) fn extend(&self, state: &mut State, call: usize) -> Option<()> {
        let plan = &self.bounds.calls[call];
        let (id, now, before) = (decision(call), at(state.now), state.meter.clone());
        state.left.extensions -= 1;
        let terms = before.as_ref()?.account.hold_of(id)?.terms.clone();
        let estimate = demand(&terms, plan.estimate.0, plan.extended?);
        let mut extended = Extended::Lacking;
        state.with_meter(|meter| extended = meter.account.extend(id, estimate, now).unwrap_or(extended));
        if extended == Extended::Lacking && state.meter != before {
            state.broken = Some(Invariant::I2);
        }
        admitted(state, call);
        Some(())
    }

    pub(crate) fn begin(&self, state: &mut State, call: usize) {
        let plan = &self.bounds.calls[call];
        let job = JobRecord {
            decision: decision(call),
            account: account(),
            user: super::scene::user(plan.user),
            kind: JobKind::Response,
            resource: Resource { id: format!("resp_{call}").into(), upstream: None },
            began_at: at(state.now),
            expires_at: at(state.now).plus(TICK),
        };
        let mut began = false;
        state.with_meter(|meter| began = meter.account.begin_job(job.clone()).is_ok());
        if began {
            self.keep(state, plan.gateway, Record::Job(job));
        }
        // Upstream it runs all the same.
        state.calls[call] = Call::Job;
    }

    pub(crate) fn finish(&self, state: &mut State, call: usize, first_up: usize) -> Option<()> {
        let gateway = if state.calls[call] == Call::Job { first_up } else { self.bounds.calls[call].gateway };
        let used = self.truth(state, call);
        let ended = used
            .is_some_and(|used| self.end(state, gateway, decision(call), used, ending(Outcome::Completed)));
        // A job whose deadline has ended it may be corrected.
        if !ended && state.calls[call] == Call::Job {
            return None;
        }
        state.calls[call] = Call::Ended;
        Some(())
    }

    pub(crate) fn finish_again(&self, state: &mut State, call: usize, first_up: usize) -> Option<()> {
        let is_ended =
            state.log.iter().filter_map(|kept| kept.end()).any(|end| end.decision == decision(call));
        let terms = terms(self.scene.policy(0));
        let plan = &self.bounds.calls[call];
        let used = demand(&terms, plan.estimate.0, plan.truth);
        let again = is_ended && self.end(state, first_up, decision(call), used, ending(Outcome::Completed));
        state.left.repeats -= 1;
        again.then_some(())
    }

    pub(crate) fn order(&self, state: &mut State, order: usize, first_up: usize) -> Option<()> {
        let pending = state.meter.as_ref()?.pending.contains(&grant(order));
        let known = pending || state.books.has_grant(grant(order));
        if known {
            state.left.repeats = state.left.repeats.checked_sub(1)?;
            if self.bend != Some(Bend::GrantsTwice) {
                return None;
            }
        }
        let plan = Scene::order(order, &self.bounds.orders[order]);
        if plan.expires_at.is_some_and(|expires_at| expires_at <= at(state.now)) {
            return None;
        }
        let (key, now) = (plan.key, at(state.now));
        let record = state.meter.as_ref()?.account.grant(plan, now).ok()?;
        self.keep(state, first_up, Record::Grant(record.clone()));
        state.with_meter(|meter| {
            meter.pending.insert(record.grant);
            meter.account.granted(&record, key);
        });
        Some(())
    }

    /// What a call really uses, at the price of its hold.
    fn truth(&self, state: &State, call: usize) -> Option<Demand> {
        let plan = &self.bounds.calls[call];
        let hold = state.meter.as_ref()?.account.hold_of(decision(call))?;
        let anew = terms(self.scene.policy(state.policy));
        let terms = if self.bend == Some(Bend::PricesAnew) { &anew } else { &hold.terms };
        Some(demand(terms, plan.estimate.0, plan.truth))
    }
}

pub(crate) fn renew(state: &mut State, call: usize) -> Option<()> {
    let until = at(state.now).plus(TICK);
    state.left.renewals -= 1;
    let mut found = false;
    state.with_meter(|meter| found = meter.account.renew(decision(call), until).is_ok());
    found.then_some(())
}

/// The account as it is but for what is held.
fn without_holds(state: &State) -> Account {
    let mut account = Account::new(account());
    for kept in &state.log {
        match &kept.record {
            Record::End(end) => account.replay_end(end, CounterKey::of_balance).unwrap(),
            Record::Expiry(expiry) => account.replay_expiry(expiry).unwrap(),
            Record::Adjustment(it) => {
                account.replay_adjustment(it, CounterKey::of_balance(&it.balance)).unwrap();
            }
            record => {
                if let Some(revision) = record.revision() {
                    account.replay_correction(revision, CounterKey::of_balance).unwrap();
                }
            }
        }
        for grant in kept.grants() {
            account.replay_grant(grant, CounterKey::of_balance(&grant.balance)).unwrap();
        }
    }
    account
}

fn admitted(state: &mut State, call: usize) {
    if !properties::is_within_limits(state, decision(call)) {
        state.broken = Some(Invariant::I4);
    }
}

/// The end of a decision once more, as the next record.
fn ended_twice(state: &mut State, id: DecisionId) -> Option<Box<EndRecord>> {
    let first = state.log.iter().filter_map(|kept| kept.end()).find(|end| end.decision == id)?.clone();
    let mut seq = Seq::default();
    state.with_meter(|meter| {
        meter.account.seq = meter.account.seq.next();
        seq = meter.account.seq;
    });
    Some(Box::new(EndRecord { seq, ..first }))
}
