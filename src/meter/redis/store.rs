//! The connection to Redis: one command at a time, each bounded in time; a breaker while it does not answer.
//!
//! A call that was not answered may have been carried out. Whoever sends one must be able to send it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, Value};

use crate::units::time::Clock;
use crate::units::{Span, Timestamp};

/// How long a call may take, the wait for a connection included.
const CALL_MAX: Duration = Duration::from_millis(500);
/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// So many calls in a row that were not answered open the breaker.
const FAILURES_MAX: u32 = 5;
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
}

impl StoreError {
    /// Whether it may have been carried out all the same.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Late => true,
            Self::Failed(error) => !matches!(error.kind(), ErrorKind::Server(_)),
            Self::LeftAlone | Self::Unreadable { .. } | Self::Lost { .. } | Self::Contended => false,
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
