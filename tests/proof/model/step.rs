//! What can happen next, and what that does.

use super::Protocol;
use super::bend::Bend;
use super::machine::take;
use super::recovery::resend;
use super::scene::{Topology, decision};
use super::state::{Call, State};
use super::verbs::renew;

/// One step of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A request is made: it is held, or blocked.
    Ask(usize),
    /// What a journal has becomes durable.
    Sync(usize),
    /// A held request leaves for the upstream.
    Send(usize),
    /// The client of a held request goes away.
    Leave(usize),
    /// A running request's deadline is moved.
    Renew(usize),
    /// A running request asks for more than it holds.
    Extend(usize),
    /// What runs goes on in the background.
    Begin(usize),
    /// A running request or job ends, with its usage.
    Finish(usize),
    /// The upstream refuses.
    Refuse(usize),
    /// The client is told of it.
    Tell(usize),
    /// The end of a call is told to the meter again.
    FinishAgain(usize),
    /// The truth about a job comes after its deadline.
    TellLate(usize),
    /// Credits are ordered.
    Order(usize),
    /// An operator sets something right.
    SetRight(usize),
    /// Time passes.
    Tick,
    /// Deadlines and expiries are looked at.
    Sweep,
    /// The policy changes.
    Reload,
    /// A worker reads a record.
    Take(usize, u64),
    /// It gives it to the books.
    Book(usize),
    /// It dies with it.
    Drop(usize),
    /// The stream loses a record that a journal has.
    Lose(u64),
    /// A gateway sends what its journal has once more.
    Resend(usize),
    /// A journal lets go of what is booked.
    Trim(usize),
    /// A gateway is killed; so many frames are found afterwards.
    Crash(usize, usize),
    /// It comes back.
    Restart(usize),
}

impl Protocol {
    /// Everything that can happen in a state.
    pub(crate) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        for (place, call) in state.calls.iter().enumerate() {
            let plan = &self.bounds.calls[place];
            let up = state.gateways[plan.gateway].up;
            // A job is asked for by whichever gateway is up.
            let any_up = state.gateways.iter().any(|gateway| gateway.up);
            match call {
                Call::Idle if up => actions.push(Action::Ask(place)),
                Call::Held if up => {
                    let durable = state.gateways[plan.gateway].has_hold(decision(place));
                    if durable || self.bend == Some(Bend::SendsTooEarly) {
                        actions.push(Action::Send(place));
                    }
                    if self.bounds.refusals {
                        actions.push(Action::Leave(place));
                    }
                }
                Call::Sent if up => {
                    actions.push(if plan.job { Action::Begin(place) } else { Action::Finish(place) });
                    if self.bounds.refusals {
                        actions.push(Action::Refuse(place));
                    }
                    if state.left.renewals > 0 {
                        actions.push(Action::Renew(place));
                    }
                    if state.left.extensions > 0 && plan.extended.is_some() {
                        actions.push(Action::Extend(place));
                    }
                }
                Call::Job if any_up => {
                    actions.extend([Action::Finish(place), Action::TellLate(place)]);
                }
                Call::Refused if up => actions.push(Action::Tell(place)),
                _ => {}
            }
            if state.left.repeats > 0 && call.was_sent() && any_up {
                actions.push(Action::FinishAgain(place));
            }
        }
        if state.gateways.iter().any(|gateway| gateway.up) {
            actions.extend((0..self.bounds.orders.len()).map(Action::Order));
            actions.extend((0..self.bounds.set_right.len()).map(Action::SetRight));
            actions.push(Action::Sweep);
        }
        if state.now < self.bounds.ticks {
            actions.push(Action::Tick);
        }
        if state.left.reloads > 0 {
            actions.push(Action::Reload);
        }
        self.of_gateways(state, actions);
        self.of_workers(state, actions);
    }

    fn of_gateways(&self, state: &State, actions: &mut Vec<Action>) {
        for (place, gateway) in state.gateways.iter().enumerate() {
            if !gateway.up {
                actions.push(Action::Restart(place));
                continue;
            }
            if gateway.durable < gateway.journal.len() {
                actions.push(Action::Sync(place));
            }
            actions.push(Action::Trim(place));
            if state.left.crashes > 0 {
                actions.extend(
                    (gateway.durable..=gateway.journal.len()).map(|found| Action::Crash(place, found)),
                );
            }
            if self.bounds.topology == Topology::Shared {
                actions.push(Action::Resend(place));
            }
        }
    }

    fn of_workers(&self, state: &State, actions: &mut Vec<Action>) {
        if self.bounds.topology == Topology::OneNode && !state.gateways[0].up {
            return;
        }
        let readable = self.readable(state);
        for (place, worker) in state.workers.iter().enumerate() {
            if worker.is_some() {
                actions.extend([Action::Book(place), Action::Drop(place)]);
            } else {
                let again = |seq: &&u64| **seq > state.books.seq || state.left.repeats > 0;
                actions.extend(readable.iter().filter(again).map(|seq| Action::Take(place, *seq)));
            }
        }
        if self.bounds.topology == Topology::Shared && state.left.repeats > 0 {
            actions.extend(state.stream.iter().map(|seq| Action::Lose(*seq)));
        }
    }

    /// The records that a worker can read.
    fn readable(&self, state: &State) -> Vec<u64> {
        match self.bounds.topology {
            Topology::Shared => state.stream.iter().copied().collect(),
            Topology::OneNode => {
                let gateway = &state.gateways[0];
                let early = self.bend == Some(Bend::SettlesTooEarly);
                let frames = if early { &gateway.journal[..] } else { gateway.durable() };
                frames.iter().filter_map(|frame| frame.kept.seq).collect()
            }
        }
    }

    /// What a step makes of a state; nothing where it changes nothing.
    pub(crate) fn step(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let first_up = || last.gateways.iter().position(|gateway| gateway.up).unwrap_or_default();
        match action {
            Action::Ask(call) => self.ask(&mut state, call),
            Action::Sync(gateway) => {
                let gateway = &mut state.gateways[gateway];
                gateway.durable = gateway.journal.len();
            }
            Action::Send(call) => {
                let mut left = false;
                state.with_meter(|meter| left = meter.account.dispatch(decision(call)).is_ok());
                state.calls[call] = if left { Call::Sent } else { Call::Unsent };
            }
            Action::Leave(call) => self.leave(&mut state, call),
            Action::Renew(call) => renew(&mut state, call)?,
            Action::Extend(call) => self.extend(&mut state, call)?,
            Action::Begin(call) => self.begin(&mut state, call),
            Action::Finish(call) => self.finish(&mut state, call, first_up())?,
            Action::Refuse(call) => self.refuse(&mut state, call),
            Action::Tell(call) => self.tell(&mut state, call)?,
            Action::FinishAgain(call) => self.finish_again(&mut state, call, first_up())?,
            Action::TellLate(call) => self.tell_late(&mut state, call, first_up())?,
            Action::Order(order) => self.order(&mut state, order, first_up())?,
            Action::SetRight(nth) => self.set_right(&mut state, nth, first_up())?,
            Action::Tick => state.now += 1,
            Action::Sweep => self.swept(&mut state, first_up()),
            Action::Reload => {
                state.policy = 1 - state.policy;
                state.left.reloads -= 1;
            }
            Action::Take(worker, seq) => take(&mut state, worker, seq)?,
            Action::Book(worker) => self.book(&mut state, worker),
            Action::Drop(worker) => state.workers[worker] = None,
            Action::Lose(seq) => {
                if !state.gateways.iter().any(|gateway| gateway.has_seq(seq)) {
                    return None;
                }
                state.stream.remove(&seq);
                state.left.repeats -= 1;
            }
            Action::Resend(gateway) => {
                resend(&mut state, gateway);
                let needed = |seq: &u64| *seq > last.books.seq && !last.stream.contains(seq);
                if !state.stream.iter().any(needed) {
                    state.left.repeats = state.left.repeats.checked_sub(1)?;
                }
            }
            Action::Trim(gateway) => self.trim(&mut state, gateway),
            Action::Crash(gateway, found) => self.crash(&mut state, gateway, found),
            Action::Restart(gateway) => {
                state.gateways[gateway].up = true;
                match self.bounds.topology {
                    Topology::OneNode => self.restart_node(&mut state),
                    Topology::Shared => self.restart_gateway(&mut state, gateway),
                }
            }
        }
        (state != *last).then_some(state)
    }
}
