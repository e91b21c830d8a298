//! Overfall: how much is allowed, and from where.

pub mod policy;
pub mod proxy;
pub mod units;
