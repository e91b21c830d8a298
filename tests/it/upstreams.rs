//! Several upstreams behind one gateway: what one does not take goes to the next, and each keeps what it made.

use crate::harness::client::ask;
use crate::harness::{Gateway, Setup, Simulated, ports, until};

/// A metric of one upstream, whole. The sum of no series is a zero below zero.
fn of(gateway: &Gateway, name: &str, upstream: &str) -> String {
    format!("{:.0}", gateway.admin.metric(name, &[&format!("upstream=\"{upstream}\"")]).abs())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_upstream_serves_while_the_first_is_away_and_keeps_what_it_made_over_a_crash() {
    let spare = Simulated::start();
    let nobody = format!("http://{}", ports::free());
    let mut gateway = Setup::default().base_url(&nobody).spare("spare", &spare.url()).start();
    let (caller, client) = gateway.caller("free");
    let mut id = String::new();
    for _ in 0..3 {
        let answer = client.respond("one").await.expect(200);
        gateway.admin.booked(&answer.decision());
        id = answer.json()["id"].as_str().expect("an id").to_owned();
    }
    assert_eq!(spare.seen.count(), 3);
    until("the first upstream is seen to fail", || {
        let failures = of(&gateway, "overfall_upstream_failures_total", "simulated");
        (failures == "3" && of(&gateway, "overfall_upstream_requests_total", "spare") == "3").then_some(())
    });
    gateway.kill();
    gateway.restart();
    let client = gateway.client(&caller);
    client.get(&format!("/v1/responses/{id}")).await.expect(200);
    let mut follow = ask("one");
    follow["previous_response_id"] = serde_json::json!(id);
    client.send("POST", "/v1/responses", follow.to_string()).await.expect(200);
    assert_eq!(spare.seen.count(), 5);
    until("what is owned is sent nowhere else", || {
        (of(&gateway, "overfall_upstream_requests_total", "spare") == "2").then_some(())
    });
    assert!(of(&gateway, "overfall_upstream_requests_total", "simulated") == "0");
    gateway.stop();
    gateway.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_falls_while_no_upstream_answers_and_comes_back_by_itself() {
    let breaker = "breaker: {failures: 2, within: 60s, pause: 2s}";
    let gateway = Setup::default().upstream_setting(breaker).start();
    let (_, client) = gateway.caller("free");
    for _ in 0..2 {
        client.respond("one-sim-status=503").await.expect(503);
    }
    let ready = || gateway.admin.raw("GET", "/readyz", None, None).expect("the operator's listener");
    let (status, told) = ready();
    assert!(status == 503 && told.contains("no-upstream"), "{status} {told}");
    let answer = client.respond("one").await.expect(503);
    assert_eq!(answer.error().1, "server_is_overloaded");
    assert_eq!(gateway.upstream.seen.count(), 2);
    until("metrics tell", || (of(&gateway, "overfall_upstream_breaker", "simulated") == "2").then_some(()));
    until("the pause is over", || (ready().0 == 200).then_some(()));
    client.respond("one").await.expect(200);
    until("metrics tell", || (of(&gateway, "overfall_upstream_usable", "simulated") == "1").then_some(()));
    assert!(of(&gateway, "overfall_upstream_breaker", "simulated") == "0");
}
