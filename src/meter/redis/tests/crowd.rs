//! Many at once, over several nodes.

use super::*;

/// I4, I5: 400 requests of one credit from all sides against a window of 50 and a balance of 20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_let_through_what_one_would() {
    let (folder, server, policy) = (tempfile::tempdir().unwrap(), Server::start(), policy());
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        let node = node(&server, &folder.path().join(name), &policy, &Clock::machine()).await;
        nodes.push(Arc::new(node));
    }
    let _granted = nodes[0].grant(ACCOUNT, order(1, "20")).await.unwrap().unwrap();
    let tasks: Vec<_> = (0..400u16)
        .map(|nth| {
            let (node, ask) = (Arc::clone(&nodes[usize::from(nth) % 3]), ask(&policy, nth % 64, nth, 1));
            tokio::spawn(async move {
                let held = is_held(&node, ask.clone()).await;
                if held {
                    finish(&node, &ask).await.unwrap();
                }
                held
            })
        })
        .collect();
    let mut held = 0;
    for task in tasks {
        held += u32::from(task.await.unwrap());
    }
    assert_eq!(held, 70, "exactly the window's 50 and the balance's 20");
    let (plan, feature) = (policy.plan("plus").unwrap(), policy.feature("codex").unwrap());
    for node in &nodes {
        let standing = node.standing(ACCOUNT, UserId::MIN, &policy, plan, feature).await.unwrap();
        assert!(standing.windows[0].left.is_zero());
        assert!(standing.balances[0].available.is_zero());
    }
}

/// The very next request sees a grant, on every node.
#[tokio::test]
async fn a_grant_is_seen_by_the_next_request_on_another_node() {
    let (folder, server, policy) = (tempfile::tempdir().unwrap(), Server::start(), policy());
    let left = node(&server, &folder.path().join("left"), &policy, &Clock::machine()).await;
    let right = node(&server, &folder.path().join("right"), &policy, &Clock::machine()).await;
    assert!(is_held(&right, ask(&policy, 1, 1, 50)).await);
    for nth in 2..20u8 {
        assert!(!is_held(&right, ask(&policy, 1, 100 + u16::from(nth), 1)).await);
        let _granted = left.grant(ACCOUNT, order(nth, "1")).await.unwrap().unwrap();
        assert!(is_held(&right, ask(&policy, 1, 200 + u16::from(nth), 1)).await);
    }
    assert!(left.grant(ACCOUNT, order(5, "1")).await.unwrap().is_none(), "I7: the same order again");
}

/// Nodes whose clocks are a minute apart share windows by the store's time.
#[tokio::test]
async fn the_stores_time_decides_for_nodes_whose_clocks_are_apart() {
    let (folder, server, policy) = (tempfile::tempdir().unwrap(), Server::start(), policy());
    let fast = Clock::machine();
    fast.no_earlier_than(fast.now().plus(Span::from_seconds(60)));
    let left = node(&server, &folder.path().join("left"), &policy, &Clock::machine()).await;
    let right = node(&server, &folder.path().join("right"), &policy, &fast).await;
    let first = left.hold(ACCOUNT, ask(&policy, 1, 1, 1)).await.unwrap();
    let second = right.hold(ACCOUNT, ask(&policy, 1, 2, 1)).await.unwrap();
    let (Verdict::Allow(first, _), Verdict::Allow(second, _)) = (first, second) else { panic!("both fit") };
    let ends = |standing: &crate::access::Standing| standing.windows[0].resets_at.unwrap();
    assert_eq!(ends(&first.standing), ends(&second.standing), "one window, by one clock");
    let row = right.in_flight(ACCOUNT, ask(&policy, 1, 2, 1).decision).await.unwrap().unwrap();
    assert!(row.held_at.since(Clock::machine().now()) < Span::from_seconds(10), "{}", row.held_at);
}
