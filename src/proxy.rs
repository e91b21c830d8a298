//! The gateway.

pub mod body;
pub mod metrics;
pub mod routes;
pub mod upstream;
