//! What a decision costs by itself, and what is kept for each user: no HTTP, no other process.

mod decide;
mod journal;
mod meter;
pub(crate) mod users;
pub(crate) mod world;

use std::hint::black_box;
use std::time::Instant;

use crate::support::report::Figure;
use crate::support::settings::Settings;

const SECTION: &str = "In one process";

/// All figures of the core.
pub(crate) fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let mut figures = decide::figures(settings)?;
    figures.extend(meter::figures(settings)?);
    figures.extend(journal::figures(settings)?);
    figures.extend(users::figures(settings)?);
    Ok(figures)
}

/// Nanoseconds of one turn, as the mean of `turns` turns, `samples` times.
fn timed<T>(samples: usize, turns: u32, mut turn: impl FnMut() -> T) -> Vec<f64> {
    let mut sample = || {
        let start = Instant::now();
        for _ in 0..turns {
            black_box(turn());
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(turns)
    };
    sample();
    (0..samples).map(|_| sample()).collect()
}
