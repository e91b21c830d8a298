//! Heads of requests and answers: keys, dialects, routes, webhooks; what is ours and what is not.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use overfall::config::Secret;
use overfall::proxy::client::Dialect;
use overfall::proxy::keys::Key;
use overfall::proxy::{headers, multipart, passing, routes};
use overfall::settle::jobs::webhook::Verifier;
use overfall::units::Timestamp;
use pingora::http::ResponseHeader;

use super::{Target, came_to};

/// The instant of the timestamp in the inputs.
const NOW: Timestamp = Timestamp::from_ms(1_793_577_600_000);

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let secret = Secret::new("whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0", "a secret").unwrap();
    Verifier::new(&[secret]).unwrap().unwrap()
});

#[test]
fn fuzz_heads() {
    let words = &[
        "authorization: Bearer ",
        "of_live_",
        "\n",
        "GET ",
        "POST ",
        "/v1/responses",
        "/v1/videos/",
        "/content",
        "?",
        "&",
        "%2f",
        "/../",
        "user-agent: codex_cli_rs/1",
        "originator: codex",
        "webhook-id: 1\n",
        "webhook-timestamp: 1793577600\n",
        "webhook-signature: v1,AAAA\n",
        "x-access-decision: allow\n",
        "ratelimit: x\n",
        "content-type: multipart/form-data; boundary=",
        "\"",
        ";",
        "/v1/chat/completions",
        "/v1/access",
    ];
    Target { name: "headers", rounds: 10_000, words, check }.run();
}

/// The first line is a method and a target, as in a request; every other one a name and a value.
fn check(input: &[u8]) -> u64 {
    let mut lines = input.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let mut headers = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    let key = Key::of_request(&headers);
    if let Ok(key) = &key {
        assert_eq!(Key::parse(key.reveal()).map(|again| again.hash()), Ok(key.hash()));
        assert!(key.reveal().starts_with(key.hint()));
        assert!(!format!("{key:?}").contains(key.reveal()), "a key is never shown");
    }
    homeward(&headers);
    let content_type = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = multipart::Form::new(content_type, |_| true).is_ok();
    assert!(VERIFIER.take(&headers, input, NOW).is_err(), "nobody without the secret is believed");
    let dialect = Dialect::of_request(&headers);
    came_to(&(
        route(first),
        key.map_err(|error| error.to_string()).map(drop),
        dialect.as_str(),
        form,
        headers.len().min(8),
    ))
}

/// A target is one row's or none's, and nothing of it is left out of what is sent on.
fn route(line: &[u8]) -> Option<(&'static str, &'static str)> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (method, target) = (std::str::from_utf8(&line[..space]).ok()?, &line[space + 1..]);
    let matched = routes::find(method, target)?;
    assert_eq!(matched.route.method, method);
    let text = std::str::from_utf8(target).unwrap();
    assert!(text.starts_with(matched.route.head));
    assert!(
        !matched.id.contains(['/', '?', '#', '%']) && !matched.id.contains(".."),
        "an id is one plain word"
    );
    assert!(text.len() >= matched.route.head.len() + matched.id.len() + matched.query.len());
    Some((matched.route.method, matched.route.head))
}

/// Nothing that names a thing of ours comes back from an upstream.
fn homeward(headers: &HeaderMap) {
    let mut answer = ResponseHeader::build(200, None).unwrap();
    for (name, value) in headers {
        answer.append_header(name.clone(), value.clone()).unwrap();
    }
    passing::homeward(&mut answer);
    assert!(!answer.headers.keys().any(headers::is_ours));
}
