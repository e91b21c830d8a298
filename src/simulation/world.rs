//! The world: a node, its disk and its clock, the gateway's calls, and the auditor who looks at everything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rusqlite::Connection;

use super::auditor::{Auditor, Id, Take, Use, Violation};
use super::node::{self, Node, account_id, account_of, at_once};
use crate::access::Ask;
use crate::access::draw::{Draw, Origin};
use crate::access::record::Charge;
use crate::journal::Ticket;
use crate::journal::tests::disk::Disk;
use crate::meter::{Meter, MeterError};
use crate::observe::finish::{Cause, Facts};
use crate::policy::compiled::Policy;
use crate::units::time::Clock;
use crate::units::{Quantities, Timestamp};

mod ask;
mod check;
mod crash;

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
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// What happened, by its name.
    pub(super) met: BTreeMap<&'static str, u64>,
    /// What went wrong on purpose, by its name.
    pub(super) faults: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Adds what another run met.
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, more) in [(&mut self.met, &other.met), (&mut self.faults, &other.faults)] {
            for (what, count) in more {
                *mine.entry(what).or_default() += count;
            }
        }
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    pub(super) fn fault(&mut self, what: &'static str) {
        *self.faults.entry(what).or_default() += 1;
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
    /// Refunds and adjustments.
    pub(super) ordered: Vec<super::act::Order>,
    /// The frames that somebody waits for, each with its place.
    pub(super) awaited: Vec<(u64, Ticket)>,
    /// So many frames survive a power cut.
    pub(super) promised: u64,
    /// Whether frames count as durable before they are synced.
    pub(super) relaxed: bool,
    /// Relaxed: so many frames survive the process.
    pub(super) spared: u64,
    /// Relaxed: when the disk, which was well, had so many.
    pub(super) written: Vec<(i64, u64)>,
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
        let (node, _, _) = Node::open(&disk, &books, &clock, &policies, false)?;
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
            ordered: Vec::new(),
            awaited: Vec::new(),
            promised: 0,
            relaxed: false,
            spared: 0,
            written: Vec::new(),
            named: 0,
            tally: Tally::default(),
            log: Vec::new(),
        })
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.now().ms()
    }

    pub(super) fn tell(&mut self, line: &str) {
        let at = self.now() - BEGIN_MS;
        self.log.push(format!("{at:>10} ms  {line}"));
    }

    pub(super) fn name(&mut self) -> Id {
        self.named += 1;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&self.named.to_be_bytes());
        id
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
                        self.tell("a hold is not durable");
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
            Some(true) if self.relaxed => false,
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
        observed: Option<&crate::observe::Observed>,
        status: Option<u16>,
        worth: Option<(Use, &'static str)>,
    ) -> Result<(), Violation> {
        let known = &self.auditor.state.calls[&call.id];
        let (account, open, estimate) = (known.account, known.open, known.estimate);
        let facts = Facts {
            terms: &call.ask.terms,
            estimate: &quantities(estimate),
            observed,
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
                self.tell(&format!("{} ends, {outcome}: {money:?}", hex::encode(&call.id[12..])));
                self.awaited.push((self.auditor.frames(), ticket));
                if same { Ok(()) } else { Err(format!("I6: {:?} and not {money:?}", record.charge)) }
            }
            Err(MeterError::NoSuchHold) if !open => Ok(()),
            other => Err(format!("I9: open: {open}, and its end: {other:?}")),
        }
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

pub(super) fn charge_is(charge: &Charge, money: super::auditor::Money) -> bool {
    let found = [charge.gross, charge.covered, charge.forgiven, charge.excess, charge.charged];
    let expected = [money.gross, money.covered, money.forgiven, money.excess, money.charged];
    found.map(crate::units::Credits::micros) == expected
}
