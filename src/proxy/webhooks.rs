//! Webhooks of the upstream: the one route that nobody's key opens. What they say is checked by
//! [`Verifier`](crate::settle::jobs::webhook::Verifier), and moves the watcher to ask.

use http::StatusCode;
use pingora::proxy::Session;

use super::admit::body_refusal;
use super::gateway::Shared;
use super::local::Answer;
use super::refusal::Refusal;
use super::request::Request;
use super::routes::{self, Action};
use crate::settle::jobs::webhook::{BODY_BYTES_MAX, News};

/// Whether a request is a webhook: looked at before anything else of it, and for one comparison.
pub(super) fn is_one(session: &Session) -> bool {
    let header = session.req_header();
    header.raw_path() == routes::WEBHOOKS.as_bytes() && header.method == http::Method::POST
}

/// Takes a webhook. Nothing of why one is not taken is told.
pub(super) async fn take(
    shared: &Shared,
    session: &mut Session,
    request: &mut Request,
) -> Result<Answer, Refusal> {
    request.route = routes::of(Action::TakeWebhook);
    let Some(verifier) = &shared.webhooks else { return Err(Refusal::NotFound) };
    let body = shared.bodies.read_small(session, BODY_BYTES_MAX).await;
    let body = body.map_err(|error| body_refusal(&error))?;
    let news = verifier.take(&session.req_header().headers, &body, shared.clock.now());
    match news.map_err(|_| Refusal::InvalidKey)? {
        News::About(resource) => shared.jobs.ask_soon(&resource),
        News::Nothing => {}
    }
    Ok((StatusCode::OK, b"{}".to_vec()))
}
