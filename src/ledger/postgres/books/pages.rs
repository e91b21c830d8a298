//! Pages of what is read whole, in the order of booking.

use std::collections::HashMap;

use smallvec::SmallVec;
use tokio_postgres::Row;

use super::PostgresBooks;
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedEvent, BookedMoney, BookedRecord, BookedUpdate};
use crate::ledger::chain::rows::{EVENT, MONEY, ORDER, RECORD, RowBytes};
use crate::ledger::fields::Fields as _;
use crate::ledger::postgres::columns::Id;
use crate::ledger::told::booked;
use crate::ledger::told::words::Words;
use crate::units::{AccountId, DecisionId, Seq};

/// Balances.
pub(super) const STANDING: &str = "SELECT id, account, \"user\", name, standing, debt, hash FROM balances";

/// Balance updates.
pub(super) const UPDATE: &str = "SELECT place, balance, previous, seq, kind, cause_kind, cause, grant_id, amount, \
     before, after, at, hash FROM balance_updates";

/// The columns in this order.
pub(super) fn list(columns: &[&str]) -> String {
    columns.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ")
}

/// Usage events.
pub(super) fn event() -> String {
    format!("SELECT {}, place, previous, hash FROM usage_events", list(&EVENT))
}

/// Monetization events.
pub(super) fn money() -> String {
    format!("SELECT {} FROM monetization_events", list(&[&MONEY[..], &ORDER[..]].concat()))
}

fn record() -> String {
    format!("SELECT {}, place, hash FROM records", list(&RECORD))
}

/// What pages share.
#[derive(Debug, Default)]
pub(super) struct Pages {
    words: Words,
    bytes: RowBytes,
}

impl Pages {
    /// Usage events with their money.
    pub(super) fn events(
        &mut self,
        books: &PostgresBooks,
        after: i64,
        limit: u32,
    ) -> Result<Vec<BookedEvent>, LedgerError> {
        let sql = format!("{} WHERE place > $1 ORDER BY place LIMIT $2", event());
        let rows = books.all(&sql, &[&after, &i64::from(limit)])?;
        self.with_money(books, &rows)
    }

    /// Events of rows, their money read together.
    pub(super) fn with_money(
        &mut self,
        books: &PostgresBooks,
        rows: &[Row],
    ) -> Result<Vec<BookedEvent>, LedgerError> {
        let mut decisions = rows.iter().map(|row| row.read(0).map(Id)).collect::<Result<Vec<_>, _>>()?;
        decisions.sort_unstable();
        let mut all: HashMap<DecisionId, SmallVec<[BookedMoney; 1]>> = HashMap::with_capacity(rows.len());
        if let (Some(least), Some(most)) = (decisions.first(), decisions.last()) {
            let sql = format!(
                "{} WHERE decision = ANY($1) AND decision BETWEEN $2 AND $3 ORDER BY decision, revision",
                money()
            );
            for row in books.all(&sql, &[&decisions, least, most])? {
                let money = booked::money_event(&row, &mut self.words, &mut self.bytes)?;
                all.entry(row.read(0)?).or_default().push(money);
            }
        }
        let mut events = Vec::with_capacity(rows.len());
        for row in rows {
            let decision: DecisionId = row.read(0)?;
            let money = all.remove(&decision).unwrap_or_default();
            events.push(booked::event(row, decision, money, &mut self.words, &mut self.bytes)?);
        }
        Ok(events)
    }

    /// Balance updates.
    pub(super) fn updates(
        books: &PostgresBooks,
        after: i64,
        limit: u32,
    ) -> Result<Vec<BookedUpdate>, LedgerError> {
        let sql = format!("{UPDATE} WHERE place > $1 ORDER BY place LIMIT $2");
        let rows = books.all(&sql, &[&after, &i64::from(limit)])?;
        Ok(rows.iter().map(booked::update).collect::<Result<_, _>>()?)
    }

    /// Records that are no usage events.
    pub(super) fn records(
        &mut self,
        books: &PostgresBooks,
        after: i64,
        limit: u32,
    ) -> Result<Vec<BookedRecord>, LedgerError> {
        let sql = format!("{} WHERE place > $1 ORDER BY place LIMIT $2", record());
        let rows = books.all(&sql, &[&after, &i64::from(limit)])?;
        Ok(rows.iter().map(|row| booked::record(row, &mut self.words)).collect::<Result<_, _>>()?)
    }

    /// Those of an account.
    pub(super) fn records_of(
        &mut self,
        books: &PostgresBooks,
        account: AccountId,
        after: Seq,
        before: Seq,
    ) -> Result<Vec<BookedRecord>, LedgerError> {
        let sql = format!("{} WHERE account = $1 AND seq > $2 AND seq < $3 ORDER BY seq", record());
        let before = i64::try_from(before.0).unwrap_or(i64::MAX);
        let rows = books.all(&sql, &[&Id::from(account), &after.0.cast_signed(), &before])?;
        Ok(rows.iter().map(|row| booked::record(row, &mut self.words)).collect::<Result<_, _>>()?)
    }
}
