//! Rows on their way into a table, column by column: one statement adds or changes all of them.

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::columns::Id;
use crate::ledger::LedgerError;
use crate::ledger::chain::rows::Cell;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `uuid`
    Id,
    /// `bigint`
    Integer,
    /// `text`
    Text,
    /// `bytea`
    Bytes,
}

/// The kind of a column of the books by its name; `id` alone means something else in every table.
pub(super) fn kind_of(column: &str) -> Kind {
    match column {
        "decision" | "account" | "user" | "cause" | "grant_id" | "order_id" => Kind::Id,
        "digest" | "hash" | "slots" => Kind::Bytes,
        "feature" | "plan" | "model" | "size" | "tier" | "unit" | "outcome" | "grade" | "tool_calls"
        | "estimate" | "held" | "draws" | "price" | "true_outcome" | "true_grade" | "true_tier"
        | "true_used" | "true_draws" | "kind" | "cause_kind" | "name" | "idempotency_key" | "note"
        | "upstream" | "text" | "hint" | "block" | "ordered" | "reason" => Kind::Text,
        _ => Kind::Integer,
    }
}

/// The values of one column.
#[derive(Debug)]
enum Values {
    Ids(Vec<Option<Id>>),
    Integers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Values {
    const fn new(kind: Kind) -> Self {
        match kind {
            Kind::Id => Self::Ids(Vec::new()),
            Kind::Integer => Self::Integers(Vec::new()),
            Kind::Text => Self::Texts(Vec::new()),
            Kind::Bytes => Self::Bytes(Vec::new()),
        }
    }

    const fn array(&self) -> &'static str {
        match self {
            Self::Ids(_) => "uuid[]",
            Self::Integers(_) => "bigint[]",
            Self::Texts(_) => "text[]",
            Self::Bytes(_) => "bytea[]",
        }
    }

    /// `false` where the cell is of another kind.
    fn push(&mut self, cell: Cell<'_>) -> bool {
        match (self, cell) {
            (Self::Ids(ids), Cell::Null) => ids.push(None),
            (Self::Integers(integers), Cell::Null) => integers.push(None),
            (Self::Texts(texts), Cell::Null) => texts.push(None),
            (Self::Bytes(all), Cell::Null) => all.push(None),
            // The owner of what is an account's own, as the embedded store says it.
            (Self::Ids(ids), Cell::Blob([])) => ids.push(Some(Id([0; 16]))),
            (Self::Ids(ids), Cell::Blob(bytes)) => match bytes.try_into() {
                Ok(id) => ids.push(Some(Id(id))),
                Err(_) => return false,
            },
            (Self::Integers(integers), Cell::Integer(integer)) => integers.push(Some(integer)),
            (Self::Texts(texts), Cell::Text(text)) => match std::str::from_utf8(text) {
                // PostgreSQL's text knows no NUL.
                Ok(text) if !text.contains('\0') => texts.push(Some(text.to_owned())),
                _ => return false,
            },
            (Self::Bytes(all), Cell::Blob(bytes)) => all.push(Some(bytes.to_vec())),
            _ => return false,
        }
        true
    }
}

impl ToSql for Values {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Ids(ids) => ids.to_sql(of, out),
            Self::Integers(integers) => integers.to_sql(of, out),
            Self::Texts(texts) => texts.to_sql(of, out),
            Self::Bytes(all) => all.to_sql(of, out),
        }
    }

    fn accepts(of: &Type) -> bool {
        matches!(*of, Type::UUID_ARRAY | Type::INT8_ARRAY | Type::TEXT_ARRAY | Type::BYTEA_ARRAY)
    }

    to_sql_checked!();
}

/// The rows.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Vec<(&'static str, Values)>,
    count: usize,
}

impl Rows {
    /// None yet, of these columns.
    pub(super) fn new(columns: impl IntoIterator<Item = &'static str>) -> Self {
        Self::of(columns.into_iter().map(|column| (column, kind_of(column))))
    }

    /// None yet, of these columns and kinds.
    pub(super) fn of(columns: impl IntoIterator<Item = (&'static str, Kind)>) -> Self {
        let columns = columns.into_iter().map(|(column, kind)| (column, Values::new(kind)));
        Self { columns: columns.collect(), count: 0 }
    }

    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// Adds a row.
    pub(super) fn push<'a>(&mut self, cells: impl IntoIterator<Item = Cell<'a>>) -> Result<(), LedgerError> {
        for ((column, values), cell) in self.columns.iter_mut().zip(cells) {
            if !values.push(cell) {
                return Err(LedgerError::Corrupt { what: format!("{column} cannot be {cell:?}") });
            }
        }
        self.count += 1;
        Ok(())
    }

    /// The statement that adds all of them to a table.
    pub(super) fn insert(&self, table: &str) -> String {
        format!("INSERT INTO {table} ({}) SELECT * FROM {}", self.names(), self.unnested(1))
    }

    /// The columns' names.
    pub(super) fn names(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|(column, _)| format!("\"{column}\"")).collect();
        names.join(", ")
    }

    /// The rows as a table of a statement whose parameters begin in this place.
    pub(super) fn unnested(&self, first: usize) -> String {
        let arrays: Vec<String> = (first..)
            .zip(&self.columns)
            .map(|(place, (_, values))| format!("${place}::{}", values.array()))
            .collect();
        format!("unnest({}) AS given ({})", arrays.join(", "), self.names())
    }

    /// The parameters.
    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.columns.iter().map(|(_, values)| values as &(dyn ToSql + Sync)).collect()
    }
}
