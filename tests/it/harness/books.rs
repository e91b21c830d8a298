//! The ledger's file, read by others' means: SQL.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// A usage event with its money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Booked {
    pub(crate) model: String,
    pub(crate) outcome: String,
    pub(crate) grade: String,
    pub(crate) status: Option<u16>,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    /// In micro-credits.
    pub(crate) gross: u64,
    pub(crate) charged: u64,
    pub(crate) forgiven: u64,
}

/// Every usage event in the books, in the order of booking.
pub(crate) fn usage_events(ledger: &Path) -> Vec<Booked> {
    let connection =
        Connection::open_with_flags(ledger, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the ledger");
    connection.busy_timeout(std::time::Duration::from_secs(10)).expect("a setting");
    let mut statement = connection
        .prepare(
            "SELECT u.model, u.outcome, u.grade, u.status, u.input_tokens, u.output_tokens, m.gross, m.charged, m.forgiven
             FROM usage_events u JOIN monetization_events m USING (decision) ORDER BY u.place",
        )
        .expect("the schema");
    let rows = statement.query_map([], |row| {
        Ok(Booked {
            model: row.get(0)?,
            outcome: row.get(1)?,
            grade: row.get(2)?,
            status: row.get(3)?,
            input_tokens: unsigned(row.get(4)?),
            output_tokens: unsigned(row.get(5)?),
            gross: unsigned(row.get(6)?),
            charged: unsigned(row.get(7)?),
            forgiven: unsigned(row.get(8)?),
        })
    });
    rows.expect("rows").collect::<Result<_, _>>().expect("rows of this shape")
}

/// How many rows there are of a table, as narrowed down by what follows its name.
pub(crate) fn count(ledger: &Path, of: &str) -> u64 {
    let connection =
        Connection::open_with_flags(ledger, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the ledger");
    connection.busy_timeout(std::time::Duration::from_secs(10)).expect("a setting");
    let rows = connection.query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get(0));
    unsigned(rows.expect("the schema"))
}

/// Has all that calls have made be made in 1970.
pub(crate) fn age_resources(ledger: &Path) {
    let connection = Connection::open(ledger).expect("the ledger");
    connection.execute("UPDATE resources SET made_at = 1", []).expect("the schema");
}

fn unsigned(number: i64) -> u64 {
    number.try_into().expect("not negative")
}
