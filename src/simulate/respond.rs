//! One request, from its header to the header of its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::behaviour::Behaviour;
use super::body::Reply;
use super::errors::ApiError;
use super::generation::Id;
use super::routes::{Content, Plan};
use super::seen::Ticket;
use super::wire::Drain;
use super::{BODY_BYTES_MAX, Shared, videos};

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HangUp {
    /// It was asked for.
    #[error("asked to hang up")]
    Asked,
    /// The request did not arrive whole.
    #[error("the request broke off")]
    BrokenRequest,
}

/// Limit and access headers such as an upstream might send on its own account; a gateway must not let them pass.
const OWN_LIMITS: [(&str, &str); 12] = [
    ("x-codex-primary-used-percent", "77"),
    ("x-codex-primary-window-minutes", "300"),
    ("x-codex-primary-reset-at", "1795365295"),
    ("x-codex-credits-has-credits", "true"),
    ("x-codex-credits-unlimited", "true"),
    ("x-codex-credits-balance", "7777"),
    ("x-ratelimit-limit-requests", "7777"),
    ("x-ratelimit-remaining-requests", "7776"),
    ("x-ratelimit-reset-requests", "77ms"),
    ("ratelimit", "\"upstream\";r=7777;t=77"),
    ("ratelimit-policy", "\"upstream\";q=7777;w=77"),
    ("x-access-decision", "allow;id=\"upstream\""),
];

/// Answers one request. The future is dropped when the client leaves while it waits; the ticket in it tells.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    drain: Drain,
    request: Request<Incoming>,
) -> Result<Response<Reply>, HangUp> {
    let (head, incoming) = request.into_parts();
    let (body, body_bytes, refusal) = match received(&head, incoming).await {
        Received::Whole(body, bytes) => (body, bytes, None),
        Received::TooLarge => (Bytes::new(), 0, Some(too_large())),
        Received::Broken => {
            drop(shared.seen.arrived(&head, &Bytes::new(), 0));
            return Err(HangUp::BrokenRequest);
        }
    };
    let mut ticket = shared.seen.arrived(&head, &body, body_bytes);
    let Plan { behaviour, content } = match refusal {
        Some(error) => Plan { behaviour: Behaviour::default(), content: Content::Error(error) },
        None => shared.plan(&head, &body, ticket.number()),
    };
    drop(body);
    if behaviour.wait_ms > 0 {
        tokio::time::sleep(Duration::from_millis(behaviour.wait_ms)).await;
    }
    if let Content::HangUp = content {
        ticket.cut();
        return Err(HangUp::Asked);
    }
    let id = Id { series: shared.series, number: ticket.number() };
    Ok(response(&head, &behaviour, content, id, drain, ticket))
}

/// What came of a body.
enum Received {
    /// Its bytes, or the beginning of an upload's; and how many there were.
    Whole(Bytes, u64),
    TooLarge,
    Broken,
}

/// Reads a body. Of an upload to the Videos API only the beginning is kept: it may be larger than memory.
async fn received(head: &Parts, mut incoming: Incoming) -> Received {
    let length = |bytes: &Bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if !videos::is_upload(head) {
        return match Limited::new(incoming, BODY_BYTES_MAX).collect().await {
            Ok(body) => {
                let body = body.to_bytes();
                let bytes = length(&body);
                Received::Whole(body, bytes)
            }
            Err(error) if error.is::<LengthLimitError>() => Received::TooLarge,
            Err(_) => Received::Broken,
        };
    }
    let (mut kept, mut bytes) = (BytesMut::new(), 0);
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else { return Received::Broken };
        if let Ok(data) = frame.into_data() {
            bytes += length(&data);
            let room = videos::UPLOAD_KEPT.saturating_sub(kept.len()).min(data.len());
            kept.extend_from_slice(&data[..room]);
        }
    }
    Received::Whole(kept.freeze(), bytes)
}

fn too_large() -> ApiError {
    let message = "The request body is too large.".to_owned();
    ApiError { status: StatusCode::PAYLOAD_TOO_LARGE, ..ApiError::invalid(None, None, message) }
}

fn response(
    head: &Parts,
    behaviour: &Behaviour,
    content: Content,
    id: Id,
    drain: Drain,
    ticket: Ticket,
) -> Response<Reply> {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

    let gzip = behaviour.gzip && accepts_gzip(&head.headers);
    let mut headers = HeaderMap::with_capacity(8);
    let mut status = StatusCode::OK;
    let reply = match content {
        Content::Json(bytes) => {
            headers.insert(CONTENT_TYPE, JSON);
            Reply::whole(bytes, behaviour, gzip, drain, ticket)
        }
        Content::Events(events) => {
            headers.insert(CONTENT_TYPE, EVENTS);
            Reply::events(events, behaviour, gzip, drain, ticket)
        }
        Content::Download(download) => {
            status = download.status;
            download.push_headers(&mut headers);
            Reply::events(download.pieces(), behaviour, false, drain, ticket)
        }
        Content::Error(error) => {
            status = error.status;
            headers.insert(CONTENT_TYPE, JSON);
            push_error_headers(&mut headers, &error);
            Reply::whole(error.body(), behaviour, gzip, drain, ticket)
        }
        Content::Empty | Content::HangUp => {
            status = StatusCode::NO_CONTENT;
            Reply::whole(Bytes::new(), behaviour, false, drain, ticket)
        }
    };
    if gzip && status != StatusCode::NO_CONTENT && !headers.contains_key(ACCEPT_RANGES) {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    push_common_headers(&mut headers, head, behaviour, id);
    let mut response = Response::new(reply);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn push_error_headers(headers: &mut HeaderMap, error: &ApiError) {
    if let Some(seconds) = error.retry_after_seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"OpenAI API\""));
    }
}

fn push_common_headers(headers: &mut HeaderMap, head: &Parts, behaviour: &Behaviour, id: Id) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
    const POLL_AFTER: HeaderName = HeaderName::from_static("openai-poll-after-ms");
    const VERSION: HeaderName = HeaderName::from_static("openai-version");

    if let Ok(value) = HeaderValue::try_from(format!("req_{id}")) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(PROCESSING_MS, HeaderValue::from(behaviour.wait_ms));
    if let Some(after) = behaviour.poll_after_ms {
        headers.insert(POLL_AFTER, HeaderValue::from(after));
    }
    headers.insert(VERSION, HeaderValue::from_static("2020-10-01"));
    if behaviour.own_limits {
        for (name, value) in OWN_LIMITS {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
    }
    if behaviour.echo {
        push_echo(headers, &head.headers);
    }
}

/// All headers of the request but the key: an upstream that sends it back would defeat what the gateway keeps secret.
fn push_echo(headers: &mut HeaderMap, sent: &HeaderMap) {
    for (name, value) in sent {
        if name != AUTHORIZATION
            && let Ok(echo) = HeaderName::try_from(format!("x-echo-{name}"))
        {
            headers.append(echo, value.clone());
        }
    }
}

/// Whether gzip is named without being refused.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
            named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_only_where_it_is_asked_for() {
        for (value, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("br, zstd", false),
            ("", false),
        ] {
            let headers: HeaderMap =
                [(ACCEPT_ENCODING, HeaderValue::from_static(value))].into_iter().collect();
            assert_eq!(accepts_gzip(&headers), expected, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
