//! How our values stand in columns: ids as `uuid`, money and instants as `bigint`, versions as the bits they are.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::ledger::chain::rows::Cell;
use crate::ledger::fields::{Fields, Told, Unreadable};
use crate::units::UserId;

/// An id of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(pub [u8; 16]);

impl Id {
    /// Of the owner within an account: the nil id for the account itself.
    pub(super) fn of_owner(user: Option<UserId>) -> Self {
        Self(*user.unwrap_or(UserId::MIN).as_bytes())
    }
}

macro_rules! ids {
    ($($id:ident),+) => {$(
        impl From<crate::units::$id> for Id {
            fn from(id: crate::units::$id) -> Self {
                Self(*id.as_bytes())
            }
        }
    )+};
}
ids!(AccountId, UserId, KeyId, DecisionId, GrantId, OrderId);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(UUID);
    to_sql_checked!();
}

/// A value as it came, for [`Fields`].
struct Raw<'a>(Cell<'a>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(match *of {
            Type::INT8 => Cell::Integer(i64::from_be_bytes(raw.try_into()?)),
            Type::TEXT => Cell::Text(raw),
            _ => Cell::Blob(raw),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Cell::Null))
    }

    accepts!(INT8, TEXT, BYTEA, UUID);
}

impl Fields for Row {
    fn cell(&self, column: &str) -> Told<Cell<'_>> {
        let cell = self.try_get(column).map(|Raw(cell)| cell);
        cell.map_err(|error| Unreadable { what: format!("{column} ({error})") })
    }

    fn cell_at(&self, place: usize) -> Told<Cell<'_>> {
        let cell = self.try_get(place).map(|Raw(cell)| cell);
        cell.map_err(|error| Unreadable { what: format!("column {place} ({error})") })
    }
}
