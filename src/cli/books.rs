//! Books, wherever they are.

use crate::config::LedgerAt;
use crate::ledger::LedgerError;
use crate::ledger::books::Books;
use crate::ledger::postgres::PostgresBooks;
use crate::ledger::recorded::Recorded;
use crate::ledger::sqlite::SqliteBooks;
use crate::units::AccountId;

/// Opened books.
pub(super) enum OpenBooks {
    /// In a file.
    File(Box<SqliteBooks>),
    /// On a server.
    Server(Box<PostgresBooks>),
}

impl OpenBooks {
    /// Opens them for reading, as of now.
    pub(super) fn at(ledger: &LedgerAt) -> Result<Self, LedgerError> {
        Ok(match ledger {
            LedgerAt::File(path) => Self::File(Box::new(SqliteBooks::open(path)?)),
            LedgerAt::Server(address) => Self::server(address.as_address())?,
        })
    }

    /// Opens them for reading all of them.
    pub(super) fn whole(ledger: &LedgerAt) -> Result<Self, LedgerError> {
        Ok(match ledger {
            LedgerAt::File(path) => Self::File(Box::new(SqliteBooks::open_ahead(path)?)),
            LedgerAt::Server(address) => Self::server(address.as_address())?,
        })
    }

    fn server(address: &str) -> Result<Self, LedgerError> {
        Ok(Self::Server(Box::new(PostgresBooks::open(address)?)))
    }

    /// As the audit reads them.
    pub(super) fn books(&self) -> &dyn Books {
        match self {
            Self::File(books) => &**books,
            Self::Server(books) => &**books,
        }
    }

    /// As replay reads them.
    pub(super) fn recorded(&self) -> &dyn Recorded {
        match self {
            Self::File(books) => &**books,
            Self::Server(books) => &**books,
        }
    }

    /// The account of this id or name.
    pub(super) fn account(&self, id_or_name: &str) -> Result<Option<AccountId>, LedgerError> {
        match self {
            Self::File(books) => books.account(id_or_name),
            Self::Server(books) => books.account(id_or_name),
        }
    }
}
