//! Forgets whose things are that were made long ago: responses, videos, characters.
//!
//! The ledger forgets a few at a time, each in a short transaction of its own, so that settlement goes on in between.
//! The books stay: they are append-only. What an open job makes stays too. A ledger that does not answer is asked again
//! at the next look.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::ledger::rows::Page;
use crate::ledger::{Ledger, LedgerError};
use crate::telemetry::chain;
use crate::units::Span;
use crate::units::time::Clock;

/// How many are forgotten together.
const TOGETHER: Page = Page(500);
/// Between two such transactions: at most 5,000 are forgotten in a second.
const PAUSE: Duration = Duration::from_millis(100);

/// Ends the time of ownership records.
pub struct Retention {
    /// What knows them.
    pub ledger: Arc<dyn Ledger>,
    /// What time it is.
    pub clock: Clock,
    /// How long they are known.
    pub keep: Span,
    /// How often is looked.
    pub every: Duration,
}

impl Retention {
    /// Forgets until `shutdown` is true.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(self.every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = super::stopped(&mut shutdown) => return,
            }
            tokio::select! {
                forgotten = self.forget() => if let Err(error) = forgotten {
                    tracing::error!(error = %chain(&error), "ownership records that are past their time stay for now");
                },
                () = super::stopped(&mut shutdown) => return,
            }
        }
    }

    /// Forgets all that are past their time by now.
    async fn forget(&self) -> Result<(), LedgerError> {
        let before = self.clock.now().minus(self.keep);
        loop {
            let forgotten = self.ledger.forget_made(before, TOGETHER).await?;
            metrics::counter!("overfall_resources_forgotten_total").increment(forgotten);
            if forgotten < u64::from(TOGETHER.0) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests;
