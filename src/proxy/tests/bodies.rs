//! Bodies: sizes around every bound, encodings, and what is wrong with them.

use std::io::Write;
use std::time::Duration;

use serde_json::json;

use super::wire::{chunked, request};
use super::world::{Wishes, World};
use crate::meter::Meter;
use crate::proxy::body::Limits;

/// A body of exactly `size` bytes.
fn body_of(size: usize) -> String {
    let empty = json!({"model": "gpt-5.5-sim-out=1", "input": "", "max_output_tokens": 16}).to_string();
    let filled = json!({"model": "gpt-5.5-sim-out=1", "input": "a".repeat(size - empty.len()), "max_output_tokens": 16});
    let body = filled.to_string();
    assert_eq!(body.len(), size);
    body
}

#[test]
fn a_body_arrives_upstream_byte_for_byte_whatever_its_size() {
    let world = World::with(&Wishes { credits: "1000000", ..Wishes::default() });
    for size in [200, 4096, 65_535, 65_536, 65_537, 131_072, 1_000_000, 8_000_000] {
        let body = body_of(size);
        let answer = world.post("/v1/responses", &body);
        assert_eq!(answer.status, 200, "{size}: {answer:?}");
        let seen = world.upstream_requests().pop().expect("a request");
        assert!(seen.body == body.as_bytes(), "{size}: {} bytes came", seen.body.len());
        assert_eq!(seen.headers["content-length"], size.to_string());
    }
}

#[test]
fn a_body_that_is_rewritten_arrives_whole_whatever_its_size() {
    let world = World::with(&Wishes { credits: "1000000", ..Wishes::default() });
    for size in [300, 65_400, 65_536, 200_000, 2_000_000] {
        let message = "a".repeat(size);
        let body = json!({"model": "gpt-5.5-sim-out=1", "stream": true, "messages": [{"role": "user", "content": message}]});
        let answer = world.post("/v1/chat/completions", &body.to_string());
        assert_eq!(answer.status, 200, "{size}: {answer:?}");
        let seen = world.upstream_requests().pop().expect("a request");
        let mut arrived: serde_json::Value = serde_json::from_slice(&seen.body).expect("JSON");
        assert_eq!(arrived["stream_options"].take(), json!({"include_usage": true}), "{size}");
        arrived.as_object_mut().expect("an object").remove("stream_options");
        assert!(arrived == body, "{size}");
    }
}

#[test]
fn a_body_of_unstated_length_passes_up_to_64_kib_and_gets_a_reason_beyond() {
    let world = World::with(&Wishes { credits: "1000000", ..Wishes::default() });
    for (size, status) in [(200, 200), (50_000, 200), (65_536, 200), (65_537, 411), (200_000, 411)] {
        let body = body_of(size);
        let answer = world.client().exchange(&chunked("/v1/responses", &world.anna.key, body.as_bytes()));
        assert_eq!(answer.status, status, "{size}: {answer:?}");
        if status == 200 {
            assert!(world.upstream_requests().pop().expect("a request").body == body.as_bytes(), "{size}");
        } else {
            assert_eq!(answer.code(), "length_required");
            assert!(answer.text().contains("64 KiB"), "{}", answer.text());
        }
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).expect("in memory");
    encoder.finish().expect("in memory")
}

#[test]
fn a_compressed_body_is_metered_and_forwarded_as_it_came_or_decoded_where_it_is_rewritten() {
    let world = World::with(&Wishes { credits: "1000000", ..Wishes::default() });
    for size in [300, 200_000, 2_000_000] {
        let plain = body_of(size);
        let zstd = zstd::encode_all(plain.as_bytes(), 1).expect("in memory");
        for (encoding, encoded) in [("gzip", gzip(plain.as_bytes())), ("zstd", zstd)] {
            let headers = format!("content-encoding: {encoding}\r\n");
            let answer = world.ask("POST", "/v1/responses", &world.anna.key, &headers, &encoded);
            assert_eq!(answer.status, 200, "{encoding} {size}: {answer:?}");
            let seen = world.upstream_requests().pop().expect("a request");
            assert_eq!(seen.headers["content-encoding"], encoding);
            assert!(seen.body == encoded, "{encoding} {size}");
        }
    }
    let chat = json!({"model": "gpt-5.5-sim-out=1", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let encoded = gzip(chat.to_string().as_bytes());
    let answer =
        world.ask("POST", "/v1/chat/completions", &world.anna.key, "content-encoding: gzip\r\n", &encoded);
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = world.upstream_requests().pop().expect("a request");
    assert!(!seen.headers.contains_key("content-encoding"));
    assert!(seen.body.starts_with(b"{"), "{:?}", seen.body);
}

#[test]
fn what_cannot_be_read_is_refused_before_any_hold() {
    let limits =
        Limits { bytes_max: 100_000, buffered_bytes_max: 1 << 20, timeout: Duration::from_millis(300) };
    let world = World::with(&Wishes { bodies: limits, ..Wishes::default() });
    let bomb = gzip(&vec![b' '; 5_000_000]);
    let key = &world.anna.key;
    let zstd_cut = &zstd::encode_all(body_of(500).as_bytes(), 1).expect("in memory")[..50];
    for (headers, body, status, code) in [
        ("", &b"{\"model\": \"gpt-5.5\", "[..], 400, "invalid_json"),
        ("", b"{not json}", 400, "invalid_json"),
        ("", b"", 400, "invalid_json"),
        ("", b"[1]", 400, "invalid_type"),
        ("", b"{\"input\": \"no model\"}", 400, "missing_required_parameter"),
        ("content-encoding: br\r\n", b"{}", 415, "unsupported_encoding"),
        ("content-encoding: gzip\r\n", b"not gzip", 400, "invalid_value"),
        ("content-encoding: zstd\r\n", zstd_cut, 400, "invalid_value"),
        ("content-encoding: gzip\r\n", &bomb, 413, "request_too_large"),
        ("", body_of(100_001).as_bytes(), 413, "request_too_large"),
    ] {
        let answer = world.ask("POST", "/v1/responses", key, headers, body);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{headers} {answer:?}");
    }
    for (member, status) in [
        (json!({"max_output_tokens": -1}), 400),
        (json!({"max_output_tokens": "many"}), 400),
        (json!({"max_output_tokens": 1e300}), 400),
        (json!({"background": "yes"}), 400),
        (json!({"stream": "yes"}), 400),
    ] {
        let mut body = json!({"model": "gpt-5.5", "input": "hi"});
        body.as_object_mut().expect("an object").extend(member.as_object().expect("an object").clone());
        assert_eq!(world.post("/v1/responses", &body.to_string()).status, status, "{member}");
    }
    assert_eq!(world.seen.count(), 0);
    assert_eq!(world.meter.stats().holds, 0);
    assert_eq!(world.wallet(&world.anna).to_string(), "1000");
}

#[test]
fn a_body_that_comes_too_slowly_or_ends_too_early_is_refused() {
    let limits = Limits { timeout: Duration::from_millis(300), ..Limits::default() };
    let world = World::with(&Wishes { bodies: limits, ..Wishes::default() });
    let whole = request("POST", "/v1/responses", &world.anna.key, "", body_of(500).as_bytes());
    let mut slow = world.client();
    slow.send(&whole[..whole.len() - 5]);
    assert_eq!((slow.answer().status, world.seen.count()), (408, 0));
    let mut cut = world.client();
    cut.send(&whole[..whole.len() - 5]);
    cut.half_close();
    assert_eq!((cut.answer().status, world.seen.count()), (400, 0));
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let world = World::new();
    let mut client = world.client();
    let body = vec![b' '; 16 << 20];
    let answer = client.exchange(&request("POST", "/v1/responses", "ofk_wrong", "", &body));
    assert_eq!((answer.status, answer.header("connection"), world.seen.count()), (401, "close", 0));
    assert!(client.is_closed(), "what follows is no request");
}

#[test]
fn bodies_that_find_no_room_are_refused_for_the_moment() {
    let limits =
        Limits { buffered_bytes_max: 64 << 10, timeout: Duration::from_secs(5), ..Limits::default() };
    let world = World::with(&Wishes { bodies: limits, ..Wishes::default() });
    let big = request("POST", "/v1/responses", &world.anna.key, "", body_of(100_000).as_bytes());
    let answer = world.client().exchange(&big);
    assert_eq!((answer.status, answer.code().as_str()), (503, "server_is_overloaded"), "{answer:?}");
    let wait: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!((1..=5).contains(&wait));
    assert_eq!(world.post("/v1/responses", &body_of(500)).status, 200, "the room is free again");
}

#[test]
fn a_client_that_waits_to_be_told_to_go_on_is_told_at_once() {
    let world = World::with(&Wishes { credits: "1000000", ..Wishes::default() });
    let body = body_of(1_000_000);
    let whole =
        request("POST", "/v1/responses", &world.anna.key, "expect: 100-continue\r\n", body.as_bytes());
    let mut client = world.client();
    client.send(&whole[..whole.len() - body.len()]);
    assert!(client.read_until("\r\n\r\n").starts_with("HTTP/1.1 100"), "told to go on");
    client.send(body.as_bytes());
    assert_eq!(client.answer().status, 200);
    let seen = world.upstream_requests().pop().expect("a request");
    assert!(!seen.headers.contains_key("expect"));
    assert!(seen.body == body.as_bytes());
}
