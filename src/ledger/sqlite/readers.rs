//! A few connections that only read, opened when they are first needed and used on the runtime's blocking threads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connection;
use super::failure::Stopped;
use crate::ledger::LedgerError;

/// Connections at the same time.
const READERS: usize = 4;

/// The pool.
pub(super) struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    places: Arc<Semaphore>,
    /// Whether whoever asks reads by itself, without a runtime.
    #[cfg(test)]
    here: bool,
}

impl Readers {
    /// An empty pool.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            idle: Arc::default(),
            places: Arc::new(Semaphore::new(READERS)),
            #[cfg(test)]
            here: false,
        }
    }

    /// An empty pool whose callers read by themselves.
    #[cfg(test)]
    pub(super) fn here(path: PathBuf) -> Self {
        Self { here: true, ..Self::new(path) }
    }

    /// Reads with one of the connections, or waits for one.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let stopped = || LedgerError::Unavailable(Box::new(Stopped));
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| stopped())?;
        let (path, idle) = (self.path.clone(), Arc::clone(&self.idle));
        let reading = move || {
            let _place = place;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match kept {
                Some(connection) => connection,
                None => connection::reader(&path)?,
            };
            let result = read(&connection);
            if !matches!(result, Err(LedgerError::Unavailable(_) | LedgerError::Corrupt { .. })) {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            result
        };
        #[cfg(test)]
        if self.here {
            return reading();
        }
        tokio::task::spawn_blocking(reading)
            .await
            .map_err(|error| LedgerError::Unavailable(Box::new(error)))?
    }
}
