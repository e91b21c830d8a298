//! Responses made in the background: the hold lives until their end is known, whoever tells it, and ends once.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::{Value, json};

use super::wire::{Answer, request};
use super::world::{WEBHOOK_SECRET, World};
use crate::access::record::{Grade, Outcome};
use crate::meter::Meter;
use crate::proxy::learn::{OUTPUT_DEFAULT_TOKENS, SAMPLES_MIN};
use crate::units::time::Clock;

/// `input` of 10 tokens by the simulated upstream's count, and 20 of output.
fn ask(words: &str, stream: bool) -> String {
    let model = format!("gpt-5.5-sim-out=20{words}");
    json!({"model": model, "input": "a".repeat(40), "stream": stream, "background": true}).to_string()
}

fn id_of(answer: &Answer) -> String {
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// The output that a call was estimated at, once it has ended by a poll.
fn estimated(world: &World, made: &Answer) -> u64 {
    get(world, &format!("/v1/responses/{}", id_of(made)));
    world.booked(made.decision()).estimate.output_tokens
}

fn get(world: &World, target: &str) -> Answer {
    world.ask("GET", target, &world.anna.key, "", b"")
}

/// A webhook about `id` as the upstream would sign it, spoilt where `spoil` says so.
fn webhook(world: &World, event: &str, id: &str, spoil: bool) -> Answer {
    let body = json!({"id": event, "object": "event", "type": "response.completed", "data": {"id": id}});
    let (body, at) = (body.to_string(), Clock::machine().now().ms() / 1000);
    let key = STANDARD.decode(WEBHOOK_SECRET.strip_prefix("whsec_").expect("a mark")).expect("base64");
    let key = hmac::Key::new(hmac::HMAC_SHA256, if spoil { b"another" } else { &key });
    let signature = STANDARD.encode(hmac::sign(&key, format!("{event}.{at}.{body}").as_bytes()));
    let headers = format!(
        "webhook-id: {event}\r\nwebhook-timestamp: {at}\r\nwebhook-signature: v1,bad v1,{signature}\r\n"
    );
    world.ask("POST", "/webhooks/upstream", "none", &headers, body.as_bytes())
}

/// I9: polls are free, the first that tells the end settles, the others change nothing.
#[test]
fn a_background_response_is_charged_once_by_the_poll_that_tells_its_end() {
    let world = World::new();
    let before = world.wallet(&world.anna);
    let made = world.post("/v1/responses", &ask("+runs=300", false));
    assert_eq!((made.status, &made.json()["status"]), (200, &json!("queued")), "{made:?}");
    let path = format!("/v1/responses/{}", id_of(&made));
    assert_eq!(world.meter.stats().holds, 1, "it is not over with its answer");
    assert_eq!(get(&world, &path).json()["status"], "in_progress");
    let foreign = world.ask("GET", &path, &world.other.key, "", b"");
    assert_eq!(foreign.status, 404, "I14");
    let ended = loop {
        let poll = get(&world, &path).json();
        if poll["status"] != "in_progress" {
            break poll;
        }
        assert_eq!(world.meter.stats().holds, 1);
    };
    assert_eq!((&ended["status"], world.meter.stats().holds), (&json!("completed"), 0));
    get(&world, &path);
    let row = world.booked(made.decision());
    assert_eq!((row.outcome, row.grade), (Outcome::Completed, Grade::Exact), "{row:?}");
    assert_eq!((row.used.output_tokens, row.status), (20, Some(200)), "{row:?}");
    assert_eq!(before.checked_sub(world.wallet(&world.anna)), Some(row.charge.gross));
}

#[test]
fn every_end_of_a_background_response_is_charged_by_its_usage_or_its_floor() {
    let world = World::new();
    for (words, outcome, grade) in [
        ("", Outcome::Completed, Grade::Exact),
        ("+failed-with-usage", Outcome::Failed, Grade::Exact),
        ("+failed", Outcome::Failed, Grade::Estimated),
        ("+no-usage", Outcome::Completed, Grade::Estimated),
    ] {
        let made = world.post("/v1/responses", &ask(words, false));
        get(&world, &format!("/v1/responses/{}", id_of(&made)));
        let row = world.booked(made.decision());
        assert_eq!((row.outcome, row.grade), (outcome, grade), "{words}");
        assert!(!row.charge.gross.is_zero(), "{words}: its input counts");
    }
}

/// I9: the client leaves, the job goes on; resuming its stream costs nothing and tells its end.
#[test]
fn a_background_stream_outlives_its_client_and_is_never_billed_twice() {
    let world = World::new();
    let body = ask("+pace=50", true);
    let mut client = world.client();
    client.send(&request("POST", "/v1/responses", &world.anna.key, "", body.as_bytes()));
    let seen = client.read_until("response.in_progress");
    let decision = seen.split("id=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a decision");
    let id = seen.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id");
    let (decision, path) = (decision.parse().expect("a decision"), format!("/v1/responses/{id}"));
    drop(client);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(world.meter.stats().holds, 1, "nobody has told its end");
    for after in [1, 3] {
        let resumed = get(&world, &format!("{path}?stream=true&starting_after={after}"));
        assert!(resumed.text().contains("response.completed"), "{resumed:?}");
        assert_eq!(world.meter.stats().holds, 0);
    }
    let row = world.booked(decision);
    assert_eq!((row.outcome, row.grade, row.used.output_tokens), (Outcome::Completed, Grade::Exact, 20));
    let whole = world.post("/v1/responses", &ask("", true));
    let row = world.booked(whole.decision());
    assert_eq!(
        (row.outcome, row.used.output_tokens),
        (Outcome::Completed, 20),
        "its own stream tells it too"
    );
}

#[test]
fn a_cancelled_or_deleted_background_response_ends_by_that() {
    let world = World::new();
    for (method, tail) in [("POST", "/cancel"), ("DELETE", "")] {
        let made = world.post("/v1/responses", &ask("+runs=600000", false));
        let path = format!("/v1/responses/{}{tail}", id_of(&made));
        let answer = world.ask(method, &path, &world.anna.key, "", b"");
        assert_eq!((answer.status, world.meter.stats().holds), (200, 0), "{answer:?}");
        assert_eq!(world.booked(made.decision()).outcome, Outcome::Cancelled, "{method}");
    }
    let made = world.post("/v1/responses", &ask("", false));
    let path = format!("/v1/responses/{}", id_of(&made));
    assert_eq!(world.ask("DELETE", &path, &world.anna.key, "", b"").status, 200);
    let row = world.booked(made.decision());
    assert_eq!((row.outcome, row.grade), (Outcome::Completed, Grade::Exact), "learnt before it was gone");
}

#[test]
fn a_webhook_has_the_job_asked_for_and_a_forged_one_nothing() {
    let world = World::new();
    let made = world.post("/v1/responses", &ask("", false));
    let id = id_of(&made);
    let asked = world.seen.count();
    for forged in
        [webhook(&world, "evt_1", &id, true), world.ask("POST", "/webhooks/upstream", "", "", b"{}")]
    {
        assert_eq!((forged.status, forged.code().as_str()), (401, "invalid_api_key"), "{forged:?}");
    }
    let large = world.ask("POST", "/webhooks/upstream", "", "", &vec![b' '; (64 << 10) + 1]);
    assert_eq!(large.status, 413);
    assert_eq!((world.seen.count(), world.meter.stats().holds), (asked, 1));
    for _ in 0..2 {
        let taken = webhook(&world, "evt_1", &id, false);
        assert_eq!((taken.status, taken.json()), (200, json!({})), "{taken:?}");
    }
    let row = world.booked(made.decision());
    assert_eq!((row.outcome, row.grade, row.used.output_tokens), (Outcome::Completed, Grade::Exact, 20));
    assert_eq!(world.seen.count(), asked + 1, "each id once");
    assert_eq!(webhook(&world, "evt_2", "resp_unknown", false).status, 200);
    assert_eq!(world.ask("GET", "/webhooks/upstream", &world.anna.key, "", b"").status, 404);
}

/// Design section 3: the estimate is what was really used, in the background too.
#[test]
fn what_background_responses_used_is_learnt_for_the_next_estimate() {
    let world = World::new();
    for _ in 0..SAMPLES_MIN {
        let made = world.post("/v1/responses", &ask("", false));
        assert_eq!(estimated(&world, &made), OUTPUT_DEFAULT_TOKENS);
    }
    let next = world.post("/v1/responses", &ask("", false));
    let estimate = estimated(&world, &next);
    assert!((20..=23).contains(&estimate), "{estimate}");
}

/// What no answer names is settled as any call is.
#[test]
fn an_answer_that_is_refused_or_names_nothing_makes_no_job() {
    let world = World::new();
    for words in ["+status=500", "+cut=0"] {
        let refused = world.post("/v1/responses", &ask(words, false));
        world.wait_idle();
        assert!(world.runtime.block_on(world.meter.jobs()).expect("jobs").is_empty());
        drop(refused);
    }
    let plain: Value = world
        .post(
            "/v1/chat/completions",
            &json!({"model": "gpt-5.5", "background": true, "messages": [{"role": "user", "content": "x"}]})
                .to_string(),
        )
        .json();
    assert!(plain["choices"].is_array(), "{plain}");
    world.wait_idle();
}
