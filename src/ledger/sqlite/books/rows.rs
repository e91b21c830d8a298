//! Rows of the books as the audit sees them, with the hash of what they say.

use rusqlite::Row;
use rusqlite::types::{FromSqlError, ValueRef};
use smallvec::SmallVec;

use super::super::columns::{Owned, cell_of};
use super::super::recorded::grant_record;
use super::words::Words;
use crate::access::record::DrawEntry;
use crate::ledger::books::{
    BookedCorrection, BookedEvent, BookedGrant, BookedMoney, BookedStanding, BookedUpdate,
};
use crate::ledger::chain::rows::{Cell, EVENT, MONEY, ORDER, RowBytes, RowKind};
use crate::ledger::rows::{Cause, RevisedBy};
use crate::ledger::text;
use crate::policy::compiled::Name;
use crate::units::{DecisionId, Quantities, Seq, Timestamp, ToolCalls};

/// Begins a row with its first cells, as they are hashed.
pub(super) fn hashed(
    row: &Row<'_>,
    kind: RowKind,
    cells: usize,
    bytes: &mut RowBytes,
) -> rusqlite::Result<()> {
    bytes.begin(kind);
    for place in 0..cells {
        bytes.put(cell_of(row.get_ref(place)?)?);
    }
    Ok(())
}

pub(super) fn event(
    row: &Row<'_>,
    decision: DecisionId,
    money: SmallVec<[BookedMoney; 1]>,
    shared: &mut Words,
    bytes: &mut RowBytes,
) -> rusqlite::Result<BookedEvent> {
    hashed(row, RowKind::Event, EVENT.len(), bytes)?;
    let unread = || Name::from("");
    Ok(BookedEvent {
        decision,
        account: row.get(1)?,
        seq: seq(row, 2)?,
        user: row.get(3)?,
        feature: words(row, 4, shared)?.unwrap_or_else(unread),
        plan: words(row, 5, shared)?.unwrap_or_else(unread),
        model: words(row, 6, shared)?.unwrap_or_else(unread),
        size: words(row, 7, shared)?,
        tier: words(row, 8, shared)?,
        policy: row.get(9)?,
        unit: readable(row, 10, text::to_word)?,
        held_at: row.get(11)?,
        ended_at: row.get(12)?,
        outcome: readable(row, 13, text::to_word)?,
        used: quantities(row)?,
        draws: readable(row, 24, |text| draws(text, shared))?,
        place: row.get(26)?,
        previous: row.get(27)?,
        hash: row.get(28)?,
        row: bytes.hash(money.first().map(|first| &first.row)),
        money,
    })
}

/// `None` where a count is none.
pub(super) fn quantities(row: &Row<'_>) -> rusqlite::Result<Option<Quantities>> {
    let mut counts = [0u64; 5];
    for (count, place) in counts.iter_mut().zip(16..) {
        match u64::try_from(row.get::<_, i64>(place)?) {
            Ok(found) => *count = found,
            Err(_) => return Ok(None),
        }
    }
    let calls = match row.get_ref(21)?.as_bytes_or_null()? {
        None => Some(ToolCalls::new()),
        Some(bytes) => serde_json::from_slice(bytes).ok(),
    };
    let [input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, seconds] = counts;
    Ok(calls.map(|tool_calls| Quantities {
        input_tokens,
        cached_input_tokens,
        cache_write_tokens,
        output_tokens,
        seconds,
        tool_calls,
    }))
}

/// The hash of a monetization event, of all its cells.
pub(super) fn money_hash(row: &Row<'_>, bytes: &mut RowBytes) -> rusqlite::Result<[u8; 32]> {
    let mut cells = [Cell::Null; MONEY.len() + ORDER.len()];
    for (place, cell) in cells.iter_mut().enumerate() {
        *cell = cell_of(row.get_ref(place)?)?;
    }
    bytes.money(&cells);
    Ok(bytes.hash(None))
}

pub(super) fn money_event(
    row: &Row<'_>,
    shared: &mut Words,
    bytes: &mut RowBytes,
) -> rusqlite::Result<BookedMoney> {
    let hash = money_hash(row, bytes)?;
    let corrected_at: Option<Timestamp> = row.get(11)?;
    let correction = match corrected_at {
        None => None,
        Some(corrected_at) => Some(Box::new(BookedCorrection {
            account: row.get(9)?,
            seq: seq(row, 10)?,
            corrected_at,
            by: match row.get_ref(19)? {
                ValueRef::Null => Some(RevisedBy::Truth),
                _ => readable(row, 19, text::to_word)?,
            },
            outcome: readable(row, 12, text::to_word)?,
            tier: words(row, 14, shared)?,
            used: readable(row, 15, text::to_quantities)?,
            draws: readable(row, 16, |text| draws(text, shared))?,
            digest: row.get(17)?,
        })),
    };
    Ok(BookedMoney {
        revision: row.get(1)?,
        policy: row.get(2)?,
        price: readable(row, 3, text::to_price)?,
        gross: row.get(4)?,
        covered: row.get(5)?,
        forgiven: row.get(6)?,
        excess: row.get(7)?,
        charged: row.get(8)?,
        refunded: row.get::<_, Option<i64>>(18)?.unwrap_or(0),
        row: hash,
        correction,
    })
}

pub(super) fn standing(row: &Row<'_>) -> rusqlite::Result<BookedStanding> {
    let Owned(user) = row.get("user")?;
    Ok(BookedStanding {
        balance: row.get("id")?,
        account: row.get("account")?,
        user,
        name: words(row, 3, &mut Words::default())?.unwrap_or_else(|| Name::from("")),
        standing: row.get("standing")?,
        debt: row.get("debt")?,
        hash: row.get("hash")?,
    })
}

pub(super) fn update(row: &Row<'_>) -> rusqlite::Result<BookedUpdate> {
    let cause = match row.get_ref(5)?.as_bytes()? {
        b"decision" => Some(Cause::Decision(row.get(6)?)),
        b"grant" => Some(Cause::Grant(row.get(6)?)),
        b"adjustment" => Some(Cause::Adjustment(row.get(6)?)),
        _ => None,
    };
    Ok(BookedUpdate {
        place: row.get(0)?,
        balance: row.get(1)?,
        previous: row.get(2)?,
        seq: seq(row, 3)?,
        kind: readable(row, 4, text::to_word)?,
        cause,
        grant: row.get(7)?,
        amount: row.get(8)?,
        before: row.get(9)?,
        after: row.get(10)?,
        at: row.get(11)?,
        hash: row.get(12)?,
    })
}

pub(super) fn booked_grant(row: &Row<'_>) -> rusqlite::Result<BookedGrant> {
    let has = |column: &str| row.get_ref(column).map(|value| value != ValueRef::Null);
    // Ordered with a key, or issued by a decision and without a note.
    match (has("idempotency_key")?, has("decision")?, has("note")?) {
        (true, false, _) | (false, true, false) => {}
        _ => return Err(FromSqlError::InvalidType.into()),
    }
    Ok(BookedGrant { record: grant_record(row)?, balance: row.get("balance")? })
}

/// A place, also one that cannot be.
pub(super) fn seq(row: &Row<'_>, column: usize) -> rusqlite::Result<Seq> {
    row.get::<_, i64>(column).map(|seq| Seq(seq.cast_unsigned()))
}

/// Text, what cannot be read of it replaced.
pub(super) fn words(row: &Row<'_>, column: usize, shared: &mut Words) -> rusqlite::Result<Option<Name>> {
    let bytes = row.get_ref(column)?.as_bytes_or_null()?;
    Ok(bytes.map(|bytes| shared.shared(&String::from_utf8_lossy(bytes))))
}

fn draws(text: &str, shared: &mut Words) -> Option<Vec<DrawEntry>> {
    text::to_draws_naming(text, &mut |name| shared.shared(name))
}

/// What a text says; `None` where it cannot be read.
pub(super) fn readable<T>(
    row: &Row<'_>,
    column: usize,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, FromSqlError> {
    let bytes = row.get_ref(column).map_err(|error| FromSqlError::Other(Box::new(error)))?;
    let text = bytes.as_bytes_or_null()?.and_then(|bytes| std::str::from_utf8(bytes).ok());
    Ok(text.and_then(read))
}
