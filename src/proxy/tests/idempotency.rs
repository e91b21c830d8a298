//! `Idempotency-Key`: who asks again gets the answer again, or hears why not; nobody is charged twice unheard.

use std::time::Duration;

use serde_json::{Value, json};

use super::wire::{Answer, request};
use super::world::{Person, Wishes, World};
use crate::access::record::Outcome;
use crate::idempotency::Limits;
use crate::units::Credits;

/// What the simulated upstream is told in a header is no part of the request, as far as its key goes.
fn keyed(world: &World, person: &Person, key: &str, simulate: &str, body: &Value) -> Answer {
    let simulate = if simulate.is_empty() { String::new() } else { format!("x-simulate: {simulate}\r\n") };
    let headers = format!("idempotency-key: {key}\r\ncontent-type: application/json\r\n{simulate}");
    let target = if body["messages"].is_array() { "/v1/chat/completions" } else { "/v1/responses" };
    world.ask("POST", target, &person.key, &headers, body.to_string().as_bytes())
}

fn ask(stream: bool) -> Value {
    json!({"model": "gpt-5.5-sim-out=20", "input": "hello", "stream": stream})
}

fn chat(stream: bool) -> Value {
    json!({"model": "gpt-5.5-sim-out=20", "messages": [{"role": "user", "content": "hello"}], "stream": stream})
}

fn told(answer: &Answer) -> (&str, Option<String>) {
    let told = answer.header("x-access-idempotency");
    let id = told.split("id=\"").nth(1).and_then(|rest| rest.split('"').next());
    (told.split(';').next().unwrap_or_default(), id.map(str::to_owned))
}

/// The headers that carry an answer, or say that it is given again.
const OF_THE_EXCHANGE: [&str; 6] = [
    "x-access-idempotency",
    "x-access-replayed",
    "content-length",
    "transfer-encoding",
    "connection",
    "date",
];

fn said(answer: &Answer) -> Vec<(String, String)> {
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| !OF_THE_EXCHANGE.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    headers.sort();
    headers
}

/// I1, I6: one decision, one call, one charge, however often it is asked for.
#[test]
fn an_answer_is_given_again_byte_for_byte_with_one_call_one_decision_and_one_charge() {
    let world = World::new();
    for (number, body) in [ask(false), ask(true), chat(false), chat(true)].iter().enumerate() {
        let key = format!("key-{number}");
        let first = keyed(&world, &world.anna, &key, "", body);
        assert_eq!((first.status, first.whole), (200, true), "{first:?}");
        let decision = first.decision();
        assert_eq!(told(&first), ("kept", Some(decision.to_string())), "{first:?}");
        world.booked(decision);
        let (before, calls) = (world.wallet(&world.anna), world.upstream_requests().len());
        for _ in 0..2 {
            let again = keyed(&world, &world.anna, &key, "", body);
            assert_eq!((again.status, again.whole), (200, true), "{again:?}");
            assert_eq!(again.text(), first.text());
            assert_eq!(said(&again), said(&first));
            assert_eq!(again.header("x-access-replayed"), "true");
            assert_eq!(told(&again), ("replayed", Some(decision.to_string())));
            let streams = body["stream"] == json!(true);
            assert_eq!(again.header("transfer-encoding") == "chunked", streams, "{again:?}");
        }
        assert_eq!((world.wallet(&world.anna), world.upstream_requests().len()), (before, calls), "{body}");
    }
    assert!(world.upstream_requests().iter().all(|seen| !seen.headers.contains_key("idempotency-key")));
}

#[test]
fn a_request_without_a_key_hears_nothing_of_keys_and_one_with_a_bad_key_is_refused() {
    let world = World::new();
    let plain = world.post("/v1/responses", &ask(false).to_string());
    assert!(!plain.headers.contains_key("x-access-idempotency"), "{plain:?}");
    let calls = world.upstream_requests().len();
    for key in ["", &"k".repeat(256), "a\r\nidempotency-key: b"] {
        let refused = keyed(&world, &world.anna, key, "", &ask(false));
        assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_value"), "{key}");
    }
    assert_eq!(world.upstream_requests().len(), calls);
}

#[test]
fn other_content_under_the_same_key_is_refused_and_another_users_key_is_another_key() {
    let world = World::new();
    let first = keyed(&world, &world.anna, "one", "", &ask(false));
    for other in [ask(true), chat(false), json!({"model": "gpt-5.5-sim-out=20", "input": "bye"})] {
        let refused = keyed(&world, &world.anna, "one", "", &other);
        assert_eq!((refused.status, refused.code().as_str()), (422, "idempotency_key_reused"), "{refused:?}");
        assert_eq!(told(&refused), ("other-content", Some(first.decision().to_string())));
        assert_eq!(refused.header("x-should-retry"), "false");
    }
    let others = keyed(&world, &world.other, "one", "", &ask(true));
    assert_eq!((others.status, told(&others).0), (200, "kept"), "{others:?}");
    assert_eq!(world.upstream_requests().len(), 2);
}

#[test]
fn a_compressed_body_is_the_same_request_as_the_plain_one() {
    let world = World::new();
    let body = ask(false).to_string();
    let first = keyed(&world, &world.anna, "one", "", &ask(false));
    let packed = zstd::encode_all(body.as_bytes(), 3).expect("in memory");
    let headers = "idempotency-key: one\r\ncontent-type: application/json\r\ncontent-encoding: zstd\r\n";
    let again = world.ask("POST", "/v1/responses", &world.anna.key, headers, &packed);
    assert_eq!((again.header("x-access-replayed"), again.text()), ("true", first.text()), "{again:?}");
}

/// Of two at once exactly one goes on; the other is told to come back, and then gets the answer.
#[test]
fn of_many_at_once_exactly_one_goes_on_and_the_others_get_its_answer_when_they_come_back() {
    let world = World::new();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let ask = || keyed(&world, &world.anna, "one", "wait=300", &ask(true));
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asking| asking.join().expect("answered")).collect()
    });
    let (first, others): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((first.len(), others.len()), (1, 7), "{answers:?}");
    let decision = first[0].decision().to_string();
    for other in others {
        assert_eq!((other.status, other.code().as_str()), (409, "idempotency_key_in_use"), "{other:?}");
        assert_eq!((other.header("retry-after"), other.header("x-should-retry")), ("1", ""));
        assert_eq!(told(other), ("in-flight", Some(decision.clone())));
    }
    let again = keyed(&world, &world.anna, "one", "", &ask(true));
    assert_eq!((again.text(), world.upstream_requests().len()), (first[0].text(), 1), "{again:?}");
}

#[test]
fn what_is_too_large_to_keep_says_so_and_its_retry_is_told_the_decision_and_never_charged() {
    let kept = Limits { answer_bytes: 700, ..Limits::default() };
    let world = World::with(&Wishes { kept, ..Wishes::default() });
    // The length of one body is told in its head; a stream's is not, so the bound is.
    for (key, stream, word) in [("json", false, "not-kept"), ("stream", true, "kept")] {
        let first = keyed(&world, &world.anna, key, "", &ask(stream));
        assert_eq!((first.status, told(&first).0), (200, word), "{first:?}");
        assert!(first.header("x-access-idempotency").contains(";max-bytes=700;"), "{first:?}");
        let decision = first.decision();
        let booked = world.booked(decision);
        let before = world.wallet(&world.anna);
        let again = keyed(&world, &world.anna, key, "", &ask(stream));
        assert_eq!((again.status, again.code().as_str()), (409, "idempotency_answer_not_kept"), "{again:?}");
        assert_eq!((again.header("x-should-retry"), again.header("retry-after")), ("false", ""));
        assert_eq!(told(&again), ("not-kept", Some(decision.to_string())));
        let path = format!("/v1/access/decisions/{decision}");
        assert!(again.text().contains(&path), "{again:?}");
        assert_eq!(world.ask("GET", &path, &world.anna.key, "", b"").status, 200);
        assert_eq!((world.wallet(&world.anna), booked.outcome), (before, Outcome::Completed));
    }
    assert_eq!(world.upstream_requests().len(), 2);
}

#[test]
fn what_charged_nothing_leaves_its_key_free_for_a_retry_that_can_succeed() {
    let world = World::new();
    for (key, simulate, status) in [
        ("refused", "status=500", 500),
        ("limited", "status=429", 429),
        ("dropped", "drop", 502),
        ("empty", "204", 204),
        ("auth", "status=401", 502),
    ] {
        let failed = keyed(&world, &world.anna, key, simulate, &ask(false));
        assert_eq!(failed.status, status, "{failed:?}");
        assert!(!failed.headers.contains_key("x-access-idempotency"), "{failed:?}");
        let retried = keyed(&world, &world.anna, key, "", &ask(false));
        assert_eq!((retried.status, told(&retried).0), (200, "kept"), "{key} {retried:?}");
    }
    // Nothing was accepted before its first event, though the head had come.
    let cut = keyed(&world, &world.anna, "cut", "cut=0", &ask(true));
    assert_eq!((cut.status, world.booked(cut.decision()).charge.gross), (200, Credits::ZERO));
    let retried = keyed(&world, &world.anna, "cut", "", &ask(true));
    assert!(retried.text().contains("response.completed"), "{retried:?}");
}

/// I2: a block leaves nothing, its key included.
#[test]
fn a_block_leaves_its_key_free() {
    let world = World::new();
    let blocked = keyed(&world, &world.poor, "one", "", &ask(false));
    assert_eq!((blocked.status, blocked.code().as_str()), (429, "credit_balance_exhausted"));
    let again = keyed(&world, &world.poor, "one", "", &ask(true));
    assert_eq!((again.status, again.code().as_str()), (429, "credit_balance_exhausted"), "{again:?}");
    let unpriced = json!({"model": "nobody-knows", "input": "hello"});
    for _ in 0..2 {
        assert_eq!(keyed(&world, &world.anna, "two", "", &unpriced).status, 404);
    }
}

/// A stream that was cut was charged by what passed, and was ended in protocol: that is its answer.
#[test]
fn a_cut_stream_is_given_again_with_its_end() {
    let world = World::new();
    let first = keyed(&world, &world.anna, "one", "cut=6", &ask(true));
    assert!(first.text().contains("response.failed"), "{first:?}");
    assert_eq!(world.booked(first.decision()).outcome, Outcome::Cut);
    let again = keyed(&world, &world.anna, "one", "", &ask(true));
    assert_eq!((again.header("x-access-replayed"), again.text()), ("true", first.text()));
    // A body of stated length stays cut, so there is no whole answer to give.
    let first = keyed(&world, &world.anna, "two", "cut=1.100", &ask(false));
    assert!(!first.whole, "{first:?}");
    let again = keyed(&world, &world.anna, "two", "", &ask(false));
    assert_eq!((again.status, again.code().as_str()), (409, "idempotency_call_unanswered"), "{again:?}");
    assert_eq!(world.upstream_requests().len(), 2);
}

/// Asks again until the first call has ended.
fn comes_back(world: &World, key: &str) -> Answer {
    let again = || keyed(world, &world.anna, key, "", &ask(true));
    let ended = eventually(|| Some(again()).filter(|again| !again.text().contains("idempotency_key_in_use")));
    ended.expect("the first call ends")
}

/// Looks until there is something, for some seconds.
fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    (0..2000).find_map(|_| {
        let found = look();
        if found.is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        found
    })
}

/// I9, I6: a client that leaves is charged by what passed, and its retry is told so.
#[test]
fn a_client_that_leaves_is_told_its_decision_when_it_comes_back_and_is_not_charged_again() {
    let world = World::new();
    for (key, begun) in [("early", false), ("late", true)] {
        let calls = world.upstream_requests().len();
        let headers = format!(
            "idempotency-key: {key}\r\ncontent-type: application/json\r\nx-simulate: {}\r\n",
            if begun { "pace=100" } else { "wait=5000" }
        );
        let mut client = world.client();
        let body = ask(true).to_string();
        client.send(&request("POST", "/v1/responses", &world.anna.key, &headers, body.as_bytes()));
        if begun {
            client.read_until("response.created");
        } else {
            let begun = eventually(|| (world.upstream_requests().len() > calls).then_some(()));
            begun.expect("it reaches the upstream");
        }
        drop(client);
        world.wait_idle();
        let before = world.wallet(&world.anna);
        let again = comes_back(&world, key);
        assert_eq!((again.status, again.code().as_str()), (409, "idempotency_call_unanswered"), "{again:?}");
        let (word, decision) = told(&again);
        let booked = world.booked(decision.expect("told").parse().expect("an id"));
        assert_eq!((word, booked.outcome), ("unanswered", Outcome::ClientGone), "{again:?}");
        assert!(!booked.charge.gross.is_zero(), "{booked:?}");
        assert_eq!((again.header("x-should-retry"), world.wallet(&world.anna)), ("false", before));
        assert_eq!(world.upstream_requests().len(), calls + 1);
    }
}

/// A request that dies in the gateway before it leaves charges nothing; one that may have left is told.
#[test]
fn a_key_does_not_outlive_a_request_that_panics() {
    let world = World::new();
    world.brittle.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut client = world.client();
    let headers = "idempotency-key: one\r\ncontent-type: application/json\r\n";
    let body = ask(true).to_string();
    client.send(&request("POST", "/v1/responses", &world.anna.key, headers, body.as_bytes()));
    world.newest(world.anna.account);
    world.brittle.store(false, std::sync::atomic::Ordering::SeqCst);
    let again = comes_back(&world, "one");
    assert_eq!((again.status, again.code().as_str()), (409, "idempotency_call_unanswered"), "{again:?}");
}

/// Where it cannot be known whether a key was used, nothing is held and nothing is charged.
#[test]
fn a_store_that_cannot_be_written_refuses_requests_with_a_key_before_anything_is_held() {
    let world = World::new();
    keyed(&world, &world.anna, "before", "", &ask(false));
    let (before, calls) = (world.wallet(&world.anna), world.upstream_requests().len());
    let file = rusqlite::Connection::open(world.folder.path().join("idempotency.sqlite")).expect("the file");
    file.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let refused = keyed(&world, &world.anna, "one", "", &ask(false));
    assert_eq!((refused.status, refused.code().as_str()), (503, "server_is_overloaded"), "{refused:?}");
    assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    assert_eq!((world.wallet(&world.anna), world.upstream_requests().len()), (before, calls));
    assert_eq!(world.post("/v1/responses", &ask(false).to_string()).status, 200, "without a key all goes on");
    file.execute_batch("ROLLBACK").expect("let go");
    let retried = keyed(&world, &world.anna, "one", "", &ask(false));
    assert_eq!((retried.status, told(&retried).0), (200, "kept"), "{retried:?}");
}

/// I6: a video is made once, however often it is asked for, and whatever boundary its form came with.
#[test]
fn a_video_that_is_asked_for_again_is_not_made_again() {
    let world = World::new();
    let json = r#"{"model": "sora-2", "prompt": "a cat"}"#.to_owned();
    let form = |boundary: &str| {
        let field = |name: &str, value: &str| {
            format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let form = format!("{}{}--{boundary}--\r\n", field("model", "sora-2"), field("prompt", "a cat"));
        (format!("multipart/form-data; boundary={boundary}"), form)
    };
    let ask = |key: &str, (kind, body): &(String, String)| {
        let headers = format!("idempotency-key: {key}\r\ncontent-type: {kind}\r\n");
        world.ask("POST", "/v1/videos", &world.anna.key, &headers, body.as_bytes())
    };
    let plain = ("application/json".to_owned(), json);
    for (key, once, again) in [("json", &plain, &plain), ("form", &form("one"), &form("another"))] {
        let first = ask(key, once);
        assert_eq!((first.status, told(&first).0), (200, "kept"), "{first:?}");
        let (before, calls) = (world.wallet(&world.anna), world.upstream_requests().len());
        let again = ask(key, again);
        assert_eq!((again.header("x-access-replayed"), again.text()), ("true", first.text()), "{again:?}");
        assert_eq!(said(&again), said(&first));
        assert_eq!((world.wallet(&world.anna), world.upstream_requests().len()), (before, calls));
    }
    let other = ask("form", &plain);
    assert_eq!((other.status, other.code().as_str()), (422, "idempotency_key_reused"), "{other:?}");
    let refused =
        ("application/json".to_owned(), r#"{"model": "sora-2-sim-status=500", "prompt": "x"}"#.to_owned());
    for _ in 0..2 {
        let answer = ask("refused", &refused);
        assert_eq!(
            (answer.status, told(&answer).0),
            (500, ""),
            "what charged nothing is tried again: {answer:?}"
        );
    }
}

/// A job goes on after its call: its answer is kept although its hold is open.
#[test]
fn a_background_response_that_is_asked_for_again_is_the_same_one() {
    let world = World::new();
    for (key, stream) in [("body", false), ("stream", true)] {
        let body = json!({"model": "gpt-5.5-sim-out=20+runs=100", "input": "hi", "stream": stream, "background": true});
        let first = keyed(&world, &world.anna, key, "", &body);
        assert_eq!((first.status, told(&first).0), (200, "kept"), "{first:?}");
        let calls = world.upstream_requests().len();
        let again = keyed(&world, &world.anna, key, "", &body);
        assert_eq!((again.header("x-access-replayed"), again.text()), ("true", first.text()), "{again:?}");
        assert_eq!(world.upstream_requests().len(), calls);
    }
}
