//! What stands between a client and the upstream.
//!
//! The parts here are pure: what a request body asks for ([`demand`]), what a response used ([`observe`]), and what
//! calls like it have used before ([`learn`]). They see bytes and give values; none of them awaits or keeps time.

pub mod demand;
pub mod learn;
pub mod observe;
