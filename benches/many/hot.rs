//! One account with ten thousand users on one balance, asked for from three nodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overfall::meter::{Meter as _, Verdict};
use overfall::units::Credits;

use super::SECTION;
use super::nodes::Nodes;
use crate::core::meter::completed;
use crate::core::world;
use crate::support::report::{Figure, Goal};
use crate::support::settings::Settings;

const NODES: usize = 3;
const USERS: u64 = 10_000;
const RATE: u32 = 3_000;
/// Requests begin so often, several at a time.
const EVERY: Duration = Duration::from_millis(5);
const CREDITS: &str = "1000000";
const POLICY: &str = r#"
version: 1
prices: [{model: "gpt-5.5*", per_million_tokens: {input: 125, cached_input: 12.5, output: 750}}]
balances: {wallet: {per: account}}
features: {codex: {apis: [responses], unit: credit}}
plans:
  plus:
    codex:
      guards: [{name: in-flight, concurrent: 1000, per: user}]
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
"#;

pub(super) async fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let nodes = Arc::new(Nodes::open(POLICY, NODES, CREDITS).await?);
    let (mut p99_ms, mut p50_ms, mut off) = (Vec::new(), Vec::new(), Vec::new());
    let mut charged = Credits::ZERO;
    for _ in 0..settings.rounds {
        let begun = Instant::now();
        let mut tick = tokio::time::interval(EVERY);
        let mut tasks = Vec::new();
        let mut number = 0u32;
        while begun.elapsed() < settings.load {
            tick.tick().await;
            let due = u32::try_from(begun.elapsed().as_micros() * u128::from(RATE) / 1_000_000)?;
            while number < due {
                number += 1;
                tasks.push(tokio::spawn(call(Arc::clone(&nodes), u64::from(number))));
            }
        }
        let mut took = Vec::new();
        for task in tasks {
            let (time, cost) = task.await??;
            took.push(time);
            charged = charged.saturating_add(cost);
        }
        took.sort_unstable();
        p50_ms.push(took[took.len() / 2].as_secs_f64() * 1e3);
        p99_ms.push(took[took.len() * 99 / 100].as_secs_f64() * 1e3);
        let left = left(&nodes).await?;
        let expected = CREDITS.parse::<Credits>()?.saturating_sub(charged);
        let difference = i64::try_from(left.micros())? - i64::try_from(expected.micros())?;
        off.push(f64::from(i32::try_from(difference)?));
    }
    Ok(vec![
        Figure::aimed(
            SECTION,
            "one account, 10,000 users, 3 nodes, 3,000 decisions/s: p99",
            "ms",
            Goal::AtMost(10.0),
            p99_ms,
        ),
        Figure::told(SECTION, "the same, p50", "ms", p50_ms),
        Figure::aimed(SECTION, "what is left, off what was charged", "µcredits", Goal::Exactly(0.0), off),
    ])
}

/// A call: how long its hold took, and what it was charged.
async fn call(nodes: Arc<Nodes>, number: u64) -> anyhow::Result<(Duration, Credits)> {
    let meter = &nodes.meters[usize::try_from(number)? % NODES];
    let demand = nodes.world.demand(200)?;
    let user = world::user(rand::random::<u64>() % USERS, nodes.since);
    let ask = nodes.world.ask(rand::random(), user, &demand, nodes.clock.now());
    let decision = ask.decision;
    let start = Instant::now();
    let verdict = meter.hold(nodes.account, ask).await?;
    let took = start.elapsed();
    anyhow::ensure!(matches!(verdict, Verdict::Allow(..)), "{verdict:?}");
    let (record, _ticket) = meter.finish(nodes.account, decision, demand, completed()).await?;
    Ok((took, record.charge.charged))
}

async fn left(nodes: &Nodes) -> anyhow::Result<Credits> {
    let (policy, terms) = (&nodes.world.policy, &nodes.world.terms);
    let user = world::user(0, nodes.since);
    let standing = nodes.meters[0].standing(nodes.account, user, policy, terms.plan, terms.feature).await?;
    Ok(standing.balances[0].available)
}
