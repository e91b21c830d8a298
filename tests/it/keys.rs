//! Who may call: a key lets in its user, from the moment it is made to the moment it is revoked or expires.

use serde_json::json;

use crate::harness::client::ask;
use crate::harness::{Client, Gateway, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_ours_gets_401_and_reaches_nothing() {
    let gateway = Gateway::start();
    let (caller, _) = gateway.caller("free");
    let mut damaged = caller.key.clone();
    let last = damaged.pop().expect("a key");
    damaged.push(if last == 'a' { 'b' } else { 'a' });
    let unknown = format!("ofk_{}", "0".repeat(caller.key.len() - 4));
    for key in ["", "ofk_", "sk-foreign-key", damaged.as_str(), unknown.as_str(), "ofk_\u{fffd}"] {
        for path in ["/v1/responses", "/v1/chat/completions"] {
            let answer = Client::new(gateway.addr, key).post(path, &ask("one")).await.expect(401);
            assert_eq!(
                answer.error(),
                ("invalid_request_error".to_owned(), "invalid_api_key".to_owned()),
                "{key}"
            );
            assert!(answer.header("www-authenticate").is_some());
        }
        Client::new(gateway.addr, key).get("/v1/access").await.expect(401);
    }
    let bare = format!("GET /v1/models HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", gateway.addr);
    let told = Client::new(gateway.addr, "").raw(bare.as_bytes()).await;
    assert!(told.starts_with(b"HTTP/1.1 401"));
    assert_eq!(gateway.upstream.seen.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_from_the_very_next_request_and_after_a_restart() {
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("free");
    client.respond("one").await.expect(200);
    let (status, _) = gateway.admin.call("POST", &format!("/keys/{}/revoke", caller.key_id), None);
    assert_eq!(status, 204);
    client.respond("one").await.expect(401);
    gateway.stop();
    gateway.restart();
    gateway.client(&caller).respond("one").await.expect(401);
    assert_eq!(gateway.upstream.seen.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_refused_from_the_moment_it_expires() {
    let gateway = Gateway::start();
    let (caller, _) = gateway.caller("free");
    let now = overfall::units::time::Clock::machine().now();
    let at = now.plus(overfall::units::Span::from_ms(1500));
    let path = format!("/accounts/{}/users/{}/keys", caller.account, caller.user);
    let made = gateway.admin.post(&path, &json!({"expires_at": at.to_string()}));
    let client = Client::new(gateway.addr, made["key"].as_str().expect("a key"));
    client.respond("one").await.expect(200);
    eventually("the key expires", async || (client.respond("one").await.status == 401).then_some(())).await;
    let late = overfall::units::time::Clock::machine().now();
    assert!(late >= at, "refused before its time");
    let (status, refused) =
        gateway.admin.call("POST", &path, Some(&json!({"expires_at": "2020-01-01T00:00:00Z"})));
    assert_eq!(status, 400, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_gets_the_gateways_key_and_nobody_else_does() {
    let gateway = Gateway::start();
    let (caller, client) = gateway.caller("free");
    let answer = client.with("x-access-decision", "allow").with("openai-organization", "org-of-client");
    let answer = answer.respond("one-sim-echo").await.expect(200);
    let seen = gateway.upstream.seen.request(0).expect("it came");
    let bearer = seen.headers["authorization"].to_str().expect("ASCII");
    assert_eq!(bearer, format!("Bearer {}", crate::harness::upstream::UPSTREAM_KEY));
    assert!(!seen.headers.contains_key("x-access-decision"), "what a client says about access is dropped");
    for (name, value) in &answer.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        assert!(!value.contains(&caller.key), "{name}: {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_ever_in_a_log_an_answer_or_a_metric() {
    let mut gateway = crate::harness::Setup::default().deployment("log: {level: trace}").start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "10");
    let mut told = Vec::new();
    for model in
        ["one", "one-sim-own-limits", "one-sim-status=401", "one-sim-status=500", "one-sim-drop", "no-such"]
    {
        let answer = client.respond(model).await;
        told.push(format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.body)));
    }
    let mut stream =
        client.stream("/v1/responses", &crate::harness::client::ask_stream("one-sim-cut=3")).await;
    told.push(stream.rest().await.0);
    let damaged = format!("{}x", caller.key);
    told.push(format!("{:?}", Client::new(gateway.addr, &damaged).respond("one").await));
    let (_, keys) = gateway.admin.call("GET", &format!("/accounts/{}/keys", caller.account), None);
    let (_, refused) =
        gateway.admin.raw("GET", "/admin/v1/accounts", Some("wrong"), None).expect("an answer");
    told.extend([keys.to_string(), refused, gateway.admin.metrics()]);
    gateway.stop();
    told.push(gateway.log());
    let upstream_key = crate::harness::upstream::UPSTREAM_KEY;
    let token = crate::harness::admin::TOKEN;
    for (secret, what) in
        [(upstream_key, "the upstream's key"), (token, "the token"), (&caller.key, "a client's key")]
    {
        for text in &told {
            let found = text.lines().find(|line| line.contains(secret));
            assert!(found.is_none(), "{what} stands in: {}", found.unwrap_or_default());
        }
    }
    let stored = std::fs::read(gateway.ledger()).expect("the ledger");
    assert!(
        !stored.windows(caller.key.len()).any(|part| part == caller.key.as_bytes()),
        "only a hash is stored"
    );
}
