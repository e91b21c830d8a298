//! Instants and spans in whole milliseconds.
//!
//! Code that decides takes `now: Timestamp` as an argument. Only shells own a [`Clock`], and this file holds the one
//! place that reads the machine's.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z, as the wall clock told them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(u64);

impl Timestamp {
    /// The end of time.
    pub const NEVER: Self = Self(i64::MAX);

    /// The instant `ms` milliseconds after the epoch.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds after the epoch.
    pub const fn ms(self) -> i64 {
        self.0
    }

    /// Whole seconds after the epoch, rounded up: an instant told in seconds is never too early.
    pub const fn seconds_ceil(self) -> i64 {
        -((-self.0).div_euclid(1000))
    }

    /// How long ago `earlier` was; zero where it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        let ms = self.0.saturating_sub(earlier.0);
        Span(if ms > 0 { ms.unsigned_abs() } else { 0 })
    }

    /// This instant and `span` later.
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add_unsigned(span.0))
    }

    /// This instant and `span` earlier.
    #[must_use]
    pub const fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub_unsigned(span.0))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of `ms` milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// A span of `seconds` seconds.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds.
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// Whole seconds, rounded up.
    pub const fn seconds_ceil(self) -> u64 {
        self.0.div_ceil(1000)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, as in `2026-11-22T15:04:05.678Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => write!(f, "{instant:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

/// Where a shell takes `now` from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's wall clock, held from running backwards: it stands still until the machine has caught up.
    Machine(Arc<AtomicI64>),
    /// A clock that a test moves by hand; clones share it.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn machine() -> Self {
        Self::Machine(Arc::new(AtomicI64::new(i64::MIN)))
    }

    /// A clock that stands at `now` until it is moved.
    pub fn manual(now: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(now.0)))
    }

    /// The present instant.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::Machine(latest) => {
                let wall = jiff::Timestamp::now().as_millisecond();
                Timestamp(latest.fetch_max(wall, Ordering::Relaxed).max(wall))
            }
            Self::Manual(now) => Timestamp(now.load(Ordering::SeqCst)),
        }
    }

    /// Never tells an instant before `at`: the books already hold one.
    pub fn no_earlier_than(&self, at: Timestamp) {
        let (Self::Machine(latest) | Self::Manual(latest)) = self;
        latest.fetch_max(at.0, Ordering::SeqCst);
    }

    /// Moves a manual clock on; a machine's clock is not moved.
    pub fn advance(&self, span: Span) {
        if let Self::Manual(now) = self {
            now.fetch_add(span.0.cast_signed(), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up() {
        for (ms, seconds) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (-1, 0), (-1000, -1)] {
            assert_eq!(Timestamp::from_ms(ms).seconds_ceil(), seconds, "{ms}");
        }
    }

    #[test]
    fn a_clock_that_stepped_backwards_stands_still() {
        let clock = Clock::machine();
        let ahead = clock.now().plus(Span::from_seconds(3600));
        clock.no_earlier_than(ahead);
        assert_eq!(clock.now(), ahead);
    }

    #[test]
    fn instants_are_shown_in_utc() {
        assert_eq!(Timestamp::from_ms(1_795_365_295_123).to_string(), "2026-11-22T16:34:55.123Z");
    }
}
