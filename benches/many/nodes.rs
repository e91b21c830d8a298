//! A Redis, and nodes that share it: their meters, without the gateways around them.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use overfall::journal::{self, Journal};
use overfall::ledger::Ledger;
use overfall::ledger::sqlite::SqliteLedger;
use overfall::meter::Meter as _;
use overfall::meter::redis::{RedisAt, RedisMeter, Store};
use overfall::policy::live::Policies;
use overfall::units::time::Clock;
use overfall::units::{AccountId, Timestamp};

use crate::core::world::{self, World};
use crate::support::process::{Process, free_port, wait_for};
use crate::support::settings::folder;

/// A Redis and the nodes on it.
pub(crate) struct Nodes {
    pub(crate) server: Process,
    pub(crate) url: String,
    pub(crate) meters: Vec<Arc<RedisMeter>>,
    pub(crate) world: World,
    pub(crate) clock: Clock,
    pub(crate) account: AccountId,
    pub(crate) since: Timestamp,
    _folder: tempfile::TempDir,
}

impl Nodes {
    /// So many nodes, and one account with credits.
    pub(crate) async fn open(policy: &str, nodes: usize, credits: &str) -> anyhow::Result<Self> {
        let folder = folder()?;
        let port = free_port()?;
        let mut server = Process::start(
            Command::new("redis-server")
                .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--port"])
                .arg(port.to_string())
                .arg("--dir")
                .arg(folder.path())
                .stdout(Stdio::null()),
        )?;
        wait_for(&mut server, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let (clock, world) = (Clock::machine(), World::of(policy)?);
        let url = format!("redis://127.0.0.1:{port}");
        let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(&folder.path().join("ledger.sqlite"))?);
        let mut meters = Vec::new();
        for node in 0..nodes {
            let each = |_, _: journal::Frame<'_>| Ok(());
            let path = folder.path().join(format!("journal-{node}"));
            let (journal, _) = Journal::open(&path, journal::Options::default(), each)?;
            let store = Store::connect(&RedisAt::one(url.clone()), clock.clone()).await?;
            let policies = Arc::new(Policies::new(Arc::clone(&world.policy)));
            let meter = RedisMeter::open(
                store,
                clock.clone(),
                policies,
                Arc::clone(&ledger),
                Arc::new(journal),
                None,
            );
            let meter = meter.await?;
            meter.alone(1).await?;
            meters.push(Arc::new(meter));
        }
        let since = clock.now();
        let account = world::account(0, since);
        let granted = meters[0].grant(account, world::order(0, credits, since)?).await?;
        let (_record, ticket) = granted.context("a new grant")?;
        ticket.await?;
        Ok(Self { server, url, meters, world, clock, account, since, _folder: folder })
    }

    /// How many scripts the server has carried out.
    pub(crate) async fn scripts(&self) -> anyhow::Result<u64> {
        let client = redis::Client::open(self.url.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let told: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await?;
        let calls = |name: &str| {
            let line = told.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split(',').next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        Ok(calls("cmdstat_evalsha:calls=") + calls("cmdstat_eval:calls="))
    }
}
