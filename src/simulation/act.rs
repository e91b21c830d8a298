//! What each step does to the world.

use super::auditor::{Grant, Made, Owner, Source, Use, Violation};
use super::node::{USERS, account_id, account_of, at_once, user_id};
use super::plan::{Step, Verb};
use super::rules::{Balance, CREDIT, Feature, INCLUDED_MS, Tier};
use super::upstream::Answer;
use super::world::{InHand, Stage, World, quantities, takes};
use crate::access::record::GrantOrigin;
use crate::access::{Extended, GrantOrder};
use crate::journal::tests::disk::Cut;
use crate::ledger::Ledger;
use crate::meter::{Meter, MeterError};
use crate::observe::Observer;
use crate::policy::compiled::CounterKey;
use crate::units::{Credits, DecisionId, GrantId, Span, Timestamp};

mod books;
mod jobs;
mod ordered;

pub(super) use ordered::Order;

impl World {
    /// Takes one step.
    pub(super) fn act(&mut self, step: Step) -> Result<(), Violation> {
        let Step { verb, a, b, c } = step;
        self.clock.advance(Span::from_ms(1));
        match verb {
            Verb::Ask => self.act_ask(a, b, c),
            Verb::AskAgain => self.act_ask_again(a),
            Verb::Answer => self.act_answer(a, b, c),
            Verb::Extend => self.act_extend(a, b),
            Verb::Renew => self.act_renew(a),
            Verb::EndAgain => self.act_end_again(a),
            Verb::Grant => self.act_grant(a, b, c),
            Verb::GrantAgain => self.act_grant_again(a),
            Verb::Refund => self.act_refund(a, b),
            Verb::Rerate => self.act_rerate(a, b),
            Verb::Adjust => self.act_adjust(a, b, c),
            Verb::OrderAgain => self.act_order_again(a),
            Verb::Learn => self.act_learn(a, b, c),
            Verb::FindLate => {
                at_once(self.node.jobs.find_late()).map(drop).map_err(|error| format!("{error:?}"))
            }
            Verb::Reload => {
                self.in_force = 1 - self.in_force;
                self.tally.count("policies");
                self.tell(&format!("policy {} is in force", self.in_force));
                Ok(())
            }
            Verb::Pass => self.act_pass(a, b),
            Verb::Write => self.act_write(),
            Verb::Settle => self.act_settle(),
            Verb::Redeliver => self.act_redeliver(a, b),
            Verb::Contradict => self.act_contradict(a),
            Verb::LedgerFails => {
                self.node.ledger.fail_next(a % 2 == 0);
                self.fault("failing ledger");
                Ok(())
            }
            Verb::SyncFails => {
                self.disk.fail_syncs(a % 3 + 1);
                self.fault("failing sync");
                Ok(())
            }
            Verb::WriteFails => {
                self.disk.fail_writes(a % 3 + 1);
                self.fault("failing write");
                Ok(())
            }
            Verb::Fill => {
                self.disk.limit(Some(self.disk.used_bytes()));
                self.fault("full disk");
                Ok(())
            }
            Verb::Empty => {
                self.disk.limit(None);
                Ok(())
            }
            Verb::Crash => {
                let cut = match a % 5 {
                    0 => Cut::KeepsAll,
                    1 => Cut::LosesAll,
                    _ => Cut::Tears { seed: u64::from(b) },
                };
                self.crash(cut, c.is_multiple_of(2))
            }
        }
    }

    pub(super) fn fault(&mut self, what: &'static str) {
        self.tally.fault(what);
        self.tell(what);
    }

    fn act_ask(&mut self, a: u32, b: u32, c: u32) -> Result<(), Violation> {
        let user = a as usize % USERS;
        if c.is_multiple_of(4) {
            let seconds = u64::from(b % 5 + 1);
            return self.ask(user, Feature::Sora, Use { seconds, ..Use::default() });
        }
        let (input, output) = (u64::from(b % 9), u64::from(b / 9 % 11 + 1));
        self.ask(user, Feature::Codex, Use { input, output, seconds: 0, tier: Tier::any(c / 4) })
    }

    fn act_ask_again(&mut self, a: u32) -> Result<(), Violation> {
        let Some(call) = pick(&self.calls, a) else { return Ok(()) };
        let known = &self.auditor.state.calls[&call.id];
        if !known.open {
            return Ok(());
        }
        self.tally.fault("repeated request");
        match at_once(self.node.meter.hold(account_id(known.account), call.ask.clone())) {
            Ok(crate::meter::Verdict::Allow(held, _)) if takes(&held.draws) == known.takes => Ok(()),
            other => Err(format!("I1: asked again, {other:?} and not {:?}", known.takes)),
        }
    }

    fn act_answer(&mut self, a: u32, b: u32, c: u32) -> Result<(), Violation> {
        let sent: Vec<usize> = (0..self.calls.len()).filter(|at| self.is_sent(*at)).collect();
        let Some(at) = pick(&sent, a) else { return Ok(()) };
        let call = self.calls.swap_remove(*at);
        let known = self.auditor.state.calls[&call.id].clone();
        if known.feature == Feature::Sora {
            return match b % 8 {
                0 => self.answer(&call, Answer::Refused, 0),
                _ => self.begin_job(&call, Made::Video),
            };
        }
        let pieces = u64::from(c % 8);
        let (input, output) = (u64::from(c / 8 % 11), u64::from(c / 88 % 17));
        let truth = Use { input, output, seconds: 0, tier: Tier::any(c / 1496) };
        let answer = match b % 14 {
            0..=5 => Answer::Told(truth),
            6 => Answer::Untold,
            7 => Answer::Failed,
            8 => Answer::Cut,
            9 => Answer::ClientGone,
            10 => Answer::Refused,
            11 => Answer::Empty,
            12 => Answer::Dropped,
            _ => return self.begin_job(&call, Made::Response),
        };
        self.answer(&call, answer, pieces)
    }

    fn is_sent(&self, at: usize) -> bool {
        matches!(self.calls[at].stage, Stage::Sent)
    }

    fn answer(&mut self, call: &InHand, answer: Answer, pieces: u64) -> Result<(), Violation> {
        let estimate = self.auditor.state.calls[&call.id].estimate;
        if let Some(fault) = answer.fault() {
            self.tally.fault(fault);
        }
        let worth = answer.worth(estimate, pieces);
        let (observer, status, cause) = answer.pass(&resource_of(call.id), pieces);
        let observed = observer.map(Observer::end);
        self.end(call, cause, observed.as_ref(), status, Some(worth))
    }

    fn act_extend(&mut self, a: u32, b: u32) -> Result<(), Violation> {
        let Some(call) = pick(&self.calls, a) else { return Ok(()) };
        let known = &self.auditor.state.calls[&call.id];
        if known.feature == Feature::Sora {
            return Ok(());
        }
        let (account, open, now) = (known.account, known.open, self.now());
        let estimate = Use { output: known.estimate.output + u64::from(b % 12), ..known.estimate };
        let demand = call.ask.terms.estimate(quantities(estimate)).unwrap();
        let (id, decision) = (call.id, call.ask.decision);
        match at_once(self.node.meter.extend(account_id(account), decision, demand)) {
            Ok(extended) if open => {
                let had = self.auditor.extended(id, estimate, now);
                if had == (extended == Extended::Held) {
                    return Ok(());
                }
                Err(format!("I3: an extension is {extended:?}, and had: {had}"))
            }
            Err(MeterError::NoSuchHold) if !open => Ok(()),
            other => Err(format!("I9: open: {open}, and extended: {other:?}")),
        }
    }

    fn act_renew(&mut self, a: u32) -> Result<(), Violation> {
        let Some(call) = pick(&self.calls, a) else { return Ok(()) };
        let until = self.now() + 120_000;
        let (id, decision) = (call.id, call.ask.decision);
        let Some(known) = self.auditor.state.calls.get_mut(&id) else { return Ok(()) };
        let renewal = self.node.meter.renew(account_id(known.account), decision, Timestamp::from_ms(until));
        match at_once(renewal) {
            Ok(()) if known.open => {
                known.expires = known.expires.max(until);
                Ok(())
            }
            Err(MeterError::NoSuchHold) if !known.open => Ok(()),
            other => Err(format!("I9: open: {}, and renewed: {other:?}", known.open)),
        }
    }

    /// I9: there is no second end.
    fn act_end_again(&mut self, a: u32) -> Result<(), Violation> {
        let ended = self.auditor.state.calls.values().filter(|call| !call.open);
        let ended: Vec<_> = ended.map(|call| (call.account, call.id)).collect();
        let Some((account, id)) = pick(&ended, a) else { return Ok(()) };
        self.tally.fault("second end");
        let ending = crate::access::record::Ending::not_sent();
        let decision = DecisionId::from_bytes(*id);
        match at_once(self.node.meter.void(account_id(*account), decision, ending)) {
            Err(MeterError::NoSuchHold) => Ok(()),
            other => Err(format!("I9: a second end: {other:?}")),
        }
    }

    fn act_grant(&mut self, a: u32, b: u32, c: u32) -> Result<(), Violation> {
        let user = a as usize % USERS;
        let launch = a.is_multiple_of(5);
        let id = self.name();
        let amount = u64::from(b % 40 + 1) * CREDIT + u64::from(b % 3);
        let expires = match c % 3 {
            0 => i64::MAX,
            _ => self.now() + i64::from(c % 2_400_000) + 60_000,
        };
        let grant = Grant {
            id,
            owner: Owner { account: account_of(user), user: launch.then_some(user) },
            balance: if launch { Balance::Launch } else { Balance::Wallet },
            amount,
            priority: [50, 100, 150][c as usize / 3 % 3],
            expires,
            left: amount,
            issued: false,
        };
        self.orders.push(grant.clone());
        self.order(grant)
    }

    fn act_grant_again(&mut self, a: u32) -> Result<(), Violation> {
        let Some(grant) = pick(&self.orders, a).cloned() else { return Ok(()) };
        self.tally.fault("repeated order");
        self.order(grant)
    }

    /// Carries out an order as the operator's API does: the books first, then the meter.
    fn order(&mut self, grant: Grant) -> Result<(), Violation> {
        let id = GrantId::from_bytes(grant.id);
        let booked = at_once(self.node.ledger.grant(id)).map_err(|error| format!("{error:?}"))?;
        if booked.is_some() {
            let known = self.auditor.state.grants.iter().any(|other| other.id == grant.id);
            return if known { Ok(()) } else { Err("I10: the books have a grant that is lost".to_owned()) };
        }
        let order = GrantOrder {
            grant: id,
            user: grant.owner.user.map(user_id),
            balance: grant.balance.name().into(),
            key: CounterKey::of_balance(grant.balance.name()),
            amount: Credits::from_micros(grant.amount).unwrap(),
            priority: grant.priority,
            expires_at: (grant.expires != i64::MAX).then(|| Timestamp::from_ms(grant.expires)),
            origin: GrantOrigin::Operator { idempotency_key: hex::encode(grant.id).into(), note: None },
        };
        let account = account_id(grant.owner.account);
        let told = format!("{:?} is granted {} of {:?}", grant.owner, grant.amount, grant.balance);
        let granted = at_once(self.node.meter.grant(account, order));
        match (granted, self.auditor.granted(grant, self.now())) {
            (Ok(Some((record, ticket))), Some(repaid)) if record.repaid.micros() == repaid => {
                self.tell(&format!("{told}, {repaid} repays"));
                self.awaited.push((self.auditor.frames(), ticket));
                Ok(())
            }
            (Ok(None), None) => Ok(()),
            (granted, expected) => Err(format!("I7: {granted:?} and not {expected:?}")),
        }
    }

    fn act_pass(&mut self, a: u32, b: u32) -> Result<(), Violation> {
        if !self.auditor.due(self.now()).is_empty() {
            self.sweep()?;
        }
        let longest = [2_000, 20_000, 100_000, 400_000, 1_500_000][b as usize % 5];
        let until = self.now() + i64::from(a % longest) + 1;
        self.pass(until)?;
        if a.is_multiple_of(3) {
            self.tally.fault("late sweep");
            return Ok(());
        }
        self.sweep()
    }

    /// Lets time pass, with the sweeper at each deadline; it may be late at the last one.
    pub(super) fn pass(&mut self, until: i64) -> Result<(), Violation> {
        loop {
            let state = &self.auditor.state;
            let open = state.calls.values().filter(|call| call.open).map(|call| call.expires);
            let ends = state.grants.iter().filter(|grant| grant.left > 0).map(|grant| grant.expires);
            let now = self.now();
            let Some(next) =
                open.chain(ends).chain(self.window_ends()).filter(|at| *at > now && *at <= until).min()
            else {
                break;
            };
            self.clock.advance(Span::from_ms((next - now).unsigned_abs()));
            self.sweep()?;
            self.check()?;
        }
        let left = until - self.now();
        self.clock.advance(Span::from_ms(u64::try_from(left).unwrap_or(0)));
        Ok(())
    }

    /// When the windows end that calls have named.
    fn window_ends(&self) -> impl Iterator<Item = i64> {
        let calls = self.auditor.state.calls.values().filter(|call| call.feature == Feature::Codex);
        let starts = calls.flat_map(|call| &call.takes).filter_map(|take| match &take.source {
            Source::Windows(starts) => {
                Some(starts.iter().zip(INCLUDED_MS).map(|(start, length)| start + length))
            }
            Source::Grant(_) | Source::Debt => None,
        });
        starts.flatten()
    }

    fn sweep(&mut self) -> Result<(), Violation> {
        let swept = at_once(self.node.meter.sweep()).map_err(|error| format!("{error:?}"))?;
        let found = (swept.voided, swept.floored, swept.expired);
        let expected = self.auditor.swept(self.now());
        if found != (0, 0, 0) {
            self.tell(&format!("swept: {found:?} voided, floored, expired"));
        }
        if found == expected { Ok(()) } else { Err(format!("I9: swept {found:?} and not {expected:?}")) }
    }

    pub(super) fn act_write(&mut self) -> Result<(), Violation> {
        let well = self.disk.is_well();
        self.node.writer.step();
        self.wrote(well);
        self.poll()
    }
}

fn resource_of(id: super::auditor::Id) -> String {
    format!("made_{}", hex::encode(&id[8..]))
}

fn pick<T>(from: &[T], at: u32) -> Option<&T> {
    from.get(at as usize % from.len().max(1))
}
