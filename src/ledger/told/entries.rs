//! What rows say to replay.

use super::{adjustment_record, block_row, cause, decision_row, origin, revised_by, used};
use crate::access::record::{AdjustmentRecord, GrantRecord, Outcome};
use crate::ledger::fields::{Fields, Owned, Told, parsed, word};
use crate::ledger::merge::Asked;
use crate::ledger::recorded::{
    AskedCall, REQUEST, RecordedCall, RecordedEnd, RecordedMoney, RecordedRevision, RecordedUpdate, Replaced,
    RevisionKind,
};
use crate::ledger::rows::{BlockRow, RevisedBy};
use crate::ledger::text;
use crate::units::{AccountId, Credits, Quantities, Seq};

pub(in crate::ledger) fn place(row: &impl Fields) -> Told<(AccountId, Seq)> {
    Ok((row.told("account")?, row.told("seq")?))
}

pub(in crate::ledger) fn call(row: &impl Fields) -> Told<RecordedCall> {
    let revision: Option<i64> = row.told("revision")?;
    let money = match revision {
        Some(_) => Some(money(row, "")?),
        None => None,
    };
    Ok(RecordedCall {
        tier: row.told("tier")?,
        outcome: word(row, "outcome")?,
        used: used(row)?,
        ended_at: row.told("ended_at")?,
        draws: parsed(row, "draws", text::to_draws)?,
        money,
        ..of_request(row)?
    })
}

pub(in crate::ledger) fn correction(row: &impl Fields) -> Told<(RecordedCall, Replaced)> {
    let call = RecordedCall {
        tier: row.told("true_tier")?,
        outcome: word(row, "true_outcome")?,
        used: parsed(row, "true_used", text::to_quantities)?,
        ended_at: row.told("corrected_at")?,
        draws: parsed(row, "true_draws", text::to_draws)?,
        money: Some(money(row, "")?),
        ..of_request(row)?
    };
    let draws = parsed(row, "old_draws", text::to_draws)?;
    Ok((call, Replaced { by: revised_by(row)?, at: row.told("old_at")?, draws, money: money(row, "old_")? }))
}

/// What a call and its correction have in common.
fn of_request(row: &impl Fields) -> Told<RecordedCall> {
    let held_at = row.told("held_at")?;
    Ok(RecordedCall {
        decision: row.told("decision")?,
        user: row.told("user")?,
        feature: row.told("feature")?,
        plan: row.told("plan")?,
        decided_by: row.told("policy")?,
        model: row.told("model")?,
        size: row.told("size")?,
        tier: None,
        unit: word(row, "unit")?,
        outcome: Outcome::Completed,
        used: Quantities::default(),
        held_at,
        ended_at: held_at,
        draws: Vec::new(),
        money: None,
    })
}

/// The money in columns whose names begin so.
fn money(row: &impl Fields, prefix: &str) -> Told<RecordedMoney> {
    let named = |column: &str| format!("{prefix}{column}");
    let amount = |column| row.told::<i64>(&named(column));
    Ok(RecordedMoney {
        policy: row.told(&named("priced_by"))?,
        price: text::to_price(row.words(&named("price"))?),
        gross: amount("gross")?,
        covered: amount("covered")?,
        forgiven: amount("forgiven")?,
        excess: amount("excess")?,
        charged: amount("charged")?,
        refunded: row.told::<Option<i64>>(&named("refunded"))?.unwrap_or(0),
    })
}

/// A grant as it was granted.
pub(in crate::ledger) fn grant_record(row: &impl Fields) -> Told<GrantRecord> {
    let Owned(user) = row.told("user")?;
    Ok(GrantRecord {
        seq: row.told("seq")?,
        grant: row.told("id")?,
        account: row.told("account")?,
        user,
        balance: row.told("name")?,
        amount: row.told("amount")?,
        repaid: row.told("repaid")?,
        priority: row.told("priority")?,
        expires_at: row.told("expires_at")?,
        granted_at: row.told("granted_at")?,
        origin: origin(row)?,
    })
}

pub(in crate::ledger) fn update(row: &impl Fields) -> Told<RecordedUpdate> {
    let Owned(user) = row.told("user")?;
    Ok(RecordedUpdate {
        user,
        balance: row.told("name")?,
        kind: word(row, "kind")?,
        cause: cause(row)?,
        grant: row.told("grant_id")?,
        amount: row.told("amount")?,
        before: row.told("before")?,
        after: row.told("after")?,
        at: row.told("at")?,
        hash: row.told("hash")?,
    })
}

/// A grant, by when it was asked for.
pub(in crate::ledger) fn asked_grant(row: &impl Fields) -> Told<(Asked, GrantRecord)> {
    let grant = grant_record(row)?;
    Ok(((grant.account, grant.granted_at, grant.seq), grant))
}

/// An adjustment, by when it was made.
pub(in crate::ledger) fn asked_adjustment(row: &impl Fields) -> Told<(Asked, AdjustmentRecord)> {
    let adjustment = adjustment_record(row)?;
    Ok(((adjustment.account, adjustment.adjusted_at, adjustment.seq), adjustment))
}

/// A revision, by when it was made.
pub(in crate::ledger) fn asked_revision(row: &impl Fields) -> Told<(Asked, RecordedRevision)> {
    let (at, seq) = (row.told("corrected_at")?, row.told("seq")?);
    let what = match revised_by(row)? {
        RevisedBy::Truth => RevisionKind::Truth(RecordedEnd {
            outcome: word(row, "true_outcome")?,
            grade: word(row, "true_grade")?,
            tier: row.told("true_tier")?,
            used: parsed(row, "true_used", text::to_quantities)?,
        }),
        RevisedBy::Refund => {
            let (before, charged): (Credits, Credits) = (row.told("old_charged")?, row.told("charged")?);
            RevisionKind::Refund { amount: before.saturating_sub(charged), charged }
        }
        RevisedBy::Rerate => RevisionKind::Price,
    };
    let revision = RecordedRevision { seq, decision: row.told("decision")?, at, what };
    Ok(((row.told("account")?, at, seq), revision))
}

/// A call, by when it was asked for.
pub(in crate::ledger) fn asked_call(row: &impl Fields) -> Told<(Asked, AskedCall)> {
    let settled = decision_row(row)?;
    let end = RecordedEnd {
        outcome: word(row, "outcome")?,
        grade: word(row, "grade")?,
        tier: row.told("tier")?,
        used: used(row)?,
    };
    Ok(((settled.account, settled.held_at, REQUEST), AskedCall { settled, end }))
}

/// A block, by when it was asked for. One that does not say its plan has the one that the account is on now.
pub(in crate::ledger) fn asked_block(row: &impl Fields) -> Told<(Asked, BlockRow)> {
    let mut block = block_row(row)?;
    if block.plan.is_none() {
        block.plan = row.told("plan")?;
    }
    Ok(((block.account, block.at, REQUEST), block))
}
