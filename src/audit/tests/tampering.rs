//! Every byte of the books, changed one by one. What is left out, and why, stands in `docs/audit.md`.
//!
//! Every column of every row is changed; every byte of it in [`WHOLE_ROWS`] rows of each table, one byte in the others.
//! With `OVERFALL_EVERY_BYTE=1` it is every byte of every row, which takes minutes.

use rusqlite::params_from_iter;
use rusqlite::types::Value;

use super::*;
use crate::access::record::{GrantRecord, OriginEntry, Outcome, RevisionRecord};

/// The tables of the books.
const TABLES: [&str; 10] = [
    "usage_events",
    "monetization_events",
    "balance_updates",
    "grants",
    "adjustments",
    "records",
    "heads",
    "balances",
    "remainders",
    "policies",
];

/// Books of one account in which something of every kind has happened, and their policy.
async fn small_books() -> (PathBuf, TempDir, [Arc<Policy>; 2]) {
    let [policy, corrected] = policies();
    let life = |nth| lived(&mut [set_right(nth, &policy, &corrected)], HOURS);
    let next = || (0..100_000).find(|nth| has_everything(&life(*nth)));
    assert!(has_everything(&life(EVENTFUL)), "everything happens in another life: {:?}", next());
    let (path, folder) = books(EVENTFUL..EVENTFUL + 1, HOURS).await;
    (path, folder, [policy, corrected])
}

/// A life in which everything happens, within so many hours.
const EVENTFUL: u64 = 2_559;
const HOURS: u64 = 60;
/// Rows of a table of which every byte is changed.
const WHOLE_ROWS: usize = 1;

/// Whether something of every kind has happened.
fn has_everything(records: &[Record]) -> bool {
    let ends = || {
        records.iter().filter_map(|record| match record {
            Record::End(end) => Some(&**end),
            _ => None,
        })
    };
    let grants = || {
        records.iter().filter_map(|record| match record {
            Record::Grant(grant) => Some(grant),
            _ => None,
        })
    };
    let left = |grant: &&GrantRecord| grant.expires_at.is_some() && grant.repaid.is_zero();
    records.iter().any(|record| matches!(record, Record::Correction(told) if !told.moves.is_empty()))
        && revised(records, "refund").any(|told| !told.refunded.is_zero())
        && revised(records, "rerate").any(|told| !told.correction.moves.is_empty())
        && records.iter().any(|record| matches!(record, Record::Adjustment(told) if told.grant.is_some()))
        && records.iter().any(|record| matches!(record, Record::Expiry(_)))
        && ends().any(|end| !end.ending.reached_upstream)
        && ends().any(|end| end.ending.outcome == Outcome::Refused)
        && ends().any(|end| !end.used.quantities.tool_calls.is_empty())
        && ends().any(|end| end.used.quantities.seconds > 0)
        && ends().any(|end| !end.charge.forgiven.is_zero())
        && ends().any(|end| !end.charge.covered.is_zero() && !end.charge.charged.is_zero())
        && ends().any(|end| end.draws.iter().any(|draw| matches!(draw.origin, OriginEntry::Debt { .. })))
        && grants().any(|grant| !grant.repaid.is_zero())
        && grants().any(|grant| left(&grant))
        && ends().count() < 32
}

/// What an operator ordered of calls.
fn revised<'a>(records: &'a [Record], what: &'static str) -> impl Iterator<Item = &'a RevisionRecord> {
    records.iter().filter_map(move |record| match record {
        Record::Revision(told) if told.order.as_str() == what => Some(&**told),
        _ => None,
    })
}

/// A table as a forger sees it.
struct Table<'a> {
    name: &'static str,
    forger: &'a Connection,
    columns: Vec<String>,
    keys: Vec<usize>,
    rows: Vec<Vec<Value>>,
}

impl<'a> Table<'a> {
    fn read(name: &'static str, forger: &'a Connection) -> Self {
        let mut info = forger.prepare(&format!("SELECT name, pk FROM pragma_table_info('{name}')")).unwrap();
        let columns: Vec<(String, i64)> =
            info.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
        let keys = (0..columns.len()).filter(|column| columns[*column].1 > 0).collect();
        let mut select = forger.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let count = columns.len();
        let rows = select.query_map([], |row| (0..count).map(|column| row.get(column)).collect()).unwrap();
        let rows = rows.map(Result::unwrap).collect();
        let columns = columns.into_iter().map(|(column, _)| column).collect();
        Self { name, forger, columns, keys, rows }
    }

    /// Writes one cell of a row. `false` where the table itself refuses it.
    fn write(&self, row: &[Value], column: usize, value: &Value) -> bool {
        let wheres: Vec<String> = self.keys.iter().map(|key| format!("{} = ?", self.columns[*key])).collect();
        let statement =
            format!("UPDATE {} SET {} = ? WHERE {}", self.name, self.columns[column], wheres.join(" AND "));
        let keys = self.keys.iter().map(|key| &row[*key]);
        let mut update = self.forger.prepare_cached(&statement).unwrap();
        update.execute(params_from_iter(std::iter::once(value).chain(keys))) == Ok(1)
    }

    /// Changes every byte of every row in turn, and tells those that `is_found` does not find.
    fn flip(&self, is_found: impl Fn() -> bool) -> (u64, Vec<String>) {
        let every_byte = std::env::var_os("OVERFALL_EVERY_BYTE").is_some();
        let (mut flipped, mut missed) = (0, Vec::new());
        for (nth, row) in self.rows.iter().enumerate() {
            for (column, value) in row.iter().enumerate() {
                let mut changes = changes(value);
                let is_none = |row: &[Value]| row[column] == Value::Null;
                let known = self.rows[..nth].iter().filter(|other| is_none(other) == is_none(row)).count();
                if known >= WHOLE_ROWS && !every_byte && !changes.is_empty() {
                    changes = vec![changes.swap_remove(nth % changes.len())];
                }
                for change in changes {
                    self.forger.execute_batch("SAVEPOINT flip").unwrap();
                    if self.write(row, column, &change) {
                        flipped += 1;
                        if !is_found() {
                            let column = &self.columns[column];
                            missed.push(format!("{}.{column}: {value:?} -> {change:?}", self.name));
                        }
                    }
                    self.forger.execute_batch("ROLLBACK TO flip; RELEASE flip").unwrap();
                }
            }
        }
        (flipped, missed)
    }
}

/// All changes of one byte of a value, by one bit, so that what is changed may still look right; of nothing, something.
fn changes(value: &Value) -> Vec<Value> {
    let flipped = |bytes: &[u8], place: usize| {
        let mut bytes = bytes.to_vec();
        bytes[place] ^= 1;
        bytes
    };
    match value {
        Value::Null => vec![Value::Integer(1), Value::Text("1".into()), Value::Blob(vec![1; 16])],
        Value::Integer(integer) => (0..8).map(|byte| Value::Integer(integer ^ (1 << (8 * byte)))).collect(),
        Value::Real(_) => Vec::new(),
        Value::Text(text) => (0..text.len())
            .filter_map(|place| String::from_utf8(flipped(text.as_bytes(), place)).map(Value::Text).ok())
            .collect(),
        Value::Blob(bytes) => (0..bytes.len()).map(|place| Value::Blob(flipped(bytes, place))).collect(),
    }
}

async fn every_byte_of(tables: &[&'static str]) {
    let (path, _folder, policies) = small_books().await;
    let read = |text: &str| policies.iter().find(|policy| &*policy.text == text).cloned();
    let (books, forger) = SqliteBooks::forged(&path);
    // What cannot even be read is found, too.
    let is_found =
        || audit(&books, &read, Scope::default(), &mut |_| {}).map_or(true, |report| !report.holds());
    assert!(!is_found());
    let (mut flipped, mut missed) = (0, Vec::new());
    for name in tables {
        let table = Table::read(name, &forger);
        assert!(!table.rows.is_empty(), "{name} is empty");
        let (flips, misses) = table.flip(is_found);
        flipped += flips;
        missed.extend(misses);
    }
    assert!(flipped > 1_000, "{flipped}");
    assert!(missed.is_empty(), "{} of {flipped} are not found:\n{}", missed.len(), missed.join("\n"));
    assert!(!is_found(), "the books are as they were");
}

#[tokio::test]
async fn every_byte_of_the_usage_events_matters() {
    every_byte_of(&TABLES[..1]).await;
}

#[tokio::test]
async fn every_byte_of_the_other_books_matters() {
    every_byte_of(&TABLES[1..]).await;
}
