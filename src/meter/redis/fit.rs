//! Whether a Redis is fit to keep live counts, looked at once, before it is used.

use redis::Value;

use super::store::{Store, StoreError};

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
}

/// Looks. Where a service does not let its settings be read, that is told and it is believed.
pub(super) async fn check(store: &Store) -> Result<(), Unfit> {
    let evicts = setting(store, "maxmemory-policy").await?;
    if let Some(found) = evicts.filter(|policy| policy != "noeviction") {
        return Err(Unfit::Evicts { found });
    }
    let keeps = setting(store, "appendonly").await?;
    if let Some(found) = keeps.filter(|keeps| keeps != "yes") {
        return Err(Unfit::Forgets { found });
    }
    Ok(())
}

/// A setting; `None` where it may not be read.
async fn setting(store: &Store, name: &str) -> Result<Option<String>, Unfit> {
    let mut get = redis::cmd("CONFIG");
    get.arg("GET").arg(name);
    let answer = match store.call(&get).await {
        Ok(answer) => answer,
        Err(StoreError::Failed(error)) if matches!(error.kind(), redis::ErrorKind::Server(_)) => {
            tracing::warn!(setting = name, %error, "redis does not tell how it is set");
            return Ok(None);
        }
        Err(error) => return Err(Unfit::Unasked(error)),
    };
    let found = match answer {
        Value::Map(pairs) => pairs.into_iter().next().map(|(_, value)| value),
        Value::Array(values) => values.into_iter().nth(1),
        _ => None,
    };
    Ok(found.and_then(|value| redis::from_redis_value(value).ok()))
}
