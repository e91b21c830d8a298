//! Pages of what is read whole, in the order of booking: rows after a place, decoded and hashed.

use rusqlite::{Connection, Params, Row, params};
use smallvec::SmallVec;

use super::rows::{event, hashed, money_event, seq, update, words};
use super::words::Words;
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedEvent, BookedRecord, BookedUpdate, Extent};
use crate::ledger::chain::rows::{EVENT, MONEY, ORDER, RECORD, RowBytes, RowKind};
use crate::units::{AccountId, DecisionId, Seq};

/// The monetization events of a decision.
pub(super) fn money_of() -> String {
    let columns = money_columns();
    format!("SELECT {columns} FROM monetization_events WHERE decision = ?1 ORDER BY revision")
}

/// The columns of a monetization event, as they are hashed.
pub(super) fn money_columns() -> String {
    [&MONEY[..], &ORDER[..]].concat().join(", ")
}

/// How to read pages: the statements, and the words that rows share.
#[derive(Debug)]
pub(super) struct Pages {
    events: String,
    money: String,
    records: String,
    records_of: String,
    words: Words,
    bytes: RowBytes,
}

impl Pages {
    pub(super) fn new() -> Self {
        let record = format!("SELECT {}, place, hash FROM records", RECORD.join(", "));
        Self {
            events: format!(
                "SELECT {}, place, previous, hash FROM usage_events WHERE place > ?1 ORDER BY place LIMIT ?2",
                EVENT.join(", ")
            ),
            money: money_of(),
            records: format!("{record} WHERE place > ?1 ORDER BY place LIMIT ?2"),
            records_of: format!("{record} WHERE account = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq"),
            words: Words::default(),
            bytes: RowBytes::default(),
        }
    }

    /// Usage events with their money.
    pub(super) fn events(
        &mut self,
        connection: &Connection,
        after: i64,
        limit: u32,
    ) -> Result<Vec<BookedEvent>, LedgerError> {
        let mut select = connection.prepare_cached(&self.events)?;
        let mut money = connection.prepare_cached(&self.money)?;
        let mut rows = select.query(params![after, limit])?;
        let mut events = Vec::with_capacity(limit as usize);
        while let Some(row) = rows.next()? {
            let decision: DecisionId = row.get(0)?;
            let mut revisions = money.query([decision])?;
            let mut all = SmallVec::new();
            while let Some(row) = revisions.next()? {
                all.push(money_event(row, &mut self.words, &mut self.bytes)?);
            }
            events.push(event(row, decision, all, &mut self.words, &mut self.bytes)?);
        }
        Ok(events)
    }

    /// Balance updates.
    pub(super) fn updates(
        connection: &Connection,
        after: i64,
        limit: u32,
    ) -> Result<Vec<BookedUpdate>, LedgerError> {
        let mut select = connection.prepare_cached(
            "SELECT place, balance, previous, seq, kind, cause_kind, cause, grant_id, amount, before, after, at, hash \
             FROM balance_updates WHERE place > ?1 ORDER BY place LIMIT ?2",
        )?;
        let rows = select.query_map(params![after, limit], update)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Records that are no usage events.
    pub(super) fn records(
        &mut self,
        connection: &Connection,
        after: i64,
        limit: u32,
    ) -> Result<Vec<BookedRecord>, LedgerError> {
        let Self { records, words, .. } = self;
        each_record(connection, records, params![after, limit], words)
    }

    /// Those of an account.
    pub(super) fn records_of(
        &mut self,
        connection: &Connection,
        account: AccountId,
        after: Seq,
        before: Seq,
    ) -> Result<Vec<BookedRecord>, LedgerError> {
        let Self { records_of, words, .. } = self;
        let before = i64::try_from(before.0).unwrap_or(i64::MAX);
        each_record(connection, records_of, params![account, after.0.cast_signed(), before], words)
    }
}

fn each_record(
    connection: &Connection,
    sql: &str,
    bounds: impl Params,
    words: &mut Words,
) -> Result<Vec<BookedRecord>, LedgerError> {
    let mut select = connection.prepare_cached(sql)?;
    let rows = select.query_map(bounds, |row| record(row, words))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn record(row: &Row<'_>, shared: &mut Words) -> rusqlite::Result<BookedRecord> {
    let mut bytes = RowBytes::default();
    hashed(row, RowKind::Record, RECORD.len(), &mut bytes)?;
    Ok(BookedRecord {
        account: row.get(0)?,
        seq: seq(row, 1)?,
        kind: words(row, 2, shared)?.unwrap_or_else(|| shared.shared("")),
        digest: row.get(3)?,
        place: row.get(4)?,
        bytes,
        hash: row.get(5)?,
    })
}

/// How far the books go.
pub(super) fn extent(connection: &Connection) -> Result<Extent, LedgerError> {
    let newest = |table| newest(connection, table);
    Ok(Extent {
        events: newest("usage_events")?,
        records: newest("records")?,
        updates: newest("balance_updates")?,
    })
}

/// The newest place of a table.
pub(super) fn newest(connection: &Connection, table: &str) -> rusqlite::Result<i64> {
    let sql = format!("SELECT coalesce(max(place), 0) FROM {table}");
    connection.query_row(&sql, [], |row| row.get(0))
}
