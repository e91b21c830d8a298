//! The policy: YAML → raw → checked → compiled, and what a demand costs under it.

pub mod calendar;
mod check;
pub mod compiled;
mod decode;
mod keys;
pub mod live;
pub mod load;
pub mod prices;
pub mod problem;
mod raw;
mod scalars;
mod yaml;
