//! What a node may give while the store is away, where policy says so: up to a number of credits for each account in one
//! outage, by at most so many nodes. So the most that an account can overspend is known beforehand.
//!
//! What it gives is held by nobody but the node's journal. As soon as the store is back it is held there, and ends as every
//! call does, by what there is then. Only when the store has taken in all that this node gave does an outage end for it,
//! so a store that comes and goes does not give it anew. A node that starts while the store is away does not serve.
//!
//! Calls are counted by what they are estimated to cost; as always, what a call uses beyond its estimate is owed or
//! forgiven as policy says.

use std::sync::Mutex;

use crate::access::draw::Draws;
use crate::access::record::HoldRecord;
use crate::access::{Ask, Hold, Terms};
use crate::meter::lock;
use crate::units::{AccountId, Credits, DecisionId, IdMap, Timestamp};

/// What nodes may give while the store is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// What one node may give one account in one outage.
    pub per_account: Credits,
    /// How many nodes may.
    pub max_nodes: u64,
}

impl Allowance {
    /// The most that all nodes together may give an account, in micro-credits, for whoever looks.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is for looking at, and exact below 2^53")]
    pub(super) const fn most_micros(self) -> f64 {
        self.per_account.micros().saturating_mul(self.max_nodes) as f64
    }
}

/// A call that was let through without the store.
#[derive(Clone, Debug)]
pub(super) struct Lent {
    pub(super) hold: HoldRecord,
    pub(super) terms: Terms,
}

/// What this node gives.
pub(super) struct Degraded {
    pub(super) allowance: Option<Allowance>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    has_slot: bool,
    given: IdMap<AccountId, Credits>,
    lent: IdMap<DecisionId, Lent>,
}

impl Degraded {
    pub(super) fn new(allowance: Option<Allowance>) -> Self {
        Self { allowance, state: Mutex::default() }
    }

    /// Notes whether this node is one of those that may.
    pub(super) fn set_slot(&self, has_slot: bool) {
        lock(&self.state).has_slot = has_slot;
    }

    pub(super) fn has_slot(&self) -> bool {
        lock(&self.state).has_slot
    }

    /// Lets a call through, if so much may still be given.
    pub(super) fn give(&self, account: AccountId, ask: &Ask, now: Timestamp) -> Option<HoldRecord> {
        let most = self.allowance?.per_account;
        let mut state = lock(&self.state);
        let given = state.given.get(&account).copied().unwrap_or(Credits::ZERO);
        let sum = given.checked_add(ask.demand.price.ceil().ok()?)?;
        if !state.has_slot || sum > most {
            return None;
        }
        let hold = Hold {
            decision: ask.decision,
            user: ask.user,
            terms: ask.terms.clone(),
            demand: ask.demand.clone(),
            draws: Draws::new(),
            charges: smallvec::SmallVec::new(),
            held_at: now,
            expires_at: now.plus(ask.lifetime),
            dispatched: true,
            job: None,
        };
        let record = hold.record(account);
        state.given.insert(account, sum);
        state.lent.insert(ask.decision, Lent { hold: record.clone(), terms: ask.terms.clone() });
        Some(record)
    }

    /// A call that the store has not taken in yet.
    pub(super) fn lent(&self, decision: DecisionId) -> Option<Lent> {
        self.allowance?;
        lock(&self.state).lent.get(&decision).cloned()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Lent> {
        lock(&self.state).lent.values().cloned().collect()
    }

    /// Notes that the store has taken one in.
    pub(super) fn taken_in(&self, decision: DecisionId) {
        if self.allowance.is_some() {
            lock(&self.state).lent.remove(&decision);
        }
    }

    /// The store answers: if it has taken in everything, the outage is over.
    pub(super) fn end_outage(&self) {
        let mut state = lock(&self.state);
        if state.lent.is_empty() {
            state.given.clear();
        }
    }
}
