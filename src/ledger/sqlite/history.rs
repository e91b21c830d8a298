//! Reading the books: grants, balance updates, decisions.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{Count, Owned, parsed, word};
use crate::access::record::{AdjustmentRecord, Charge, GrantOrigin};
use crate::ledger::rows::{
    BalanceUpdateRow, Cause, DecisionRow, GrantRow, Page, RefundRow, RevisedBy, RevisedRow,
};
use crate::ledger::{LedgerError, text};
use crate::units::{AccountId, Credits, DecisionId, GrantId, OrderId, Quantities, SignedCredits};

/// Grants with their balance and what is left of them.
pub(super) const GRANTS: &str = "SELECT grants.id, account, user, name, amount, priority, expires_at, granted_at, \
     decision, idempotency_key, note, coalesce(remaining, 0) AS remaining FROM grants \
     JOIN balances ON balances.id = grants.balance \
     LEFT JOIN remainders ON remainders.balance = grants.balance AND grant_id = grants.id ";

const UPDATE: &str = "SELECT place, account, user, name, kind, cause_kind, cause, grant_id, amount, before, after, at, \
     balance_updates.hash, seq, previous FROM balance_updates JOIN balances ON balances.id = balance \
     WHERE place = ?1 AND account = ?2";

/// Usage events with the live one of their monetization events.
pub(super) const DECISION: &str = "SELECT usage_events.*, revision, price, gross, covered, forgiven, excess, charged, true_outcome, \
     true_grade, true_tier, true_used, true_draws, monetization_events.policy AS priced_by, \
     corrected_at, coalesce(refunded, 0) AS refunded, ordered, reason, \
     CASE WHEN revision > 1 THEN (SELECT max(settling.corrected_at) FROM monetization_events AS settling \
     WHERE settling.decision = usage_events.decision AND settling.ordered IS NOT 'refund') END AS settled_at \
     FROM usage_events JOIN monetization_events ON monetization_events.decision = usage_events.decision \
     AND revision = (SELECT max(revision) FROM monetization_events AS live \
     WHERE live.decision = usage_events.decision) ";

pub(super) fn grant(connection: &Connection, grant: GrantId) -> Result<Option<GrantRow>, LedgerError> {
    let mut select = connection.prepare_cached(&format!("{GRANTS} WHERE grants.id = ?1"))?;
    Ok(select.query_row([grant], grant_row).optional()?)
}

pub(super) fn grants(connection: &Connection, account: AccountId) -> Result<Vec<GrantRow>, LedgerError> {
    let order = "WHERE account = ?1 ORDER BY name, user, priority, expires_at IS NULL, expires_at, grants.id";
    let mut select = connection.prepare_cached(&format!("{GRANTS} {order}"))?;
    let rows = select.query_map([account], grant_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn grant_row(row: &Row<'_>) -> rusqlite::Result<GrantRow> {
    let Owned(user) = row.get("user")?;
    let remaining: SignedCredits = row.get("remaining")?;
    Ok(GrantRow {
        grant: row.get("id")?,
        account: row.get("account")?,
        user,
        balance: row.get("name")?,
        amount: row.get("amount")?,
        // Below zero only in books that the audit calls broken: nothing can be drawn then either.
        remaining: remaining.available(),
        priority: row.get("priority")?,
        expires_at: row.get("expires_at")?,
        granted_at: row.get("granted_at")?,
        origin: origin(row)?,
    })
}

/// Who ordered a grant, or why.
pub(super) fn origin(row: &Row<'_>) -> rusqlite::Result<GrantOrigin> {
    let idempotency_key: Option<std::sync::Arc<str>> = row.get("idempotency_key")?;
    Ok(match idempotency_key {
        Some(idempotency_key) => GrantOrigin::Operator { idempotency_key, note: row.get("note")? },
        None => GrantOrigin::Issue { decision: row.get("decision")? },
    })
}

/// What caused a balance update.
pub(super) fn cause(row: &Row<'_>) -> rusqlite::Result<Cause> {
    Ok(match row.get_ref("cause_kind")?.as_str()? {
        "decision" => Cause::Decision(row.get("cause")?),
        "adjustment" => Cause::Adjustment(row.get("cause")?),
        _ => Cause::Grant(row.get("cause")?),
    })
}

pub(super) fn balance_updates(
    connection: &Connection,
    account: AccountId,
    before: Option<i64>,
    page: Page,
) -> Result<Vec<BalanceUpdateRow>, LedgerError> {
    let mut select = connection.prepare_cached(UPDATE)?;
    let newest = "SELECT change FROM heads WHERE account = ?1";
    let mut next: Option<i64> = match before {
        None => {
            connection.prepare_cached(newest)?.query_row([account], |row| row.get(0)).optional()?.flatten()
        }
        Some(before) => {
            let previous = select.query_row(params![before, account], |row| row.get("previous"));
            previous.optional()?.flatten()
        }
    };
    let mut rows = Vec::new();
    while let Some(place) = next
        && rows.len() < usize::from(page.0)
    {
        let row =
            select.query_row(params![place, account], |row| Ok((row.get("previous")?, update_row(row)?)));
        let (previous, row) = row.optional()?.ok_or_else(|| broken("balance update", place))?;
        next = earlier(previous, place)?;
        rows.push(row);
    }
    Ok(rows)
}

fn update_row(row: &Row<'_>) -> rusqlite::Result<BalanceUpdateRow> {
    let Owned(user) = row.get("user")?;
    Ok(BalanceUpdateRow {
        place: row.get("place")?,
        seq: row.get("seq")?,
        account: row.get("account")?,
        user,
        balance: row.get("name")?,
        kind: word(row, "kind")?,
        cause: cause(row)?,
        grant: row.get("grant_id")?,
        amount: row.get("amount")?,
        before: row.get("before")?,
        after: row.get("after")?,
        at: row.get("at")?,
        hash: row.get("hash")?,
    })
}

pub(super) fn decision(
    connection: &Connection,
    decision: DecisionId,
) -> Result<Option<DecisionRow>, LedgerError> {
    let mut select = connection.prepare_cached(&format!("{DECISION} WHERE usage_events.decision = ?1"))?;
    Ok(select.query_row([decision], decision_row).optional()?)
}

pub(super) fn decisions(
    connection: &Connection,
    account: AccountId,
    before: Option<DecisionId>,
    page: Page,
) -> Result<Vec<DecisionRow>, LedgerError> {
    let (newest, of_cursor) = (
        "SELECT event FROM heads WHERE account = ?1",
        "SELECT previous FROM usage_events WHERE account = ?1 AND decision = ?2",
    );
    let start = match before {
        None => connection.prepare_cached(newest)?.query_row([account], |row| row.get(0)),
        Some(before) => {
            connection.prepare_cached(of_cursor)?.query_row(params![account, before], |row| row.get(0))
        }
    };
    let mut next: Option<i64> = start.optional()?.flatten();
    let mut select =
        connection.prepare_cached(&format!("{DECISION} WHERE place = ?1 AND usage_events.account = ?2"))?;
    let mut rows = Vec::new();
    while let Some(place) = next
        && rows.len() < usize::from(page.0)
    {
        let row =
            select.query_row(params![place, account], |row| Ok((row.get("previous")?, decision_row(row)?)));
        let (previous, row) = row.optional()?.ok_or_else(|| broken("usage event", place))?;
        next = earlier(previous, place)?;
        rows.push(row);
    }
    Ok(rows)
}

pub(super) fn decision_row(row: &Row<'_>) -> rusqlite::Result<DecisionRow> {
    let revision: u32 = row.get("revision")?;
    let is_corrected = revision > 1;
    let ended_at = row.get("ended_at")?;
    let live = |first, corrected| if is_corrected { corrected } else { first };
    Ok(DecisionRow {
        decision: row.get("decision")?,
        seq: row.get("seq")?,
        account: row.get("account")?,
        user: row.get("user")?,
        feature: row.get("feature")?,
        plan: row.get("plan")?,
        model: row.get("model")?,
        size: row.get("size")?,
        policy: row.get("policy")?,
        unit: word(row, "unit")?,
        held_at: row.get("held_at")?,
        ended_at,
        revision,
        priced_by: row.get("priced_by")?,
        settled_at: row.get::<_, Option<_>>("settled_at")?.unwrap_or(ended_at),
        revised: if is_corrected { Some(revised(row)?) } else { None },
        outcome: word(row, live("outcome", "true_outcome"))?,
        grade: word(row, live("grade", "true_grade"))?,
        tier: row.get(live("tier", "true_tier"))?,
        status: row.get("status")?,
        estimate: parsed(row, "estimate", text::to_quantities)?,
        used: if is_corrected { parsed(row, "true_used", text::to_quantities)? } else { used(row)? },
        price: parsed(row, "price", text::to_price)?,
        held: parsed(row, "held", text::to_draws)?,
        draws: parsed(row, live("draws", "true_draws"), text::to_draws)?,
        charge: charge(row)?,
        refunded: row.get("refunded")?,
    })
}

fn revised(row: &Row<'_>) -> rusqlite::Result<RevisedRow> {
    let by = match row.get_ref("ordered")?.as_str_or_null()? {
        None => RevisedBy::Truth,
        Some(_) => word(row, "ordered")?,
    };
    Ok(RevisedRow { at: row.get("corrected_at")?, by, reason: row.get("reason")? })
}

/// Adjustments with their balance, and the grant as it was granted.
pub(super) const ADJUSTMENTS: &str = "SELECT adjustments.id, account, user, name, adjustments.seq, grant_id, \
     adjustments.amount, adjustments.repaid, adjusted_at, adjustments.idempotency_key, reason, priority, expires_at, \
     adjustments.balance AS balance \
     FROM adjustments JOIN balances ON balances.id = adjustments.balance \
     LEFT JOIN grants ON grants.id = grant_id ";

pub(super) fn adjustment(
    connection: &Connection,
    order: OrderId,
) -> Result<Option<AdjustmentRecord>, LedgerError> {
    let mut select = connection.prepare_cached(&format!("{ADJUSTMENTS} WHERE adjustments.id = ?1"))?;
    Ok(select.query_row([order], adjustment_record).optional()?)
}

pub(super) fn adjustments(
    connection: &Connection,
    account: AccountId,
) -> Result<Vec<AdjustmentRecord>, LedgerError> {
    let order = "WHERE account = ?1 ORDER BY adjustments.seq";
    let mut select = connection.prepare_cached(&format!("{ADJUSTMENTS} {order}"))?;
    let rows = select.query_map([account], adjustment_record)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// An adjustment as it was made.
pub(super) fn adjustment_record(row: &Row<'_>) -> rusqlite::Result<AdjustmentRecord> {
    let Owned(user) = row.get("user")?;
    Ok(AdjustmentRecord {
        seq: row.get("seq")?,
        id: row.get("id")?,
        account: row.get("account")?,
        user,
        balance: row.get("name")?,
        grant: row.get("grant_id")?,
        amount: row.get("amount")?,
        repaid: row.get("repaid")?,
        priority: row.get::<_, Option<_>>("priority")?.unwrap_or_default(),
        expires_at: row.get("expires_at")?,
        adjusted_at: row.get("adjusted_at")?,
        idempotency_key: row.get("idempotency_key")?,
        reason: row.get("reason")?,
    })
}

pub(super) fn refund(connection: &Connection, order: OrderId) -> Result<Option<RefundRow>, LedgerError> {
    let mut select = connection.prepare_cached(
        "SELECT now.*, old.charged - now.charged AS amount FROM monetization_events AS now \
         JOIN monetization_events AS old ON old.decision = now.decision AND old.revision = now.revision - 1 \
         WHERE now.order_id = ?1",
    )?;
    let found = select.query_row([order], |row| {
        Ok(RefundRow {
            id: row.get("order_id")?,
            account: row.get("account")?,
            decision: row.get("decision")?,
            revision: row.get("revision")?,
            amount: row.get("amount")?,
            charged: row.get("charged")?,
            refunded_at: row.get("corrected_at")?,
            idempotency_key: row.get("idempotency_key")?,
            reason: row.get("reason")?,
        })
    });
    Ok(found.optional()?)
}

/// What a usage event says was used.
pub(super) fn used(row: &Row<'_>) -> rusqlite::Result<Quantities> {
    let count = |column: &str| row.get(column).map(|Count(count)| count);
    let tool_calls = match row.get_ref("tool_calls")?.as_str_or_null()? {
        Some(_) => parsed(row, "tool_calls", |text| serde_json::from_str(text).ok())?,
        None => crate::units::ToolCalls::new(),
    };
    Ok(Quantities {
        input_tokens: count("input_tokens")?,
        cached_input_tokens: count("cached_input_tokens")?,
        cache_write_tokens: count("cache_write_tokens")?,
        output_tokens: count("output_tokens")?,
        seconds: count("seconds")?,
        tool_calls,
    })
}

fn charge(row: &Row<'_>) -> rusqlite::Result<Charge> {
    let credits = |column: &str| row.get::<_, Credits>(column);
    Ok(Charge {
        gross: credits("gross")?,
        covered: credits("covered")?,
        forgiven: credits("forgiven")?,
        excess: credits("excess")?,
        charged: credits("charged")?,
    })
}

/// The place before this one, which lies before it: a walk ends even in damaged books.
fn earlier(previous: Option<i64>, place: i64) -> Result<Option<i64>, LedgerError> {
    match previous {
        Some(previous) if previous >= place => Err(broken("row", place)),
        previous => Ok(previous),
    }
}

fn broken(what: &str, place: i64) -> LedgerError {
    LedgerError::Corrupt { what: format!("the account's {what} at place {place} is not where it should be") }
}
