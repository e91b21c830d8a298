//! Prices: exact rationals of micro-credits, rounded up once.
//!
//! A price file says decimals ("43.75 credits per million tokens"); a request multiplies them by whole quantities and
//! decimal factors. Everything stays a fraction until [`Price::ceil`] or [`Price::ceil_share`] rounds it up, so that
//! no split of a request over sources can change what it costs in all.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::planted::{Bug, planted};
use super::{Amount, Credits};

/// A non-negative decimal exactly as written: `digits / 10^scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decimal {
    digits: u64,
    scale: u8,
}

/// Text that is not a decimal of at most 15 digits, six of them behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal number of at most nine digits before and six behind the point")]
pub struct DecimalError;

impl Decimal {
    /// One.
    pub const ONE: Self = Self { digits: 1, scale: 0 };
    /// Zero.
    pub const ZERO: Self = Self { digits: 0, scale: 0 };

    /// Whether it is zero.
    pub const fn is_zero(self) -> bool {
        self.digits == 0
    }

    const fn denominator(self) -> u128 {
        10u128.pow(self.scale as u32)
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let (left, right) =
            (u128::from(self.digits) * other.denominator(), u128::from(other.digits) * self.denominator());
        left.cmp(&right)
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;
    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let text = text.replace('_', "");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let fraction = fraction.trim_end_matches('0');
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let legal = !whole.is_empty() && digits(whole) && digits(fraction) && !text.ends_with('.');
        if !legal || whole.len() > 9 || fraction.len() > 6 {
            return Err(DecimalError);
        }
        let scale = u8::try_from(fraction.len()).map_err(|_| DecimalError)?;
        Ok(Self { digits: format!("{whole}{fraction}").parse().map_err(|_| DecimalError)?, scale })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10u64.pow(u32::from(self.scale));
        let width = usize::from(self.scale);
        match width {
            0 => write!(f, "{}", self.digits),
            _ => write!(f, "{}.{:0width$}", self.digits / unit, self.digits % unit),
        }
    }
}

/// What a demand costs: `numerator / denominator` micro-credits, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    numerator: u128,
    denominator: u128,
}

/// A price beyond what credits can state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the price is larger than any amount of credits")]
pub struct PriceOverflow;

impl Price {
    /// Nothing to pay.
    pub const FREE: Self = Self { numerator: 0, denominator: 1 };

    /// `count` times `rate` micro-credits.
    pub fn times(count: u64, rate: Decimal) -> Result<Self, PriceOverflow> {
        let numerator = u128::from(count).checked_mul(u128::from(rate.digits)).ok_or(PriceOverflow)?;
        Ok(Self { numerator, denominator: rate.denominator() }.reduced())
    }

    /// The price of both.
    pub fn plus(self, other: Self) -> Result<Self, PriceOverflow> {
        let common = lcm(self.denominator, other.denominator)?;
        let left = self.numerator.checked_mul(common / self.denominator).ok_or(PriceOverflow)?;
        let right = other.numerator.checked_mul(common / other.denominator).ok_or(PriceOverflow)?;
        Ok(Self { numerator: left.checked_add(right).ok_or(PriceOverflow)?, denominator: common }.reduced())
    }

    /// The price times `factor`.
    pub fn scaled(self, factor: Decimal) -> Result<Self, PriceOverflow> {
        let numerator = self.numerator.checked_mul(u128::from(factor.digits)).ok_or(PriceOverflow)?;
        let denominator = self.denominator.checked_mul(factor.denominator()).ok_or(PriceOverflow)?;
        Ok(Self { numerator, denominator }.reduced())
    }

    /// The price in whole micro-credits, rounded up.
    pub fn ceil(self) -> Result<Credits, PriceOverflow> {
        if planted(Bug::RoundingDown) {
            return to_credits(self.numerator / self.denominator);
        }
        to_credits(self.numerator.div_ceil(self.denominator))
    }

    /// What the part `rest` of `whole` costs, rounded up. All of it where there is no whole to share.
    pub fn ceil_share(self, rest: Amount, whole: Amount) -> Result<Credits, PriceOverflow> {
        if whole.is_zero() || rest == whole {
            return self.ceil();
        }
        let numerator = self.numerator.checked_mul(u128::from(rest.get())).ok_or(PriceOverflow)?;
        let denominator = self.denominator.checked_mul(u128::from(whole.get())).ok_or(PriceOverflow)?;
        to_credits(numerator.div_ceil(denominator))
    }

    /// The price of the part `part` of `whole`, not yet rounded.
    pub fn share(self, part: Amount, whole: Amount) -> Result<Self, PriceOverflow> {
        let numerator = self.numerator.checked_mul(u128::from(part.get())).ok_or(PriceOverflow)?;
        let whole = u128::from(whole.get().max(1));
        let denominator = self.denominator.checked_mul(whole).ok_or(PriceOverflow)?;
        Ok(Self { numerator, denominator }.reduced())
    }

    /// `(numerator, denominator)` in micro-credits, in lowest terms.
    pub const fn parts(self) -> (u128, u128) {
        (self.numerator, self.denominator)
    }

    fn reduced(self) -> Self {
        // Rates are decimals, so most denominators are 1 already and most others a small power of ten.
        if self.denominator == 1 {
            return self;
        }
        let divisor = gcd(self.numerator, self.denominator).max(1);
        Self { numerator: self.numerator / divisor, denominator: self.denominator / divisor }
    }
}

fn to_credits(micros: u128) -> Result<Credits, PriceOverflow> {
    u64::try_from(micros).ok().and_then(Credits::from_micros).ok_or(PriceOverflow)
}

fn lcm(a: u128, b: u128) -> Result<u128, PriceOverflow> {
    (a / gcd(a, b).max(1)).checked_mul(b).ok_or(PriceOverflow)
}

const fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn a_price_is_rounded_up_once() {
        // 3 tokens at 43.75 and 1 at 4.375 micro-credits: 135.625, so 136 and never 132 + 5.
        let price = Price::times(3, decimal("43.75")).unwrap();
        let price = price.plus(Price::times(1, decimal("4.375")).unwrap()).unwrap();
        assert_eq!(price.ceil().unwrap().micros(), 136);
        assert_eq!(price.scaled(decimal("0.5")).unwrap().ceil().unwrap().micros(), 68);
    }

    #[test]
    fn what_credits_cannot_state_is_an_error() {
        let price = Price::times(u64::MAX, decimal("999999999")).unwrap();
        assert_eq!(price.ceil(), Err(PriceOverflow));
    }

    proptest! {
        #[test]
        fn a_share_is_at_most_the_whole(count in 0u64..1 << 40, rest in 0u64..1 << 30, more in 1u64..1 << 30) {
            let price = Price::times(count, decimal("4.375")).unwrap();
            let whole = Amount::clamped(rest + more);
            let share = price.ceil_share(Amount::clamped(rest), whole).unwrap();
            prop_assert!(share <= price.ceil().unwrap());
        }

        #[test]
        fn decimals_show_as_written(whole in 0u64..1_000_000_000, fraction in 0u64..1_000_000) {
            let parsed = decimal(&format!("{whole}.{fraction:06}"));
            prop_assert_eq!(decimal(&parsed.to_string()), parsed);
        }
    }
}
