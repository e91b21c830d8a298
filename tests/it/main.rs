//! The gateway as its users meet it: the real binary in a process of its own, between a client and a simulated upstream.
//!
//! Nothing here reaches into the product. What a test knows it learnt from answers, from what reached the upstream, from
//! the operator's routes, from `overfall audit`, or from the ledger's file. Waiting is for a condition, with a deadline;
//! ports are free ones; a process that a test started ends with it, by its own id. When a test fails, the gateway's log
//! is printed.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what is wrong by failing"
)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test tells what it did, and prints logs when it fails"
)]

mod harness;

mod blocks;
mod cluster;
mod codex;
mod corrections;
mod crowd;
mod deploy;
mod docker;
mod failover;
mod faults;
mod fleet;
mod idempotency;
mod jobs;
mod keys;
mod lifecycle;
mod operator;
mod outages;
mod ownership;
mod postgres;
mod readme;
mod replay;
mod requests;
mod routes;
mod sdks;
mod secured;
mod sources;
mod stores;
mod timing;
mod tls;
mod torture;
mod upstreams;
mod videos;
mod wall;
