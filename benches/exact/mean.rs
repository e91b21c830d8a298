//! Answers of unknown length against a balance worth 20 of the mean.
//!
//! Too big an estimate refuses who could be served, too small a one overspends. Lengths are log-normal around 1,000
//! tokens (σ = 0.25, from the seed below), no request says a maximum, nothing is clamped, and the gateway has learnt
//! from 50 calls. Then 200 come at once. Who is refused does what the headers say: waits for `Retry-After` and comes
//! again, or gives up where there is none.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
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
const BODY: &str = r#"{"model":"gpt-5.5-sim-out=1000+lognormal=7+spread=25","input":"Say hello."}"#;
/// Answers of the burst last until all of it has been decided.
const SLOWLY: &str = "x-simulate: wait=3000";
const PATIENCE: Duration = Duration::from_mins(3);

/// How a round went.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at_once: f64,
    in_all: f64,
    forgiven: f64,
    /// What is left in the end, of what the last one who was refused needed.
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
            "left when nobody retries, of what one more needs",
            "",
            Goal::AtMost(1.0),
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
    let Burst { at_once, in_all, needed } = runtime.block_on(async {
        let mut connection = Connection::open(gateway.addr).await?;
        for _ in 0..LEARNT_FROM {
            let answer = connection.exchange(&post("/v1/responses", &learning, BODY)).await?;
            anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        }
        burst(gateway.addr, with_header(&post("/v1/responses", &key, BODY), SLOWLY)).await
    })?;
    gateway.settle()?;
    let forgiven = gateway.decisions(&name)?.iter().map(forgiven).sum::<anyhow::Result<f64>>()?;
    Ok(Sample {
        at_once: f64::from(at_once),
        in_all: f64::from(in_all),
        forgiven,
        left: gateway.booked(&name)? / needed,
    })
}

fn forgiven(decision: &Value) -> anyhow::Result<f64> {
    let text = decision.pointer("/end/charge/forgiven").and_then(Value::as_str);
    Ok(text
        .ok_or_else(|| anyhow::anyhow!("a decision without `end.charge.forgiven`: {decision}"))?
        .parse()?)
}

/// What came of 200 at once.
#[derive(Clone, Copy, Debug, Default)]
struct Burst {
    /// Passed at the first attempt.
    at_once: u32,
    /// Passed at any attempt.
    in_all: u32,
    /// The least that any of the others needed at its last attempt, in credits.
    needed: f64,
}

async fn burst(addr: SocketAddr, request: Vec<u8>) -> anyhow::Result<Burst> {
    let mut connections = Vec::new();
    for _ in 0..AT_ONCE {
        connections.push(Connection::open(addr).await?);
    }
    let mut clients = JoinSet::new();
    for connection in connections {
        clients.spawn(obedient(connection, request.clone()));
    }
    let mut burst = Burst { needed: f64::INFINITY, ..Burst::default() };
    while let Some(client) = clients.join_next().await {
        match client?? {
            End::Passed { at_once } => {
                burst.at_once += u32::from(at_once);
                burst.in_all += 1;
            }
            End::GaveUp { needed } => burst.needed = burst.needed.min(needed),
        }
    }
    Ok(burst)
}

/// How a client ended.
enum End {
    Passed { at_once: bool },
    GaveUp { needed: f64 },
}

/// Does what the headers say.
async fn obedient(mut connection: Connection, request: Vec<u8>) -> anyhow::Result<End> {
    let start = Instant::now();
    let mut at_once = true;
    loop {
        let answer = connection.exchange(&request).await?;
        let wait = match (answer.status, answer.header("retry-after")) {
            (200, _) => return Ok(End::Passed { at_once }),
            (429, None) => return Ok(End::GaveUp { needed: needed(answer.header("x-access-decision"))? }),
            (429, Some(seconds)) => Duration::from_secs(seconds.parse()?),
            (other, _) => anyhow::bail!("{other}: {}", answer.text()),
        };
        anyhow::ensure!(start.elapsed() < PATIENCE, "refused for {PATIENCE:?} and told to come again");
        tokio::time::sleep(wait).await;
        at_once = false;
    }
}

/// `need="1.638"` in a decision.
fn needed(decision: Option<&str>) -> anyhow::Result<f64> {
    let decision = decision.context("a refusal without its decision")?;
    let need = decision.split(';').find_map(|part| part.trim().strip_prefix("need="));
    Ok(need.with_context(|| format!("no need in `{decision}`"))?.trim_matches('"').parse()?)
}

fn with_header(request: &[u8], header: &str) -> Vec<u8> {
    let line = memchr::memchr(b'\n', request).map_or(0, |place| place + 1);
    [&request[..line], header.as_bytes(), b"\r\n", &request[line..]].concat()
}
