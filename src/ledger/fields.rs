//! Rows of any store, read by the names of their columns.
//!
//! Stores differ in how a value stands in a column, not in what it is: an id is 16 bytes, money and instants are
//! integers, versions the bits they are.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::LedgerError;
use super::chain::rows::Cell;
use super::text;
use crate::access::counter::Slot;
use crate::units::{
    AccountId, Credits, DecisionId, GrantId, KeyId, OrderId, PolicyVersion, Seq, SignedCredits, Timestamp,
    UserId,
};

/// A value that is not what its column says.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be read")]
pub(super) struct Unreadable {
    /// Which column, and what stands there.
    pub what: String,
}

/// What a row says.
pub(super) type Told<T> = Result<T, Unreadable>;

impl From<Unreadable> for LedgerError {
    fn from(error: Unreadable) -> Self {
        Self::Corrupt { what: error.to_string() }
    }
}

/// A row.
pub(super) trait Fields {
    /// The value in a column.
    fn cell(&self, column: &str) -> Told<Cell<'_>>;

    /// The value in the column of this place.
    fn cell_at(&self, place: usize) -> Told<Cell<'_>>;

    /// What the value in the column of this place is.
    fn read<T: FromCell>(&self, place: usize) -> Told<T> {
        let cell = self.cell_at(place)?;
        T::from_cell(cell).ok_or_else(|| Unreadable { what: format!("column {place}, which is {cell:?},") })
    }

    /// The bytes in the column of this place, of a text or of bytes.
    fn bytes(&self, place: usize) -> Told<Option<&[u8]>> {
        match self.cell_at(place)? {
            Cell::Null => Ok(None),
            Cell::Text(bytes) | Cell::Blob(bytes) => Ok(Some(bytes)),
            cell @ Cell::Integer(_) => {
                Err(Unreadable { what: format!("column {place}, which is {cell:?},") })
            }
        }
    }

    /// What the value in a column is.
    fn told<T: FromCell>(&self, column: &str) -> Told<T> {
        let cell = self.cell(column)?;
        T::from_cell(cell).ok_or_else(|| Unreadable { what: format!("{column}, which is {cell:?},") })
    }

    /// The text in a column.
    fn words(&self, column: &str) -> Told<&str> {
        let cell = self.cell(column)?;
        as_text(cell).ok_or_else(|| Unreadable { what: format!("{column}, which is {cell:?},") })
    }
}

/// Text that a function of `text` reads.
pub(super) fn parsed<T>(row: &impl Fields, column: &str, read: fn(&str) -> Option<T>) -> Told<T> {
    let text = row.words(column)?;
    read(text).ok_or_else(|| Unreadable { what: format!("{column}, which is {text},") })
}

/// A word of a closed set.
pub(super) fn word<T: DeserializeOwned>(row: &impl Fields, column: &str) -> Told<T> {
    parsed(row, column, text::to_word)
}

/// What can stand in a column.
pub(super) trait FromCell: Sized {
    /// The value of a cell; `None` where it is none.
    fn from_cell(cell: Cell<'_>) -> Option<Self>;
}

/// A count of tokens, seconds or rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count(pub u64);

/// The owner within an account: empty or the nil id for the account itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owned(pub Option<UserId>);

/// What counters stand at.
pub(super) struct Slots(pub Vec<Slot>);

const fn as_integer(cell: Cell<'_>) -> Option<i64> {
    match cell {
        Cell::Integer(integer) => Some(integer),
        _ => None,
    }
}

fn as_text(cell: Cell<'_>) -> Option<&str> {
    match cell {
        Cell::Text(text) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

const fn as_bytes(cell: Cell<'_>) -> Option<&[u8]> {
    match cell {
        Cell::Blob(bytes) => Some(bytes),
        _ => None,
    }
}

macro_rules! ids {
    ($($id:ident),+) => {$(
        impl FromCell for $id {
            fn from_cell(cell: Cell<'_>) -> Option<Self> {
                <[u8; 16]>::from_cell(cell).map(Self::from_bytes)
            }
        }
    )+};
}
ids!(AccountId, UserId, KeyId, DecisionId, GrantId, OrderId);

macro_rules! integers {
    ($($type:ty: $from:expr;)+) => {$(
        impl FromCell for $type {
            fn from_cell(cell: Cell<'_>) -> Option<Self> {
                let from: fn(i64) -> Option<$type> = $from;
                from(as_integer(cell)?)
            }
        }
    )+};
}
integers! {
    i64: Some;
    u16: |integer| integer.try_into().ok();
    u32: |integer| integer.try_into().ok();
    Credits: |micros| Credits::from_micros(u64::try_from(micros).ok()?);
    SignedCredits: SignedCredits::from_micros;
    Timestamp: |ms| Some(Timestamp::from_ms(ms));
    Seq: |seq| u64::try_from(seq).ok().map(Seq);
    PolicyVersion: |bits| Some(PolicyVersion(bits.cast_unsigned()));
    Count: |count| u64::try_from(count).ok().map(Count);
}

impl<const N: usize> FromCell for [u8; N] {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        as_bytes(cell)?.try_into().ok()
    }
}

impl FromCell for Vec<u8> {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        as_bytes(cell).map(<[u8]>::to_vec)
    }
}

impl FromCell for String {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        as_text(cell).map(str::to_owned)
    }
}

impl FromCell for Arc<str> {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        as_text(cell).map(Self::from)
    }
}

impl FromCell for Owned {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        match as_bytes(cell)? {
            [] => Some(Self(None)),
            bytes => {
                let user = UserId::from_bytes(bytes.try_into().ok()?);
                Some(Self((user != UserId::MIN).then_some(user)))
            }
        }
    }
}

impl FromCell for Slots {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        super::slots::unpack(as_bytes(cell)?).map(Self)
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            cell => T::from_cell(cell).map(Some),
        }
    }
}
