//! Background responses over the life of the process: whatever ends it, the job goes on, and is charged once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::client::{ask, ask_stream};
use crate::harness::{Gateway, Setup, books, eventually};

/// A gateway that asks early and often.
fn start() -> Gateway {
    Setup::default().deployment("jobs: {polls_per_second: 100, poll_first: 1s, poll_longest: 1s}").start()
}

fn in_background(mut body: Value) -> Value {
    body["background"] = json!(true);
    body
}

/// Waits until the job of a decision is on the books, as nobody but the watcher can learn it.
async fn booked(gateway: &Gateway, account: &str) -> Vec<Value> {
    eventually("the job is booked", async || {
        let open = gateway.admin.metric("overfall_meter_holds", &[]);
        (open < 0.5).then_some(())
    })
    .await;
    gateway.admin.booked_count(account, 1)
}

/// I9, I10: job open, `kill -9`, restart: the watcher learns the end by itself, it is charged once, the audit is green.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_open_when_the_process_died_is_learnt_and_charged_once_after_it() {
    let mut gateway = start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "1000");
    let body = in_background(ask("gpt-5.5-sim-out=20+runs=4000"));
    let made = client.post("/v1/responses", &body).await.expect(200);
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(made.json()["status"], "queued");
    for _ in 0..2 {
        gateway.kill();
        gateway.restart();
        assert!(gateway.admin.metric("overfall_meter_holds", &[]) > 0.5, "it is still open");
        let stranger = gateway.caller("prepaid").1;
        stranger.get(&format!("/v1/responses/{id}")).await.expect(404);
        let owner = gateway.client(&caller);
        let told = owner.get(&format!("/v1/responses/{id}")).await.expect(200).json();
        assert_eq!(told["status"], "in_progress", "it is its account's, also before its end is known");
    }
    let booked = booked(&gateway, &caller.account).await;
    let end = &booked[0]["end"];
    assert_eq!((&end["outcome"], &end["grade"]), (&json!("completed"), &json!("exact")), "{booked:?}");
    gateway.kill();
    gateway.restart();
    tokio::time::sleep(Duration::from_millis(200)).await;
    gateway.client(&caller).get(&format!("/v1/responses/{id}")).await.expect(200);
    gateway.stop();
    gateway.audit();
    let events = books::usage_events(&gateway.ledger());
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].gross > 0, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_ends_without_waiting_for_its_jobs_and_takes_them_up_again() {
    let mut gateway = start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "1000");
    let body = in_background(ask_stream("gpt-5.5-sim-out=20+runs=1000+pace=100"));
    let mut stream = client.stream("/v1/responses", &body).await;
    stream.events(3).await;
    drop(stream);
    gateway.stop();
    gateway.audit();
    assert!(books::usage_events(&gateway.ledger()).is_empty(), "it has not ended");
    gateway.restart();
    let booked = booked(&gateway, &caller.account).await;
    assert_eq!(booked[0]["end"]["outcome"], "completed", "{booked:?}");
    gateway.stop();
    gateway.audit();
    assert_eq!(books::usage_events(&gateway.ledger()).len(), 1);
}
