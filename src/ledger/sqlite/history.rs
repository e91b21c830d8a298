//! Reading the books: grants, balance updates, decisions.

use rusqlite::{Connection, OptionalExtension, params};

use crate::access::record::AdjustmentRecord;
use crate::ledger::rows::{BalanceUpdateRow, DecisionRow, GrantRow, Page, RefundRow};
use crate::ledger::{LedgerError, told};
use crate::units::{AccountId, DecisionId, GrantId, OrderId};

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
    Ok(select.query_row([grant], |row| Ok(told::grant_row(row)?)).optional()?)
}

pub(super) fn grants(connection: &Connection, account: AccountId) -> Result<Vec<GrantRow>, LedgerError> {
    let order = "WHERE account = ?1 ORDER BY name, user, priority, expires_at IS NULL, expires_at, grants.id";
    let mut select = connection.prepare_cached(&format!("{GRANTS} {order}"))?;
    let rows = select.query_map([account], |row| Ok(told::grant_row(row)?))?;
    Ok(rows.collect::<Result<_, _>>()?)
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
        let row = select
            .query_row(params![place, account], |row| Ok((row.get("previous")?, told::update_row(row)?)));
        let (previous, row) = row.optional()?.ok_or_else(|| broken("balance update", place))?;
        next = earlier(previous, place)?;
        rows.push(row);
    }
    Ok(rows)
}

pub(super) fn decision(
    connection: &Connection,
    decision: DecisionId,
) -> Result<Option<DecisionRow>, LedgerError> {
    let mut select = connection.prepare_cached(&format!("{DECISION} WHERE usage_events.decision = ?1"))?;
    Ok(select.query_row([decision], |row| Ok(told::decision_row(row)?)).optional()?)
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
        let row = select
            .query_row(params![place, account], |row| Ok((row.get("previous")?, told::decision_row(row)?)));
        let (previous, row) = row.optional()?.ok_or_else(|| broken("usage event", place))?;
        next = earlier(previous, place)?;
        rows.push(row);
    }
    Ok(rows)
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
    Ok(select.query_row([order], |row| Ok(told::adjustment_record(row)?)).optional()?)
}

pub(super) fn adjustments(
    connection: &Connection,
    account: AccountId,
) -> Result<Vec<AdjustmentRecord>, LedgerError> {
    let order = "WHERE account = ?1 ORDER BY adjustments.seq";
    let mut select = connection.prepare_cached(&format!("{ADJUSTMENTS} {order}"))?;
    let rows = select.query_map([account], |row| Ok(told::adjustment_record(row)?))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn refund(connection: &Connection, order: OrderId) -> Result<Option<RefundRow>, LedgerError> {
    let mut select = connection.prepare_cached(
        "SELECT now.*, old.charged - now.charged AS amount FROM monetization_events AS now \
         JOIN monetization_events AS old ON old.decision = now.decision AND old.revision = now.revision - 1 \
         WHERE now.order_id = ?1",
    )?;
    Ok(select.query_row([order], |row| Ok(told::refund(row)?)).optional()?)
}
