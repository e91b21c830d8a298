//! What becomes of a request that fails on its way: its hold, and what its client gets.

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::protocols::http::compression::ResponseCompressionCtx;
use pingora::proxy::{FailToProxy, Session};
use pingora::{Error, ErrorSource, ErrorType};

use super::{Shared, answer};
use crate::proxy::finish::Cause;
use crate::proxy::metrics;
use crate::proxy::refusal::{self, Context, Refusal};
use crate::proxy::request::{Metered, Request, Stage};
use crate::proxy::upstreams::Upstreams;
use crate::telemetry::chain;

/// The upstream did not accept the gateway's key.
pub(super) const UPSTREAM_AUTH: ErrorType = ErrorType::new("UpstreamAuth");
/// The upstream turned the request away, and another may have it.
pub(super) const UPSTREAM_BUSY: ErrorType = ErrorType::new("UpstreamBusy");
/// The stream was ended, since nothing is left for it; its client knows.
pub(super) const EXHAUSTED: ErrorType = ErrorType::new("Exhausted");
/// No upstream is usable.
pub(super) const NO_UPSTREAM: ErrorType = ErrorType::new("NoUpstream");

/// Notes what the head of an answer says of its upstream. An error, to be retried, where another upstream may have the
/// request: 502 and 503 say that nobody has begun to work on it, and nothing has been told to the client.
pub(super) fn judge(
    upstreams: &Upstreams,
    session: &mut Session,
    header: &ResponseHeader,
    request: &mut Request,
) -> pingora::Result<()> {
    if header.status.is_informational() {
        return Ok(());
    }
    let status = header.status.as_u16();
    if !matches!(status, 502..=504) {
        upstreams.succeeded(&mut request.way);
        return Ok(());
    }
    upstreams.failed(&mut request.way);
    let goal = request.goal();
    let at_hand = request.outgoing().is_some_and(|outgoing| !outgoing.is_sent_once);
    if status == 504 || !at_hand || !upstreams.goes_elsewhere(&mut request.way, goal) {
        return Ok(());
    }
    // It has made up its mind by the answer that is dropped, and would panic at the next request.
    session.upstream_compression = ResponseCompressionCtx::new(0, true, false);
    let mut error = Error::explain(UPSTREAM_BUSY, format!("the upstream answered {status}")).into_up();
    error.set_retry(true);
    Err(error)
}

/// Notes that an upstream failed before it answered. That a connection was closed on which requests had been sent
/// before says nothing: idle ones are closed all the time.
pub(super) fn note_silence(upstreams: &Upstreams, error: &Error, request: &mut Request, reused: bool) {
    let timed_out = matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
    if *error.esource() == ErrorSource::Upstream && (timed_out || !reused) {
        upstreams.failed(&mut request.way);
    }
}

/// How a call ends by an error.
pub(super) fn cause(error: &Error) -> Cause {
    match error.esource() {
        ErrorSource::Downstream => Cause::ClientGone,
        ErrorSource::Upstream => Cause::Cut,
        ErrorSource::Internal | ErrorSource::Unset => Cause::Dropped,
    }
}

/// Ends the hold, then tells the client what can still be told.
pub(super) async fn fail(
    shared: &Shared,
    session: &mut Session,
    error: &Error,
    request: &mut Request,
) -> FailToProxy {
    let begun = session.response_written().is_some_and(|header| !header.status.is_informational());
    note(error);
    let gone = *error.esource() == ErrorSource::Downstream;
    let ending = match &mut request.stage {
        Stage::Metered(metered) => end(metered, error, begun).await,
        Stage::Arrived | Stage::Answered | Stage::Replayed(_) | Stage::Free(_) => Bytes::new(),
    };
    let error_code = match (gone, begun) {
        (true, _) => 0,
        (false, true) => {
            finish_stream(session, ending, *error.etype() == EXHAUSTED).await;
            session.response_written().map_or(0, |header| header.status.as_u16())
        }
        (false, false) => explain(shared, session, error, request).await,
    };
    FailToProxy { error_code, can_reuse_downstream: false }
}

/// Ends the hold; durably, where the client is about to be told that it charges nothing. Gives what ends the stream.
async fn end(metered: &mut Metered, error: &Error, begun: bool) -> Bytes {
    let ending = Bytes::from(metered.ending());
    let dispatched = metered.settlement.call().is_some_and(|call| call.dispatched);
    let cause = if dispatched { cause(error) } else { Cause::NotSent };
    if begun && cause != Cause::ClientGone && !ending.is_empty() {
        metered.record(Some(&ending), true);
    }
    if let Some(ticket) = metered.settlement.end(cause).await
        && !begun
        && let Err(error) = ticket.await
    {
        tracing::error!(error = %chain(&error), "the end of a call is not durable yet");
    }
    ending
}

/// Ends a stream that was cut as its protocol wants it ended. A body of stated length stays cut, and so does one whose
/// end is not known, unless it `is_told` already.
async fn finish_stream(session: &mut Session, ending: Bytes, is_told: bool) {
    if ending.is_empty() && !is_told {
        return;
    }
    if let Err(error) = session.write_response_body(Some(ending), true).await {
        tracing::debug!(error = %chain(&*error), "a cut stream could not be ended");
    }
}

/// Answers in the upstream's place.
async fn explain(shared: &Shared, session: &mut Session, error: &Error, request: &mut Request) -> u16 {
    let now = shared.clock.now();
    let request_id = answer::request_id();
    let held = match &request.stage {
        Stage::Metered(metered) => Some(metered.decided.headers(request.dialect, &request_id, now)),
        Stage::Arrived | Stage::Answered | Stage::Replayed(_) | Stage::Free(_) => None,
    };
    let mut context = Context::new(request.dialect, &request_id, now, rand::random());
    context.held = held.as_ref();
    let response = refusal::respond(&refusal_of(error), &context);
    let status = response.status.as_u16();
    session.set_keepalive(None);
    match answer::respond(session, response).await {
        Ok(()) => status,
        Err(error) => {
            tracing::debug!(error = %chain(&*error), "nobody was there to be answered");
            0
        }
    }
}

fn refusal_of(error: &Error) -> Refusal {
    match (error.esource(), error.etype()) {
        (_, kind) if *kind == UPSTREAM_AUTH => Refusal::UpstreamAuth,
        (_, kind) if *kind == NO_UPSTREAM => Refusal::Overloaded,
        (
            ErrorSource::Upstream,
            ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout,
        ) => Refusal::UpstreamTimeout,
        (ErrorSource::Upstream, _) => Refusal::UpstreamUnreachable,
        _ => Refusal::Internal,
    }
}

/// Tells the operator, with the whole chain.
fn note(error: &Error) {
    let kind = match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, _) => {
            tracing::debug!(error = %chain(error), "the client left");
            return;
        }
        // Counted when they happened.
        (ErrorSource::Upstream, kind) if [UPSTREAM_AUTH, NO_UPSTREAM].contains(kind) => return,
        (ErrorSource::Upstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => "timeout",
        (ErrorSource::Upstream, ErrorType::ReadError | ErrorType::ConnectionClosed) => "cut",
        // Counted when they happened.
        (ErrorSource::Upstream, kind) if is_connect(kind) => {
            tracing::warn!(error = %chain(error), "the upstream takes no connection");
            return;
        }
        (ErrorSource::Upstream, _) => "protocol",
        (ErrorSource::Internal, kind) if *kind == EXHAUSTED => return,
        (ErrorSource::Internal | ErrorSource::Unset, _) => {
            tracing::error!(error = %chain(error), "a request failed inside the gateway");
            return;
        }
    };
    metrics::upstream_error(kind);
    tracing::warn!(kind, error = %chain(error), "the upstream failed");
}

fn is_connect(kind: &ErrorType) -> bool {
    use ErrorType::{
        BindError, ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout, HandshakeError,
        InvalidCert, SocketError, TLSHandshakeFailure, TLSHandshakeTimedout,
    };
    [
        BindError,
        ConnectError,
        ConnectNoRoute,
        ConnectRefused,
        ConnectTimedout,
        HandshakeError,
        InvalidCert,
        SocketError,
        TLSHandshakeFailure,
        TLSHandshakeTimedout,
    ]
    .contains(kind)
}
