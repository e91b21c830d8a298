//! The connection to Redis: one command at a time, each bounded in time; a breaker while it does not answer.
//!
//! A call that was not answered may have been carried out. Whoever sends one must be able to send it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, Value};

use super::keys::{Fixed, Partition};
use super::link::{ConnectError, Link, RedisAt};
use super::sight::Sight;
use crate::units::time::Clock;
use crate::units::{Span, Timestamp};

/// How long a call may take, the wait for a connection included.
pub(super) const CALL_MAX: Duration = Duration::from_millis(500);
/// How long a connection may take to be made.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(1);
/// So many calls in a row that were not answered open the breaker.
const FAILURES_MAX: u32 = 5;
/// For so long; then one call tries.
const PAUSE: Span = Span::from_ms(500);
/// Keys that are taken out together.
const KEYS_TOGETHER: usize = 1000;
/// How often is looked who is there before it counts as another: a slot that is just moved is nobody's for a moment.
const LOOKS: u32 = 2;
/// Who has a key.
const WHO: &str = "return redis.call('INFO', 'server') .. redis.call('INFO', 'replication')";

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
    /// A cluster did not answer as a whole.
    #[error("a part of the redis cluster is not there")]
    Partial,
    /// A connection that was needed besides was not made.
    #[error("redis could not be connected to once more")]
    Afresh(#[source] Arc<ConnectError>),
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
            | Self::Partial
            | Self::Afresh(_)
            | Self::Unreadable { .. }
            | Self::Lost { .. }
            | Self::Contended
            | Self::Between => false,
        }
    }

    /// Whether it is away, rather than asked for what it cannot do.
    pub(super) const fn is_away(&self) -> bool {
        match self {
            Self::LeftAlone
            | Self::Late
            | Self::Failed(_)
            | Self::Partial
            | Self::Afresh(_)
            | Self::Lost { .. }
            | Self::Between => true,
            Self::Unreadable { .. } | Self::Contended => false,
        }
    }
}

/// Redis.
#[derive(Clone)]
pub struct Store {
    link: Link,
    at: Arc<RedisAt>,
    breaker: Arc<Breaker>,
    pub(super) sight: Arc<Sight>,
}

struct Breaker {
    clock: Clock,
    failures: AtomicU32,
    opened_at: std::sync::atomic::AtomicI64,
}

impl Store {
    /// Connects.
    pub async fn connect(at: &RedisAt, clock: Clock) -> Result<Self, ConnectError> {
        let sight = Arc::new(Sight::new());
        let link = at.connect(&sight).await?;
        let opened_at = std::sync::atomic::AtomicI64::new(i64::MIN);
        let breaker = Arc::new(Breaker { clock, failures: AtomicU32::new(0), opened_at });
        Ok(Self { link, at: Arc::new(at.clone()), breaker, sight })
    }

    /// Whether it is several servers, each with a part of the keys.
    pub(super) const fn is_cluster(&self) -> bool {
        matches!(self.link, Link::Cluster(_))
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
        for answer in self.answers(commands).await? {
            answer.extract_error().map_err(|error| StoreError::Failed(Arc::new(error)))?;
        }
        Ok(())
    }

    /// Sends commands about one partition. What was said to each, which may be an error.
    pub(super) async fn answers(&self, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let count = commands.len();
        let answers = self.bounded(async {
            match self.link.clone() {
                Link::One(mut link) => link.req_packed_commands(commands, 0, count).await,
                Link::Cluster(mut link) => link.req_packed_commands(commands, 0, count).await,
            }
        });
        answers.await
    }

    /// Sends a command to each server that rows are on. What each said: all of them did.
    ///
    /// That is so of a connection that was made just now. One that is older may know a master that is dead for as long as
    /// his replica answers in his place.
    pub(super) async fn call_each(&self, command: &Cmd) -> Result<Vec<Value>, StoreError> {
        let Link::Cluster(link) = &self.link else { return Ok(vec![self.call(command).await?]) };
        let mut link = link.clone();
        let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let told = self.bounded(async { link.route_command(command.clone(), all).await }).await?;
        let Value::Map(told) = told else {
            return Err(StoreError::Unreadable { what: "what all masters said".to_owned() });
        };
        let failed = |error| StoreError::Failed(Arc::new(error));
        let answers = told.into_iter().map(|(_, answer)| answer.extract_error());
        let answers = answers.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        // A master that there is no connection to is left out.
        let info: String = read(self.call_anybody(&["CLUSTER", "INFO"]).await?)?;
        let size = info.lines().find_map(|line| line.strip_prefix("cluster_size:")?.parse().ok());
        if size.is_some_and(|size| answers.len() < size) { Err(StoreError::Partial) } else { Ok(answers) }
    }

    /// Sends a command to whichever node of a cluster.
    async fn call_anybody(&self, words: &[&str]) -> Result<Value, StoreError> {
        let mut command = Cmd::new();
        command.arg(words);
        let Link::Cluster(mut link) = self.link.clone() else { return self.call(&command).await };
        let anybody = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
        let answer = self.bounded(async { link.route_command(command, anybody).await }).await?;
        answer.extract_error().map_err(|error| StoreError::Failed(Arc::new(error)))
    }

    /// The servers that keep it, each by what it is called from its start to its end. One that follows another keeps
    /// nothing of its own.
    pub(super) async fn servers(&self) -> Result<String, StoreError> {
        let mut told = Vec::new();
        if self.is_cluster() {
            // By whoever would carry out a step there, which is not always whom the client takes for the master.
            for partition in self.one_of_each().await? {
                let mut ask = redis::cmd("EVAL");
                ask.arg(WHO).arg(1).arg(partition.key(Fixed::Epoch));
                told.push(self.call(&ask).await?);
            }
        } else {
            told.push(self.call(redis::cmd("INFO").arg("server").arg("replication")).await?);
        }
        let mut names = BTreeSet::new();
        for told in told {
            let told: String = read(told)?;
            if told.lines().any(|line| line == "role:master") {
                names.extend(told.lines().find_map(|line| line.strip_prefix("run_id:")).map(str::to_owned));
            }
        }
        Ok(names.into_iter().collect::<Vec<_>>().join(" "))
    }

    /// A partition of each server, any of those that it has.
    async fn one_of_each(&self) -> Result<Vec<Partition>, StoreError> {
        let ranges: Vec<Vec<Value>> = read(self.call_anybody(&["CLUSTER", "SLOTS"]).await?)?;
        let mut found: BTreeMap<String, Partition> = BTreeMap::new();
        for partition in Partition::all_from_any() {
            let slot = i64::from(partition.slot());
            let owner = ranges.iter().find_map(|range| match &range[..] {
                [Value::Int(first), Value::Int(last), Value::Array(owner), ..]
                    if (*first..=*last).contains(&slot) =>
                {
                    owner.get(2).cloned()
                }
                _ => None,
            });
            found.entry(read(owner.ok_or(StoreError::Partial)?)?).or_insert(partition);
        }
        Ok(found.into_values().collect())
    }

    /// Whether these are still all there are: none was started again, followed by another, or joined by one whose end
    /// nobody would see.
    pub(super) async fn is_still(&self, servers: &str) -> Result<bool, StoreError> {
        for _ in 0..LOOKS {
            if self.servers().await? == servers && !servers.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes out everything that all partitions have.
    pub(super) async fn clear(&self) -> Result<(), StoreError> {
        if !self.is_cluster() {
            return self.clear_one().await;
        }
        let link = self.at.connect(&Arc::new(Sight::new())).await;
        let link = link.map_err(|error| StoreError::Afresh(Arc::new(error)))?;
        let afresh = Self { link, ..self.clone() };
        for partition in Partition::all() {
            afresh.clear_slot(partition).await?;
        }
        Ok(())
    }

    async fn clear_one(&self) -> Result<(), StoreError> {
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg("{of:*").arg("COUNT").arg(KEYS_TOGETHER);
            let (next, keys): (String, Vec<Vec<u8>>) = read(self.call(&scan).await?)?;
            self.unlink(&keys).await?;
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// In a cluster keys are listed by slots; while one is moved, two servers have keys of it.
    async fn clear_slot(&self, partition: Partition) -> Result<(), StoreError> {
        let (tag, slot, mut most) = (partition.tag(), partition.slot(), KEYS_TOGETHER);
        loop {
            let mut list = redis::cmd("CLUSTER");
            list.arg("GETKEYSINSLOT").arg(slot).arg(most);
            let (mut keys, mut is_all) = (Vec::new(), true);
            for listed in self.call_each(&list).await? {
                let listed: Vec<Vec<u8>> = read(listed)?;
                is_all &= listed.len() < most;
                keys.extend(listed.into_iter().filter(|key| key.starts_with(tag.as_bytes())));
            }
            self.unlink(&keys).await?;
            match (keys.is_empty(), is_all) {
                (_, true) => return Ok(()),
                // So many that are others' stand before ours.
                (true, false) => most *= 2,
                (false, false) => {}
            }
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

fn read<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    redis::from_redis_value(value).map_err(|error| StoreError::Unreadable { what: error.to_string() })
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
