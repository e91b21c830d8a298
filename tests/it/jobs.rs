//! Background responses over the life of the process: whatever ends it, the job goes on, and is charged once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::admin::text;
use crate::harness::client::{ask, ask_stream};
use crate::harness::policies::EVERY_REASON;
use crate::harness::{Client, Gateway, Setup, books, eventually};

const KILLS: u64 = 12;
const JOBS_PER_KILL: u64 = 6;

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

/// Design section 3, "Deadlines": a truth after the deadline is a correction, whichever process lives then.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_given_up_before_a_kill_is_corrected_by_its_truth_after_it() {
    let policy = EVERY_REASON.replace(
        "    overage: {forgive: 100, debt: 0}\n",
        "    overage: {forgive: 100, debt: 0}\n    deadlines: {background: 2s}\n",
    );
    let setup = Setup::default().policy(&policy);
    let mut gateway =
        setup.deployment("jobs: {polls_per_second: 100, poll_first: 1s, poll_longest: 1s}").start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "1000");
    let body = in_background(ask("gpt-5.5-sim-out=20+runs=7000"));
    let id = text(&client.post("/v1/responses", &body).await.expect(200).json(), "id");
    let booked = booked(&gateway, &caller.account).await;
    assert_eq!(booked[0]["end"]["outcome"], "expired", "{booked:?}");
    gateway.kill();
    gateway.restart();
    let ledger = gateway.ledger();
    eventually("its truth is booked", async || {
        (books::count(&ledger, "monetization_events WHERE revision = 2") == 1).then_some(())
    })
    .await;
    gateway.client(&caller).get(&format!("/v1/responses/{id}")).await.expect(200);
    gateway.stop();
    gateway.audit();
    let refunded_or_debited = "balance_updates WHERE kind IN ('debit', 'refund')";
    assert_eq!(books::count(&ledger, refunded_or_debited), 2, "by the deadline, and by the truth");
}

/// I9, I10: killed at any moment of their lives, jobs that a client was told of are charged exactly, others once at most
/// at their floor; no hold stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_process_is_killed_every_job_is_booked_once() {
    let mut gateway = start();
    let caller = gateway.admin.caller("prepaid");
    gateway.admin.grant(&caller, "1000000");
    let told = Arc::new(Mutex::new(BTreeMap::new()));
    let mut serial = 0;
    for round in 0..KILLS {
        let mut making = JoinSet::new();
        for _ in 0..JOBS_PER_KILL {
            serial += 1;
            // A name of its own, whose words change nothing but the length of its life.
            let model = format!("gpt-5.5-sim-out={serial}+out=20+runs={}", (serial * 37) % 900);
            let (client, told) = (gateway.client(&caller), Arc::clone(&told));
            making.spawn(async move {
                let body = in_background(if serial % 3 == 0 { ask_stream(&model) } else { ask(&model) });
                let id = made(&client, body).await;
                if let (Some(id), true) = (&id, serial % 2 == 0) {
                    drop(client.open("GET", &format!("/v1/responses/{id}"), Bytes::new()).await);
                }
                told.lock().unwrap().insert(model, id.is_some());
            });
        }
        tokio::time::sleep(Duration::from_millis(round * 17 % 120)).await;
        gateway.process.quiet();
        tokio::task::block_in_place(|| {
            gateway.kill();
            gateway.restart();
        });
        making.join_all().await;
    }
    eventually("every job has ended", async || {
        (gateway.admin.metric("overfall_meter_holds", &[]) < 0.5).then_some(())
    })
    .await;
    gateway.stop();
    gateway.audit();
    let mut booked = BTreeMap::new();
    for event in books::usage_events(&gateway.ledger()) {
        let before = booked.insert(event.model.clone(), event);
        assert!(before.is_none(), "{before:?} is booked twice");
    }
    let told = told.lock().unwrap();
    for (model, was_told) in told.iter() {
        let end = booked.get(model).map(|event| (event.outcome.as_str(), event.grade.as_str()));
        match end {
            Some(("completed", "exact")) => assert_eq!(booked[model].output_tokens, 20),
            _ => assert!(!was_told, "its client was told of {model}, which is booked as {end:?}"),
        }
    }
    let known = told.values().filter(|told| **told).count();
    println!("{known} of {} jobs were told of, {} are booked", told.len(), booked.len());
    assert!(known > 5, "there were jobs to kill");
}

/// The id of what a call made, if its answer came that far.
async fn made(client: &Client, body: Value) -> Option<String> {
    let mut stream = client.open("POST", "/v1/responses", body.to_string().into()).await.ok()?;
    let mut text = Vec::new();
    while let Some(Ok(chunk)) = stream.chunk().await {
        text.extend_from_slice(&chunk);
        let text = String::from_utf8_lossy(&text);
        if let Some(rest) = text.split("\"id\":\"").nth(1)
            && let Some((id, _)) = rest.split_once('"')
        {
            return Some(id.to_owned());
        }
    }
    None
}
