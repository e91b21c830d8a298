//! The Videos API, as far as it is more than passing on.
//!
//! | file | idea |
//! |---|---|
//! | `create` | what makes a video or a character: sent, and on record before anybody is told its id |
//! | `list` | a user's own videos, page by page |
//! | here | polls, deletion, and what has to be known before a download |
//!
//! A video is made after its call has ended. Its hold becomes a job ([`crate::settle::jobs`]), which ends by whatever
//! is learnt first: here, by what clients are shown. Where the body decides what may be said, the gateway asks by
//! itself ([`super::exchange`]); downloads pass as streams.

mod create;
mod list;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use serde_json::Value;

use super::admit::{self, Kind, Known, Refused};
use super::exchange::{Asking, ExchangeError, Reply, Sending};
use super::gateway::{Shared, answer, failure};
use super::headers::{ACCESS_IDEMPOTENCY, Headers};
use super::metrics;
use super::passing::{self, Outgoing};
use super::refusal::Refusal;
use super::request::{Request, Stage};
use super::routes::Action;
use super::settlement::Settlement;
use super::upstreams::Goal;
use crate::access::record::JobKind;
use crate::observe::finish::Cause;
use crate::telemetry::chain;

static POLL_AFTER: HeaderName = HeaderName::from_static("openai-poll-after-ms");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a client waits between two polls where the upstream does not say: as the API's guide has it.
static POLL_AFTER_DEFAULT: HeaderValue = HeaderValue::from_static("10000");

/// Whether a route is answered here, and not by passing it on.
pub(super) const fn answers(action: Action) -> bool {
    matches!(
        action,
        Action::CreateVideo
            | Action::RemixVideo
            | Action::EditVideo
            | Action::ExtendVideo
            | Action::CreateCharacter
            | Action::ListVideos
            | Action::ReadVideo
            | Action::DeleteVideo
    )
}

/// Answers a request. `Ok(true)`, as Pingora wants to hear it.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    session: &mut Session,
    request: &mut Request,
    known: Known,
) -> pingora::Result<bool> {
    let answered = match known.action {
        Action::CreateVideo | Action::RemixVideo | Action::EditVideo | Action::ExtendVideo => {
            return Box::pin(create::video(shared, session, request, known)).await;
        }
        Action::CreateCharacter => create::character(shared, session, &known).await,
        Action::ListVideos => list::page(shared, &known).await.map_err(Refused::from),
        Action::DeleteVideo => delete(shared, session, &known).await,
        _ => poll(shared, session, &known).await,
    };
    match answered {
        Ok(reply) => tell(shared, session, request, reply, None, None).await,
        Err(refused) => answer::refuse(shared, session, request, refused).await,
    }
}

/// Shows how a video stands, and learns it.
async fn poll(shared: &Shared, session: &mut Session, known: &Known) -> Result<Reply, Refused> {
    let goal = admit::owned(shared, &known.caller, Kind::Video, &known.id, None).await?.goal;
    shared.bodies.read(session).await.map_err(|error| admit::body_refusal(&error))?;
    let mut reply = pass(shared, session, known, goal).await?;
    if reply.header.status.is_success()
        && let Some(object) = object(&reply.body)
    {
        learn(shared, &object).await;
        if is_running(&object) && !reply.header.headers.contains_key(&POLL_AFTER) {
            insert(&mut reply, &POLL_AFTER, POLL_AFTER_DEFAULT.clone());
        }
    }
    Ok(reply)
}

/// Deletes a video, whose job ends with it.
async fn delete(shared: &Shared, session: &mut Session, known: &Known) -> Result<Reply, Refused> {
    let goal = admit::owned(shared, &known.caller, Kind::Video, &known.id, None).await?.goal;
    shared.bodies.read(session).await.map_err(|error| admit::body_refusal(&error))?;
    admit::ended(shared, &known.id).await?;
    let reply = pass(shared, session, known, goal).await?;
    if reply.header.status.is_success() {
        answer::deleted(shared, &known.id).await;
    }
    Ok(reply)
}

/// Sends a request on that has no body.
async fn pass(shared: &Shared, session: &Session, known: &Known, goal: Goal) -> Result<Reply, Refusal> {
    let outgoing = Outgoing { target: known.target.clone(), goal, ..Outgoing::default() };
    let header = session.req_header().clone();
    let asking = Asking { header, outgoing, sending: Sending::Whole(Bytes::new()) };
    ask(shared, asking).await.map_err(|error| refusal_of(&error))
}

async fn ask(shared: &Shared, asking: Asking<'_>) -> Result<Reply, ExchangeError> {
    shared.exchange.ask(&shared.upstreams, &shared.bodies, asking).await
}

/// What is told of an exchange that failed.
fn refusal_of(error: &ExchangeError) -> Refusal {
    match error {
        ExchangeError::Upstream(error) => {
            failure::note(error);
            failure::refusal_of(error)
        }
        ExchangeError::Answer(_) => {
            metrics::upstream_error("protocol");
            tracing::warn!(error = %chain(error), "the upstream's answer cannot be read");
            Refusal::UpstreamUnreachable
        }
        ExchangeError::Form(error) => admit::video::refused(error),
        ExchangeError::Client(_) => admit::body_refusal(&super::body::BodyError::TimedOut),
    }
}

/// What the upstream says of the gateway's own key is for the operator.
fn accepted_key(reply: Reply) -> Result<Reply, Refusal> {
    if !matches!(reply.header.status.as_u16(), 401 | 403) {
        return Ok(reply);
    }
    metrics::upstream_error("auth");
    tracing::error!(status = reply.header.status.as_u16(), "the upstream does not accept the gateway's key");
    Err(Refusal::UpstreamAuth)
}

/// Takes in how a video stands. What cannot be kept now is learnt again: by the next who looks, or by the watcher.
async fn learn(shared: &Shared, object: &Value) {
    let durable = match shared.jobs.learn(JobKind::Video, object).await {
        Ok(None) => return,
        Ok(Some(ticket)) => ticket.await.map_err(|error| chain(&error).to_string()),
        Err(error) => Err(chain(&error).to_string()),
    };
    if let Err(error) = durable {
        tracing::error!(error, "the end of a video is not on record yet");
    }
}

fn object(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok().filter(Value::is_object)
}

fn is_running(video: &Value) -> bool {
    matches!(video["status"].as_str(), Some("queued" | "in_progress"))
}

fn insert(reply: &mut Reply, name: &HeaderName, value: HeaderValue) {
    // A head of fewer than 32,768 names takes one more.
    let _inserted = reply.header.insert_header(name.clone(), value).is_ok();
}

/// An answer of the gateway's own making.
fn made_here(body: Vec<u8>) -> Result<Reply, Refusal> {
    let header = ResponseHeader::build(StatusCode::OK, Some(8)).map_err(|error| {
        tracing::error!(error = %chain(&*error), "an answer could not be made");
        Refusal::Internal
    })?;
    let mut reply = Reply { header, body: body.into(), upstream: None };
    insert(&mut reply, &CONTENT_TYPE, HeaderValue::from_static("application/json"));
    insert(&mut reply, &CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}

/// Tells a client what the upstream answered, and what was decided; a call that has a key keeps it.
async fn tell(
    shared: &Shared,
    session: &mut Session,
    request: &mut Request,
    reply: Reply,
    decided: Option<Headers>,
    settlement: Option<&mut Settlement>,
) -> pingora::Result<bool> {
    let reply = match accepted_key(reply) {
        Ok(reply) => reply,
        Err(refusal) => return refuse(shared, session, request, &refusal, decided.as_ref()).await,
    };
    request.stage = Stage::Answered;
    let Reply { mut header, body, .. } = reply;
    passing::homeward(&mut header);
    header.remove_header(&CONNECTION);
    for (name, value) in decided.into_iter().flatten() {
        header.insert_header(name, value)?;
    }
    if !header.headers.contains_key(&REQUEST_ID) {
        header.insert_header(REQUEST_ID.clone(), answer::request_id())?;
    }
    let empty = header.status == StatusCode::NO_CONTENT;
    if !empty {
        header.insert_header(CONTENT_LENGTH, body.len())?;
    }
    if let Some(settlement) = settlement {
        record(settlement, &mut header, &body)?;
    }
    if shared.intake.is_leaving() {
        session.set_keepalive(None);
    }
    session.write_response_header(Box::new(header), empty).await?;
    if !empty {
        session.write_response_body(Some(body), true).await?;
    }
    answer::hear_out(session).await;
    Ok(true)
}

/// Keeps an answer for the call's key, if it has one and was charged, before anybody has read it.
fn record(settlement: &mut Settlement, header: &mut ResponseHeader, body: &Bytes) -> pingora::Result<()> {
    if let Some(taken) = settlement.taken() {
        if let Some(told) = taken.headed(header) {
            header.insert_header(ACCESS_IDEMPOTENCY.clone(), told)?;
        }
        taken.pass(body);
        taken.whole();
    }
    settlement.end_now(Cause::Ended);
    Ok(())
}

/// Answers in the upstream's place, with what had been decided.
async fn refuse(
    shared: &Shared,
    session: &mut Session,
    request: &mut Request,
    refusal: &Refusal,
    decided: Option<&Headers>,
) -> pingora::Result<bool> {
    request.stage = Stage::Answered;
    let request_id = answer::request_id();
    let mut context =
        super::refusal::Context::new(request.dialect, &request_id, shared.clock.now(), rand::random());
    context.held = decided;
    answer::respond(session, super::refusal::respond(refusal, &context)).await?;
    Ok(true)
}
