//! A hold and its end on the embedded meter: decision, reservation, records, journal; all but the wait for the disk.

use std::time::Instant;

use overfall::access::record::{Ending, Grade, Outcome};
use overfall::meter::{Meter as _, Verdict};

use super::SECTION;
use super::world;
use crate::settle::books::Books;
use crate::support::report::Figure;
use crate::support::settings::Settings;

const TURNS: u32 = 2_000;

pub(super) fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let values = runtime.block_on(async {
        let books = Books::open(world::POLICY, 1).await?;
        let (account, user) = (books.accounts[0], books.user(0));
        let demand = books.world.demand(200)?;
        let mut number = 0;
        let mut values = Vec::new();
        for _ in 0..settings.samples {
            let start = Instant::now();
            for _ in 0..TURNS {
                number += 1;
                let ask = books.world.ask(number, user, &demand, books.clock.now());
                let decision = ask.decision;
                let Verdict::Allow(..) = books.meter.hold(account, ask).await? else {
                    anyhow::bail!("refused");
                };
                books.meter.finish(account, decision, demand.clone(), completed()).await?;
            }
            values.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(TURNS));
            books.journal.flush().await?;
        }
        anyhow::Ok(values)
    })?;
    Ok(vec![Figure::told(
        SECTION,
        "hold and end on the meter, both records handed to the journal",
        "µs",
        values,
    )])
}

/// The end of a call that went well.
pub(crate) fn completed() -> Ending {
    Ending {
        outcome: Outcome::Completed,
        grade: Grade::Exact,
        reached_upstream: true,
        status: Some(200),
        tier: None,
        resource: None,
    }
}
