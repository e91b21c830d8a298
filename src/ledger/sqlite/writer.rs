//! The one thread that writes.
//!
//! SQLite has one writer at a time; a thread of its own keeps its waits off the runtime's threads. Work reaches it
//! through a bounded channel: callers wait when it is behind. After an error or a panic its connection and everything
//! that it remembers are thrown away, and the next piece of work opens the file again; so it recovers by itself when
//! the disk does.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::cache::Cache;
use super::connection::{self, OpenError};
use super::failure::Stopped;
use crate::ledger::LedgerError;

/// Pieces of work that wait for the writer.
const QUEUE: usize = 64;

/// What the thread works on.
pub(super) struct Books {
    /// Its connection.
    pub connection: Connection,
    /// What it remembers of rows that it wrote.
    pub cache: Cache,
}

/// Whether the connection is as it should be after a piece of work.
enum Health {
    Sound,
    Doubtful,
}

type Work = Box<dyn FnOnce(Result<&mut Books, LedgerError>) -> Health + Send>;

/// The way to the thread.
pub(super) struct Writer {
    work: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(path: PathBuf, connection: Connection) -> Result<Self, OpenError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let serve = move || serve(&path, connection, receiver);
        let thread = std::thread::Builder::new().name("ledger-writer".to_owned()).spawn(serve);
        Ok(Self { work: Some(sender), thread: Some(thread.map_err(OpenError::Thread)?) })
    }

    /// Has a piece of work done. What was begun is done even if nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Books) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |books| {
            let result = books.and_then(work);
            let health = match &result {
                Err(LedgerError::Unavailable(_) | LedgerError::Corrupt { .. }) => Health::Doubtful,
                _ => Health::Sound,
            };
            // Nobody listens where the caller was cancelled.
            let _ = answer.send(result);
            health
        });
        let stopped = || LedgerError::Unavailable(Box::new(Stopped));
        self.work.as_ref().ok_or_else(stopped)?.send(work).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    /// Waits until what was asked for is written and the file is closed.
    fn drop(&mut self) {
        drop(self.work.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the ledger's writer panicked");
        }
    }
}

fn serve(path: &std::path::Path, connection: Connection, mut work: mpsc::Receiver<Work>) {
    let mut books = Some(Books { connection, cache: Cache::default() });
    while let Some(work) = work.blocking_recv() {
        if books.is_none() {
            let reopened = connection::reopen(path);
            match reopened {
                Ok(connection) => books = Some(Books { connection, cache: Cache::default() }),
                Err(error) => {
                    work(Err(LedgerError::Unavailable(Box::new(error))));
                    continue;
                }
            }
        }
        let Some(open) = books.as_mut() else { continue };
        let health = std::panic::catch_unwind(AssertUnwindSafe(|| work(Ok(open))));
        if !matches!(health, Ok(Health::Sound)) {
            books = None;
        }
    }
}
