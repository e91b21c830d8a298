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

#[cfg(test)]
const FAILS_BEFORE: u8 = 1;
#[cfg(test)]
const FAILS_AFTER: u8 = 2;

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
    /// Does the work in place of the thread.
    #[cfg(test)]
    here: Option<std::sync::Mutex<Keeper>>,
    /// What becomes of the next piece of work that is done here.
    #[cfg(test)]
    fails: std::sync::atomic::AtomicU8,
}

/// Keeps the books open for one piece of work after the other.
struct Keeper {
    path: PathBuf,
    books: Option<Books>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(path: PathBuf, connection: Connection) -> Result<Self, OpenError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let serve = move || serve(Keeper::new(path, connection), receiver);
        let thread = std::thread::Builder::new().name("ledger-writer".to_owned()).spawn(serve);
        Ok(Self {
            work: Some(sender),
            thread: Some(thread.map_err(OpenError::Thread)?),
            #[cfg(test)]
            here: None,
            #[cfg(test)]
            fails: 0.into(),
        })
    }

    /// A writer without a thread: whoever asks for work does it.
    #[cfg(test)]
    pub(super) fn here(path: PathBuf, connection: Connection) -> Self {
        let keeper = Keeper::new(path, connection);
        Self { work: None, thread: None, here: Some(std::sync::Mutex::new(keeper)), fails: 0.into() }
    }

    /// Has the next piece of work that is done here fail: undone, or though it is done.
    #[cfg(test)]
    pub(super) fn fail_next(&self, done: bool) {
        let fails = if done { FAILS_AFTER } else { FAILS_BEFORE };
        self.fails.store(fails, std::sync::atomic::Ordering::Relaxed);
    }

    /// Does a piece of work, and tells whether that may be told.
    #[cfg(test)]
    fn work_here(&self, keeper: &std::sync::Mutex<Keeper>, work: Work) -> bool {
        let fails = self.fails.swap(0, std::sync::atomic::Ordering::Relaxed);
        if fails != FAILS_BEFORE
            && let Ok(mut keeper) = keeper.lock()
        {
            keeper.take(work);
        }
        fails == 0
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
        #[cfg(test)]
        if let Some(keeper) = &self.here {
            if !self.work_here(keeper, work) {
                return Err(stopped());
            }
            return answered.await.map_err(|_| stopped())?;
        }
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

fn serve(mut keeper: Keeper, mut work: mpsc::Receiver<Work>) {
    while let Some(work) = work.blocking_recv() {
        keeper.take(work);
    }
}

impl Keeper {
    fn new(path: PathBuf, connection: Connection) -> Self {
        Self { path, books: Some(Books { connection, cache: Cache::default() }) }
    }

    /// Does one piece of work, with the file opened again where the last piece left doubts.
    fn take(&mut self, work: Work) {
        if self.books.is_none() {
            match connection::reopen(&self.path) {
                Ok(connection) => self.books = Some(Books { connection, cache: Cache::default() }),
                Err(error) => {
                    work(Err(LedgerError::Unavailable(Box::new(error))));
                    return;
                }
            }
        }
        let Some(open) = self.books.as_mut() else { return };
        let health = std::panic::catch_unwind(AssertUnwindSafe(|| work(Ok(open))));
        if !matches!(health, Ok(Health::Sound)) {
            self.books = None;
        }
    }
}
