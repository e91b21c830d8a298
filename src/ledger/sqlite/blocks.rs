//! The decision log of blocks.

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::columns::Count;
use super::writer::Books;
use crate::ledger::rows::{BlockRow, Page};
use crate::ledger::{LedgerError, text, told};
use crate::units::{AccountId, DecisionId};

const COLUMNS: &str =
    "SELECT decision, at, account, user, feature, model, policy, estimate, block, count FROM blocks";

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
                told::of_block(row),
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
    Ok(select.query_row([decision], read).optional()?)
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
    let rows = select.query_map(params![account, before, page.0], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<BlockRow> {
    Ok(told::block_row(row)?)
}
