use std::io::Read as _;

use serde_json::json;

use super::*;
use crate::simulate::{Behaviour, End};

const STREAM: &str = r#"{"model":"m-sim-out=3+WORDS","stream":true,"input":"x"}"#;

fn stream(words: &str) -> String {
    STREAM.replace("WORDS", words)
}

/// Two like streams differ in their ids only: with every hexadecimal digit alike they are equal, byte for byte.
fn without_ids(event: &[u8]) -> String {
    let text = std::str::from_utf8(event).expect("UTF-8");
    text.chars().map(|letter| if letter.is_ascii_hexdigit() { '0' } else { letter }).collect()
}

#[tokio::test]
async fn a_stream_is_cut_at_every_boundary_and_inside_every_event_by_the_byte() {
    let upstream = start(options());
    let body = r#"{"model":"m-sim-out=3","stream":true,"input":"x"}"#;
    let sent = async |words: &str| {
        let header = format!("x-simulate: {words}\r\n");
        let (events, whole) = ask(upstream.addr, "POST /v1/responses", &header, body).await.chunks();
        (events.iter().map(|event| without_ids(event)).collect::<Vec<_>>(), whole)
    };
    let (events, whole) = sent("").await;
    assert_eq!((events.len(), whole), (11, true));
    for k in 0..=events.len() {
        assert_eq!(sent(&format!("cut={k}")).await, (events[..k].to_vec(), false), "cut={k}");
    }
    for k in 1..=events.len() {
        let length = events[k - 1].len();
        for bytes in [1, 57, length - 1, length, length + 1] {
            let mut expected = events[..k].to_vec();
            expected[k - 1].truncate(bytes);
            assert_eq!(sent(&format!("cut={k}.{bytes}")).await, (expected, false), "cut={k}.{bytes}");
        }
    }
    let beyond = sent("cut=12").await;
    assert_eq!(beyond, (events, true));
    assert_eq!(upstream.seen.wait_for_idle(PATIENCE).await, Ok(()));
    let ends: Vec<End> = upstream.seen.requests().iter().map(|request| request.end).collect();
    let (first, last) = (ends.first(), ends.last());
    assert_eq!((first, last), (Some(&End::Answered), Some(&End::Answered)));
    assert!(ends[1..ends.len() - 1].iter().all(|end| *end == End::Cut), "{ends:?}");
}

#[tokio::test]
async fn a_cut_after_more_than_a_slow_reader_takes_in_still_comes_after_all_bytes() {
    let upstream = start(options());
    let mut socket = TcpStream::connect(upstream.addr).await.expect("connected");
    let body = r#"{"model":"m-sim-out=1+big=16384+cut=9","stream":true,"input":"x"}"#;
    socket.write_all(&request("POST /v1/responses", "", body.as_bytes())).await.expect("written");
    // Far more than the kernel's buffers are waiting by now; the upstream must wait too.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(upstream.seen.in_flight(), 1);
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.expect("read");
    let (events, whole) = answer(&bytes).chunks();
    assert!(!whole);
    let (name, last) = data(std::str::from_utf8(events.last().expect("an event")).expect("UTF-8"));
    assert_eq!((events.len(), name), (9, Some("response.completed")));
    assert_eq!(last["response"]["instructions"].as_str().map(str::len), Some(16384 * 1024));
}

#[tokio::test]
async fn a_json_body_is_cut_after_the_length_was_announced() {
    let upstream = start(options());
    for (cut, expected) in [("1.100", 100), ("1.0", 0), ("0", 0)] {
        let told = respond(upstream.addr, &format!(r#"{{"model":"m-sim-cut={cut}","input":"x"}}"#)).await;
        let announced: usize =
            told.header("content-length").and_then(|length| length.parse().ok()).expect("length");
        assert!(announced > 1000);
        assert_eq!(told.raw.len(), expected, "{cut}");
    }
    let whole = respond(upstream.addr, r#"{"model":"m-sim-cut=1","input":"x"}"#).await;
    assert_eq!(whole.json()["status"], "completed");
}

#[tokio::test]
async fn streams_end_as_asked() {
    let upstream = start(options());
    for (words, name, usage) in [
        ("failed", "response.failed", Some(Value::Null)),
        ("failed-with-usage", "response.failed", Some(json!(3))),
        ("no-usage", "response.completed", None),
        ("null-usage", "response.completed", Some(Value::Null)),
        ("error-event", "error", None),
        ("no-terminal", "response.output_item.done", None),
        ("duplicate-terminal", "response.completed", Some(json!(3))),
    ] {
        let events = respond(upstream.addr, &stream(words)).await.events();
        let (told, last) = data(events.last().expect("an event"));
        assert_eq!(told, Some(name), "{words}");
        let member = last["response"].get("usage");
        let output = member.map(|usage| usage.get("output_tokens").cloned().unwrap_or(Value::Null));
        assert_eq!(output, usage, "{words}");
        let terminals = events.iter().filter(|event| event.contains("event: response.completed")).count();
        assert_eq!(terminals == 2, words == "duplicate-terminal", "{words}");
        if words.starts_with("failed") {
            assert_eq!(last["response"]["error"]["code"], "server_error");
            assert_eq!(last["response"]["status"], "failed");
        }
    }
    let failed = respond(upstream.addr, r#"{"model":"m-sim-failed","input":"x"}"#).await.json();
    assert_eq!(
        (&failed["status"], &failed["usage"], &failed["output"]),
        (&json!("failed"), &Value::Null, &json!([]))
    );
}

#[tokio::test]
async fn errors_come_in_openais_shape() {
    let upstream = start(options());
    for (words, status, kind, retry_after) in [
        ("status=400", 400, "invalid_request_error", None),
        ("status=429", 429, "rate_limit_error", Some("1")),
        ("status=429+retry-after=30", 429, "rate_limit_error", Some("30")),
        ("status=500", 500, "server_error", None),
        ("status=503", 503, "service_unavailable_error", Some("1")),
    ] {
        for told in [
            respond(upstream.addr, &stream(words)).await,
            ask(upstream.addr, "GET /v1/models", &format!("x-simulate: {words}\r\n"), "").await,
        ] {
            assert_eq!((told.status, told.header("retry-after")), (status, retry_after), "{words}");
            let error = told.json()["error"].clone();
            assert_has(&error, &["message", "param", "code"]);
            assert_eq!(error["type"], kind);
        }
    }
    for (head, body, status) in [
        ("GET /v1/responses", "", 404),
        ("POST /v1/files", "not json", 404),
        ("POST /v1/responses", "{", 400),
        ("POST /v1/responses", r#"{"input":"x"}"#, 400),
        ("POST /v1/responses", r#"{"model":"m","input":"x","max_output_tokens":"9"}"#, 400),
        ("POST /v1/responses", r#"{"model":"m","input":"x","max_output_tokens":-1}"#, 400),
        ("POST /v1/responses", r#"{"model":"m-sim-colour=red","input":"x"}"#, 400),
        ("POST /v1/chat/completions", r#"{"model":"m","messages":[],"n":0}"#, 400),
    ] {
        let told = ask(upstream.addr, head, "", body).await;
        assert_eq!(told.status, status, "{head} {body}");
        assert_has(&told.json()["error"], &["message", "type", "param", "code"]);
    }
}

#[tokio::test]
async fn only_the_configured_key_is_served() {
    let upstream = start(Options { key: Some("sk-upstream".to_owned()), ..options() });
    for (header, status) in [
        ("authorization: Bearer sk-upstream\r\n", 200),
        ("authorization: Bearer sk-upstream2\r\n", 401),
        ("authorization: sk-upstream\r\n", 401),
        ("", 401),
    ] {
        let told = ask(upstream.addr, "POST /v1/responses", header, r#"{"model":"m","input":"x"}"#).await;
        assert_eq!(told.status, status, "{header}");
        if status == 401 {
            assert_eq!(told.header("www-authenticate"), Some("bearer realm=\"openai api\""));
            assert_eq!(told.json()["error"]["code"], "invalid_api_key");
        }
    }
    let seen = upstream.seen.request(1).expect("kept");
    assert_eq!(seen.headers["authorization"], "Bearer sk-upstream2");
    assert_eq!((seen.method.as_str(), seen.target.path(), seen.body_bytes), ("POST", "/v1/responses", 25));
    assert!(
        !format!("{:?}", Options { key: Some("sk-upstream".to_owned()), ..options() })
            .contains("sk-upstream")
    );
}

#[tokio::test]
async fn nothing_comes_back_where_that_is_asked() {
    let upstream = start(options());
    assert_eq!(
        exchange(upstream.addr, &request("POST /v1/responses", "", stream("drop").as_bytes())).await,
        b""
    );
    let empty = respond(upstream.addr, &stream("204")).await;
    assert_eq!((empty.status, empty.raw.len()), (204, 0));
    assert_eq!(upstream.seen.wait_for_end(0, PATIENCE).await, Ok(End::Cut));
    assert_eq!(upstream.seen.wait_for_end(1, PATIENCE).await, Ok(End::Answered));
}

#[tokio::test]
async fn a_client_that_leaves_is_seen_while_it_waits_and_in_the_stream() {
    let upstream = start(options());
    let mut waiting = TcpStream::connect(upstream.addr).await.expect("connected");
    let body = stream("wait=60000ms");
    waiting.write_all(&request("POST /v1/responses", "", body.as_bytes())).await.expect("written");
    upstream.seen.wait_for_count(1, PATIENCE).await.expect("seen");
    drop(waiting);
    assert_eq!(upstream.seen.wait_for_end(0, PATIENCE).await, Ok(End::ClientGone { events: 0 }));

    let mut reading = TcpStream::connect(upstream.addr).await.expect("connected");
    let body = stream("pace=60000");
    reading.write_all(&request("POST /v1/responses", "", body.as_bytes())).await.expect("written");
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("response.created") {
        reading.read_buf(&mut read).await.expect("read");
    }
    drop(reading);
    assert_eq!(upstream.seen.wait_for_end(1, PATIENCE).await, Ok(End::ClientGone { events: 1 }));
    assert_eq!((upstream.seen.in_flight(), upstream.seen.count()), (0, 2));
}

#[tokio::test]
async fn a_request_that_does_not_arrive_whole_is_seen_too() {
    let upstream = start(options());
    let mut socket = TcpStream::connect(upstream.addr).await.expect("connected");
    let whole = request("POST /v1/responses", "", stream("wait=1").as_bytes());
    socket.write_all(&whole[..whole.len() - 5]).await.expect("written");
    drop(socket);
    upstream.seen.wait_for_count(1, PATIENCE).await.expect("seen");
    assert_eq!(upstream.seen.wait_for_end(0, PATIENCE).await, Ok(End::ClientGone { events: 0 }));
    assert_eq!(upstream.seen.request(0).map(|request| request.body_bytes), Some(0));
}

#[tokio::test]
async fn answers_are_compressed_only_when_both_sides_ask() {
    let upstream = start(options());
    for (body, is_stream) in
        [(r#"{"model":"m-sim-gzip","input":"x"}"#.to_owned(), false), (stream("gzip"), true)]
    {
        let plain = ask(upstream.addr, "POST /v1/responses", "accept-encoding: identity\r\n", &body).await;
        assert_eq!(plain.header("content-encoding"), None);
        let told = ask(upstream.addr, "POST /v1/responses", "accept-encoding: gzip, br\r\n", &body).await;
        assert_eq!(told.header("content-encoding"), Some("gzip"));
        let bytes = if is_stream { told.chunks().0.concat() } else { told.raw };
        let mut text = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("gzip");
        assert!(text.contains("\"status\":\"completed\""), "{text}");
    }
}

#[tokio::test]
async fn compressed_requests_are_understood() {
    let upstream = start(options());
    let body = zstd::encode_all(&br#"{"model":"m","input":"12345678"}"#[..], 3).expect("memory");
    let sent = request("POST /v1/responses", "content-encoding: zstd\r\n", &body);
    let told = answer(&exchange(upstream.addr, &sent).await);
    assert_eq!(told.json()["usage"]["input_tokens"], 2);
    assert_eq!(upstream.seen.request(0).expect("kept").body, body);
}

#[tokio::test]
async fn headers_of_its_own_and_the_requests_come_back_where_asked() {
    let upstream = start(options());
    let headers =
        "x-codex-turn-state: abc\r\nauthorization: Bearer secret\r\nx-simulate: echo, own-limits\r\n";
    let told = ask(upstream.addr, "POST /v1/responses", headers, r#"{"model":"m","input":"x"}"#).await;
    assert_eq!(told.header("x-echo-x-codex-turn-state"), Some("abc"));
    assert_eq!(told.header("x-codex-primary-used-percent"), Some("77"));
    assert_eq!(told.header("x-ratelimit-limit-requests"), Some("7777"));
    assert!(!told.head.contains("secret"), "{}", told.head);
}

#[tokio::test]
async fn a_behaviour_can_be_set_for_all_requests() {
    let behaviour = Behaviour::default().with_words("out=2 tier=flex").expect("words");
    let upstream = start(Options { behaviour, recorded_max: 0, stored_max: 0, ..options() });
    let object = respond(upstream.addr, r#"{"model":"m-sim-out=5","input":"x"}"#).await.json();
    assert_eq!((&object["usage"]["output_tokens"], &object["service_tier"]), (&json!(5), &json!("flex")));
    assert_eq!((upstream.seen.count(), upstream.seen.requests().len()), (1, 0));
}

#[tokio::test]
async fn the_shutdown_lets_an_answer_finish_and_takes_no_more() {
    let upstream = Upstream::bind((Ipv4Addr::LOCALHOST, 0).into(), options()).expect("bound");
    let (addr, seen) = (upstream.local_addr(), upstream.seen());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(upstream.serve(async { drop(stopped.await) }));
    let asked = tokio::spawn(async move { respond(addr, &stream("pace=20")).await });
    seen.wait_for_count(1, PATIENCE).await.expect("seen");
    stop.send(()).expect("serving");
    assert_eq!(asked.await.expect("joined").events().len(), 11);
    tokio::time::timeout(PATIENCE, serving).await.expect("in time").expect("joined");
    assert!(TcpStream::connect(addr).await.is_err());
}
