//! How our values stand in columns: ids as 16 bytes, money and instants as integers, versions as the bits they are.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::de::DeserializeOwned;

use crate::access::counter::Slot;
use crate::ledger::chain::rows::Cell;
use crate::ledger::text;
use crate::policy::compiled::CounterKey;
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

/// A count of tokens, seconds or rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count(pub u64);

/// The owner within an account: empty bytes for the account itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owned(pub Option<UserId>);

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

/// Text that a function of `text` reads.
pub(super) fn parsed<T>(
    row: &rusqlite::Row<'_>,
    column: &str,
    read: fn(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let value = row.get_ref(column)?;
    let text = value.as_str()?;
    read(text).ok_or_else(|| FromSqlError::Other(format!("{column} is not readable: {text}").into()).into())
}

/// A word of a closed set.
pub(super) fn word<T: DeserializeOwned>(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<T> {
    parsed(row, column, text::to_word)
}

const SLOT_BYTES: usize = 24;

/// Packs counters into one value.
pub(super) fn pack(slots: &[Slot]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(slots.len() * SLOT_BYTES);
    for slot in slots {
        bytes.extend_from_slice(&slot.key.0.to_be_bytes());
        bytes.extend_from_slice(&slot.at.ms().to_be_bytes());
        bytes.extend_from_slice(&slot.used.to_be_bytes());
    }
    bytes
}

/// Unpacks counters.
pub(super) fn unpack(bytes: &[u8]) -> FromSqlResult<Vec<Slot>> {
    let (slots, []) = bytes.as_chunks::<SLOT_BYTES>() else {
        let expected_size = bytes.len().next_multiple_of(SLOT_BYTES);
        return Err(FromSqlError::InvalidBlobSize { expected_size, blob_size: bytes.len() });
    };
    let word = |slot: &[u8; SLOT_BYTES], place: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&slot[place * 8..][..8]);
        u64::from_be_bytes(word)
    };
    let slot = |slot: &[u8; SLOT_BYTES]| Slot {
        key: CounterKey(word(slot, 0)),
        at: Timestamp::from_ms(word(slot, 1).cast_signed()),
        used: word(slot, 2),
        held: 0,
    };
    Ok(slots.iter().map(slot).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_packed_and_unpacked_as_they_were() {
        let slot = |key, ms, used| Slot { key: CounterKey(key), at: Timestamp::from_ms(ms), used, held: 0 };
        let slots = vec![slot(1, -5, 7), slot(u64::MAX, i64::MAX, u64::MAX)];
        assert_eq!(unpack(&pack(&slots)).unwrap(), slots);
        assert!(unpack(&[0; 25]).is_err());
    }
}
