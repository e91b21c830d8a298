//! The deployment file: listeners, upstreams, stores, bounds. Read once, at the start.
//!
//! It is read with the same care as the policy: every problem at once, each where it stands. Secrets stand elsewhere;
//! the file names where.

mod jobs;
mod ledger;
mod raw;
mod secret;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::idempotency;
use crate::policy::compiled::Name;
use crate::policy::decode::{At, Decode};
use crate::policy::problem::{Problems, Sink};
use crate::policy::scalars::{Length, Text};
use crate::policy::yaml;
use crate::telemetry::{LogFormat, LogSettings};
use crate::units::{Credits, Span};

pub use jobs::Jobs;
pub use ledger::LedgerAt;
pub use secret::{Secret, SecretError, SecretSource};

const MIB: u64 = 1 << 20;
/// The largest answer that may be kept: it stands in memory while it passes.
const ANSWER_BYTES_MAX: u64 = 16 * MIB;
/// No ownership record is forgotten sooner.
pub(crate) const OWNED_LEAST: Span = Span::from_seconds(24 * 3600);
const ADMIN_TOKEN: &str = "the token of the operator's API";
const WEBHOOK_SECRET: &str = "the secret of an upstream's webhooks";
const METER_ADDRESS: &str = "the address of redis";
const LEDGER_ADDRESS: &str = "the address of the ledger";
const UPSTREAM_KEY: &str = "the key of an upstream";

/// A deployment.
#[derive(Clone, Debug)]
pub struct Config {
    /// The policy file.
    pub policy: PathBuf,
    /// Where it listens.
    pub listen: Listen,
    /// What it stands before, best first; at least one.
    pub upstreams: Vec<Upstream>,
    /// The folder of journal and embedded stores.
    pub data: PathBuf,
    /// Where live counts are that several gateways share; none: in memory.
    pub meter: Option<MeterStore>,
    /// Where the books are.
    pub ledger: LedgerStore,
    /// Whether a request waits for its hold to be durable.
    pub durability: Durability,
    /// What may be given while the store of live counts does not answer; none: requests are refused.
    pub degraded: Option<Degraded>,
    /// Where the operator's token stands.
    pub admin_token: SecretSource,
    /// How the upstream is asked for jobs.
    pub jobs: Jobs,
    /// Bounds.
    pub limits: Limits,
    /// What is kept for requests that come again with the same key.
    pub idempotency: idempotency::Limits,
    /// How long after one checkpoint of the books the next is made.
    pub checkpoint_every: Duration,
    /// Logs.
    pub log: LogSettings,
}

/// Live counts in Redis.
#[derive(Clone, Debug)]
pub struct MeterStore {
    /// Where its address stands.
    pub address: SecretSource,
    /// Whether it is a Redis Cluster.
    pub is_cluster: bool,
    /// PEM file of certificates to trust instead of the machine's.
    pub ca_file: Option<PathBuf>,
}

/// How often a checkpoint of the books is made unless the file says otherwise.
pub const CHECKPOINT_EVERY: Duration = Duration::from_hours(1);

/// Where the books are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LedgerStore {
    /// In a file of the data folder.
    #[default]
    Embedded,
    /// On a PostgreSQL server; its address stands here.
    Postgres(SecretSource),
}

/// Where a gateway listens.
#[derive(Clone, Debug)]
pub struct Listen {
    /// For clients.
    pub gateway: SocketAddr,
    /// For the operator.
    pub admin: SocketAddr,
    /// TLS for clients.
    pub tls: Option<Tls>,
}

/// PEM files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate and what signs it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A model API that a gateway stands before.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// What it is called; unique.
    pub name: Name,
    /// Scheme and host, perhaps a port.
    pub base_url: http::Uri,
    /// Where its key stands.
    pub key: SecretSource,
    /// Where the secret of its webhooks stands, if they are taken.
    pub webhook_secret: Option<SecretSource>,
    /// PEM file of certificates to trust instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for the next bytes of an answer.
    pub read_timeout: Duration,
    /// When it is left alone for a while.
    pub breaker: Breaker,
    /// How it is asked whether it is there.
    pub health: Option<Health>,
}

/// When an upstream is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// So many failures in a row.
    pub failures: u16,
    /// Within so long.
    pub within: Span,
    /// For so long.
    pub pause: Span,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 10, within: Span::from_seconds(10), pause: Span::from_seconds(5) }
    }
}

/// How an upstream is asked whether it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked for, from its `/` on.
    pub path: String,
    /// How long after one check the next begins.
    pub every: Duration,
    /// How long a check may take.
    pub timeout: Duration,
}

/// Whether a request waits for its hold to be durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It does.
    #[default]
    Strict,
    /// It does not; a crash may forget the newest moments.
    Relaxed,
}

/// What happens when the meter's store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnStoreFailure {
    /// Requests are refused with 503.
    #[default]
    Refuse,
    /// A bounded number of credits is given without it.
    Degraded,
}

/// What may be given while the store of live counts is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// What one gateway may give one account in one outage.
    pub per_account: Credits,
    /// How many gateways may.
    pub max_nodes: u64,
}

/// Bounds of a gateway.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest request body, in bytes.
    pub body_bytes: u64,
    /// All request bodies in memory together, in bytes.
    pub bodies_bytes: u64,
    /// How long a client may take to send its body.
    pub body_time: Duration,
    /// All journal files together, in bytes.
    pub journal_bytes: u64,
    /// How long streams may go on after SIGTERM.
    pub shutdown_grace: Duration,
    /// How long it is known whose a response, video or character is.
    pub owned: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 32 * MIB,
            bodies_bytes: 512 * MIB,
            body_time: Duration::from_mins(1),
            journal_bytes: 4096 * MIB,
            shutdown_grace: Duration::from_mins(1),
            owned: Span::from_seconds(90 * 24 * 3600),
        }
    }
}

/// Why a deployment file is not one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("the deployment file {} cannot be read; name another with -c", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It says what it may not.
    #[error("the deployment file is not right\n{0}")]
    Wrong(Problems),
}

impl Config {
    /// Reads a file. Paths in it are relative to it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Self::parse(&path.display().to_string(), &text, &folder).map_err(ConfigError::Wrong)
    }

    /// Reads a text; `folder` is what its paths are relative to.
    pub fn parse(file_name: &str, text: &str, folder: &Path) -> Result<Self, Problems> {
        let mut problems = Sink::new(text);
        let mut document =
            yaml::read(text, &mut problems).and_then(|node| raw::Document::decode(node, &mut problems));
        if let Some(document) = &document {
            check_names(document, &mut problems);
            if let Some(owned) = document.limits.as_ref().and_then(|limits| limits.owned.as_ref()) {
                check_owned(owned, &mut problems);
            }
            check_stores(&document.stores, &mut problems);
            check_degraded(document, &mut problems);
            if let Some(given) = &document.idempotency {
                check_idempotency(given, &mut problems);
            }
        }
        let jobs = document.as_mut().and_then(|document| document.jobs.take());
        let jobs = jobs.map_or_else(Jobs::default, |given| jobs::checked(&given, &mut problems));
        let config = document.map(|document| Self { jobs, ..Self::of(document, folder) });
        match config {
            Some(config) if problems.is_clean() => Ok(config),
            _ => Err(problems.into_problems(file_name)),
        }
    }

    /// The addresses of the Redis that live counts are in, if they are.
    pub fn meter_addresses(&self) -> Result<Option<Vec<Secret>>, SecretError> {
        let Some(meter) = &self.meter else { return Ok(None) };
        let all = meter.address.read(METER_ADDRESS)?;
        Ok(Some(all.parts(',').collect()))
    }

    /// The operator's token.
    pub fn admin_token(&self) -> Result<Secret, SecretError> {
        self.admin_token.read(ADMIN_TOKEN)
    }

    /// The upstreams' keys, in their order.
    pub fn upstream_keys(&self) -> Result<Vec<Secret>, SecretError> {
        self.upstreams.iter().map(|upstream| upstream.key.read(UPSTREAM_KEY)).collect()
    }

    /// The file of idempotency keys and their answers.
    pub fn idempotency_path(&self) -> PathBuf {
        self.data.join("idempotency.sqlite")
    }

    /// The secrets of the upstreams' webhooks; none: they are not taken.
    pub fn webhook_secrets(&self) -> Result<Vec<Secret>, SecretError> {
        let sources = self.upstreams.iter().filter_map(|upstream| upstream.webhook_secret.as_ref());
        sources.map(|source| source.read(WEBHOOK_SECRET)).collect()
    }

    /// Where the books are, with the address at hand.
    pub fn ledger_at(&self) -> Result<LedgerAt, SecretError> {
        Ok(match &self.ledger {
            LedgerStore::Embedded => LedgerAt::File(self.data.join("ledger.sqlite")),
            LedgerStore::Postgres(source) => LedgerAt::Server(source.read(LEDGER_ADDRESS)?),
        })
    }

    fn of(document: raw::Document, folder: &Path) -> Self {
        let raw::Version = document.version;
        let path = |text: &Text| folder.join(&text.0);
        let listen = document.listen;
        let address = |given: Option<raw::Address>, port| {
            given.map_or(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), |address| address.0)
        };
        let log = document.log;
        Self {
            policy: path(&document.policy.value),
            listen: Listen {
                gateway: address(listen.as_ref().and_then(|listen| listen.gateway), 8080),
                admin: address(listen.as_ref().and_then(|listen| listen.admin), 8081),
                tls: listen
                    .and_then(|listen| listen.tls)
                    .map(|tls| Tls { certificate: path(&tls.certificate.value), key: path(&tls.key.value) }),
            },
            upstreams: document
                .upstreams
                .items
                .into_iter()
                .map(|item| upstream(item.value, folder))
                .collect(),
            data: path(&document.stores.data.value),
            meter: document.stores.meter.map(|given| MeterStore {
                address: secret_source(given.value.redis, folder),
                is_cluster: given.value.cluster.unwrap_or(false),
                ca_file: given.value.ca_file.map(|file| path(&file.value)),
            }),
            ledger: document.stores.ledger.map_or(LedgerStore::Embedded, |ledger| {
                LedgerStore::Postgres(secret_source(ledger.postgres, folder))
            }),
            durability: document.durability.unwrap_or_default(),
            degraded: document.degraded.map(|given| Degraded {
                per_account: given.value.per_account.0,
                max_nodes: given.value.max_nodes.0,
            }),
            admin_token: secret_source(document.admin.token, folder),
            jobs: Jobs::default(),
            checkpoint_every: duration(
                document.checkpoints.and_then(|checkpoints| checkpoints.every),
                CHECKPOINT_EVERY,
            ),
            limits: limits(document.limits),
            idempotency: document.idempotency.map(|given| kept(&given)).unwrap_or_default(),
            log: LogSettings {
                format: log.as_ref().and_then(|log| log.format).unwrap_or(LogFormat::Text),
                filter: log.and_then(|log| log.level).map_or_else(|| "info".to_owned(), |level| level.0),
            },
        }
    }
}

/// A name tells an upstream from another for as long as what was made there lasts.
fn check_names(document: &raw::Document, problems: &mut Sink<'_>) {
    let items = &document.upstreams.items;
    for (place, item) in items.iter().enumerate() {
        let name = &item.value.name;
        if items[..place].iter().any(|before| before.value.name.value.0 == name.value.0) {
            problems.report(&name.at, "a name that another upstream has", "each name once");
        }
    }
}

fn upstream(given: raw::Upstream, folder: &Path) -> Upstream {
    let default = Breaker::default();
    let span = |given: Option<Length>, default| given.map_or(default, |length| length.0);
    Upstream {
        name: given.name.value.0.into(),
        base_url: given.base_url.value.0,
        key: secret_source(given.key, folder),
        webhook_secret: given.webhook_secret.map(|given| secret_source(given, folder)),
        ca_file: given.ca_file.map(|file| folder.join(&file.value.0)),
        connect_timeout: duration(given.connect_timeout, Duration::from_secs(3)),
        read_timeout: duration(given.read_timeout, Duration::from_mins(10)),
        breaker: given.breaker.map_or(default, |breaker| Breaker {
            failures: breaker
                .failures
                .map_or(default.failures, |count| u16::try_from(count.0).unwrap_or(u16::MAX)),
            within: span(breaker.within, default.within),
            pause: span(breaker.pause, default.pause),
        }),
        health: given.health.map(|health| Health {
            path: health.path.0,
            every: duration(health.every, Duration::from_secs(10)),
            timeout: duration(health.timeout, Duration::from_secs(5)),
        }),
    }
}

fn limits(given: Option<raw::Limits>) -> Limits {
    let default = Limits::default();
    let Some(given) = given else { return default };
    let bytes = |given: Option<raw::Bytes>, default| given.map_or(default, |bytes| bytes.0);
    Limits {
        body_bytes: bytes(given.body, default.body_bytes),
        bodies_bytes: bytes(given.bodies, default.bodies_bytes),
        body_time: duration(given.body_time, default.body_time),
        journal_bytes: bytes(given.journal, default.journal_bytes),
        shutdown_grace: duration(given.shutdown_grace, default.shutdown_grace),
        owned: given.owned.map_or(default.owned, |length| length.value.0),
    }
}

fn kept(given: &raw::Idempotency) -> idempotency::Limits {
    let default = idempotency::Limits::default();
    let bytes =
        |given: &Option<At<raw::Bytes>>, default| given.as_ref().map_or(default, |bytes| bytes.value.0);
    idempotency::Limits {
        keep: given.keep.map_or(default.keep, |length| length.0),
        answer_bytes: bytes(&given.answer, default.answer_bytes),
        total_bytes: bytes(&given.total, default.total_bytes),
    }
}

/// What several gateways decide by one count of has to be booked in one place.
fn check_stores(given: &raw::Stores, problems: &mut Sink<'_>) {
    if let (Some(meter), None) = (&given.meter, &given.ledger) {
        let allowed = "`ledger: {postgres: …}` beside it: gateways that share counts share books";
        problems.report(&meter.at, "shared counts, and books of each gateway's own", allowed);
    }
}

/// What is given without the store of live counts is said, and only where there is one.
fn check_degraded(document: &raw::Document, problems: &mut Sink<'_>) {
    let is_degraded = |at: &At<OnStoreFailure>| at.value == OnStoreFailure::Degraded;
    match (&document.on_store_failure, &document.degraded) {
        (Some(mode), _) if is_degraded(mode) && document.stores.meter.is_none() => {
            let allowed = "`refuse`: counts in memory are never away";
            problems.report(&mode.at, "`degraded` without `stores.meter`", allowed);
        }
        (Some(mode), None) if is_degraded(mode) => {
            let allowed = "`degraded: {per_account: …, max_nodes: …}` beside it";
            problems.report(&mode.at, "`degraded` without a bound", allowed);
        }
        (mode, Some(given)) if !mode.as_ref().is_some_and(is_degraded) => {
            let allowed = "`on_store_failure: degraded` beside it";
            problems.report(&given.at, "what may be given where everything is refused", allowed);
        }
        _ => {}
    }
}

/// The newest are known in memory for that long, whatever the file says.
fn check_owned(given: &At<Length>, problems: &mut Sink<'_>) {
    let owned = given.value.0;
    if owned < OWNED_LEAST {
        problems.report(&given.at, format!("{} s", owned.seconds_ceil()), "at least 1d");
    }
}

/// Answers are recorded in memory while they pass, and one that is larger than all together is never kept.
fn check_idempotency(given: &raw::Idempotency, problems: &mut Sink<'_>) {
    let idempotency::Limits { answer_bytes, total_bytes, .. } = kept(given);
    let (answer, total) = (given.answer.as_ref(), given.total.as_ref());
    if let Some(answer) = answer.filter(|_| answer_bytes > ANSWER_BYTES_MAX) {
        problems.report(&answer.at, format!("{answer_bytes} bytes"), "at most 16MiB for one answer");
    }
    if let Some(place) = answer.or(total).filter(|_| answer_bytes > total_bytes) {
        let allowed = format!("`answer` ({answer_bytes} bytes) no larger than `total` ({total_bytes} bytes)");
        problems.report(&place.at, "one answer larger than all together", &allowed);
    }
}

fn duration(given: Option<Length>, default: Duration) -> Duration {
    given.map_or(default, |length| Duration::from_millis(length.0.ms()))
}

fn secret_source(given: raw::SecretSource, folder: &Path) -> SecretSource {
    match given {
        raw::SecretSource::Env(name) => SecretSource::Env(name),
        raw::SecretSource::File(file) => SecretSource::File(folder.join(file)),
    }
}

#[cfg(test)]
mod tests;
