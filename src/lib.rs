//! Overfall: how much is allowed, and from where.

pub mod access;
pub mod ledger;
pub mod policy;
pub mod proxy;
pub mod telemetry;
pub mod units;
