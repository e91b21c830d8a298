//! What of a request's headers goes upstream with it, and what of an answer's headers comes back.
//!
//! Everything passes but what would give something away or contradict the gateway: whose key it is, who else stands
//! behind it, what another hop had agreed on, and what the upstream says about the gateway's own limits. One upstream
//! key serves all accounts, so an idempotency key must not pass either: two accounts could choose the same.

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED,
    HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA, WWW_AUTHENTICATE,
};
use http::request::Parts;
use pingora::http::{RequestHeader, ResponseHeader};
use smallvec::SmallVec;

use super::headers;
use super::upstream::Upstream;
use super::upstreams::Goal;

static IDENTITY: HeaderValue = HeaderValue::from_static("identity");
/// Names that are not in `http`. Sorted.
const STAY_HERE: [&str; 14] = [
    "api-key",
    "chatgpt-account-id",
    "content-digest",
    "content-md5",
    "digest",
    "idempotency-key",
    "keep-alive",
    "openai-organization",
    "openai-project",
    "proxy-connection",
    "x-api-key",
    "x-client-ip",
    "x-real-ip",
    "x-request-id",
];
/// Headers of an answer that are between the upstream and the gateway. Sorted.
const STAY_THERE: [&str; 6] =
    ["alt-svc", "keep-alive", "openai-organization", "openai-project", "proxy-connection", "public-key-pins"];

/// What stands in a request that leaves.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Its target, path and query.
    pub target: Vec<u8>,
    /// Its body, until it has left.
    pub body: Option<bytes::Bytes>,
    /// Whether the body is not the one that came, so that what was said about that is no longer true.
    pub rewritten: bool,
    /// Where it may go.
    pub goal: Goal,
    /// Whether its body is gone once it has been sent, so that it cannot be sent to another upstream.
    pub is_sent_once: bool,
}

impl Outgoing {
    /// The body as it leaves. It stays here too only where it may have to be sent to another upstream.
    pub fn leave(&mut self, may_leave_again: bool) -> Option<bytes::Bytes> {
        if may_leave_again {
            return self.body.clone();
        }
        self.is_sent_once |= self.body.is_some();
        self.body.take()
    }
}

/// Makes the header of the request that leaves out of the one that came. Its names leave in lower case: Pingora would
/// keep their case in a second map, which costs more than all of this.
pub fn outward(request: &mut RequestHeader, outgoing: &Outgoing, upstream: &Upstream) -> pingora::Result<()> {
    let blank = RequestHeader::build_no_case(request.method.clone(), b"/", Some(0))?;
    let mut parts = Parts::from(std::mem::replace(request, blank));
    let headers = &mut parts.headers;
    let stay: SmallVec<[HeaderName; 8]> = headers.keys().filter(|name| stays_here(name)).cloned().collect();
    for name in &stay {
        headers.remove(name);
    }
    headers.insert(HOST, upstream.host());
    headers.insert(AUTHORIZATION, upstream.bearer());
    headers.insert(ACCEPT_ENCODING, IDENTITY.clone());
    if outgoing.rewritten {
        headers.remove(CONTENT_ENCODING);
    }
    match &outgoing.body {
        Some(body) => {
            headers.insert(CONTENT_LENGTH, body.len().into());
        }
        None if parts.method == http::Method::POST => {
            headers.insert(CONTENT_LENGTH, 0.into());
        }
        None => {}
    }
    *request = parts.into();
    request.set_raw_path(&outgoing.target)
}

/// Takes out of an answer what is not for the client.
pub fn homeward(answer: &mut ResponseHeader) {
    let stay: SmallVec<[HeaderName; 16]> =
        answer.headers.keys().filter(|name| stays_there(name)).cloned().collect();
    for name in &stay {
        answer.remove_header(name);
    }
}

fn stays_here(name: &HeaderName) -> bool {
    if [AUTHORIZATION, HOST, ACCEPT_ENCODING, CONTENT_LENGTH, CONNECTION, TRANSFER_ENCODING, EXPECT]
        .contains(name)
        || [COOKIE, FORWARDED, PROXY_AUTHORIZATION, TE, TRAILER, UPGRADE, VIA].contains(name)
    {
        return true;
    }
    let name = name.as_str();
    STAY_HERE.binary_search(&name).is_ok()
        || name.starts_with("x-access-")
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-ratelimit-")
        || name.starts_with("ratelimit")
}

fn stays_there(name: &HeaderName) -> bool {
    [SET_COOKIE, PROXY_AUTHENTICATE, STRICT_TRANSPORT_SECURITY, TRAILER, UPGRADE, VIA, WWW_AUTHENTICATE]
        .contains(name)
        || STAY_THERE.binary_search(&name.as_str()).is_ok()
        || headers::is_ours(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    fn upstream() -> Upstream {
        let settings = super::super::upstream::tests::settings("a", "http://127.0.0.1:9000");
        Upstream::new(&settings, 1).expect("settings")
    }

    #[test]
    fn lists_are_sorted() {
        assert!(STAY_HERE.is_sorted() && STAY_THERE.is_sorted());
    }

    #[test]
    fn what_identifies_the_client_or_another_hop_stays_here_and_what_the_protocol_needs_goes_on() {
        let mut request = RequestHeader::build("POST", b"/v1/responses?x=1", None).expect("a request");
        let stays = [
            "authorization",
            "cookie",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-access-decision",
            "x-ratelimit-limit-requests",
            "ratelimit",
            "ratelimit-policy",
            "openai-organization",
            "openai-project",
            "idempotency-key",
            "x-api-key",
            "api-key",
            "x-real-ip",
            "expect",
            "te",
            "via",
            "chatgpt-account-id",
            "content-md5",
            "x-request-id",
            "proxy-authorization",
        ];
        let goes = [
            "originator",
            "user-agent",
            "session-id",
            "thread-id",
            "x-codex-turn-state",
            "x-openai-subagent",
            "openai-beta",
            "x-client-request-id",
            "x-stainless-lang",
            "accept",
            "content-type",
            "traceparent",
        ];
        for name in stays.iter().chain(&goes) {
            request.insert_header(*name, "client").expect("a header");
        }
        request.insert_header("content-encoding", "zstd").expect("a header");
        let outgoing = Outgoing {
            target: b"/v1/responses".to_vec(),
            body: Some("{}".into()),
            rewritten: true,
            ..Outgoing::default()
        };
        outward(&mut request, &outgoing, &upstream()).expect("headers");
        for name in stays {
            assert_ne!(request.headers.get(name).map(HeaderValue::as_bytes), Some(&b"client"[..]), "{name}");
        }
        for name in goes {
            assert_eq!(request.headers[name], "client", "{name}");
        }
        let now = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(now("authorization"), Some("Bearer sk-secret"));
        assert_eq!((now("host"), now("content-length")), (Some("127.0.0.1:9000"), Some("2")));
        assert_eq!((now("accept-encoding"), now("content-encoding")), (Some("identity"), None));
        assert_eq!(request.raw_path(), b"/v1/responses");
    }

    #[test]
    fn what_the_upstream_says_of_itself_stays_there() {
        let mut answer = ResponseHeader::build(200, None).expect("an answer");
        let stays = [
            "set-cookie",
            "www-authenticate",
            "x-ratelimit-remaining-requests",
            "ratelimit",
            "x-access-decision",
            "openai-organization",
            "openai-project",
            "alt-svc",
            "x-codex-primary-used-percent",
            "x-codex-credits-balance",
            "strict-transport-security",
        ];
        let comes = [
            "content-type",
            "x-request-id",
            "x-codex-turn-state",
            "openai-model",
            "x-models-etag",
            "x-reasoning-included",
            "openai-processing-ms",
            "retry-after",
        ];
        for name in stays.iter().chain(&comes) {
            answer.insert_header(*name, "upstream").expect("a header");
        }
        homeward(&mut answer);
        let left: Vec<_> = stays.iter().filter(|name| answer.headers.contains_key(**name)).collect();
        assert!(left.is_empty(), "{left:?}");
        for name in comes {
            assert!(answer.headers.contains_key(name), "{name}");
        }
    }
}
