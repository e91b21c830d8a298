//! A gateway comes back: what the meter's `Restoring` does, and what a gateway does that shares its meter.

use std::collections::BTreeMap;
use std::sync::Arc;

use overfall::access::ledgered::BookedGrant;
use overfall::access::record::{CounterEntry, HoldRecord, JobRecord, Record};
use overfall::access::{Account, Demand};
use overfall::audit::Invariant;
use overfall::policy::compiled::{CounterKey, Scope};
use overfall::units::{DecisionId, Seq, UserId};

use super::Protocol;
use super::bend::Bend;
use super::books::Books;
use super::scene::{account, at, terms};
use super::state::{Frame, Gateway, Meter, State};

/// Holds that a journal says are open, with their jobs.
type Open = BTreeMap<DecisionId, (HoldRecord, Option<JobRecord>)>;

impl Protocol {
    /// The one node: live counts from the books, then from the journal; jobs go on, other holds end at their floor.
    pub(crate) fn restart_node(&self, state: &mut State) {
        let frames = state.gateways[0].journal.clone();
        let mut meter = Meter::new(restored(&state.books));
        if self.bend == Some(Bend::ReplaysTwice) {
            meter.account.seq =
                frames.iter().find_map(|frame| frame.kept.seq).map_or(meter.account.seq, |seq| Seq(seq - 1));
        }
        for frame in &frames {
            if !replay(&mut meter, &frame.kept.record) {
                state.broken = Some(Invariant::I7);
            }
        }
        if self.bend == Some(Bend::ForgetsOrders) {
            meter.ordered.clear();
        }
        let open = self.open(&frames);
        for (hold, _) in open.values() {
            meter.account.take_up(hold, terms(self.scene.version(hold.policy)));
        }
        state.meter = Some(Arc::new(meter));
        for (decision, (_, job)) in open {
            self.go_on(state, decision, job);
        }
    }

    /// One of many: what it left open and nobody has ended since ends at its floor; what the books may lack is sent
    /// again.
    pub(crate) fn restart_gateway(&self, state: &mut State, gateway: usize) {
        let frames = state.gateways[gateway].journal.clone();
        for (decision, (_, job)) in self.open(&frames) {
            let is_open = state.meter.as_ref().is_some_and(|meter| meter.account.hold_of(decision).is_some());
            if is_open && job.is_none() {
                self.end_at_floor(state, gateway, decision);
            }
        }
        resend(state, gateway);
    }

    fn go_on(&self, state: &mut State, decision: DecisionId, job: Option<JobRecord>) {
        match job {
            Some(job) => state.with_meter(|meter| {
                let _known = meter.account.begin_job(job).is_ok();
            }),
            None => self.end_at_floor(state, 0, decision),
        }
    }

    fn end_at_floor(&self, state: &mut State, gateway: usize, decision: DecisionId) {
        let found = state.meter.as_ref().and_then(|meter| Some(meter.account.hold_of(decision)?.at_crash()));
        let Some((used, ending)) = found else { return };
        if self.bend == Some(Bend::CrashIsFree) {
            let not_sent = overfall::access::record::Ending::not_sent();
            self.end(state, gateway, decision, Demand::nothing(), not_sent);
        } else {
            self.end(state, gateway, decision, used, ending);
        }
    }

    fn open(&self, frames: &[Frame]) -> Open {
        let mut open = Open::new();
        for frame in frames {
            let closed = frame.closed && self.bend != Some(Bend::ForgetsEnds);
            match &frame.kept.record {
                Record::Hold(hold) if !closed && !Gateway::has_end(frames, hold.decision) => {
                    open.insert(hold.decision, ((**hold).clone(), None));
                }
                Record::Job(job) => {
                    if let Some(hold) = open.get_mut(&job.decision) {
                        hold.1 = Some(job.clone());
                    }
                }
                _ => {}
            }
        }
        open
    }

    /// Ends what is past its deadline, and takes out what has expired.
    pub(crate) fn sweep(&self, state: &mut State, gateway: usize) {
        let now = at(state.now);
        let Some(meter) = state.meter.clone() else { return };
        let mut due: Vec<_> = meter.account.holds().filter(|hold| hold.expires_at <= now).collect();
        due.sort_unstable_by_key(|hold| hold.decision);
        for hold in due {
            let (used, ending) = hold.at_deadline();
            self.end(state, gateway, hold.decision, used, ending);
        }
        let mut expired = Vec::new();
        state.with_meter(|meter| expired = meter.account.expire_grants(now));
        for record in expired {
            self.keep(state, gateway, Record::Expiry(record));
        }
    }
}

/// Whether a record follows what is there.
fn replay(meter: &mut Meter, record: &Record) -> bool {
    let account = &mut meter.account;
    let replayed = match record {
        Record::Hold(hold) => hold.issued.iter().try_for_each(|grant| {
            meter.pending.insert(grant.grant);
            account.replay_grant(grant, CounterKey::of_balance(&grant.balance))
        }),
        Record::Grant(grant) => {
            meter.pending.insert(grant.grant);
            account.replay_grant(grant, CounterKey::of_balance(&grant.balance))
        }
        Record::End(end) => account.replay_end(end, CounterKey::of_balance),
        Record::Expiry(expiry) => account.replay_expiry(expiry),
        Record::Correction(correction) => account.replay_correction(correction, CounterKey::of_balance),
        Record::Revision(told) => account.replay_correction(&told.correction, CounterKey::of_balance),
        Record::Adjustment(told) => account.replay_adjustment(told, CounterKey::of_balance(&told.balance)),
        Record::Job(_) | Record::Made(_) => Ok(()),
    };
    let is_ok = replayed.is_ok();
    meter.note(record);
    is_ok
}

/// Puts what a gateway's journal keeps back on the stream.
pub(crate) fn resend(state: &mut State, gateway: usize) {
    let again: Vec<u64> =
        state.gateways[gateway].durable().iter().filter_map(|frame| frame.kept.seq).collect();
    state.stream.extend(again);
}

fn restored(books: &Books) -> Account {
    let mut account = Account::new(account());
    account.seq = Seq(books.seq);
    for (user, purse) in books.purses() {
        let scope = if user.is_some() { Scope::User } else { Scope::Account };
        for slot in &purse.slots {
            account.restore_counter(user.unwrap_or(UserId::MIN), &CounterEntry { scope, slot: *slot });
        }
        for balance in &purse.balances {
            let key = CounterKey::of_balance(&balance.name);
            account.restore_debt(user, key, balance.debt.available());
            for remainder in &balance.remainders {
                let Some(grant) = books.grants().find(|grant| grant.grant == remainder.grant) else {
                    continue;
                };
                let mut booked = BookedGrant::as_granted(grant);
                booked.state.remaining = remainder.remaining.available();
                account.restore_grant(&booked);
            }
        }
    }
    account
}
