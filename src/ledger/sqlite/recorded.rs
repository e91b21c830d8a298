//! The books in the file as replay reads them: sorted runs, merged account by account.

use rusqlite::params;

use super::books::SqliteBooks;
use super::history::{ADJUSTMENTS, DECISION};
use crate::ledger::recorded::{Entry, Recorded, Request};
use crate::ledger::rows::DecisionRow;
use crate::ledger::told::{self, entries};
use crate::ledger::{LedgerError, merge};
use crate::units::{AccountId, Timestamp};

const CALLS: &str = "SELECT usage_events.*, revision, price, gross, covered, forgiven, excess, charged, \
     refunded, monetization_events.policy AS priced_by FROM usage_events LEFT JOIN monetization_events \
     ON monetization_events.decision = usage_events.decision AND revision = 1 ORDER BY usage_events.account, usage_events.seq";

const CORRECTIONS: &str = "SELECT usage_events.user, feature, plan, model, size, unit, held_at, now.decision, \
     now.account, now.seq, now.revision, now.price, now.gross, now.covered, now.forgiven, now.excess, now.charged, \
     now.policy AS priced_by, now.refunded, now.ordered, usage_events.policy, now.corrected_at, now.true_outcome, now.true_tier, now.true_used, now.true_draws, \
     coalesce(old.true_draws, usage_events.draws) AS old_draws, \
     coalesce((SELECT max(settling.corrected_at) FROM monetization_events AS settling \
     WHERE settling.decision = now.decision AND settling.revision < now.revision \
     AND settling.ordered IS NOT 'refund'), ended_at) AS old_at, old.policy AS old_priced_by, old.price AS old_price, \
     old.gross AS old_gross, old.covered AS old_covered, old.forgiven AS old_forgiven, old.excess AS old_excess, \
     old.charged AS old_charged, old.refunded AS old_refunded FROM monetization_events AS now \
     JOIN usage_events ON usage_events.decision = now.decision JOIN monetization_events AS old \
     ON old.decision = now.decision AND old.revision = now.revision - 1 \
     WHERE now.seq IS NOT NULL ORDER BY now.account, now.seq";

const GRANTS: &str = "SELECT grants.id, account, user, name, grants.seq, amount, repaid, priority, expires_at, granted_at, \
     decision, idempotency_key, note FROM grants JOIN balances ON balances.id = grants.balance ";

const UPDATES: &str = "SELECT account, seq, user, name, kind, cause_kind, cause, grant_id, amount, before, after, at, \
     balance_updates.hash FROM balance_updates JOIN balances ON balances.id = balance ORDER BY account, seq, place";

const REVISIONS: &str = "SELECT now.account, now.seq, now.decision, now.corrected_at, now.ordered, now.true_outcome, \
     now.true_grade, now.true_tier, now.true_used, now.charged, old.charged AS old_charged \
     FROM monetization_events AS now JOIN monetization_events AS old \
     ON old.decision = now.decision AND old.revision = now.revision - 1 \
     WHERE now.seq IS NOT NULL ORDER BY now.account, now.corrected_at, now.seq";

const BLOCKS: &str = "SELECT blocks.*, accounts.plan AS plan FROM blocks LEFT JOIN accounts \
     ON accounts.id = account ORDER BY account, at, decision";

impl Recorded for SqliteBooks {
    fn entries(&self, visit: &mut dyn FnMut(Entry)) -> Result<(), LedgerError> {
        let mut calls = self.connection.prepare(CALLS)?;
        let mut corrections = self.connection.prepare(CORRECTIONS)?;
        let mut grants = self.connection.prepare(&format!("{GRANTS} ORDER BY account, grants.seq"))?;
        let others = "SELECT account, seq, kind FROM records ORDER BY account, seq";
        let mut others = self.connection.prepare(others)?;
        let mut updates = self.connection.prepare(UPDATES)?;
        let mut adjustments =
            self.connection.prepare(&format!("{ADJUSTMENTS} ORDER BY account, adjustments.seq"))?;
        Ok(merge::entries(
            calls.query_map([], |row| Ok((entries::place(row)?, entries::call(row)?)))?,
            corrections.query_map([], |row| Ok((entries::place(row)?, entries::correction(row)?)))?,
            grants.query_map([], |row| Ok((entries::place(row)?, entries::grant_record(row)?)))?,
            adjustments.query_map([], |row| Ok((entries::place(row)?, told::adjustment_record(row)?)))?,
            others.query_map([], |row| Ok((entries::place(row)?, row.get::<_, String>(2)?)))?,
            updates.query_map([], |row| Ok((entries::place(row)?, entries::update(row)?)))?,
            visit,
        )?)
    }

    fn requests(&self, visit: &mut dyn FnMut(AccountId, Request)) -> Result<(), LedgerError> {
        let operators = "WHERE grants.decision IS NULL ORDER BY account, granted_at, grants.seq";
        let mut grants = self.connection.prepare(&format!("{GRANTS} {operators}"))?;
        let order = "ORDER BY account, adjusted_at, adjustments.seq";
        let mut adjustments = self.connection.prepare(&format!("{ADJUSTMENTS} {order}"))?;
        let mut revisions = self.connection.prepare(REVISIONS)?;
        let order = "ORDER BY usage_events.account, held_at, usage_events.decision";
        let mut calls = self.connection.prepare(&format!("{DECISION} {order}"))?;
        let mut blocks = self.connection.prepare(BLOCKS)?;
        Ok(merge::requests(
            grants.query_map([], |row| Ok(entries::asked_grant(row)?))?,
            adjustments.query_map([], |row| Ok(entries::asked_adjustment(row)?))?,
            revisions.query_map([], |row| Ok(entries::asked_revision(row)?))?,
            calls.query_map([], |row| Ok(entries::asked_call(row)?))?,
            blocks.query_map([], |row| Ok(entries::asked_block(row)?))?,
            visit,
        )?)
    }

    fn ended(
        &self,
        from: Timestamp,
        until: Timestamp,
        visit: &mut dyn FnMut(DecisionRow),
    ) -> Result<(), LedgerError> {
        let range = "WHERE ended_at >= ?1 AND ended_at < ?2";
        let mut calls = self.connection.prepare(&format!("{DECISION} {range}"))?;
        let mut rows = calls.query(params![from, until])?;
        while let Some(row) = rows.next()? {
            visit(told::decision_row(row)?);
        }
        Ok(())
    }
}
