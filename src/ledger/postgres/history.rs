//! Reading the books: grants, balance updates, decisions.

use deadpool_postgres::Client;

use super::columns::Id;
use crate::access::record::AdjustmentRecord;
use crate::ledger::rows::{BalanceUpdateRow, DecisionRow, GrantRow, Page, RefundRow};
use crate::ledger::{LedgerError, told};
use crate::units::{AccountId, DecisionId, GrantId, OrderId};

/// Grants with their balance and what is left of them.
pub(super) const GRANTS: &str = "SELECT grants.id, account, \"user\", name, amount, priority, expires_at, granted_at, \
     decision, idempotency_key, note, coalesce(remaining, 0) AS remaining FROM grants \
     JOIN balances ON balances.id = grants.balance \
     LEFT JOIN remainders ON remainders.balance = grants.balance AND grant_id = grants.id ";

/// Usage events with the live one of their monetization events.
pub(super) const DECISION: &str = "SELECT usage_events.*, revision, price, gross, covered, forgiven, excess, charged, \
     true_outcome, true_grade, true_tier, true_used, true_draws, monetization_events.policy AS priced_by, \
     corrected_at, coalesce(refunded, 0) AS refunded, ordered, reason, \
     CASE WHEN revision > 1 THEN (SELECT max(settling.corrected_at) FROM monetization_events AS settling \
     WHERE settling.decision = usage_events.decision AND settling.ordered IS DISTINCT FROM 'refund') END AS settled_at \
     FROM usage_events \
     JOIN monetization_events ON monetization_events.decision = usage_events.decision \
     AND revision = (SELECT max(revision) FROM monetization_events AS live \
     WHERE live.decision = usage_events.decision) ";

/// The updates behind a place, each of them naming the one before it. A walk ends even in damaged books: no update
/// stands behind the one that names it.
const UPDATES: &str = "WITH RECURSIVE walk AS ( \
     SELECT *, 1 AS step FROM balance_updates WHERE place = $2 UNION ALL \
     SELECT updates.*, step + 1 FROM walk JOIN balance_updates AS updates ON updates.place = walk.previous \
     AND updates.place < walk.place WHERE step < $3) \
     SELECT place, account, \"user\", name, kind, cause_kind, cause, grant_id, amount, before, after, at, walk.hash, \
     seq, previous FROM walk JOIN balances ON balances.id = balance WHERE account = $1 ORDER BY step";

const CALLS: &str = "WITH RECURSIVE walk AS ( \
     SELECT decision, place, previous, 1 AS step FROM usage_events WHERE place = $2 AND account = $1 UNION ALL \
     SELECT events.decision, events.place, events.previous, step + 1 FROM walk \
     JOIN usage_events AS events ON events.place = walk.previous AND events.place < walk.place \
     AND events.account = $1 WHERE step < $3) ";

pub(super) async fn grant(client: &Client, grant: GrantId) -> Result<Option<GrantRow>, LedgerError> {
    let select = client.prepare_cached(&format!("{GRANTS} WHERE grants.id = $1")).await?;
    let row = client.query_opt(&select, &[&Id::from(grant)]).await?;
    Ok(row.as_ref().map(told::grant_row).transpose()?)
}

pub(super) async fn grants(client: &Client, account: AccountId) -> Result<Vec<GrantRow>, LedgerError> {
    let order = "WHERE account = $1 ORDER BY name, \"user\", priority, expires_at NULLS LAST, grants.id";
    let select = client.prepare_cached(&format!("{GRANTS} {order}")).await?;
    let rows = client.query(&select, &[&Id::from(account)]).await?;
    Ok(rows.iter().map(told::grant_row).collect::<Result<_, _>>()?)
}

pub(super) async fn balance_updates(
    client: &Client,
    account: AccountId,
    before: Option<i64>,
    page: Page,
) -> Result<Vec<BalanceUpdateRow>, LedgerError> {
    let account = Id::from(account);
    let start = match before {
        None => {
            let newest = client.prepare_cached("SELECT change FROM heads WHERE account = $1").await?;
            client.query_opt(&newest, &[&account]).await?
        }
        Some(before) => {
            let previous = "SELECT previous FROM balance_updates JOIN balances ON balances.id = balance \
                 WHERE place = $2 AND account = $1";
            let previous = client.prepare_cached(previous).await?;
            client.query_opt(&previous, &[&account, &before]).await?
        }
    };
    let start: Option<i64> = start.map(|row| row.try_get(0)).transpose()?.flatten();
    let select = client.prepare_cached(UPDATES).await?;
    let (Some(start), 1..) = (start, page.0) else { return Ok(Vec::new()) };
    let rows = client.query(&select, &[&account, &start, &i32::from(page.0)]).await?;
    Ok(rows.iter().map(told::update_row).collect::<Result<_, _>>()?)
}

pub(super) async fn decision(
    client: &Client,
    decision: DecisionId,
) -> Result<Option<DecisionRow>, LedgerError> {
    let select = client.prepare_cached(&format!("{DECISION} WHERE usage_events.decision = $1")).await?;
    let row = client.query_opt(&select, &[&Id::from(decision)]).await?;
    Ok(row.as_ref().map(told::decision_row).transpose()?)
}

pub(super) async fn decisions(
    client: &Client,
    account: AccountId,
    before: Option<DecisionId>,
    page: Page,
) -> Result<Vec<DecisionRow>, LedgerError> {
    let account = Id::from(account);
    let start = match before {
        None => {
            let newest = client.prepare_cached("SELECT event FROM heads WHERE account = $1").await?;
            client.query_opt(&newest, &[&account]).await?
        }
        Some(before) => {
            let previous = "SELECT previous FROM usage_events WHERE account = $1 AND decision = $2";
            let previous = client.prepare_cached(previous).await?;
            client.query_opt(&previous, &[&account, &Id::from(before)]).await?
        }
    };
    let start: Option<i64> = start.map(|row| row.try_get(0)).transpose()?.flatten();
    let sql = format!(
        "{CALLS} SELECT whole.* FROM walk JOIN LATERAL ({DECISION} WHERE usage_events.decision = walk.decision) \
         AS whole ON true ORDER BY step"
    );
    let (Some(start), 1..) = (start, page.0) else { return Ok(Vec::new()) };
    let select = client.prepare_cached(&sql).await?;
    let rows = client.query(&select, &[&account, &start, &i32::from(page.0)]).await?;
    Ok(rows.iter().map(told::decision_row).collect::<Result<_, _>>()?)
}

/// Adjustments with their balance, and the grant as it was granted.
pub(super) const ADJUSTMENTS: &str = "SELECT adjustments.id, account, \"user\", name, adjustments.seq, grant_id, \
     adjustments.amount, adjustments.repaid, adjusted_at, adjustments.idempotency_key, reason, priority, expires_at, \
     adjustments.balance AS balance \
     FROM adjustments JOIN balances ON balances.id = adjustments.balance \
     LEFT JOIN grants ON grants.id = grant_id ";

pub(super) async fn adjustment(
    client: &Client,
    order: OrderId,
) -> Result<Option<AdjustmentRecord>, LedgerError> {
    let select = client.prepare_cached(&format!("{ADJUSTMENTS} WHERE adjustments.id = $1")).await?;
    let row = client.query_opt(&select, &[&Id::from(order)]).await?;
    Ok(row.as_ref().map(told::adjustment_record).transpose()?)
}

pub(super) async fn adjustments(
    client: &Client,
    account: AccountId,
) -> Result<Vec<AdjustmentRecord>, LedgerError> {
    let sql = format!("{ADJUSTMENTS} WHERE account = $1 ORDER BY adjustments.seq");
    let select = client.prepare_cached(&sql).await?;
    let rows = client.query(&select, &[&Id::from(account)]).await?;
    Ok(rows.iter().map(told::adjustment_record).collect::<Result<_, _>>()?)
}

pub(super) async fn refund(client: &Client, order: OrderId) -> Result<Option<RefundRow>, LedgerError> {
    let select = "SELECT now.*, old.charged - now.charged AS amount FROM monetization_events AS now \
         JOIN monetization_events AS old ON old.decision = now.decision AND old.revision = now.revision - 1 \
         WHERE now.order_id = $1";
    let select = client.prepare_cached(select).await?;
    let row = client.query_opt(&select, &[&Id::from(order)]).await?;
    Ok(row.as_ref().map(told::refund).transpose()?)
}
