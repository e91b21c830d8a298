//! A replica that never heard of what was spent takes the place of its master, and gateways go on asking all the time.
//!
//! Nobody decides by what it has, not even for the moment until that is noticed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::fleet::{REQUESTS, hit, knows};
use crate::harness::cluster::{ClusterStores, Fate};
use crate::harness::shared::{Replica, SharedStores};
use crate::harness::{Client, Gateway};
use crate::{cluster, fleet};

const MODEL: &str = "gpt-5.5";

/// Fifty requests of one account, and clients that ask for more.
struct Fifty {
    gateways: Vec<Gateway>,
    clients: Vec<Client>,
    asking: JoinSet<BTreeMap<u16, usize>>,
}

impl Fifty {
    /// The first of them, which a replica hears of.
    async fn first(gateways: Vec<Gateway>) -> Self {
        let caller = gateways[0].admin.caller("fifty");
        let clients: Vec<_> = gateways.iter().map(|gateway| gateway.client(&caller)).collect();
        for client in &clients {
            knows(client).await;
        }
        clients[0].respond(MODEL).await.expect(200);
        Self { gateways, clients, asking: JoinSet::new() }
    }

    /// The others, from a thread that may block.
    fn others(&mut self) {
        let spent = Handle::current().block_on(hit(&self.clients, MODEL));
        assert_eq!(spent, [(200, 49), (429, REQUESTS - 49)].into());
        for client in &self.clients {
            self.asking.spawn(ask_until_refused(client.clone()));
        }
    }

    /// Sees that none was given twice, and that all are booked.
    async fn are_spent_once(mut self) {
        for told in self.asking.join_all().await {
            assert!(!told.contains_key(&200), "given twice: {told:?}");
        }
        let seen: u64 = self.gateways.iter().map(|gateway| gateway.upstream.seen.count()).sum();
        assert_eq!(seen, 50);
        for gateway in &mut self.gateways {
            gateway.stop();
        }
        let report = self.gateways[0].audit();
        assert_eq!(report["checked"]["usage_events"], json!(50));
    }
}

/// Asks until nothing is left by a Redis that has been away: what it was told, counted.
async fn ask_until_refused(client: Client) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    loop {
        let status = client.respond(MODEL).await.status;
        *counts.entry(status).or_default() += 1;
        if status == 429 && counts.contains_key(&503) {
            return counts;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// I4, I10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_at_the_address_of_its_dead_master_gives_nothing_twice() {
    let mut stores = SharedStores::start().await;
    let replica = Replica::of(&stores.redis).await;
    let mut fifty = Fifty::first(fleet::fleet(&stores)).await;
    replica.hear_nothing();
    tokio::task::block_in_place(|| fifty.others());
    stores.redis.kill();
    replica.take_over();
    fifty.are_spent_once().await;
}

async fn is_replaced(fate: Fate) {
    let mut stores = ClusterStores::start().await;
    let mut fifty = Fifty::first(cluster::fleet(&stores)).await;
    tokio::task::block_in_place(|| {
        let slot = stores.cluster.slots_of_accounts()[0];
        stores.cluster.replace_master_of(slot, fate, || fifty.others());
    });
    fifty.are_spent_once().await;
}

/// I4, I10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_a_cluster_whose_master_dies_gives_nothing_twice() {
    is_replaced(Fate::Dies).await;
}

/// I4, I10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_a_cluster_whose_master_hangs_and_comes_back_gives_nothing_twice() {
    is_replaced(Fate::Hangs).await;
}
