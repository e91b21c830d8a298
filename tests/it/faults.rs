//! The upstream fails, or the client leaves, at every point: each end is told, booked once, and priced by what passed.

use serde_json::Value;

use crate::harness::client::ask_stream;
use crate::harness::{Gateway, PATIENCE, Setup, ports};
use overfall::simulate::End;

/// Output tokens of the streams here, one event each.
const TOKENS: usize = 3;
/// Events of a whole stream: four before its text, four after it.
const EVENTS: usize = TOKENS + 8;

/// What a booked call cost before anything covered it, in millionths.
fn gross(booked: &Value) -> u64 {
    let text = booked["end"]["charge"]["gross"].as_str().expect("an amount");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = format!("{part:0<6}");
    whole.parse::<u64>().expect("whole") * 1_000_000 + part.parse::<u64>().expect("millionths")
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_upstream_pass_and_are_not_charged() {
    let gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "1");
    for status in [400, 404, 409, 422, 429, 500, 502, 503] {
        for stream in [false, true] {
            let mut body = ask_stream(&format!("one-sim-status={status}"));
            body["stream"] = stream.into();
            let answer = client.post("/v1/responses", &body).await.expect(status);
            assert!(answer.json()["error"]["message"].is_string(), "{status}");
            let booked = gateway.admin.booked(&answer.decision());
            assert_eq!((gross(&booked), &booked["end"]["status"]), (0, &Value::from(status)), "{booked}");
        }
    }
    let empty = client.respond("one-sim-204").await.expect(204);
    assert_eq!(gross(&gateway.admin.booked(&empty.decision())), 0);
    client.respond("one").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_accept_the_gateways_key_is_no_fault_of_the_clients() {
    let gateway = Gateway::start();
    let (_, client) = gateway.caller("free");
    for status in [401, 403] {
        let answer = client.respond(&format!("one-sim-status={status}")).await.expect(502);
        assert_eq!(answer.error().1, "upstream_unavailable");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert_eq!(gross(&gateway.admin.booked(&answer.decision())), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_takes_no_connection_or_drops_it_gives_502_and_costs_nothing() {
    let gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "1");
    let answer = client.respond("one-sim-drop").await.expect(502);
    assert_eq!(answer.error(), ("server_error".to_owned(), "upstream_unavailable".to_owned()));
    assert_eq!(gross(&gateway.admin.booked(&answer.decision())), 0);
    assert_eq!(
        gateway.upstream.seen.count(),
        1,
        "a request that may have been carried out is not sent again"
    );
    client.respond("one").await.expect(200);

    let nobody = format!("http://{}", ports::free());
    let gateway = Setup::default().base_url(&nobody).start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "1");
    for _ in 0..3 {
        let answer = client.respond("one").await.expect(502);
        assert_eq!(answer.error().1, "upstream_unavailable");
    }
    let access = client.get("/v1/access").await.expect(200).json();
    assert_eq!(access["features"][0]["layers"][0]["left"], "1", "everything came back");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_answer_in_time_gives_504() {
    let gateway = Setup::default().upstream_setting("read_timeout: 500ms").start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "1");
    let answer = client.respond("one-sim-wait=20000").await.expect(504);
    assert_eq!(answer.error().1, "upstream_timeout");
    assert_eq!(gross(&gateway.admin.booked(&answer.decision())), 0);
    gateway.upstream.seen.wait_for_idle(PATIENCE).await.expect("its connection is dropped");
    client.respond("one").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upstream_is_waited_for() {
    let gateway = Gateway::start();
    let (_, client) = gateway.caller("free");
    client.respond("one-sim-wait=1500").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_at_any_boundary_or_inside_any_event_ends_in_protocol_and_is_charged_by_what_passed()
 {
    let mut gateway = Gateway::start();
    let (_, client) = gateway.caller("free");
    let mut costs = Vec::new();
    for event in 0..=EVENTS {
        for inside in ["", ".1", ".25"] {
            if event == 0 && !inside.is_empty() {
                continue;
            }
            let cut = format!("{event}{inside}");
            let mut stream = client
                .stream("/v1/responses", &ask_stream(&format!("gpt-5.5-sim-out={TOKENS}+cut={cut}")))
                .await;
            let decision = stream.decision();
            let (told, whole) = stream.rest().await;
            let booked = gateway.admin.booked(&decision);
            if event == EVENTS && inside.is_empty() {
                assert!(told.contains("response.completed"), "{cut}: {told}");
                assert_eq!(booked["end"]["grade"], "exact", "{cut}: {booked}");
                costs.push(gross(&booked));
                continue;
            }
            assert!(whole, "cut={cut}: the client's stream ends in order: {told}");
            let last = told.trim_end().rsplit("\n\n").next().unwrap_or_default();
            assert!(
                last.contains("event: response.failed") && last.contains("\"type\":\"response.failed\""),
                "{cut}: {told}"
            );
            // Before its first event the upstream has accepted nothing.
            let accepted = event > 1 || (event == 1 && inside.is_empty());
            assert_eq!(booked["end"]["outcome"], if accepted { "cut" } else { "refused" }, "{cut}: {booked}");
            assert_eq!(booked["end"]["grade"] == "exact", !accepted, "{cut}: {booked}");
            assert_eq!(gross(&booked) > 0, accepted, "cut={cut}: charged from the first event on: {booked}");
            if inside.is_empty() {
                costs.push(gross(&booked));
            }
        }
    }
    assert!(costs.windows(2).all(|pair| pair[0] <= pair[1]), "more passed, no less is charged: {costs:?}");
    assert!(costs[4 + TOKENS] > costs[4], "text is charged: {costs:?}");
    gateway.stop();
    gateway.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_answer_that_is_cut_is_charged_and_the_client_sees_that_it_is_cut() {
    let gateway = Gateway::start();
    let (caller, client) = gateway.caller("free");
    for cut in ["0", "1.0", "1.1", "1.300"] {
        let opened = client.open("POST", "/v1/responses", ask_json(&format!("gpt-5.5-sim-cut={cut}"))).await;
        let mut stream = opened.expect("a head");
        let (_, whole) = stream.rest().await;
        assert!(!whole || stream.status == 502, "{cut}: {}", stream.status);
        let booked = gateway.admin.booked(&stream.decision());
        assert_eq!(booked["end"]["outcome"], "cut", "{cut}: {booked}");
        assert!(gross(&booked) > 0, "{cut}: accepted with its header: {booked}");
    }
    gateway.admin.booked_count(&caller.account, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_in_the_stream_are_charged_by_their_usage_or_by_what_passed() {
    let gateway = Gateway::start();
    let (_, client) = gateway.caller("free");
    for (words, outcome, grade) in [
        ("failed", "failed", "estimated"),
        ("failed-with-usage", "failed", "exact"),
        ("no-usage", "completed", "estimated"),
        ("null-usage", "completed", "estimated"),
        ("duplicate-terminal", "completed", "exact"),
    ] {
        let mut stream =
            client.stream("/v1/responses", &ask_stream(&format!("gpt-5.5-sim-out={TOKENS}+{words}"))).await;
        let decision = stream.decision();
        assert!(stream.rest().await.1, "{words}");
        let booked = gateway.admin.booked(&decision);
        assert_eq!(
            (&booked["end"]["outcome"], &booked["end"]["grade"]),
            (&outcome.into(), &grade.into()),
            "{words}: {booked}"
        );
        assert!(gross(&booked) > 0, "{words}: missing usage is never zero: {booked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_at_any_event_is_charged_by_what_passed_and_the_upstream_is_let_go() {
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("free");
    let mut costs = Vec::new();
    for events in 0..EVENTS {
        let body = ask_stream(&format!("gpt-5.5-sim-out={TOKENS}+pace=150"));
        let mut stream = client.stream("/v1/responses", &body).await;
        let decision = stream.decision();
        stream.events(events).await;
        stream.leave();
        let number = gateway.upstream.seen.count() - 1;
        let end = gateway.upstream.seen.wait_for_end(number, PATIENCE).await.expect("the upstream is let go");
        assert!(matches!(end, End::ClientGone { .. }), "after {events} events: {end:?}");
        let booked = gateway.admin.booked(&decision);
        assert_eq!(booked["end"]["outcome"], "client-gone", "after {events} events: {booked}");
        assert!(events == 0 || gross(&booked) > 0, "after {events} events: {booked}");
        costs.push(gross(&booked));
    }
    assert!(costs.windows(2).all(|pair| pair[0] <= pair[1]), "{costs:?}");
    gateway.admin.booked_count(&caller.account, EVENTS);
    gateway.stop();
    gateway.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_answer_begins_frees_its_hold() {
    let gateway = Gateway::start();
    let (caller, client) = gateway.caller("single");
    gateway.admin.grant(&caller, "2");
    let leaving = client.clone();
    let waiting = tokio::spawn(async move { leaving.respond("one-sim-wait=20000").await });
    gateway.upstream.seen.wait_for_count(1, PATIENCE).await.expect("it runs");
    waiting.abort();
    let end = gateway.upstream.seen.wait_for_end(0, PATIENCE).await.expect("the upstream is let go");
    assert_eq!(end, End::ClientGone { events: 0 });
    gateway.admin.booked_count(&caller.account, 1);
    client.respond("one").await.expect(200);
}

fn ask_json(model: &str) -> bytes::Bytes {
    crate::harness::client::ask(model).to_string().into()
}

/// One line of the log for one fault, and none for a client that leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_stream_is_told_to_the_operator_once() {
    let mut gateway = Gateway::start();
    let (_, client) = gateway.caller("free");
    let cut = client.stream("/v1/responses", &ask_stream(&format!("one-sim-out={TOKENS}+cut=5"))).await;
    let decision = cut.decision();
    drop({ cut }.rest().await);
    gateway.admin.booked(&decision);
    let left = client.stream("/v1/responses", &ask_stream("one-sim-out=50+pace=100")).await;
    let decision = left.decision();
    left.leave();
    gateway.admin.booked(&decision);
    gateway.stop();
    let log = gateway.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("ERROR") || line.contains("WARN")).collect();
    assert_eq!(told.len(), 1, "{log}");
    assert!(told[0].contains("the upstream failed"), "{log}");
}
