//! Settlement: what the journal has goes to the books, in order, once.
//!
//! Workers, each owned, none deciding anything. One machine has the first, many have the next two in its place:
//!
//! | worker | takes | gives |
//! |---|---|---|
//! | [`Settler`] | durable frames of the journal | batches to the ledger, and the journal its space back |
//! | [`Worker`] | records of the queues that it has leased | batches to the ledger, and the queues their space back |
//! | [`Keeper`] | durable frames of a node's journal | the journal its space back, once the books have them |
//! | [`Follower`] | what other nodes changed in the directory | the same to this node's |
//! | [`Sweeper`] | the clock | deadlines of holds, expiry of grants |
//! | [`Retention`] | the clock | the end of ownership records, which are no part of the books |
//! | [`Jobs`] | the upstream, when it is asked | ends of jobs to the meter |
//! | [`BlockLog`] | blocked decisions | coalesced rows in the decision log, never in the books |
//!
//! A ledger that does not answer stops nothing but settlement: the journal keeps the records (bounded, measured) and
//! the worker tries again with growing pauses.

mod blocks;
mod follower;
mod gauges;
pub mod jobs;
mod keeper;
mod progress;
mod retention;
mod settler;
mod sweeper;
pub mod truths;
mod worker;

pub use blocks::{BlockLog, BlockSender};
pub use follower::Follower;
pub use gauges::{describe, record_gauges};
pub use jobs::Jobs;
pub use keeper::Keeper;
pub use progress::Progress;
pub use retention::Retention;
pub use settler::{Settler, SettlerStats};
pub use sweeper::Sweeper;
pub use truths::Truths;
pub use worker::Worker;

/// Resolves when `shutdown` is true, or nobody can set it any more. Keeps nothing locked.
async fn stopped(shutdown: &mut tokio::sync::watch::Receiver<bool>) {
    let _told = shutdown.wait_for(|stop| *stop).await.is_ok();
}

#[cfg(test)]
mod tests;
