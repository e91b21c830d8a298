//! What would happen to a user's next request, and why.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use rand::Rng;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Operator;
use super::asked::Body;
use super::error::{ErrorBody, Refused};
use crate::access::{Ask, Block, Reason, Terms};
use crate::ledger::rows::AccountStatus;
use crate::policy::compiled::Api;
use crate::proxy::access_view::{AccessView, access_view};
use crate::proxy::decision_view::DrawView;
use crate::units::{DecisionId, Quantities};

/// A request that is not made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// `responses` or `chat`.
    #[serde(default = "responses")]
    #[schema(value_type = String)]
    api: Api,
    /// The model as a request would name it.
    model: String,
    /// The prompt's length.
    #[serde(default = "thousand")]
    input_tokens: u64,
    /// The answer's length, or the bound on it.
    #[serde(default = "thousand")]
    output_tokens: u64,
    /// The tier asked for.
    tier: Option<String>,
}

/// What would happen.
#[derive(Serialize, ToSchema)]
pub(super) struct Explanation {
    /// `allow` or `block`.
    decision: &'static str,
    /// The policy that decides.
    policy: String,
    /// The account's plan.
    plan: String,
    /// The product the route belongs to.
    feature: Option<String>,
    /// What it would be priced at, in credits.
    price: Option<String>,
    /// What would be held, layer by layer.
    sources: Vec<DrawView>,
    /// The output tokens it would be cut down to.
    max_output_tokens: Option<u64>,
    /// Why it would be blocked.
    reason: Option<&'static str>,
    /// The guard or layer that binds.
    binding: Option<String>,
    /// When the same request passes.
    next: Option<String>,
    /// What balances would have to give.
    need: Option<String>,
    /// What they have.
    have: Option<String>,
    /// What is left everywhere.
    standing: Option<AccessView>,
}

/// Explain a user's next request. Takes nothing, issues nothing
#[utoipa::path(post, path = "/admin/v1/accounts/{account}/users/{user}/explain", tag = "policy",
    request_body = Question, responses((status = 200, body = Explanation), (status = 404, body = ErrorBody)))]
pub(super) async fn explain(
    State(operator): State<Arc<Operator>>,
    Path((account, user)): Path<(String, String)>,
    Body(question): Body<Question>,
) -> Result<Json<Explanation>, Refused> {
    let account = operator.account(&account).await?;
    let user = operator.user(&account, &user).await?;
    let policy = operator.policies.current();
    let explanation = Explanation::none(&policy.version.to_string(), &account.plan);
    if account.status == AccountStatus::Suspended {
        return Ok(Json(Explanation { reason: Some("account-suspended"), ..explanation }));
    }
    let blocked = |explanation, reason| Json(Explanation::blocked(explanation, &Block::because(reason)));
    let (Some(plan), Some(feature)) = (policy.plan(&account.plan), policy.feature_of(question.api)) else {
        return Ok(blocked(explanation, Reason::NotInPlan));
    };
    let explanation = Explanation { feature: Some(policy[feature].name.to_string()), ..explanation };
    let terms = Terms {
        policy: Arc::clone(&policy),
        plan,
        feature,
        model: question.model.as_str().into(),
        tier: question.tier.as_deref().map(Into::into),
        size: None,
    };
    let quantities = Quantities {
        input_tokens: question.input_tokens,
        output_tokens: question.output_tokens,
        ..Quantities::default()
    };
    let demand = match terms.demand_for_tokens(quantities) {
        Ok(demand) => demand,
        Err(reason) => return Ok(blocked(explanation, reason)),
    };
    let price = demand.price.ceil().ok().map(|price| price.to_string());
    let decision = DecisionId::new(operator.clock.now(), rand::rng().random());
    let lifetime = terms.feature().deadlines.request;
    let ask = Ask { decision, user: user.id, terms, demand, lifetime };
    let explained = operator.meter.explain(account.id, &ask).await?;
    let standing = Some(access_view(&policy, plan, &[(feature, explained.standing)], operator.clock.now()));
    let explanation = Explanation { price, standing, ..explanation };
    Ok(Json(match explained.outcome {
        Ok(allow) => Explanation {
            decision: "allow",
            sources: allow.draws.iter().map(DrawView::of).collect(),
            max_output_tokens: allow.clamped_to,
            ..explanation
        },
        Err(block) => Explanation::blocked(explanation, &block),
    }))
}

impl Explanation {
    fn none(policy: &str, plan: &str) -> Self {
        Self {
            decision: "block",
            policy: policy.to_owned(),
            plan: plan.to_owned(),
            feature: None,
            price: None,
            sources: Vec::new(),
            max_output_tokens: None,
            reason: None,
            binding: None,
            next: None,
            need: None,
            have: None,
            standing: None,
        }
    }

    fn blocked(self, block: &Block) -> Self {
        Self {
            decision: "block",
            reason: Some(block.reason.as_str()),
            binding: block.binding.as_ref().map(ToString::to_string),
            next: block.next.map(|at| at.to_string()),
            need: block.need.map(|need| need.to_string()),
            have: block.have.map(|have| have.to_string()),
            ..self
        }
    }
}

fn responses() -> Api {
    Api::Responses
}

fn thousand() -> u64 {
    1000
}
