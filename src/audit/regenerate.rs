//! I11: the money of a call, computed anew from what its usage event says and the policy that it names.
//!
//! Prices, what windows cover, what is forgiven, owed and charged, and the balance updates of it: all follow from the
//! quantities and the recorded draws from windows and grants. Those draws themselves do not, since they depended on
//! what else was in flight; they are checked to be admissible: of this waterfall, in its order, from windows and
//! balances that are its own, no more than each may give and no more than was needed.
//!
//! Pure. What the account stood at before ([`Before`]) is the caller's to know, and is asked for only where something
//! could be drawn nowhere ([`Weighed::shortage`]).

use std::sync::Arc;

use smallvec::SmallVec;

use crate::access::Demand;
use crate::access::record::{Charge, DrawEntry, OriginEntry, Outcome};
use crate::access::terms::priced;
use crate::policy::compiled::{
    BalanceIndex, CalendarUnit, CounterKey, Feature, Instance, Layer, Name, Period, Policy, Scope, Source,
    Waterfall, Window, WindowLayer,
};
use crate::units::{Amount, Credits, GrantId, Quantities, Timestamp, Unit};

/// What a usage event, or the revision that corrects it, says that its money depends on.
#[derive(Clone, Copy, Debug)]
pub struct Usage<'a> {
    /// The account's plan then.
    pub plan: &'a str,
    /// The product.
    pub feature: &'a str,
    /// The feature's unit.
    pub unit: Unit,
    /// The model as the request named it.
    pub model: &'a str,
    /// The size of the video.
    pub size: Option<&'a str>,
    /// The tier that it was priced in.
    pub tier: Option<&'a str>,
    /// What became of the call.
    pub outcome: Outcome,
    /// What was used.
    pub quantities: &'a Quantities,
    /// When it was held.
    pub held_at: Timestamp,
    /// When it ended, or was corrected.
    pub ended_at: Timestamp,
    /// Where the truth was drawn from.
    pub draws: &'a [DrawEntry],
}

/// What the account stood at before the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// What it has been forgiven of this feature in the UTC month of the end, excess left out, in micro-credits.
    pub forgiven: u64,
    /// What it owes on the balance that would owe.
    pub debt: Credits,
    /// What operators have given back of the call; nothing of one that was not corrected.
    pub refunded: Credits,
    /// Of a call that was priced anew, what else was forgiven before: balances give and owe for it only what they did.
    pub kept_forgiven: Credits,
    /// What it was charged before that.
    pub kept_charged: Credits,
}

/// Why a usage event cannot have come about under its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inadmissible {
    /// The policy has no such plan or feature, or the plan leaves it out.
    #[error("a plan and feature of the policy")]
    NoWaterfall,
    /// The unit is not the feature's.
    #[error("the unit of the feature")]
    Unit,
    /// The policy does not price the model, or not in credits.
    #[error("a price for the model")]
    Unpriced,
    /// A draw names a layer that the waterfall does not have.
    #[error("draws from layers of the waterfall")]
    Layer,
    /// Draws do not follow the order of the waterfall.
    #[error("draws in the order of the waterfall")]
    Order,
    /// A draw is in another unit, or of another owner, than its layer.
    #[error("draws in the unit and scope of their layers")]
    Owner,
    /// A draw names windows that are not those of its layer, or instances that were not open while it was held.
    #[error("draws from window instances of their layers that were open")]
    Instance,
    /// A draw names a balance that is not that of its layer.
    #[error("draws from the balances of their layers")]
    Balance,
    /// A draw is of nothing, or of more than its window gives.
    #[error("draws of something within what each window gives")]
    Amount,
    /// What a draw covers does not follow from its amount.
    #[error("draws that cover what their amounts are worth")]
    Covers,
    /// More was drawn than was needed.
    #[error("draws of no more than was needed")]
    TooMuch,
}

/// A call priced, its windows and grants counted.
#[derive(Clone, Debug)]
pub struct Weighed<'a> {
    /// What was used, and its price.
    pub demand: Demand,
    /// The price, rounded up.
    pub gross: Credits,
    /// What windows cover of it.
    pub covered: Credits,
    /// What grants gave.
    pub granted: Credits,
    /// What neither windows nor grants gave: forgiven or owed.
    pub shortage: Credits,
    /// What it is recorded to owe.
    pub owed: Credits,
    /// The balance that would owe, with its scope.
    pub owes_on: Option<(Scope, &'a Name)>,
    feature: &'a Feature,
    moves: Moves,
}

/// The money of a call, regenerated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regenerated {
    /// What was used, and its exact price.
    pub demand: Demand,
    /// The monetization event's amounts.
    pub charge: Charge,
    /// What it owes, a part of `charge.charged`.
    pub owed: Credits,
    /// What stays given back, a part of `charge.forgiven`.
    pub refunded: Credits,
    /// Its debits, in the order in which they are booked.
    pub moves: Moves,
}

/// The debits of one call.
pub type Moves = SmallVec<[Move; 4]>;

/// One debit of a balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Whose balance.
    pub scope: Scope,
    /// The balance.
    pub balance: Name,
    /// The grant; none where it is owed.
    pub grant: Option<GrantId>,
    /// How much, as a positive amount.
    pub amount: Credits,
}

/// Prices a call by one policy, and checks its draws against the one that decided.
pub fn weigh<'a>(
    usage: &Usage<'_>,
    policy: &'a Policy,
    prices: &Policy,
) -> Result<Weighed<'a>, Inadmissible> {
    let (feature, waterfall) = waterfall_of(usage, policy).ok_or(Inadmissible::NoWaterfall)?;
    if feature.unit != usage.unit {
        return Err(Inadmissible::Unit);
    }
    let demand = demand(usage, prices)?;
    let gross = demand.price.ceil().unwrap_or(Credits::MAX);
    let mut walk =
        Walk { usage, policy, feature, rest: demand.whole, granted: Credits::ZERO, owed: Credits::ZERO };
    let mut moves = Moves::new();
    let mut place = 0;
    for draw in usage.draws {
        let found = waterfall.layers.iter().position(|layer| layer.name == draw.layer);
        let found = found.ok_or(Inadmissible::Layer)?;
        // What is owed comes last, behind draws of any layer.
        if found < place && !matches!(draw.origin, OriginEntry::Debt { .. }) {
            return Err(Inadmissible::Order);
        }
        place = place.max(found);
        walk.step(&waterfall.layers[found], draw, &mut moves)?;
    }
    let Walk { rest, granted, owed, .. } = walk;
    let cost = if rest.is_zero() {
        Credits::ZERO
    } else {
        demand.price.ceil_share(rest, demand.whole).unwrap_or(gross)
    };
    Ok(Weighed {
        gross,
        covered: gross.saturating_sub(cost),
        granted,
        shortage: cost.checked_sub(granted).ok_or(Inadmissible::TooMuch)?,
        owed,
        owes_on: last_balance(waterfall).map(|index| (policy[index].per, &policy[index].name)),
        demand,
        feature,
        moves,
    })
}

fn waterfall_of<'a>(usage: &Usage<'_>, policy: &'a Policy) -> Option<(&'a Feature, &'a Waterfall)> {
    let feature = policy.feature(usage.feature)?;
    let plan = policy.plan(usage.plan)?;
    Some((&policy[feature], policy[plan].waterfall(feature)?))
}

/// What was used, priced. What the upstream refused costs nothing, whatever its request was.
fn demand(usage: &Usage<'_>, policy: &Policy) -> Result<Demand, Inadmissible> {
    if usage.outcome == Outcome::Refused {
        return Ok(Demand { quantities: usage.quantities.clone(), ..Demand::nothing() });
    }
    let row = policy.prices.row(usage.model).ok_or(Inadmissible::Unpriced)?;
    let demand = priced(row, usage.unit, usage.quantities.clone(), usage.size, usage.tier);
    Ok(demand.map_err(|_| Inadmissible::Unpriced)?.0)
}

fn last_balance(waterfall: &Waterfall) -> Option<BalanceIndex> {
    waterfall.layers.iter().rev().find_map(|layer| match layer.source {
        Source::Balance(index) => Some(index),
        Source::Window(_) => None,
    })
}

impl Weighed<'_> {
    /// The first instant of the UTC month in which an end at `ended_at` is forgiven.
    pub fn month(ended_at: Timestamp) -> Timestamp {
        Period::Calendar(CalendarUnit::Month, jiff::tz::TimeZone::UTC).instance_at(ended_at).start
    }

    /// Identity of what counts the forgiven.
    pub const fn forgiven_key(&self) -> CounterKey {
        self.feature.forgiven_key
    }

    /// The money: of what was short stays given back what was; the rest is forgiven within policy, then owed within
    /// policy, then forgiven as excess.
    pub fn settle(self, before: Before) -> Regenerated {
        let limits = &self.feature.overage;
        let left = Credits::from_micros(limits.forgive.micros().saturating_sub(before.forgiven));
        let refunded = before.refunded.min(self.granted.saturating_add(self.shortage));
        let shortage = self.shortage.saturating_sub(refunded);
        let cost = self.granted.saturating_add(shortage);
        let most = cost.saturating_sub(before.kept_forgiven).max(before.kept_charged).min(cost);
        let forgiven = shortage.min(left.unwrap_or(Credits::ZERO));
        let rest = shortage.saturating_sub(forgiven);
        let mut moves = self.moves;
        let owed = match self.owes_on {
            Some((scope, name)) => {
                let owed = rest.min(limits.debt.saturating_sub(before.debt));
                let owed = owed.min(most.saturating_sub(self.granted));
                join(&mut moves, Move { scope, balance: Arc::clone(name), grant: None, amount: owed });
                owed
            }
            None => Credits::ZERO,
        };
        let excess = rest.saturating_sub(owed);
        let charge = Charge {
            gross: self.gross,
            covered: self.covered,
            forgiven: forgiven.saturating_add(excess).saturating_add(refunded),
            excess,
            charged: self.granted.saturating_add(owed),
        };
        Regenerated { demand: self.demand, charge, owed, refunded, moves }
    }
}

/// Adds a debit, or adds it to one of the same balance and grant, as booking does.
fn join(moves: &mut Moves, added: Move) {
    let key = |entry: &Move| (entry.scope, Arc::clone(&entry.balance), entry.grant);
    if added.amount.is_zero() {
        return;
    }
    match moves.iter_mut().find(|entry| key(entry) == key(&added)) {
        Some(entry) => entry.amount = entry.amount.saturating_add(added.amount),
        None => moves.push(added),
    }
}

/// The recorded draws, followed one by one.
struct Walk<'a> {
    usage: &'a Usage<'a>,
    policy: &'a Policy,
    feature: &'a Feature,
    /// What windows have not covered yet, in the feature's unit.
    rest: Amount,
    granted: Credits,
    owed: Credits,
}

impl Walk<'_> {
    fn step(&mut self, layer: &Layer, draw: &DrawEntry, moves: &mut Moves) -> Result<(), Inadmissible> {
        if draw.amount.is_zero() {
            return Err(Inadmissible::Amount);
        }
        match (&layer.source, &draw.origin) {
            (Source::Window(windows), OriginEntry::Windows(instances)) => {
                self.window(windows, draw, instances)
            }
            (Source::Balance(index), OriginEntry::Grant { balance, grant }) => {
                let amount = self.balance(*index, balance, draw)?;
                self.granted = self.granted.checked_add(amount).ok_or(Inadmissible::TooMuch)?;
                let (scope, balance) = (draw.scope, Arc::clone(balance));
                join(moves, Move { scope, balance, grant: Some(*grant), amount });
                Ok(())
            }
            (Source::Balance(index), OriginEntry::Debt { balance }) => {
                let amount = self.balance(*index, balance, draw)?;
                self.owed = self.owed.checked_add(amount).ok_or(Inadmissible::TooMuch)?;
                Ok(())
            }
            _ => Err(Inadmissible::Layer),
        }
    }

    fn window(
        &mut self,
        layer: &WindowLayer,
        draw: &DrawEntry,
        instances: &[(CounterKey, Timestamp)],
    ) -> Result<(), Inadmissible> {
        if (draw.unit, draw.scope) != (layer.unit, layer.per) {
            return Err(Inadmissible::Owner);
        }
        if instances.len() != layer.windows.len() {
            return Err(Inadmissible::Instance);
        }
        for (window, (key, start)) in layer.windows.iter().zip(instances) {
            if *key != window.key || !self.was_open(window, *start) {
                return Err(Inadmissible::Instance);
            }
            if window.allow.is_some_and(|allow| draw.amount > allow) {
                return Err(Inadmissible::Amount);
            }
        }
        let covers = if layer.unit == self.feature.unit {
            draw.amount
        } else if draw.amount.get() == 1 {
            // A window of requests covers the request whole.
            self.rest
        } else {
            return Err(Inadmissible::Amount);
        };
        if covers != draw.covers {
            return Err(Inadmissible::Covers);
        }
        if covers > self.rest {
            return Err(Inadmissible::TooMuch);
        }
        self.rest = self.rest.saturating_sub(covers);
        Ok(())
    }

    /// Whether an instance began by the end, and had not ended when the call was held.
    fn was_open(&self, window: &Window, start: Timestamp) -> bool {
        let instance: Instance = match &window.period {
            Period::FirstUse(length) => Instance { start, end: start.plus(*length) },
            Period::Calendar(..) => window.period.instance_at(start),
        };
        instance.start == start && start <= self.usage.ended_at && instance.end > self.usage.held_at
    }

    fn balance(&self, index: BalanceIndex, name: &Name, draw: &DrawEntry) -> Result<Credits, Inadmissible> {
        let balance = &self.policy[index];
        if balance.name != *name {
            return Err(Inadmissible::Balance);
        }
        if (draw.unit, draw.scope) != (Unit::Credit, balance.per) {
            return Err(Inadmissible::Owner);
        }
        if draw.covers != draw.amount {
            return Err(Inadmissible::Covers);
        }
        Credits::from_micros(draw.amount.get()).ok_or(Inadmissible::Amount)
    }
}

#[cfg(test)]
mod tests;
