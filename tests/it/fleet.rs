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

pub(crate) const REQUESTS: usize = 400;
const CLIENTS: usize = 64;

/// Asks 400 times from 64 clients, each at the gateway that is next; statuses, counted.
pub(crate) async fn hit(clients: &[Client], model: &str) -> BTreeMap<u16, usize> {
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
pub(crate) async fn knows(client: &Client) {
    let knows = async || (client.get("/v1/access").await.status == 200).then_some(());
    eventually("every gateway knows the key", knows).await;
}

pub(crate) fn fleet(stores: &SharedStores) -> Vec<Gateway> {
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
