//! Keys and answers in one SQLite file, written and read by one thread.
//!
//! The thread takes all that waits for it into one transaction, so that many claims share one sync. It looks a claim up
//! and takes the key in the same transaction: there is nothing to race for. What is too old goes a little at a time,
//! between other work.
//!
//! # Failure
//!
//! Where the file cannot be written, claims get [`AnswersError::Unavailable`], so nothing is held and nothing is
//! charged. Ends are kept in memory, without their answers, until the file can be written again. A file that cannot be
//! opened at the start is an error then.
//!
//! # Bounds
//!
//! [`Limits::total_bytes`] of answers: beyond it the oldest go, and their keys stay as not kept. [`Limits::keys_max`]
//! keys: beyond it the oldest that have ended are forgotten before their time, which is counted. What waits for the
//! thread is bounded by the callers' permits: a call has at most its claim and its end there.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{Answer, Answers, AnswersError, Claim, Claimed, Ended, Interrupted, Limits, ScopedKey};
use crate::units::DecisionId;
use crate::units::time::Clock;
use queue::{Queue, Work};
use table::Table;

mod connection;
pub mod metrics;
mod queue;
mod table;
mod writer;

pub use connection::{OpenError, Syncs};

/// The keys of one node.
pub struct SqliteAnswers {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteAnswers {
    /// Opens the file, or makes it, and takes note of what was under way when it was left.
    pub fn open(path: &Path, limits: Limits, syncs: Syncs, clock: Clock) -> Result<Self, OpenError> {
        let mut connection = connection::create(path, syncs)?;
        let table = Table::open(&mut connection, limits).map_err(OpenError::File)?;
        let queue = Arc::new(Queue::default());
        let writer = writer::Writer::new(path, syncs, clock, Arc::clone(&queue), connection, table);
        let thread = std::thread::Builder::new().name("answers".to_owned()).spawn(move || writer.run());
        Ok(Self { queue, thread: Mutex::new(Some(thread.map_err(OpenError::Thread)?)) })
    }

    /// Waits until what was asked for is written and the file is closed. Blocks.
    pub fn close(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the store of answers panicked");
        }
    }

    async fn ask<T>(
        &self,
        work: impl FnOnce(oneshot::Sender<Result<T, AnswersError>>) -> Work,
    ) -> Result<T, AnswersError> {
        let (sender, receiver) = oneshot::channel();
        self.queue.push(work(sender));
        receiver.await.unwrap_or(Err(AnswersError::Closed))
    }
}

#[async_trait]
impl Answers for SqliteAnswers {
    async fn claim(&self, claim: Claim) -> Result<Claimed, AnswersError> {
        self.ask(|answer| Work::Claim(claim, answer)).await
    }

    async fn answer(&self, key: ScopedKey, decision: DecisionId) -> Result<Option<Answer>, AnswersError> {
        self.ask(|answer| Work::Answer(key, decision, answer)).await
    }

    fn end(&self, ended: Ended) {
        self.queue.push(Work::End(ended));
    }

    async fn interrupted(&self) -> Result<Vec<Interrupted>, AnswersError> {
        self.ask(Work::Interrupted).await
    }
}

impl Drop for SqliteAnswers {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
