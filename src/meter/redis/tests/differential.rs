//! Whatever happens to an account, it is told the same by accounts in memory and by two nodes that share a Redis.

use proptest::prelude::*;

use super::*;
use crate::meter::Meter;
use crate::meter::lives::{ACCOUNT, Life, policies, step};
use crate::meter::memory::Restoring;
use crate::units::{Span, Timestamp, UserId};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// I1 to I5, I9, I12: the embedded meter is the reference.
    #[test]
    fn two_nodes_on_one_redis_tell_what_one_in_memory_tells(
        policy in policies(),
        steps in prop::collection::vec((step(), any::<bool>()), 1..80),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clock = Clock::manual(Timestamp::from_ms(0));
            let folders = ["memory", "left", "right"].map(|name| folder.path().join(name));
            for folder in &folders {
                std::fs::create_dir(folder).unwrap();
            }
            let known = Arc::clone(&policy);
            let journal = Journal::open(&folders[0], journal::Options::default(), |_, _| Ok(())).unwrap().0;
            let memory = Restoring::new(clock.clone());
            let memory = memory.meter(Arc::new(journal), move |_| Some(Arc::clone(&known))).unwrap().0;
            let left = node(&server, &folders[1], &policy, &clock).await;
            let right = node(&server, &folders[2], &policy, &clock).await;
            let life = || Life { policy: Arc::clone(&policy), clock: clock.clone(), open: Vec::new() };
            let (mut here, mut there) = (life(), life());
            for (nth, ((wait_ms, step), is_left)) in (1u8..).zip(&steps) {
                clock.advance(Span::from_ms(*wait_ms));
                let expected = here.step(&memory, nth, step).await;
                let node = if *is_left { &left } else { &right };
                assert_eq!(there.step(node, nth, step).await, expected, "{step:?}");
                let other = if *is_left { &right } else { &left };
                for user in [1, 2] {
                    let user = UserId::from_bytes([user; 16]);
                    let (plan, feature) = (policy.plan("plus").unwrap(), policy.feature("codex").unwrap());
                    let expected = memory.standing(ACCOUNT, user, &policy, plan, feature).await.unwrap();
                    let found = other.standing(ACCOUNT, user, &policy, plan, feature).await.unwrap();
                    assert_eq!(found, expected, "after {step:?}");
                }
            }
        });
    }
}
