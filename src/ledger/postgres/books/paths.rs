//! What stands behind one row: the account's later records and updates, each naming the one before it.

use std::collections::BTreeMap;

use super::PostgresBooks;
use super::pages::{UPDATE, event, list, money};
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedCells, BookedUpdate, Books};
use crate::ledger::chain::rows::{EVENT, MONEY, ORDER, RowBytes};
use crate::ledger::fields::Fields as _;
use crate::ledger::postgres::columns::Id;
use crate::ledger::told::booked;
use crate::units::{AccountId, DecisionId, Seq};

/// The places of a table's rows from a place on, each naming the one before it, as long as they are of this seq or
/// later. A walk ends even in damaged books: no row stands behind the one that names it.
fn walk(table: &str) -> String {
    format!(
        "WITH RECURSIVE walk AS (SELECT place, previous, seq FROM {table} WHERE place = $1 UNION ALL \
         SELECT older.place, older.previous, older.seq FROM walk JOIN {table} AS older \
         ON older.place = walk.previous AND older.place < walk.place WHERE older.seq >= $2) "
    )
}

/// A call cell by cell.
pub(super) fn cells(books: &PostgresBooks, decision: DecisionId) -> Result<Option<BookedCells>, LedgerError> {
    let sql = format!("SELECT {} FROM usage_events WHERE decision = $1", list(&EVENT));
    let Some(event) = books.one(&sql, &[&Id::from(decision)])? else { return Ok(None) };
    let money =
        books.all(&format!("{} WHERE decision = $1 ORDER BY revision", money()), &[&Id::from(decision)])?;
    let money = money.iter().map(|row| booked::owned(row, MONEY.len() + ORDER.len()));
    Ok(Some(BookedCells {
        event: booked::owned(&event, EVENT.len())?,
        money: money.collect::<Result<_, _>>()?,
    }))
}

/// The hashes of an account's rows after a record.
pub(super) fn rows_after(
    books: &PostgresBooks,
    account: AccountId,
    seq: Seq,
) -> Result<Vec<[u8; 32]>, LedgerError> {
    let mut rows = BTreeMap::new();
    if let Some(place) = newest(books, account, "event")? {
        let sql = format!("{} {} WHERE place IN (SELECT place FROM walk)", walk("usage_events"), event());
        let found = books.all(&sql, &[&place, &seq.next().0.cast_signed()])?;
        let events = books.pages.borrow_mut().with_money(books, &found)?;
        let events = events.into_iter().filter(|event| event.account == account && event.seq > seq);
        rows.extend(events.map(|event| (event.seq, event.row)));
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
    books: &PostgresBooks,
    account: AccountId,
    seq: Seq,
) -> Result<Option<[u8; 32]>, LedgerError> {
    let sql = format!("{} WHERE account = $1 AND seq = $2", money());
    let Some(row) = books.one(&sql, &[&Id::from(account), &seq.0.cast_signed()])? else { return Ok(None) };
    let mut bytes = RowBytes::default();
    Ok(Some(booked::money_hash(&row, &mut bytes)?))
}

/// An account's balance updates from a record on.
pub(super) fn updates_from(
    books: &PostgresBooks,
    account: AccountId,
    seq: Seq,
) -> Result<Vec<BookedUpdate>, LedgerError> {
    let Some(place) = newest(books, account, "change")? else { return Ok(Vec::new()) };
    let sql = format!(
        "{} {UPDATE} WHERE place IN (SELECT place FROM walk) AND seq >= $2 ORDER BY place",
        walk("balance_updates")
    );
    let rows = books.all(&sql, &[&place, &seq.0.cast_signed()])?;
    Ok(rows.iter().map(booked::update).collect::<Result<_, _>>()?)
}

/// The link of the record in this place of an account.
pub(super) fn link_of(
    books: &PostgresBooks,
    account: AccountId,
    seq: Seq,
) -> Result<Option<[u8; 32]>, LedgerError> {
    let at = seq.0.cast_signed();
    let sql = "SELECT hash FROM records WHERE account = $1 AND seq = $2";
    if let Some(row) = books.one(sql, &[&Id::from(account), &at])? {
        return Ok(row.read(0)?);
    }
    let Some(place) = newest(books, account, "event")? else { return Ok(None) };
    let sql = format!(
        "{} SELECT hash FROM usage_events WHERE place IN (SELECT place FROM walk WHERE seq = $2) AND account = $3",
        walk("usage_events")
    );
    let row = books.one(&sql, &[&place, &at, &Id::from(account)])?;
    Ok(row.map(|row| row.read(0)).transpose()?.flatten())
}

/// The hash of a balance's newest update at or before a place.
pub(super) fn hash_of(
    books: &PostgresBooks,
    balance: i64,
    at_or_before: Option<i64>,
) -> Result<Option<[u8; 32]>, LedgerError> {
    let Some(place) = at_or_before else { return Ok(None) };
    let sql = "WITH RECURSIVE walk AS (SELECT place, previous, balance, hash FROM balance_updates WHERE place = $1 \
         UNION ALL SELECT older.place, older.previous, older.balance, older.hash FROM walk \
         JOIN balance_updates AS older ON older.place = walk.previous AND older.place < walk.place \
         WHERE walk.balance <> $2) SELECT hash FROM walk WHERE balance = $2 LIMIT 1";
    let row = books.one(sql, &[&place, &balance])?;
    Ok(row.map(|row| row.read(0)).transpose()?)
}

fn newest(books: &PostgresBooks, account: AccountId, what: &str) -> Result<Option<i64>, LedgerError> {
    let row = books.one(&format!("SELECT {what} FROM heads WHERE account = $1"), &[&Id::from(account)])?;
    Ok(row.map(|row| row.read(0)).transpose()?.flatten())
}
