//! What proves the protocol and its parsers, beside the tests of each part: `docs/proof.md` tells how to read it.
//!
//! `OVERFALL_PROVE_SECONDS` explores further, for so long, as `make prove` does. What was done is printed in lines that
//! its summary adds up.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test says what is wrong by failing, and what it did by printing"
)]

mod fuzz;
mod model;
mod page;

use std::time::{Duration, Instant};

/// How long a test may go on, where there are minutes and not seconds.
fn longest() -> Option<Duration> {
    let seconds = std::env::var("OVERFALL_PROVE_SECONDS").ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The wall's clock.
#[expect(clippy::disallowed_methods, reason = "how long to go on is a matter of the wall's clock")]
fn now() -> Instant {
    Instant::now()
}

/// A line for the summary of `make prove`: so many of what.
fn tell(count: usize, what: &str) {
    println!("prove: {count} {what}");
}
