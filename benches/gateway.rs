//! What the gateway costs: CPU, time and memory, beside a bare Pingora pass-through and nginx in the same rounds.
//!
//! CPU is that of the process, user and system, over all of its threads, divided by answers. The machine also runs the
//! upstream and the client, so rates are what is left, and CPU for each request is the fair figure. Noise between
//! rounds is 20 %: ratios are taken within a round.

mod footprint;
mod idle;
mod saturation;
mod stage;
mod streams;
mod trickle;

use crate::support::report::Figure;
use crate::support::settings::Settings;
use stage::Stage;

/// All figures of the gateway.
pub(crate) fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let stage = Stage::canned()?;
    figures.extend(saturation::figures(settings, &stage)?);
    figures.extend(trickle::figures(settings, &stage)?);
    figures.extend(footprint::figures(settings, stage)?);
    let stage = Stage::simulated()?;
    figures.extend(streams::figures(settings, &stage)?);
    drop(stage);
    figures.extend(idle::figures(settings)?);
    Ok(figures)
}

/// `peers` in turns, as often as `rounds`; every second round in the other order.
fn alternate<P: Copy>(
    rounds: usize,
    peers: &[P],
    mut each: impl FnMut(P) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for round in 0..rounds {
        let mut order = peers.to_vec();
        if round % 2 == 1 {
            order.reverse();
        }
        order.into_iter().try_for_each(&mut each)?;
    }
    Ok(())
}
