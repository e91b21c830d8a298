//! What proves the protocol and its parsers, beside the tests of each part: `docs/proof.md` tells how to read it.
//!
//! `OVERFALL_PROVE=1` explores further, as `make prove` does.

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

/// Whether there are minutes, not seconds.
fn is_thorough() -> bool {
    std::env::var_os("OVERFALL_PROVE").is_some()
}
