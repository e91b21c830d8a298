//! Redis that is slow, away, emptied, or has forgotten the script.

use std::time::{Duration, Instant};

use super::*;

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
    let begun = Instant::now();
    let ended = loop {
        match finish(&meter, &held).await {
            Ok(ended) => break ended,
            Err(MeterError::Store(_)) if begun.elapsed() < BOUND => tokio::task::yield_now().await,
            Err(error) => panic!("{}", crate::telemetry::chain(&error)),
        }
    };
    assert_eq!(ended.seq.0, 1);
    assert!(matches!(finish(&meter, &held).await, Err(MeterError::NoSuchHold)), "I9: it ended once");
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
                assert!(begun.elapsed() < 2 * BOUND, "what was given up is held all the same: {answer:?}")
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

#[tokio::test]
async fn a_redis_that_would_forget_is_refused_with_what_to_set() {
    for (settings, says) in [
        (&["--maxmemory-policy", "allkeys-lru"][..], "maxmemory-policy noeviction"),
        (&["--appendonly", "no"][..], "appendonly yes"),
    ] {
        let server = Server::start_with(settings);
        let store = Store::connect(&[server.url()], false, Clock::machine()).await.unwrap();
        let unfit = fit::check(&store).await.unwrap_err();
        assert!(unfit.to_string().contains(says), "{unfit}");
    }
}
