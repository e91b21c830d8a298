//! What the gateway answers by itself: what is left, and what became of a decision.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::access_view::{AccessView, access_view};
use super::admit::Known;
use super::codex_usage::{UsageView, usage_view};
use super::decision_view::{DecisionView, Running};
use super::gateway::Shared;
use super::refusal::Refusal;
use super::routes::Action;
use crate::access::Standing;
use crate::ledger::LedgerError;
use crate::ledger::directory::Caller;
use crate::meter::MeterError;
use crate::policy::compiled::{FeatureIndex, PlanIndex, Policy};
use crate::telemetry::chain;
use crate::units::{DecisionId, Span, Timestamp};

/// A decision so young may still be on its way to the books or to the log of blocks.
const YOUNG: Span = Span::from_seconds(5);
/// How often the books are asked for a young one, and how long is waited in between.
const LOOKS: u32 = 15;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// An answer of the gateway's own: its status and JSON.
pub(super) type Answer = (StatusCode, Vec<u8>);

/// Answers a local route.
pub(super) async fn answer(shared: &Shared, known: &Known) -> Result<Answer, Refusal> {
    let body = match known.action {
        Action::Decision => serde_json::to_vec(&decision(shared, &known.caller, &known.id, known.now).await?),
        Action::CodexUsage => serde_json::to_vec(&codex_usage(shared, &known.caller, known.now).await?),
        _ => serde_json::to_vec(&access(shared, &known.caller, known.now).await?),
    };
    match body {
        Ok(body) => Ok((StatusCode::OK, body)),
        Err(error) => {
            tracing::error!(error = %chain(&error), "a view could not be written");
            Err(Refusal::Internal)
        }
    }
}

async fn access(shared: &Shared, caller: &Caller, now: Timestamp) -> Result<AccessView, Refusal> {
    let (policy, plan, standings) = standings(shared, caller).await?;
    Ok(access_view(&policy, plan, &standings, now))
}

async fn codex_usage(shared: &Shared, caller: &Caller, now: Timestamp) -> Result<UsageView, Refusal> {
    let (policy, plan, standings) = standings(shared, caller).await?;
    Ok(usage_view(&policy, plan, &standings, caller.sole_user, now))
}

/// What is left of every feature of the caller's plan.
async fn standings(
    shared: &Shared,
    caller: &Caller,
) -> Result<(Arc<Policy>, PlanIndex, Vec<(FeatureIndex, Standing)>), Refusal> {
    let policy = shared.policies.current();
    let Some(plan) = policy.plan(&caller.plan) else {
        tracing::warn!(account.id = %caller.account, plan = &*caller.plan, "the policy has no such plan");
        return Err(Refusal::StoreUnavailable);
    };
    let mut standings = Vec::new();
    for feature in (0..).map(FeatureIndex).take(policy.features.len()) {
        if policy[plan].waterfall(feature).is_some() {
            let standing = shared.meter.standing(caller.account, caller.user, &policy, plan, feature).await;
            standings.push((feature, standing.map_err(|error| no_meter(&error))?));
        }
    }
    Ok((policy, plan, standings))
}

async fn decision(
    shared: &Shared,
    caller: &Caller,
    id: &str,
    now: Timestamp,
) -> Result<DecisionView, Refusal> {
    let decision: DecisionId = id.parse().map_err(|_| Refusal::UnknownDecision)?;
    let looks = if now.since(made_at(decision)) < YOUNG { LOOKS } else { 1 };
    for look in 1..=looks {
        if let Some(view) = look_up(shared, caller, decision).await? {
            return Ok(view);
        }
        if look < looks {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    Err(Refusal::UnknownDecision)
}

/// A decision of this account, wherever it is. Another account's is nowhere.
async fn look_up(
    shared: &Shared,
    caller: &Caller,
    decision: DecisionId,
) -> Result<Option<DecisionView>, Refusal> {
    let running = shared.meter.in_flight(caller.account, decision).await.map_err(|error| no_meter(&error))?;
    if let Some(running) = running {
        return Ok(Some(DecisionView::in_flight(&Running {
            decision,
            user: running.user,
            feature: &running.feature,
            model: &running.model,
            held_at: running.held_at,
            expires_at: running.expires_at,
            demand: &running.demand,
            draws: &running.draws,
        })));
    }
    let ended = shared.ledger.decision(decision).await.map_err(|error| no_ledger(&error))?;
    if let Some(row) = ended.filter(|row| row.account == caller.account) {
        return Ok(Some(DecisionView::ended(&row)));
    }
    let blocked = shared.ledger.block(decision).await.map_err(|error| no_ledger(&error))?;
    Ok(blocked.filter(|row| row.account == caller.account).map(|row| DecisionView::blocked(&row)))
}

/// When a decision was made, as its id tells (UUIDv7).
fn made_at(decision: DecisionId) -> Timestamp {
    let mut ms = [0; 8];
    ms[2..].copy_from_slice(&decision.as_bytes()[..6]);
    Timestamp::from_ms(i64::from_be_bytes(ms))
}

fn no_meter(error: &MeterError) -> Refusal {
    tracing::error!(error = %chain(error), "the meter does not answer");
    Refusal::StoreUnavailable
}

fn no_ledger(error: &LedgerError) -> Refusal {
    tracing::error!(error = %chain(error), "the ledger does not answer");
    Refusal::StoreUnavailable
}
