//! The decision log of blocks: bounded, coalesced, beside the books.
//!
//! A flood of blocks must not cost more than the decisions it came from. Senders never wait; equal blocks of one user
//! within a second become one row with a count; what does not fit is dropped and counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::access::Reason;
use crate::ledger::Ledger;
use crate::ledger::rows::BlockRow;
use crate::policy::compiled::Name;
use crate::units::UserId;

const QUEUE: usize = 4096;
const ROWS_PER_SECOND: usize = 4096;
/// How many rows the log keeps.
const KEEP: u64 = 1_000_000;

/// Writes blocks to the decision log.
pub struct BlockLog {
    ledger: Arc<dyn Ledger>,
    queue: mpsc::Receiver<BlockRow>,
}

/// Hands blocks to the log.
#[derive(Clone)]
pub struct BlockSender(mpsc::Sender<BlockRow>);

impl BlockSender {
    /// Hands over a block; drops and counts it where the queue is full.
    pub fn send(&self, row: BlockRow) {
        if self.0.try_send(row).is_err() {
            metrics::counter!("overfall_blocks_dropped_total").increment(1);
        }
    }
}

impl BlockLog {
    /// A log into `ledger`, and its sender.
    pub fn new(ledger: Arc<dyn Ledger>) -> (Self, BlockSender) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (Self { ledger, queue }, BlockSender(sender))
    }

    /// Writes until `shutdown` is true and the queue is empty.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut rows: HashMap<(UserId, Reason, Name), BlockRow> = HashMap::new();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                Some(row) = self.queue.recv() => gather(&mut rows, row),
                _ = tick.tick() => self.write(&mut rows).await,
                () = super::stopped(&mut shutdown) => {
                    while let Ok(row) = self.queue.try_recv() {
                        gather(&mut rows, row);
                    }
                    return self.write(&mut rows).await;
                }
            }
        }
    }

    async fn write(&self, rows: &mut HashMap<(UserId, Reason, Name), BlockRow>) {
        if rows.is_empty() {
            return;
        }
        let mut batch: Vec<BlockRow> = rows.drain().map(|(_, row)| row).collect();
        batch.sort_unstable_by_key(|row| row.decision);
        let count: u64 = batch.iter().map(|row| row.count).sum();
        if let Err(error) = self.ledger.log_blocks(batch, KEEP).await {
            metrics::counter!("overfall_blocks_dropped_total").increment(count);
            tracing::warn!(error = %crate::telemetry::chain(&error), "blocks could not be logged");
        }
    }
}

fn gather(rows: &mut HashMap<(UserId, Reason, Name), BlockRow>, row: BlockRow) {
    let key = (row.user, row.block.reason, row.feature.clone());
    if let Some(known) = rows.get_mut(&key) {
        known.count = known.count.saturating_add(row.count);
    } else if rows.len() < ROWS_PER_SECOND {
        rows.insert(key, row);
    } else {
        metrics::counter!("overfall_blocks_dropped_total").increment(row.count);
    }
}
