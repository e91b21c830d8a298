//! Connections: one that writes, a few that read, all set up here.
//!
//! WAL, so that readers see one consistent state while the writer goes on; `synchronous = FULL`, so that a commit has
//! reached the disk when it is answered. The sizes are measured: see the notes at each.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

/// How long a statement waits for another process (a backup, a shell) to let go.
const BUSY_FOR: Duration = Duration::from_secs(2);

/// Pages that the writer keeps in memory: enough for the accounts that are active together.
const WRITER_CACHE_KIB: i64 = 16 * 1024;
/// A reader's pages: look-ups touch few.
const READER_CACHE_KIB: i64 = 2 * 1024;
/// Pages in the WAL before it is written back: the more, the more changes of one page are written back as one.
const CHECKPOINT_PAGES: i64 = 4_000;
/// What stays of the WAL's file after a checkpoint.
const WAL_KEEPS_BYTES: i64 = 32 * 1024 * 1024;

mod schema {
    refinery::embed_migrations!("src/ledger/sqlite/schema");
}

/// Why the ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened or set up.
    #[error("the ledger's file cannot be opened")]
    File(#[source] rusqlite::Error),
    /// The file, or what it stands on, cannot be written.
    #[error("the ledger's file is read-only")]
    ReadOnly,
    /// The tables cannot be brought to what this program knows, or were made by a newer one.
    #[error("the ledger's tables are not what this program knows")]
    Schema(#[source] Box<refinery::Error>),
    /// The thread that writes cannot be started.
    #[error("the ledger's writer cannot be started")]
    Thread(#[source] std::io::Error),
}

/// Makes the file where there is none, and brings its tables up to date.
pub(super) fn create(path: &Path) -> Result<Connection, OpenError> {
    let mut connection = writer(path, OpenFlags::SQLITE_OPEN_CREATE).map_err(OpenError::File)?;
    if connection.is_readonly("main").map_err(OpenError::File)? {
        return Err(OpenError::ReadOnly);
    }
    let migrated = schema::migrations::runner().run(&mut connection);
    migrated.map_err(|error| OpenError::Schema(Box::new(error)))?;
    Ok(connection)
}

/// Opens the file again for writing, after an error. Never makes one: a ledger that has gone is not an empty one.
pub(super) fn reopen(path: &Path) -> rusqlite::Result<Connection> {
    writer(path, OpenFlags::empty())
}

fn writer(path: &Path, also: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | also;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_FOR)?;
    keep_plans(&connection)?;
    if !connection.is_readonly("main")? {
        connection.pragma_update(None, "journal_mode", "wal")?;
    }
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_KEEPS_BYTES)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Opens the file for reading only.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_FOR)?;
    keep_plans(&connection)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    Ok(connection)
}

/// Statements keep their plans whatever is bound to them. Else some are planned anew for every value, which costs ten
/// times what they do.
fn keep_plans(connection: &Connection) -> rusqlite::Result<bool> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
}
