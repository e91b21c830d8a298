//! Credits: the unit of money, stored as whole micro-credits.
//!
//! Every amount is at most 2^53 − 1 micro-credits, so that it is exact in a Lua script and in JSON readers that know
//! only doubles. Constructors check it; there is no other way to make one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Micro-credits in one credit.
pub const MICROS_PER_CREDIT: u64 = 1_000_000;
const FRACTION_DIGITS: usize = 6;
const MAX_MICROS: u64 = (1 << 53) - 1;

/// A non-negative amount of credits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Credits(u64);

/// What a balance stands at: negative while it is in debt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct SignedCredits(i64);

/// Why a number is not an amount of credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreditsError {
    /// Above 2^53 − 1 micro-credits.
    #[error("more than 9007199254.740991 credits")]
    TooLarge,
    /// Not `123` or `123.456789`.
    #[error("not a decimal number of credits, such as 12 or 0.5")]
    NotDecimal,
    /// More than six digits behind the point.
    #[error("finer than a micro-credit (six decimals)")]
    TooFine,
}

impl Credits {
    /// No credits.
    pub const ZERO: Self = Self(0);
    /// The largest amount that can be stated.
    pub const MAX: Self = Self(MAX_MICROS);

    /// `micros` micro-credits, if that is an amount.
    pub const fn from_micros(micros: u64) -> Option<Self> {
        if micros <= MAX_MICROS { Some(Self(micros)) } else { None }
    }

    /// The amount in micro-credits.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Whether this is no credits at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, unless it is above [`Credits::MAX`].
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        Self::from_micros(self.0.saturating_add(other.0))
    }

    /// The difference, unless `other` is larger.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(micros) => Some(Self(micros)),
            None => None,
        }
    }

    /// The difference, or zero where `other` is larger. For what is *left*, where a lack is nothing left.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The sum, or [`Credits::MAX`]. For what is *needed*, where too much is refused all the same.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        let sum = self.0.saturating_add(other.0);
        if sum > MAX_MICROS { Self::MAX } else { Self(sum) }
    }

    /// The amount with a sign.
    pub fn signed(self) -> SignedCredits {
        SignedCredits(self.0.cast_signed())
    }
}

impl SignedCredits {
    /// Neither owed nor owned.
    pub const ZERO: Self = Self(0);

    /// `micros` micro-credits, if that is an amount of either sign.
    pub const fn from_micros(micros: i64) -> Option<Self> {
        if micros.unsigned_abs() <= MAX_MICROS { Some(Self(micros)) } else { None }
    }

    /// Micro-credits, negative in debt.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The sum, unless it leaves the range.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        Self::from_micros(self.0.saturating_add(other.0))
    }

    /// The difference, unless it leaves the range.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        Self::from_micros(self.0.saturating_sub(other.0))
    }

    /// What can be drawn: zero while in debt.
    #[must_use]
    pub const fn available(self) -> Credits {
        if self.0 > 0 { Credits(self.0.unsigned_abs()) } else { Credits::ZERO }
    }

    /// What is owed: zero while not in debt.
    #[must_use]
    pub const fn owed(self) -> Credits {
        if self.0 < 0 { Credits(self.0.unsigned_abs()) } else { Credits::ZERO }
    }
}

impl TryFrom<u64> for Credits {
    type Error = CreditsError;
    fn try_from(micros: u64) -> Result<Self, CreditsError> {
        Self::from_micros(micros).ok_or(CreditsError::TooLarge)
    }
}

impl From<Credits> for u64 {
    fn from(credits: Credits) -> Self {
        credits.0
    }
}

impl TryFrom<i64> for SignedCredits {
    type Error = CreditsError;
    fn try_from(micros: i64) -> Result<Self, CreditsError> {
        Self::from_micros(micros).ok_or(CreditsError::TooLarge)
    }
}

impl From<SignedCredits> for i64 {
    fn from(credits: SignedCredits) -> Self {
        credits.0
    }
}

impl FromStr for Credits {
    type Err = CreditsError;

    /// Reads a decimal exactly as written, `12`, `0.5` or `1_000.25`: at most six digits behind the point.
    fn from_str(text: &str) -> Result<Self, CreditsError> {
        let text = text.replace('_', "");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || text.ends_with('.') {
            return Err(CreditsError::NotDecimal);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > FRACTION_DIGITS {
            return Err(CreditsError::TooFine);
        }
        let micros = format!("{whole}{fraction:0<FRACTION_DIGITS$}");
        let micros = micros.parse::<u64>().map_err(|_| CreditsError::TooLarge)?;
        Self::try_from(micros)
    }
}

impl FromStr for SignedCredits {
    type Err = CreditsError;

    /// Reads a decimal as [`Credits`] do, with or without a sign.
    fn from_str(text: &str) -> Result<Self, CreditsError> {
        let (digits, is_below) = match text.strip_prefix('-') {
            Some(digits) => (digits, true),
            None => (text.strip_prefix('+').unwrap_or(text), false),
        };
        let credits = digits.parse::<Credits>()?.signed();
        if is_below { Self(0).checked_sub(credits).ok_or(CreditsError::TooLarge) } else { Ok(credits) }
    }
}

/// Writes micro-credits as a decimal without trailing zeros.
fn write_decimal(f: &mut fmt::Formatter<'_>, micros: u64) -> fmt::Result {
    let (whole, mut fraction) = (micros / MICROS_PER_CREDIT, micros % MICROS_PER_CREDIT);
    if fraction == 0 {
        return write!(f, "{whole}");
    }
    let mut width = FRACTION_DIGITS;
    while fraction.is_multiple_of(10) {
        fraction /= 10;
        width -= 1;
    }
    write!(f, "{whole}.{fraction:0width$}")
}

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, self.0)
    }
}

impl fmt::Display for SignedCredits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_str("-")?;
        }
        write_decimal(f, self.0.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_read_as_written() {
        for (text, micros) in [("0", 0), ("12", 12_000_000), ("0.5", 500_000), ("1_000.25", 1_000_250_000)] {
            assert_eq!(text.parse::<Credits>().unwrap().micros(), micros, "{text}");
        }
        assert_eq!("1.0000000".parse::<Credits>(), Ok(Credits::from_micros(1_000_000).unwrap()));
    }

    #[test]
    fn what_is_no_amount_is_refused_with_its_reason() {
        for (text, error) in [
            ("", CreditsError::NotDecimal),
            ("-1", CreditsError::NotDecimal),
            ("1.", CreditsError::NotDecimal),
            (".5", CreditsError::NotDecimal),
            ("1e3", CreditsError::NotDecimal),
            ("0.0000001", CreditsError::TooFine),
            ("9007199254.740992", CreditsError::TooLarge),
            ("99999999999999999999", CreditsError::TooLarge),
        ] {
            assert_eq!(text.parse::<Credits>(), Err(error), "{text}");
        }
    }

    #[test]
    fn signs_are_read_and_shown() {
        for (text, micros) in [("-2.5", -2_500_000), ("+0.5", 500_000), ("12", 12_000_000), ("-0", 0)] {
            assert_eq!(text.parse::<SignedCredits>().unwrap().micros(), micros, "{text}");
        }
        for text in ["--1", "-", "+-1", ""] {
            assert_eq!(text.parse::<SignedCredits>(), Err(CreditsError::NotDecimal), "{text}");
        }
    }

    #[test]
    fn sums_stay_in_range() {
        let one = Credits::from_micros(1).unwrap();
        assert_eq!(Credits::MAX.checked_add(one), None);
        assert_eq!(Credits::MAX.saturating_add(one), Credits::MAX);
        assert_eq!(Credits::ZERO.checked_sub(one), None);
        assert_eq!(Credits::ZERO.signed().checked_sub(one.signed()).unwrap().to_string(), "-0.000001");
    }

    proptest! {
        #[test]
        fn display_and_parse_are_inverse(micros in 0..=MAX_MICROS) {
            let credits = Credits::from_micros(micros).unwrap();
            prop_assert_eq!(credits.to_string().parse::<Credits>(), Ok(credits));
        }
    }
}
