//! The port of queues: records on their way from a meter that many nodes share to the books.
//!
//! Every account belongs to one queue, and its records stand there in the order of `seq`: whoever makes a record puts
//! it there in the same step. A queue keeps what it has until it is told that the books have it.

use async_trait::async_trait;

use crate::access::record::Record;
use crate::ledger::shared::{Place, Queued};
use crate::units::Timestamp;

/// What waits in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many records.
    pub records: u64,
    /// Since when the oldest does.
    pub since: Option<Timestamp>,
}

/// Why a queue could not be read.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The store did not do it.
    #[error("the store of queues did not do it")]
    Store(#[source] super::redis::StoreError),
    /// What stands there is no record of this version.
    #[error("an entry of queue {queue} cannot be read: was it written by a newer version?")]
    Unreadable {
        /// Which.
        queue: u16,
    },
}

/// Queues of records.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// The first records behind a place, at most so many.
    async fn read(&self, queue: u16, after: Place, most: usize) -> Result<Vec<Queued>, QueueError>;

    /// Lets go of everything up to a place: the books have these records. Again changes nothing.
    async fn booked(&self, queue: u16, up_to: Place, records: &[Record]) -> Result<(), QueueError>;

    /// What waits in a queue.
    async fn backlog(&self, queue: u16) -> Result<Backlog, QueueError>;
}
