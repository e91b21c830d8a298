//! What stands between a client and the upstream.

pub mod access_view;
pub mod client;
pub mod decision_view;
pub mod demand;
pub mod headers;
pub mod keys;
pub mod learn;
pub mod observe;
pub mod refusal;
