//! What there is at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use overfall::access::record::Record;
use overfall::access::{Account, Demand};
use overfall::audit::Invariant;
use overfall::units::{DecisionId, GrantId, OrderId};

use super::books::{Books, Kept, digest, order_of};

/// Everything there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// Ticks so far.
    pub now: u8,
    /// Which policy is in force.
    pub policy: u8,
    /// Live counts; none while their one node is down.
    pub meter: Option<Arc<Meter>>,
    pub gateways: Vec<Gateway>,
    pub calls: Vec<Call>,
    /// Shared: records on the stream, by their places.
    pub stream: BTreeSet<u64>,
    /// What each worker has read and not yet booked.
    pub workers: Vec<Option<Arc<Kept>>>,
    pub books: Arc<Books>,
    /// Every numbered record, in order: what has been decided. A crash of the one node takes from its end what was
    /// not durable and so was promised to nobody.
    pub log: Vec<Arc<Kept>>,
    pub left: Left,
    /// What a step broke that no state shows.
    pub broken: Option<Invariant>,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    pub crashes: u8,
    pub repeats: u8,
    pub reloads: u8,
    pub renewals: u8,
    pub extensions: u8,
}

/// The real account, and what the meter remembers beside it.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    pub account: Account,
    /// Grants that are on their way to the books.
    pub pending: BTreeSet<GrantId>,
    /// What sets calls and balances right, and is on its way to the books.
    pub ordered: BTreeSet<OrderId>,
    /// The newest revision of calls.
    pub revised: BTreeMap<DecisionId, u32>,
}

/// One gateway and its journal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gateway {
    pub up: bool,
    pub journal: Vec<Frame>,
    /// How many frames are known to be durable.
    pub durable: usize,
}

/// A frame of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Frame {
    pub kept: Arc<Kept>,
    /// Whether it opens a hold whose end has been let go of.
    pub closed: bool,
}

/// How far a request has come, as its client and the upstream see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    /// It has not been made.
    Idle,
    /// It was refused by the gateway.
    Blocked,
    /// It is held, and has not left.
    Held,
    /// It ended before it left, or its gateway died before.
    Unsent,
    /// It has reached the upstream, and runs.
    Sent,
    /// It runs in the background.
    Job,
    /// The upstream refused it; the client does not know.
    Refused,
    /// The client was told that the upstream refused it.
    Told,
    /// Its gateway has ended it.
    Ended,
    /// It had reached the upstream when its gateway died.
    Orphaned,
}

impl State {
    /// Changes the meter, where it is up.
    pub(crate) fn with_meter(&mut self, change: impl FnOnce(&mut Meter)) {
        if let Some(meter) = &mut self.meter {
            change(Arc::make_mut(meter));
        }
    }
}

impl Call {
    /// Whether it has reached the upstream.
    pub(crate) const fn was_sent(self) -> bool {
        matches!(self, Self::Sent | Self::Job | Self::Refused | Self::Told | Self::Ended | Self::Orphaned)
    }
}

impl Meter {
    pub(crate) fn new(account: Account) -> Self {
        Self { account, pending: BTreeSet::new(), ordered: BTreeSet::new(), revised: BTreeMap::new() }
    }

    /// Notes what is on its way to the books, by what makes it the same.
    pub(crate) fn note(&mut self, record: &Record) {
        self.ordered.extend(order_of(record));
        if let Some(revision) = record.revision() {
            self.revised.insert(revision.decision, revision.revision);
        }
    }

    /// All that is in it, in a fixed order.
    fn canonical(&self) -> u64 {
        let account = &self.account;
        let purses: Vec<_> = account
            .purses()
            .map(|(user, purse)| {
                let mut slots: Vec<_> = purse.counters.iter().copied().collect();
                slots.sort_unstable_by_key(|slot| slot.key);
                let balances: Vec<_> = purse
                    .balances()
                    .iter()
                    .map(|balance| (balance.key, balance.issued, balance.debt, balance.grants().to_vec()))
                    .collect();
                (user, slots, balances)
            })
            .collect();
        let mut holds: Vec<_> = account
            .holds()
            .map(|hold| {
                let Demand { whole, price, .. } = hold.demand;
                let at = (hold.held_at, hold.expires_at, hold.dispatched, hold.job.is_some());
                let by = (hold.terms.policy.version, whole, price);
                (hold.decision, at, by, hold.draws.clone(), hold.charges.clone())
            })
            .collect();
        holds.sort_unstable_by_key(|hold| hold.0);
        let all = (account.seq, purses, holds, &self.pending, &self.ordered, &self.revised);
        digest(&postcard::to_allocvec(&all).unwrap())
    }
}

impl PartialEq for Meter {
    fn eq(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }
}

impl Eq for Meter {}

impl Hash for Meter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
    }
}

impl Gateway {
    pub(crate) fn new() -> Self {
        Self { up: true, journal: Vec::new(), durable: 0 }
    }

    pub(crate) fn append(&mut self, kept: &Arc<Kept>) {
        self.journal.push(Frame { kept: Arc::clone(kept), closed: false });
    }

    /// Frames that are known to be durable.
    pub(crate) fn durable(&self) -> &[Frame] {
        &self.journal[..self.durable]
    }

    /// Whether the hold of a decision is durable.
    pub(crate) fn has_hold(&self, decision: DecisionId) -> bool {
        self.durable().iter().any(|frame| frame.opens() == Some(decision))
    }

    /// Whether the end of a decision is among frames.
    pub(crate) fn has_end(frames: &[Frame], decision: DecisionId) -> bool {
        frames.iter().any(|frame| frame.kept.end().is_some_and(|end| end.decision == decision))
    }

    /// Whether a numbered record is durable here.
    pub(crate) fn has_seq(&self, seq: u64) -> bool {
        self.durable().iter().any(|frame| frame.kept.seq == Some(seq))
    }
}

impl Frame {
    /// The hold that it opens, or keeps open.
    pub(crate) fn opens(&self) -> Option<DecisionId> {
        match &self.kept.record {
            Record::Hold(hold) => Some(hold.decision),
            Record::Job(job) => Some(job.decision),
            _ => None,
        }
    }
}
