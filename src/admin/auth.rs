//! The operator's token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Operator;
use super::error::Refused;

/// Lets a call pass that carries the token; of two tokens of one length, no time tells how much agrees.
pub(super) async fn require_token(
    State(operator): State<Arc<Operator>>,
    request: Request,
    next: Next,
) -> Response {
    let value = request.headers().get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    let token = value.and_then(|value| value.strip_prefix(b"Bearer "));
    if !token.is_some_and(|token| operator.token.is(token)) {
        return Refused::unauthorized().into_response();
    }
    if operator.is_closing() && request.method() != Method::GET {
        return Refused::closing().into_response();
    }
    next.run(request).await
}
