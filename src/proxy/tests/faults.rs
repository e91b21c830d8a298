//! What interrupts a request, on either side and in between: each has a defined end (I9), charged by outcome.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use serde_json::json;

use super::wire::request;
use super::world::{PATIENCE, Wishes, World, nobody};
use crate::access::record::{Grade, Outcome};
use crate::meter::Meter;
use crate::simulate::End;

fn responses(words: &str, stream: bool) -> String {
    json!({"model": format!("gpt-5.5-sim-{words}"), "input": "a".repeat(40), "stream": stream}).to_string()
}

fn chat(words: &str) -> String {
    let messages = [json!({"role": "user", "content": "a".repeat(40)})];
    json!({"model": format!("gpt-5.5-sim-{words}"), "messages": messages, "stream": true}).to_string()
}

/// Design section 3: nothing is charged if the upstream refused or failed before it accepted.
#[test]
fn what_the_upstream_refuses_is_passed_on_and_voided_before_its_header_leaves() {
    let world = World::new();
    for (words, status) in
        [("status=400", 400), ("status=429", 429), ("status=500", 500), ("status=503", 503), ("204", 204)]
    {
        for stream in [false, true] {
            let before = world.wallet(&world.anna);
            let answer = world.post("/v1/responses", &responses(words, stream));
            assert_eq!((answer.status, answer.whole), (status, true), "{words} {answer:?}");
            assert_eq!(world.wallet(&world.anna), before, "given back when the answer is there: {words}");
            let row = world.booked(answer.decision());
            assert_eq!((row.outcome, row.status), (Outcome::Refused, Some(status)), "{words} {row:?}");
            assert!(row.charge.gross.is_zero() && row.used.input_tokens == 0, "{words} {row:?}");
        }
    }
}

#[test]
fn an_upstream_that_does_not_accept_the_gateways_key_is_the_gateways_fault() {
    let world = World::with(&Wishes { upstream_key: "sk-wrong-secret", ..Wishes::default() });
    for body in [responses("out=1", false), responses("out=1", true)] {
        let answer = world.post("/v1/responses", &body);
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unavailable"), "{answer:?}");
        assert!(!answer.text().contains("secret") && !answer.headers.contains_key("www-authenticate"));
        assert_eq!(world.booked(answer.decision()).outcome, Outcome::Refused);
    }
    let models = world.ask("GET", "/v1/models", &world.anna.key, "", b"");
    assert_eq!(models.status, 502, "{models:?}");
    assert_eq!(world.wallet(&world.anna).to_string(), "1000");
}

#[test]
fn an_upstream_that_cannot_be_reached_or_hangs_up_charges_nothing() {
    let down = World::with(&Wishes { upstream: Some(nobody()), ..Wishes::default() });
    let answer = down.post("/v1/responses", &responses("out=1", false));
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unavailable"), "{answer:?}");
    assert!(!answer.text().contains("refused"), "no internal cause: {}", answer.text());
    assert_eq!(down.wallet(&down.anna).to_string(), "1000");
    down.wait_idle();

    let world = World::new();
    let answer = world.post("/v1/responses", &responses("drop", true));
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unavailable"), "{answer:?}");
    assert_eq!(world.booked(answer.decision()).outcome, Outcome::Refused);
    assert_eq!(world.seen.count(), 1, "a POST is sent once");
    assert_eq!(world.wallet(&world.anna).to_string(), "1000");
}

#[test]
fn an_upstream_that_does_not_answer_in_time_charges_nothing() {
    let world = World::with(&Wishes { read_timeout: Duration::from_millis(200), ..Wishes::default() });
    let answer = world.post("/v1/responses", &responses("wait=5000", false));
    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"), "{answer:?}");
    assert_eq!(world.booked(answer.decision()).outcome, Outcome::Refused);
    assert_eq!(world.wallet(&world.anna).to_string(), "1000");
}

/// Every event boundary of a short stream, and inside events: the stream ends in protocol, charged by what passed.
#[test]
fn a_stream_that_is_cut_ends_in_protocol_and_is_charged_by_what_passed() {
    let world = World::new();
    for event in 0..=8_u64 {
        for bytes in ["", ".1", ".30", ".90"] {
            let words = format!("out=20+events=4+cut={event}{bytes}");
            let answer = world.post("/v1/responses", &responses(&words, true));
            assert_eq!((answer.status, answer.whole), (200, true), "{words} {answer:?}");
            let last = answer.events().pop().unwrap_or_else(|| panic!("{words}: {}", answer.text()));
            assert_eq!(last["type"], "response.failed", "{words}: {}", answer.text());
            let row = world.booked(answer.decision());
            if row.outcome == Outcome::Refused {
                assert!(event <= 1 && row.charge.gross.is_zero(), "{words} {row:?}");
            } else {
                assert_eq!((row.outcome, row.grade), (Outcome::Cut, Grade::Floor), "{words} {row:?}");
                assert!(!row.charge.gross.is_zero() && row.used.output_tokens <= 20, "{words} {row:?}");
            }
        }
    }
}

#[test]
fn a_chat_stream_that_is_cut_ends_with_an_error_and_is_charged_by_what_passed() {
    let world = World::new();
    for event in 1..=4_u64 {
        for bytes in ["", ".1", ".60"] {
            let words = format!("out=20+events=4+cut={event}{bytes}");
            let answer = world.post("/v1/chat/completions", &chat(&words));
            assert_eq!((answer.status, answer.whole), (200, true), "{words} {answer:?}");
            let last = answer.events().pop().unwrap_or_else(|| panic!("{words}: {}", answer.text()));
            assert_eq!(last["error"]["code"], "server_error", "{words}: {}", answer.text());
            let row = world.booked(answer.decision());
            assert!(matches!(row.outcome, Outcome::Cut | Outcome::Refused), "{words} {row:?}");
        }
    }
}

#[test]
fn a_stream_that_ends_without_its_last_event_is_ended_for_the_client() {
    let world = World::new();
    let answer = world.post("/v1/responses", &responses("out=20+no-terminal", true));
    assert!(answer.whole, "{answer:?}");
    assert_eq!(answer.events().pop().expect("events")["type"], "response.failed", "{}", answer.text());
    let row = world.booked(answer.decision());
    assert_eq!((row.outcome, row.grade), (Outcome::Cut, Grade::Floor), "{row:?}");
    assert_eq!(row.used.output_tokens, 20, "{row:?}");
}

#[test]
fn an_answer_in_one_body_that_is_cut_stays_cut_and_is_charged_by_what_passed() {
    let world = World::new();
    let answer = world.post("/v1/responses", &responses("out=20+cut=1.40", false));
    assert_eq!((answer.status, answer.whole), (200, false), "{answer:?}");
    let row = world.booked(answer.decision());
    assert_eq!((row.outcome, row.grade), (Outcome::Cut, Grade::Floor), "{row:?}");
}

#[test]
fn usage_that_is_not_told_is_estimated_and_never_zero() {
    let world = World::new();
    for (words, outcome) in [
        ("out=20+no-usage", Outcome::Completed),
        ("out=20+null-usage", Outcome::Completed),
        ("out=20+failed", Outcome::Failed),
    ] {
        let answer = world.post("/v1/responses", &responses(words, true));
        let row = world.booked(answer.decision());
        assert_eq!((row.outcome, row.grade), (outcome, Grade::Estimated), "{words} {row:?}");
        assert!(row.used.input_tokens > 0 && row.used.output_tokens > 0, "{words} {row:?}");
    }
    let answer = world.post("/v1/responses", &responses("out=20+failed-with-usage", true));
    let row = world.booked(answer.decision());
    assert_eq!((row.outcome, row.grade, row.used.output_tokens), (Outcome::Failed, Grade::Exact, 20));
}

/// Design section 7: priced by the tier in the response; an unlisted one at the highest, graded estimated.
#[test]
fn the_tier_of_the_answer_prices_the_call() {
    let world = World::new();
    let gross = |words: &str| {
        let row = world.booked(world.post("/v1/responses", &responses(words, false)).decision());
        (row.charge.gross.micros(), row.grade)
    };
    let (plain, grade) = gross("out=20");
    assert_eq!(grade, Grade::Exact);
    assert_eq!(gross("out=20+tier=priority"), (2 * plain, Grade::Exact));
    assert_eq!(gross("out=20+tier=unheard"), (2 * plain, Grade::Estimated));
    assert_eq!(gross("out=20+tier=default"), (plain, Grade::Exact));
}

#[test]
fn a_client_that_leaves_a_stream_is_charged_by_what_passed_and_the_upstream_is_left_too() {
    let world = World::new();
    for (number, target, body) in [
        (0, "/v1/responses", responses("out=1000+events=1000+pace=10", true)),
        (1, "/v1/chat/completions", chat("out=1000+events=1000+pace=10")),
    ] {
        let mut client = world.client();
        client.send(&request("POST", target, &world.anna.key, "", body.as_bytes()));
        client.read_until("delta");
        drop(client);
        let end = world.runtime.block_on(world.seen.wait_for_end(number, PATIENCE)).expect("an end");
        assert!(matches!(end, End::ClientGone { events } if events < 500), "{target} {end:?}");
        let row = world.newest(world.anna.account);
        assert_eq!((row.outcome, row.grade), (Outcome::ClientGone, Grade::Floor), "{target} {row:?}");
        assert!(row.used.input_tokens > 0 && row.used.output_tokens < 500, "{target} {row:?}");
    }
}

#[test]
fn a_client_that_leaves_while_nothing_is_sent_is_seen_at_once() {
    let world = World::new();
    for (number, stream) in [(0, false), (1, true)] {
        let mut client = world.client();
        let body = responses("out=5+wait=20000", stream);
        client.send(&request("POST", "/v1/responses", &world.anna.key, "", body.as_bytes()));
        world.runtime.block_on(world.seen.wait_for_count(number + 1, PATIENCE)).expect("it runs");
        drop(client);
        let end = world.runtime.block_on(world.seen.wait_for_end(number, PATIENCE)).expect("an end");
        assert_eq!(end, End::ClientGone { events: 0 }, "stream: {stream}");
    }
}

#[test]
fn events_leave_as_they_come() {
    let world = World::new();
    let mut client = world.client();
    let body = responses("out=4+events=4+pace=150", true);
    let began = Instant::now();
    client.send(&request("POST", "/v1/responses", &world.anna.key, "", body.as_bytes()));
    client.read_until("output_text.delta");
    let first = began.elapsed();
    assert!(client.answer().whole);
    assert!(began.elapsed() > first + Duration::from_millis(300), "{first:?} of {:?}", began.elapsed());
}

#[test]
fn a_panic_is_settled_by_drop() {
    let world = World::new();
    world.brittle.store(true, Ordering::SeqCst);
    let mut client = world.client();
    client.send(&request("POST", "/v1/responses", &world.anna.key, "", responses("out=1", true).as_bytes()));
    assert!(client.is_closed(), "nothing is answered");
    world.wait_idle();
    world.brittle.store(false, Ordering::SeqCst);
    let row = world.newest(world.anna.account);
    assert_eq!((row.outcome, row.grade), (Outcome::Cancelled, Grade::Floor), "{row:?}");
    assert_eq!(world.post("/v1/responses", &responses("out=1", true)).status, 200, "the gateway goes on");
}

#[test]
fn a_stop_lets_streams_finish_and_is_over_as_soon_as_it_is_idle() {
    let mut world = World::with(&Wishes { grace: Duration::from_secs(30), ..Wishes::default() });
    let mut client = world.client();
    let body = responses("out=10+events=10+pace=50", true);
    client.send(&request("POST", "/v1/responses", &world.anna.key, "", body.as_bytes()));
    client.read_until("output_text.delta");
    let began = Instant::now();
    world.begin_stop();
    let answer = client.answer();
    assert!(answer.whole && answer.text().contains("response.completed"), "{}", answer.text());
    world.stop();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let row = world.booked(answer.decision());
    assert_eq!((row.outcome, row.grade), (Outcome::Completed, Grade::Exact));
}

#[test]
fn what_the_grace_period_cuts_is_settled_before_the_server_returns() {
    let mut world = World::with(&Wishes { grace: Duration::from_millis(200), ..Wishes::default() });
    let mut client = world.client();
    let body = responses("out=1000+events=1000+pace=50", true);
    client.send(&request("POST", "/v1/responses", &world.anna.key, "", body.as_bytes()));
    client.read_until("output_text.delta");
    world.stop();
    assert_eq!(world.meter.stats().holds, 0);
    assert!(world.journal.stats().holds_open <= 1);
}

#[test]
fn a_journal_that_takes_nothing_refuses_before_anything_is_forwarded() {
    let world = World::new();
    assert_eq!(world.post("/v1/responses", &responses("out=1", false)).status, 200);
    world.journal.close().expect("closed");
    let answer = world.post("/v1/responses", &responses("out=1", false));
    assert_eq!((answer.status, answer.code().as_str()), (503, "server_is_overloaded"), "{answer:?}");
    assert!(answer.header("x-access-decision").starts_with("block;reason=store-unavailable"), "{answer:?}");
    assert_eq!(world.seen.count(), 1);
}
