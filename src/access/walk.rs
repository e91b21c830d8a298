//! The walk: how much of a demand can be drawn, and from where.
//!
//! Pure: it reads an account's state at an instant and proposes draws; nothing is taken. Guards come first and all
//! must pass, then layers in policy order. What a hold, an explanation, a clamp and the search for `next` ask is this
//! one function.

use smallvec::SmallVec;

use super::account::Account;
use super::balance::{BalanceState, GrantState, in_order, issuable};
use super::counter::{Holds, WindowState};
use super::demand::Demand;
use super::draw::{Draw, Draws, GuardCharge, GuardCharges, Origin, Starts, Taken};
use crate::policy::compiled::{
    BalanceIndex, Feature, FeatureIndex, Guard, GuardRule, Layer, PlanIndex, Policy, Scope, Source,
    Waterfall, Window, WindowLayer,
};
use crate::units::planted::{Bug, planted};
use crate::units::price::PriceOverflow;
use crate::units::{Amount, Credits, Timestamp, Unit, UserId};

/// Whose demand is walked, under which policy.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The policy that decides.
    pub policy: &'a Policy,
    /// The product that is asked for.
    pub feature: FeatureIndex,
    /// Its place in the plan of the account.
    pub plan: PlanIndex,
    /// Who asks.
    pub user: UserId,
    /// The account's state.
    pub account: &'a Account,
}

/// What a walk found.
#[derive(Debug)]
pub struct Walk {
    /// What each layer would give.
    pub draws: Draws,
    /// What balances have to give, drawn or lacking. Nothing where the waterfall has none.
    pub cost: Credits,
    /// The part of `cost` that they lack.
    pub lacking: Credits,
    /// What windows lack where no balance stands behind them, in the feature's unit. Its price is no measure of it: a
    /// limit holds for what is free, too.
    pub uncovered: Amount,
    /// Balances whose issue the draws need.
    pub issues: SmallVec<[BalanceIndex; 2]>,
}

/// What a hold has for a demand that has grown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reserved {
    /// All of the demand that is held, in the feature's unit.
    pub whole: Amount,
    /// What windows cover of it.
    pub covered: Amount,
    /// What balances give for it.
    pub paid: Credits,
}

/// The first guard that does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Its place in the waterfall.
    pub guard: usize,
    /// When it would pass with holds as they are: never, for one that waits for holds to end.
    pub passes_at: Option<Timestamp>,
    /// What is left under it: places, tokens, requests, or micro-credits.
    pub left: u64,
}

impl Walk {
    /// Whether all of the demand can be drawn.
    pub const fn is_covered(&self) -> bool {
        self.lacking.is_zero() && self.uncovered.is_zero()
    }
}

impl<'a> Subject<'a> {
    /// The feature's rules.
    pub fn feature(&self) -> &'a Feature {
        &self.policy[self.feature]
    }

    /// The waterfall, if the plan includes the feature.
    pub fn waterfall(&self) -> Option<&'a Waterfall> {
        self.policy[self.plan].waterfall(self.feature)
    }

    /// Walks the layers at `now`.
    pub fn walk(&self, demand: &Demand, now: Timestamp, holds: Holds) -> Result<Walk, PriceOverflow> {
        self.walk_beyond(demand, None, now, holds)
    }

    /// Walks the layers at `now` for what a demand needs beyond what is reserved for it.
    pub(super) fn walk_beyond(
        &self,
        demand: &Demand,
        reserved: Option<Reserved>,
        now: Timestamp,
        holds: Holds,
    ) -> Result<Walk, PriceOverflow> {
        let layers = self.waterfall().map_or(&[][..], |waterfall| &waterfall.layers);
        let fresh = reserved.is_none();
        let Reserved { whole, mut covered, paid } = reserved.unwrap_or_default();
        let mut rest = demand.whole.saturating_sub(whole);
        let mut walk = Walk {
            draws: Draws::new(),
            cost: Credits::ZERO,
            lacking: Credits::ZERO,
            uncovered: Amount::ZERO,
            issues: SmallVec::new(),
        };
        let balances = layers.partition_point(|layer| matches!(layer.source, Source::Window(_)));
        for (place, layer) in layers[..balances].iter().enumerate() {
            let Source::Window(window) = &layer.source else { continue };
            // A window of requests covers the whole of one; there is no covering what comes on top.
            let can_add = fresh || window.unit == self.feature().unit;
            if can_add && !rest.is_zero() {
                let draw = self.windows_draw(place, window, rest, now, holds);
                rest = rest.saturating_sub(draw.covers);
                covered = covered.saturating_add(draw.covers);
                walk.draws.extend((!draw.amount.is_zero()).then_some(draw));
            }
        }
        let rest = demand.whole.saturating_sub(covered);
        if balances == layers.len() {
            walk.uncovered = rest;
        } else if !rest.is_zero() {
            walk.cost = demand.price.ceil_share(rest, demand.whole)?.saturating_sub(paid);
            walk.lacking = walk.cost;
            for (place, layer) in layers.iter().enumerate().skip(balances) {
                self.balance_draws(place, layer, fresh, &mut walk, now, holds);
            }
        }
        Ok(walk)
    }

    /// What a layer of windows would give of `rest`: the least of what they have left, from each.
    pub(super) fn windows_draw(
        &self,
        place: usize,
        layer: &WindowLayer,
        rest: Amount,
        now: Timestamp,
        holds: Holds,
    ) -> Draw {
        let mut left = Amount::MAX;
        let mut starts = Starts::new();
        for window in &layer.windows {
            let state = self.window(layer.per, window, now);
            left = left.min(state.left(window.allow, holds));
            starts.push(state.instance.start);
        }
        if planted(Bug::WindowOffByOne) {
            left = left.saturating_add(Amount::clamped(1));
        }
        let (amount, covers) = share(layer, self.feature().unit, rest, left);
        Draw { layer: place_of(place), amount, covers, origin: Origin::Windows(starts) }
    }

    fn balance_draws(
        &self,
        place: usize,
        layer: &Layer,
        issues: bool,
        walk: &mut Walk,
        now: Timestamp,
        holds: Holds,
    ) {
        let Source::Balance(index) = layer.source else { return };
        let state = self.balance(index);
        let new = if issues { self.issuable(index, now) } else { None };
        let grants: &[GrantState] = state.map_or(&[], |state| state.grants());
        // Less than the sum of the grants while debt takes the first of what holds give back.
        let mut available = state
            .map_or(Credits::ZERO, |state| state.available(now, holds))
            .saturating_add(new.map_or(Credits::ZERO, |new| new.remaining));
        for grant in in_order(grants, new.as_ref()) {
            let part = walk.lacking.min(grant.available(now, holds)).min(available);
            if part.is_zero() {
                continue;
            }
            available = available.saturating_sub(part);
            if new.is_some_and(|new| new.id == grant.id) {
                walk.issues.push(index);
            }
            walk.lacking = walk.lacking.saturating_sub(part);
            let amount = Amount::clamped(part.micros());
            let origin = Origin::Grant(grant.id);
            walk.draws.push(Draw { layer: place_of(place), amount, covers: amount, origin });
        }
    }

    /// What the subject has of a balance, if anything was ever granted.
    pub(super) fn balance(&self, index: BalanceIndex) -> Option<&'a BalanceState> {
        let balance = &self.policy[index];
        self.account.purse(balance.per, self.user)?.balance(balance.key)
    }

    /// The grant that policy would issue of a balance at `now`, where it has not done so yet.
    pub(super) fn issuable(&self, index: BalanceIndex, now: Timestamp) -> Option<GrantState> {
        let balance = &self.policy[index];
        let owner = self.account.owner_bytes(balance.per, &self.user);
        issuable(balance, self.balance(index), &owner, now)
    }

    /// Whether every guard passes a demand of which balances have to give `cost`; if so, what each is charged.
    pub fn guards(&self, demand: &Demand, cost: Credits, now: Timestamp) -> Result<GuardCharges, Stopped> {
        let guards = self.waterfall().map_or(&[][..], |waterfall| &waterfall.guards);
        let mut charges = GuardCharges::new();
        for (place, guard) in guards.iter().enumerate() {
            let taken = self.guard(place, guard, demand, cost, now)?;
            charges.push(GuardCharge { guard: place_of(place), taken });
        }
        Ok(charges)
    }

    /// Whether one guard passes.
    pub(super) fn guard(
        &self,
        place: usize,
        guard: &Guard,
        demand: &Demand,
        cost: Credits,
        now: Timestamp,
    ) -> Result<Taken, Stopped> {
        let purse = self.account.purse(guard.per, self.user);
        let slot = purse.and_then(|purse| purse.counters.slot(guard.key));
        match &guard.rule {
            GuardRule::Rate(rate) => {
                let charge = rate.charge(demand.counted_in(rate.unit));
                let level = rate.level(slot, now);
                let at = rate.fits_at(level, charge, now);
                let stopped = || Stopped { guard: place, passes_at: Some(at), left: rate.left(level) };
                if at <= now { Ok(Taken::Bucket(charge)) } else { Err(stopped()) }
            }
            GuardRule::Concurrent { limit } => {
                let taken = slot.map_or(0, |slot| slot.used);
                let stopped = Stopped { guard: place, passes_at: None, left: 0 };
                if taken < *limit { Ok(Taken::Place) } else { Err(stopped) }
            }
            GuardRule::Spend { window } => {
                let state = self.window(guard.per, window, now);
                let holds = if planted(Bug::CapOverlooksHolds) { Holds::Ignore } else { Holds::Count };
                let left = state.left(window.allow, holds);
                let amount = Amount::clamped(cost.micros());
                if amount <= left {
                    return Ok(Taken::Spend(amount, state.instance.start));
                }
                let by_clock = window.allow.is_some_and(|allow| amount <= allow);
                let passes_at = by_clock.then_some(state.instance.end);
                Err(Stopped { guard: place, passes_at, left: left.get() })
            }
        }
    }

    /// What a window of the subject stands at.
    pub fn window(&self, scope: Scope, window: &Window, now: Timestamp) -> WindowState {
        self.account.window(scope, self.user, window, now)
    }
}

/// What a layer with `left` in each of its windows takes, in its unit, and how much of `rest` that covers.
pub(super) fn share(layer: &WindowLayer, unit: Unit, rest: Amount, left: Amount) -> (Amount, Amount) {
    if layer.unit == unit {
        let part = rest.min(left);
        (part, part)
    } else if left.is_zero() || rest.is_zero() {
        (Amount::ZERO, Amount::ZERO)
    } else {
        // A window of requests covers the request whole, or not at all.
        (Amount::clamped(1), rest)
    }
}

/// A place as draws and charges name it.
pub(super) fn place_of(place: usize) -> u16 {
    u16::try_from(place).unwrap_or(u16::MAX)
}
