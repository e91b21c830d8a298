//! What each way to end is charged, on the wire and in the books (design section 3, "Charge by outcome").

use serde_json::{Value, json};

use super::world::{Wishes, World, canned};
use crate::access::record::{Grade, Outcome};

fn responses(words: &str, stream: bool) -> Value {
    json!({"model": format!("gpt-5.5-sim-out=20+{words}"), "input": "a".repeat(40), "stream": stream})
}

fn chat(words: &str, stream: bool) -> Value {
    let messages = [json!({"role": "user", "content": "a".repeat(40)})];
    json!({"model": format!("gpt-5.5-sim-out=20+{words}"), "messages": messages, "stream": stream})
}

fn bounded(mut body: Value) -> Value {
    body["max_output_tokens"] = json!(10);
    body
}

/// Every row is one call: what it used of output, how it went, how sure that is; and that it is booked once.
#[test]
fn every_way_to_end_is_charged_once_and_by_what_it_says() {
    use Grade::{Estimated, Exact, Floor};
    use Outcome::{Completed, Cut, Failed, Incomplete, Refused};
    let world = World::new();
    let rows = [
        ("/v1/responses", responses("big=1", true), (20, Completed, Exact)),
        ("/v1/responses", responses("big=1", false), (20, Completed, Exact)),
        ("/v1/responses", responses("duplicate-terminal", true), (20, Completed, Exact)),
        ("/v1/responses", responses("null-usage", true), (20, Completed, Estimated)),
        ("/v1/responses", responses("null-usage", false), (20, Completed, Estimated)),
        ("/v1/responses", responses("null-usage+duplicate-terminal", true), (20, Completed, Estimated)),
        ("/v1/responses", responses("no-usage", true), (20, Completed, Estimated)),
        ("/v1/responses", responses("no-terminal", true), (20, Cut, Floor)),
        ("/v1/responses", responses("failed", true), (20, Failed, Estimated)),
        ("/v1/responses", responses("failed-with-usage", true), (20, Failed, Exact)),
        ("/v1/responses", responses("failed-with-usage+duplicate-terminal", true), (20, Failed, Exact)),
        ("/v1/responses", responses("error-event", true), (20, Failed, Estimated)),
        ("/v1/responses", bounded(responses("events=5", true)), (10, Incomplete, Exact)),
        ("/v1/responses", bounded(responses("events=5", false)), (10, Incomplete, Exact)),
        ("/v1/responses", responses("status=500", true), (0, Refused, Exact)),
        ("/v1/responses", responses("drop", true), (0, Refused, Exact)),
        ("/v1/chat/completions", chat("big=1", true), (20, Completed, Exact)),
        ("/v1/chat/completions", chat("big=1", false), (20, Completed, Exact)),
        ("/v1/chat/completions", chat("duplicate-terminal", true), (20, Completed, Exact)),
        ("/v1/chat/completions", chat("null-usage", true), (20, Completed, Estimated)),
        ("/v1/chat/completions", chat("no-usage", true), (20, Completed, Estimated)),
        ("/v1/chat/completions", chat("no-terminal+no-usage", true), (20, Cut, Floor)),
        ("/v1/chat/completions", chat("failed", true), (20, Failed, Estimated)),
    ];
    let calls = rows.len();
    let mut left = world.wallet(&world.anna);
    for (target, body, expected) in rows {
        let row = world.booked(world.post(target, &body.to_string()).decision());
        assert_eq!((row.used.output_tokens, row.outcome, row.grade), expected, "{target} {body} {row:?}");
        assert_eq!(row.used.input_tokens > 0, expected.1 != Refused, "{body} {row:?}");
        left = left.saturating_sub(row.charge.charged);
        assert_eq!(world.wallet(&world.anna), left, "{body}");
    }
    world.wait_idle();
    let booked = world.ledger.decisions(world.anna.account, None, crate::ledger::rows::Page(100));
    assert_eq!(world.runtime.block_on(booked).expect("the ledger").len(), calls);
}

/// An upstream that tells the end first, and what it is the end of afterwards.
#[test]
fn a_stream_out_of_order_is_charged_by_what_it_says() {
    let ended = "{\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{\"id\":\"resp_1\",\"usage\":{\"input_tokens\":9,\"output_tokens\":30}}}";
    let created = "{\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"usage\":null}}";
    let delta = "{\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"text\"}";
    let events = [ended, created, delta].map(|data| format!("data: {data}\n\n")).concat();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let upstream = canned([head, &events].concat().into_bytes());
    let world = World::with(&Wishes { upstream: Some(upstream), ..Wishes::default() });
    let answer = world.post("/v1/responses", &responses("events=1", true).to_string());
    assert_eq!((answer.text(), answer.whole), (events, true), "passed on as it came");
    let row = world.booked(answer.decision());
    assert_eq!((row.outcome, row.grade), (Outcome::Completed, Grade::Exact));
    assert_eq!((row.used.input_tokens, row.used.output_tokens), (9, 30));
}
