//! Redis that is slow, away, emptied, or has forgotten the script.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::access::record::{Entry, Record};
use crate::ledger::rows::{AccountRow, UserRow};
use crate::ledger::shared::Place;
use crate::meter::queue::Queue;
use crate::meter::redis::keys::Partition;

/// Every call is bounded in time, whatever is away.
const BOUND: Duration = Duration::from_secs(5);

async fn one(server: &Server, folder: &Path) -> (RedisMeter, Arc<Policy>) {
    let policy = policy();
    (node(server, folder, &policy, &Clock::machine()).await, policy)
}

#[tokio::test]
async fn a_script_that_was_flushed_is_loaded_again() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let (meter, policy) = one(&server, folder.path()).await;
    assert!(is_held(&meter, ask(&policy, 1, 1, 1)).await);
    meter.office.store.call(redis::cmd("SCRIPT").arg("FLUSH")).await.unwrap();
    assert!(is_held(&meter, ask(&policy, 1, 2, 1)).await);
}

/// I10: what was held is held, and the node goes on by itself.
#[tokio::test]
async fn a_redis_that_is_killed_and_comes_back_has_what_it_had() {
    let (folder, mut server) =
        (tempfile::tempdir().unwrap(), Server::start_with(&["--appendfsync", "always"]));
    let (meter, policy) = one(&server, folder.path()).await;
    let held = ask(&policy, 1, 1, 30);
    assert!(is_held(&meter, held.clone()).await);
    server.kill();
    let begun = Instant::now();
    let refused = meter.hold(ACCOUNT, ask(&policy, 1, 2, 1)).await;
    assert!(matches!(refused, Err(MeterError::Store(_))), "{refused:?}");
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    server.start_again();
    let again = async {
        while !matches!(meter.hold(ACCOUNT, held.clone()).await, Ok(Verdict::Allow(..))) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, again).await.expect("it goes on by itself");
    assert_eq!(finish(&meter, &held).await.unwrap().seq.0, 1);
    assert!(matches!(finish(&meter, &held).await, Err(MeterError::NoSuchHold)), "I9: it ended once");
}

/// I9, I10: a call that ends while the store is away is charged what it used, once, when the store is back; also where the
/// store had done it and only the answer was lost.
#[tokio::test]
async fn an_end_that_was_not_answered_is_carried_out_once() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let (meter, policy) = one(&server, folder.path()).await;
    let held = ask(&policy, 1, 1, 30);
    assert!(is_held(&meter, held.clone()).await);
    server.pause();
    let refused = finish(&meter, &held).await;
    assert!(matches!(refused, Err(MeterError::Store(_))), "{refused:?}");
    assert_eq!(meter.stats().owed, 1);
    server.resume();
    assert_eq!(meter.owed().settle(2 * BOUND).await, 0);
    assert_eq!(meter.stats().holds, 0);
    let queue = Streams::new(meter.office.store.clone());
    let queued = queue.read(Partition::of(ACCOUNT).number(), Place::default(), 10).await.unwrap();
    let ends: Vec<_> =
        kept(&meter).await.into_iter().filter(|record| matches!(record, Record::End(_))).collect();
    assert_eq!(queued.into_iter().map(|queued| queued.record).collect::<Vec<_>>(), ends);
    assert!(matches!(&ends[..], [Record::End(end)] if end.seq.0 == 1), "{ends:?}");
    assert!(matches!(finish(&meter, &held).await, Err(MeterError::NoSuchHold)), "I9");
}

/// Contract: a hold whose caller goes away before he hears of it is given back, and an end is carried out and journalled
/// all the same.
#[tokio::test]
async fn who_goes_away_leaves_no_hold_and_takes_no_end_with_him() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let (meter, policy) = one(&server, folder.path()).await;
    let (left, held) = (ask(&policy, 1, 1, 40), ask(&policy, 1, 2, 10));
    assert!(is_held(&meter, held.clone()).await);
    server.pause();
    let polled_once = Duration::from_millis(1);
    assert!(tokio::time::timeout(polled_once, meter.hold(ACCOUNT, left)).await.is_err());
    assert!(tokio::time::timeout(polled_once, finish(&meter, &held)).await.is_err());
    server.resume();
    assert_eq!(meter.owed().settle(BOUND).await, 0);
    let ends = kept(&meter).await.into_iter().filter(|record| matches!(record, Record::End(_))).count();
    assert_eq!(ends, 1);
    let begun = Instant::now();
    while !is_held(&meter, ask(&policy, 1, 3, 40)).await {
        assert!(begun.elapsed() < 2 * BOUND, "what nobody heard of is held all the same");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The records in a node's journal.
async fn kept(meter: &RedisMeter) -> Vec<Record> {
    meter.log.journal.flush().await.unwrap();
    let batch = meter.log.journal.reader(journal::Position::START).next_batch(100, 1 << 20).unwrap();
    batch.iter().filter_map(|entry| Entry::read(entry.id, &entry.payload).unwrap().record()).collect()
}

/// A store that does not answer is an error within a bound, and the breaker makes the next ones quick. Whatever it took
/// in meanwhile is given back.
#[tokio::test]
async fn a_redis_that_hangs_is_an_error_in_time_and_what_it_took_is_given_back() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let (meter, policy) = one(&server, folder.path()).await;
    assert!(is_held(&meter, ask(&policy, 1, 1, 1)).await);
    server.pause();
    let begun = Instant::now();
    let refused = meter.hold(ACCOUNT, ask(&policy, 1, 2, 40)).await;
    assert!(matches!(refused, Err(MeterError::Store(_))), "{refused:?}");
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    server.resume();
    let begun = Instant::now();
    loop {
        match meter.hold(ACCOUNT, ask(&policy, 1, 3, 45)).await {
            Ok(Verdict::Allow(..)) => break,
            answer => {
                assert!(begun.elapsed() < 2 * BOUND, "what was given up is held all the same: {answer:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A store that has lost everything is not counted on: it must be built anew first.
#[tokio::test]
async fn a_redis_that_was_emptied_is_not_used() {
    let (folder, mut server) = (tempfile::tempdir().unwrap(), Server::start());
    let (meter, policy) = one(&server, folder.path()).await;
    assert!(is_held(&meter, ask(&policy, 1, 1, 50)).await);
    server.restart_empty();
    let begun = Instant::now();
    loop {
        match meter.hold(ACCOUNT, ask(&policy, 1, 2, 50)).await {
            Err(MeterError::Store(StoreError::Lost { .. })) => break,
            Err(MeterError::Store(_)) if begun.elapsed() < BOUND => {}
            answer => panic!("I4: {answer:?}"),
        }
    }
}

/// I10: a node that starts before an empty store builds it from the books; what it has in flight goes on.
#[tokio::test]
async fn an_empty_redis_is_built_from_the_books_and_holds_are_taken_up_again() {
    let (folder, mut server) = (tempfile::tempdir().unwrap(), Server::start());
    let (meter, policy) = one(&server, folder.path()).await;
    let ledger = Arc::clone(&meter.office.policies.ledger);
    let sample = crate::ledger::samples::Sample::new(1);
    let account = AccountRow { id: ACCOUNT, ..sample.account };
    ledger.add_account(&account).await.unwrap();
    let users = [1, 2].map(|user| UserRow {
        id: ask(&policy, user, 0, 1).user,
        account: ACCOUNT,
        name: format!("{user}").into(),
        ..sample.user.clone()
    });
    for user in &users {
        ledger.add_user(user).await.unwrap();
    }
    let _granted = meter.grant(ACCOUNT, order(1, "20")).await.unwrap().unwrap();
    let (booked, open) = (ask(&policy, 1, 1, 30), ask(&policy, 2, 2, 25));
    assert!(is_held(&meter, booked.clone()).await);
    finish(&meter, &booked).await.unwrap();
    assert!(is_held(&meter, open.clone()).await);
    let standing = |meter: RedisMeter| async {
        let (plan, feature) = (policy.plan("plus").unwrap(), policy.feature("codex").unwrap());
        let standing = meter.standing(ACCOUNT, UserId::MIN, &policy, plan, feature).await.unwrap();
        (meter, standing)
    };
    let (meter, before) = standing(meter).await;
    // What has ended is not all in the books: the grant is, the call not.
    let (granted, _) = kept(&meter).await.into_iter().partition(|record| matches!(record, Record::Grant(_)));
    ledger.apply(granted).await.unwrap();
    server.restart_empty();
    let store = Store::connect(&RedisAt::one(server.url()), Clock::machine()).await.unwrap();
    let again = RedisMeter::open(
        store,
        Clock::machine(),
        Arc::clone(&meter.office.policies.policies),
        Arc::clone(&ledger),
        Arc::clone(&meter.log.journal),
        None,
    );
    let again = again.await.unwrap();
    again.alone(2).await.unwrap();
    let (again, after) = standing(again).await;
    assert_eq!(after, before);
    assert_eq!(finish(&again, &open).await.unwrap().seq.0, 3, "grant, end, end: no gap");
    ledger.apply(kept(&again).await.split_off(4)).await.unwrap();
    for call in [&booked, &open] {
        let row = ledger.decision(call.decision).await.unwrap().expect("I8: it is booked, with its number");
        assert_eq!((row.outcome, row.used), (Outcome::Completed, call.demand.quantities.clone()));
    }
}

#[tokio::test]
async fn a_redis_that_would_forget_is_refused_with_what_to_set() {
    for (settings, says) in [
        (&["--maxmemory-policy", "allkeys-lru"][..], "maxmemory-policy noeviction"),
        (&["--appendonly", "no"][..], "appendonly yes"),
    ] {
        let server = Server::start_with(settings);
        let store = Store::connect(&RedisAt::one(server.url()), Clock::machine()).await.unwrap();
        let unfit = fit::check(&store).await.unwrap_err();
        assert!(unfit.to_string().contains(says), "{unfit}");
    }
}
