//! The decision: allow with these draws, or block for this reason.
//!
//! Pure. [`Account::decide`] proposes, [`Account::hold`](super::hold) takes; a block takes nothing (I2).

use super::account::Account;
use super::counter::Holds;
use super::demand::Demand;
use super::draw::GuardCharges;
use super::reason::{Block, Question, Reason};
use super::terms::Terms;
use super::walk::{Stopped, Subject, Walk};
use crate::policy::compiled::{GuardRule, Source, Waterfall};
use crate::units::planted::{Bug, planted};
use crate::units::{Amount, Credits, Quantities, Timestamp, UserId};

/// What an allowed request would take.
#[derive(Debug)]
pub struct Draft {
    /// The demand that is covered: the estimate, or what a clamp left of it.
    pub demand: Demand,
    /// Where it is drawn from.
    pub walk: Walk,
    /// What guards count.
    pub charges: GuardCharges,
    /// The output tokens that the request has been cut down to.
    pub clamped_to: Option<u64>,
}

/// Why a demand does not pass.
pub(super) enum Failure {
    Guard(Stopped),
    /// What balances have to give, and the part that they lack; nothing of both where windows alone lack it.
    Lacking {
        cost: Credits,
        lacking: Credits,
    },
    Overflow,
}

impl Account {
    /// Walks the waterfall and says what to do. Same state, same question, same answer.
    pub fn decide(
        &self,
        terms: &Terms,
        user: UserId,
        estimate: &Demand,
        now: Timestamp,
    ) -> Result<Draft, Block> {
        let Some(waterfall) = terms.waterfall() else { return Err(Block::because(Reason::NotInPlan)) };
        if never_fits(terms, waterfall, estimate) {
            return Err(Block::because(Reason::NeverFits));
        }
        let subject = self.subject(terms, user);
        let failure = match subject.passes(estimate, now) {
            Ok((walk, charges)) => {
                return Ok(Draft { demand: estimate.clone(), walk, charges, clamped_to: None });
            }
            Err(failure) => failure,
        };
        let least = subject.least(terms, estimate);
        let clamped = match &least {
            Some(least) if failure.is_unaffordable(waterfall) => subject.clamped(terms, estimate, least, now),
            _ => None,
        };
        clamped.ok_or_else(|| {
            let question = Question { subject, waterfall, estimate, least: least.as_ref(), now };
            question.explain(&failure)
        })
    }

    /// The question that `terms` ask of this account.
    pub fn subject<'a>(&'a self, terms: &'a Terms, user: UserId) -> Subject<'a> {
        Subject { policy: &terms.policy, feature: terms.feature, plan: terms.plan, user, account: self }
    }
}

impl Subject<'_> {
    /// Whether a demand passes all guards and is covered in full at `now`.
    pub(super) fn passes(&self, demand: &Demand, now: Timestamp) -> Result<(Walk, GuardCharges), Failure> {
        let walk = self.walk(demand, now, Holds::Count).map_err(|_| Failure::Overflow)?;
        let charges = self.guards(demand, walk.cost, now).map_err(Failure::Guard)?;
        if walk.is_covered() {
            Ok((walk, charges))
        } else {
            Err(Failure::Lacking { cost: walk.cost, lacking: walk.lacking })
        }
    }

    /// Whether the decision on a demand is to allow it at `now`, cut down to `least` if need be.
    pub(super) fn admits(
        &self,
        waterfall: &Waterfall,
        estimate: &Demand,
        least: Option<&Demand>,
        now: Timestamp,
    ) -> bool {
        match self.passes(estimate, now) {
            Ok(_) => true,
            Err(failure) if failure.is_unaffordable(waterfall) => {
                least.is_some_and(|least| self.passes(least, now).is_ok())
            }
            Err(_) => false,
        }
    }

    /// The demand with the least output that policy allows cutting it down to.
    fn least(&self, terms: &Terms, estimate: &Demand) -> Option<Demand> {
        let clamp = self.feature().clamp?;
        let minimum = if planted(Bug::ClampPastMinimum) { 1 } else { clamp.minimum_output_tokens };
        let shorter = minimum < estimate.quantities.output_tokens;
        if shorter { with_output(terms, estimate, minimum) } else { None }
    }

    /// The most output that is affordable, but no less than `least` has. What is affordable grows with less output,
    /// so halving finds it.
    fn clamped(&self, terms: &Terms, estimate: &Demand, least: &Demand, now: Timestamp) -> Option<Draft> {
        let attempt = |demand: Demand| {
            let (walk, charges) = self.passes(&demand, now).ok()?;
            let clamped_to = Some(demand.quantities.output_tokens);
            Some(Draft { demand, walk, charges, clamped_to })
        };
        let mut best = attempt(least.clone())?;
        let mut affordable = least.quantities.output_tokens;
        let mut too_much = estimate.quantities.output_tokens;
        while too_much - affordable > 1 && !planted(Bug::ClampTooShort) {
            let middle = affordable + (too_much - affordable) / 2;
            match with_output(terms, estimate, middle).and_then(attempt) {
                Some(draft) => (affordable, best) = (middle, draft),
                None => too_much = middle,
            }
        }
        Some(best)
    }
}

impl Failure {
    /// Whether less output could help: money is lacking, or a cap on it is reached.
    fn is_unaffordable(&self, waterfall: &Waterfall) -> bool {
        match self {
            Self::Guard(stopped) => matches!(waterfall.guards[stopped.guard].rule, GuardRule::Spend { .. }),
            Self::Lacking { .. } => true,
            Self::Overflow => false,
        }
    }
}

/// The demand with so much output; `None` where that has no price.
fn with_output(terms: &Terms, demand: &Demand, output_tokens: u64) -> Option<Demand> {
    let quantities = Quantities { output_tokens, ..demand.quantities.clone() };
    terms.estimate(quantities).ok()
}

/// Whether the input estimate and the least output are above what empty windows give, with no balance behind them.
fn never_fits(terms: &Terms, waterfall: &Waterfall, estimate: &Demand) -> bool {
    let feature = terms.feature();
    let mut room = Amount::ZERO;
    for layer in &waterfall.layers {
        let Source::Window(window) = &layer.source else { return false };
        let left = window.windows.iter().filter_map(|window| window.allow).min().unwrap_or(Amount::MAX);
        let (_, covers) = super::walk::share(window, feature.unit, estimate.whole.saturating_sub(room), left);
        room = room.saturating_add(covers);
    }
    if room >= estimate.whole {
        return false;
    }
    let least = feature.clamp.map_or(1, |clamp| clamp.minimum_output_tokens);
    let least = with_output(terms, estimate, estimate.quantities.output_tokens.min(least));
    least.is_none_or(|least| room < least.whole)
}
