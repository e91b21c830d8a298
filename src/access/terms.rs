//! Terms: under which policy, plan and price one call is made. Fixed when it is held, used again when it finishes.

use std::sync::Arc;

use super::demand::Demand;
use super::reason::Reason;
use super::record::HoldRecord;
use crate::policy::compiled::{Feature, FeatureIndex, PlanIndex, Policy, Waterfall};
use crate::policy::prices::{PriceRow, Rates, TierFit};
use crate::units::price::PriceOverflow;
use crate::units::{Quantities, Unit};

/// What a call is decided and priced by.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The policy in force when it was held.
    pub policy: Arc<Policy>,
    /// The account's plan then.
    pub plan: PlanIndex,
    /// The product.
    pub feature: FeatureIndex,
    /// The model as the request named it.
    pub model: Arc<str>,
    /// The tier that the request asked for.
    pub tier: Option<Arc<str>>,
    /// The size of the video.
    pub size: Option<Arc<str>>,
}

/// Why quantities have no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpriced {
    /// No row of the policy fits the model.
    #[error("no price fits the model")]
    Model,
    /// More than credits can state.
    #[error("the price is larger than any amount of credits")]
    Overflow,
}

impl From<PriceOverflow> for Unpriced {
    fn from(_: PriceOverflow) -> Self {
        Self::Overflow
    }
}

impl Terms {
    /// What a hold that a record tells of was decided by; `None` where the policy has no such plan or feature.
    pub fn of_record(record: &HoldRecord, policy: Arc<Policy>) -> Option<Self> {
        Some(Self {
            plan: policy.plan(&record.plan)?,
            feature: policy.feature(&record.feature)?,
            policy,
            model: record.model.clone(),
            tier: record.tier.clone(),
            size: record.size.clone(),
        })
    }

    /// The rules of the feature.
    pub fn feature(&self) -> &Feature {
        &self.policy[self.feature]
    }

    /// The waterfall, if the plan includes the feature.
    pub fn waterfall(&self) -> Option<&Waterfall> {
        self.policy[self.plan].waterfall(self.feature)
    }

    /// Draws by the names of the waterfall.
    pub fn entries(&self, draws: &[super::draw::Draw]) -> Vec<super::record::DrawEntry> {
        super::entries::Names::of(self).draws(draws)
    }

    /// What draws by names were, as far as this waterfall has it; without debts.
    pub fn draws_of(&self, entries: &[super::record::DrawEntry]) -> super::draw::Draws {
        super::entries::Names::of(self).draws_of(entries)
    }

    /// The price row of the model.
    pub fn row(&self) -> Option<&PriceRow> {
        self.policy.prices.row(&self.model)
    }

    /// The demand for quantities in the tier that was asked for.
    pub fn estimate(&self, quantities: Quantities) -> Result<Demand, Unpriced> {
        self.priced(quantities, self.tier.as_deref()).map(|(demand, _)| demand)
    }

    /// The demand that a request for tokens makes, or why it is none: no plan, no price, no call. A model that is priced
    /// by the second would be free by the token.
    pub fn demand_for_tokens(&self, estimate: Quantities) -> Result<Demand, Reason> {
        if self.waterfall().is_none() {
            return Err(Reason::NotInPlan);
        }
        if self.row().is_none_or(|row| !matches!(row.rates, Rates::Tokens(_))) {
            return Err(Reason::UnpricedModel);
        }
        self.estimate(estimate).map_err(|unpriced| match unpriced {
            Unpriced::Model => Reason::UnpricedModel,
            Unpriced::Overflow => Reason::NeverFits,
        })
    }

    /// The demand for quantities in the tier that the answer named, and whether the policy lists it.
    pub fn priced(&self, quantities: Quantities, tier: Option<&str>) -> Result<(Demand, TierFit), Unpriced> {
        let row = self.row().ok_or(Unpriced::Model)?;
        Ok(priced(row, self.feature().unit, quantities, self.size.as_deref(), tier)?)
    }
}

/// The demand for quantities, counted in `unit`, at a price row. A video of no seconds was not made: it costs nothing,
/// whatever a request for one costs.
pub fn priced(
    row: &PriceRow,
    unit: Unit,
    quantities: Quantities,
    size: Option<&str>,
    tier: Option<&str>,
) -> Result<(Demand, TierFit), PriceOverflow> {
    if matches!(row.rates, Rates::Seconds(_)) && quantities.seconds == 0 {
        return Ok((Demand { quantities, ..Demand::nothing() }, TierFit::Listed));
    }
    let (price, fit) = row.price(&quantities, size, tier)?;
    Ok((Demand::new(unit, quantities, price)?, fit))
}
