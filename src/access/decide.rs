//! The decision: allow with these draws, or block for this reason.
//!
//! Pure. [`Account::decide`] proposes, [`Account::hold`](super::hold) takes; a block takes nothing (I2).

use super::account::Account;
use super::counter::Holds;
use super::demand::Demand;
use super::draw::GuardCharges;
use super::reason::{Block, Reason};
use super::terms::Terms;
use super::walk::{Stopped, Subject, Walk};
use crate::policy::compiled::{GuardRule, Source, Waterfall};
use crate::units::{Amount, Timestamp, UserId};

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
    Lacking(Walk),
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
        match subject.passes(estimate, now) {
            Ok((walk, charges)) => Ok(Draft { demand: estimate.clone(), walk, charges, clamped_to: None }),
            Err(failure) => {
                let unaffordable = match &failure {
                    Failure::Guard(stopped) => {
                        matches!(waterfall.guards[stopped.guard].rule, GuardRule::Spend { .. })
                    }
                    Failure::Lacking(_) => true,
                    Failure::Overflow => false,
                };
                let clamped = unaffordable.then(|| subject.clamped(terms, estimate, now)).flatten();
                clamped.ok_or_else(|| super::reason::explain(&subject, waterfall, estimate, &failure, now))
            }
        }
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
        if walk.is_covered() { Ok((walk, charges)) } else { Err(Failure::Lacking(walk)) }
    }

    /// The most output that is affordable, where policy allows cutting down to it. What is affordable grows with
    /// less output, so halving finds it.
    fn clamped(&self, terms: &Terms, estimate: &Demand, now: Timestamp) -> Option<Draft> {
        let minimum = self.feature().clamp?.minimum_output_tokens;
        let attempt = |output_tokens: u64| {
            let mut quantities = estimate.quantities.clone();
            quantities.output_tokens = output_tokens;
            let demand = terms.estimate(quantities).ok()?;
            let (walk, charges) = self.passes(&demand, now).ok()?;
            Some(Draft { demand, walk, charges, clamped_to: Some(output_tokens) })
        };
        let (mut affordable, mut too_much) = (minimum, estimate.quantities.output_tokens);
        if affordable >= too_much {
            return None;
        }
        let mut best = attempt(affordable)?;
        while too_much - affordable > 1 {
            let middle = affordable + (too_much - affordable) / 2;
            match attempt(middle) {
                Some(draft) => (affordable, best) = (middle, draft),
                None => too_much = middle,
            }
        }
        Some(best)
    }
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
    let mut quantities = estimate.quantities.clone();
    quantities.output_tokens = quantities.output_tokens.min(least);
    terms.estimate(quantities).map_or(true, |least| room < least.whole)
}
