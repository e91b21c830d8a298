//! The connection to Redis: one command at a time, each bounded in time; a breaker while it does not answer.
//!
//! A call that was not answered may have been carried out. Whoever sends one must be able to send it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, Value};

use super::keys::Partition;
use crate::units::time::Clock;
use crate::units::{Span, Timestamp};

/// How long a call may take, the wait for a connection included.
const CALL_MAX: Duration = Duration::from_millis(500);
/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// So many calls in a row that were not answered open the breaker.
const FAILURES_MAX: u32 = 5;
/// Keys that are taken out together.
const KEYS_TOGETHER: u32 = 1000;
/// For so long; then one call tries.
const PAUSE: Span = Span::from_ms(500);

/// Redis did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// It was not asked: it has not answered for a while.
    #[error("redis has not answered for a while, and is left alone for a moment")]
    LeftAlone,
    /// It did not answer in time, and may have done it.
    #[error("redis did not answer within {} ms", CALL_MAX.as_millis())]
    Late,
    /// It answered with an error, or the connection broke.
    #[error("redis failed")]
    Failed(#[source] Arc<RedisError>),
    /// What it holds is not what was written.
    #[error("redis holds what was not written by this version: {what}")]
    Unreadable {
        /// What, and where.
        what: String,
    },
    /// It has lost what it had: everything stands in the books, and is built anew from there.
    #[error("redis has lost the epoch of partition {partition}: it was emptied, or is another one")]
    Lost {
        /// Which part of it.
        partition: u16,
    },
    /// Others were always faster.
    #[error("the account is changed by others all the time")]
    Contended,
    /// It has lost something, and counts are built anew from the books.
    #[error("live counts are built anew from the books")]
    Between,
}

impl StoreError {
    /// Whether it may have been carried out all the same.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Late => true,
            Self::Failed(error) => !matches!(error.kind(), ErrorKind::Server(_)),
            Self::LeftAlone
            | Self::Unreadable { .. }
            | Self::Lost { .. }
            | Self::Contended
            | Self::Between => false,
        }
    }
}

/// How Redis is reached.
#[derive(Clone)]
enum Link {
    One(ConnectionManager),
    Cluster(ClusterConnection),
}

/// Redis.
#[derive(Clone)]
pub struct Store {
    link: Link,
    breaker: Arc<Breaker>,
}

struct Breaker {
    clock: Clock,
    failures: AtomicU32,
    opened_at: std::sync::atomic::AtomicI64,
}

impl Store {
    /// Connects. One address is a server by itself, or any node of a cluster where `is_cluster`.
    pub async fn connect(urls: &[String], is_cluster: bool, clock: Clock) -> Result<Self, StoreError> {
        let failed = |error| StoreError::Failed(Arc::new(error));
        let link = if is_cluster {
            let client = redis::cluster::ClusterClientBuilder::new(urls.to_vec())
                .connection_timeout(CONNECT_MAX)
                .response_timeout(CALL_MAX)
                .build()
                .map_err(failed)?;
            Link::Cluster(client.get_async_connection().await.map_err(failed)?)
        } else {
            let url = urls.first().map_or("", String::as_str);
            let settings = ConnectionManagerConfig::new()
                .set_connection_timeout(Some(CONNECT_MAX))
                .set_response_timeout(Some(CALL_MAX));
            let client = redis::Client::open(url).map_err(failed)?;
            Link::One(ConnectionManager::new_with_config(client, settings).await.map_err(failed)?)
        };
        let opened_at = std::sync::atomic::AtomicI64::new(i64::MIN);
        Ok(Self { link, breaker: Arc::new(Breaker { clock, failures: AtomicU32::new(0), opened_at }) })
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn call(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.bounded(async {
            match self.link.clone() {
                Link::One(mut link) => link.req_packed_command(command).await,
                Link::Cluster(mut link) => link.req_packed_command(command).await,
            }
        })
        .await?
        .extract_error()
        .map_err(|error| StoreError::Failed(Arc::new(error)))
    }

    /// Sends commands about one partition, and waits until all of them are done.
    pub(super) async fn call_all(&self, commands: &Pipeline) -> Result<(), StoreError> {
        let count = commands.len();
        let answers = self.bounded(async {
            match self.link.clone() {
                Link::One(mut link) => link.req_packed_commands(commands, 0, count).await,
                Link::Cluster(mut link) => link.req_packed_commands(commands, 0, count).await,
            }
        });
        for answer in answers.await? {
            answer.extract_error().map_err(|error| StoreError::Failed(Arc::new(error)))?;
        }
        Ok(())
    }

    /// The servers that keep it, each by what it is called from its start to its end.
    pub(super) async fn servers(&self) -> Result<String, StoreError> {
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let told = match self.link.clone() {
            Link::One(_) => vec![self.call(&info).await?],
            Link::Cluster(mut link) => {
                let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let told = self.bounded(async { link.route_command(info, all).await }).await?;
                let told: Vec<(String, Value)> =
                    redis::from_redis_value(told).map_err(|error| unreadable(&error))?;
                told.into_iter().map(|(_, told)| told).collect()
            }
        };
        let mut names = Vec::new();
        for told in told {
            let told: String = redis::from_redis_value(told).map_err(|error| unreadable(&error))?;
            names.extend(told.lines().find_map(|line| line.strip_prefix("run_id:")).map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names.join(" "))
    }

    /// Whether these are all still there: none was started again, or followed by another.
    pub(super) async fn is_still(&self, servers: &str) -> Result<bool, StoreError> {
        let now = self.servers().await?;
        let mut all = servers.split(' ').peekable();
        Ok(all.peek().is_some_and(|first| !first.is_empty()) && all.all(|name| now.contains(name)))
    }

    /// Takes out everything that all partitions have.
    pub(super) async fn clear(&self) -> Result<(), StoreError> {
        match &self.link {
            Link::One(_) => self.clear_one().await,
            Link::Cluster(_) => {
                for partition in Partition::all() {
                    self.clear_slot(partition).await?;
                }
                Ok(())
            }
        }
    }

    async fn clear_one(&self) -> Result<(), StoreError> {
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg("{of:*").arg("COUNT").arg(KEYS_TOGETHER);
            let answer = redis::from_redis_value(self.call(&scan).await?);
            let (next, keys): (String, Vec<Vec<u8>>) = answer.map_err(|error| unreadable(&error))?;
            self.unlink(&keys).await?;
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// In a cluster keys are listed by slots, each at its own server.
    async fn clear_slot(&self, partition: Partition) -> Result<(), StoreError> {
        let Link::Cluster(link) = &self.link else { return Ok(()) };
        let tag = partition.tag();
        let mut ask = redis::cmd("CLUSTER");
        ask.arg("KEYSLOT").arg(&tag);
        let anybody = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
        let slot = self.bounded(async { link.clone().route_command(ask, anybody).await }).await?;
        let slot: u16 = redis::from_redis_value(slot).map_err(|error| unreadable(&error))?;
        let mut list = redis::cmd("CLUSTER");
        list.arg("GETKEYSINSLOT").arg(slot).arg(KEYS_TOGETHER);
        loop {
            let (mut link, route) = (link.clone(), Route::new(slot, SlotAddr::Master));
            let route = RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(route));
            let listed = self.bounded(async { link.route_command(list.clone(), route).await }).await?;
            let mut keys: Vec<Vec<u8>> =
                redis::from_redis_value(listed).map_err(|error| unreadable(&error))?;
            keys.retain(|key| key.starts_with(tag.as_bytes()));
            if keys.is_empty() {
                return Ok(());
            }
            self.unlink(&keys).await?;
        }
    }

    async fn unlink(&self, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(keys);
        self.call(&unlink).await.map(|_| ())
    }

    async fn bounded<T>(&self, asked: impl Future<Output = redis::RedisResult<T>>) -> Result<T, StoreError> {
        if self.breaker.is_open() {
            return Err(StoreError::LeftAlone);
        }
        let answer = match tokio::time::timeout(CALL_MAX, asked).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(StoreError::Failed(Arc::new(error))),
            Err(_) => Err(StoreError::Late),
        };
        self.breaker.note(answer.as_ref().err());
        answer
    }
}

fn unreadable(error: &redis::ParsingError) -> StoreError {
    StoreError::Unreadable { what: error.to_string() }
}

impl Breaker {
    fn is_open(&self) -> bool {
        if self.failures.load(Ordering::Relaxed) < FAILURES_MAX {
            return false;
        }
        let (now, opened) = (self.clock.now(), self.opened_at.load(Ordering::Relaxed));
        if now < Timestamp::from_ms(opened).plus(PAUSE) {
            return true;
        }
        // One call tries; the others wait for what it finds.
        self.opened_at.compare_exchange(opened, now.ms(), Ordering::Relaxed, Ordering::Relaxed).is_err()
    }

    fn note(&self, error: Option<&StoreError>) {
        match error {
            Some(error) if error.is_open() => {
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
                    self.opened_at.store(self.clock.now().ms(), Ordering::Relaxed);
                }
            }
            _ => self.failures.store(0, Ordering::Relaxed),
        }
    }
}
