//! The books on the server as replay reads them: sorted runs, merged account by account.

use std::vec::IntoIter;

use tokio_postgres::Row;

use super::books::PostgresBooks;
use super::history::{ADJUSTMENTS, DECISION};
use crate::ledger::fields::{Fields as _, Told};
use crate::ledger::recorded::{Entry, Recorded, Request};
use crate::ledger::rows::DecisionRow;
use crate::ledger::told::{self, entries};
use crate::ledger::{LedgerError, merge};
use crate::units::{AccountId, Timestamp};

const CALLS: &str = "SELECT usage_events.*, revision, price, gross, covered, forgiven, excess, charged, \
     refunded, monetization_events.policy AS priced_by FROM usage_events LEFT JOIN monetization_events \
     ON monetization_events.decision = usage_events.decision AND revision = 1 ORDER BY usage_events.account, usage_events.seq";

const CORRECTIONS: &str = "SELECT usage_events.\"user\", feature, plan, model, size, unit, held_at, now.decision, \
     now.account, now.seq, now.revision, now.price, now.gross, now.covered, now.forgiven, now.excess, now.charged, \
     now.policy AS priced_by, now.refunded, now.ordered, usage_events.policy, now.corrected_at, now.true_outcome, now.true_tier, now.true_used, now.true_draws, \
     coalesce(old.true_draws, usage_events.draws) AS old_draws, \
     coalesce((SELECT max(settling.corrected_at) FROM monetization_events AS settling \
     WHERE settling.decision = now.decision AND settling.revision < now.revision \
     AND settling.ordered IS DISTINCT FROM 'refund'), ended_at) AS old_at, old.policy AS old_priced_by, old.price AS old_price, \
     old.gross AS old_gross, old.covered AS old_covered, old.forgiven AS old_forgiven, old.excess AS old_excess, \
     old.charged AS old_charged, old.refunded AS old_refunded FROM monetization_events AS now \
     JOIN usage_events ON usage_events.decision = now.decision JOIN monetization_events AS old \
     ON old.decision = now.decision AND old.revision = now.revision - 1 \
     WHERE now.seq IS NOT NULL ORDER BY now.account, now.seq";

const GRANTS: &str = "SELECT grants.id, account, \"user\", name, grants.seq, amount, repaid, priority, expires_at, granted_at, \
     decision, idempotency_key, note FROM grants JOIN balances ON balances.id = grants.balance ";

const UPDATES: &str = "SELECT account, seq, \"user\", name, kind, cause_kind, cause, grant_id, amount, before, after, at, \
     balance_updates.hash FROM balance_updates JOIN balances ON balances.id = balance ORDER BY account, seq, place";

const REVISIONS: &str = "SELECT now.account, now.seq, now.decision, now.corrected_at, now.ordered, now.true_outcome, \
     now.true_grade, now.true_tier, now.true_used, now.charged, old.charged AS old_charged \
     FROM monetization_events AS now JOIN monetization_events AS old \
     ON old.decision = now.decision AND old.revision = now.revision - 1 \
     WHERE now.seq IS NOT NULL ORDER BY now.account, now.corrected_at, now.seq";

const BLOCKS: &str = "SELECT blocks.*, accounts.plan AS plan FROM blocks LEFT JOIN accounts \
     ON accounts.id = account ORDER BY account, at, decision";

/// The rows of a cursor, a portion at a time.
struct Run<'b, T> {
    books: &'b PostgresBooks,
    cursor: String,
    portion: IntoIter<Row>,
    read: fn(&Row) -> Told<T>,
}

impl<T> Iterator for Run<'_, T> {
    type Item = Result<T, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.portion.len() == 0 {
            match self.books.fetch(&self.cursor) {
                Ok(rows) => self.portion = rows.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
        self.portion.next().map(|row| Ok((self.read)(&row)?))
    }
}

impl PostgresBooks {
    fn run<T>(&self, sql: &str, read: fn(&Row) -> Told<T>) -> Result<Run<'_, T>, LedgerError> {
        Ok(Run { books: self, cursor: self.cursor(sql)?, portion: Vec::new().into_iter(), read })
    }
}

impl Recorded for PostgresBooks {
    fn entries(&self, visit: &mut dyn FnMut(Entry)) -> Result<(), LedgerError> {
        merge::entries(
            self.run(CALLS, |row| Ok((entries::place(row)?, entries::call(row)?)))?,
            self.run(CORRECTIONS, |row| Ok((entries::place(row)?, entries::correction(row)?)))?,
            self.run(&format!("{GRANTS} ORDER BY account, grants.seq"), |row| {
                Ok((entries::place(row)?, entries::grant_record(row)?))
            })?,
            self.run(&format!("{ADJUSTMENTS} ORDER BY account, adjustments.seq"), |row| {
                Ok((entries::place(row)?, told::adjustment_record(row)?))
            })?,
            self.run("SELECT account, seq, kind FROM records ORDER BY account, seq", |row| {
                Ok((entries::place(row)?, row.read(2)?))
            })?,
            self.run(UPDATES, |row| Ok((entries::place(row)?, entries::update(row)?)))?,
            visit,
        )
    }

    fn requests(&self, visit: &mut dyn FnMut(AccountId, Request)) -> Result<(), LedgerError> {
        let operators = "WHERE grants.decision IS NULL ORDER BY account, granted_at, grants.seq";
        let adjusted = "ORDER BY account, adjusted_at, adjustments.seq";
        let order = "ORDER BY usage_events.account, held_at, usage_events.decision";
        merge::requests(
            self.run(&format!("{GRANTS} {operators}"), entries::asked_grant)?,
            self.run(&format!("{ADJUSTMENTS} {adjusted}"), entries::asked_adjustment)?,
            self.run(REVISIONS, entries::asked_revision)?,
            self.run(&format!("{DECISION} {order}"), entries::asked_call)?,
            self.run(BLOCKS, entries::asked_block)?,
            visit,
        )
    }

    fn ended(
        &self,
        from: Timestamp,
        until: Timestamp,
        visit: &mut dyn FnMut(DecisionRow),
    ) -> Result<(), LedgerError> {
        let (from, until) = (from.ms(), until.ms());
        let range = format!("{DECISION} WHERE ended_at >= {from} AND ended_at < {until}");
        self.each(&range, |row| {
            visit(told::decision_row(row)?);
            Ok(())
        })
    }
}
