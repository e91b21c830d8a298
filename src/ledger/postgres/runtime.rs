//! The runtime that drives the connections: one thread of the ledger's own.

use std::future::Future;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::connection::WORK_FOR;
use super::failure::{self, TimedOut};
use crate::ledger::LedgerError;

/// The thread, until it is dropped.
pub(super) struct Runtime {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    /// Starts it.
    pub(super) fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            // An end is asked for by dropping the other side.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(Duration::from_secs(1));
        };
        let thread = std::thread::Builder::new().name("ledger-postgres".to_owned()).spawn(run)?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Does a piece of work there. It is done even if nobody waits for it any more, and ends in time.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, LedgerError>> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let bounded = tokio::time::timeout(WORK_FOR, work);
        let task = self.handle.spawn(async move {
            let late = |_| LedgerError::Unavailable(Box::new(TimedOut { seconds: WORK_FOR.as_secs() }));
            bounded.await.map_err(late)?
        });
        task.await.map_err(|_| failure::closed())?
    }

    /// The same for what takes as long as it takes, each step of it bounded.
    pub(super) async fn run_long<T: Send + 'static, E: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
        closed: impl FnOnce() -> E,
    ) -> Result<T, E> {
        match self.handle.spawn(work).await {
            Ok(done) => done,
            Err(_) => Err(closed()),
        }
    }
}

impl Drop for Runtime {
    /// Waits until the connections are closed.
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the ledger's thread panicked");
        }
    }
}
