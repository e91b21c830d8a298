//! A window of 50 requests, and a balance worth 20, each hit by 400 requests from 64 clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use crate::support::client::{Connection, post};
use crate::support::gateway::Deployment;
use crate::support::peers;
use crate::support::report::{Figure, Goal};
use crate::support::settings::Settings;

const SECTION: &str = "Counts, 400 requests from 64 clients";
const REQUESTS: usize = 400;
const CLIENTS: usize = 64;
/// A request costs one credit.
const POLICY: &str = r#"
version: 1
prices:
  - {model: "gpt-5.5*", per_million_tokens: {input: 0, output: 0}, per_request: 1}
balances:
  wallet: {per: account}
features:
  codex: {apis: [responses], unit: request, overage: {forgive: 0, debt: 0}}
plans:
  window:
    codex:
      waterfall:
        - {name: fifty, kind: rate_limit, per: account, windows: [{allow: 50, every: 1d, starts: first_use}]}
  balance:
    codex:
      waterfall:
        - {name: credits, kind: prepaid, balance: wallet}
"#;
const BODY: &str = r#"{"model":"gpt-5.5-sim-out=5+wait=20","input":"Say hello.","max_output_tokens":10}"#;

pub(super) fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let (_upstream, upstream) = peers::simulated()?;
    let deployment = Deployment::new(upstream, POLICY)?;
    let gateway = deployment.start()?;
    let (mut window, mut balance) = (Vec::new(), Vec::new());
    for round in 0..settings.rounds {
        let keys = gateway.account(&format!("window-{round}"), "window", 2, "0")?;
        window.push(passed(gateway.addr, &keys)?);
        let keys = gateway.account(&format!("balance-{round}"), "balance", 2, "20")?;
        balance.push(passed(gateway.addr, &keys)?);
    }
    let exact =
        |what: &str, count, values| Figure::aimed(SECTION, what, "pass", Goal::Exactly(count), values);
    Ok(vec![
        exact("window of `unit: request, allow: 50`", 50.0, window),
        exact("balance worth 20 requests", 20.0, balance),
    ])
}

/// How many are answered with 200. All others have to be refused with 429.
fn passed(addr: SocketAddr, keys: &[String]) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let count = runtime.block_on(async {
        let left = Arc::new(AtomicUsize::new(REQUESTS));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (left, request) =
                (Arc::clone(&left), post("/v1/responses", &keys[client % keys.len()], BODY));
            clients.spawn(async move {
                let mut connection = Connection::open(addr).await?;
                let mut passed = 0_u32;
                let take = |left: usize| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    let answer = connection.exchange(&request).await?;
                    match answer.status {
                        200 => passed += 1,
                        429 => {}
                        other => anyhow::bail!("{other}: {}", answer.text()),
                    }
                }
                anyhow::Ok(passed)
            });
        }
        let mut all = 0;
        while let Some(client) = clients.join_next().await {
            all += client??;
        }
        anyhow::Ok(all)
    })?;
    Ok(f64::from(count))
}
