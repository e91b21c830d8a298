//! Whether a Redis is fit to keep live counts, looked at once, before it is used.

use redis::{ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};

use super::keys::Partition;
use super::store::{Store, StoreError};

/// How long what was written to see whether it may be stays, in ms, should nobody take it out.
const LIFE_MS: u32 = 60_000;
/// The store's time may be asked for by a script, with the rights of whom it runs for.
const TIME: &str = "if redis.pcall('TIME').err then \
    return redis.error_reply(\"NOPERM this user has no permissions to run the 'time' command\") end";

/// Why a Redis is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It could not be asked.
    #[error("redis cannot be asked how it is set")]
    Unasked(#[source] StoreError),
    /// It would forget holds and balances when memory is short.
    #[error(
        "redis evicts keys when memory is short (maxmemory-policy {found}): set `maxmemory-policy noeviction`"
    )]
    Evicts {
        /// What is set.
        found: String,
    },
    /// It would forget everything when it is restarted.
    #[error(
        "redis keeps nothing on disk (appendonly {found}): set `appendonly yes`, and `appendfsync everysec` or `always`"
    )]
    Forgets {
        /// What is set.
        found: String,
    },
    /// The user that a gateway has there may not do all that a gateway does.
    #[error(
        "the user of redis may not do all that a gateway does: give it the rights that docs/operations.md lists"
    )]
    Forbids(#[source] RedisError),
}

/// Looks. Where a service does not let its settings be read, that is told and it is believed.
pub(super) async fn check(store: &Store) -> Result<(), Unfit> {
    let evicts = settings(store, "maxmemory-policy").await?;
    if let Some(found) = evicts.into_iter().find(|policy| policy != "noeviction") {
        return Err(Unfit::Evicts { found });
    }
    let keeps = settings(store, "appendonly").await?;
    if let Some(found) = keeps.into_iter().find(|keeps| keeps != "yes") {
        return Err(Unfit::Forgets { found });
    }
    check_rights(store).await
}

/// A setting, as each server has it that lets it be read.
async fn settings(store: &Store, name: &str) -> Result<Vec<String>, Unfit> {
    let mut get = redis::cmd("CONFIG");
    get.arg("GET").arg(name);
    let answers = match store.call_each(&get).await {
        Ok(answers) => answers,
        Err(StoreError::Failed(error)) if matches!(error.kind(), ErrorKind::Server(_)) => {
            tracing::warn!(setting = name, %error, "redis does not tell how it is set");
            return Ok(Vec::new());
        }
        Err(error) => return Err(Unfit::Unasked(error)),
    };
    let found = answers.into_iter().filter_map(|answer| match answer {
        Value::Map(pairs) => pairs.into_iter().next().map(|(_, value)| value),
        _ => None,
    });
    Ok(found.filter_map(|value| redis::from_redis_value(value).ok()).collect())
}

/// Does whatever is ever done there, on a key of its own: what is missing is told now, and not by the first call that
/// ends. Each server of a cluster has users of its own.
async fn check_rights(store: &Store) -> Result<(), Unfit> {
    for partition in Partition::all().take(if store.is_cluster() { usize::MAX } else { 1 }) {
        let key = format!("{}fit:{:016x}", partition.tag(), rand::random::<u64>());
        for answer in store.answers(&all_that_is_done(&key)).await.map_err(Unfit::Unasked)? {
            answer.extract_error().or_else(unless_forbidden)?;
        }
    }
    let words = if store.is_cluster() { &["CLUSTER", "GETKEYSINSLOT", "0", "1"][..] } else { &["SCAN", "0"] };
    let mut list = redis::Cmd::new();
    list.arg(words);
    match store.call_each(&list).await {
        Err(StoreError::Failed(error)) => unless_forbidden((*error).clone()).map(|_| ()),
        Err(error) => Err(Unfit::Unasked(error)),
        Ok(_) => Ok(()),
    }
}

/// Any other error tells itself when the store is used.
fn unless_forbidden(error: RedisError) -> Result<Value, Unfit> {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoPerm) => Err(Unfit::Forbids(error)),
        _ => Ok(Value::Nil),
    }
}

fn all_that_is_done(key: &str) -> Pipeline {
    let mut all = Pipeline::new();
    all.cmd("SET").arg(key).arg("").arg("PX").arg(LIFE_MS);
    all.cmd("GET").arg(key);
    all.cmd("UNLINK").arg(key);
    all.cmd("XADD").arg(key).arg("*").arg("r").arg("");
    all.cmd("PEXPIRE").arg(key).arg(LIFE_MS);
    all.cmd("XLEN").arg(key);
    all.cmd("XRANGE").arg(key).arg("-").arg("+").arg("COUNT").arg(1);
    all.cmd("XTRIM").arg(key).arg("MINID").arg("0-1");
    all.cmd("UNLINK").arg(key);
    all.cmd("ZADD").arg(key).arg(1).arg("m");
    all.cmd("ZRANGEBYSCORE").arg(key).arg("-inf").arg("+inf");
    all.cmd("ZREM").arg(key).arg("m");
    all.cmd("EVAL").arg(TIME).arg(1).arg(key);
    all.cmd("EVALSHA").arg("").arg(1).arg(key);
    all
}
