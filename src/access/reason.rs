//! Why a request is blocked, and when the very same request would pass.
//!
//! The order is definitive: not-in-plan, unpriced, never-fits, the first failing guard, then the waterfall (held in
//! flight; else a finite next time; else exhausted).

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::balance::issuable;
use super::counter::Holds;
use super::decide::Failure;
use super::demand::Demand;
use super::walk::{Stopped, Subject};
use crate::policy::compiled::{GuardRule, Name, Source, Waterfall, Window};
use crate::units::{Credits, Timestamp};

/// Why a decision was a block. The words are stable: headers, books and metrics carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The plan does not include the feature.
    NotInPlan,
    /// No price fits the model.
    UnpricedModel,
    /// Larger than everything that windows give, with no balance behind them.
    NeverFits,
    /// A window or a rate; time heals it.
    LimitReached,
    /// Too many requests at the same time.
    InFlightLimit,
    /// A cap on spending.
    SpendCapReached,
    /// Only what requests in flight have reserved stands in the way.
    HeldInFlight,
    /// Balances are too low, and no time is known at which they are not.
    CreditsExhausted,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::NotInPlan,
        Self::UnpricedModel,
        Self::NeverFits,
        Self::LimitReached,
        Self::InFlightLimit,
        Self::SpendCapReached,
        Self::HeldInFlight,
        Self::CreditsExhausted,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotInPlan => "not-in-plan",
            Self::UnpricedModel => "unpriced-model",
            Self::NeverFits => "never-fits",
            Self::LimitReached => "limit-reached",
            Self::InFlightLimit => "in-flight-limit",
            Self::SpendCapReached => "spend-cap-reached",
            Self::HeldInFlight => "held-in-flight",
            Self::CreditsExhausted => "credits-exhausted",
        }
    }
}

/// A block: why, since what, until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Why.
    pub reason: Reason,
    /// The guard or layer that binds.
    pub binding: Option<Name>,
    /// The first instant at which the same request passes, with holds as they are and no other traffic.
    pub next: Option<Timestamp>,
    /// What balances would have to give, where there are any.
    pub need: Option<Credits>,
    /// What they have.
    pub have: Option<Credits>,
}

impl Block {
    /// A block that neither time nor money heals.
    pub const fn because(reason: Reason) -> Self {
        Self { reason, binding: None, next: None, need: None, have: None }
    }
}

/// Tells a failure in the order above.
pub(super) fn explain(
    subject: &Subject<'_>,
    waterfall: &Waterfall,
    demand: &Demand,
    failure: &Failure,
    now: Timestamp,
) -> Block {
    match failure {
        Failure::Overflow => Block::because(Reason::NeverFits),
        Failure::Guard(stopped) => guard(subject, waterfall, demand, *stopped, now),
        Failure::Lacking(walk) => {
            let money = has_balance(waterfall).then(|| (walk.cost, walk.cost.saturating_sub(walk.lacking)));
            let (need, have) = money.unzip();
            let block = Block { need, have, ..Block::because(Reason::HeldInFlight) };
            let binding = binding_layer(subject, waterfall, now);
            let without_holds = subject.walk(demand, now, Holds::Ignore);
            if without_holds.is_ok_and(|walk| walk.is_covered()) {
                return Block { binding, ..block };
            }
            match next(subject, waterfall, demand, now) {
                Some(at) => Block { reason: Reason::LimitReached, next: Some(at), binding, ..block },
                None if !has_balance(waterfall) => Block::because(Reason::NeverFits),
                None => Block { reason: Reason::CreditsExhausted, ..block },
            }
        }
    }
}

fn guard(
    subject: &Subject<'_>,
    waterfall: &Waterfall,
    demand: &Demand,
    stopped: Stopped,
    now: Timestamp,
) -> Block {
    let guard = &waterfall.guards[stopped.guard];
    let at = || next(subject, waterfall, demand, now).or(stopped.passes_at);
    let binding = Some(guard.name.clone());
    match &guard.rule {
        GuardRule::Rate(_) => Block { binding, next: at(), ..Block::because(Reason::LimitReached) },
        GuardRule::Concurrent { .. } => Block { binding, ..Block::because(Reason::InFlightLimit) },
        GuardRule::Spend { window } => {
            let need = subject.walk(demand, now, Holds::Count).map(|walk| walk.cost).unwrap_or(Credits::MAX);
            let have = Credits::from_micros(stopped.left);
            let without_holds = subject.window(guard.per, window, now).left(window.allow, Holds::Ignore);
            let in_flight = need.micros() <= without_holds.get();
            let reason = if in_flight { Reason::HeldInFlight } else { Reason::SpendCapReached };
            let next = if in_flight { None } else { at() };
            Block { reason, binding, next, need: Some(need), have }
        }
    }
}

fn has_balance(waterfall: &Waterfall) -> bool {
    waterfall.layers.iter().any(|layer| matches!(layer.source, Source::Balance(_)))
}

/// The first window layer with nothing left, else the last layer.
fn binding_layer(subject: &Subject<'_>, waterfall: &Waterfall, now: Timestamp) -> Option<Name> {
    let spent = waterfall.layers.iter().find(|layer| match &layer.source {
        Source::Window(windows) => windows.windows.iter().any(|window| {
            subject.window(windows.per, window, now).left(window.allow, Holds::Count).is_zero()
        }),
        Source::Balance(_) => false,
    });
    spent.or(waterfall.layers.last()).map(|layer| layer.name.clone())
}

/// The first instant after `now` at which the demand passes.
///
/// What can pass changes for the better only at the ends of open windows, when a bucket has drained far enough, and
/// when an issue begins; so those instants are tried, in order.
fn next(subject: &Subject<'_>, waterfall: &Waterfall, demand: &Demand, now: Timestamp) -> Option<Timestamp> {
    let mut instants: SmallVec<[Timestamp; 8]> = SmallVec::new();
    for guard in &waterfall.guards {
        let slot =
            subject.account.purse(guard.per, subject.user).and_then(|purse| purse.counters.slot(guard.key));
        match &guard.rule {
            GuardRule::Rate(rate) => {
                let charge = rate.charge(demand.counted_in(rate.unit));
                instants.push(rate.fits_at(rate.level(slot, now), charge, now));
            }
            GuardRule::Concurrent { .. } => {}
            GuardRule::Spend { window } => instants.extend(end_of(subject, guard.per, window, now)),
        }
    }
    for layer in &waterfall.layers {
        match &layer.source {
            Source::Window(windows) => {
                instants.extend(
                    windows.windows.iter().filter_map(|window| end_of(subject, windows.per, window, now)),
                );
            }
            Source::Balance(index) => {
                let balance = &subject.policy[*index];
                let purse = subject.account.purse(balance.per, subject.user);
                let state = purse.and_then(|purse| purse.balance(balance.key));
                let owner = subject.account.owner_bytes(balance.per, &subject.user);
                let begins = balance.issue.and_then(|issue| issue.from);
                instants.extend(begins.filter(|from| issuable(balance, state, &owner, *from).is_some()));
            }
        }
    }
    instants.sort_unstable();
    instants.into_iter().find(|at| *at > now && subject.passes(demand, *at).is_ok())
}

fn end_of(
    subject: &Subject<'_>,
    scope: crate::policy::compiled::Scope,
    window: &Window,
    now: Timestamp,
) -> Option<Timestamp> {
    let state = subject.window(scope, window, now);
    state.is_open().then_some(state.instance.end)
}
