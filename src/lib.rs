//! Overfall: how much is allowed, and from where.

pub mod access;
pub mod audit;
pub mod ledger;
pub mod policy;
pub mod units;
