//! One node: a hold beside one in memory, at a pace and as fast as it goes.

use std::time::{Duration, Instant};

use overfall::meter::{Meter, Verdict};
use overfall::units::{AccountId, UserId};

use super::SECTION;
use super::nodes::Nodes;
use crate::core::meter::completed;
use crate::core::world::{self, World};
use crate::settle::books::Books;
use crate::support::process::own_cpu;
use crate::support::report::{Figure, Goal};
use crate::support::settings::Settings;

/// At 200 requests a second.
const EVERY: Duration = Duration::from_millis(5);
/// Requests at the same time, at saturation; each of an account of its own.
const TOGETHER: u64 = 64;
/// Nothing is left for anybody.
const CREDITS: &str = "1000000";

/// A caller, and what he asks for.
struct Caller<'a> {
    world: &'a World,
    account: AccountId,
    user: UserId,
    demand: overfall::access::Demand,
}

pub(super) async fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let nodes = Nodes::open(world::POLICY, 1, CREDITS).await?;
    let books = Books::open(world::POLICY, 1).await?;
    let demand = nodes.world.demand(200)?;
    let there = Caller {
        world: &nodes.world,
        account: nodes.account,
        user: world::user(0, nodes.since),
        demand: demand.clone(),
    };
    let here = Caller { world: &books.world, account: books.accounts[0], user: books.user(0), demand };
    let mut added_ms = Vec::new();
    for _ in 0..settings.rounds {
        let embedded = there_and_back(&books.meter, &here, settings.trickle).await?;
        let redis = there_and_back(&*nodes.meters[0], &there, settings.trickle).await?;
        added_ms.push((redis.as_secs_f64() - embedded.as_secs_f64()) * 1e3);
    }
    let (calls_allowed, calls_blocked) = calls(&nodes, &there).await?;
    let mut figures = vec![
        Figure::aimed(
            SECTION,
            "a hold at 200/s, p50 beyond one in memory",
            "ms",
            Goal::AtMost(0.7),
            added_ms,
        ),
        Figure::aimed(
            SECTION,
            "calls of an allowed request, to its answer",
            "",
            Goal::AtMost(2.0),
            vec![calls_allowed],
        ),
        Figure::aimed(SECTION, "calls of a blocked request", "", Goal::Exactly(1.0), vec![calls_blocked]),
    ];
    figures.extend(saturated(&nodes, settings).await?);
    Ok(figures)
}

/// The median time that a hold takes.
async fn there_and_back(meter: &dyn Meter, caller: &Caller<'_>, lasts: Duration) -> anyhow::Result<Duration> {
    let mut took = Vec::new();
    let mut tick = tokio::time::interval(EVERY);
    let begun = Instant::now();
    while begun.elapsed() < lasts {
        tick.tick().await;
        let start = Instant::now();
        let held = hold(meter, caller, caller.demand.clone()).await?;
        took.push(start.elapsed());
        if let Some(decision) = held {
            let (_record, _ticket) =
                meter.finish(caller.account, decision, caller.demand.clone(), completed()).await?;
        }
    }
    took.sort_unstable();
    Ok(took[took.len() / 2])
}

async fn hold(
    meter: &dyn Meter,
    caller: &Caller<'_>,
    demand: overfall::access::Demand,
) -> anyhow::Result<Option<overfall::units::DecisionId>> {
    let now = overfall::units::time::Clock::machine().now();
    let ask = caller.world.ask(rand::random(), caller.user, &demand, now);
    let decision = ask.decision;
    Ok(match meter.hold(caller.account, ask).await? {
        Verdict::Allow(..) => Some(decision),
        Verdict::Block(_) => None,
    })
}

/// Calls of a request that is let through, until its answer may leave, and of one that is not.
async fn calls(nodes: &Nodes, caller: &Caller<'_>) -> anyhow::Result<(f64, f64)> {
    const REQUESTS: u32 = 200;
    let meter = &*nodes.meters[0];
    let whole = nodes.world.demand(4_000_000_000)?;
    let mut counted = [0.0; 2];
    for (demand, counted) in [&caller.demand, &whole].into_iter().zip(&mut counted) {
        let mut scripts = 0;
        for _ in 0..REQUESTS {
            let before = nodes.scripts().await?;
            let held = hold(meter, caller, demand.clone()).await?;
            if let Some(decision) = held {
                meter.dispatch(caller.account, decision).await?;
            }
            scripts += nodes.scripts().await? - before;
            if let Some(decision) = held {
                let (_record, _ticket) =
                    meter.finish(caller.account, decision, caller.demand.clone(), completed()).await?;
            }
        }
        *counted = f64::from(u32::try_from(scripts)?) / f64::from(REQUESTS);
    }
    Ok((counted[0], counted[1]))
}

/// What a hold and its end cost, of both processes together, as fast as they go.
async fn saturated(nodes: &Nodes, settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let (mut here_us, mut there_us, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..TOGETHER {
        let account = world::account(1000 + number, nodes.since);
        nodes.meters[0].grant(account, world::order(1000 + number, CREDITS, nodes.since)?).await?;
    }
    for _ in 0..settings.rounds {
        let (own, redis, begun) = (own_cpu()?, nodes.server.cpu()?, Instant::now());
        let tasks: Vec<_> = (0..TOGETHER)
            .map(|number| {
                let (meter, world) = (nodes.meters[0].clone(), nodes.world.clone());
                let account = world::account(1000 + number, nodes.since);
                let user = world::user(1000 + number, nodes.since);
                let lasts = settings.load;
                tokio::spawn(async move {
                    let demand = world.demand(200)?;
                    let caller = Caller { world: &world, account, user, demand };
                    let mut done = 0u32;
                    while begun.elapsed() < lasts {
                        let held = hold(&*meter, &caller, caller.demand.clone()).await?;
                        if let Some(decision) = held {
                            let demand = caller.demand.clone();
                            let (_record, _ticket) =
                                meter.finish(account, decision, demand, completed()).await?;
                        }
                        done += 1;
                    }
                    anyhow::Ok(done)
                })
            })
            .collect();
        let mut done = 0;
        for task in tasks {
            done += task.await??;
        }
        let done = f64::from(done);
        here_us.push((own_cpu()?.all_us() - own.all_us()) / done);
        there_us.push((nodes.server.cpu()?.all_us() - redis.all_us()) / done);
        rates.push(done / begun.elapsed().as_secs_f64());
    }
    Ok(vec![
        Figure::told(SECTION, "CPU of a hold and its end, the meter's at saturation", "µs", here_us),
        Figure::told(SECTION, "and Redis's", "µs", there_us),
        Figure::told(SECTION, "holds and their ends, of 64 accounts", "/s", rates),
    ])
}
