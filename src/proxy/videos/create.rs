//! What makes a video or a character.
//!
//! One upstream key serves all accounts: what is made belongs to nobody until its id is on record. So the answer waits
//! until its job and its owner are durable. An answer that is lost – the upstream breaks off, or names no id – made
//! nothing that anybody could have, and charges nothing. A client that leaves does not keep the gateway from learning
//! what it made.

use std::sync::Arc;

use http::StatusCode;
use pingora::proxy::Session;
use serde_json::Value;

use super::{REQUEST_ID, accepted_key, ask, learn, object, refusal_of, refuse, tell};
use crate::access::record::{JobKind, JobRecord, MadeRecord, MadeVideo, Resource};
use crate::journal::{NotDurable, Ticket};
use crate::observe::finish::Cause;
use crate::proxy::admit::video::{Admitted, Let, Sent};
use crate::proxy::admit::{self, Known, Refused};
use crate::proxy::exchange::{Asking, ExchangeError, Reply, Sending, Upload};
use crate::proxy::gateway::{Shared, answer};
use crate::proxy::metrics;
use crate::proxy::passing::Outgoing;
use crate::proxy::refusal::Refusal;
use crate::proxy::request::Request;
use crate::proxy::routes::IdKind;
use crate::proxy::settlement::Settlement;
use crate::proxy::upstreams::Goal;
use crate::telemetry::chain;

/// Makes a video: held, sent, and on record before its answer leaves.
pub(super) async fn video(
    shared: &Shared,
    session: &mut Session,
    request: &mut Request,
    known: Known,
) -> pingora::Result<bool> {
    let Let { sent, decided, mut settlement, video, goal } =
        *match admit::video::meter(shared, session, &known).await {
            Ok(Admitted::Now(held)) => held,
            Ok(Admitted::Before(kept)) => return answer::replay(session, request, kept).await,
            Err(refused) => return answer::refuse(shared, session, request, refused).await,
        };
    let reply = dispatched(shared, session, &known, (sent, goal), &mut settlement).await;
    let made = match reply {
        Ok(reply) => made(shared, &known, reply, video, &mut settlement).await,
        Err(refusal) => Err(refusal),
    };
    if made.is_err() {
        // Whatever the upstream has made of it: nobody can have it.
        void(&mut settlement, None).await;
    }
    let now = shared.clock.now();
    match made {
        Ok(reply) => {
            let told = reply.header.headers.get(&REQUEST_ID).and_then(|id| id.to_str().ok());
            let request_id = told.map_or_else(|| decided.decision.to_string(), str::to_owned);
            let headers = decided.headers(request.dialect, &request_id, now);
            tell(shared, session, request, reply, Some(headers), Some(&mut settlement)).await
        }
        Err(refusal) => {
            let headers = decided.headers(request.dialect, &answer::request_id(), now);
            refuse(shared, session, request, &refusal, Some(&headers)).await
        }
    }
}

/// Makes a character, which costs nothing and is owned all the same.
pub(super) async fn character(
    shared: &Shared,
    session: &mut Session,
    known: &Known,
) -> Result<Reply, Refused> {
    let sent = admit::video::character(shared, session, known).await?;
    let reply = send(shared, session, known, sent).await.map_err(|error| refusal_of(&error))?;
    if !reply.header.status.is_success() {
        return Ok(reply);
    }
    let (id, _) = named(&reply)?;
    let owned = own(shared, known, Resource { id, upstream: reply.upstream.clone() }, None);
    match durable(owned).await {
        Ok(()) => Ok(reply),
        Err(Lost) => Err(Refusal::StoreUnavailable.into()),
    }
}

/// Sends a call whose hold is open.
async fn dispatched(
    shared: &Shared,
    session: &mut Session,
    known: &Known,
    (sent, goal): (Sent, Goal),
    settlement: &mut Settlement,
) -> Result<Reply, Refusal> {
    if let Some(call) = settlement.call() {
        call.dispatched = true;
        if let Err(error) = shared.meter.dispatch(call.account, call.decision).await {
            tracing::error!(decision.id = %call.decision, error = %chain(&error), "the hold is gone");
            return Err(Refusal::Internal);
        }
    }
    let reply = send(shared, session, known, (sent, goal)).await.map_err(|error| {
        if !error.has_left()
            && let Some(call) = settlement.call()
        {
            call.dispatched = false;
        }
        refusal_of(&error)
    })?;
    accepted_key(reply)
}

async fn send(
    shared: &Shared,
    session: &mut Session,
    known: &Known,
    (sent, goal): (Sent, Goal),
) -> Result<Reply, ExchangeError> {
    let header = session.req_header().clone();
    let outgoing = Outgoing { target: known.target.clone(), goal, ..Outgoing::default() };
    match sent {
        Sent::Whole(body) => {
            let body = body.into_bytes();
            let outgoing = Outgoing { body: Some(body.clone()), ..outgoing };
            ask(shared, Asking { header, outgoing, sending: Sending::Whole(body) }).await
        }
        Sent::Begun { bytes, mut form, length } => {
            let upload =
                Upload { session: &mut *session, begun: bytes, form: &mut form, length, has_left: false };
            let asked = ask(shared, Asking { header, outgoing, sending: Sending::Upload(upload) }).await;
            if !session.is_body_done() {
                // What still comes belongs to this request, and nobody reads it.
                session.set_keepalive(None);
            }
            asked
        }
    }
}

/// Puts on record what an answer says was made.
async fn made(
    shared: &Shared,
    known: &Known,
    reply: Reply,
    video: MadeVideo,
    settlement: &mut Settlement,
) -> Result<Reply, Refusal> {
    let status = reply.header.status;
    if !status.is_success() || status == StatusCode::NO_CONTENT {
        void(settlement, Some(status)).await;
        return Ok(reply);
    }
    let (id, object) = named(&reply)?;
    let Some(call) = settlement.call() else { return Err(Refusal::Internal) };
    call.upstream.clone_from(&reply.upstream);
    let began_at = shared.clock.now();
    let job = JobRecord {
        decision: call.decision,
        account: call.account,
        user: call.user,
        kind: JobKind::Video,
        resource: Resource { id, upstream: reply.upstream.clone() },
        began_at,
        expires_at: began_at.plus(call.terms.feature().deadlines.job),
    };
    let owned = own(shared, known, job.resource.clone(), Some(as_told(video, &object)));
    let begun = shared.jobs.begin(job).await.map_err(|error| chain(&error).to_string());
    // From here on it ends as a job does.
    drop(settlement.hand_over());
    // What the upstream has made is given to whom it belongs, though the journal be slow to take it: it is kept in
    // memory and written as soon as it can be.
    let _told = (durable(owned).await, durable(begun).await);
    learn(shared, &object).await;
    Ok(reply)
}

/// The id that an answer names, and the object that it is.
fn named(reply: &Reply) -> Result<(Arc<str>, Value), Refusal> {
    let object = object(&reply.body);
    let id = object.as_ref().and_then(|object| object["id"].as_str()).filter(|id| IdKind::Opaque.fits(id));
    if let (Some(id), Some(object)) = (id.map(Arc::from), object) {
        return Ok((id, object));
    }
    metrics::upstream_error("protocol");
    tracing::error!("the upstream's answer names nothing that it has made");
    Err(Refusal::UpstreamUnreachable)
}

/// What a video is like, by what the upstream says it becomes.
fn as_told(asked: MadeVideo, object: &Value) -> MadeVideo {
    let seconds = &object["seconds"];
    let seconds = seconds.as_u64().or_else(|| seconds.as_str()?.parse().ok());
    let size = object["size"].as_str().filter(|size| size.len() <= 16).map(Arc::from);
    MadeVideo {
        seconds: seconds.filter(|seconds| *seconds > 0).unwrap_or(asked.seconds),
        size: size.or(asked.size),
        ..asked
    }
}

fn own(
    shared: &Shared,
    known: &Known,
    resource: Resource,
    video: Option<MadeVideo>,
) -> Result<Ticket, String> {
    let (account, user) = (known.caller.account, known.caller.user);
    let made = MadeRecord { resource, account, user, made_at: shared.clock.now(), video };
    shared.owners.own(made).map_err(|error| chain(&error).to_string())
}

/// It is not known to be durable; that has been told to the operator.
struct Lost;

async fn durable(taken: Result<Ticket, String>) -> Result<(), Lost> {
    let durable = match taken {
        Ok(ticket) => ticket.await.map_err(|error: NotDurable| chain(&error).to_string()),
        Err(error) => Err(error),
    };
    durable.map_err(|error| {
        tracing::error!(error, "what was made is not on record yet");
        Lost
    })
}

/// Ends the hold of a call that made nothing, durably, before anybody is told.
async fn void(settlement: &mut Settlement, status: Option<StatusCode>) {
    let Some(call) = settlement.call() else { return };
    let decision = call.decision;
    call.status = status.map(|status| status.as_u16());
    let cause = if call.dispatched { Cause::Refused } else { Cause::NotSent };
    if let Some(ticket) = settlement.end(cause).await
        && let Err(error) = ticket.await
    {
        tracing::error!(decision.id = %decision, error = %chain(&error), "a void is not durable yet");
    }
}
