//! Overfall: how much is allowed, and from where.

pub mod policy;
pub mod simulate;
pub mod units;
