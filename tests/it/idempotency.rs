//! Requests that come again with their `Idempotency-Key`: through restarts, and through the gateway's death at any
//! point, nobody is charged twice without being told (I6, I9, I10).

use bytes::Bytes;

use crate::harness::client::{Client, ask_stream, parameter};
use crate::harness::{Answer, Caller, Gateway, PATIENCE, Setup, until};

/// The same client with a key.
fn keyed(gateway: &Gateway, caller: &Caller, key: &str) -> Client {
    gateway.client(caller).with("idempotency-key", key)
}

/// A request of a body that tests vary by a header, so that it stays the same request.
async fn ask(client: &Client, simulate: &str) -> Answer {
    client.clone().with("x-simulate", simulate).post("/v1/responses", &ask_stream("gpt-5.5-sim-out=3")).await
}

fn told(answer: &Answer) -> (String, String) {
    let told = answer.header("x-access-idempotency").unwrap_or_default();
    let word = told.split(';').next().unwrap_or_default().to_owned();
    (word, parameter(told, "id").unwrap_or_default())
}

/// Asks again until the books have told what became of the first call.
async fn comes_back(client: &Client) -> Answer {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = ask(client, "out=3").await;
        let in_use = answer.status == 409 && answer.error().1 == "idempotency_key_in_use";
        if !in_use || tokio::time::Instant::now() > deadline {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// I10: what was answered is answered again after a restart and after a crash, and costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_given_again_after_a_restart_and_after_a_crash() {
    let mut gateway = Gateway::start();
    let (caller, _) = gateway.caller("free");
    let first = ask(&keyed(&gateway, &caller, "one"), "out=3").await.expect(200);
    assert_eq!(told(&first), ("kept".to_owned(), first.decision()));
    for killed in [false, true] {
        if killed {
            gateway.kill();
        } else {
            gateway.stop();
        }
        gateway.restart();
        let client = keyed(&gateway, &caller, "one");
        let again = comes_back(&client).await.expect(200);
        assert_eq!((&again.body, again.header("x-access-replayed")), (&first.body, Some("true")));
        assert_eq!(told(&again), ("replayed".to_owned(), first.decision()));
        let other = client.post("/v1/responses", &ask_stream("gpt-5.5")).await.expect(422);
        assert_eq!(other.error().1, "idempotency_key_reused");
    }
    assert_eq!(gateway.upstream.seen.count(), 1, "one call, whoever asked");
    gateway.admin.booked_count(&caller.account, 1);
    gateway.stop();
    gateway.audit();
}

/// I10, I9: in flight when the gateway dies: the hold is booked at its floor, and the retry is told which.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_at_a_crash_is_told_by_its_decision_and_never_charged_again() {
    let mut gateway = Gateway::start();
    let (caller, _) = gateway.caller("free");
    let client = keyed(&gateway, &caller, "one");
    let mut begun = client
        .clone()
        .with("x-simulate", "pace=200")
        .stream("/v1/responses", &ask_stream("gpt-5.5-sim-out=3"))
        .await;
    let decision = begun.decision();
    begun.events(2).await;
    gateway.kill();
    gateway.restart();
    let client = keyed(&gateway, &caller, "one");
    let again = comes_back(&client).await.expect(409);
    assert_eq!(again.error().1, "idempotency_call_unanswered");
    assert_eq!(
        (told(&again), again.header("x-should-retry")),
        (("unanswered".into(), decision.clone()), Some("false"))
    );
    let booked = gateway.admin.booked(&decision);
    assert_eq!((&booked["end"]["outcome"], &booked["end"]["grade"]), (&"crashed".into(), &"floor".into()));
    let view = gateway.client(&caller).get(&format!("/v1/access/decisions/{decision}")).await.expect(200);
    assert_eq!(view.json()["state"], "ended");
    assert_eq!(gateway.upstream.seen.count(), 1);
    gateway.admin.booked_count(&caller.account, 1);
    gateway.stop();
    gateway.audit();
}

/// I6, I10: killed at any moment, again and again, each key is charged at most once; and whatever its client is told at
/// last, an answer or a decision, is what is on the books.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_no_key_is_ever_charged_twice() {
    const ROUNDS: u64 = 10;
    const CLIENTS: usize = 6;
    let mut gateway = Gateway::start();
    let (caller, _) = gateway.caller("free");
    gateway.process.quiet();
    let mut asked: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let keys: Vec<String> = (0..CLIENTS).map(|number| format!("{round}-{number}")).collect();
        let under_way: Vec<_> = keys
            .iter()
            .enumerate()
            .map(|(number, key)| {
                // Some are refused by the upstream: those charge nothing, unless the gateway dies before that is durable.
                let simulate = if number % 3 == 0 { "status=500" } else { "pace=1" };
                let client = keyed(&gateway, &caller, key).with("x-simulate", simulate);
                tokio::spawn(async move {
                    let body = Bytes::from(ask_stream("gpt-5.5-sim-out=3").to_string());
                    // Whatever is heard of it, or nothing.
                    let _heard = client.try_send("POST", "/v1/responses", body).await;
                })
            })
            .collect();
        // From before the first key is taken to after the last answer.
        tokio::time::sleep(std::time::Duration::from_millis(round * round / 2)).await;
        gateway.kill();
        for call in under_way {
            call.await.expect("no panic");
        }
        asked.extend(keys);
        gateway.restart();
        gateway.process.quiet();
    }
    let mut decisions = Vec::new();
    for key in &asked {
        let answer = comes_back(&keyed(&gateway, &caller, key)).await;
        let (word, decision) = told(&answer);
        match answer.status {
            200 => assert!(matches!(&*word, "kept" | "replayed"), "{key}: {word}"),
            409 => assert_eq!(word, "unanswered", "{key}: {answer:?}"),
            status => panic!("{key}: {status} {answer:?}"),
        }
        let booked = gateway.admin.booked(&decision);
        assert_ne!(booked["end"]["outcome"], "not-sent", "{key}: {booked}");
        decisions.push(decision);
    }
    decisions.sort();
    decisions.dedup();
    assert_eq!(decisions.len(), asked.len(), "each key is its own call");
    // What charged nothing may have been tried before; what was charged was charged for one of these.
    let charged: Vec<String> = gateway
        .admin
        .booked_count(&caller.account, asked.len())
        .iter()
        .filter(|row| row["end"]["charge"]["gross"] != "0")
        .map(|row| row["id"].as_str().expect("an id").to_owned())
        .collect();
    let twice: Vec<_> = charged.iter().filter(|decision| !decisions.contains(decision)).collect();
    assert!(twice.is_empty(), "charged, and not what the client was told: {twice:?}");
    gateway.stop();
    gateway.audit();
}

/// Kept for as long as the deployment says, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_known_for_as_long_as_the_deployment_says() {
    let gateway = Setup::default().deployment("idempotency: {keep: 1s, answer: 64KiB, total: 1MiB}").start();
    let (caller, _) = gateway.caller("free");
    let client = keyed(&gateway, &caller, "one");
    let first = ask(&client, "out=3").await.expect(200);
    let told = first.header("x-access-idempotency").expect("told").to_owned();
    assert!(told.ends_with(";max-bytes=65536;seconds=1"), "{told}");
    let metrics = until("the key is swept", || {
        let metrics = gateway.admin.metrics();
        metrics.contains("overfall_idempotency_keys 0").then_some(metrics)
    });
    assert!(metrics.contains("overfall_idempotency_answer_bytes 0"), "{metrics}");
    let second = ask(&client, "out=3").await.expect(200);
    assert_ne!(first.decision(), second.decision(), "the key is free again");
    client
        .clone()
        .with("x-simulate", "out=3")
        .post("/v1/responses", &ask_stream("gpt-5.5-sim-out=3"))
        .await
        .expect(200);
    let metrics = gateway.admin.metrics();
    assert!(metrics.contains("overfall_idempotency_replays_total 1"), "{metrics}");
}
