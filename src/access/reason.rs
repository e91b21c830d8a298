//! Why a request is blocked, and when the very same request would pass.
//!
//! The order is definitive: not-in-plan, unpriced, never-fits, the first failing guard, then the waterfall (held in
//! flight; else a finite next time; else exhausted).

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::counter::Holds;
use super::decide::Failure;
use super::demand::Demand;
use super::walk::{Stopped, Subject, Walk};
use crate::policy::compiled::{BalanceIndex, Guard, GuardRule, Name, Rate, Scope, Source, Waterfall, Window};
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

/// A demand that does not pass, and all that its explanation needs.
pub(super) struct Question<'a> {
    /// Whose demand, under which policy.
    pub subject: Subject<'a>,
    /// The rules that did not let it pass.
    pub waterfall: &'a Waterfall,
    /// The demand.
    pub estimate: &'a Demand,
    /// The least that policy cuts it down to.
    pub least: Option<&'a Demand>,
    /// When it was asked.
    pub now: Timestamp,
}

impl Question<'_> {
    /// Tells a failure in the order above.
    pub(super) fn explain(&self, failure: &Failure) -> Block {
        match failure {
            Failure::Overflow => Block::because(Reason::NeverFits),
            Failure::Guard(stopped) => self.stopped(*stopped),
            Failure::Lacking { cost, lacking } => self.lacking(*cost, *lacking),
        }
    }

    fn lacking(&self, cost: Credits, lacking: Credits) -> Block {
        let has_balance =
            self.waterfall.layers.iter().any(|layer| matches!(layer.source, Source::Balance(_)));
        let money = has_balance.then(|| (cost, cost.saturating_sub(lacking)));
        let (need, have) = money.unzip();
        let block = Block { need, have, ..Block::because(Reason::HeldInFlight) };
        let binding = self.binding_layer();
        if self.without_holds(Walk::is_covered) {
            return Block { binding, ..block };
        }
        match self.next() {
            Some(at) => Block { reason: Reason::LimitReached, next: Some(at), binding, ..block },
            None if !has_balance => Block::because(Reason::NeverFits),
            None => Block { reason: Reason::CreditsExhausted, ..block },
        }
    }

    /// A spend cap that only holds stand in the way of is told as such: their end heals it before the clock does. A
    /// rate heals by its own time where other things stand in the way of the demand for good.
    fn stopped(&self, stopped: Stopped) -> Block {
        let guard = &self.waterfall.guards[stopped.guard];
        let next = || self.next().or(stopped.passes_at);
        let binding = Some(guard.name.clone());
        match &guard.rule {
            GuardRule::Rate(_) => Block { binding, next: next(), ..Block::because(Reason::LimitReached) },
            GuardRule::Concurrent { .. } => Block { binding, ..Block::because(Reason::InFlightLimit) },
            GuardRule::Spend { window } => {
                let walk = self.subject.walk(self.estimate, self.now, Holds::Count);
                let need = walk.map_or(Credits::MAX, |walk| walk.cost);
                let have = Credits::from_micros(stopped.left);
                let state = self.subject.window(guard.per, window, self.now);
                let left = state.left(window.allow, Holds::Ignore);
                let in_flight = self.without_holds(|walk| walk.cost.micros() <= left.get());
                let (reason, next) =
                    if in_flight { (Reason::HeldInFlight, None) } else { (Reason::SpendCapReached, next()) };
                Block { reason, binding, next, need: Some(need), have }
            }
        }
    }

    /// Whether the demand, or the least of it, would walk so if all open holds of the account were voided.
    fn without_holds(&self, passes: impl Fn(&Walk) -> bool) -> bool {
        let walk = |demand| self.subject.walk(demand, self.now, Holds::Ignore);
        std::iter::once(self.estimate)
            .chain(self.least)
            .any(|demand| walk(demand).is_ok_and(|walk| passes(&walk)))
    }

    /// The first window layer with nothing left, else the last layer.
    fn binding_layer(&self) -> Option<Name> {
        let layers = &self.waterfall.layers;
        let spent = layers.iter().find(|layer| match &layer.source {
            Source::Window(windows) => windows.windows.iter().any(|window| {
                let state = self.subject.window(windows.per, window, self.now);
                state.left(window.allow, Holds::Count).is_zero()
            }),
            Source::Balance(_) => false,
        });
        spent.or(layers.last()).map(|layer| layer.name.clone())
    }

    /// The first instant after now at which the demand is let through, cut down if need be.
    ///
    /// What can pass changes for the better only at the ends of open windows, when a bucket has drained far enough,
    /// and when an issue begins; so those instants are tried, in order.
    fn next(&self) -> Option<Timestamp> {
        let mut instants: SmallVec<[Timestamp; 8]> = SmallVec::new();
        for guard in &self.waterfall.guards {
            match &guard.rule {
                GuardRule::Rate(rate) => instants.extend(self.fitting(guard, rate)),
                GuardRule::Concurrent { .. } => {}
                GuardRule::Spend { window } => instants.extend(self.end_of(guard.per, window)),
            }
        }
        for layer in &self.waterfall.layers {
            match &layer.source {
                Source::Window(windows) => {
                    let ends = windows.windows.iter().filter_map(|window| self.end_of(windows.per, window));
                    instants.extend(ends);
                }
                Source::Balance(index) => instants.extend(self.issue_start(*index)),
            }
        }
        instants.sort_unstable();
        let mut later = instants.into_iter().filter(|at| *at > self.now);
        later.find(|at| self.subject.admits(self.waterfall, self.estimate, self.least, *at))
    }

    /// When a bucket has room for the demand, and for the least of it.
    fn fitting(&self, guard: &Guard, rate: &Rate) -> impl Iterator<Item = Timestamp> {
        let purse = self.subject.account.purse(guard.per, self.subject.user);
        let level = rate.level(purse.and_then(|purse| purse.counters.slot(guard.key)), self.now);
        let demands = std::iter::once(self.estimate).chain(self.least);
        demands.map(move |demand| rate.fits_at(level, rate.charge(demand.counted_in(rate.unit)), self.now))
    }

    fn end_of(&self, scope: Scope, window: &Window) -> Option<Timestamp> {
        let state = self.subject.window(scope, window, self.now);
        state.is_open().then_some(state.instance.end)
    }

    fn issue_start(&self, index: BalanceIndex) -> Option<Timestamp> {
        let balance = &self.subject.policy[index];
        balance.issue?.from.filter(|from| self.subject.issuable(index, *from).is_some())
    }
}
