//! Taking over the books of a file: every table as it is, in one transaction, into a ledger that has nothing yet.
//!
//! Rows keep their places and hashes, so that both sides prove the same. Little stands in memory at a time; what ends
//! in the middle has moved nothing, and can be begun again.

use std::collections::BTreeSet;

use tokio::runtime::Runtime;
use tokio_postgres::Client;

use super::connection::{OpenError, Server};
use super::partitions::months_of;
use super::table::{Kind, Rows, kind_of};
use super::wanted::made_at;
use crate::ledger::LedgerError;
use crate::ledger::chain::rows::{Cell, EVENT, MONEY, ORDER, RECORD};
use crate::ledger::fields::{Fields as _, FromCell as _};
use crate::ledger::sqlite::SqliteBooks;
use crate::units::{DecisionId, Timestamp};

/// Rows that are written together.
const TOGETHER: usize = 1_000;

/// Why books were not taken over.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The server cannot be used.
    #[error("the books have nowhere to go")]
    Open(#[from] OpenError),
    /// It has books.
    #[error("the ledger on the server has rows in {table} already: books are moved into an empty one only")]
    NotEmpty {
        /// Where.
        table: &'static str,
    },
    /// Reading or writing failed.
    #[error("the books were not moved; nothing of them is on the server")]
    Failed(#[from] LedgerError),
}

/// A table that is moved.
struct Table {
    name: &'static str,
    columns: Vec<(&'static str, Kind)>,
}

/// All tables, those first that others refer to: what `id` is there, and the other columns.
const TABLES: [(&str, Option<Kind>, &[&str]); 13] = [
    ("accounts", Some(Kind::Id), &["name", "plan", "status", "created_at"]),
    ("users", Some(Kind::Id), &["account", "name", "created_at"]),
    ("keys", Some(Kind::Id), &["account", "user", "hash", "hint", "created_at", "expires_at", "revoked_at"]),
    ("policies", None, &["version", "text"]),
    (
        "resources",
        Some(Kind::Text),
        &[
            "account",
            "user",
            "context_tokens",
            "upstream",
            "kind",
            "made_at",
            "model",
            "seconds",
            "size",
            "decision",
        ],
    ),
    ("balances", Some(Kind::Integer), &["account", "user", "name", "standing", "debt", "hash"]),
    (
        "grants",
        Some(Kind::Id),
        &[
            "balance",
            "seq",
            "amount",
            "repaid",
            "priority",
            "expires_at",
            "granted_at",
            "decision",
            "idempotency_key",
            "note",
        ],
    ),
    (
        "adjustments",
        Some(Kind::Id),
        &["balance", "seq", "grant_id", "amount", "repaid", "adjusted_at", "idempotency_key", "reason"],
    ),
    ("remainders", None, &["balance", "grant_id", "remaining"]),
    ("counters", None, &["account", "user", "slots"]),
    ("heads", None, &["account", "seq", "event", "change", "hash"]),
    (
        "balance_updates",
        None,
        &[
            "at",
            "place",
            "balance",
            "seq",
            "previous",
            "kind",
            "cause_kind",
            "cause",
            "grant_id",
            "amount",
            "before",
            "after",
            "hash",
        ],
    ),
    (
        "blocks",
        None,
        &["decision", "at", "account", "user", "feature", "model", "policy", "estimate", "block", "count"],
    ),
];

fn tables() -> Vec<Table> {
    let kind = |name, column| match (name, column) {
        ("accounts", "status") => Kind::Text,
        _ => kind_of(column),
    };
    let listed = TABLES.iter().map(|(name, id, columns)| Table {
        name,
        columns: id
            .iter()
            .map(|id| ("id", *id))
            .chain(columns.iter().map(|column| (*column, kind(*name, *column))))
            .collect(),
    });
    let hashed = [
        ("records", &RECORD[..], &["place", "hash"][..]),
        ("usage_events", &EVENT, &["place", "previous", "hash"]),
        ("monetization_events", &MONEY, &ORDER),
    ];
    let hashed = hashed.into_iter().map(|(name, cells, more)| Table {
        name,
        columns: cells.iter().chain(more).map(|column| (*column, kind_of(column))).collect(),
    });
    listed.chain(hashed).collect()
}

impl Table {
    /// The instant that a row's partition goes by, where there are any: it stands in the first column.
    fn instant(&self, row: &[Cell<'_>]) -> Option<Timestamp> {
        let first = *row.first()?;
        match self.name {
            "usage_events" | "monetization_events" => Some(made_at(DecisionId::from_cell(first)?)),
            "balance_updates" => Timestamp::from_cell(first),
            _ => None,
        }
    }
}

/// Moves the books of a file to the server at an address. `progress` is told how many rows of which table are moved.
pub fn take_over(
    address: &str,
    from: &SqliteBooks,
    progress: &mut dyn FnMut(&'static str, u64),
) -> Result<(), MoveError> {
    let server = Server::of(address)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(OpenError::Thread)?;
    let client = runtime.block_on(async {
        server.migrate().await?;
        server.booking().await.map_err(OpenError::Connect)
    })?;
    let mut moving = Moving { client, runtime, months: BTreeSet::new() };
    moving.run("BEGIN")?;
    let tables = tables();
    for table in &tables {
        let any = moving
            .number(&format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT 1) AS found", table.name))?;
        if any > 0 {
            return Err(MoveError::NotEmpty { table: table.name });
        }
    }
    for table in &tables {
        moving.table(table, from, progress)?;
    }
    moving.places()?;
    moving.run("COMMIT")?;
    Ok(())
}

/// The books on their way.
struct Moving {
    /// Dropped first: what is not committed is rolled back.
    client: Client,
    runtime: Runtime,
    months: BTreeSet<i64>,
}

impl Moving {
    fn run(&self, sql: &str) -> Result<(), LedgerError> {
        Ok(self.runtime.block_on(self.client.batch_execute(sql))?)
    }

    fn number(&self, sql: &str) -> Result<i64, LedgerError> {
        Ok(self.runtime.block_on(self.client.query_one(sql, &[]))?.read(0)?)
    }

    fn table(
        &mut self,
        table: &Table,
        from: &SqliteBooks,
        progress: &mut dyn FnMut(&'static str, u64),
    ) -> Result<(), LedgerError> {
        let mut rows = Rows::of(table.columns.iter().copied());
        let mut moved = 0;
        let sql = format!("SELECT {} FROM {}", rows.names(), table.name);
        from.each_cells(&sql, table.columns.len(), &mut |cells| {
            if let Some(at) = table.instant(cells) {
                self.make_month(at)?;
            }
            rows.push(cells.iter().copied())?;
            if rows.len() == TOGETHER {
                let full = std::mem::replace(&mut rows, Rows::of(table.columns.iter().copied()));
                moved += self.write(table.name, &full)?;
                progress(table.name, moved);
            }
            Ok(())
        })?;
        moved += self.write(table.name, &rows)?;
        progress(table.name, moved);
        Ok(())
    }

    fn write(&self, table: &str, rows: &Rows) -> Result<u64, LedgerError> {
        if rows.is_empty() {
            return Ok(0);
        }
        Ok(self.runtime.block_on(self.client.execute(&rows.insert(table), &rows.parameters()))?)
    }

    fn make_month(&mut self, at: Timestamp) -> Result<(), LedgerError> {
        let Some([first, _]) = months_of(at) else { return Ok(()) };
        if self.months.insert(first) {
            self.runtime.block_on(self.client.execute("SELECT make_month($1)", &[&first]))?;
        }
        Ok(())
    }

    /// Places go on behind those that were moved.
    fn places(&self) -> Result<(), LedgerError> {
        let newest = |column: &str, table: &str| {
            self.number(&format!("SELECT coalesce(max({column}), 0) FROM {table}"))
        };
        let (events, updates) = (newest("place", "usage_events")?, newest("place", "balance_updates")?);
        let (records, balances) = (newest("place", "records")?, newest("id", "balances")?);
        let take = format!("SELECT take_places({events}, {updates}, {records}, {balances})");
        self.run(&take)
    }
}
