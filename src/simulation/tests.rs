//! Seeds.

use super::plan::plan;
use super::run::{STEPS, run};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 200;

#[test]
fn the_books_say_what_the_facts_say_whatever_happens() {
    for seed in 0..SEEDS {
        let found = run(&plan(seed, STEPS));
        if let Some((at, violation)) = found.violation {
            panic!("seed {seed}, step {at}: {violation}\n{}", found.log.join("\n"));
        }
    }
}
