//! What the client gets: the gateway's own answers, and the head of the upstream's.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::Shared;
use crate::proxy::admit::Refused;
use crate::proxy::background::Watched;
use crate::proxy::finish::Cause;
use crate::proxy::headers::{self, Headers};
use crate::proxy::idempotency::Kept;
use crate::proxy::local;
use crate::proxy::passing;
use crate::proxy::refusal::{self, Context, Response};
use crate::proxy::request::{Metered, Request, Stage, is_stream};
use crate::telemetry::chain;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static JSON: HeaderValue = HeaderValue::from_static("application/json");
static NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Refuses a request. `Ok(true)`, as Pingora wants to hear it.
pub(in crate::proxy) async fn refuse(
    shared: &Shared,
    session: &mut Session,
    request: &mut Request,
    refused: Refused,
) -> pingora::Result<bool> {
    request.stage = Stage::Answered;
    let now = shared.clock.now();
    let about = refused.about.as_deref();
    let request_id = request_id();
    let mut context = Context::new(request.dialect, &request_id, now, rand::random());
    if let Some(about) = about {
        context.decision = about.decision;
        context.scene = Some(about.scene(now));
        context.sole_user = about.sole_user;
    }
    respond(session, refusal::respond(&refused.refusal, &context)).await?;
    Ok(true)
}

/// Tells a client what it looked up.
pub(super) async fn tell(
    session: &mut Session,
    request: &mut Request,
    (status, body): local::Answer,
) -> pingora::Result<bool> {
    request.stage = Stage::Answered;
    let mut header = ResponseHeader::build(status, Some(4))?;
    header.insert_header(CONTENT_TYPE, JSON.clone())?;
    header.insert_header(CONTENT_LENGTH, body.len())?;
    header.insert_header(CACHE_CONTROL, NO_STORE.clone())?;
    header.insert_header(REQUEST_ID.clone(), request_id())?;
    session.write_response_header(Box::new(header), false).await?;
    session.write_response_body(Some(body.into()), true).await?;
    Ok(true)
}

/// Tells a client again what it was told.
pub(in crate::proxy) async fn replay(
    session: &mut Session,
    request: &mut Request,
    kept: Kept,
) -> pingora::Result<bool> {
    request.stage = Stage::Answered;
    session.write_response_header(Box::new(kept.header()?), false).await?;
    session.write_response_body(Some(kept.body()), true).await?;
    Ok(true)
}

/// Writes an answer of the gateway's own.
pub(in crate::proxy) async fn respond(session: &mut Session, response: Response) -> pingora::Result<()> {
    let Response { status, headers, body } = response;
    let mut header = ResponseHeader::build(status, Some(16))?;
    for (name, value) in headers {
        header.insert_header(name, value)?;
    }
    session.write_response_header(Box::new(header), false).await?;
    session.write_response_body(Some(body), true).await?;
    hear_out(session).await;
    Ok(())
}

/// Takes in what a client that has its answer still sends, for a while: closed before, the connection would be reset and
/// take the answer with it, and the client would ask again.
pub(in crate::proxy) async fn hear_out(session: &mut Session) {
    if let Err(error) = session.drain_request_body().await {
        tracing::debug!(error = %chain(&*error), "the rest of a request that is answered does not come");
    }
}

/// Makes the head of the upstream's answer the client's, and ends the hold where the answer charges nothing.
pub(super) async fn head(
    shared: &Shared,
    session: &mut Session,
    header: &mut ResponseHeader,
    request: &mut Request,
) -> pingora::Result<()> {
    if header.status.is_informational() {
        return Ok(());
    }
    passing::homeward(header);
    let accepted = header.status.is_success();
    match &mut request.stage {
        Stage::Metered(metered) => {
            if accepted && header.status != StatusCode::NO_CONTENT {
                metered.watch(header);
                stretchable(header, metered)?;
            } else {
                void(metered, header.status).await;
            }
            let request_id = told_id(header).unwrap_or_else(|| metered.decided.decision.to_string());
            insert(header, metered.decided.headers(request.dialect, &request_id, shared.clock.now()))?;
            if let Some(told) = metered.taken().and_then(|taken| taken.headed(header)) {
                header.insert_header(headers::ACCESS_IDEMPOTENCY.clone(), told)?;
            }
        }
        Stage::Free(free) => {
            if let Some(id) = free.deletes.take().filter(|_| accepted) {
                deleted(shared, &id).await;
            }
            if accepted
                && let Some(id) = &free.about
                && !shared.jobs.is_ended(id)
            {
                free.tells = Some(Watched::new(Arc::clone(&shared.jobs), is_stream(header)));
            }
            if told_id(header).is_none() {
                header.insert_header(REQUEST_ID.clone(), request_id())?;
            }
        }
        Stage::Arrived | Stage::Answered | Stage::Replayed(_) => {}
    }
    if shared.intake.is_leaving() {
        session.set_keepalive(None);
    }
    Ok(())
}

/// Forgets what was deleted, and ends the job that would have made it.
pub(in crate::proxy) async fn deleted(shared: &Shared, id: &str) {
    if let Err(error) = shared.jobs.deleted(id).await {
        tracing::error!(error = %chain(&error), "the end of a deleted job is not recorded");
    }
    if let Err(error) = shared.owners.forget(id).await {
        tracing::warn!(error = %chain(&error), "what was deleted stays on the books");
    }
}

/// Ends the hold of a call that charges nothing, durably, before anybody is told.
async fn void(metered: &mut Metered, status: StatusCode) {
    if let Some(call) = metered.settlement.call() {
        call.status = Some(status.as_u16());
    }
    let decision = metered.decided.decision;
    if let Some(ticket) = metered.settlement.end(Cause::Refused).await
        && let Err(error) = ticket.await
    {
        // What is in flight is delivered: the void is kept and written as soon as the journal can.
        tracing::error!(decision.id = %decision, error = %chain(&error), "a void is not durable yet");
    }
}

/// Lets a stream become longer or shorter on its way than the upstream says it is.
fn stretchable(header: &mut ResponseHeader, metered: &Metered) -> pingora::Result<()> {
    if metered.streams && header.remove_header(&CONTENT_LENGTH).is_some() {
        header.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

/// The id that the upstream gave its answer.
fn told_id(header: &ResponseHeader) -> Option<String> {
    let told = header.headers.get(&REQUEST_ID)?.to_str().ok()?;
    Some(told.to_owned())
}

/// Pingora's own insertion reads each name again and keeps its case in a second map. An answer without that map tells
/// the same, in names of lower case.
fn insert(header: &mut ResponseHeader, headers: Headers) -> pingora::Result<()> {
    let blank = ResponseHeader::build_no_case(header.status, Some(0))?;
    let mut parts = Parts::from(std::mem::replace(header, blank));
    let headers = headers.into_iter();
    parts.headers.reserve(headers.len());
    for (name, value) in headers {
        parts.headers.insert(name, value);
    }
    *header = parts.into();
    Ok(())
}

/// An id for an answer that has none.
pub(in crate::proxy) fn request_id() -> String {
    format!("req_{:032x}", rand::random::<u128>())
}

/// Puts more behind what leaves.
pub(super) fn append(body: &mut Option<Bytes>, more: Bytes) {
    if more.is_empty() {
        return;
    }
    *body = Some(match body.take() {
        Some(first) if !first.is_empty() => {
            let mut both = BytesMut::with_capacity(first.len() + more.len());
            both.extend_from_slice(&first);
            both.extend_from_slice(&more);
            both.freeze()
        }
        _ => more,
    });
}
