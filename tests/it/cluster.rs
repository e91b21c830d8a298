//! Several gateways on a Redis Cluster, as processes of their own.

use std::time::Duration;

use serde_json::json;

use crate::fleet::{REQUESTS, hit, knows};
use crate::harness::Gateway;
use crate::harness::cluster::{ClusterStores, Fate};
use crate::harness::policies::EVERY_REASON;
use crate::outages::Spending;

pub(crate) fn fleet(stores: &ClusterStores) -> Vec<Gateway> {
    (0..3).map(|_| tokio::task::block_in_place(|| stores.gateway(EVERY_REASON))).collect()
}

/// I4, I5, and I6 to I12 of what was booked: three gateways on a cluster count as one. One whose deployment names a node
/// that is not there starts all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gateways_on_a_cluster_let_through_exactly_what_one_would() {
    let stores = ClusterStores::start().await;
    let mut gateways = fleet(&stores);
    let urls = stores.cluster.urls();
    let (first, _) = urls.split_once(',').expect("several nodes");
    let (gone, _) = first.rsplit_once(':').expect("a port");
    let urls = format!("{gone}:1,{urls}");
    gateways.push(tokio::task::block_in_place(|| stores.gateway_at(&urls, EVERY_REASON)));
    let caller = gateways[0].admin.caller("fifty");
    let clients: Vec<_> = gateways.iter().map(|gateway| gateway.client(&caller)).collect();
    for client in &clients {
        knows(client).await;
    }
    assert_eq!(hit(&clients, "gpt-5.5").await, [(200, 50), (429, REQUESTS - 50)].into());
    let seen: u64 = gateways.iter().map(|gateway| gateway.upstream.seen.count()).sum();
    assert_eq!(seen, 50);
    for gateway in &mut gateways {
        gateway.stop();
    }
    let report = gateways[0].audit();
    assert_eq!(report["checked"]["usage_events"], json!(50));
}

/// I4, I5, I10: the slot of an account goes to another master while its requests run, key by key. Nothing is lost, nothing
/// given twice, and no epoch ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_under_load_takes_its_accounts_along() {
    let stores = ClusterStores::start().await;
    let gateways = fleet(&stores);
    let spending = Spending::start(&gateways).await;
    tokio::task::block_in_place(|| {
        let slots = stores.cluster.slots_of_accounts();
        assert!(!slots.is_empty());
        for slot in slots {
            stores.cluster.migrate(slot, || std::thread::sleep(Duration::from_millis(100)));
        }
    });
    let logs: Vec<_> = gateways.iter().map(Gateway::log).collect();
    assert!(!logs.concat().contains("built anew"), "a slot that moves has lost nothing");
    spending.refused(gateways).await;
}

/// I4, I5, I7, I10: a master dies while requests run, and a replica that lacks its newest writes takes its place. All
/// gateways see that by themselves and build counts anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_dies_under_load_is_followed_by_its_replica_and_a_new_epoch() {
    let mut stores = ClusterStores::start().await;
    let gateways = fleet(&stores);
    let spending = Spending::start(&gateways).await;
    tokio::task::block_in_place(|| {
        let slot = stores.cluster.slots_of_accounts()[0];
        stores.cluster.replace_master_of(slot, Fate::Dies, || std::thread::sleep(Duration::from_millis(400)));
    });
    let refused = spending.refused(gateways).await;
    assert!(refused > 0, "nobody was refused: there was no outage");
}
