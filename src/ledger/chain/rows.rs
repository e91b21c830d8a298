//! The hash chain of an account's records: what every row says, byte for byte, behind the hash of the record before it.
//!
//! # Layout
//!
//! A cell is hashed as its kind and its bytes: `0` null; `1` an integer, 8 bytes; `2` text and `3` bytes, each behind
//! its length in 4 bytes. Integers are big endian.
//!
//! | what | SHA-256 over |
//! |---|---|
//! | a monetization event | `2`, its cells in the order of [`MONEY`] |
//! | one that an operator ordered | `3`, the same, then its cells in the order of [`ORDER`]: any of which is not null |
//! | a usage event | `0`, its cells in the order of [`EVENT`], the hash of its first monetization event |
//! | any other record | `1`, its cells in the order of [`RECORD`]; of a correction, the hash of its monetization event |
//! | a link | the link before it (zeros before the first), one of the latter two |
//!
//! A link is over a hash of its row and not over the row, so that a chain can be shown without showing its rows.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The cells of a usage event that are hashed: all but where it stands.
pub const EVENT: [&str; 26] = [
    "decision",
    "account",
    "seq",
    "user",
    "feature",
    "plan",
    "model",
    "size",
    "tier",
    "policy",
    "unit",
    "held_at",
    "ended_at",
    "outcome",
    "grade",
    "status",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "seconds",
    "tool_calls",
    "estimate",
    "held",
    "draws",
    "digest",
];

/// The cells of any monetization event that are hashed. The latter half is null where it is the first.
pub const MONEY: [&str; 18] = [
    "decision",
    "revision",
    "policy",
    "price",
    "gross",
    "covered",
    "forgiven",
    "excess",
    "charged",
    "account",
    "seq",
    "corrected_at",
    "true_outcome",
    "true_grade",
    "true_tier",
    "true_used",
    "true_draws",
    "digest",
];

/// The cells of a monetization event that an operator ordered which are hashed behind [`MONEY`].
pub const ORDER: [&str; 5] = ["refunded", "ordered", "order_id", "idempotency_key", "reason"];

/// The cells of any other record that are hashed.
pub const RECORD: [&str; 4] = ["account", "seq", "kind", "digest"];

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// None.
    Null,
    /// A whole number.
    Integer(i64),
    /// Text, which may be none that can be read.
    Text(&'a [u8]),
    /// Bytes.
    Blob(&'a [u8]),
}

/// One value of a row by itself. In JSON it is null or a text that begins with its kind: `i:-5`, `t:plus`, `b:00ff`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Option<String>", into = "Option<String>")]
pub enum OwnedCell {
    /// None.
    Null,
    /// A whole number.
    Integer(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// A text that is no cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither null nor a text that begins with i:, t: or b:")]
pub struct NoCell;

impl OwnedCell {
    /// As it is hashed.
    pub fn as_cell(&self) -> Cell<'_> {
        match self {
            Self::Null => Cell::Null,
            Self::Integer(integer) => Cell::Integer(*integer),
            Self::Text(text) => Cell::Text(text.as_bytes()),
            Self::Blob(bytes) => Cell::Blob(bytes),
        }
    }
}

impl From<Cell<'_>> for OwnedCell {
    fn from(cell: Cell<'_>) -> Self {
        match cell {
            Cell::Null => Self::Null,
            Cell::Integer(integer) => Self::Integer(integer),
            Cell::Text(text) => Self::Text(String::from_utf8_lossy(text).into_owned()),
            Cell::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }
}

impl From<OwnedCell> for Option<String> {
    fn from(cell: OwnedCell) -> Self {
        match cell {
            OwnedCell::Null => None,
            OwnedCell::Integer(integer) => Some(format!("i:{integer}")),
            OwnedCell::Text(text) => Some(format!("t:{text}")),
            OwnedCell::Blob(bytes) => Some(format!("b:{}", hex::encode(bytes))),
        }
    }
}

impl TryFrom<Option<String>> for OwnedCell {
    type Error = NoCell;

    fn try_from(text: Option<String>) -> Result<Self, NoCell> {
        let Some(text) = text else { return Ok(Self::Null) };
        match text.split_at_checked(2).ok_or(NoCell)? {
            ("i:", digits) => digits.parse().map(Self::Integer).map_err(|_| NoCell),
            ("t:", text) => Ok(Self::Text(text.to_owned())),
            ("b:", digits) => hex::decode(digits).map(Self::Blob).map_err(|_| NoCell),
            _ => Err(NoCell),
        }
    }
}

/// The rows that are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// A usage event.
    Event,
    /// Any other record.
    Record,
    /// A monetization event.
    Money,
    /// A monetization event that an operator ordered.
    Ordered,
}

/// A row as it is hashed, cell by cell. One is used for many rows.
#[derive(Clone, Debug, Default)]
pub struct RowBytes(Vec<u8>);

impl RowBytes {
    /// Begins a row.
    pub fn begin(&mut self, kind: RowKind) {
        self.0.clear();
        self.0.push(match kind {
            RowKind::Event => 0,
            RowKind::Record => 1,
            RowKind::Money => 2,
            RowKind::Ordered => 3,
        });
    }

    /// Begins a monetization event of these cells, [`MONEY`] and [`ORDER`], and adds them.
    pub fn money(&mut self, cells: &[Cell<'_>]) {
        let (money, order) = cells.split_at(MONEY.len().min(cells.len()));
        let is_ordered = order.iter().any(|cell| *cell != Cell::Null);
        self.begin(if is_ordered { RowKind::Ordered } else { RowKind::Money });
        for cell in money.iter().chain(order.iter().filter(|_| is_ordered)) {
            self.put(*cell);
        }
    }

    /// Adds its next cell.
    pub fn put(&mut self, cell: Cell<'_>) {
        match cell {
            Cell::Null => self.0.push(0),
            Cell::Integer(integer) => {
                self.0.push(1);
                self.0.extend_from_slice(&integer.to_be_bytes());
            }
            Cell::Text(bytes) => self.put_bytes(2, bytes),
            Cell::Blob(bytes) => self.put_bytes(3, bytes),
        }
    }

    fn put_bytes(&mut self, kind: u8, bytes: &[u8]) {
        self.0.push(kind);
        // No cell is as long as that: the store's own bound is a quarter of it.
        self.0.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// Its hash, with that of the monetization event that belongs to it.
    pub fn hash(&mut self, money: Option<&[u8; 32]>) -> [u8; 32] {
        self.0.extend_from_slice(money.map_or(&[][..], |money| money));
        Sha256::digest(&self.0).into()
    }
}

/// The hash of a record whose row has this hash, behind the record before it.
pub fn link(previous: &[u8; 32], row: &[u8; 32]) -> [u8; 32] {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(previous);
    bytes[32..].copy_from_slice(row);
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_never_changes() {
        let mut bytes = RowBytes::default();
        bytes.begin(RowKind::Event);
        for cell in [Cell::Null, Cell::Integer(-2), Cell::Text(b"plus"), Cell::Blob(&[1, 2])] {
            bytes.put(cell);
        }
        assert_eq!(hex::encode(&bytes.0), "000001fffffffffffffffe0200000004706c757303000000020102");
        let row = bytes.hash(Some(&[7; 32]));
        let mut all = hex::decode("000001fffffffffffffffe0200000004706c757303000000020102").unwrap();
        all.extend_from_slice(&[7; 32]);
        assert_eq!(row, <[u8; 32]>::from(Sha256::digest(&all)));
        assert_eq!(link(&[0; 32], &row), <[u8; 32]>::from(Sha256::digest([[0; 32], row].concat())));
    }

    #[test]
    fn cells_are_written_and_read_back_as_they_were() {
        let cells = [
            OwnedCell::Null,
            OwnedCell::Integer(i64::MIN),
            OwnedCell::Text("t:\u{e9}".into()),
            OwnedCell::Blob(vec![0, 255]),
        ];
        let text = serde_json::to_string(&cells).unwrap();
        assert_eq!(
            text,
            r#"[null,"i:-9223372036854775808","t:t:\u{e9}","b:00ff"]"#.replace("\\u{e9}", "\u{e9}")
        );
        assert_eq!(serde_json::from_str::<[OwnedCell; 4]>(&text).unwrap(), cells);
        for wrong in ["\"\"", "\"x\"", "\"i:1.5\"", "\"b:0\"", "\"\u{e9}\"", "5"] {
            assert!(serde_json::from_str::<OwnedCell>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cells_that_differ_never_hash_alike() {
        let hash = |cells: &[Cell<'_>]| {
            let mut bytes = RowBytes::default();
            bytes.begin(RowKind::Record);
            for cell in cells {
                bytes.put(*cell);
            }
            bytes.hash(None)
        };
        let rows: [&[Cell<'_>]; 7] = [
            &[Cell::Text(b"ab"), Cell::Text(b"")],
            &[Cell::Text(b"a"), Cell::Text(b"b")],
            &[Cell::Blob(b"ab"), Cell::Text(b"")],
            &[Cell::Null, Cell::Text(b"ab")],
            &[Cell::Integer(0), Cell::Null],
            &[Cell::Null, Cell::Null],
            &[Cell::Null],
        ];
        let mut hashes: Vec<_> = rows.iter().map(|row| hash(row)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), rows.len());
    }
}
