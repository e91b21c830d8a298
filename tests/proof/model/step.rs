//! What can happen next, and what that does.

use std::sync::Arc;

use overfall::access::balance::GrantState;
use overfall::access::ledgered::BookedGrant;
use overfall::access::record::{
    EndRecord, Ending, JobKind, JobRecord, OriginEntry, Outcome, Record, Resource,
};
use overfall::access::{Account, Demand, Prior};
use overfall::audit::Invariant;
use overfall::policy::compiled::CounterKey;
use overfall::units::{Credits, DecisionId, Seq, Timestamp};

use super::Protocol;
use super::bend::Bend;
use super::books::{Applied, Books, Kept};
use super::properties;
use super::scene::{Scene, TICK, Topology, account, at, decision, demand, ending, grant};
use super::state::{Call, Frame, Gateway, Meter, State};

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
    /// A running request's deadline is moved, and its estimate enlarged.
    Renew(usize),
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
                self.with_meter(&mut state, |meter| left = meter.account.dispatch(decision(call)).is_ok());
                state.calls[call] = if left { Call::Sent } else { Call::Unsent };
            }
            Action::Leave(call) => {
                let gateway = self.bounds.calls[call].gateway;
                self.end(&mut state, gateway, decision(call), Demand::nothing(), Ending::not_sent());
                state.calls[call] = Call::Unsent;
            }
            Action::Renew(call) => self.renew(&mut state, call)?,
            Action::Begin(call) => self.begin(&mut state, call),
            Action::Finish(call) => self.finish(&mut state, call, first_up())?,
            Action::Refuse(call) => {
                let gateway = self.bounds.calls[call].gateway;
                let ended = self.end(
                    &mut state,
                    gateway,
                    decision(call),
                    Demand::nothing(),
                    ending(Outcome::Refused),
                );
                state.calls[call] = if ended { Call::Refused } else { Call::Ended };
            }
            Action::Tell(call) => {
                let frames = state.gateways[self.bounds.calls[call].gateway].durable();
                let booked = state.books.end_of(decision(call)).is_some();
                if !booked
                    && !Gateway::has_end(frames, decision(call))
                    && self.bend != Some(Bend::TellsTooEarly)
                {
                    return None;
                }
                state.calls[call] = Call::Told;
            }
            Action::FinishAgain(call) => self.finish_again(&mut state, call, first_up())?,
            Action::TellLate(call) => self.tell_late(&mut state, call, first_up())?,
            Action::Order(order) => self.order(&mut state, order, first_up())?,
            Action::Tick => state.now += 1,
            Action::Sweep => {
                if self.bend != Some(Bend::NeverSweeps) {
                    self.sweep(&mut state, first_up());
                }
                let late =
                    |meter: &Arc<Meter>| meter.account.holds().any(|hold| hold.expires_at <= at(state.now));
                if state.meter.as_ref().is_some_and(late) {
                    state.broken = Some(Invariant::I9);
                }
            }
            Action::Reload => {
                state.policy = 1 - state.policy;
                state.left.reloads -= 1;
            }
            Action::Take(worker, seq) => self.take(&mut state, worker, seq)?,
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
                self.resend(&mut state, gateway);
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

    /// Changes the meter's state.
    pub(crate) fn with_meter(&self, state: &mut State, change: impl FnOnce(&mut Meter)) {
        if let Some(meter) = &mut state.meter {
            change(Arc::make_mut(meter));
        }
    }

    /// Puts a record where its verb puts it: into a gateway's journal, and on the stream if there is one.
    pub(crate) fn keep(&self, state: &mut State, gateway: usize, record: Record) {
        let kept = Kept::new(record);
        state.gateways[gateway].append(&kept);
        if let Some(seq) = kept.seq {
            state.log.push(kept);
            if self.bounds.topology == Topology::Shared {
                state.stream.insert(seq);
            }
        }
    }

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
        self.with_meter(state, |meter| ended = meter.account.finish(id, used, ending, now).ok());
        if ended.is_none() && self.bend == Some(Bend::EndsTwice) {
            ended = self.ended_twice(state, id);
        }
        match ended {
            Some(end) => self.keep(state, gateway, Record::End(end)),
            None => return false,
        }
        true
    }

    fn ended_twice(&self, state: &mut State, id: DecisionId) -> Option<Box<EndRecord>> {
        let first = state.log.iter().filter_map(|kept| kept.end()).find(|end| end.decision == id)?.clone();
        let mut seq = Seq::default();
        self.with_meter(state, |meter| {
            meter.account.seq = meter.account.seq.next();
            seq = meter.account.seq;
        });
        Some(Box::new(EndRecord { seq, ..first }))
    }

    fn ask(&self, state: &mut State, call: usize) {
        let plan = &self.bounds.calls[call];
        let (ask, now) = (self.scene.ask(call, plan, state.policy), at(state.now));
        let before = state.meter.clone();
        let Some(meter) = &before else { return };
        let proposed = if self.bend == Some(Bend::OverlooksHolds) {
            self.without_holds(state).propose(ask, now)
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
        self.with_meter(state, |meter| drop(meter.account.accept(proposal, now)));
        state.calls[call] = Call::Held;
        self.admitted(state, call);
    }

    /// The account as it is but for what is held.
    fn without_holds(&self, state: &State) -> Account {
        let mut account = Account::new(account());
        for kept in &state.log {
            match &kept.record {
                Record::End(end) => account.replay_end(end, CounterKey::of_balance).unwrap(),
                Record::Expiry(expiry) => account.replay_expiry(expiry).unwrap(),
                Record::Correction(it) => account.replay_correction(it, CounterKey::of_balance).unwrap(),
                _ => {}
            }
            for grant in kept.grants() {
                account.replay_grant(grant, CounterKey::of_balance(&grant.balance)).unwrap();
            }
        }
        account
    }

    fn admitted(&self, state: &mut State, call: usize) {
        if !properties::is_within_limits(state, decision(call)) {
            state.broken = Some(Invariant::I4);
        }
    }

    fn renew(&self, state: &mut State, call: usize) -> Option<()> {
        let plan = &self.bounds.calls[call];
        let now = at(state.now);
        state.left.renewals -= 1;
        let mut found = false;
        self.with_meter(state, |meter| {
            let account = &mut meter.account;
            found = account.renew(decision(call), now.plus(TICK)).is_ok();
            if let (true, Some(output)) = (found, plan.extended) {
                let terms = account.hold_of(decision(call)).map(|hold| hold.terms.clone());
                let estimate = demand(&terms.unwrap(), plan.estimate.0, output);
                let _extended = account.extend(decision(call), estimate, now).is_ok();
            }
        });
        self.admitted(state, call);
        found.then_some(())
    }

    fn begin(&self, state: &mut State, call: usize) {
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
        self.with_meter(state, |meter| began = meter.account.begin_job(job.clone()).is_ok());
        if began {
            self.keep(state, plan.gateway, Record::Job(job));
        }
        // Upstream it runs all the same.
        state.calls[call] = Call::Job;
    }

    fn finish(&self, state: &mut State, call: usize, first_up: usize) -> Option<()> {
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

    /// What a call really uses, at the price of its hold.
    fn truth(&self, state: &State, call: usize) -> Option<Demand> {
        let plan = &self.bounds.calls[call];
        let hold = state.meter.as_ref()?.account.hold_of(decision(call))?;
        let anew = self.scene.terms(self.scene.policy(state.policy));
        let terms = if self.bend == Some(Bend::PricesAnew) { &anew } else { &hold.terms };
        Some(demand(terms, plan.estimate.0, plan.truth))
    }

    fn finish_again(&self, state: &mut State, call: usize, first_up: usize) -> Option<()> {
        let is_ended =
            state.log.iter().filter_map(|kept| kept.end()).any(|end| end.decision == decision(call));
        let terms = self.scene.terms(self.scene.policy(0));
        let plan = &self.bounds.calls[call];
        let used = demand(&terms, plan.estimate.0, plan.truth);
        let again = is_ended && self.end(state, first_up, decision(call), used, ending(Outcome::Completed));
        state.left.repeats -= 1;
        again.then_some(())
    }

    fn tell_late(&self, state: &mut State, call: usize, first_up: usize) -> Option<()> {
        let id = decision(call);
        let prior = self.prior(&state.books, id)?;
        let asks = self.bend != Some(Bend::CorrectsTwice);
        if asks && (state.books.is_corrected(id) || state.meter.as_ref()?.corrected.contains(&id)) {
            return None;
        }
        let plan = &self.bounds.calls[call];
        let used = demand(&prior.terms, plan.estimate.0, plan.truth);
        let now = at(state.now);
        let mut corrected = None;
        self.with_meter(state, |meter| {
            corrected = meter.account.correct(&prior, used, ending(Outcome::Completed), now).ok();
            meter.corrected.insert(id);
        });
        self.keep(state, first_up, Record::Correction(corrected?));
        Some(())
    }

    /// What the books say of a call that its deadline has ended.
    fn prior(&self, books: &Books, id: DecisionId) -> Option<Prior> {
        let end = books.end_of(id).filter(|end| end.ending.outcome == Outcome::Expired)?;
        let named = |grant| {
            end.draws
                .iter()
                .any(|draw| matches!(draw.origin, OriginEntry::Grant { grant: id, .. } if id == grant))
        };
        let grants = books.grants().filter(|record| named(record.grant)).map(|record| BookedGrant {
            user: record.user,
            balance: CounterKey::of_balance(&record.balance),
            state: GrantState {
                id: record.grant,
                priority: record.priority,
                expires_at: record.expires_at.unwrap_or(Timestamp::NEVER),
                remaining: Credits::ZERO,
                held: Credits::ZERO,
            },
            issued: false,
        });
        Some(Prior {
            decision: id,
            user: end.user,
            terms: self.scene.terms(self.scene.version(end.policy)),
            ended_at: end.ended_at,
            used: end.used.clone(),
            draws: end.draws.clone(),
            charge: end.charge,
            grants: grants.collect(),
        })
    }

    fn order(&self, state: &mut State, order: usize, first_up: usize) -> Option<()> {
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
        self.with_meter(state, |meter| {
            meter.pending.insert(record.grant);
            meter.account.granted(&record, key);
        });
        Some(())
    }

    fn take(&self, state: &mut State, worker: usize, seq: u64) -> Option<()> {
        if seq <= state.books.seq {
            state.left.repeats = state.left.repeats.checked_sub(1)?;
        }
        let found = state.log.iter().find(|kept| kept.seq == Some(seq)).map(Arc::clone);
        state.workers[worker] = Some(found?);
        Some(())
    }

    fn book(&self, state: &mut State, worker: usize) {
        let Some(kept) = state.workers[worker].take() else { return };
        match state.books.apply(&kept, self.bend) {
            Applied::Waits => return,
            Applied::Repeated => {}
            Applied::Booked(books) => state.books = Arc::new(books),
        }
        // The stream's position commits with the books, and the meter is told of grants that they have.
        if let Some(seq) = kept.seq {
            state.stream.remove(&seq);
        }
        let granted: Vec<_> = kept.grants().iter().map(|grant| grant.grant).collect();
        if !granted.is_empty() {
            self.with_meter(state, |meter| meter.pending.retain(|grant| !granted.contains(grant)));
        }
    }

    /// Lets go of what lies wholly before what is not booked, but for open holds and those beside them.
    fn trim(&self, state: &mut State, gateway: usize) {
        let booked = if self.bend == Some(Bend::ForgetsTooEarly) { u64::MAX } else { state.books.seq };
        let gateway = &mut state.gateways[gateway];
        let unbooked = |frame: &Frame| frame.kept.seq.is_some_and(|seq| seq > booked);
        let upto = gateway.durable().iter().position(unbooked).unwrap_or(gateway.durable);
        let is_open = |frame: &Frame| {
            frame.opens().is_some_and(|id| !frame.closed && !Gateway::has_end(gateway.durable(), id))
        };
        let shared = gateway.journal[..upto].iter().rposition(is_open).map_or(0, |place| place + 1);
        let mut rest = Vec::new();
        for (place, frame) in gateway.journal.iter().enumerate() {
            let opens = frame.opens().filter(|_| place < shared);
            if place >= upto {
                rest.push(frame.clone());
            } else if let Some(id) = opens {
                let ended = Gateway::has_end(&gateway.journal[..upto], id);
                rest.push(Frame { closed: frame.closed || ended, ..frame.clone() });
            }
        }
        gateway.durable -= gateway.journal.len() - rest.len();
        gateway.journal = rest;
    }

    fn crash(&self, state: &mut State, place: usize, found: usize) {
        state.left.crashes -= 1;
        let gateway = &mut state.gateways[place];
        gateway.up = false;
        gateway.journal.truncate(found);
        gateway.durable = found;
        for (call, plan) in state.calls.iter_mut().zip(self.bounds.calls) {
            if plan.gateway == place {
                *call = match *call {
                    Call::Held => Call::Unsent,
                    Call::Sent | Call::Refused => Call::Orphaned,
                    other => other,
                };
            }
        }
        if self.bounds.topology == Topology::OneNode {
            let newest = state.gateways[0].journal.iter().filter_map(|frame| frame.kept.seq).max();
            let newest = newest.unwrap_or(0).max(state.books.seq);
            state.log.retain(|kept| kept.seq.is_some_and(|seq| seq <= newest));
            state.meter = None;
            state.workers.fill(None);
        }
    }
}
