//! What stands between a client and the upstream.
//!
//! The parts here are pure: who calls ([`keys`], [`client`]), what every answer tells about its decision ([`headers`]),
//! what the gateway answers itself ([`refusal`]), and what a client may look up ([`access_view`], [`decision_view`]).
//! They know no server and keep no time.

pub mod access_view;
pub mod client;
pub mod decision_view;
pub mod headers;
pub mod keys;
pub mod refusal;

#[cfg(test)]
mod sample;
#[cfg(test)]
mod structured;
