//! What the gateway refuses by itself, and that nothing of it reaches the upstream.

use serde_json::json;

use super::wire::Client;
use super::world::World;
use crate::meter::Meter;
use crate::proxy::keys::Key;

const BODY: &str = r#"{"model": "gpt-5.5-sim-out=5", "input": "hello"}"#;

#[test]
fn who_has_no_key_that_lets_in_is_told_so_and_nothing_else() {
    let world = World::new();
    let stranger = Key::generate([7; 32]).reveal().to_owned();
    for key in [stranger.as_str(), "sk-proj-0123", "", "ofk_damaged"] {
        for target in ["/v1/responses", "/v1/models", "/v1/access", "/nowhere"] {
            let answer = world.ask("POST", target, key, "", BODY.as_bytes());
            assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_api_key"), "{key} {target}");
        }
    }
    let mut client = world.client();
    let answer = client.exchange(b"GET /v1/models HTTP/1.1\r\nhost: gateway\r\n\r\n");
    assert_eq!(answer.status, 401);
    assert_eq!(world.seen.count(), 0);
}

#[test]
fn paths_that_are_written_otherwise_reach_nothing() {
    let world = World::new();
    for target in [
        "//v1/responses",
        "/v1//responses",
        "/V1/responses",
        "/v1/Responses",
        "/v1/responses/",
        "/v1/./responses",
        "/v1/x/../responses",
        "/v1/%72esponses",
        "/v1/responses%2f",
        "/v1/responses;a=b",
        "/v1/responses/..",
        "/v1/files",
        "/v1/conversations",
        "/v1/embeddings",
        "/",
        "*",
        "/admin/v1/accounts",
        "/metrics",
    ] {
        let answer = world.ask("POST", target, &world.anna.key, "", BODY.as_bytes());
        assert_eq!(answer.status, 404, "{target} {answer:?}");
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error", "{target}");
    }
    for method in ["PUT", "PATCH", "HEAD", "OPTIONS", "DELETE"] {
        let mut client = world.client();
        let head = format!(
            "{method} /v1/responses HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {}\r\n\r\n",
            world.anna.key
        );
        client.send(head.as_bytes());
        assert!(client.read_until("\r\n\r\n").starts_with("HTTP/1.1 404"), "{method}");
    }
    assert_eq!(world.seen.count(), 0);
}

#[test]
fn other_protocols_and_ambiguous_requests_are_refused() {
    let world = World::new();
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGVzdA==\r\n";
    let answer = world.ask("GET", "/v1/responses", &world.anna.key, upgrade, b"");
    assert_eq!((answer.status, answer.code().as_str()), (426, "upgrade_required"), "{answer:?}");
    let h2c = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
    assert_eq!(world.ask("POST", "/v1/responses", &world.anna.key, h2c, BODY.as_bytes()).status, 426);
    let both =
        world.ask("POST", "/v1/responses", &world.anna.key, "transfer-encoding: chunked\r\n", b"0\r\n\r\n");
    assert_eq!(both.status, 400, "{both:?}");
    let connect = format!(
        "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\nauthorization: Bearer {}\r\n\r\n",
        world.anna.key
    );
    let mut client = Client::connect(world.address);
    client.send(connect.as_bytes());
    assert!(client.read_until("\r\n\r\n").starts_with("HTTP/1.1 405"));
    assert_eq!(world.seen.count(), 0);
}

#[test]
fn a_block_says_why_in_header_and_body_and_takes_nothing() {
    let world = World::new();
    let poor = world.ask("POST", "/v1/responses", &world.poor.key, "", BODY.as_bytes());
    assert_eq!((poor.status, poor.code().as_str()), (429, "credit_balance_exhausted"), "{poor:?}");
    let told = poor.header("x-access-decision");
    assert!(told.starts_with("block;id=\"dec_") && told.contains("reason=credits-exhausted"), "{told}");
    assert_eq!(poor.header("x-should-retry"), "false");
    assert_eq!(poor.header("cache-control"), "no-store");
    let codex =
        world.ask("POST", "/v1/responses", &world.poor.key, "originator: codex_cli_rs\r\n", BODY.as_bytes());
    assert_eq!(
        (codex.status, &codex.json()["error"]["type"]),
        (429, &json!("usage_limit_reached")),
        "{codex:?}"
    );
    for model in ["unheard-of", "sora-2"] {
        let body = json!({"model": model, "input": "hello"}).to_string();
        let unpriced = world.post("/v1/responses", &body);
        assert_eq!((unpriced.status, unpriced.code().as_str()), (404, "model_not_found"), "{unpriced:?}");
        assert!(unpriced.header("x-access-decision").contains("reason=unpriced-model"), "{unpriced:?}");
    }
    assert_eq!((world.seen.count(), world.meter.stats().holds), (0, 0));
    let id = poor.decision();
    let view = world.ask("GET", &format!("/v1/access/decisions/{id}"), &world.poor.key, "", b"");
    assert_eq!((view.status, &view.json()["state"]), (200, &json!("blocked")), "{view:?}");
    let unknown = format!("/v1/access/decisions/{}", crate::units::DecisionId::MIN);
    let unknown = world.ask("GET", &unknown, &world.anna.key, "", b"");
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "decision_not_found"));
}
