//! The policy: YAML → raw → checked → compiled, and what a demand costs under it.

pub mod calendar;
pub mod compiled;
pub mod prices;
