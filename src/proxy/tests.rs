//! The gateway as a client on the wire sees it: the real server, meter, journal and books, before a simulated upstream.

mod answers;
mod bodies;
mod brittle;
mod faults;
mod idempotency;
mod outcomes;
mod owned;
mod refusals;
mod streams;
mod upstreams;
mod wire;
mod world;
