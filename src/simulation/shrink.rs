//! What is left of a plan when all is left out that its violation does not need.

use super::plan::Step;
use super::run::run;

/// Runs that a search may cost.
const RUNS_MAX: usize = 400;

/// The invariant that a violation names.
fn kind(violation: &str) -> &str {
    violation.split(':').next().unwrap_or_default()
}

/// A plan that breaks the same invariant with as few steps as are found.
pub(super) fn shrink(steps: &[Step]) -> Vec<Step> {
    let Some((at, violation)) = run(steps).violation else { return steps.to_vec() };
    let mut least = steps[..steps.len().min(at + 1)].to_vec();
    let mut chunk = least.len().div_ceil(2);
    let mut runs = 0;
    loop {
        let mut from = 0;
        while from < least.len() && runs < RUNS_MAX {
            let mut fewer = least.clone();
            fewer.drain(from..fewer.len().min(from + chunk));
            runs += 1;
            let breaks = run(&fewer).violation.is_some_and(|(_, other)| kind(&other) == kind(&violation));
            if breaks {
                least = fewer;
            } else {
                from += chunk;
            }
        }
        if chunk <= 1 || runs >= RUNS_MAX {
            return least;
        }
        chunk = chunk.div_ceil(2);
    }
}
