//! What stands behind one row: the account's later records and updates, newest first, each naming the one before it.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row};

use super::super::columns::cell_of;
use super::SqliteBooks;
use super::pages::{money_columns, money_of};
use super::rows::{money_hash, update};
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedCells, BookedUpdate, Books};
use crate::ledger::chain::rows::{EVENT, MONEY, ORDER, OwnedCell, RowBytes};
use crate::units::{AccountId, DecisionId, Seq};

/// A call cell by cell.
pub(super) fn cells(
    connection: &Connection,
    decision: DecisionId,
) -> Result<Option<BookedCells>, LedgerError> {
    let sql = format!("SELECT {} FROM usage_events WHERE decision = ?1", EVENT.join(", "));
    let event = connection.query_row(&sql, [decision], |row| owned(row, EVENT.len())).optional()?;
    let Some(event) = event else { return Ok(None) };
    let mut select = connection.prepare_cached(&money_of())?;
    let money = select.query_map([decision], |row| owned(row, MONEY.len() + ORDER.len()))?;
    Ok(Some(BookedCells { event, money: money.collect::<Result<_, _>>()? }))
}

fn owned(row: &Row<'_>, cells: usize) -> rusqlite::Result<Vec<OwnedCell>> {
    (0..cells).map(|place| Ok(cell_of(row.get_ref(place)?)?.into())).collect()
}

/// The hashes of an account's rows after a record.
pub(super) fn rows_after(
    books: &SqliteBooks,
    account: AccountId,
    seq: Seq,
) -> Result<Vec<[u8; 32]>, LedgerError> {
    let mut rows = BTreeMap::new();
    let mut next = newest(books, account, "event")?;
    while let Some(place) = next {
        let found = books.events(place.saturating_sub(1), 1)?.pop();
        let found = found.filter(|event| event.account == account && event.place == place && event.seq > seq);
        next = found.as_ref().and_then(|event| event.previous);
        rows.extend(found.map(|event| (event.seq, event.row)));
    }
    for record in books.records_of(account, seq, Seq(i64::MAX.unsigned_abs()))? {
        let money =
            if &*record.kind == "correction" { revision_row(books, account, record.seq)? } else { None };
        rows.insert(record.seq, record.bytes.clone().hash(money.as_ref()));
    }
    Ok(rows.into_values().collect())
}

/// The hash of the monetization event of a correction.
pub(super) fn revision_row(
    books: &SqliteBooks,
    account: AccountId,
    seq: Seq,
) -> Result<Option<[u8; 32]>, LedgerError> {
    let sql = format!("SELECT {} FROM monetization_events WHERE account = ?1 AND seq = ?2", money_columns());
    let mut bytes = RowBytes::default();
    let mut select = books.connection.prepare_cached(&sql)?;
    let found = select.query_row(rusqlite::params![account, seq], |row| money_hash(row, &mut bytes));
    Ok(found.optional()?)
}

/// An account's balance updates from a record on.
pub(super) fn updates_from(
    books: &SqliteBooks,
    account: AccountId,
    seq: Seq,
) -> Result<Vec<BookedUpdate>, LedgerError> {
    let mut select = books.connection.prepare_cached(
        "SELECT place, balance, previous, seq, kind, cause_kind, cause, grant_id, amount, before, after, at, hash \
         FROM balance_updates WHERE place = ?1",
    )?;
    let mut updates = Vec::new();
    let mut next = newest(books, account, "change")?;
    while let Some(place) = next {
        let found = select.query_row([place], update).optional()?.filter(|update| update.seq >= seq);
        next = found.and_then(|update| update.previous.filter(|previous| *previous < place));
        updates.extend(found);
    }
    updates.reverse();
    Ok(updates)
}

fn newest(books: &SqliteBooks, account: AccountId, what: &str) -> Result<Option<i64>, LedgerError> {
    let sql = format!("SELECT {what} FROM heads WHERE account = ?1");
    Ok(books.connection.query_row(&sql, [account], |row| row.get(0)).optional()?.flatten())
}
