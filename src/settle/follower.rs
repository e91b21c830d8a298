//! Follows what other nodes change in the directory: accounts, users, keys, and their revocation.
//!
//! It asks instead of being told: a notification that is lost would leave a revoked key good for ever. What it asks costs
//! one look at the end of an index.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::ledger::LedgerError;
use crate::ledger::directory::Directory;
use crate::ledger::shared::{Change, SharedLedger};

/// How often it asks. A change is known everywhere within a second, one question that fails included.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Keeps a node's directory to what the books say.
pub struct Follower {
    /// The books.
    pub ledger: Arc<dyn SharedLedger>,
    /// The node's directory.
    pub directory: Arc<Directory>,
    /// How far it knew when it was read.
    pub known: Change,
}

impl Follower {
    /// Follows until `shutdown` is true.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut fails = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(ASK_EVERY) => {}
                () = super::stopped(&mut shutdown) => return,
            }
            let failed = self.follow().await.err();
            metrics::gauge!("overfall_directory_behind").set(if failed.is_some() { 1.0 } else { 0.0 });
            match failed {
                Some(error) if !fails => {
                    let error = crate::telemetry::chain(&error);
                    tracing::error!(%error, "what others change in the directory is not heard");
                    fails = true;
                }
                Some(_) => {}
                None => fails = false,
            }
        }
    }

    async fn follow(&mut self) -> Result<(), LedgerError> {
        let (known, changed) = self.ledger.changes(self.known).await?;
        for row in &changed {
            self.directory.restore(row);
        }
        self.known = known;
        Ok(())
    }
}
