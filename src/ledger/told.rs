//! What rows of the books and the directory say. Every store shares it; its queries name the columns alike.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chain::rows::Cell;
use super::fields::{Count, Fields, Owned, Told, parsed, word};
use super::rows::{
    AccountRow, BalanceUpdateRow, BlockRow, Cause, DecisionRow, GrantRow, KeyRow, Owned as Made, Owner,
    RefundRow, RevisedBy, RevisedRow, UserRow,
};
use super::text;
use crate::access::record::{AdjustmentRecord, Charge, GrantOrigin, JobKind, JobRecord, MadeVideo, Resource};
use crate::access::{Block, Reason};
use crate::policy::compiled::Name;
use crate::units::{Credits, Quantities, SignedCredits, Timestamp, ToolCalls};

pub(super) mod booked;
pub(super) mod entries;
pub(super) mod words;

pub(in crate::ledger) fn account(row: &impl Fields) -> Told<AccountRow> {
    Ok(AccountRow {
        id: row.told("id")?,
        name: row.told("name")?,
        plan: row.told("plan")?,
        status: word(row, "status")?,
        created_at: row.told("created_at")?,
    })
}

pub(in crate::ledger) fn user(row: &impl Fields) -> Told<UserRow> {
    Ok(UserRow {
        id: row.told("id")?,
        account: row.told("account")?,
        name: row.told("name")?,
        created_at: row.told("created_at")?,
    })
}

pub(in crate::ledger) fn key(row: &impl Fields) -> Told<KeyRow> {
    Ok(KeyRow {
        id: row.told("id")?,
        user: row.told("user")?,
        account: row.told("account")?,
        hash: row.told("hash")?,
        hint: row.told("hint")?,
        created_at: row.told("created_at")?,
        expires_at: row.told("expires_at")?,
        revoked_at: row.told("revoked_at")?,
    })
}

pub(in crate::ledger) fn grant_row(row: &impl Fields) -> Told<GrantRow> {
    let Owned(user) = row.told("user")?;
    let remaining: SignedCredits = row.told("remaining")?;
    Ok(GrantRow {
        grant: row.told("id")?,
        account: row.told("account")?,
        user,
        balance: row.told("name")?,
        amount: row.told("amount")?,
        // Below zero only in books that the audit calls broken: nothing can be drawn then either.
        remaining: remaining.available(),
        priority: row.told("priority")?,
        expires_at: row.told("expires_at")?,
        granted_at: row.told("granted_at")?,
        origin: origin(row)?,
    })
}

/// Who ordered a grant, or why.
pub(in crate::ledger) fn origin(row: &impl Fields) -> Told<GrantOrigin> {
    let idempotency_key: Option<Arc<str>> = row.told("idempotency_key")?;
    Ok(match idempotency_key {
        Some(idempotency_key) => GrantOrigin::Operator { idempotency_key, note: row.told("note")? },
        None => GrantOrigin::Issue { decision: row.told("decision")? },
    })
}

/// What caused a balance update.
pub(in crate::ledger) fn cause(row: &impl Fields) -> Told<Cause> {
    Ok(match row.words("cause_kind")? {
        "decision" => Cause::Decision(row.told("cause")?),
        "adjustment" => Cause::Adjustment(row.told("cause")?),
        _ => Cause::Grant(row.told("cause")?),
    })
}

pub(in crate::ledger) fn update_row(row: &impl Fields) -> Told<BalanceUpdateRow> {
    let Owned(user) = row.told("user")?;
    Ok(BalanceUpdateRow {
        place: row.told("place")?,
        seq: row.told("seq")?,
        account: row.told("account")?,
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

pub(in crate::ledger) fn decision_row(row: &impl Fields) -> Told<DecisionRow> {
    let revision: u32 = row.told("revision")?;
    let is_corrected = revision > 1;
    let ended_at = row.told("ended_at")?;
    let live = |first, corrected| if is_corrected { corrected } else { first };
    Ok(DecisionRow {
        decision: row.told("decision")?,
        seq: row.told("seq")?,
        account: row.told("account")?,
        user: row.told("user")?,
        feature: row.told("feature")?,
        plan: row.told("plan")?,
        model: row.told("model")?,
        size: row.told("size")?,
        policy: row.told("policy")?,
        unit: word(row, "unit")?,
        held_at: row.told("held_at")?,
        ended_at,
        revision,
        priced_by: row.told("priced_by")?,
        settled_at: row.told::<Option<_>>("settled_at")?.unwrap_or(ended_at),
        revised: if is_corrected { Some(revised(row)?) } else { None },
        outcome: word(row, live("outcome", "true_outcome"))?,
        grade: word(row, live("grade", "true_grade"))?,
        tier: row.told(live("tier", "true_tier"))?,
        status: row.told("status")?,
        estimate: parsed(row, "estimate", text::to_quantities)?,
        used: if is_corrected { parsed(row, "true_used", text::to_quantities)? } else { used(row)? },
        price: parsed(row, "price", text::to_price)?,
        held: parsed(row, "held", text::to_draws)?,
        draws: parsed(row, live("draws", "true_draws"), text::to_draws)?,
        charge: charge(row)?,
        refunded: row.told("refunded")?,
    })
}

fn revised(row: &impl Fields) -> Told<RevisedRow> {
    Ok(RevisedRow { at: row.told("corrected_at")?, by: revised_by(row)?, reason: row.told("reason")? })
}

/// Who said that the money of a call is another.
fn revised_by(row: &impl Fields) -> Told<RevisedBy> {
    match row.cell("ordered")? {
        Cell::Null => Ok(RevisedBy::Truth),
        _ => word(row, "ordered"),
    }
}

/// An adjustment as it was made.
pub(in crate::ledger) fn adjustment_record(row: &impl Fields) -> Told<AdjustmentRecord> {
    let Owned(user) = row.told("user")?;
    Ok(AdjustmentRecord {
        seq: row.told("seq")?,
        id: row.told("id")?,
        account: row.told("account")?,
        user,
        balance: row.told("name")?,
        grant: row.told("grant_id")?,
        amount: row.told("amount")?,
        repaid: row.told("repaid")?,
        priority: row.told::<Option<_>>("priority")?.unwrap_or_default(),
        expires_at: row.told("expires_at")?,
        adjusted_at: row.told("adjusted_at")?,
        idempotency_key: row.told("idempotency_key")?,
        reason: row.told("reason")?,
    })
}

/// A refund that was made.
pub(in crate::ledger) fn refund(row: &impl Fields) -> Told<RefundRow> {
    Ok(RefundRow {
        id: row.told("order_id")?,
        account: row.told("account")?,
        decision: row.told("decision")?,
        revision: row.told("revision")?,
        amount: row.told("amount")?,
        charged: row.told("charged")?,
        refunded_at: row.told("corrected_at")?,
        idempotency_key: row.told("idempotency_key")?,
        reason: row.told("reason")?,
    })
}

/// What a usage event says was used.
pub(in crate::ledger) fn used(row: &impl Fields) -> Told<Quantities> {
    let count = |column: &str| row.told(column).map(|Count(count)| count);
    let calls: Option<Arc<str>> = row.told("tool_calls")?;
    let tool_calls = match calls {
        Some(_) => parsed(row, "tool_calls", |text| serde_json::from_str(text).ok())?,
        None => ToolCalls::new(),
    };
    Ok(Quantities {
        input_tokens: count("input_tokens")?,
        cached_input_tokens: count("cached_input_tokens")?,
        cache_write_tokens: count("cache_write_tokens")?,
        output_tokens: count("output_tokens")?,
        seconds: count("seconds")?,
        tool_calls,
    })
}

fn charge(row: &impl Fields) -> Told<Charge> {
    let credits = |column: &str| row.told::<Credits>(column);
    Ok(Charge {
        gross: credits("gross")?,
        covered: credits("covered")?,
        forgiven: credits("forgiven")?,
        excess: credits("excess")?,
        charged: credits("charged")?,
    })
}

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

/// The text of a block.
pub(in crate::ledger) fn of_block(row: &BlockRow) -> Option<String> {
    serde_json::to_string(&BlockText::of(row)).ok()
}

pub(in crate::ledger) fn block_row(row: &impl Fields) -> Told<BlockRow> {
    let Count(count) = row.told("count")?;
    let why: BlockText = parsed(row, "block", |text| serde_json::from_str(text).ok())?;
    let BlockText { reason, binding, next, need, have, plan, tier, size } = why;
    Ok(BlockRow {
        decision: row.told("decision")?,
        at: row.told("at")?,
        account: row.told("account")?,
        user: row.told("user")?,
        feature: row.told("feature")?,
        model: row.told("model")?,
        policy: row.told("policy")?,
        estimate: parsed(row, "estimate", text::to_quantities)?,
        plan,
        tier,
        size,
        block: Block { reason, binding, next, need, have },
        count,
    })
}

/// Whose a thing made upstream is.
pub(in crate::ledger) fn owner(row: &impl Fields) -> Told<Owner> {
    let what = match row.words("kind")? {
        "video" => {
            let Count(seconds) = row.told("seconds")?;
            Made::Video(MadeVideo { model: row.told("model")?, seconds, size: row.told("size")? })
        }
        "character" => Made::Character,
        _ => {
            let Count(context_tokens) = row.told("context_tokens")?;
            Made::Response { context_tokens }
        }
    };
    Ok(Owner {
        account: row.told("account")?,
        user: row.told("user")?,
        made_at: row.told("made_at")?,
        what,
        upstream: row.told("upstream")?,
    })
}

/// A job that its deadline has ended.
pub(in crate::ledger) fn late_job(row: &impl Fields) -> Told<JobRecord> {
    let is_video = row.words("kind")? == "video";
    Ok(JobRecord {
        decision: row.told("decision")?,
        account: row.told("account")?,
        user: row.told("user")?,
        kind: if is_video { JobKind::Video } else { JobKind::Response },
        resource: Resource { id: row.told("id")?, upstream: row.told("upstream")? },
        began_at: row.told("held_at")?,
        expires_at: row.told("ended_at")?,
    })
}
