//! Settlement: what the journal has goes to the books, in order, once.
//!
//! Five workers, each owned, none deciding anything:
//!
//! | worker | takes | gives |
//! |---|---|---|
//! | [`Settler`] | durable frames of the journal | batches to the ledger, and the journal its space back |
//! | [`Sweeper`] | the clock | deadlines of holds, expiry of grants |
//! | [`Retention`] | the clock | the end of ownership records, which are no part of the books |
//! | [`Jobs`] | the upstream, when it is asked | ends of jobs to the meter |
//! | [`BlockLog`] | blocked decisions | coalesced rows in the decision log, never in the books |
//!
//! A ledger that does not answer stops nothing but settlement: the journal keeps the records (bounded, measured) and
//! the worker tries again with growing pauses.

mod blocks;
mod gauges;
pub mod jobs;
mod progress;
mod retention;
mod settler;
mod sweeper;
pub mod truths;

pub use blocks::{BlockLog, BlockSender};
pub use gauges::{describe, record_gauges};
pub use jobs::Jobs;
pub use progress::Progress;
pub use retention::Retention;
pub use settler::{Settler, SettlerStats};
pub use sweeper::Sweeper;
pub use truths::Truths;

/// Resolves when `shutdown` is true, or nobody can set it any more. Keeps nothing locked.
async fn stopped(shutdown: &mut tokio::sync::watch::Receiver<bool>) {
    let _told = shutdown.wait_for(|stop| *stop).await.is_ok();
}

#[cfg(test)]
mod tests;
