//! Rows of the books as the audit sees them, with the hash of what they say. Columns are read by their places.

use smallvec::SmallVec;

use super::entries::grant_record;
use super::words::Words;
use crate::access::record::DrawEntry;
use crate::ledger::books::{
    BookedCorrection, BookedEvent, BookedGrant, BookedHead, BookedMoney, BookedRecord, BookedStanding,
    BookedUpdate,
};
use crate::ledger::chain::rows::{Cell, EVENT, MONEY, ORDER, OwnedCell, RECORD, RowBytes, RowKind};
use crate::ledger::fields::{Fields, Owned, Told, Unreadable};
use crate::ledger::rows::{Cause, RevisedBy};
use crate::ledger::text;
use crate::policy::compiled::Name;
use crate::units::{DecisionId, Quantities, Seq, Timestamp, ToolCalls};

/// Begins a row with its first cells, as they are hashed.
pub(in crate::ledger) fn hashed(
    row: &impl Fields,
    kind: RowKind,
    cells: usize,
    bytes: &mut RowBytes,
) -> Told<()> {
    bytes.begin(kind);
    for place in 0..cells {
        bytes.put(row.cell_at(place)?);
    }
    Ok(())
}

pub(in crate::ledger) fn event(
    row: &impl Fields,
    decision: DecisionId,
    money: SmallVec<[BookedMoney; 1]>,
    shared: &mut Words,
    bytes: &mut RowBytes,
) -> Told<BookedEvent> {
    hashed(row, RowKind::Event, EVENT.len(), bytes)?;
    let unread = || Name::from("");
    Ok(BookedEvent {
        decision,
        account: row.read(1)?,
        seq: seq(row, 2)?,
        user: row.read(3)?,
        feature: words(row, 4, shared)?.unwrap_or_else(unread),
        plan: words(row, 5, shared)?.unwrap_or_else(unread),
        model: words(row, 6, shared)?.unwrap_or_else(unread),
        size: words(row, 7, shared)?,
        tier: words(row, 8, shared)?,
        policy: row.read(9)?,
        unit: readable(row, 10, text::to_word)?,
        held_at: row.read(11)?,
        ended_at: row.read(12)?,
        outcome: readable(row, 13, text::to_word)?,
        used: quantities(row)?,
        draws: readable(row, 24, |text| draws(text, shared))?,
        place: row.read(26)?,
        previous: row.read(27)?,
        hash: row.read(28)?,
        row: bytes.hash(money.first().map(|first| &first.row)),
        money,
    })
}

/// `None` where a count is none.
pub(in crate::ledger) fn quantities(row: &impl Fields) -> Told<Option<Quantities>> {
    let mut counts = [0u64; 5];
    for (count, place) in counts.iter_mut().zip(16..) {
        match u64::try_from(row.read::<i64>(place)?) {
            Ok(found) => *count = found,
            Err(_) => return Ok(None),
        }
    }
    let calls = match row.bytes(21)? {
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

pub(in crate::ledger) fn money_event(
    row: &impl Fields,
    shared: &mut Words,
    bytes: &mut RowBytes,
) -> Told<BookedMoney> {
    let hash = money_hash(row, bytes)?;
    let corrected_at: Option<Timestamp> = row.read(11)?;
    let correction = match corrected_at {
        None => None,
        Some(corrected_at) => Some(Box::new(BookedCorrection {
            account: row.read(9)?,
            seq: seq(row, 10)?,
            corrected_at,
            by: match row.cell_at(19)? {
                Cell::Null => Some(RevisedBy::Truth),
                _ => readable(row, 19, text::to_word)?,
            },
            outcome: readable(row, 12, text::to_word)?,
            tier: words(row, 14, shared)?,
            used: readable(row, 15, text::to_quantities)?,
            draws: readable(row, 16, |text| draws(text, shared))?,
            digest: row.read(17)?,
        })),
    };
    Ok(BookedMoney {
        revision: row.read(1)?,
        policy: row.read(2)?,
        price: readable(row, 3, text::to_price)?,
        gross: row.read(4)?,
        covered: row.read(5)?,
        forgiven: row.read(6)?,
        excess: row.read(7)?,
        charged: row.read(8)?,
        refunded: row.read::<Option<i64>>(18)?.unwrap_or(0),
        row: hash,
        correction,
    })
}

/// The hash of a monetization event.
pub(in crate::ledger) fn money_hash(row: &impl Fields, bytes: &mut RowBytes) -> Told<[u8; 32]> {
    let mut cells = [Cell::Null; MONEY.len() + ORDER.len()];
    for (place, cell) in cells.iter_mut().enumerate() {
        *cell = row.cell_at(place)?;
    }
    bytes.money(&cells);
    Ok(bytes.hash(None))
}

pub(in crate::ledger) fn standing(row: &impl Fields) -> Told<BookedStanding> {
    let Owned(user) = row.told("user")?;
    Ok(BookedStanding {
        balance: row.told("id")?,
        account: row.told("account")?,
        user,
        name: words(row, 3, &mut Words::default())?.unwrap_or_else(|| Name::from("")),
        standing: row.told("standing")?,
        debt: row.told("debt")?,
        hash: row.told("hash")?,
    })
}

pub(in crate::ledger) fn update(row: &impl Fields) -> Told<BookedUpdate> {
    let cause = match row.bytes(5)? {
        Some(b"decision") => Some(Cause::Decision(row.read(6)?)),
        Some(b"grant") => Some(Cause::Grant(row.read(6)?)),
        Some(b"adjustment") => Some(Cause::Adjustment(row.read(6)?)),
        _ => None,
    };
    Ok(BookedUpdate {
        place: row.read(0)?,
        balance: row.read(1)?,
        previous: row.read(2)?,
        seq: seq(row, 3)?,
        kind: readable(row, 4, text::to_word)?,
        cause,
        grant: row.read(7)?,
        amount: row.read(8)?,
        before: row.read(9)?,
        after: row.read(10)?,
        at: row.read(11)?,
        hash: row.read(12)?,
    })
}

pub(in crate::ledger) fn booked_grant(row: &impl Fields) -> Told<BookedGrant> {
    let has = |column: &str| row.cell(column).map(|value| value != Cell::Null);
    // Ordered with a key, or issued by a decision and without a note.
    match (has("idempotency_key")?, has("decision")?, has("note")?) {
        (true, false, _) | (false, true, false) => {}
        _ => return Err(Unreadable { what: "whether a grant was ordered or issued".to_owned() }),
    }
    Ok(BookedGrant { record: grant_record(row)?, balance: row.told("balance")? })
}

/// A place, also one that cannot be.
pub(in crate::ledger) fn seq(row: &impl Fields, column: usize) -> Told<Seq> {
    row.read::<i64>(column).map(|seq| Seq(seq.cast_unsigned()))
}

/// Text, what cannot be read of it replaced.
pub(in crate::ledger) fn words(row: &impl Fields, column: usize, shared: &mut Words) -> Told<Option<Name>> {
    Ok(row.bytes(column)?.map(|bytes| shared.shared(&String::from_utf8_lossy(bytes))))
}

fn draws(text: &str, shared: &mut Words) -> Option<Vec<DrawEntry>> {
    text::to_draws_naming(text, &mut |name| shared.shared(name))
}

/// What a text says; `None` where it cannot be read.
pub(in crate::ledger) fn readable<T>(
    row: &impl Fields,
    column: usize,
    read: impl FnOnce(&str) -> Option<T>,
) -> Told<Option<T>> {
    let text = row.bytes(column)?.and_then(|bytes| std::str::from_utf8(bytes).ok());
    Ok(text.and_then(read))
}

pub(in crate::ledger) fn record(row: &impl Fields, shared: &mut Words) -> Told<BookedRecord> {
    let mut bytes = RowBytes::default();
    hashed(row, RowKind::Record, RECORD.len(), &mut bytes)?;
    Ok(BookedRecord {
        account: row.read(0)?,
        seq: seq(row, 1)?,
        kind: words(row, 2, shared)?.unwrap_or_else(|| shared.shared("")),
        digest: row.read(3)?,
        place: row.read(4)?,
        bytes,
        hash: row.read(5)?,
    })
}

/// The first cells of a row.
pub(in crate::ledger) fn owned(row: &impl Fields, cells: usize) -> Told<Vec<OwnedCell>> {
    (0..cells).map(|place| Ok(row.cell_at(place)?.into())).collect()
}

pub(in crate::ledger) fn head(row: &impl Fields) -> Told<BookedHead> {
    let (event, change) = (row.read(2)?, row.read(3)?);
    Ok(BookedHead { account: row.read(0)?, seq: seq(row, 1)?, event, change, hash: row.read(4)? })
}
