//! Quantities: how much of what a request uses.

use std::fmt;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// What an amount counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Calls.
    Request,
    /// Tokens in the prompt.
    InputToken,
    /// Tokens in the answer, reasoning included.
    OutputToken,
    /// Tokens of both.
    Token,
    /// Seconds of video.
    Second,
    /// Money. Amounts in it are micro-credits.
    Credit,
}

impl Unit {
    /// Its name in policy files, headers and books.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::InputToken => "input_token",
            Self::OutputToken => "output_token",
            Self::Token => "token",
            Self::Second => "second",
            Self::Credit => "credit",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A count in the [`Unit`] that stands beside it; micro-credits where that is [`Unit::Credit`]. At most 2^53 − 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Amount(u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// `count`, or [`Amount::MAX`] where it is larger: so much is refused whatever the limit.
    pub const fn clamped(count: u64) -> Self {
        if count > Self::MAX.0 { Self::MAX } else { Self(count) }
    }

    /// The count.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or [`Amount::MAX`].
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self::clamped(self.0.saturating_add(other.0))
    }

    /// The difference, or nothing where `other` is larger.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Calls of hosted tools by the tool's name, few at a time.
pub type ToolCalls = SmallVec<[(std::sync::Arc<str>, u64); 1]>;

/// What one request uses. Cached and written tokens are parts of `input_tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantities {
    /// All tokens of the prompt.
    pub input_tokens: u64,
    /// Those of them read from the provider's cache.
    pub cached_input_tokens: u64,
    /// Those of them written to the provider's cache.
    pub cache_write_tokens: u64,
    /// All tokens of the answer, reasoning included.
    pub output_tokens: u64,
    /// Seconds of video.
    pub seconds: u64,
    /// Calls of hosted tools.
    pub tool_calls: ToolCalls,
}

impl Quantities {
    /// Tokens of both directions.
    pub const fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}
