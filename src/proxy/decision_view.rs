//! What `GET /v1/access/decisions/{id}` says: one decision, while it is in flight, after it has ended, or why it was a
//! block. Held and final draws stand side by side (I1).

use serde::Serialize;

use super::access_view::{scope_word, shown};
use crate::access::Demand;
use crate::access::record::{DrawEntry, OriginEntry};
use crate::ledger::rows::{BlockRow, DecisionRow};
use crate::units::{DecisionId, Quantities, Timestamp, UserId};

/// One decision.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DecisionView {
    /// Its id.
    pub id: String,
    /// `access.decision`
    pub object: &'static str,
    /// `in-flight`, `ended` or `blocked`.
    pub state: &'static str,
    /// Who called.
    pub user: String,
    /// The product.
    pub feature: String,
    /// The model as the request named it.
    pub model: String,
    /// The policy that decided; not told of what is still in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// When it was decided, RFC 3339.
    pub decided_at: String,
    /// What was estimated.
    pub estimate: QuantitiesView,
    /// The draws of the hold; none of a block.
    pub held: Vec<DrawView>,
    /// When the hold ends unless it is renewed, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<EndView>,
    /// Why it was blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<BlockView>,
}

/// How a decision ended.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EndView {
    /// When, RFC 3339.
    pub at: String,
    /// What became of the call.
    pub outcome: &'static str,
    /// How sure the quantities are.
    pub grade: &'static str,
    /// The status of the model provider's answer.
    pub status: Option<u16>,
    /// The tier that it was priced in.
    pub tier: Option<String>,
    /// What was used.
    pub used: QuantitiesView,
    /// The final draws.
    pub draws: Vec<DrawView>,
    /// The money of it: `gross = covered + forgiven + charged`.
    pub charge: ChargeView,
    /// That it was corrected since; use, draws and charge are as corrected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrected: Option<CorrectedView>,
}

/// A correction of a charge.
#[derive(Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CorrectedView {
    /// The newest revision of the charge; that of the end is 1.
    pub revision: u32,
    /// When, RFC 3339.
    pub at: String,
    /// `truth`, which came late; `refund`; or `rerate`, by another price.
    pub by: &'static str,
    /// What was given back so far, a part of `forgiven`.
    pub refunded: String,
    /// The policy that prices it.
    pub priced_by: String,
    /// What the operator wrote about it, for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Quantities of a call.
#[derive(Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct QuantitiesView {
    /// All tokens of the prompt.
    pub input_tokens: u64,
    /// Those of them read from the provider's cache.
    pub cached_input_tokens: u64,
    /// Those of them written to the provider's cache.
    pub cache_write_tokens: u64,
    /// All tokens of the answer.
    pub output_tokens: u64,
    /// Seconds of video.
    pub seconds: u64,
}

/// What one source gives.
#[derive(Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct DrawView {
    /// The layer.
    pub layer: String,
    /// What it gives in.
    pub unit: &'static str,
    /// How much.
    pub amount: String,
    /// Whose window or balance: `user` or `account`.
    pub per: &'static str,
    /// The balance, where it is one.
    pub balance: Option<String>,
    /// The grant, where it is one; none of a debt.
    pub grant: Option<String>,
}

/// Money of a call, in credits.
#[derive(Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ChargeView {
    /// The price of what was used.
    pub gross: String,
    /// What windows covered of it.
    pub covered: String,
    /// What is neither covered nor owed.
    pub forgiven: String,
    /// What balances gave.
    pub charged: String,
}

/// Why a request was blocked.
#[derive(Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct BlockView {
    /// The reason.
    pub reason: &'static str,
    /// The guard or layer that bound.
    pub binding: Option<String>,
    /// When the same request would pass, as it looked then, RFC 3339.
    pub next_at: Option<String>,
    /// What balances would have had to give.
    pub need: Option<String>,
    /// What they had.
    pub have: Option<String>,
    /// How many equal blocks of that second this one stands for.
    pub count: u64,
}

/// A decision whose request is running.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    /// The decision.
    pub decision: DecisionId,
    /// Who calls.
    pub user: UserId,
    /// The product.
    pub feature: &'a str,
    /// The model.
    pub model: &'a str,
    /// When it was held.
    pub held_at: Timestamp,
    /// When it ends unless it is renewed.
    pub expires_at: Timestamp,
    /// The estimate.
    pub demand: &'a Demand,
    /// What it holds.
    pub draws: &'a [DrawEntry],
}

impl DecisionView {
    /// A decision whose request is running.
    pub fn in_flight(running: &Running<'_>) -> Self {
        Self {
            held: running.draws.iter().map(DrawView::of).collect(),
            expires_at: Some(running.expires_at.to_string()),
            ..Self::new(
                "in-flight",
                (running.decision, running.user, running.held_at),
                (running.feature, running.model),
                &running.demand.quantities,
            )
        }
    }

    /// A decision as it is booked.
    pub fn ended(row: &DecisionRow) -> Self {
        let end = EndView {
            at: row.ended_at.to_string(),
            outcome: row.outcome.as_str(),
            grade: row.grade.as_str(),
            status: row.status,
            tier: row.tier.as_deref().map(str::to_owned),
            used: QuantitiesView::of(&row.used),
            draws: row.draws.iter().map(DrawView::of).collect(),
            charge: ChargeView {
                gross: row.charge.gross.to_string(),
                covered: row.charge.covered.to_string(),
                forgiven: row.charge.forgiven.to_string(),
                charged: row.charge.charged.to_string(),
            },
            corrected: row.revised.as_ref().map(|revised| CorrectedView {
                revision: row.revision,
                at: revised.at.to_string(),
                by: revised.by.as_str(),
                refunded: row.refunded.to_string(),
                priced_by: row.priced_by.to_string(),
                reason: None,
            }),
        };
        Self {
            policy: Some(row.policy.to_string()),
            held: row.held.iter().map(DrawView::of).collect(),
            end: Some(end),
            ..Self::new(
                "ended",
                (row.decision, row.user, row.held_at),
                (&row.feature, &row.model),
                &row.estimate,
            )
        }
    }

    /// A decision as it is booked, with what operators alone may read.
    pub fn ended_for_operators(row: &DecisionRow) -> Self {
        let mut view = Self::ended(row);
        if let Some(corrected) = view.end.as_mut().and_then(|end| end.corrected.as_mut()) {
            corrected.reason = row.revised.as_ref().and_then(|it| it.reason.as_deref()).map(str::to_owned);
        }
        view
    }

    /// A block as it was logged.
    pub fn blocked(row: &BlockRow) -> Self {
        let block = BlockView {
            reason: row.block.reason.as_str(),
            binding: row.block.binding.as_deref().map(str::to_owned),
            next_at: row.block.next.map(|at| at.to_string()),
            need: row.block.need.map(|credits| credits.to_string()),
            have: row.block.have.map(|credits| credits.to_string()),
            count: row.count,
        };
        Self {
            policy: Some(row.policy.to_string()),
            block: Some(block),
            ..Self::new(
                "blocked",
                (row.decision, row.user, row.at),
                (&row.feature, &row.model),
                &row.estimate,
            )
        }
    }

    fn new(
        state: &'static str,
        (decision, user, at): (DecisionId, UserId, Timestamp),
        (feature, model): (&str, &str),
        estimate: &Quantities,
    ) -> Self {
        Self {
            id: decision.to_string(),
            object: "access.decision",
            state,
            user: user.to_string(),
            feature: feature.to_owned(),
            model: model.to_owned(),
            policy: None,
            decided_at: at.to_string(),
            estimate: QuantitiesView::of(estimate),
            held: Vec::new(),
            expires_at: None,
            end: None,
            block: None,
        }
    }
}

impl QuantitiesView {
    fn of(quantities: &Quantities) -> Self {
        Self {
            input_tokens: quantities.input_tokens,
            cached_input_tokens: quantities.cached_input_tokens,
            cache_write_tokens: quantities.cache_write_tokens,
            output_tokens: quantities.output_tokens,
            seconds: quantities.seconds,
        }
    }
}

impl DrawView {
    /// A draw as it is shown.
    pub fn of(entry: &DrawEntry) -> Self {
        let (balance, grant) = match &entry.origin {
            OriginEntry::Windows(_) => (None, None),
            OriginEntry::Grant { balance, grant } => (Some(balance.to_string()), Some(grant.to_string())),
            OriginEntry::Debt { balance } => (Some(balance.to_string()), None),
        };
        Self {
            layer: entry.layer.to_string(),
            unit: entry.unit.as_str(),
            amount: shown(entry.amount, entry.unit),
            per: scope_word(entry.scope),
            balance,
            grant,
        }
    }
}

#[cfg(test)]
mod tests;
