//! Seeds: each holds, and each planted bug is found within so many of them.

use std::time::{Duration, Instant};

use super::plan::{Step, plan};
use super::run::{STEPS, run};
use super::shrink::shrink;
use super::world::Tally;
use crate::units::planted::{Bug, plant};

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

/// I2 to I10 and I12, design section 5. `OVERFALL_PROVE_SECONDS` goes on with further seeds for so long.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long to go on is a matter of the wall's clock; no run sees it"
)]
fn the_books_say_what_the_facts_say_whatever_happens() {
    let mut sum = Tally::default();
    if let Some(seed) = number("OVERFALL_SEED") {
        let found = run(&plan(seed, STEPS));
        assert!(found.violation.is_none(), "{:?}\n{}", found.violation, found.log.join("\n"));
        return;
    }
    let began = Instant::now();
    let longest = Duration::from_secs(number("OVERFALL_PROVE_SECONDS").unwrap_or(0));
    let mut seeds = 0;
    while seeds < SEEDS || began.elapsed() < longest {
        check(seeds, &mut sum);
        seeds += 1;
    }
    println!("{seeds} seeds: {sum:?}, violations: none");
    // A simulation in which nothing happens proves nothing.
    let counts = [&sum.met, &sum.faults].into_iter().flatten();
    assert!(counts.clone().count() > 20 && counts.clone().all(|(_, count)| *count > SEEDS / 10), "{sum:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 2, 3] {
        let (one, other) = (run(&plan(seed, STEPS)), run(&plan(seed, STEPS)));
        assert_eq!(one.log, other.log, "seed {seed}");
    }
}

/// Seeds within which each planted bug is found.
const SEEDS_OF_A_BUG: u64 = 100;

/// The first seed that finds a bug.
fn first(bug: Bug) -> Option<u64> {
    plant(Some(bug));
    let found = (0..SEEDS_OF_A_BUG).find(|seed| run(&plan(*seed, STEPS)).violation.is_some());
    plant(None);
    found
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    let mut lines = Vec::new();
    for bug in Bug::ALL {
        match first(*bug) {
            Some(seed) => lines.push(format!("{bug:?} by seed {seed}")),
            None => missed.push(*bug),
        }
    }
    println!("{} of {} planted bugs are found: {lines:#?}", lines.len(), Bug::ALL.len());
    assert!(missed.is_empty(), "not found within {SEEDS_OF_A_BUG} seeds: {missed:?}");
}

#[test]
fn the_page_of_the_simulation_lists_every_planted_bug() {
    let page = include_str!("../../docs/simulation.md");
    let missing = |bug: &&Bug| !page.contains(&format!("| {bug:?} | {} |", bug.what().trim()));
    let missing: Vec<String> =
        Bug::ALL.iter().filter(missing).map(|bug| format!("| {bug:?} | {} |", bug.what().trim())).collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
