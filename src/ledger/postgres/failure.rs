//! What PostgreSQL's errors mean to a caller of the ledger.

use tokio_postgres::error::SqlState;

use crate::ledger::LedgerError;

/// It did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {seconds} s")]
pub(super) struct TimedOut {
    /// How long was waited.
    pub seconds: u64,
}

/// The runtime that drives its connections has ended.
#[derive(Debug, thiserror::Error)]
#[error("the ledger is closed")]
pub(super) struct Closed;

/// That it has.
pub(super) fn closed() -> LedgerError {
    LedgerError::Unavailable(Box::new(Closed))
}

impl From<tokio_postgres::Error> for LedgerError {
    /// A broken rule, a value that cannot be and a broken file are damage; all else may pass.
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code().map(SqlState::code) {
            Some(code) if is_damage(code) => Self::Corrupt { what: told(&error) },
            _ => Self::Unavailable(Box::new(error)),
        }
    }
}

/// By the class of the code: data exception, integrity constraint violation; or the very file.
fn is_damage(code: &str) -> bool {
    code.starts_with("22") || code.starts_with("23") || matches!(code, "XX001" | "XX002")
}

impl From<deadpool_postgres::PoolError> for LedgerError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

/// An error of writing `what`, whose name and id must be new, and what it belongs to (`owner`) must be there.
pub(super) fn of_adding(error: tokio_postgres::Error, what: &str, owner: &str) -> LedgerError {
    match error.code() {
        Some(&SqlState::UNIQUE_VIOLATION) => LedgerError::Exists { what: what.to_owned() },
        Some(&SqlState::FOREIGN_KEY_VIOLATION) => LedgerError::Missing { what: owner.to_owned() },
        _ => error.into(),
    }
}

/// What the server said, without what it was given.
fn told(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}
