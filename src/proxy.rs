//! What stands between a client and the upstream.
//!
//! | file | idea |
//! |---|---|
//! | `routes`, `body` | what is asked for at all; reading it within bounds |
//! | `demand`, `observe`, `learn` | what a request asks for, what its answer used, what calls like it use; pure |
//! | `admit`, `finish` | what has to hold before a request leaves; what it is charged when it has ended |
//! | `settlement`, `in_flight` | the end of every hold; its renewal until then |
//! | `responses` | whose a response is |
//! | `refusal`, `headers` | the one place that says no; what every answer tells |
//! | `upstream`, `passing` | where requests go; what of their headers goes with them, and comes back |
//! | `gateway`, `request`, `server` | Pingora's phases, each calling one of the above; the server around them |
//!
//! Pingora's phases are told of everything that happens to a request but its death: a panic or a runtime that is shut
//! down just drops its context. So money hangs on what is in the context (`settlement`), not on a phase.

pub mod body;
pub mod demand;
pub mod finish;
pub mod gateway;
pub mod in_flight;
pub mod learn;
pub mod metrics;
pub mod observe;
pub mod responses;
pub mod routes;
pub mod server;
pub mod settlement;
pub mod upstream;
