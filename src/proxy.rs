//! What stands between a client and the upstream.

pub mod observe;
