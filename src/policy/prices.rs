//! What a demand costs.
//!
//! Rows stand in policy order; the first whose pattern fits the request's model prices it. A model without a row is
//! refused before the call, never free.

use std::sync::Arc;

use crate::units::credits::MICROS_PER_CREDIT;
use crate::units::planted::{Bug, planted};
use crate::units::price::PriceOverflow;
use crate::units::{Decimal, Price, Quantities};

/// All prices, in policy order.
#[derive(Debug)]
pub struct PriceBook {
    /// The rows.
    pub rows: Vec<PriceRow>,
}

/// The price of the models that a pattern fits.
#[derive(Debug)]
pub struct PriceRow {
    /// `*` stands for any text, at the end only.
    pub model: Pattern,
    /// What is counted.
    pub rates: Rates,
    /// Added once to every request.
    pub per_request: Decimal,
    /// Added for each call of a hosted tool, by its name.
    pub per_tool_call: Vec<(Arc<str>, Decimal)>,
    /// Multipliers by the tier that the answer names. A tier called `default`, or none, is 1.
    pub tiers: Vec<(Arc<str>, Decimal)>,
    /// Other rates for a long prompt.
    pub long_context: Option<LongContext>,
}

/// A model name, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This name.
    Exact(Arc<str>),
    /// Every name that begins so.
    Prefix(Arc<str>),
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rates {
    /// By token.
    Tokens(TokenRates),
    /// Credits by second of video, by size (`720x1280`).
    Seconds(Vec<(Arc<str>, Decimal)>),
}

/// Micro-credits per token, which are credits per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRates {
    /// Of the prompt.
    pub input: Decimal,
    /// Of the part read from cache; the input rate where the file names none.
    pub cached_input: Decimal,
    /// Of the part written to cache; the input rate where the file names none.
    pub cache_write: Decimal,
    /// Of the answer.
    pub output: Decimal,
}

/// Multipliers for a request whose prompt is longer than a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongContext {
    /// The longest prompt at the ordinary rates.
    pub over_input_tokens: u64,
    /// One factor per rate of [`TokenRates`].
    pub multiply: TokenRates,
}

/// How sure the price of a tier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierFit {
    /// The file lists it, or there is none.
    Listed,
    /// The file does not list it: the highest multiplier stands in, and the usage is graded estimated.
    Unlisted,
}

impl Pattern {
    /// Whether the model's name fits.
    pub fn matches(&self, model: &str) -> bool {
        match self {
            Self::Exact(name) => &**name == model,
            Self::Prefix(prefix) => model.starts_with(&**prefix),
        }
    }
}

impl PriceBook {
    /// The row of a model.
    pub fn row(&self, model: &str) -> Option<&PriceRow> {
        self.rows.iter().find(|row| row.model.matches(model))
    }
}

impl PriceRow {
    /// What `quantities` cost in `tier`, for video of `size`.
    pub fn price(
        &self,
        quantities: &Quantities,
        size: Option<&str>,
        tier: Option<&str>,
    ) -> Result<(Price, TierFit), PriceOverflow> {
        let counted = match &self.rates {
            Rates::Tokens(rates) => self.tokens(rates, quantities)?,
            Rates::Seconds(sizes) => credits(quantities.seconds, rate_of(sizes, size))?,
        };
        let (factor, fit) = self.tier(tier);
        let mut price = counted.scaled(factor)?;
        if !self.per_request.is_zero() {
            price = price.plus(credits(1, self.per_request)?)?;
        }
        for (tool, calls) in &quantities.tool_calls {
            if let Some((_, rate)) = self.per_tool_call.iter().find(|(name, _)| name == tool) {
                price = price.plus(credits(*calls, *rate)?)?;
            }
        }
        Ok((price, fit))
    }

    fn tokens(&self, rates: &TokenRates, quantities: &Quantities) -> Result<Price, PriceOverflow> {
        let cached = quantities.cached_input_tokens.min(quantities.input_tokens);
        let written = quantities.cache_write_tokens.min(quantities.input_tokens - cached);
        let plain = quantities.input_tokens - cached - written;
        let long = self.long_context.filter(|long| quantities.input_tokens > long.over_input_tokens);
        let part = |count, rate, factor: fn(&TokenRates) -> Decimal| {
            let price = Price::times(count, rate)?;
            long.map_or(Ok(price), |long| price.scaled(factor(&long.multiply)))
        };
        let mut price = part(plain, rates.input, |by| by.input)?;
        if cached > 0 {
            price = price.plus(part(cached, rates.cached_input, |by| by.cached_input)?)?;
        }
        if written > 0 {
            price = price.plus(part(written, rates.cache_write, |by| by.cache_write)?)?;
        }
        price.plus(part(quantities.output_tokens, rates.output, |by| by.output)?)
    }

    fn tier(&self, tier: Option<&str>) -> (Decimal, TierFit) {
        let Some(tier) = tier.filter(|tier| !matches!(*tier, "default" | "auto" | "standard")) else {
            return (Decimal::ONE, TierFit::Listed);
        };
        if let Some((_, factor)) = self.tiers.iter().find(|(name, _)| &**name == tier) {
            return (*factor, TierFit::Listed);
        }
        if planted(Bug::UnlistedTierAtOne) {
            return (Decimal::ONE, TierFit::Unlisted);
        }
        let highest = self.tiers.iter().map(|(_, factor)| *factor).max().unwrap_or(Decimal::ONE);
        (highest.max(Decimal::ONE), TierFit::Unlisted)
    }
}

/// `count` times a rate in whole credits.
fn credits(count: u64, rate: Decimal) -> Result<Price, PriceOverflow> {
    Price::times(count.checked_mul(MICROS_PER_CREDIT).ok_or(PriceOverflow)?, rate)
}

/// The rate of a size; of an unlisted one, the highest.
fn rate_of(sizes: &[(Arc<str>, Decimal)], size: Option<&str>) -> Decimal {
    let listed = size.and_then(|size| sizes.iter().find(|(name, _)| &**name == size));
    let highest = || sizes.iter().map(|(_, rate)| *rate).max();
    listed.map(|(_, rate)| *rate).or_else(highest).unwrap_or(Decimal::ZERO)
}

#[cfg(test)]
mod tests;
