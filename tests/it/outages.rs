//! Stores that are away, slow, full, emptied, or followed by others, under several gateways.

use std::time::Duration;

use serde_json::json;

use crate::fleet::{fleet, knows};
use crate::harness::policies::EVERY_REASON;
use crate::harness::shared::{Replica, SharedStores, port, succeeds, told};
use crate::harness::{Client, Gateway, Setup, eventually};

/// Who ask at the same time.
const CLIENTS: usize = 12;
/// What is granted; one call costs one.
const CREDITS: u64 = 400;

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

/// Clients that ask until nothing is left. What they were told: let through, refused for now.
pub(crate) struct Spending(tokio::task::JoinSet<(u64, u64)>);

impl Spending {
    pub(crate) async fn start(gateways: &[Gateway]) -> Self {
        let caller = gateways[0].admin.caller("prepaid");
        gateways[0].admin.grant(&caller, &CREDITS.to_string());
        let mut asking = tokio::task::JoinSet::new();
        for nth in 0..CLIENTS {
            let client = gateways[nth % gateways.len()].client(&caller);
            knows(&client).await;
            asking.spawn(spend(client));
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        Self(asking)
    }

    /// Waits until all is spent, and sees that it was spent once, and is booked; and that somebody was refused.
    async fn end(self, gateways: Vec<Gateway>) {
        assert!(self.refused(gateways).await > 0, "nobody was refused: there was no outage");
    }

    /// Waits until all is spent, and sees that it was spent once, and is booked. How many were refused for now.
    pub(crate) async fn refused(self, mut gateways: Vec<Gateway>) -> u64 {
        let told = self.0.join_all().await;
        let (answered, refused): (u64, u64) =
            told.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let seen: u64 = gateways.iter().map(|gateway| gateway.upstream.seen.count()).sum();
        assert_eq!(seen, CREDITS, "I4: a credit buys one call; {answered} answered, {refused} refused");
        let booked = async || {
            let report = tokio::task::block_in_place(|| gateways[0].audit());
            (report["checked"]["usage_events"] == json!(seen)).then_some(())
        };
        eventually("all calls are booked", booked).await;
        for gateway in &mut gateways {
            gateway.stop();
        }
        gateways[0].audit();
        refused
    }
}

async fn spend(client: Client) -> (u64, u64) {
    let (mut answered, mut refused) = (0, 0);
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_mins(1) {
        match client.respond("one").await.status {
            200 => answered += 1,
            429 => return (answered, refused),
            503 => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            status => panic!("{status}"),
        }
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    panic!("it is never spent: {answered} answered, {refused} refused")
}

/// I4, I5, I7, I10: a Redis that loses everything while requests run is not counted on: the gateways leave it, build it anew
/// from the books and what each has in flight, and go on by themselves. Nothing is lost and nothing given twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_emptied_under_load_is_built_anew_by_all() {
    let mut stores = SharedStores::start().await;
    let gateways = fleet(&stores);
    let spending = Spending::start(&gateways).await;
    tokio::task::block_in_place(|| stores.redis.restart_empty());
    spending.end(gateways).await;
}

/// I4, I5, I7: what fills a balance and is in no books yet is done again before anything draws on it, whichever gateway did
/// it and whichever drew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balance_is_filled_again_before_calls_draw_on_it() {
    let mut stores = SharedStores::start().await;
    let mut gateways = fleet(&stores);
    let caller = gateways[0].admin.caller("prepaid");
    let clients: Vec<_> = gateways.iter().map(|gateway| gateway.client(&caller)).collect();
    for client in &clients {
        knows(client).await;
    }
    let nothing_is_booked =
        stores.postgres.run("BEGIN; LOCK TABLE heads IN EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT");
    let lost = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        tokio::task::block_in_place(|| gateways[0].admin.grant(&caller, "20"));
        for client in clients[1..].iter().cycle().take(10) {
            assert_eq!(client.respond("one").await.status, 200);
        }
        tokio::task::block_in_place(|| stores.redis.restart_empty());
    };
    let (slept, ()) = tokio::join!(nothing_is_booked, lost);
    slept.expect("the books are locked for a while");
    let mut passed = 0;
    let spent = async || {
        let status = clients[0].respond("one").await.status;
        passed += u32::from(status == 200);
        (status == 429).then_some(())
    };
    eventually("it is spent", spent).await;
    assert_eq!(passed, 10, "I4: twenty credits, of which ten were spent before");
    let booked = async || {
        let report = tokio::task::block_in_place(|| gateways[0].audit());
        (report["checked"]["usage_events"] == json!(20)).then_some(())
    };
    eventually("all calls are booked", booked).await;
    for gateway in &mut gateways {
        gateway.stop();
    }
    gateways[0].audit();
}

/// I4, I5, I7, I10: a replica that lacks the newest writes takes the place of a Redis that died. What it lacks is done again;
/// nothing is given twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_lost_writes_is_made_good() {
    let mut stores = SharedStores::start().await;
    let replica = Replica::of(&stores.redis).await;
    let gateways = fleet(&stores);
    let spending = Spending::start(&gateways).await;
    replica.hear_nothing();
    tokio::time::sleep(Duration::from_millis(400)).await;
    stores.redis.kill();
    replica.take_over();
    spending.end(gateways).await;
}

/// Connections that end while Redis is there and is the same are no outage: nobody hears of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_end_are_made_again_and_nobody_is_refused() {
    let stores = SharedStores::start().await;
    let mut gateway = tokio::task::block_in_place(|| stores.gateway(EVERY_REASON));
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "1000");
    serves(&client).await;
    for _ in 0..10 {
        assert_ne!(told(&port(&stores.redis), "CLIENT KILL TYPE normal"), ":0\r\n", "nobody was connected");
        for _ in 0..3 {
            assert_eq!(asked(&client).await, (200, false));
        }
    }
    gateway.stop();
    gateway.audit();
    assert!(!gateway.log().contains("built anew"), "it is the same Redis");
}

/// I4: a Redis that is full, or may not be written to, lets nothing through; what was let through before is booked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_full_or_read_only_is_a_503_and_then_forgotten() {
    let stores = SharedStores::start().await;
    let mut gateway = tokio::task::block_in_place(|| stores.gateway(EVERY_REASON));
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "1000");
    let redis = port(&stores.redis);
    for (breaks, mends) in
        [("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"), ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE")]
    {
        serves(&client).await;
        succeeds(&redis, breaks);
        assert_eq!(asked(&client).await, (503, true), "{breaks}");
        succeeds(&redis, mends);
    }
    serves(&client).await;
    gateway.stop();
    gateway.audit();
}

/// What may be given while Redis is away, to an account that has nothing: so many calls by one of the two gateways.
const GIVEN: u64 = 5;

/// I4, design section 6: never more than `per_account` × `max_nodes` in one outage. What was given is booked when Redis is
/// back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn degraded_gives_a_bounded_amount_in_an_outage() {
    let mut stores = SharedStores::start().await;
    let setup = || {
        let lines = "on_store_failure: degraded\ndegraded: {per_account: 5, max_nodes: 1}";
        Setup::default().deployment(lines)
    };
    let mut gateways: Vec<_> =
        tokio::task::block_in_place(|| (0..2).map(|_| stores.gateway_with(EVERY_REASON, setup())).collect());
    let caller = gateways[0].admin.caller("prepaid");
    gateways[0].admin.grant(&caller, "2");
    let clients: Vec<_> = gateways.iter().map(|gateway| gateway.client(&caller)).collect();
    for client in &clients {
        knows(client).await;
        assert_eq!(client.respond("one").await.status, 200, "the two credits there are");
    }
    for client in &clients {
        assert_eq!(client.respond("one").await.status, 429, "and no third");
    }
    let slots =
        gateways.iter().filter(|gateway| gateway.admin.metrics().contains("\noverfall_degraded_slot 1\n"));
    assert_eq!(slots.count(), 1, "one place, one gateway");
    stores.redis.kill();
    let mut given = 0;
    for nth in 0..16 {
        let answer = clients[nth % 2].respond("one").await;
        match answer.status {
            200 => {
                let told = answer.header("x-access-decision").unwrap_or_default().to_owned();
                assert!(told.ends_with(";degraded"), "{told}");
                given += 1;
            }
            status => assert_eq!(status, 503),
        }
    }
    assert_eq!(given, GIVEN, "as much as one gateway may give, and no more");
    stores.redis.start_again();
    let blocked = async || {
        let first = clients[0].respond("one").await.status;
        (first == 429 && clients[1].respond("one").await.status == 429).then_some(())
    };
    eventually("the store counts again", blocked).await;
    let seen: u64 = gateways.iter().map(|gateway| gateway.upstream.seen.count()).sum();
    assert_eq!(seen, 2 + GIVEN);
    let booked = async || {
        let report = tokio::task::block_in_place(|| gateways[0].audit());
        (report["checked"]["usage_events"] == json!(seen)).then_some(())
    };
    eventually("what was given is booked", booked).await;
    for gateway in &mut gateways {
        gateway.stop();
    }
    gateways[0].audit();
}

/// I8: decisions go on while PostgreSQL is away, and what was queued is booked when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_away_stops_the_books_and_nothing_else() {
    let mut stores = SharedStores::start().await;
    let mut gateway = tokio::task::block_in_place(|| stores.gateway(EVERY_REASON));
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "1000");
    serves(&client).await;
    tokio::task::block_in_place(|| stores.postgres.stop());
    for _ in 0..20 {
        assert_eq!(asked(&client).await.0, 200);
    }
    stores.postgres.again().await;
    let seen = gateway.upstream.seen.count();
    let booked = async || {
        let report = tokio::task::block_in_place(|| gateway.audit());
        (report["checked"]["usage_events"] == json!(seen)).then_some(())
    };
    eventually("what was queued is booked", booked).await;
    gateway.stop();
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
