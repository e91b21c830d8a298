//! The world: a node, its disk and its clock, the gateway's calls, and the auditor who looks at everything.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rusqlite::Connection;

use super::auditor::{Auditor, Call, Id, Owner, Take, Use, Verdict, Violation};
use super::node::{self, Node, USERS, account_id, account_of, at_once, user_id};
use super::rules::{Balance, Feature};
use crate::access::draw::{Draw, Origin};
use crate::access::record::Charge;
use crate::access::{Ask, Reason, Terms};
use crate::journal::Ticket;
use crate::journal::tests::disk::{Cut, Disk};
use crate::meter::{self, Meter, MeterError};
use crate::observe::finish::{Cause, Facts};
use crate::policy::compiled::Policy;
use crate::units::time::Clock;
use crate::units::{DecisionId, GrantId, Quantities, Span, Timestamp};

/// Half an hour before a month ends.
const BEGIN_MS: i64 = 1_796_081_400_000;
/// How long a request's hold lives.
const LIFETIME_MS: i64 = 120_000;

/// How far the gateway is with a call.
pub(super) enum Stage {
    /// Its hold is not durable yet.
    Waiting(Ticket),
    /// It is with the upstream.
    Sent,
}

/// A call that the gateway has in hand.
pub(super) struct InHand {
    pub(super) id: Id,
    pub(super) ask: Ask,
    pub(super) stage: Stage,
}

/// What the upstream makes in the background.
pub(super) struct Job {
    pub(super) id: Id,
    pub(super) resource: String,
}

/// Counts what a run met.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) blocks: u64,
    pub(super) crashes: u64,
    pub(super) faults: u64,
    pub(super) corrections: u64,
    pub(super) booked: u64,
}

impl Tally {
    /// Adds what another run met.
    pub(super) const fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.blocks += other.blocks;
        self.crashes += other.crashes;
        self.faults += other.faults;
        self.corrections += other.corrections;
        self.booked += other.booked;
    }
}

/// See the module's documentation.
pub(super) struct World {
    pub(super) disk: Disk,
    pub(super) books: PathBuf,
    pub(super) connection: Connection,
    pub(super) clock: Clock,
    pub(super) policies: [Arc<Policy>; 2],
    pub(super) in_force: usize,
    pub(super) node: Node,
    pub(super) auditor: Auditor,
    pub(super) calls: Vec<InHand>,
    pub(super) jobs: Vec<Job>,
    pub(super) orders: Vec<super::auditor::Grant>,
    /// The frames that somebody waits for, each with its place.
    pub(super) awaited: Vec<(u64, Ticket)>,
    /// So many frames were said to be durable.
    pub(super) promised: u64,
    pub(super) named: u64,
    pub(super) tally: Tally,
    pub(super) log: Vec<String>,
}

impl World {
    /// A new one, with its books in `folder`.
    pub(super) fn new(folder: &Path) -> Result<Self, Violation> {
        let (disk, clock) = (Disk::default(), Clock::manual(Timestamp::from_ms(BEGIN_MS)));
        let (books, policies) = (folder.join("books"), node::policies());
        node::found_books(&books, &policies, clock.now());
        let (node, _, _) = Node::open(&disk, &books, &clock, &policies)?;
        let connection = Connection::open(&books).map_err(|error| error.to_string())?;
        Ok(Self {
            disk,
            books,
            connection,
            clock,
            policies,
            in_force: 0,
            node,
            auditor: Auditor::new(),
            calls: Vec::new(),
            jobs: Vec::new(),
            orders: Vec::new(),
            awaited: Vec::new(),
            promised: 0,
            named: 0,
            tally: Tally::default(),
            log: Vec::new(),
        })
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.now().ms()
    }

    pub(super) fn tell(&mut self, line: String) {
        let at = self.now() - BEGIN_MS;
        self.log.push(format!("{:>10} ms  {line}", at));
    }

    pub(super) fn name(&mut self) -> Id {
        self.named += 1;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&self.named.to_be_bytes());
        id
    }

    fn terms(&self, feature: Feature) -> Terms {
        let policy = Arc::clone(&self.policies[self.in_force]);
        let sora = feature == Feature::Sora;
        Terms {
            plan: policy.plan("plus").unwrap(),
            feature: policy.feature(feature.name()).unwrap(),
            model: if sora { "v" } else { "m" }.into(),
            tier: None,
            size: sora.then(|| "720x1280".into()),
            policy,
        }
    }

    fn blank(&self, user: usize, feature: Feature, estimate: Use, id: Id) -> Call {
        let now = self.now();
        Call {
            id,
            account: account_of(user),
            user,
            feature,
            rules: self.in_force,
            held_at: now,
            expires: now + LIFETIME_MS,
            sent: false,
            estimate,
            takes: Vec::new(),
            written: (estimate, Vec::new()),
            job: None,
            open: true,
            ended_at: 0,
            outcome: "",
            money: super::auditor::Money::default(),
            corrected: false,
        }
    }

    /// A user asks.
    pub(super) fn ask(&mut self, user: usize, feature: Feature, estimate: Use) -> Result<(), Violation> {
        let id = self.name();
        let call = self.blank(user, feature, estimate, id);
        let terms = self.terms(feature);
        let demand = terms.estimate(quantities(estimate)).unwrap();
        let lifetime = Span::from_ms(LIFETIME_MS.unsigned_abs());
        let decision = DecisionId::from_bytes(id);
        let ask = Ask { decision, user: user_id(user), terms, demand, lifetime };
        let issue = *GrantId::derived(&[b"issue", user_id(user).as_bytes(), b"launch"]).as_bytes();
        let verdict = self.auditor.verdict(call, issue, self.now());
        let answer = at_once(self.node.meter.hold(account_id(account_of(user)), ask.clone()));
        match (answer, verdict) {
            (Ok(meter::Verdict::Allow(held, ticket)), Verdict::Allow(call, issued)) => {
                let (found, expected) = (takes(&held.draws), &call.takes);
                if found != *expected {
                    return Err(format!("I3: {found:?} is held and not {expected:?}"));
                }
                self.tell(format!("user {user} asks {estimate:?} of {feature:?}: held {found:?}"));
                self.auditor.held(*call, issued);
                self.auditor.check_rate()?;
                self.calls.push(InHand { id, ask, stage: Stage::Waiting(ticket) });
                self.tally.calls += 1;
            }
            (Ok(meter::Verdict::Block(block)), verdict) => {
                let expected = match verdict {
                    _ if block.binding.as_deref() == Some("burst") => true,
                    Verdict::Places => block.reason == Reason::InFlightLimit,
                    Verdict::Lacking => block.reason != Reason::InFlightLimit,
                    Verdict::Allow(..) => false,
                };
                if !expected {
                    return Err(format!("I2, I3: {estimate:?} of user {user} is blocked: {block:?}"));
                }
                self.tell(format!("user {user} asks {estimate:?} of {feature:?}: {}", block.reason.as_str()));
                self.tally.blocks += 1;
            }
            (Err(MeterError::Journal(error)), _) => self.tell(format!("user {user} asks: {error}")),
            (answer, verdict) => {
                return Err(format!("I4: {answer:?} to {estimate:?} of user {user}, and not {verdict:?}"));
            }
        }
        Ok(())
    }

    /// What the writer has made durable is told to those who wait.
    pub(super) fn poll(&mut self) -> Result<(), Violation> {
        let mut calls = std::mem::take(&mut self.calls);
        let mut kept = Vec::new();
        for mut call in calls.drain(..) {
            if let Stage::Waiting(ticket) = &mut call.stage {
                match ready(ticket) {
                    None => {}
                    Some(true) => {
                        let account = account_id(account_of(self.auditor.state.calls[&call.id].user));
                        let sent = at_once(self.node.meter.dispatch(account, call.ask.decision));
                        if let Some(known) = self.auditor.state.calls.get_mut(&call.id) {
                            if sent.is_ok() != known.open {
                                return Err(format!("I9: a hold is open: {}", known.open));
                            }
                            known.sent = true;
                        }
                        call.stage = Stage::Sent;
                    }
                    Some(false) => {
                        self.tell("a hold is not durable".to_owned());
                        self.end(&call, Cause::NotSent, None, None, None)?;
                        continue;
                    }
                }
            }
            kept.push(call);
        }
        self.calls = kept;
        let mut promised = self.promised;
        self.awaited.retain_mut(|(place, ticket)| match ready(ticket) {
            Some(true) => {
                promised = promised.max(*place);
                false
            }
            Some(false) => false,
            None => true,
        });
        self.promised = promised;
        Ok(())
    }

    /// The gateway ends a call, as its settlement does; `worth` is what the upstream said, for the auditor.
    pub(super) fn end(
        &mut self,
        call: &InHand,
        cause: Cause,
        observed: Option<crate::observe::Observed>,
        status: Option<u16>,
        worth: Option<(Use, &'static str)>,
    ) -> Result<(), Violation> {
        let known = &self.auditor.state.calls[&call.id];
        let (account, open, estimate) = (known.account, known.open, known.estimate);
        let facts = Facts {
            terms: &call.ask.terms,
            estimate: &quantities(estimate),
            observed: observed.as_ref(),
            status,
            upstream: None,
        };
        let (used, ending) = facts.end(cause);
        let ended = at_once(self.node.meter.finish(account_id(account), call.ask.decision, used, ending));
        match ended {
            Ok((record, ticket)) if open => {
                let now = self.now();
                let outcome = worth.map_or("not-sent", |(_, outcome)| outcome);
                let money = self.auditor.ended(call.id, worth.map(|(used, _)| used), outcome, now);
                let same = charge_is(&record.charge, money);
                self.tell(format!("{} ends, {outcome}: {money:?}", hex::encode(&call.id[12..])));
                self.awaited.push((self.auditor.frames(), ticket));
                if same { Ok(()) } else { Err(format!("I6: {:?} and not {money:?}", record.charge)) }
            }
            Err(MeterError::NoSuchHold) if !open => Ok(()),
            other => Err(format!("I9: open: {open}, and its end: {other:?}")),
        }
    }

    /// What must hold after every step.
    pub(super) fn check(&self) -> Result<(), Violation> {
        let (next, frames) = (self.node.journal.stats().next.value(), self.auditor.frames());
        if next != frames {
            return Err(format!("I10: the journal was given {next} frames and not {frames}"));
        }
        let (holds, open) = (self.node.meter.stats().holds, self.open());
        if holds != open {
            return Err(format!("I9: {holds} holds are open and not {open}"));
        }
        for user in 0..USERS {
            for feature in [Feature::Codex, Feature::Sora] {
                self.check_standing(user, feature)?;
            }
        }
        Ok(())
    }

    pub(super) fn open(&self) -> u64 {
        self.auditor.state.calls.values().filter(|call| call.open).count() as u64
    }

    /// I2, I4, I5: what is left everywhere is what the facts leave.
    fn check_standing(&self, user: usize, feature: Feature) -> Result<(), Violation> {
        let (policy, now) = (&self.policies[self.in_force], self.now());
        let (plan, index) = (policy.plan("plus").unwrap(), policy.feature(feature.name()).unwrap());
        let account = account_of(user);
        let standing =
            at_once(self.node.meter.standing(account_id(account), user_id(user), policy, plan, index));
        let standing = standing.map_err(|error| format!("{error:?}"))?;
        let windows: Vec<u64> = standing.windows.iter().map(|window| window.left.get()).collect();
        let call = self.blank(user, feature, Use::default(), [0; 16]);
        let left = self.auditor.state.left(&call, now);
        if windows != left {
            return Err(format!("I2, I4: windows of user {user} have {windows:?} left and not {left:?}"));
        }
        let wallet = Owner { account, user: None };
        for found in standing.balances {
            let name = &policy[found.balance].name;
            let launch = &**name == "launch";
            let (owner, balance) = match launch {
                true => (Owner { account, user: Some(user) }, Balance::Launch),
                false => (wallet, Balance::Wallet),
            };
            let state = &self.auditor.state;
            let issued = state.grants.iter().any(|grant| grant.issued && grant.owner == owner);
            let offer = if launch && !issued { super::rules::RULES[self.in_force].launch } else { 0 };
            let expected = (state.available(owner, balance, now) + offer, state.debt(owner, balance));
            let found = (found.available.micros(), found.debt.micros());
            if found != expected {
                return Err(format!("I5, I12: {name} of user {user} has {found:?} and not {expected:?}"));
            }
        }
        Ok(())
    }

    /// Compares the books with what they must say.
    pub(super) fn check_books(&mut self) -> Result<Vec<u64>, Violation> {
        let heads = super::books::check(&self.connection, &self.auditor.state)?;
        self.tally.booked = heads.iter().sum();
        Ok(heads)
    }

    /// Everything but the disk and the books is gone.
    pub(super) fn crash(&mut self, cut: Cut) -> Result<(), Violation> {
        self.tally.crashes += 1;
        self.calls.clear();
        self.awaited.clear();
        self.disk = self.disk.after(cut);
        let (node, frames, recovered) = Node::open(&self.disk, &self.books, &self.clock, &self.policies)?;
        self.node = node;
        let known = self.auditor.frames();
        self.tell(format!(
            "the process dies, {cut:?}: {frames} of {known} frames, {} promised",
            self.promised
        ));
        if frames < self.promised || frames > known {
            return Err(format!("I10: {frames} frames are there; promised {}, given {known}", self.promised));
        }
        let now = self.now();
        let floored = self.auditor.crashed(frames);
        let jobs = self.open() - floored.len() as u64;
        if (recovered.floored, recovered.jobs) != (floored.len() as u64, jobs) {
            return Err(format!("I9, I10: {recovered:?}, and not {} and {jobs}", floored.len()));
        }
        self.auditor.floored(&floored, now);
        // What recovery found is durable.
        self.promised = frames;
        self.check_books().map(drop)
    }
}

/// What a ticket tells: nothing yet, or whether its frame is durable.
fn ready(ticket: &mut Ticket) -> Option<bool> {
    match Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(told) => Some(told.is_ok()),
        Poll::Pending => None,
    }
}

/// A use as the real code states it.
pub(super) fn quantities(used: Use) -> Quantities {
    Quantities {
        input_tokens: used.input,
        output_tokens: used.output,
        seconds: used.seconds,
        ..Quantities::default()
    }
}

pub(super) fn takes(draws: &[Draw]) -> Vec<Take> {
    let take = |draw: &Draw| Take {
        layer: usize::from(draw.layer),
        amount: draw.amount.get(),
        source: match &draw.origin {
            Origin::Windows(starts) => {
                super::auditor::Source::Windows(starts.iter().map(|start| start.ms()).collect())
            }
            Origin::Grant(grant) => super::auditor::Source::Grant(*grant.as_bytes()),
            Origin::Debt => super::auditor::Source::Debt,
        },
    };
    draws.iter().map(take).collect()
}

fn charge_is(charge: &Charge, money: super::auditor::Money) -> bool {
    let found = [charge.gross, charge.covered, charge.forgiven, charge.excess, charge.charged];
    let expected = [money.gross, money.covered, money.forgiven, money.excess, money.charged];
    found.map(crate::units::Credits::micros) == expected
}
