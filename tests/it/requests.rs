//! Bad input: each kind gets a clear answer, before any hold, and nothing of it reaches the upstream.

use std::io::Write;

use serde_json::json;

use crate::harness::admin::Caller;
use crate::harness::client::ask;
use crate::harness::{Client, Gateway, Setup};

/// What a test of bad input begins with: a caller with a credit, so that any hold would show.
fn start(setup: Setup) -> (Gateway, Caller, Client) {
    let gateway = setup.start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "1");
    (gateway, caller, client)
}

/// Nothing was sent, held or charged: the one credit still buys what costs one.
async fn nothing_happened(gateway: &Gateway, client: &Client) {
    assert_eq!(gateway.upstream.seen.count(), 0, "it reached the upstream");
    client.respond("one").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_price_is_refused() {
    let (gateway, _, client) = start(Setup::default());
    for model in ["gpt-4o", "", "ONE", "o"] {
        let answer = client.respond(model).await;
        assert!(matches!(answer.status, 404 | 400), "{model}: {}", answer.status);
        assert_eq!(answer.error().0, "invalid_request_error");
    }
    let answer = client.respond("gpt-4o").await.expect(404);
    assert_eq!(answer.error().1, "model_not_found");
    assert_eq!(answer.told("reason").as_deref(), Some("unpriced-model"));
    let missing = client.post("/v1/responses", &json!({"input": "x"})).await.expect(400);
    assert_eq!(missing.error().0, "invalid_request_error");
    nothing_happened(&gateway, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_on_output_is_a_whole_number_above_zero() {
    let (gateway, _, client) = start(Setup::default());
    for bound in [json!(-1), json!("64"), json!(0), json!(1.5), json!([1]), json!({}), json!(-1e300)] {
        for (path, member) in
            [("/v1/responses", "max_output_tokens"), ("/v1/chat/completions", "max_completion_tokens")]
        {
            let body = json!({"model": "one", "input": "x", "messages": [], member: bound});
            let answer = client.post(path, &body).await.expect(400);
            assert_eq!(answer.error().0, "invalid_request_error", "{member}: {bound}");
            assert_eq!(answer.json()["error"]["param"], member, "{member}: {bound}");
        }
    }
    nothing_happened(&gateway, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_bound_on_output_neither_overflows_nor_pins_the_user() {
    let gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "100");
    for bound in [json!(u64::MAX), json!(i64::MAX), json!(1_000_000_000)] {
        let answer = client
            .post("/v1/responses", &json!({"model": "gpt-5.5", "input": "x", "max_output_tokens": bound}))
            .await;
        assert!(matches!(answer.status, 200 | 400), "{bound}: {}", answer.status);
        if answer.status == 400 {
            assert_eq!(answer.error().0, "invalid_request_error");
        }
    }
    let huge = format!(r#"{{"model":"one","input":"x","max_output_tokens":1{}}}"#, "0".repeat(400));
    client.send("POST", "/v1/responses", huge).await.expect(400);
    client.respond("gpt-5.5").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_json_is_refused() {
    let (gateway, _, client) = start(Setup::default());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: [&[u8]; 9] = [
        b"{",
        b"nonsense",
        b"[]",
        b"\"one\"",
        b"{\"model\": \"one\",}",
        b"{\"model\": \"one\"} {\"model\": \"one\"}",
        b"{\"model\": \"one\", \"input\": \"\xff\xfe\"}",
        b"\0\0\0\0",
        deep.as_bytes(),
    ];
    for body in bodies {
        let answer = client.send("POST", "/v1/responses", body.to_vec()).await.expect(400);
        assert_eq!(
            answer.error().0,
            "invalid_request_error",
            "{}",
            String::from_utf8_lossy(&body[..body.len().min(80)])
        );
    }
    client.send("POST", "/v1/responses", Vec::new()).await.expect(400);
    nothing_happened(&gateway, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_named_twice_cannot_say_two_things() {
    let (gateway, _, client) = start(Setup::default());
    let twice = r#"{"model": "one", "model": "gpt-5.5", "input": "x", "max_output_tokens": 1, "max_output_tokens": 100000}"#;
    client.send("POST", "/v1/responses", twice).await.expect(400);
    nothing_happened(&gateway, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_cut_short_holds_nothing() {
    let (gateway, _, client) = start(Setup::default());
    let body = ask("one").to_string();
    let head = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: x\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        client.header_lines(),
        body.len()
    );
    for sent in [0, 1, body.len() / 2, body.len() - 1] {
        let mut socket = tokio::net::TcpStream::connect(gateway.addr).await.expect("a connection");
        let bytes = [head.as_bytes(), &body.as_bytes()[..sent]].concat();
        tokio::io::AsyncWriteExt::write_all(&mut socket, &bytes).await.expect("written");
    }
    let chunked = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: x\r\n{}transfer-encoding: chunked\r\n\r\n10\r\n{{\"model\":",
        client.header_lines()
    );
    let mut socket = tokio::net::TcpStream::connect(gateway.addr).await.expect("a connection");
    tokio::io::AsyncWriteExt::write_all(&mut socket, chunked.as_bytes()).await.expect("written");
    drop(socket);
    nothing_happened(&gateway, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_gets_413_with_and_without_saying_so_first() {
    let (gateway, _, client) = start(Setup::default().deployment("limits: {body: 128KiB, bodies: 1MiB}"));
    let body = json!({"model": "one", "input": "x".repeat(200 << 10)}).to_string();
    let answer = client.send("POST", "/v1/responses", body).await.expect(413);
    assert_eq!(answer.error(), ("invalid_request_error".to_owned(), "request_too_large".to_owned()));
    let zeros = vec![b' '; 4 << 20];
    for (encoding, body) in
        [("gzip", gzipped(&zeros)), ("zstd", zstd::encode_all(&zeros[..], 0).expect("zstd"))]
    {
        assert!(body.len() < 128 << 10, "the bomb is small while it is packed");
        let client = client.clone().with("content-encoding", encoding);
        let answer = client.send("POST", "/v1/responses", body).await.expect(413);
        assert_eq!(answer.error().1, "request_too_large", "{encoding}");
    }
    nothing_happened(&gateway, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_without_a_length_gets_411_that_says_why() {
    let (gateway, _, client) = start(Setup::default());
    let chunk = "a".repeat(0x8000);
    let mut request = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: x\r\n{}connection: close\r\ntransfer-encoding: chunked\r\n\r\n",
        client.header_lines()
    );
    for _ in 0..4 {
        request.extend(["8000\r\n", &chunk, "\r\n"]);
    }
    request.push_str("0\r\n\r\n");
    let told = String::from_utf8_lossy(&client.raw(request.as_bytes()).await).into_owned();
    assert!(told.starts_with("HTTP/1.1 411"), "{told}");
    assert!(told.contains("Content-Length") && told.contains("length_required"), "{told}");
    nothing_happened(&gateway, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coding_that_cannot_be_read_gets_415_and_a_broken_one_400() {
    let (gateway, _, client) = start(Setup::default());
    for encoding in ["br", "deflate", "gzip, gzip", "rot13"] {
        let client = client.clone().with("content-encoding", encoding);
        let answer = client.post("/v1/responses", &ask("one")).await.expect(415);
        assert_eq!(answer.error().1, "unsupported_encoding", "{encoding}");
    }
    for encoding in ["gzip", "zstd"] {
        client
            .clone()
            .with("content-encoding", encoding)
            .post("/v1/responses", &ask("one"))
            .await
            .expect(400);
    }
    nothing_happened(&gateway, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_bodies_are_read_for_metering_and_forwarded_as_they_came() {
    let gateway = Gateway::start();
    let (_, client) = gateway.caller("free");
    let body = ask("gpt-5.5").to_string().into_bytes();
    for (encoding, packed) in
        [("gzip", gzipped(&body)), ("zstd", zstd::encode_all(&body[..], 0).expect("zstd"))]
    {
        let client = client.clone().with("content-encoding", encoding);
        let answer = client.send("POST", "/v1/responses", packed.clone()).await.expect(200);
        assert_eq!(answer.json()["status"], "completed");
        let seen = gateway.upstream.seen.requests().pop().expect("it came");
        assert_eq!(
            (&seen.body[..], &seen.headers["content-encoding"]),
            (&packed[..], &encoding.parse().expect("ASCII"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_too_long_over_its_body_gets_408() {
    let (gateway, _, client) = start(Setup::default().deployment("limits: {body_time: 1s}"));
    let head = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: x\r\n{}content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{",
        client.header_lines()
    );
    let told = client.raw(head.as_bytes()).await;
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.starts_with("HTTP/1.1 408") && told.contains("request_timeout"), "{told}");
    nothing_happened(&gateway, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_built_yet_is_refused_and_says_so() {
    let (gateway, _, client) = start(Setup::default());
    let upgrade = client.clone().with("connection", "upgrade").with("upgrade", "websocket");
    let answer = upgrade.get("/v1/responses").await.expect(426);
    assert_eq!(answer.error().1, "upgrade_required");
    nothing_happened(&gateway, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_lengths_are_not_two_requests() {
    let (gateway, _, client) = start(Setup::default());
    let body = ask("one").to_string();
    let headers = client.header_lines();
    let smuggled = format!("GET /v1/models HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n");
    for lengths in [
        format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", body.len()),
        format!("content-length: {}\r\ncontent-length: {}\r\n", body.len(), body.len() + 1),
        "content-length: -1\r\n".to_owned(),
        "content-length: 1e3\r\n".to_owned(),
    ] {
        let request = format!(
            "POST /v1/responses HTTP/1.1\r\nhost: x\r\n{headers}{lengths}\r\n0\r\n\r\n{body}{smuggled}"
        );
        let told = client.raw(request.as_bytes()).await;
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 400"), "{lengths}: {told}");
        assert_eq!(told.matches("HTTP/1.1 ").count(), usize::from(!told.is_empty()), "{lengths}: {told}");
    }
    nothing_happened(&gateway, &client).await;
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("into memory");
    encoder.finish().expect("into memory")
}
