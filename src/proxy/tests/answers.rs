//! What goes through: both APIs, in one body and as a stream; what is booked of them; what their headers tell.

use serde_json::json;

use super::wire::request;
use super::world::{UPSTREAM_KEY, World};
use crate::access::record::{Grade, Outcome};

/// `input` of 10 tokens by the simulated upstream's count, and 20 of output.
fn responses(stream: bool) -> String {
    json!({"model": "gpt-5.5-sim-out=20", "input": "a".repeat(40), "stream": stream}).to_string()
}

fn chat(stream: bool, usage: Option<bool>) -> String {
    let mut body = json!({
        "model": "gpt-5.5-sim-out=20",
        "messages": [{"role": "user", "content": "a".repeat(40)}],
        "stream": stream,
    });
    if let Some(usage) = usage {
        body["stream_options"] = json!({"include_usage": usage});
    }
    body.to_string()
}

#[test]
fn each_way_of_asking_is_answered_and_booked_by_the_usage_that_the_upstream_told() {
    let world = World::new();
    for (target, body) in [
        ("/v1/responses", responses(false)),
        ("/v1/responses", responses(true)),
        ("/v1/responses/compact", responses(false)),
        ("/v1/chat/completions", chat(false, None)),
        ("/v1/chat/completions", chat(true, None)),
        ("/v1/chat/completions", chat(true, Some(true))),
    ] {
        let before = world.wallet(&world.anna);
        let answer = world.post(target, &body);
        assert_eq!((answer.status, answer.whole), (200, true), "{target} {answer:?}");
        let row = world.booked(answer.decision());
        assert_eq!((row.outcome, row.grade), (Outcome::Completed, Grade::Exact), "{target} {row:?}");
        assert_eq!((row.used.output_tokens, row.status), (20, Some(200)), "{target} {row:?}");
        assert!(row.used.input_tokens >= 10, "{target} {row:?}");
        let cost = before.checked_sub(world.wallet(&world.anna)).expect("spent");
        assert_eq!((cost, row.charge.charged), (row.charge.gross, row.charge.gross), "{target} {row:?}");
        assert!(!cost.is_zero(), "{target}");
    }
}

/// I1: the header shows the held draws, the stored decision shows held and final.
#[test]
fn every_answer_tells_its_decision_and_what_is_left_and_the_client_can_look_it_up() {
    let world = World::new();
    let answer = world.post("/v1/responses", &responses(false));
    let told = answer.header("x-access-decision");
    assert!(told.starts_with("allow;id=\"dec_") && told.contains(";feature=codex;policy=\""), "{told}");
    assert!(answer.header("x-access-sources").starts_with("credits;unit=credit;take=\""), "{answer:?}");
    assert!(!answer.header("x-request-id").is_empty(), "{answer:?}");
    let id = answer.decision();
    world.booked(id);
    let view = world.ask("GET", &format!("/v1/access/decisions/{id}"), &world.anna.key, "", b"");
    let view_json = view.json();
    assert_eq!((view.status, &view_json["state"]), (200, &json!("ended")), "{view:?}");
    let held = view_json["held"][0]["amount"].as_str().expect("held").to_owned();
    assert!(answer.header("x-access-sources").contains(&format!("take=\"{held}\"")), "{answer:?} {view:?}");
    let elsewhere = world.ask("GET", &format!("/v1/access/decisions/{id}"), &world.other.key, "", b"");
    assert_eq!((elsewhere.status, elsewhere.code().as_str()), (404, "decision_not_found"));
    let access = world.ask("GET", "/v1/access", &world.anna.key, "", b"");
    assert_eq!((access.status, &access.json()["plan"]), (200, &json!("payg")), "{access:?}");
}

#[test]
fn a_client_that_did_not_ask_for_the_usage_chunk_does_not_get_it_though_the_gateway_asks() {
    let world = World::new();
    let usage_chunks = |body: String| {
        let answer = world.post("/v1/chat/completions", &body);
        assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
        let with_usage =
            |event: &&serde_json::Value| event["choices"] == json!([]) && event["usage"].is_object();
        answer.events().iter().filter(with_usage).count()
    };
    assert_eq!(usage_chunks(chat(true, None)), 0);
    assert_eq!(usage_chunks(chat(true, Some(false))), 0);
    assert_eq!(usage_chunks(chat(true, Some(true))), 1);
    for seen in world.upstream_requests() {
        let body: serde_json::Value = serde_json::from_slice(&seen.body).expect("JSON");
        assert_eq!(body["stream_options"]["include_usage"], json!(true));
    }
}

#[test]
fn keys_stay_on_their_side_and_the_upstreams_own_limits_do_too() {
    let world = World::new();
    let body = json!({"model": "gpt-5.5-sim-echo+own-limits", "input": "hello"}).to_string();
    let headers = "x-access-decision: allow\r\nx-forwarded-for: 1.2.3.4\r\ncookie: a=b\r\naccept-encoding: gzip\r\n\
                   openai-organization: org\r\nidempotency-key: one\r\nx-codex-turn-state: here\r\n";
    let answer = world.ask("POST", "/v1/responses", &world.anna.key, headers, body.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = world.upstream_requests().pop().expect("a request");
    assert_eq!(seen.headers["authorization"], format!("Bearer {UPSTREAM_KEY}"));
    assert_eq!(seen.headers["accept-encoding"], "identity");
    assert_eq!(seen.headers["x-codex-turn-state"], "here");
    for name in ["x-access-decision", "x-forwarded-for", "cookie", "openai-organization", "idempotency-key"] {
        assert!(!seen.headers.contains_key(name), "{name}");
    }
    assert!(!format!("{:?}", seen.headers).contains(&world.anna.key));
    assert_eq!(answer.header("x-access-decision").matches("allow").count(), 1, "{answer:?}");
    assert!(!answer.headers.contains_key("set-cookie"), "{answer:?}");
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let world = World::new();
    let mut client = world.client();
    let one = request("POST", "/v1/responses", &world.anna.key, "", responses(true).as_bytes());
    for _ in 0..3 {
        assert_eq!(client.exchange(&one).status, 200);
    }
    let models = request("GET", "/v1/models", &world.anna.key, "", b"");
    client.send(&[one.clone(), models].concat());
    assert_eq!((client.answer().status, client.answer().status), (200, 200), "sent together");
    let refused = request("GET", "/v1/files", &world.anna.key, "", b"");
    assert_eq!(client.exchange(&refused).status, 404);
    assert_eq!(client.exchange(&one).status, 200, "a refusal keeps the connection");
}

#[test]
fn a_free_route_costs_nothing_and_passes() {
    let world = World::new();
    let before = world.wallet(&world.anna);
    assert_eq!(world.ask("GET", "/v1/models", &world.anna.key, "", b"").status, 200);
    let body = json!({"model": "gpt-5.5", "input": "hello"}).to_string();
    let counted = world.post("/v1/responses/input_tokens", &body);
    assert_eq!((counted.status, &counted.json()["object"]), (200, &json!("response.input_tokens")));
    assert_eq!(world.wallet(&world.anna), before);
    assert!(!counted.headers.contains_key("x-access-decision"));
    assert!(!counted.header("x-request-id").is_empty());
}

/// Design section 3, clamp: what cannot be afforded whole is cut down, said so, and told to the upstream.
#[test]
fn what_cannot_be_afforded_whole_is_clamped() {
    let world = World::with(&super::world::Wishes { credits: "0.1", ..Default::default() });
    let body = json!({"model": "gpt-5.5-sim-out=20", "input": "hi", "max_output_tokens": 5000}).to_string();
    let answer = world.post("/v1/responses", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = answer.header("x-access-decision");
    let clamped: u64 = told.split("max-output-tokens=").nth(1).and_then(|n| n.parse().ok()).expect(told);
    let seen: serde_json::Value = serde_json::from_slice(&world.upstream_requests()[0].body).expect("JSON");
    assert_eq!(seen["max_output_tokens"], json!(clamped));
    assert!((16..5000).contains(&clamped));
}

const TOLD: &str = r#"{"id":"resp_1","object":"response","status":"completed","model":"gpt-5.5","output":[],"usage":{"input_tokens":10,"output_tokens":20,"total_tokens":30}}"#;

fn by_canned(answer: Vec<u8>, stream: bool) -> (super::wire::Answer, crate::ledger::rows::DecisionRow) {
    let upstream = Some(super::world::canned(answer));
    let world = World::with(&super::world::Wishes { upstream, ..Default::default() });
    let answer = world.post("/v1/responses", &responses(stream));
    let row = world.booked(answer.decision());
    (answer, row)
}

#[test]
fn an_answer_that_is_compressed_although_nobody_asked_is_read_all_the_same() {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(TOLD.as_bytes()).expect("in memory");
    let encoded = encoder.finish().expect("in memory");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        encoded.len()
    );
    let (answer, row) = by_canned([head.as_bytes(), &encoded].concat(), false);
    assert_eq!((answer.text(), row.used.output_tokens, row.grade), (TOLD.to_owned(), 20, Grade::Exact));
}

#[test]
fn early_hints_and_old_framing_change_nothing() {
    let event = format!(
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{TOLD}}}\n\n"
    );
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let kind = "content-type: text/event-stream; charset=utf-8\r\n";
    for head in [
        format!("{hints}HTTP/1.1 200 OK\r\n{kind}content-length: {}\r\n\r\n", event.len()),
        format!("HTTP/1.1 200 OK\r\n{kind}connection: close\r\n\r\n"),
        format!("HTTP/1.0 200 OK\r\n{kind}\r\n"),
    ] {
        let (answer, row) = by_canned([head.as_bytes(), event.as_bytes()].concat(), true);
        assert_eq!((answer.status, answer.text(), answer.whole), (200, event.clone(), true), "{head}");
        assert_eq!((row.outcome, row.grade), (Outcome::Completed, Grade::Exact), "{head}");
    }
}

#[test]
fn a_stream_of_stated_length_that_ends_early_still_ends_in_protocol() {
    let begin = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\"}}\n\n";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 5000\r\n\r\n";
    let (answer, row) = by_canned([head, begin].concat().into_bytes(), true);
    assert_eq!(answer.events().pop().expect("events")["type"], "response.failed", "{answer:?}");
    assert_eq!((answer.whole, row.outcome), (true, Outcome::Cut));
}
