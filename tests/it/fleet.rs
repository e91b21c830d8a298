//! Several gateways on one Redis and one PostgreSQL, as processes of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;

use crate::harness::client::ask;
use crate::harness::policies::EVERY_REASON;
use crate::harness::shared::SharedStores;
use crate::harness::{Client, Gateway, eventually};

const REQUESTS: usize = 400;
const CLIENTS: usize = 64;

/// Asks 400 times from 64 clients, each at the gateway that is next; statuses, counted.
async fn hit(clients: &[Client], model: &str) -> BTreeMap<u16, usize> {
    let left = Arc::new(Semaphore::new(REQUESTS));
    let mut asking = tokio::task::JoinSet::new();
    for nth in 0..CLIENTS {
        let (client, left) = (clients[nth % clients.len()].clone(), Arc::clone(&left));
        let model = model.to_owned();
        asking.spawn(async move {
            let mut statuses = Vec::new();
            while let Ok(permit) = left.try_acquire() {
                permit.forget();
                statuses.push(client.respond(&model).await.status);
            }
            statuses
        });
    }
    let mut counts = BTreeMap::new();
    for status in asking.join_all().await.into_iter().flatten() {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

/// Waits until a gateway knows a key that another one has made.
async fn knows(client: &Client) {
    let knows = async || (client.get("/v1/access").await.status == 200).then_some(());
    eventually("every gateway knows the key", knows).await;
}

fn fleet(stores: &SharedStores) -> Vec<Gateway> {
    (0..3).map(|_| tokio::task::block_in_place(|| stores.gateway(EVERY_REASON))).collect()
}

/// I4, I5, and I6 to I12 of what was booked: three gateways count as one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gateways_let_through_exactly_what_one_would() {
    let stores = SharedStores::start().await;
    let mut gateways = fleet(&stores);
    let caller = gateways[0].admin.caller("fifty");
    let prepaid = gateways[1].admin.caller("prepaid");
    gateways[2].admin.grant(&prepaid, "20");
    for (caller, model, passed) in [(&caller, "gpt-5.5", 50), (&prepaid, "one", 20)] {
        let clients: Vec<_> = gateways.iter().map(|gateway| gateway.client(caller)).collect();
        for client in &clients {
            knows(client).await;
        }
        assert_eq!(hit(&clients, model).await, [(200, passed), (429, REQUESTS - passed)].into());
    }
    let seen: u64 = gateways.iter().map(|gateway| gateway.upstream.seen.count()).sum();
    assert_eq!(seen, 70);
    for gateway in &mut gateways[1..] {
        gateway.stop();
    }
    gateways[0].stop();
    let report = gateways[0].audit();
    assert_eq!(report["checked"]["usage_events"], json!(70));
}

/// I9, I10: whoever is killed, every call that reached an upstream is on the books once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_and_a_worker_that_are_killed_lose_nothing() {
    let stores = SharedStores::start().await;
    let mut gateways = fleet(&stores);
    let mut worker = gateways[0].spawn_worker();
    worker.wait_for_line("the worker settles");
    let caller = gateways[0].admin.caller("prepaid");
    gateways[0].admin.grant(&caller, "100000");
    let clients: Vec<_> = gateways.iter().map(|gateway| gateway.client(&caller)).collect();
    for client in &clients {
        knows(client).await;
    }
    let asking: Vec<_> = clients
        .iter()
        .map(|client| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut answered = 0;
                for _ in 0..120 {
                    let body = ask("one-sim-wait=20").to_string().into();
                    let asked = client.try_send("POST", "/v1/responses", body).await;
                    answered += u64::from(asked.is_ok_and(|answer| answer.status == 200));
                }
                answered
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(700)).await;
    tokio::task::block_in_place(|| {
        gateways[1].process.quiet();
        gateways[1].kill();
        worker.kill();
        gateways[1].restart();
    });
    let mut answered = 0u64;
    for one in asking {
        answered += one.await.expect("no panic");
    }
    assert!(answered >= 240, "the other two served all along: {answered}");
    let seen: u64 = gateways.iter().map(|gateway| gateway.upstream.seen.count()).sum();
    // The worker's queues are taken over when its lease ends.
    let booked = async || {
        let report = tokio::task::block_in_place(|| gateways[0].audit());
        report["checked"]["usage_events"].as_u64().filter(|booked| *booked >= seen)
    };
    let booked = eventually("what was queued is booked", booked).await;
    assert!(booked >= answered, "{booked} booked, {seen} seen, {answered} answered");
    for gateway in &mut gateways {
        gateway.stop();
    }
    gateways[0].audit();
}

/// Status and `Retry-After` of a request.
async fn asked(client: &Client) -> (u16, bool) {
    let answer = client.respond("one").await;
    (answer.status, answer.header("retry-after").is_some())
}

/// Waits until a gateway lets requests through again.
async fn serves(client: &Client) {
    let serves = async || (asked(client).await.0 == 200).then_some(());
    eventually("the gateway serves again", serves).await;
}

/// Whoever asks while Redis hangs or is away is told so in time, with when to come again; then all goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_or_is_killed_is_a_503_in_time_and_then_forgotten() {
    let mut stores = SharedStores::start().await;
    let mut gateway = tokio::task::block_in_place(|| stores.gateway(EVERY_REASON));
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "1000");
    assert_eq!(asked(&client).await, (200, false));
    stores.redis.pause();
    let refused = tokio::time::timeout(Duration::from_secs(10), asked(&client)).await;
    assert_eq!(refused.expect("no hang"), (503, true));
    stores.redis.resume();
    serves(&client).await;
    stores.redis.kill();
    let refused = tokio::time::timeout(Duration::from_secs(10), asked(&client)).await;
    assert_eq!(refused.expect("no hang"), (503, true));
    stores.redis.start_again();
    serves(&client).await;
    gateway.stop();
    gateway.audit();
}

/// I4, I5, I7, I10: a Redis that loses everything while requests run is not counted on: the gateways leave it, build it anew
/// from the books and what each has in flight, and go on by themselves. Nothing is lost and nothing given twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_emptied_under_load_is_built_anew_by_all() {
    const CREDITS: u64 = 150;
    let mut stores = SharedStores::start().await;
    let mut gateways: Vec<_> =
        tokio::task::block_in_place(|| (0..3).map(|_| stores.gateway(EVERY_REASON)).collect());
    let (caller, _) = gateways[0].caller("prepaid");
    gateways[0].admin.grant(&caller, &CREDITS.to_string());
    eventually("all know the key", async || {
        let mut known = true;
        for gateway in &gateways {
            known &= gateway.client(&caller).respond("one").await.status == 200;
        }
        known.then_some(())
    })
    .await;
    let asking: Vec<_> = (0..12)
        .map(|nth| {
            let client = gateways[nth % gateways.len()].client(&caller);
            tokio::spawn(async move {
                let mut answers = (0u64, 0u64, 0u64);
                let begun = tokio::time::Instant::now();
                while begun.elapsed() < Duration::from_mins(1) {
                    match client.respond("one").await.status {
                        200 => answers.0 += 1,
                        429 => return answers,
                        503 => {
                            answers.1 += 1;
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                        _ => answers.2 += 1,
                    }
                    tokio::time::sleep(Duration::from_millis(60)).await;
                }
                panic!("the credits are never spent: {answers:?}")
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(400)).await;
    tokio::task::block_in_place(|| stores.redis.restart_empty());
    let (mut answered, mut refused, mut others) = (0, 0, 0);
    for one in asking {
        let (good, away, other) = one.await.expect("no panic");
        (answered, refused, others) = (answered + good, refused + away, others + other);
    }
    let seen: u64 = gateways.iter().map(|gateway| gateway.upstream.seen.count()).sum();
    assert_eq!(seen, CREDITS, "I4: a credit buys one call; {answered} answered, {refused} refused");
    assert!(refused > 0, "nobody was refused: nothing was lost");
    assert_eq!(others, 0);
    let booked = async || {
        let report = tokio::task::block_in_place(|| gateways[0].audit());
        (report["checked"]["usage_events"] == json!(seen)).then_some(())
    };
    eventually("all calls are booked", booked).await;
    for gateway in &mut gateways {
        gateway.stop();
    }
    gateways[0].audit();
}

/// I4, I5, I10: a Redis that lost everything while no gateway ran is built from the books by the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_emptied_is_built_again_at_a_start() {
    let mut stores = SharedStores::start().await;
    let mut gateway = tokio::task::block_in_place(|| stores.gateway(EVERY_REASON));
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "3");
    assert_eq!(asked(&client).await.0, 200);
    assert_eq!(asked(&client).await.0, 200);
    tokio::task::block_in_place(|| {
        gateway.stop();
        stores.redis.restart_empty();
        gateway.restart();
    });
    let client = gateway.client(&caller);
    assert_eq!(asked(&client).await.0, 200, "the third of three credits");
    assert_eq!(asked(&client).await.0, 429, "and no fourth");
    gateway.stop();
    gateway.audit();
}
