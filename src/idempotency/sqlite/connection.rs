//! The connection of the store of answers.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// How long a statement waits for another process (a shell) to let go.
const BUSY_FOR: Duration = Duration::from_secs(2);
/// Pages kept in memory: keys are found by chance, so few are found there anyway.
const CACHE_KIB: i64 = 8 * 1024;
/// Pages in the WAL before it is written back.
const CHECKPOINT_PAGES: i64 = 4_000;
/// What stays of the WAL's file after a checkpoint.
const WAL_KEEPS_BYTES: i64 = 32 * 1024 * 1024;

mod schema {
    refinery::embed_migrations!("src/idempotency/sqlite/schema");
}

/// What a key that was taken survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// Loss of power: each transaction is synced.
    Each,
    /// Loss of the process.
    Seldom,
}

/// Why the store of answers could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened or set up.
    #[error("the file of idempotency keys cannot be opened")]
    File(#[source] rusqlite::Error),
    /// The tables cannot be brought to what this program knows, or were made by a newer one.
    #[error("the tables of idempotency keys are not what this program knows")]
    Schema(#[source] Box<refinery::Error>),
    /// The thread cannot be started.
    #[error("the thread of the store of answers cannot be started")]
    Thread(#[source] std::io::Error),
}

/// Makes the file where there is none, and brings its tables up to date.
pub(super) fn create(path: &Path, syncs: Syncs) -> Result<Connection, OpenError> {
    let mut connection = open(path, syncs, OpenFlags::SQLITE_OPEN_CREATE).map_err(OpenError::File)?;
    let migrated = schema::migrations::runner().run(&mut connection);
    migrated.map_err(|error| OpenError::Schema(Box::new(error)))?;
    Ok(connection)
}

/// Opens the file again, after an error. Never makes one: keys that have gone are not keys that were never used.
pub(super) fn reopen(path: &Path, syncs: Syncs) -> rusqlite::Result<Connection> {
    open(path, syncs, OpenFlags::empty())
}

fn open(path: &Path, syncs: Syncs, also: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | also;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_FOR)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    let synchronous = match syncs {
        Syncs::Each => "full",
        Syncs::Seldom => "normal",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_KEEPS_BYTES)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}
