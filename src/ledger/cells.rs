//! The rows that a record adds, cell by cell: what every store writes, and what the chain of records hashes.

use super::chain::rows::{Cell, EVENT, MONEY, ORDER, RECORD, RowBytes, RowKind};
use super::text;
use crate::access::record::{Charge, CorrectionRecord, EndRecord, RevisionOrder, RevisionRecord};
use crate::units::{AccountId, Credits, Seq};

/// What a usage event and its money say in texts of their own.
pub(super) struct CallTexts {
    price: String,
    tool_calls: Option<String>,
    estimate: Option<String>,
    held: Option<String>,
    draws: Option<String>,
}

impl CallTexts {
    /// Those of a call.
    pub(super) fn of(end: &EndRecord) -> Self {
        let calls = &end.used.quantities.tool_calls;
        Self {
            price: text::of_price(end.used.price),
            tool_calls: (!calls.is_empty()).then(|| serde_json::to_string(calls).ok()).flatten(),
            estimate: text::of_quantities(&end.estimate.quantities),
            held: text::of_draws(&end.held),
            draws: text::of_draws(&end.draws),
        }
    }
}

/// A usage event.
pub(super) fn event<'a>(
    end: &'a EndRecord,
    texts: &'a CallTexts,
    digest: &'a [u8; 16],
) -> [Cell<'a>; EVENT.len()] {
    let used = &end.used.quantities;
    [
        Cell::Blob(end.decision.as_bytes()),
        Cell::Blob(end.account.as_bytes()),
        seq(end.seq),
        Cell::Blob(end.user.as_bytes()),
        words(&end.feature),
        words(&end.plan),
        words(&end.model),
        perhaps(end.size.as_deref()),
        perhaps(end.ending.tier.as_deref()),
        Cell::Integer(end.policy.0.cast_signed()),
        words(end.unit.as_str()),
        Cell::Integer(end.held_at.ms()),
        Cell::Integer(end.ended_at.ms()),
        words(end.ending.outcome.as_str()),
        words(end.ending.grade.as_str()),
        end.ending.status.map_or(Cell::Null, |status| Cell::Integer(status.into())),
        count(used.input_tokens),
        count(used.cached_input_tokens),
        count(used.cache_write_tokens),
        count(used.output_tokens),
        count(used.seconds),
        perhaps(texts.tool_calls.as_deref()),
        perhaps(texts.estimate.as_deref()),
        perhaps(texts.held.as_deref()),
        perhaps(texts.draws.as_deref()),
        Cell::Blob(digest),
    ]
}

/// The first monetization event of a call.
pub(super) fn money<'a>(end: &'a EndRecord, texts: &'a CallTexts) -> [Cell<'a>; MONEY.len()] {
    let [gross, covered, forgiven, excess, charged] = parts(&end.charge);
    let no = Cell::Null;
    [
        Cell::Blob(end.decision.as_bytes()),
        Cell::Integer(1),
        Cell::Integer(end.policy.0.cast_signed()),
        words(&texts.price),
        gross,
        covered,
        forgiven,
        excess,
        charged,
        no,
        no,
        no,
        no,
        no,
        no,
        no,
        no,
        no,
    ]
}

/// What a correction says in texts of its own.
pub(super) struct CorrectionTexts {
    price: String,
    used: Option<String>,
    draws: Option<String>,
}

impl CorrectionTexts {
    /// Those of a correction.
    pub(super) fn of(record: &CorrectionRecord) -> Self {
        Self {
            price: text::of_price(record.used.price),
            used: text::of_quantities(&record.used.quantities),
            draws: text::of_draws(&record.draws),
        }
    }
}

/// The monetization event of a correction, and what an operator ordered; null where nobody did.
pub(super) fn correction<'a>(
    record: &'a CorrectionRecord,
    ordered: Option<&'a RevisionRecord>,
    texts: &'a CorrectionTexts,
    digest: &'a [u8; 16],
) -> [Cell<'a>; MONEY.len() + ORDER.len()] {
    let order = ordered.map(|ordered| &ordered.order);
    let (id, key) = match order {
        Some(RevisionOrder::Refund { id, idempotency_key, .. }) => {
            (Cell::Blob(id.as_bytes()), words(idempotency_key))
        }
        Some(RevisionOrder::Rerate { .. }) | None => (Cell::Null, Cell::Null),
    };
    let [gross, covered, forgiven, excess, charged] = parts(&record.charge);
    [
        Cell::Blob(record.decision.as_bytes()),
        Cell::Integer(record.revision.into()),
        Cell::Integer(record.policy.0.cast_signed()),
        words(&texts.price),
        gross,
        covered,
        forgiven,
        excess,
        charged,
        Cell::Blob(record.account.as_bytes()),
        seq(record.seq),
        Cell::Integer(record.corrected_at.ms()),
        words(record.ending.outcome.as_str()),
        words(record.ending.grade.as_str()),
        perhaps(record.ending.tier.as_deref()),
        perhaps(texts.used.as_deref()),
        perhaps(texts.draws.as_deref()),
        Cell::Blob(digest),
        ordered.map_or(Cell::Null, |ordered| credits(ordered.refunded)),
        order.map_or(Cell::Null, |order| words(order.as_str())),
        id,
        key,
        order.map_or(Cell::Null, |order| words(order.reason())),
    ]
}

/// Any other record, of this kind.
pub(super) fn record<'a>(
    account: &'a AccountId,
    seq_of: Seq,
    kind: &'static str,
    digest: &'a [u8; 16],
) -> [Cell<'a>; RECORD.len()] {
    [Cell::Blob(account.as_bytes()), seq(seq_of), words(kind), Cell::Blob(digest)]
}

/// The hash of a row, with that of the monetization event that belongs to it.
pub(super) fn hash(
    bytes: &mut RowBytes,
    kind: RowKind,
    cells: &[Cell<'_>],
    money: Option<&[u8; 32]>,
) -> [u8; 32] {
    bytes.begin(kind);
    for cell in cells {
        bytes.put(*cell);
    }
    bytes.hash(money)
}

fn parts(charge: &Charge) -> [Cell<'static>; 5] {
    [charge.gross, charge.covered, charge.forgiven, charge.excess, charge.charged].map(credits)
}

fn credits(credits: Credits) -> Cell<'static> {
    Cell::Integer(credits.micros().cast_signed())
}

fn seq(seq: Seq) -> Cell<'static> {
    Cell::Integer(seq.0.cast_signed())
}

fn count(count: u64) -> Cell<'static> {
    Cell::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Text up to a NUL, which not every store can keep.
pub(super) fn words(text: &str) -> Cell<'_> {
    let end = text.find('\0').unwrap_or(text.len());
    Cell::Text(&text.as_bytes()[..end])
}

/// The same of text that may not be there.
pub(super) fn perhaps(text: Option<&str>) -> Cell<'_> {
    text.map_or(Cell::Null, words)
}
