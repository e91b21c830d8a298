//! What rows say to replay.

use super::{cause, origin, used};
use crate::access::record::{GrantRecord, Outcome};
use crate::ledger::fields::{Count, Fields, Owned, Told, parsed, word};
use crate::ledger::recorded::{RecordedCall, RecordedMoney, RecordedUpdate, Replaced};
use crate::ledger::text;
use crate::units::{AccountId, Quantities, Seq};

pub(in crate::ledger) fn place(row: &impl Fields) -> Told<(AccountId, Seq)> {
    Ok((row.get("account")?, row.get("seq")?))
}

pub(in crate::ledger) fn call(row: &impl Fields) -> Told<RecordedCall> {
    let revision: Option<i64> = row.get("revision")?;
    let money = match revision {
        Some(_) => Some(money(row)?),
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

pub(in crate::ledger) fn correction(row: &impl Fields) -> Told<(RecordedCall, Replaced)> {
    let call = RecordedCall {
        tier: row.get("true_tier")?,
        outcome: word(row, "true_outcome")?,
        used: parsed(row, "true_used", text::to_quantities)?,
        ended_at: row.get("corrected_at")?,
        draws: parsed(row, "true_draws", text::to_draws)?,
        money: Some(money(row)?),
        ..of_request(row)?
    };
    let Count(forgiven) = row.get("old_forgiven")?;
    let draws = parsed(row, "old_draws", text::to_draws)?;
    Ok((call, Replaced { at: row.get("old_at")?, draws, forgiven }))
}

/// What a call and its correction have in common.
fn of_request(row: &impl Fields) -> Told<RecordedCall> {
    let held_at = row.get("held_at")?;
    Ok(RecordedCall {
        decision: row.get("decision")?,
        user: row.get("user")?,
        feature: row.get("feature")?,
        plan: row.get("plan")?,
        model: row.get("model")?,
        size: row.get("size")?,
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

fn money(row: &impl Fields) -> Told<RecordedMoney> {
    Ok(RecordedMoney {
        policy: row.get("priced_by")?,
        price: text::to_price(row.words("price")?),
        gross: row.get("gross")?,
        covered: row.get("covered")?,
        forgiven: row.get("forgiven")?,
        excess: row.get("excess")?,
        charged: row.get("charged")?,
    })
}

/// A grant as it was granted.
pub(in crate::ledger) fn grant_record(row: &impl Fields) -> Told<GrantRecord> {
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

pub(in crate::ledger) fn update(row: &impl Fields) -> Told<RecordedUpdate> {
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
