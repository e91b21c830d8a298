//! The real gateway, `overfall serve`, as a process of its own on a folder of its own, and its operator.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::process::{Cpu, Process, free_port, wait_for};
use super::settings::folder;

/// The policy of all sections: two guards and two layers, all of which enforce. The window is spent after a few
/// requests, so each one walks all four and is paid in credits: what costs most, in the gateway and in the books.
pub(crate) const POLICY: &str = r#"
version: 1
prices:
  - model: "gpt-5.5*"
    per_million_tokens: {input: 125, cached_input: 12.5, output: 750}
balances:
  wallet: {per: account}
features:
  codex: {apis: [responses, chat], unit: credit, overage: {forgive: 0, debt: 0}}
plans:
  paying:
    codex:
      guards:
        - {name: burst, requests: 100000000, every: 1m, per: user}
        - {name: in-flight, concurrent: 100000, per: user}
      waterfall:
        - {name: included, kind: rate_limit, per: user, windows: [{allow: 1, every: 7d, starts: first_use}]}
        - {name: credits, kind: prepaid, balance: wallet}
"#;
const TOKEN: &str = "the-operators-token-of-a-bench";

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// The process.
    pub(crate) process: Process,
    /// Where clients connect.
    pub(crate) addr: SocketAddr,
    admin: SocketAddr,
    operator: ureq::Agent,
}

/// A deployment that can be started, and started again.
#[derive(Debug)]
pub(crate) struct Deployment {
    folder: tempfile::TempDir,
    addr: SocketAddr,
    admin: SocketAddr,
}

impl Deployment {
    /// Strict, in front of `upstream`, under `policy`.
    pub(crate) fn new(upstream: SocketAddr, policy: &str) -> anyhow::Result<Self> {
        let folder = folder()?;
        let (addr, admin) = (address()?, address()?);
        let config = format!(
            "version: 1
policy: policy.yaml
listen: {{gateway: \"{addr}\", admin: \"{admin}\"}}
upstreams: [{{name: stub, base_url: \"http://{upstream}\", key: {{file: upstream-key}}}}]
stores: {{data: data}}
durability: strict
admin: {{token: {{file: admin-token}}}}
limits: {{shutdown_grace: 5s}}
log: {{level: warn}}
"
        );
        for (name, text) in [
            ("overfall.yaml", config.as_str()),
            ("policy.yaml", policy),
            ("upstream-key", "sk-upstream"),
            ("admin-token", TOKEN),
        ] {
            std::fs::write(folder.path().join(name), text)?;
        }
        Ok(Self { folder, addr, admin })
    }

    /// Where clients connect.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Starts it, and does not wait for anything.
    pub(crate) fn launch(&self) -> anyhow::Result<Process> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_overfall"));
        command.arg("serve").arg("-c").arg(self.folder.path().join("overfall.yaml"));
        Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()))
    }

    /// Starts it, and waits until clients can connect.
    pub(crate) fn start(&self) -> anyhow::Result<Gateway> {
        let mut process = self.launch()?;
        wait_for(&mut process, self.addr)?;
        wait_for(&mut process, self.admin)?;
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(30)));
        let operator = config.http_status_as_error(false).build().new_agent();
        Ok(Gateway { process, addr: self.addr, admin: self.admin, operator })
    }
}

impl Gateway {
    /// Adds an account with as many users, each with a key, and grants it credits. Tells the keys.
    pub(crate) fn account(
        &self,
        name: &str,
        plan: &str,
        users: usize,
        credits: &str,
    ) -> anyhow::Result<Vec<String>> {
        self.post("accounts", &json!({"name": name, "plan": plan}))?;
        if credits != "0" {
            self.grant(name, credits)?;
        }
        (0..users)
            .map(|user| {
                let user = format!("user-{user}");
                self.post(&format!("accounts/{name}/users"), &json!({"name": user}))?;
                let key = self.post(&format!("accounts/{name}/users/{user}/keys"), &json!({}))?;
                Ok(key["key"].as_str().context("no key")?.to_owned())
            })
            .collect()
    }

    /// Grants credits to an account's wallet.
    pub(crate) fn grant(&self, account: &str, credits: &str) -> anyhow::Result<()> {
        let order =
            json!({"balance": "wallet", "amount": credits, "idempotency_key": format!("bench-{credits}")});
        self.post(&format!("accounts/{account}/grants"), &order)?;
        Ok(())
    }

    /// What an account has left in its wallet, as the books say, in credits.
    pub(crate) fn booked(&self, account: &str) -> anyhow::Result<f64> {
        let grants = self.get(&format!("accounts/{account}/grants"))?;
        let items = grants["items"].as_array().context("no grants")?;
        items.iter().map(|grant| Ok(grant["remaining"].as_str().context("no rest")?.parse::<f64>()?)).sum()
    }

    /// The newest decisions of an account that are booked.
    pub(crate) fn decisions(&self, account: &str) -> anyhow::Result<Vec<Value>> {
        let page = self.get(&format!("accounts/{account}/decisions?limit=1000"))?;
        Ok(page["items"].as_array().context("no decisions")?.clone())
    }

    /// Waits until everything that has ended is on the books. Says how many records came to them since the start.
    pub(crate) fn settle(&self) -> anyhow::Result<f64> {
        let start = Instant::now();
        // The end of the last call may not be journalled yet when its client has its answer.
        std::thread::sleep(Duration::from_millis(50));
        while self.metric("overfall_settle_lag_frames")? > 0.0 {
            anyhow::ensure!(start.elapsed() < Duration::from_mins(5), "settlement does not come to its end");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.metric("overfall_settled_records_total")
    }

    /// The sum of a metric over its labels; nothing where it was never recorded.
    fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = self
            .operator
            .get(format!("http://{}/metrics", self.admin))
            .call()?
            .body_mut()
            .read_to_string()?;
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
        });
        let values = lines.map(|line| Ok(line.rsplit(' ').next().context("no value")?.parse::<f64>()?));
        values.sum()
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.operator.get(format!("http://{}/admin/v1/{path}", self.admin));
        checked(request.header("authorization", format!("Bearer {TOKEN}")).call()?, path)
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.operator.post(format!("http://{}/admin/v1/{path}", self.admin));
        checked(request.header("authorization", format!("Bearer {TOKEN}")).send_json(body)?, path)
    }
}

/// CPU of a gateway by whether settlement spent it: the worker's thread and that of the ledger's one writer.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "the unit stands last in every name")]
pub(crate) struct Shares {
    /// What serving requests takes, the journal included.
    pub(crate) serving_us: f64,
    /// The journal's part of that.
    pub(crate) journal_us: f64,
    /// What bringing them to the books takes.
    pub(crate) settling_us: f64,
}

impl Shares {
    /// Of a gateway's threads.
    pub(crate) fn of(cpu: &Cpu) -> Self {
        let settling_us = cpu.us(|name| matches!(name, "settle" | "ledger-writer"));
        let journal_us = cpu.us(|name| name == "journal");
        Self { serving_us: cpu.all_us() - settling_us, journal_us, settling_us }
    }

    /// What was spent since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            serving_us: self.serving_us - before.serving_us,
            journal_us: self.journal_us - before.journal_us,
            settling_us: self.settling_us - before.settling_us,
        }
    }
}

fn checked(mut response: ureq::http::Response<ureq::Body>, path: &str) -> anyhow::Result<Value> {
    let status = response.status();
    let text = response.body_mut().read_to_string()?;
    anyhow::ensure!(status.is_success(), "{path} answers {status}: {text}");
    Ok(serde_json::from_str(&text)?)
}

fn address() -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)))
}
