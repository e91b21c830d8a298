//! Overfall: how much is allowed, and from where.

pub mod access;
pub mod config;
pub mod journal;
pub mod ledger;
pub mod meter;
pub mod policy;
pub mod proxy;
pub mod settle;
pub mod simulate;
pub mod telemetry;
pub mod units;
