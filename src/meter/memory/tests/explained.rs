//! What is explained is what then happens: before every request of a random life, the meter is asked what would.

use proptest::prelude::*;

use super::*;
use crate::meter::lives::{ACCOUNT, Life, policies, step};

/// A meter that has nothing yet.
fn meter(folder: &Path, policy: &Arc<Policy>, clock: &Clock) -> MemoryMeter {
    let (journal, _) = Journal::open(folder, journal::Options::default(), |_, _| Ok(())).unwrap();
    let known = Arc::clone(policy);
    let restored = Restoring::new(clock.clone()).meter(Arc::new(journal), move |_| Some(Arc::clone(&known)));
    restored.unwrap().0
}

/// Explains, explains again, and asks in earnest.
async fn ask(meter: &MemoryMeter, life: &mut Life, ask: Ask) {
    let terms = &ask.terms;
    let explained = meter.explain(ACCOUNT, &ask).await.unwrap();
    let again = meter.explain(ACCOUNT, &ask).await.unwrap();
    assert_eq!(format!("{explained:?}"), format!("{again:?}"), "an explanation changes something");
    let before = meter.standing(ACCOUNT, ask.user, &terms.policy, terms.plan, terms.feature);
    assert_eq!(explained.standing, before.await.unwrap());
    match meter.hold(ACCOUNT, ask.clone()).await.unwrap() {
        Verdict::Allow(held, _) => {
            let allow =
                explained.outcome.unwrap_or_else(|block| panic!("{held:?} was explained as {block:?}"));
            assert_eq!(allow.draws, terms.entries(&held.draws));
            assert_eq!((allow.demand, allow.clamped_to), (held.demand, held.clamped_to));
            life.open.push(ask);
        }
        Verdict::Block(block) => {
            assert_eq!(explained.outcome.map(|allow| allow.draws), Err(block));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever an account has lived through, an explanation takes nothing, and is what then happens: the same draws
    /// of the same demand, or the same block with the same reason, next, need and have.
    #[test]
    fn what_is_explained_is_what_then_happens(
        policy in policies(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clock = Clock::manual(Timestamp::from_ms(0));
            let meter = meter(&folder.path().join("journal"), &policy, &clock);
            let mut life = Life { policy, clock, open: Vec::new() };
            for (nth, (wait_ms, step)) in (0u8..).zip(&steps) {
                life.clock.advance(Span::from_ms(*wait_ms));
                match life.ask(nth, step) {
                    Some(asked) => ask(&meter, &mut life, asked).await,
                    None => drop(life.step(&meter, nth, step).await),
                }
            }
        });
    }
}
