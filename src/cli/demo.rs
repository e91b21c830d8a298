//! `overfall demo`: everything on one machine, and lines to paste.

mod seed;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use rand::Rng;

use super::output::say;
use super::serve::{Deployment, Gateway};
use crate::config::{
    self, Breaker, Config, Durability, LedgerStore, Limits, Listen, Secret, SecretSource, Upstream,
};
use crate::idempotency;
use crate::simulate;
use crate::telemetry::LogSettings;
use seed::Keys;

const POLICY: &str = include_str!("../../config/demo.yaml");
/// The simulated upstream's key: it shows that the client's never gets there.
const UPSTREAM_KEY: &str = "sk-simulated-upstream";

/// `overfall demo`
#[derive(Debug, Args)]
#[command(after_help = simulate::behaviour::Words.to_string())]
pub(super) struct Demo {
    /// Where clients connect, on 127.0.0.1
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where the operator connects, on 127.0.0.1
    #[arg(long, default_value_t = 8081)]
    admin_port: u16,
    /// Keep the state here; otherwise in a temporary folder that goes with the demo
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Demo {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let temporary = if self.data.is_none() { Some(tempfile::tempdir()?) } else { None };
        let data = match (&self.data, &temporary) {
            (Some(data), _) => data.clone(),
            (None, Some(folder)) => folder.path().to_owned(),
            (None, None) => anyhow::bail!("there is no folder for the demo's state"),
        };
        std::fs::create_dir_all(&data).with_context(|| format!("{} cannot be made", data.display()))?;
        let token = hex::encode(rand::rng().random::<[u8; 16]>());
        write_files(&data, &token, self.port, self.admin_port)?;
        let runtime = super::serve::runtime()?;
        let upstream = runtime.block_on(async {
            let options =
                simulate::Options { key: Some(UPSTREAM_KEY.to_owned()), ..simulate::Options::default() };
            simulate::Upstream::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options)
        })?;
        let config = self.config(&data, upstream.local_addr())?;
        runtime.spawn(upstream.serve(std::future::pending()));
        let deployment = Deployment {
            upstream_keys: vec![Secret::new(UPSTREAM_KEY, "the simulated upstream's key")?],
            webhook_secrets: Vec::new(),
            admin_token: Secret::new(&token, "the operator's token")?,
            config,
        };
        let gateway = Gateway::open(deployment, runtime)?;
        let keys = gateway.block_on(seed::seed(&gateway.operator))?;
        let port = self.port;
        let admin_port = self.admin_port;
        let told = told(&keys, port, admin_port, &data, self.data.is_some());
        gateway.run(move || say(&told))
    }

    fn config(&self, data: &Path, upstream: SocketAddr) -> anyhow::Result<Config> {
        Ok(Config {
            meter: None,
            policy: data.join("policy.yaml"),
            listen: Listen {
                gateway: SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)),
                admin: SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin_port)),
                tls: None,
            },
            upstreams: vec![Upstream {
                name: "simulated".into(),
                base_url: format!("http://{upstream}").parse()?,
                key: SecretSource::File(data.join("upstream-key")),
                webhook_secret: None,
                ca_file: None,
                connect_timeout: Duration::from_secs(3),
                read_timeout: Duration::from_mins(10),
                breaker: Breaker::default(),
                health: None,
            }],
            data: data.join("state"),
            ledger: LedgerStore::Embedded,
            durability: Durability::Strict,
            degraded: None,
            admin_token: SecretSource::File(data.join("admin-token")),
            jobs: config::Jobs::default(),
            limits: Limits { shutdown_grace: Duration::from_secs(10), ..Limits::default() },
            idempotency: idempotency::Limits::default(),
            checkpoint_every: crate::config::CHECKPOINT_EVERY,
            log: LogSettings { filter: "warn,overfall=info".to_owned(), ..LogSettings::default() },
        })
    }
}

/// A policy to edit, and a deployment file for the other commands.
fn write_files(data: &Path, token: &str, port: u16, admin_port: u16) -> anyhow::Result<()> {
    let policy = data.join("policy.yaml");
    if !policy.exists() {
        std::fs::write(&policy, POLICY)?;
    }
    std::fs::write(data.join("admin-token"), token)?;
    std::fs::write(data.join("upstream-key"), UPSTREAM_KEY)?;
    let deployment = format!(
        "# Written by `overfall demo`, for the other commands: overfall account list -c THIS_FILE\n\
         version: 1\n\
         policy: policy.yaml\n\
         listen: {{gateway: \"127.0.0.1:{port}\", admin: \"127.0.0.1:{admin_port}\"}}\n\
         upstreams: [{{name: simulated, base_url: \"http://127.0.0.1:1\", key: {{file: upstream-key}}}}]\n\
         stores: {{data: state}}\n\
         admin: {{token: {{file: admin-token}}}}\n"
    );
    std::fs::write(data.join("overfall.yaml"), deployment)?;
    Ok(())
}

/// What a newcomer reads first.
fn told(keys: &Keys, port: u16, admin_port: u16, data: &Path, keeps: bool) -> String {
    let Keys { allowance, credits, nothing } = keys;
    let config = data.join("overfall.yaml");
    let config = config.display();
    let policy = data.join("policy.yaml");
    let policy = policy.display();
    let program = program();
    let state = if keeps { "kept in" } else { "temporary, in" };
    let curl = |key: &str, body: &str| {
        format!(
            "curl -si http://127.0.0.1:{port}/v1/responses \\\n  -H 'Authorization: Bearer {key}' \
             -H 'Content-Type: application/json' \\\n  -d '{body}'"
        )
    };
    let two = curl(allowance, r#"{"model": "gpt-5.5-sim-out=1500", "input": "Say hello."}"#);
    let blocked = curl(nothing, r#"{"model": "gpt-5.5", "input": "Say hello."}"#);
    let stream = curl(credits, r#"{"model": "gpt-5.5", "input": "Say hello.", "stream": true}"#)
        .replace("curl -si", "curl -siN");
    let video = format!(
        "curl -si http://127.0.0.1:{port}/v1/videos -H 'Authorization: Bearer {allowance}' \\\n  -F model=sora-2 -F \
         prompt='A cat.' -F seconds=8"
    );
    let codex = codex_told(keys, port);
    format!(
        "Overfall runs before a simulated model API. State is {state} {data}.

  gateway   http://127.0.0.1:{port}/v1
  operator  http://127.0.0.1:{admin_port}/admin/v1 (token in {data}/admin-token)

Three accounts, a key each:

  allowance left     {allowance}
  living on credits  {credits}
  nothing left       {nothing}

Allowed from two sources at once, the allowance and credits (see X-Access-Sources):

{two}

Blocked, and told why (see X-Access-Decision):

{blocked}

A stream, paid in credits:

{stream}

A video, held when it is asked for and charged once it is there; GET /v1/videos/ID polls, …/ID/content downloads it
(sora-2-sim-failed fails, sora-2-sim-moderated is moderated, and costs nothing; sora-2-sim-runs=5000 takes 5 s):

{video}

What is left, for its key:

curl -s http://127.0.0.1:{port}/v1/access -H 'Authorization: Bearer {allowance}'

{codex}

The model's name asks the simulated API for faults, as gpt-5.5-sim-cut=6 does for a stream that is cut; all of them:

{program} demo --help

The books, proved while it runs:

{program} audit -c {config}

The policy is {policy}: edit it, it is read again at once. Ctrl-C ends the demo.",
        data = data.display(),
    )
}

/// A provider for Codex CLI, and a turn that works and one that is refused.
fn codex_told(keys: &Keys, port: u16) -> String {
    let Keys { allowance, nothing, .. } = keys;
    let command = |key: &str| {
        format!(
            "OVERFALL_KEY={key} codex exec --skip-git-repo-check \\\n  -c model_provider=overfall -m gpt-5.5 'Say hello.' </dev/null"
        )
    };
    let (works, refused) = (command(allowance), command(nothing));
    format!(
        "Codex CLI, with this in ~/.codex/config.toml:

[model_providers.overfall]
name = \"Overfall\"
base_url = \"http://127.0.0.1:{port}/v1\"
env_key = \"OVERFALL_KEY\"
wire_api = \"responses\"

It works, and is refused with nothing left:

{works}

{refused}"
    )
}

/// How this very program is called from here.
fn program() -> String {
    let found = std::env::current_exe().ok().zip(std::env::current_dir().ok());
    let named = |(program, here): (PathBuf, PathBuf)| {
        program.strip_prefix(here).map_or(program.clone(), Path::to_owned)
    };
    found.map(named).map_or_else(|| "overfall".to_owned(), |program| program.display().to_string())
}
