//! `overfall serve`: the gateway, from its deployment file to its last record.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::ConfigFile;
use super::checkpoint::Checkpoints;
use super::node::{Node, Shared, Stores};
use super::reload::Reloader;
use crate::admin::{self, Operator};
use crate::config::{Config, Degraded, Durability, LedgerAt, Secret};
use crate::idempotency::sqlite::{self, SqliteAnswers};
use crate::journal;
use crate::ledger::postgres::PostgresLedger;
use crate::meter::redis::{Allowance, RedisAt};
use crate::policy::compiled::Policy;
use crate::policy::load;
use crate::proxy::upstreams::Upstreams;
use crate::proxy::{body, gateway, server, upstream};
use crate::settle::Progress;
use crate::settle::jobs::{Jobs, Truths, client, webhook};
use crate::telemetry;
use crate::units::Span;
use crate::units::time::Clock;

/// How often the gateway's own port is tried until it answers.
const CONNECT_EVERY: Duration = Duration::from_millis(5);
/// How often the books are asked for jobs past their deadline, until they tell.
const FIND_EVERY: Duration = Duration::from_secs(10);
/// What a power cut may cost in relaxed durability.
const RELAXED_SYNC: Span = Span::from_ms(50);

/// The bound on the journal holds at least so many of its files.
const SEGMENTS_LEAST: u64 = 8;
/// The size of a file of the journal, at least and at most.
const SEGMENT_BYTES: (u64, u64) = (16 << 10, 64 << 20);

/// `overfall serve`
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigFile,
}

/// A deployment with its secrets at hand.
pub(super) struct Deployment {
    /// The deployment file.
    pub(super) config: Config,
    /// The upstreams' keys, in their order.
    pub(super) upstream_keys: Vec<Secret>,
    /// The secrets of the upstreams' webhooks; none: they are not taken.
    pub(super) webhook_secrets: Vec<Secret>,
    /// The operator's token.
    pub(super) admin_token: Secret,
}

/// A gateway whose stores are open and which does not listen yet.
pub(super) struct Gateway {
    runtime: Runtime,
    node: Node,
    /// What the operator's routes act on.
    pub(super) operator: Arc<Operator>,
    deployment: Deployment,
    admin: TcpListener,
    answers: Arc<SqliteAnswers>,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let config = Config::load(&self.config.config)?;
        let deployment = Deployment {
            upstream_keys: config.upstream_keys()?,
            webhook_secrets: config.webhook_secrets()?,
            admin_token: config.admin_token()?,
            config,
        };
        let told = deployment.config.clone();
        let books = told.ledger_at()?;
        let gateway = Gateway::open(deployment, runtime()?)?;
        gateway.run(move || {
            tracing::info!(
                gateway.address = %told.listen.gateway,
                admin.address = %told.listen.admin,
                upstreams = ?told.upstreams.iter().map(|upstream| upstream.base_url.to_string()).collect::<Vec<_>>(),
                meter = stores_of(&told),
                ledger = %books,
                data.path = %told.data.display(),
                durability = ?told.durability,
                "the gateway serves"
            );
        })
    }
}

/// The runtime of everything but the proxy itself.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("operator").enable_all().build()
}

/// Opens the stores that a deployment names, under the policy that its file holds.
pub(super) async fn open(config: &Config) -> anyhow::Result<Node> {
    let policy = Arc::new(read_policy(config)?);
    let durability = match config.durability {
        Durability::Strict => journal::Durability::Strict,
        Durability::Relaxed => journal::Durability::Relaxed { sync_every: RELAXED_SYNC },
    };
    let options = journal::Options {
        segment_bytes: (config.limits.journal_bytes / SEGMENTS_LEAST).clamp(SEGMENT_BYTES.0, SEGMENT_BYTES.1),
        bytes_max: config.limits.journal_bytes,
        durability,
        ..journal::Options::default()
    };
    let stores = Stores {
        data: config.data.clone(),
        ledger: config.ledger_at()?,
        journal: options,
        owned: config.limits.owned,
    };
    let clock = Clock::machine();
    let Some(shared) = open_shared(config).await? else {
        return Ok(Node::open(&stores, policy, clock).await?);
    };
    Ok(Node::open_shared(&stores, shared, policy, clock).await?)
}

/// The stores that several gateways share, if the deployment names them.
pub(super) async fn open_shared(config: &Config) -> anyhow::Result<Option<Shared>> {
    let (Some(addresses), LedgerAt::Server(books)) = (config.meter_addresses()?, config.ledger_at()?) else {
        return Ok(None);
    };
    let ledger = PostgresLedger::open(books.as_address()).await.context("the ledger did not open")?;
    let redis = RedisAt {
        urls: addresses.iter().map(|address| address.as_address().to_owned()).collect(),
        is_cluster: config.meter.as_ref().is_some_and(|meter| meter.is_cluster),
        ca_file: config.meter.as_ref().and_then(|meter| meter.ca_file.clone()),
    };
    let allowance =
        config.degraded.map(|Degraded { per_account, max_nodes }| Allowance { per_account, max_nodes });
    Ok(Some(Shared { redis, allowance, ledger: Arc::new(ledger) }))
}

/// Which store has live counts, for people.
fn stores_of(config: &Config) -> &'static str {
    match &config.meter {
        Some(meter) if meter.is_cluster => "redis cluster",
        Some(_) => "redis",
        None => "embedded",
    }
}

fn read_policy(config: &Config) -> anyhow::Result<Policy> {
    let file = &config.policy;
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("the policy file {} cannot be read", file.display()))?;
    load::parse(&file.display().to_string(), &text).context("the policy file is not right")
}

impl Gateway {
    /// Starts logs and metrics, takes the ports and opens the stores.
    pub(super) fn open(deployment: Deployment, runtime: Runtime) -> anyhow::Result<Self> {
        telemetry::init_logs(&deployment.config.log)?;
        use_all_descriptors();
        let exposition = telemetry::install_metrics()?;
        crate::settle::describe();
        runtime.spawn(exposition.clone().upkeep());
        let admin = listen(deployment.config.listen.admin, "operator")?;
        drop(listen(deployment.config.listen.gateway, "gateway")?);
        let node = runtime.block_on(open(&deployment.config))?;
        if node.recovered.floored > 0 {
            tracing::warn!(
                holds = node.recovered.floored,
                "the gateway had died with holds open; they are charged at their floor"
            );
        }
        if node.recovered.jobs > 0 {
            tracing::info!(jobs = node.recovered.jobs, "jobs go on that were open when the gateway ended");
        }
        let answers = Arc::new(open_answers(&deployment.config, &node)?);
        let operator =
            node.operator(deployment.admin_token.clone(), Some(exposition), Arc::new(Notify::new()));
        Ok(Self { runtime, node, operator, deployment, admin, answers })
    }

    /// Runs a future beside the gateway.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Serves until a signal ends it, then brings everything to the books. `serving` is called once clients can connect.
    pub(super) fn run(self, serving: impl FnOnce() + Send + 'static) -> anyhow::Result<ExitCode> {
        let Self { runtime, node, operator, deployment, admin, answers } = self;
        // Listened for before anything tells that the gateway is alive: from then on a signal ends it in order.
        let signalled = runtime.spawn(server::signalled());
        admin.set_nonblocking(true)?;
        let router = admin::router(Arc::clone(&operator));
        runtime.spawn(async move {
            let served = async { axum::serve(tokio::net::TcpListener::from_std(admin)?, router).await };
            if let Err(error) = served.await {
                tracing::error!(error = %telemetry::chain(&error), "the operator's listener has ended");
            }
        });
        let reloader = Reloader {
            file: deployment.config.policy.clone(),
            policies: Arc::clone(&node.policies),
            directory: Arc::clone(&node.directory),
            ledger: Arc::clone(&node.ledger),
            wake: Arc::clone(&operator.reload),
        };
        runtime.spawn(async move {
            if let Err(error) = reloader.run().await {
                tracing::error!(error = %format!("{error:#}"), "the policy file is not watched");
            }
        });
        let checkpoints = Checkpoints::of(&deployment.config);
        runtime.spawn(checkpoints.run(deployment.config.checkpoint_every, node.clock.clone()));
        let address = deployment.config.listen.gateway;
        let ready = Arc::clone(&operator);
        runtime.spawn(async move {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(CONNECT_EVERY).await;
            }
            ready.readiness.begin();
            serving();
        });
        let upstreams = Arc::new(Upstreams::new(&upstreams(&deployment))?);
        let watched = Arc::clone(&upstreams);
        operator.readiness.watch(move || watched.is_any_up());
        let jobs = runtime.block_on(jobs(&node, &deployment))?;
        let parts = parts(&node, &deployment, upstreams, Arc::clone(&jobs), Arc::clone(&answers))?;
        let proxy = gateway::Gateway::new(parts);
        runtime.spawn(proxy.resolve_interrupted(node.progress()));
        runtime.spawn(find_late(Arc::clone(&jobs), node.progress()));
        let watcher = server::Task::new("job watcher", move |stop| jobs.watch(stop));
        let leaving = Arc::clone(&operator);
        let stop = async move {
            if let Err(error) = signalled.await {
                tracing::error!(error = %telemetry::chain(&error), "signals are not listened for any more");
            }
            leaving.readiness.end();
            leaving.closing.store(true, Ordering::Relaxed);
        };
        let served = server::run(&settings(&deployment.config), proxy, vec![watcher], stop);
        operator.readiness.end();
        answers.close();
        node.close();
        served?;
        tracing::info!("the gateway has ended; everything is on the books");
        Ok(ExitCode::SUCCESS)
    }
}

fn settings(config: &Config) -> server::Settings {
    let tls = config.listen.tls.as_ref();
    let tls = tls.map(|tls| server::Tls { certificates: tls.certificate.clone(), key: tls.key.clone() });
    server::Settings {
        listeners: vec![server::Listener { address: config.listen.gateway, tls }],
        threads: std::thread::available_parallelism().map_or(1, NonZero::get),
        grace: config.limits.shutdown_grace,
    }
}

/// The jobs that go on, and whom to ask for them.
async fn jobs(node: &Node, deployment: &Deployment) -> anyhow::Result<Arc<Jobs>> {
    let keyed = deployment.config.upstreams.iter().zip(&deployment.upstream_keys);
    let settings = keyed.map(|(upstream, key)| client::Settings {
        name: upstream.name.clone(),
        base_url: upstream.base_url.clone(),
        key: key.clone(),
        ca_file: upstream.ca_file.clone(),
        connect_timeout: upstream.connect_timeout,
    });
    let client = Arc::new(client::Client::new(settings)?);
    let truths = Truths { ledger: Arc::clone(&node.ledger), policies: Arc::clone(&node.policies) };
    let pace = deployment.config.jobs.into();
    Ok(Jobs::open(node.meter.clone(), truths, client, node.clock.clone(), pace).await?)
}

/// Has the jobs asked for again whose deadline passed before this start.
async fn find_late(jobs: Arc<Jobs>, progress: Progress) {
    progress.caught_up().await;
    loop {
        match jobs.find_late().await {
            Ok(0) => return,
            Ok(found) => return tracing::info!(jobs = found, "jobs past their deadline are asked for again"),
            Err(error) => {
                tracing::error!(error = %telemetry::chain(&error), "jobs past their deadline are not found yet");
                tokio::time::sleep(FIND_EVERY).await;
            }
        }
    }
}

fn upstreams(deployment: &Deployment) -> Vec<upstream::Settings> {
    let keyed = deployment.config.upstreams.iter().zip(&deployment.upstream_keys);
    let settings = keyed.map(|(upstream, key)| upstream::Settings {
        name: upstream.name.clone(),
        base_url: upstream.base_url.clone(),
        key: key.clone(),
        ca_file: upstream.ca_file.clone(),
        connect_timeout: upstream.connect_timeout,
        read_timeout: upstream.read_timeout,
        breaker: upstream.breaker,
        health: upstream.health.clone(),
    });
    settings.collect()
}

/// What is kept for requests that come again.
fn open_answers(config: &Config, node: &Node) -> Result<SqliteAnswers, sqlite::OpenError> {
    let syncs = match config.durability {
        Durability::Strict => sqlite::Syncs::Each,
        Durability::Relaxed => sqlite::Syncs::Seldom,
    };
    SqliteAnswers::open(&config.idempotency_path(), config.idempotency, syncs, node.clock.clone())
}

fn parts(
    node: &Node,
    deployment: &Deployment,
    upstreams: Arc<Upstreams>,
    jobs: Arc<Jobs>,
    answers: Arc<SqliteAnswers>,
) -> anyhow::Result<gateway::Parts> {
    let limits = &deployment.config.limits;
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let webhooks = webhook::Verifier::new(&deployment.webhook_secrets)?;
    Ok(gateway::Parts {
        jobs,
        webhooks,
        clock: node.clock.clone(),
        policies: Arc::clone(&node.policies),
        directory: Arc::clone(&node.directory),
        meter: node.meter.clone(),
        ledger: Arc::clone(&node.ledger),
        journal: Arc::clone(&node.journal),
        made: node.take_made(),
        blocks: node.blocks.clone(),
        upstreams,
        bodies: body::Limits {
            bytes_max: bytes(limits.body_bytes),
            buffered_bytes_max: bytes(limits.bodies_bytes),
            timeout: limits.body_time,
        },
        answers,
        kept: deployment.config.idempotency,
    })
}

/// Takes as many file descriptors as the machine allows: each request in flight needs two, and what a shell or a service
/// manager gives a process by itself is often 1024.
fn use_all_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}

/// Takes a port, or says which and what to do.
pub(super) fn listen(address: SocketAddr, role: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| {
        format!("the {role} cannot listen on {address}: name another port, or end what has it")
    })
}
