//! Seeds: each holds, and each planted bug is found within so many of them.

use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::plan::{Step, plan};
use super::run::{STEPS, run};
use super::shrink::shrink;
use super::world::Tally;
use crate::units::planted::{Bug, plant};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 200;
/// Later ones that once found something, and what that was.
const KEPT: &[(u64, &str)] = &[
    (372, "an auditor that counted videos under a guard of another product"),
    (3735, "an audit that went past a call of which it had not seen all, when a later one was priced anew"),
];
/// Runs at a time.
const THREADS: usize = 2;

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

fn check(seed: u64) -> Tally {
    let steps = plan(seed, STEPS);
    let found = run(&steps);
    assert!(found.violation.is_none(), "{}", story(seed, &steps));
    found.tally
}

/// Runs seeds in both cores, [`SEEDS`] of them and then others for so long. Tells how many, and what they met.
#[expect(
    clippy::disallowed_methods,
    reason = "how long to go on is a matter of the wall's clock; no run sees it"
)]
fn run_seeds(longest: Duration) -> (u64, Tally) {
    let (began, next, sum) = (Instant::now(), AtomicU64::new(0), Mutex::new(Tally::default()));
    let more = || {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        (seed < SEEDS || began.elapsed() < longest).then_some(seed)
    };
    let seeds = std::thread::scope(|scope| {
        let work = || {
            let mut count = 0;
            while let Some(seed) = more() {
                let tally = check(seed);
                sum.lock().unwrap().add(&tally);
                count += 1;
            }
            count
        };
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic))).sum()
    });
    (seeds, sum.into_inner().unwrap())
}

/// A line for the summary of `make prove`: so many of what.
fn tell(count: u64, what: &str) {
    println!("prove: {count} {what}");
}

/// I2 to I10 and I12, design section 5. `OVERFALL_PROVE_SECONDS` goes on with further seeds for so long.
#[test]
fn the_books_say_what_the_facts_say_whatever_happens() {
    if let Some(seed) = number("OVERFALL_SEED") {
        let found = run(&plan(seed, STEPS));
        assert!(found.violation.is_none(), "{:?}\n{}", found.violation, found.log.join("\n"));
        return;
    }
    let (seeds, sum) = run_seeds(Duration::from_secs(number("OVERFALL_PROVE_SECONDS").unwrap_or(0)));
    tell(seeds, "seeds of the simulation");
    sum.met.iter().for_each(|(what, count)| tell(*count, &format!("met: {what}")));
    sum.faults.iter().for_each(|(what, count)| tell(*count, &format!("fault: {what}")));
    // A simulation in which nothing happens proves nothing.
    let counts = [&sum.met, &sum.faults].into_iter().flatten();
    assert!(counts.clone().count() > 20 && counts.clone().all(|(_, count)| *count > SEEDS / 10), "{sum:?}");
}

#[test]
fn what_was_found_once_stays_mended() {
    for (seed, what) in KEPT {
        let found = run(&plan(*seed, STEPS)).violation;
        assert!(found.is_none(), "seed {seed}, {what}: {found:?}");
    }
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
    println!("{lines:#?}");
    tell(Bug::ALL.len() as u64, "bugs planted in the simulation");
    tell(lines.len() as u64, "bugs found in the simulation");
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
