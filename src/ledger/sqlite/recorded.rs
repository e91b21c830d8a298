//! The books in the file as replay reads them: sorted runs, merged account by account.

use rusqlite::{Row, params};

use super::blocks::block_row;
use super::books::SqliteBooks;
use super::columns::{Owned, parsed, word};
use super::history::{ADJUSTMENTS, DECISION, adjustment_record, cause, decision_row, origin, used};
use super::merge::Peeked;
use crate::access::record::GrantRecord;
use crate::ledger::recorded::{
    Entry, EntryKind, Recorded, RecordedCall, RecordedMoney, RecordedUpdate, Replaced, Request,
};
use crate::ledger::rows::{DecisionRow, RevisedBy};
use crate::ledger::{LedgerError, text};
use crate::units::{AccountId, Seq, Timestamp};

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
        let mut calls = Peeked::new(calls.query_map([], |row| Ok((place(row)?, call(row)?)))?)?;
        let mut adjustments =
            Peeked::new(adjustments.query_map([], |row| Ok((place(row)?, adjustment_record(row)?)))?)?;
        let mut corrections =
            Peeked::new(corrections.query_map([], |row| Ok((place(row)?, correction(row)?)))?)?;
        let mut grants = Peeked::new(grants.query_map([], |row| Ok((place(row)?, grant_record(row)?)))?)?;
        let mut others =
            Peeked::new(others.query_map([], |row| Ok((place(row)?, row.get::<_, String>(2)?)))?)?;
        let mut updates = Peeked::new(updates.query_map([], |row| Ok((place(row)?, update(row)?)))?)?;
        while let Some(next) =
            [calls.key(), corrections.key(), grants.key(), adjustments.key(), others.key(), updates.key()]
                .into_iter()
                .flatten()
                .min()
                .copied()
        {
            let (account, seq) = next;
            let (call, correction) = (calls.take(&next)?, corrections.take(&next)?);
            let (grant, adjustment) = (grants.take(&next)?, adjustments.take(&next)?);
            let what = match (call, correction, grant, adjustment, others.take(&next)?) {
                (Some(call), ..) => EntryKind::Call(Box::new(call)),
                (_, Some((call, replaced)), ..) => EntryKind::Correction(Box::new(call), Box::new(replaced)),
                (_, _, Some(grant), ..) => EntryKind::Grant(grant),
                (_, _, _, Some(adjustment), _) => EntryKind::Adjustment(adjustment),
                (.., Some(kind)) => EntryKind::Other(kind),
                (None, None, None, None, None) => EntryKind::Nothing,
            };
            let mut moved = Vec::new();
            while let Some(update) = updates.take(&next)? {
                moved.push(update);
            }
            visit(Entry { account, seq, what, updates: moved });
        }
        Ok(())
    }

    fn requests(&self, visit: &mut dyn FnMut(AccountId, Request)) -> Result<(), LedgerError> {
        let operators = "WHERE grants.decision IS NULL ORDER BY account, granted_at, grants.seq";
        let mut grants = self.connection.prepare(&format!("{GRANTS} {operators}"))?;
        let order = "ORDER BY usage_events.account, held_at, usage_events.decision";
        let mut calls = self.connection.prepare(&format!("{DECISION} {order}"))?;
        let mut blocks = self.connection.prepare(BLOCKS)?;
        let mut grants = Peeked::new(grants.query_map([], |row| {
            let grant = grant_record(row)?;
            Ok(((grant.account, grant.granted_at), grant))
        })?)?;
        let mut calls = Peeked::new(calls.query_map([], |row| {
            let call = decision_row(row)?;
            Ok(((call.account, call.held_at), call))
        })?)?;
        let mut blocks = Peeked::new(blocks.query_map([], |row| {
            let mut block = block_row(row)?;
            if block.plan.is_none() {
                block.plan = row.get("plan")?;
            }
            Ok(((block.account, block.at), block))
        })?)?;
        while let Some(next) = [grants.key(), calls.key(), blocks.key()].into_iter().flatten().min().copied()
        {
            while let Some(grant) = grants.take(&next)? {
                visit(next.0, Request::Grant(grant));
            }
            while let Some(call) = calls.take(&next)? {
                visit(next.0, Request::Call(Box::new(call)));
            }
            while let Some(block) = blocks.take(&next)? {
                visit(next.0, Request::Block(Box::new(block)));
            }
        }
        Ok(())
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
            visit(decision_row(row)?);
        }
        Ok(())
    }
}

fn place(row: &Row<'_>) -> rusqlite::Result<(AccountId, Seq)> {
    Ok((row.get("account")?, row.get("seq")?))
}

fn call(row: &Row<'_>) -> rusqlite::Result<RecordedCall> {
    let money = match row.get_ref("revision")?.as_i64_or_null()? {
        Some(_) => Some(money(row, "")?),
        None => None,
    };
    Ok(RecordedCall {
        tier: row.get("tier")?,
        outcome: word(row, "outcome")?,
        used: used(row)?,
        ended_at: row.get("ended_at")?,
        draws: parsed(row, "draws", text::to_draws)?,
        money,
        ..of_request(row)?
    })
}

fn correction(row: &Row<'_>) -> rusqlite::Result<(RecordedCall, Replaced)> {
    let call = RecordedCall {
        tier: row.get("true_tier")?,
        outcome: word(row, "true_outcome")?,
        used: parsed(row, "true_used", text::to_quantities)?,
        ended_at: row.get("corrected_at")?,
        draws: parsed(row, "true_draws", text::to_draws)?,
        money: Some(money(row, "")?),
        ..of_request(row)?
    };
    let by = match row.get_ref("ordered")?.as_str_or_null()? {
        None => RevisedBy::Truth,
        Some(_) => word(row, "ordered")?,
    };
    let draws = parsed(row, "old_draws", text::to_draws)?;
    Ok((call, Replaced { by, at: row.get("old_at")?, draws, money: money(row, "old_")? }))
}

/// What a call and its correction have in common.
fn of_request(row: &Row<'_>) -> rusqlite::Result<RecordedCall> {
    let held_at = row.get("held_at")?;
    Ok(RecordedCall {
        decision: row.get("decision")?,
        user: row.get("user")?,
        feature: row.get("feature")?,
        plan: row.get("plan")?,
        decided_by: row.get("policy")?,
        model: row.get("model")?,
        size: row.get("size")?,
        tier: None,
        unit: word(row, "unit")?,
        outcome: crate::access::record::Outcome::Completed,
        used: crate::units::Quantities::default(),
        held_at,
        ended_at: held_at,
        draws: Vec::new(),
        money: None,
    })
}

/// The money in columns whose names begin so.
fn money(row: &Row<'_>, prefix: &str) -> rusqlite::Result<RecordedMoney> {
    let named = |column: &str| format!("{prefix}{column}");
    let amount = |column| row.get::<_, i64>(named(column).as_str());
    Ok(RecordedMoney {
        policy: row.get(named("priced_by").as_str())?,
        price: text::to_price(row.get_ref(named("price").as_str())?.as_str()?),
        gross: amount("gross")?,
        covered: amount("covered")?,
        forgiven: amount("forgiven")?,
        excess: amount("excess")?,
        charged: amount("charged")?,
        refunded: row.get::<_, Option<_>>(named("refunded").as_str())?.unwrap_or(0),
    })
}

/// A grant as it was granted.
pub(super) fn grant_record(row: &Row<'_>) -> rusqlite::Result<GrantRecord> {
    let Owned(user) = row.get("user")?;
    Ok(GrantRecord {
        seq: row.get("seq")?,
        grant: row.get("id")?,
        account: row.get("account")?,
        user,
        balance: row.get("name")?,
        amount: row.get("amount")?,
        repaid: row.get("repaid")?,
        priority: row.get("priority")?,
        expires_at: row.get("expires_at")?,
        granted_at: row.get("granted_at")?,
        origin: origin(row)?,
    })
}

fn update(row: &Row<'_>) -> rusqlite::Result<RecordedUpdate> {
    let Owned(user) = row.get("user")?;
    Ok(RecordedUpdate {
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
