//! The policy in force.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Operator;

/// The policy in force.
#[derive(Serialize, ToSchema)]
pub(super) struct PolicyView {
    /// As `X-Access-Decision` names it.
    version: String,
    /// The file's text.
    text: String,
}

/// Show the policy in force
#[utoipa::path(get, path = "/admin/v1/policy", tag = "policy", responses((status = 200, body = PolicyView)))]
pub(super) async fn show(State(operator): State<Arc<Operator>>) -> Json<PolicyView> {
    let policy = operator.policies.current();
    Json(PolicyView { version: policy.version.to_string(), text: policy.text.to_string() })
}

/// Read the policy file again. What came of it stands in the log and in the metrics
#[utoipa::path(post, path = "/admin/v1/policy/reload", tag = "policy", responses((status = 202)))]
pub(super) async fn reload(State(operator): State<Arc<Operator>>) -> StatusCode {
    operator.reload.notify_one();
    StatusCode::ACCEPTED
}
