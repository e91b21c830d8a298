//! Overfall: how much is allowed, and from where.

pub mod journal;
pub mod policy;
pub mod units;
