//! Whether the books have what the journal has.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::SettlerStats;
use crate::journal::Journal;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How far settlement is behind the journal.
#[derive(Clone)]
pub struct Progress {
    /// What is on its way to the books.
    pub journal: Arc<Journal>,
    /// What settlement has done.
    pub settled: Arc<SettlerStats>,
}

impl Progress {
    /// Resolves when all that is journalled by now has been given to the books.
    pub async fn caught_up(&self) {
        let until = self.journal.stats().next.value();
        while self.settled.position.load(Ordering::Acquire) < until {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
