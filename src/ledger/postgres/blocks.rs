//! The decision log of blocks.

use std::collections::HashSet;

use deadpool_postgres::Client;

use super::columns::Id;
use super::directory::limit;
use super::table::Rows;
use crate::ledger::cells::{perhaps, words};
use crate::ledger::chain::rows::Cell;
use crate::ledger::rows::{BlockRow, Page};
use crate::ledger::{LedgerError, text, told};
use crate::units::{AccountId, DecisionId};

const COLUMNS: [&str; 10] =
    ["decision", "at", "account", "user", "feature", "model", "policy", "estimate", "block", "count"];
const SELECT: &str =
    "SELECT decision, at, account, \"user\", feature, model, policy, estimate, block, count FROM blocks";

/// Adds blocks, and forgets the oldest beyond `keep`. A place that is lost in a race makes it one less.
pub(super) async fn log(client: &mut Client, blocks: &[BlockRow], keep: u64) -> Result<(), LedgerError> {
    let (mut rows, mut seen) = (Rows::new(COLUMNS), HashSet::new());
    for row in blocks.iter().filter(|row| seen.insert(row.decision)) {
        let (estimate, block) = (text::of_quantities(&row.estimate), told::of_block(row));
        rows.push([
            Cell::Blob(row.decision.as_bytes()),
            Cell::Integer(row.at.ms()),
            Cell::Blob(row.account.as_bytes()),
            Cell::Blob(row.user.as_bytes()),
            words(&row.feature),
            words(&row.model),
            Cell::Integer(row.policy.0.cast_signed()),
            perhaps(estimate.as_deref()),
            perhaps(block.as_deref()),
            Cell::Integer(i64::try_from(row.count).unwrap_or(i64::MAX)),
        ])?;
    }
    let transaction = client.transaction().await?;
    let new = format!(
        "{} WHERE NOT EXISTS (SELECT 1 FROM blocks WHERE blocks.decision = given.decision)",
        rows.insert("blocks")
    );
    let insert = transaction.prepare_cached(&format!("{new} ON CONFLICT DO NOTHING")).await?;
    transaction.execute(&insert, &rows.parameters()).await?;
    let oldest = "DELETE FROM blocks WHERE place <= (SELECT max(place) FROM blocks) - $1";
    let oldest = transaction.prepare_cached(oldest).await?;
    transaction.execute(&oldest, &[&i64::try_from(keep).unwrap_or(i64::MAX)]).await?;
    Ok(transaction.commit().await?)
}

pub(super) async fn block(client: &Client, decision: DecisionId) -> Result<Option<BlockRow>, LedgerError> {
    let select = client.prepare_cached(&format!("{SELECT} WHERE decision = $1")).await?;
    let row = client.query_opt(&select, &[&Id::from(decision)]).await?;
    Ok(row.as_ref().map(told::block_row).transpose()?)
}

pub(super) async fn blocks(
    client: &Client,
    account: AccountId,
    before: Option<DecisionId>,
    page: Page,
) -> Result<Vec<BlockRow>, LedgerError> {
    let sql = format!(
        "{SELECT} WHERE account = $1 AND ($2::uuid IS NULL OR decision < $2) ORDER BY decision DESC LIMIT $3"
    );
    let select = client.prepare_cached(&sql).await?;
    let rows = client.query(&select, &[&Id::from(account), &before.map(Id::from), &limit(page)]).await?;
    Ok(rows.iter().map(told::block_row).collect::<Result<_, _>>()?)
}
