//! What SQLite's errors mean to a caller of the ledger.

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::ledger::LedgerError;

/// The thread that writes has ended.
#[derive(Debug, thiserror::Error)]
#[error("the ledger's writer has stopped")]
pub(super) struct Stopped;

impl From<rusqlite::Error> for LedgerError {
    /// A broken file, a broken rule and a value that cannot be read are damage; all else may pass.
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch,
            )
            | None => Self::Corrupt { what: error.to_string() },
            Some(_) => Self::Unavailable(Box::new(error)),
        }
    }
}

impl From<rusqlite::types::FromSqlError> for LedgerError {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Self::Corrupt { what: error.to_string() }
    }
}

/// An error of writing `what`, whose name and id must be new, and what it belongs to (`owner`) must be there.
pub(super) fn of_adding(error: rusqlite::Error, what: &str, owner: &str) -> LedgerError {
    match error.sqlite_error().map(|error| error.extended_code) {
        Some(ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => {
            LedgerError::Exists { what: what.to_owned() }
        }
        Some(ffi::SQLITE_CONSTRAINT_FOREIGNKEY) => LedgerError::Missing { what: owner.to_owned() },
        _ => error.into(),
    }
}
