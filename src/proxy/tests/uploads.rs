//! Forms of the Videos API: read whole, or passed on as they come.

use serde_json::json;

use super::wire::{chunked, request};
use super::world::{Wishes, World};
use crate::access::record::Outcome;
use crate::proxy::body::Limits;

const KIND: &str = "content-type: multipart/form-data; boundary=0123456789abcdef\r\n";

/// A form as the Python SDK sends it: fields, then a file.
fn form(fields: &[(&str, &str)], file: Option<(&str, usize)>, behind: &[(&str, &str)]) -> Vec<u8> {
    let mut form = Vec::new();
    let mut field = |name: &str, value: &[u8], extra: &str| {
        let head =
            format!("--0123456789abcdef\r\nContent-Disposition: form-data; name=\"{name}\"{extra}\r\n\r\n");
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(value);
        form.extend_from_slice(b"\r\n");
    };
    for (name, value) in fields {
        field(name, value.as_bytes(), "");
    }
    if let Some((name, size)) = file {
        let content: Vec<u8> = (0..size).map(|place| u8::try_from(place % 251).expect("a byte")).collect();
        field(name, &content, "; filename=\"ref.mp4\"\r\nContent-Type: video/mp4");
    }
    for (name, value) in behind {
        field(name, value.as_bytes(), "");
    }
    form.extend_from_slice(b"--0123456789abcdef--\r\n");
    form
}

fn small() -> World {
    World::with(&Wishes { bodies: Limits { bytes_max: 100_000, ..Limits::default() }, ..Wishes::default() })
}

#[test]
fn a_form_is_priced_by_its_fields_and_arrives_byte_for_byte_whatever_its_size() {
    let world = small();
    let fields = [("prompt", "a cat"), ("model", "sora-2-pro"), ("seconds", "8"), ("size", "1024x1792")];
    for size in [None, Some(10), Some(50_000), Some(99_000), Some(100_000), Some(131_072), Some(5_000_000)] {
        let body = form(&fields, size.map(|size| ("input_reference", size)), &[]);
        let answer = world.ask("POST", "/v1/videos", &world.anna.key, KIND, &body);
        assert_eq!(answer.status, 200, "{size:?}: {answer:?}");
        assert!(answer.header("x-access-sources").contains("take=\"100\""), "{answer:?}");
        let seen = world.upstream_requests().pop().expect("a request");
        assert_eq!(seen.body_bytes, body.len() as u64, "{size:?}");
        assert!(body.starts_with(&seen.body), "{size:?}");
        assert_eq!(seen.headers["content-length"], body.len().to_string());
        assert_eq!(seen.headers["content-type"], KIND.trim_end().split_once(": ").expect("a header").1);
    }
}

#[test]
fn defaults_stand_where_a_form_says_nothing() {
    let world = World::new();
    let answer =
        world.ask("POST", "/v1/videos", &world.anna.key, KIND, &form(&[("prompt", "a cat")], None, &[]));
    assert!(answer.header("x-access-sources").contains("take=\"10\""), "{answer:?}");
}

#[test]
fn an_uploaded_source_of_unknown_length_is_held_at_the_longest_and_charged_as_it_is() {
    let world = World::new();
    let body = form(&[("prompt", "again")], Some(("video", 1000)), &[]);
    let answer = world.ask("POST", "/v1/videos/edits", &world.anna.key, KIND, &body);
    assert!(answer.header("x-access-sources").contains("take=\"300\""), "120 s: {answer:?}");
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    world.ask("GET", &format!("/v1/videos/{id}"), &world.anna.key, "", b"");
    let row = world.booked(answer.decision());
    assert_eq!((row.used.seconds, row.charge.charged.to_string()), (4, "10".to_owned()));
}

#[test]
fn what_prices_a_large_form_stands_at_its_beginning_or_it_goes_no_further() {
    let world = small();
    let file = Some(("input_reference", 300_000));
    for (fields, behind) in [
        (vec![("prompt", "p")], vec![("seconds", "900")]),
        (vec![("prompt", "p"), ("seconds", "4")], vec![("seconds", "900")]),
        (vec![("prompt", "p")], vec![("model", "sora-2-pro")]),
        (vec![("prompt", "p")], vec![("size", "1024x1792")]),
        (vec![("prompt", "p")], vec![("characters[][id]", "char_1")]),
        (vec![("prompt", "p")], vec![("input_reference[file_id]", "file-1")]),
    ] {
        let body = form(&fields, file, &behind);
        let answer = world.ask("POST", "/v1/videos", &world.anna.key, KIND, &body);
        assert_eq!(answer.status, 400, "{behind:?}: {answer:?}");
        let message = answer.json()["error"]["message"].as_str().expect("a message").to_owned();
        assert!(message.contains(behind[0].0) && message.contains("64 KiB"), "{message}");
        assert_eq!(world.booked(answer.decision()).outcome, Outcome::Refused);
    }
    let long = "p".repeat(200_000);
    let body = form(&[("prompt", &long), ("seconds", "8")], file, &[]);
    let answer = world.ask("POST", "/v1/videos", &world.anna.key, KIND, &body);
    assert_eq!(answer.status, 400, "{answer:?}");
    let fine = form(&[("seconds", "8")], file, &[("prompt", "behind")]);
    let answer = world.ask("POST", "/v1/videos", &world.anna.key, KIND, &fine);
    assert_eq!(answer.status, 200, "what prices nothing may stand anywhere");
    assert!(answer.header("x-access-sources").contains("take=\"20\""), "{answer:?}");
    // Of none of the others had the upstream the end.
    let whole = world.upstream_requests().iter().filter(|seen| seen.body_bytes > 0).count();
    assert_eq!(whole, 1);
    assert_eq!(world.wallet(&world.anna).to_string(), "980");
}

#[test]
fn what_is_no_form_is_refused_before_any_hold() {
    let world = small();
    let key = &world.anna.key;
    let good = form(&[("prompt", "p")], None, &[]);
    let twice = form(&[("seconds", "4"), ("seconds", "900")], None, &[]);
    let cut = &good[..good.len() - 10];
    let large = form(&[("prompt", "p")], None, &[("prompt", &"p".repeat(200_000))]);
    let json_large = json!({"prompt": "p".repeat(200_000)}).to_string();
    for (headers, body, status) in [
        (KIND, &twice[..], 400),
        (KIND, cut, 400),
        (KIND, b"", 400),
        (KIND, b"{\"prompt\": \"p\"}", 400),
        ("content-type: multipart/form-data\r\n", &good, 400),
        ("content-type: multipart/mixed; boundary=0123456789abcdef\r\n", &good, 400),
        ("content-type: application/x-www-form-urlencoded\r\n", b"prompt=p", 400),
        ("content-type: application/json\r\ncontent-type: multipart/form-data; boundary=a\r\n", &good, 400),
        ("content-type: application/json\r\n", &good, 400),
        ("content-type: application/json\r\n", json_large.as_bytes(), 413),
        (
            "content-encoding: gzip\r\ncontent-type: multipart/form-data; boundary=0123456789abcdef\r\n",
            &large,
            415,
        ),
    ] {
        let answer = world.ask("POST", "/v1/videos", key, headers, body);
        assert_eq!(answer.status, status, "{headers} {answer:?}");
    }
    let unstated = world.client().exchange(&chunked("/v1/videos", key, &vec![b' '; 70_000]));
    assert_eq!(unstated.status, 411);
    assert_eq!(world.seen.count(), 0);
    assert_eq!(world.wallet(&world.anna).to_string(), "1000");
}

#[test]
fn a_client_that_leaves_in_the_middle_of_an_upload_is_charged_nothing() {
    let world = small();
    let body = form(&[("prompt", "p")], Some(("input_reference", 3_000_000)), &[]);
    let whole = request("POST", "/v1/videos", &world.anna.key, KIND, &body);
    let mut client = world.client();
    client.send(&whole[..whole.len() - 100_000]);
    drop(client);
    world.wait_idle();
    assert_eq!(world.newest(world.anna.account).outcome, Outcome::Refused);
    assert_eq!(world.wallet(&world.anna).to_string(), "1000");
}

#[test]
fn an_upload_that_waits_to_be_told_to_go_on_is_told() {
    let world = small();
    let body = form(&[("prompt", "p")], Some(("input_reference", 1_000_000)), &[]);
    let headers = format!("{KIND}expect: 100-continue\r\n");
    let whole = request("POST", "/v1/videos", &world.anna.key, &headers, &body);
    let mut client = world.client();
    client.send(&whole[..whole.len() - body.len()]);
    assert!(client.read_until("\r\n\r\n").starts_with("HTTP/1.1 100"), "told to go on");
    client.send(&body);
    let answer = client.answer();
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_connection_goes_on_after_a_creation() {
    let world = small();
    let mut client = world.client();
    for size in [None, Some(1_000), Some(1_000_000)] {
        let body = form(&[("prompt", "p")], size.map(|size| ("input_reference", size)), &[]);
        let made = client.exchange(&request("POST", "/v1/videos", &world.anna.key, KIND, &body));
        assert_eq!(made.status, 200, "{size:?} {made:?}");
    }
    let listed = client.exchange(&request("GET", "/v1/videos", &world.anna.key, "", b""));
    assert_eq!(listed.status, 200);
}
