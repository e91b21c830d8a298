//! How our values stand in columns: ids as 16 bytes, money and instants as integers, versions as the bits they are.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::ledger::chain::rows::Cell;
pub(super) use crate::ledger::fields::{Count, Owned, Slots};
use crate::ledger::fields::{Fields, Told, Unreadable};
use crate::ledger::slots;
use crate::units::{
    AccountId, Credits, DecisionId, GrantId, KeyId, OrderId, PolicyVersion, Seq, SignedCredits, Timestamp,
    UserId,
};

macro_rules! id_column {
    ($($id:ident),+) => {$(
        impl ToSql for $id {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.as_bytes())))
            }
        }
        impl FromSql for $id {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                <[u8; 16]>::column_result(value).map(Self::from_bytes)
            }
        }
    )+};
}
id_column!(AccountId, UserId, KeyId, DecisionId, GrantId, OrderId);

macro_rules! integer_column {
    ($($type:ident: $to:expr, $from:expr;)+) => {$(
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                let to: fn(&$type) -> i64 = $to;
                Ok(ToSqlOutput::from(to(self)))
            }
        }
        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let from: fn(i64) -> Option<$type> = $from;
                let integer = value.as_i64()?;
                from(integer).ok_or(FromSqlError::OutOfRange(integer))
            }
        }
    )+};
}
integer_column! {
    Credits: |credits| credits.micros().cast_signed(), |micros| Credits::from_micros(u64::try_from(micros).ok()?);
    SignedCredits: |credits| credits.micros(), SignedCredits::from_micros;
    Timestamp: |at| at.ms(), |ms| Some(Timestamp::from_ms(ms));
    Seq: |seq| seq.0.cast_signed(), |seq| u64::try_from(seq).ok().map(Seq);
    PolicyVersion: |version| version.0.cast_signed(), |bits| Some(PolicyVersion(bits.cast_unsigned()));
    Count: |count| i64::try_from(count.0).unwrap_or(i64::MAX), |count| u64::try_from(count).ok().map(Count);
}

impl ToSql for Owned {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let bytes = self.0.as_ref().map_or(&[][..], |user| user.as_bytes());
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(bytes)))
    }
}

impl FromSql for Owned {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_blob()? {
            [] => Ok(Self(None)),
            _ => UserId::column_result(value).map(|user| Self(Some(user))),
        }
    }
}

impl FromSql for Slots {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        slots::unpack(value.as_blob()?).map(Self).ok_or(FromSqlError::InvalidType)
    }
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Cell::Null => ValueRef::Null,
            Cell::Integer(integer) => ValueRef::Integer(integer),
            Cell::Text(text) => ValueRef::Text(text),
            Cell::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// A value as the chain of records hashes it. The books have no floats.
pub(super) fn cell_of(value: ValueRef<'_>) -> rusqlite::Result<Cell<'_>> {
    Ok(match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(integer) => Cell::Integer(integer),
        ValueRef::Text(text) => Cell::Text(text),
        ValueRef::Blob(bytes) => Cell::Blob(bytes),
        ValueRef::Real(_) => return Err(FromSqlError::InvalidType.into()),
    })
}

impl Fields for rusqlite::Row<'_> {
    fn cell(&self, column: &str) -> Told<Cell<'_>> {
        let unreadable = |error: rusqlite::Error| Unreadable { what: format!("{column} ({error})") };
        cell_of(self.get_ref(column).map_err(unreadable)?).map_err(unreadable)
    }

    fn cell_at(&self, place: usize) -> Told<Cell<'_>> {
        let unreadable = |error: rusqlite::Error| Unreadable { what: format!("column {place} ({error})") };
        cell_of(self.get_ref(place).map_err(unreadable)?).map_err(unreadable)
    }
}

impl From<Unreadable> for rusqlite::Error {
    fn from(error: Unreadable) -> Self {
        FromSqlError::Other(Box::new(error)).into()
    }
}
