//! One upstream, and before it the peers: each a process of its own.

use std::net::SocketAddr;

use crate::support::client::post;
use crate::support::gateway::{Deployment, Gateway, POLICY};
use crate::support::peers::{self, Nginx};
use crate::support::process::Process;

/// Connections at saturation.
pub(super) const CONNECTIONS: usize = 64;
const ACCOUNTS: usize = 16;
/// The size of a JSON request.
const BODY_BYTES: usize = 600;

/// The peers and what stands behind them.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) bare: Process,
    pub(super) bare_addr: SocketAddr,
    pub(super) nginx: Option<Nginx>,
    pub(super) deployment: Deployment,
    pub(super) gateway: Gateway,
    /// Keys of users with credits: four users in each of sixteen accounts.
    pub(super) keys: Vec<String>,
    /// A key of a user with nothing left.
    pub(super) broke: String,
    _upstream: Process,
}

impl Stage {
    /// Before the upstream with one answer.
    pub(super) fn canned() -> anyhow::Result<Self> {
        Self::before(peers::canned()?)
    }

    /// Before the simulated upstream.
    pub(super) fn simulated() -> anyhow::Result<Self> {
        Self::before(peers::simulated()?)
    }

    fn before((upstream, addr): (Process, SocketAddr)) -> anyhow::Result<Self> {
        let (bare, bare_addr) = peers::bare(addr)?;
        let nginx = Nginx::start(addr)?;
        let deployment = Deployment::new(addr, POLICY)?;
        let gateway = deployment.start()?;
        let mut keys = Vec::new();
        for account in 0..ACCOUNTS {
            keys.extend(gateway.account(
                &format!("paying-{account}"),
                "paying",
                CONNECTIONS / ACCOUNTS,
                "100000000",
            )?);
        }
        let broke = gateway.account("broke", "paying", 1, "0")?.remove(0);
        Ok(Self { bare, bare_addr, nginx, deployment, gateway, keys, broke, _upstream: upstream })
    }
}

/// A JSON request of about 600 bytes; for users without an allowance too large a one, where `tokens` is large.
pub(super) fn json_request(key: &str, max_output_tokens: u64) -> Vec<u8> {
    let around = format!(
        r#"{{"model":"gpt-5.5","instructions":"You are a terse assistant.","input":[{{"role":"user","content":"TEXT"}}],"max_output_tokens":{max_output_tokens},"store":false}}"#
    );
    let text = "Say why the sky is blue, in one sentence, and then say it once more. ".repeat(20);
    let text = &text[..BODY_BYTES.saturating_sub(around.len())];
    post("/v1/responses", key, &around.replace("TEXT", text))
}
