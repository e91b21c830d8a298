//! Answers of unknown length against a balance worth 20 of the mean.
//!
//! Too big an estimate refuses who could be served, too small a one overspends. Lengths are log-normal around 1,000
//! tokens (σ = 0.25, from the seed below), no request says a maximum, nothing is clamped, and the gateway has learnt
//! from 50 calls. Then 200 come at once. Who is refused does what the headers say: waits for `Retry-After` and comes
//! again, or gives up where there is none.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::client::{Connection, post};
use crate::support::gateway::{Deployment, Gateway};
use crate::support::peers;
use crate::support::report::{Figure, Goal};
use crate::support::settings::Settings;

const SECTION: &str = "200 at once without max_output_tokens, a balance worth 20 of the mean; lengths log-normal, seed 7, σ 0.25";
const AT_ONCE: usize = 200;
const LEARNT_FROM: usize = 50;
/// A thousand tokens of output cost a credit, and input nothing.
const POLICY: &str = r#"
version: 1
prices:
  - model: "gpt-5.5*"
    per_million_tokens: {input: 0, output: 1000}
balances:
  wallet: {per: account}
features:
  codex: {apis: [responses], unit: credit, overage: {forgive: 0, debt: 0}}
plans:
  paying:
    codex:
      waterfall:
        - {name: credits, kind: prepaid, balance: wallet}
"#;
const LEARNING: &str = r#"{"model":"gpt-5.5-sim-out=1000+lognormal=7+spread=25","input":"Say hello."}"#;
/// They last until all of them have been decided.
const BODY: &str = r#"{"model":"gpt-5.5-sim-out=1000+lognormal=7+spread=25+wait=3000","input":"Say hello."}"#;
const PATIENCE: Duration = Duration::from_mins(3);

/// How a round went.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at_once: f64,
    in_all: f64,
    forgiven: f64,
    left: f64,
}

pub(super) fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let (_upstream, upstream) = peers::simulated()?;
    let deployment = Deployment::new(upstream, POLICY)?;
    let gateway = deployment.start()?;
    let rounds = if settings.quick { 1 } else { 3 };
    let samples = (0..rounds).map(|round| sample(&gateway, round)).collect::<anyhow::Result<Vec<_>>>()?;
    let all = |value: fn(&Sample) -> f64| samples.iter().map(value).collect::<Vec<_>>();
    Ok(vec![
        Figure::aimed(SECTION, "pass at once", "pass", Goal::AtLeast(12.0), all(|sample| sample.at_once)),
        Figure::told(SECTION, "pass in all, retrying as told", "pass", all(|sample| sample.in_all)),
        Figure::aimed(SECTION, "forgiven", "credits", Goal::Exactly(0.0), all(|sample| sample.forgiven)),
        Figure::aimed(
            SECTION,
            "left of 20 credits when nobody retries",
            "credits",
            Goal::AtMost(1.5),
            all(|sample| sample.left),
        ),
    ])
}

fn sample(gateway: &Gateway, round: usize) -> anyhow::Result<Sample> {
    let learner = format!("learner-{round}");
    let name = format!("mean-{round}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let learning = gateway.account(&learner, "paying", 1, "1000")?.remove(0);
    let key = gateway.account(&name, "paying", 1, "20")?.remove(0);
    let (at_once, in_all) = runtime.block_on(async {
        let mut connection = Connection::open(gateway.addr).await?;
        for _ in 0..LEARNT_FROM {
            let answer = connection.exchange(&post("/v1/responses", &learning, LEARNING)).await?;
            anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        }
        burst(gateway.addr, post("/v1/responses", &key, BODY)).await
    })?;
    gateway.settle()?;
    let forgiven = gateway.decisions(&name)?.iter().map(forgiven).sum::<anyhow::Result<f64>>()?;
    Ok(Sample {
        at_once: f64::from(at_once),
        in_all: f64::from(in_all),
        forgiven,
        left: gateway.booked(&name)?,
    })
}

fn forgiven(decision: &Value) -> anyhow::Result<f64> {
    let text = decision.pointer("/end/charge/forgiven").and_then(Value::as_str);
    Ok(text
        .ok_or_else(|| anyhow::anyhow!("a decision without `end.charge.forgiven`: {decision}"))?
        .parse()?)
}

/// How many pass at the first attempt, and how many in all.
async fn burst(addr: SocketAddr, request: Vec<u8>) -> anyhow::Result<(u32, u32)> {
    let mut connections = Vec::new();
    for _ in 0..AT_ONCE {
        connections.push(Connection::open(addr).await?);
    }
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for mut connection in connections {
        let request = request.clone();
        clients.spawn(async move {
            let mut is_first = true;
            loop {
                let answer = connection.exchange(&request).await?;
                let wait = match (answer.status, answer.header("retry-after")) {
                    (200, _) => return anyhow::Ok((u32::from(is_first), 1)),
                    (429, None) => return Ok((0, 0)),
                    (429, Some(seconds)) => Duration::from_secs(seconds.parse()?),
                    (other, _) => anyhow::bail!("{other}: {}", answer.text()),
                };
                anyhow::ensure!(
                    start.elapsed() < PATIENCE,
                    "refused for {PATIENCE:?} and told to come again"
                );
                tokio::time::sleep(wait).await;
                is_first = false;
            }
        });
    }
    let (mut at_once, mut in_all) = (0, 0);
    while let Some(client) = clients.join_next().await {
        let (first, any) = client??;
        at_once += first;
        in_all += any;
    }
    Ok((at_once, in_all))
}
