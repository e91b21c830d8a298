//! Seeds: each holds, and each planted bug is found within so many of them.

use std::time::{Duration, Instant};

use super::plan::{Step, plan};
use super::run::{STEPS, run};
use super::shrink::shrink;
use super::world::Tally;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What a failing seed tells: how to run it again, and what is left of it.
fn story(seed: u64, steps: &[Step]) -> String {
    let least = shrink(steps);
    let found = run(&least);
    let violation = found.violation.map(|(_, violation)| violation).unwrap_or_default();
    format!(
        "{violation}\nagain: OVERFALL_SEED={seed} cargo nextest run --lib simulation::tests::the_books\n\
         shrunk to {} of {} steps:\n{}",
        least.len(),
        steps.len(),
        found.log.join("\n")
    )
}

fn check(seed: u64, sum: &mut Tally) {
    let steps = plan(seed, STEPS);
    let found = run(&steps);
    assert!(found.violation.is_none(), "{}", story(seed, &steps));
    sum.add(&found.tally);
}

/// I2 to I10 and I12, design section 5.
#[test]
fn the_books_say_what_the_facts_say_whatever_happens() {
    let mut sum = Tally::default();
    if let Some(seed) = number("OVERFALL_SEED") {
        let found = run(&plan(seed, STEPS));
        assert!(found.violation.is_none(), "{:?}\n{}", found.violation, found.log.join("\n"));
        return;
    }
    for seed in 0..SEEDS {
        check(seed, &mut sum);
    }
    // A simulation in which nothing happens proves nothing.
    let met = [sum.calls, sum.blocks, sum.crashes, sum.faults, sum.corrections, sum.booked];
    assert!(met.iter().all(|count| *count > SEEDS / 10), "{sum:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 2, 3] {
        let (one, other) = (run(&plan(seed, STEPS)), run(&plan(seed, STEPS)));
        assert_eq!(one.log, other.log, "seed {seed}");
    }
}
