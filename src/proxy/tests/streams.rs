//! Streams that go on longer than was thought: in tokens, and in time.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::wire::{Client, request};
use super::world::{PATIENCE, POLICY, Wishes, World};
use crate::access::record::{Grade, Outcome};
use crate::meter::Meter;
use crate::proxy::learn::OUTPUT_DEFAULT_TOKENS;
use crate::simulate::End;
use crate::units::{Credits, DecisionId};

fn responses(words: &str, stream: bool) -> Value {
    json!({"model": format!("gpt-5.5-sim-{words}"), "input": "a".repeat(40), "stream": stream})
}

fn chat(words: &str) -> Value {
    let messages = [json!({"role": "user", "content": "a".repeat(40)})];
    json!({"model": format!("gpt-5.5-sim-{words}"), "messages": messages, "stream": true})
}

/// A world with credits for about 4,000 tokens of output, whose streams stop when nothing is left.
pub(super) fn stopping() -> Wishes {
    let policy = POLICY.replace("    clamp:", "    when_exhausted: stop\n    clamp:");
    Wishes { credits: "3", policy, ..Wishes::default() }
}

fn credits(text: &str) -> Credits {
    text.parse().expect("credits")
}

fn send(world: &World, target: &str, body: &Value) -> Client {
    let mut client = world.client();
    client.send(&request("POST", target, &world.anna.key, "", body.to_string().as_bytes()));
    client
}

/// The decision in the head of an answer whose body is under way.
fn decision(client: &mut Client) -> DecisionId {
    let head = client.read_until("delta");
    let id = head.split("id=\"").nth(1).and_then(|rest| rest.split('"').next());
    id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no decision: {head}"))
}

#[test]
fn a_long_stream_holds_more_while_it_runs_and_is_charged_what_it_used() {
    let world = World::new();
    let mut client = send(&world, "/v1/responses", &responses("out=6000+events=300+pace=5", true));
    let decision = decision(&mut client);
    let mut held = vec![OUTPUT_DEFAULT_TOKENS];
    let deadline = Instant::now() + PATIENCE;
    while let Some(hold) =
        world.runtime.block_on(world.meter.in_flight(world.anna.account, decision)).expect("a meter")
    {
        assert!(Instant::now() < deadline, "{held:?}");
        held.push(hold.demand.quantities.output_tokens);
        std::thread::sleep(Duration::from_millis(2));
    }
    held.dedup();
    assert!(held.is_sorted() && (4..10).contains(&held.len()), "in steps, not by events: {held:?}");
    let answer = client.answer();
    assert!(answer.whole && answer.text().contains("response.completed"));
    let row = world.booked(decision);
    assert_eq!((row.outcome, row.grade, row.used.output_tokens), (Outcome::Completed, Grade::Exact, 6000));
    assert!(row.estimate.output_tokens > 5000, "{row:?}");
    let left = credits("1000").saturating_sub(row.charge.charged);
    assert_eq!((row.charge.charged, world.wallet(&world.anna)), (row.charge.gross, left));
}

/// Design section 7, `when_exhausted: stop`.
#[test]
fn a_stream_for_which_nothing_is_left_ends_in_protocol_and_is_charged_what_it_produced() {
    for (target, body) in [
        ("/v1/responses", responses("out=20000+events=2000+pace=1", true)),
        ("/v1/chat/completions", chat("out=20000+events=2000+pace=1")),
    ] {
        let world = World::with(&stopping());
        let answer = send(&world, target, &body).answer();
        assert_eq!((answer.status, answer.whole), (200, true), "{target} {}", answer.text());
        let events = answer.events();
        let last = events.last().expect("events");
        assert_eq!(last["error"]["code"], "insufficient_quota", "{target} {last}");
        assert_eq!(last["error"]["type"], "insufficient_quota", "{target} {last}");
        assert!(!answer.text().contains("[DONE]"), "{target}");
        if target == "/v1/responses" {
            assert_eq!(
                (&last["type"], &last["response"]["status"]),
                (&json!("response.failed"), &json!("failed"))
            );
            assert_eq!(last["response"]["error"]["code"], "insufficient_quota");
            assert_eq!(last["response"]["id"], events[0]["response"]["id"]);
            let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64()).collect();
            assert!(numbers.iter().zip(0..).all(|(number, place)| *number == Some(place)), "{numbers:?}");
        }
        let end = world.runtime.block_on(world.seen.wait_for_end(0, PATIENCE)).expect("an end");
        assert!(
            matches!(end, End::ClientGone { events } if events < 1500),
            "the upstream is let go: {end:?}"
        );
        let row = world.booked(answer.decision());
        assert_eq!((row.outcome, row.grade), (Outcome::Stopped, Grade::Floor), "{target} {row:?}");
        // 3 credits are 4,000 tokens; what came while the meter was asked is little.
        assert!((3900..4500).contains(&row.used.output_tokens), "{target} {row:?}");
        assert!(
            row.charge.charged > credits("2.9") && row.charge.charged <= credits("3"),
            "{target} {row:?}"
        );
        assert_eq!(world.wallet(&world.anna), credits("3").saturating_sub(row.charge.charged));
    }
}

#[test]
fn by_default_a_stream_for_which_nothing_is_left_runs_to_its_end_and_overage_applies() {
    let world = World::with(&Wishes { credits: "3", ..Wishes::default() });
    let answer = send(&world, "/v1/responses", &responses("out=8000+events=200+pace=1", true)).answer();
    assert!(answer.whole && answer.text().contains("response.completed"), "{}", answer.text());
    let row = world.booked(answer.decision());
    assert_eq!((row.outcome, row.used.output_tokens), (Outcome::Completed, 8000));
    assert_eq!((row.charge.charged, world.wallet(&world.anna)), (credits("3"), Credits::ZERO));
    assert_eq!(row.charge.forgiven, row.charge.gross.saturating_sub(credits("3")));
}

#[test]
fn nothing_is_stopped_that_fits_or_that_is_no_stream() {
    let bounded = |mut body: Value| {
        body["max_output_tokens"] = json!(3500);
        body
    };
    for (body, used, charged) in [
        (responses("out=8000", false), 8000, Some("3")),
        (responses("out=3500+events=500+pace=1", true), 3500, None),
        (bounded(responses("out=9000+events=500+pace=1", true)), 3500, None),
    ] {
        let world = World::with(&stopping());
        let answer = send(&world, "/v1/responses", &body).answer();
        assert!(answer.whole && !answer.text().contains("insufficient_quota"), "{body} {}", answer.text());
        let row = world.booked(answer.decision());
        assert_eq!((row.used.output_tokens, row.grade), (used, Grade::Exact), "{body} {row:?}");
        assert_eq!(row.charge.charged, charged.map_or(row.charge.gross, credits), "{body} {row:?}");
    }
}

/// I9: a stream may run longer than a hold lives: it is renewed, and ends once.
#[test]
fn a_stream_longer_than_its_hold_lives_is_renewed_and_settled_once() {
    let policy = POLICY.replace("    clamp:", "    deadlines: {request: 2s}\n    clamp:");
    let world = World::with(&Wishes { policy, ..Wishes::default() });
    let mut client = send(&world, "/v1/responses", &responses("out=100+events=100+pace=50", true));
    let decision = decision(&mut client);
    let began = Instant::now();
    let mut deadlines = Vec::new();
    while let Some(hold) =
        world.runtime.block_on(world.meter.in_flight(world.anna.account, decision)).expect("a meter")
    {
        deadlines.push(hold.expires_at);
        let swept = world.runtime.block_on(world.meter.sweep()).expect("swept");
        assert_eq!((swept.voided, swept.floored), (0, 0), "after {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    deadlines.dedup();
    assert!(began.elapsed() > Duration::from_secs(4) && deadlines.len() > 2, "{deadlines:?}");
    assert!(client.answer().text().contains("response.completed"));
    let row = world.booked(decision);
    assert_eq!((row.outcome, row.grade, row.used.output_tokens), (Outcome::Completed, Grade::Exact, 100));
    let rows = world.ledger.decisions(world.anna.account, None, crate::ledger::rows::Page(9));
    assert_eq!(world.runtime.block_on(rows).expect("the ledger").len(), 1);
    assert_eq!(world.wallet(&world.anna), credits("1000").saturating_sub(row.charge.gross));
}
