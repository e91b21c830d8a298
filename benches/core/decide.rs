//! The waterfall by itself.

use overfall::access::Account;
use overfall::units::Timestamp;

use super::world::{self, World};
use super::{SECTION, timed};
use crate::support::report::{Figure, Goal};
use crate::support::settings::Settings;

const TURNS: u32 = 20_000;

pub(super) fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let world = World::of(world::POLICY)?;
    let now = Timestamp::from_ms(1_795_365_295_000);
    let user = world::user(1, now);
    let mut account = Account::new(world::account(1, now));
    world::grant(&mut account, world::order(1, "1000", now)?, now)?;
    // Used once, so that windows are open, buckets have a level and the promotion is issued.
    let small = world.demand(0)?;
    let ask = world.ask(1, user, &small, now);
    let decision = ask.decision;
    world::hold(&mut account, ask, now)?;
    account.finish(decision, small.clone(), overfall::access::record::Ending::not_sent(), now)?;

    let (one, all, none) = (world.demand(200)?, world.demand(2_000)?, world.demand(10_000_000)?);
    let layers =
        |demand| account.decide(&world.terms, user, demand, now).map(|draft| draft.walk.draws.len()).ok();
    anyhow::ensure!(
        (layers(&one), layers(&all), layers(&none)) == (Some(1), Some(3), None),
        "not what is to be measured"
    );

    let decide = |demand| timed(settings.samples, TURNS, || account.decide(&world.terms, user, demand, now));
    let micro = |values: Vec<f64>| values.into_iter().map(|ns| ns / 1e3).collect::<Vec<_>>();
    let what = "decision, 2 guards and 3 layers";
    Ok(vec![
        Figure::told(SECTION, format!("{what}, drawn from one"), "µs", micro(decide(&one))),
        Figure::aimed(
            SECTION,
            format!("{what}, drawn from all"),
            "µs",
            Goal::AtMost(1.0),
            micro(decide(&all)),
        ),
        Figure::told(
            SECTION,
            format!("{what}, refused with reason and next time"),
            "µs",
            micro(decide(&none)),
        ),
    ])
}
