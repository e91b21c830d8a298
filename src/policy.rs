//! The policy: YAML → raw → checked → compiled, and what a demand costs under it.

pub mod calendar;
mod check;
pub mod compiled;
pub(crate) mod decode;
mod keys;
pub mod live;
pub mod load;
pub mod prices;
pub mod problem;
mod raw;
pub(crate) mod scalars;
pub(crate) mod yaml;
