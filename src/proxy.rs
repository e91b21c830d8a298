//! What stands between a client and the upstream.
//!
//! | file | idea |
//! |---|---|
//! | `routes`, `body` | what is asked for at all; reading it within bounds |
//! | `demand`, `learn` | what a request asks for, what calls like it use; pure |
//! | `admit` | what has to hold before a request leaves |
//! | `settlement`, `in_flight`, `extension` | the end of every hold; its renewal until then; how it grows with a stream |
//! | `background`, `webhooks` | calls that become jobs; the upstream's word that one has ended |
//! | `owners` | whose what was made upstream is |
//! | `idempotency` | the same request again is answered again, and never charged again unheard |
//! | `keys`, `client` | who calls, and in what words to answer |
//! | `refusal`, `headers` | the one place that says no; what every answer tells |
//! | `local`, `access_view`, `decision_view`, `codex_usage` | what a client may look up |
//! | `upstreams`, `upstream`, `addresses`, `breaker`, `health` | where requests go, and where else when that fails |
//! | `passing` | what of their headers goes with them, and comes back |
//! | `gateway`, `request`, `server` | Pingora's phases, each calling one of the above; the server around them |
//!
//! Pingora's phases are told of everything that happens to a request but its death: a panic or a runtime that is shut
//! down just drops its context. So money hangs on what is in the context (`settlement`), not on a phase.

pub mod access_view;
mod addresses;
mod admit;
pub mod background;
pub mod body;
pub mod breaker;
pub mod client;
pub mod codex_usage;
pub mod decision_view;
pub mod demand;
pub mod exchange;
pub mod extension;
pub mod gateway;
pub mod headers;
pub mod health;
pub mod idempotency;
pub mod in_flight;
pub mod keys;
pub mod learn;
mod local;
pub mod metrics;
pub mod multipart;
pub mod owners;
pub mod passing;
pub mod refusal;
pub mod request;
pub mod routes;
#[cfg(test)]
mod sample;
pub mod server;
pub mod settlement;
#[cfg(test)]
mod structured;
#[cfg(test)]
mod tests;
pub mod upstream;
pub mod upstreams;
mod videos;
mod webhooks;

pub use crate::observe;
pub use crate::observe::finish;
