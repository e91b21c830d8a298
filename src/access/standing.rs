//! Standing: what is left of everything that a feature's waterfall asks, at one instant.
//!
//! Headers of answers, `GET /v1/access` and explanations show the same values from here.

use smallvec::SmallVec;

use super::account::Account;
use super::balance::{GrantState, issuable};
use super::counter::{Counters, Holds, WindowState};
use super::walk::place_of;
use crate::policy::compiled::{
    BalanceIndex, FeatureIndex, GuardRule, Period, PlanIndex, Policy, Scope, Source, Waterfall, Window,
};
use crate::units::{Amount, Credits, Timestamp, UserId};

/// What is left everywhere. A plan with up to four of each fits without allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// By layer, then by window.
    pub windows: SmallVec<[WindowStanding; 4]>,
    /// In the waterfall's order.
    pub guards: SmallVec<[GuardStanding; 4]>,
    /// By layer.
    pub balances: SmallVec<[BalanceStanding; 2]>,
}

/// What is left of one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowStanding {
    /// The layer's place in the waterfall.
    pub layer: u16,
    /// The window's place in the layer.
    pub window: u16,
    /// What it gives each time; `None` is unlimited.
    pub allow: Option<Amount>,
    /// What new requests can take of it.
    pub left: Amount,
    /// When it refills; `None` while it is not open.
    pub resets_at: Option<Timestamp>,
    /// How long an instance is, in milliseconds.
    pub length_ms: u64,
}

/// What is left under one guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardStanding {
    /// The guard's place in the waterfall.
    pub guard: u16,
    /// The most it lets through at once: the burst, the places, or micro-credits.
    pub limit: u64,
    /// What is left of that.
    pub left: u64,
    /// When all of it is back, if the clock alone brings it back.
    pub full_at: Option<Timestamp>,
}

/// What is left of one balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceStanding {
    /// The layer's place in the waterfall.
    pub layer: u16,
    /// Which balance.
    pub balance: BalanceIndex,
    /// What new requests can take of it, an issue that is still to come included.
    pub available: Credits,
    /// What it owes.
    pub debt: Credits,
    /// When the first of it expires.
    pub expires_at: Option<Timestamp>,
}

impl Account {
    /// What is left for a user in a feature.
    pub fn standing(
        &self,
        policy: &Policy,
        plan: PlanIndex,
        feature: FeatureIndex,
        user: UserId,
        now: Timestamp,
    ) -> Standing {
        let mut standing = Standing::default();
        let Some(waterfall) = policy[plan].waterfall(feature) else { return standing };
        self.guards_standing(waterfall, user, now, &mut standing);
        for (place, layer) in waterfall.layers.iter().enumerate() {
            let place = place_of(place);
            match &layer.source {
                Source::Window(windows) => {
                    for (index, window) in windows.windows.iter().enumerate() {
                        let state = self.window(windows.per, user, window, now);
                        let (start, end) = (state.instance.start, state.instance.end);
                        let fixed = matches!(window.period, Period::Calendar(..));
                        standing.windows.push(WindowStanding {
                            layer: place,
                            window: place_of(index),
                            allow: window.allow,
                            left: state.left(window.allow, Holds::Count),
                            resets_at: (fixed || state.is_open()).then_some(end),
                            length_ms: end.since(start).ms(),
                        });
                    }
                }
                Source::Balance(index) => {
                    standing.balances.push(self.balance_standing(policy, place, *index, user, now));
                }
            }
        }
        standing
    }

    fn guards_standing(&self, waterfall: &Waterfall, user: UserId, now: Timestamp, standing: &mut Standing) {
        for (place, guard) in waterfall.guards.iter().enumerate() {
            let slot = self.purse(guard.per, user).and_then(|purse| purse.counters.slot(guard.key));
            let (limit, left, full_at) = match &guard.rule {
                GuardRule::Rate(rate) => {
                    let level = rate.level(slot, now);
                    (rate.burst, rate.left(level), Some(rate.fits_at(level, rate.burst, now)))
                }
                GuardRule::Concurrent { limit } => {
                    (*limit, limit.saturating_sub(slot.map_or(0, |slot| slot.used)), None)
                }
                GuardRule::Spend { window } => {
                    let state = self.window(guard.per, user, window, now);
                    let left = state.left(window.allow, Holds::Count).get();
                    let full_at = if state.is_open() { state.instance.end } else { now };
                    (window.allow.unwrap_or(Amount::MAX).get(), left, Some(full_at))
                }
            };
            standing.guards.push(GuardStanding { guard: place_of(place), limit, left, full_at });
        }
    }

    fn balance_standing(
        &self,
        policy: &Policy,
        layer: u16,
        index: BalanceIndex,
        user: UserId,
        now: Timestamp,
    ) -> BalanceStanding {
        let balance = &policy[index];
        let state = self.purse(balance.per, user).and_then(|purse| purse.balance(balance.key));
        let owner = self.owner_bytes(balance.per, &user);
        let new = issuable(balance, state, &owner, now).map_or(Credits::ZERO, |grant| grant.remaining);
        let grants = state.map_or(&[][..], |state| state.grants());
        let live = grants.iter().filter(|grant| !grant.available(now, Holds::Count).is_zero());
        BalanceStanding {
            layer,
            balance: index,
            available: state
                .map_or(Credits::ZERO, |state| state.available(now, Holds::Count))
                .saturating_add(new),
            debt: state.map_or(Credits::ZERO, |state| state.debt),
            expires_at: live.filter_map(GrantState::expiry).min(),
        }
    }

    /// What a window stands at for a user.
    pub fn window(&self, scope: Scope, user: UserId, window: &Window, now: Timestamp) -> WindowState {
        static NONE: Counters = Counters::new();
        self.purse(scope, user).map_or(&NONE, |purse| &purse.counters).window(window, now)
    }
}
