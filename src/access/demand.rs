//! What a request asks for: quantities and their price.

use serde::{Deserialize, Serialize};

use crate::units::price::PriceOverflow;
use crate::units::{Amount, Price, Quantities, Unit};

/// Quantities and what they cost: estimated before the call, measured after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// How much of what.
    pub quantities: Quantities,
    /// What all of it costs.
    pub price: Price,
    /// All of it in the feature's unit: what the walk starts with. At least one where there is a price, so that what
    /// costs something is always covered by something: input alone, say, where only output is counted.
    pub whole: Amount,
}

impl Demand {
    /// The demand for `quantities` at `price`, counted in `unit`.
    pub fn new(unit: Unit, quantities: Quantities, price: Price) -> Result<Self, PriceOverflow> {
        let whole = match unit {
            Unit::Request => 1,
            Unit::InputToken => quantities.input_tokens,
            Unit::OutputToken => quantities.output_tokens,
            Unit::Token => quantities.tokens(),
            Unit::Second => quantities.seconds,
            Unit::Credit => price.ceil()?.micros(),
        };
        let least = u64::from(price.parts().0 > 0);
        Ok(Self { quantities, price, whole: Amount::clamped(whole.max(least)) })
    }

    /// Nothing at all: what a void leaves.
    pub fn nothing() -> Self {
        Self { quantities: Quantities::default(), price: Price::FREE, whole: Amount::ZERO }
    }

    /// How much of it a token bucket counts.
    pub const fn counted_in(&self, unit: Unit) -> u64 {
        match unit {
            Unit::InputToken => self.quantities.input_tokens,
            Unit::OutputToken => self.quantities.output_tokens,
            Unit::Token => self.quantities.tokens(),
            Unit::Second => self.quantities.seconds,
            Unit::Request | Unit::Credit => 1,
        }
    }
}
