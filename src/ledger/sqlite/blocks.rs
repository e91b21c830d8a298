//! The decision log of blocks.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use serde::{Deserialize, Serialize};

use super::columns::{Count, parsed};
use super::writer::Books;
use crate::access::{Block, Reason};
use crate::ledger::rows::{BlockRow, Page};
use crate::ledger::{LedgerError, text};
use crate::policy::compiled::Name;
use crate::units::{AccountId, Credits, DecisionId, Timestamp};

const COLUMNS: &str =
    "SELECT decision, at, account, user, feature, model, policy, estimate, block, count FROM blocks";

/// Why, and what else the request was priced by; logs of before have no such words.
#[derive(Serialize, Deserialize)]
struct BlockText {
    reason: Reason,
    binding: Option<Name>,
    next: Option<Timestamp>,
    need: Option<Credits>,
    have: Option<Credits>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tier: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<Arc<str>>,
}

impl BlockText {
    fn of(row: &BlockRow) -> Self {
        let Block { reason, binding, next, need, have } = row.block.clone();
        let (plan, tier, size) = (row.plan.clone(), row.tier.clone(), row.size.clone());
        Self { reason, binding, next, need, have, plan, tier, size }
    }
}

/// Adds blocks, and forgets the oldest beyond `keep`. Places have no gaps, since only the oldest ever go.
pub(super) fn log(books: &mut Books, blocks: &[BlockRow], keep: u64) -> Result<(), LedgerError> {
    let transaction = books.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO blocks (decision, at, account, user, feature, model, policy, estimate, block, count) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
        )?;
        for row in blocks {
            insert.execute(params![
                row.decision,
                row.at,
                row.account,
                row.user,
                row.feature,
                row.model,
                row.policy,
                text::of_quantities(&row.estimate),
                serde_json::to_string(&BlockText::of(row)).ok(),
                Count(row.count),
            ])?;
        }
        let oldest = "DELETE FROM blocks WHERE place <= (SELECT max(place) FROM blocks) - ?1";
        transaction.prepare_cached(oldest)?.execute([Count(keep)])?;
    }
    Ok(transaction.commit()?)
}

pub(super) fn block(connection: &Connection, decision: DecisionId) -> Result<Option<BlockRow>, LedgerError> {
    let mut select = connection.prepare_cached(&format!("{COLUMNS} WHERE decision = ?1"))?;
    Ok(select.query_row([decision], block_row).optional()?)
}

pub(super) fn blocks(
    connection: &Connection,
    account: AccountId,
    before: Option<DecisionId>,
    page: Page,
) -> Result<Vec<BlockRow>, LedgerError> {
    let mut select = connection.prepare_cached(&format!(
        "{COLUMNS} WHERE account = ?1 AND (?2 IS NULL OR decision < ?2) ORDER BY decision DESC LIMIT ?3"
    ))?;
    let rows = select.query_map(params![account, before, page.0], block_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn block_row(row: &Row<'_>) -> rusqlite::Result<BlockRow> {
    let Count(count) = row.get("count")?;
    let why: BlockText = parsed(row, "block", |text| serde_json::from_str(text).ok())?;
    let BlockText { reason, binding, next, need, have, plan, tier, size } = why;
    Ok(BlockRow {
        decision: row.get("decision")?,
        at: row.get("at")?,
        account: row.get("account")?,
        user: row.get("user")?,
        feature: row.get("feature")?,
        model: row.get("model")?,
        policy: row.get("policy")?,
        estimate: parsed(row, "estimate", text::to_quantities)?,
        plan,
        tier,
        size,
        block: Block { reason, binding, next, need, have },
        count,
    })
}
