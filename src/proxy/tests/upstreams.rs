//! Several upstreams: what goes on to the next, what must not, and what stays where it was made.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::world::{PATIENCE, SPARE_KEY, UPSTREAM_KEY, Wishes, World, canned};
use crate::access::record::{Grade, Outcome};
use crate::config::{Breaker, Health};
use crate::meter::Meter;
use crate::units::Span;

/// Opens at the second failure, and tries again soon.
const QUICK: Breaker = Breaker { failures: 2, within: Span::from_seconds(60), pause: Span::from_ms(300) };

fn body(words: &str) -> String {
    json!({"model": format!("gpt-5.5-sim-{words}"), "input": "a".repeat(40)}).to_string()
}

fn continued(words: &str, id: &str) -> String {
    json!({"model": format!("gpt-5.5-sim-{words}"), "input": "b", "previous_response_id": id}).to_string()
}

fn nobody() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    free.expect("a free port")
}

/// How many requests the first upstream and the spare one have seen.
fn counts(world: &World) -> (u64, u64) {
    (world.seen.count(), world.spare.as_ref().map_or(0, crate::simulate::Seen::count))
}

fn spare() -> Wishes {
    Wishes { spare: true, ..Wishes::default() }
}

#[test]
fn what_nobody_has_begun_to_work_on_goes_on_to_the_next_upstream_with_one_decision_and_one_charge() {
    for (wishes, first) in [
        (Wishes { upstream: Some(nobody()), ..spare() }, 0),
        (Wishes { first: "status=502", ..spare() }, 1),
        (Wishes { first: "status=503", ..spare() }, 1),
    ] {
        let world = World::with(&wishes);
        let plain = World::new();
        let usual = plain.booked(plain.post("/v1/responses", &body("out=20")).decision());
        for (number, stream) in [(1, false), (2, true)] {
            let request = json!({"model": "gpt-5.5-sim-out=20", "input": "a".repeat(40), "stream": stream});
            let answer = world.post("/v1/responses", &request.to_string());
            assert_eq!((answer.status, answer.whole), (200, true), "{answer:?}");
            assert_eq!(counts(&world), (first * number, number));
            let row = world.booked(answer.decision());
            assert_eq!((row.outcome, row.grade, row.status), (Outcome::Completed, Grade::Exact, Some(200)));
            assert_eq!(row.charge.gross, usual.charge.gross);
        }
        world.wait_idle();
        let rows = world.ledger.decisions(world.anna.account, None, crate::ledger::rows::Page(9));
        assert_eq!(world.runtime.block_on(rows).expect("the ledger").len(), 2, "nothing is booked twice");
        let taken = "1000"
            .parse::<crate::units::Credits>()
            .expect("credits")
            .saturating_sub(world.wallet(&world.anna));
        assert_eq!(taken, usual.charge.gross.saturating_add(usual.charge.gross));
    }
}

#[test]
fn a_key_is_shown_to_its_own_upstream_alone_and_the_whole_body_goes_with_it() {
    let world = World::with(&Wishes { first: "status=503", ..spare() });
    let message = json!({"role": "user", "content": "a".repeat(300_000)});
    let request = json!({"model": "gpt-5.5-sim-out=20", "messages": [message], "stream": true}).to_string();
    let answer = world.post("/v1/chat/completions", &request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.text().contains("prompt_tokens"), "the usage chunk is taken out once");
    let (first, second) = (world.seen.requests(), world.spare.as_ref().expect("a spare one").requests());
    for (seen, key) in [(&first, UPSTREAM_KEY), (&second, SPARE_KEY)] {
        let bearer = format!("Bearer {key}");
        assert!(seen.iter().all(|request| request.headers["authorization"] == bearer.as_str()));
    }
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(first[0].body, second[0].body);
    assert!(second[0].body_bytes > 300_000);
    assert_ne!(first[0].headers["host"], second[0].headers["host"]);
}

/// Whoever may have begun to work is not asked twice.
#[test]
fn what_may_have_begun_or_is_an_answer_stays_where_it_was_sent() {
    for (first, status) in [
        ("status=500", 500),
        ("status=504", 504),
        ("status=429", 429),
        ("status=400", 400),
        ("drop", 502),
        ("wait=5000", 504),
        ("out=20+cut=1.40", 200),
    ] {
        let read_timeout = Duration::from_millis(300);
        let world = World::with(&Wishes { read_timeout, first, ..spare() });
        let answer = world.post("/v1/responses", &json!({"model": "gpt-5.5", "input": "a"}).to_string());
        assert_eq!(answer.status, status, "{first} {answer:?}");
        assert_eq!(counts(&world), (1, 0), "{first}");
    }
}

#[test]
fn where_every_upstream_turns_it_away_the_last_answer_is_told_and_nothing_is_charged() {
    let world = World::with(&spare());
    let answer = world.post("/v1/responses", &body("status=503"));
    assert_eq!((answer.status, counts(&world)), (503, (1, 1)), "{answer:?}");
    let row = world.booked(answer.decision());
    assert_eq!((row.outcome, row.status), (Outcome::Refused, Some(503)));
    assert_eq!(world.wallet(&world.anna).to_string(), "1000");
}

/// Pingora makes up its mind about compression once a request: a second answer would have met a panic.
#[test]
fn a_compressed_refusal_is_no_obstacle_to_the_next_upstream() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"{\"error\":{}}").expect("packed");
    let packed = packed.finish().expect("packed");
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        packed.len()
    );
    let first = canned([head.as_bytes(), &packed].concat());
    let world = World::with(&Wishes { upstream: Some(first), ..spare() });
    let answer = world.post("/v1/responses", &body("out=20"));
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("completed")), "{answer:?}");
    assert_eq!(world.booked(answer.decision()).outcome, Outcome::Completed);
}

#[test]
fn what_costs_nothing_goes_on_too() {
    let world = World::with(&Wishes { upstream: Some(nobody()), ..spare() });
    assert_eq!(world.ask("GET", "/v1/models", &world.anna.key, "", b"").status, 200);
    let counted = world.post("/v1/responses/input_tokens", &body("out=1"));
    assert_eq!((counted.status, counts(&world)), (200, (0, 2)), "{counted:?}");
}

#[test]
fn an_upstream_that_keeps_failing_is_left_alone_until_a_probe_succeeds() {
    let world = World::with(&Wishes { breaker: QUICK, ..Wishes::default() });
    for _ in 0..2 {
        assert_eq!(world.post("/v1/responses", &body("status=503")).status, 503);
    }
    assert!(!world.upstreams.is_any_up());
    for target in ["/v1/responses", "/v1/responses/input_tokens"] {
        let answer = world.post(target, &body("out=1"));
        assert_eq!((answer.status, answer.code().as_str()), (503, "server_is_overloaded"), "{answer:?}");
        assert!((1..=5).contains(&answer.header("retry-after").parse().expect("seconds")), "{answer:?}");
        assert!(!answer.headers.contains_key("x-access-decision"), "nothing was decided: {answer:?}");
    }
    assert_eq!(
        world.ask("GET", "/v1/access", &world.anna.key, "", b"").status,
        200,
        "the gateway itself answers"
    );
    assert_eq!((world.seen.count(), world.meter.stats().holds), (2, 0));
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(world.post("/v1/responses", &body("status=503")).status, 503, "the probe");
    assert_eq!(world.post("/v1/responses", &body("out=1")).status, 503, "open again");
    assert_eq!(world.seen.count(), 3);
    std::thread::sleep(Duration::from_millis(350));
    for _ in 0..2 {
        assert_eq!(world.post("/v1/responses", &body("out=1")).status, 200);
    }
    assert_eq!(world.seen.count(), 5);
}

#[test]
fn a_half_open_breaker_lets_one_request_through_at_a_time() {
    let world = World::with(&Wishes {
        breaker: Breaker { pause: Span::from_seconds(2), ..QUICK },
        ..Wishes::default()
    });
    for _ in 0..2 {
        world.post("/v1/responses", &body("status=503"));
    }
    std::thread::sleep(Duration::from_millis(2100));
    let mut probe = world.client();
    let waits = body("out=1+wait=700");
    probe.send(&super::wire::request("POST", "/v1/responses", &world.anna.key, "", waits.as_bytes()));
    world.runtime.block_on(world.seen.wait_for_count(3, PATIENCE)).expect("the probe is on its way");
    assert_eq!(world.post("/v1/responses", &body("out=1")).status, 503);
    assert_eq!((probe.answer().status, world.post("/v1/responses", &body("out=1")).status), (200, 200));
}

#[test]
fn requests_go_straight_to_the_next_upstream_while_a_breaker_is_open() {
    let world = World::with(&Wishes { first: "status=503", breaker: QUICK, ..spare() });
    for _ in 0..5 {
        assert_eq!(world.post("/v1/responses", &body("out=1")).status, 200);
    }
    assert_eq!(counts(&world), (2, 5));
}

#[test]
fn what_was_made_at_an_upstream_is_read_continued_and_cancelled_there_alone() {
    let world = World::with(&Wishes { first: "status=503", ..spare() });
    let made = world.post("/v1/responses", &body("out=20"));
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    world.booked(made.decision());
    let (first, spare) = counts(&world);
    let tries = [
        ("GET", format!("/v1/responses/{id}"), String::new(), 200),
        ("GET", format!("/v1/responses/{id}/input_items"), String::new(), 200),
        ("POST", "/v1/responses".to_owned(), continued("out=1", &id), 200),
        ("POST", "/v1/responses".to_owned(), continued("status=503", &id), 503),
        ("POST", "/v1/responses/input_tokens".to_owned(), continued("out=1", &id), 200),
        ("POST", "/v1/responses/compact".to_owned(), continued("out=1", &id), 200),
        ("POST", format!("/v1/responses/{id}/cancel"), String::new(), 400),
        ("DELETE", format!("/v1/responses/{id}"), String::new(), 200),
    ];
    for (method, target, body, status) in &tries {
        let answer = world.ask(method, target, &world.anna.key, "", body.as_bytes());
        assert_eq!(answer.status, *status, "{method} {target} {answer:?}");
    }
    assert_eq!(counts(&world), (first, spare + tries.len() as u64));
}

#[test]
fn what_is_at_an_upstream_that_is_left_alone_waits_for_it() {
    let world = World::with(&Wishes { breaker: QUICK, ..spare() });
    let made = world.post("/v1/responses", &body("out=20"));
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    for _ in 0..2 {
        assert_eq!(world.post("/v1/responses", &continued("status=503", &id)).status, 503);
    }
    assert_eq!(counts(&world), (3, 0));
    for (method, target, text) in [
        ("GET", format!("/v1/responses/{id}"), String::new()),
        ("POST", "/v1/responses".to_owned(), continued("out=1", &id)),
    ] {
        let answer = world.ask(method, &target, &world.anna.key, "", text.as_bytes());
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "server_is_overloaded"),
            "{target} {answer:?}"
        );
    }
    assert_eq!(world.post("/v1/responses", &body("out=1")).status, 200);
    assert_eq!(counts(&world), (3, 1));
}

#[test]
fn an_upstream_whose_health_checks_fail_gets_no_requests_and_one_that_refuses_the_key_does() {
    for (path, key, counted) in
        [("/nowhere", UPSTREAM_KEY, (0, 1)), ("/v1/models", "sk-wrong-secret", (1, 0))]
    {
        let health =
            Health { path: path.into(), every: Duration::from_millis(20), timeout: Duration::from_secs(5) };
        let world = World::with(&Wishes { health: Some(health), upstream_key: key, ..spare() });
        let checks = |world: &World| world.seen.requests().iter().filter(|seen| seen.target == path).count();
        let deadline = Instant::now() + PATIENCE;
        while checks(&world) < 4 {
            assert!(Instant::now() < deadline, "no checks");
            std::thread::sleep(Duration::from_millis(5));
        }
        world.post("/v1/responses", &body("out=1"));
        let posts = |seen: &crate::simulate::Seen| {
            seen.requests().iter().filter(|request| request.method == http::Method::POST).count()
        };
        let spare = world.spare.as_ref().expect("a spare one");
        assert_eq!((posts(&world.seen), posts(spare)), counted, "{path}");
    }
}
