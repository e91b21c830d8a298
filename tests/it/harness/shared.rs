//! Stores that several gateways share: a Redis and a PostgreSQL of a test's own.

use super::postgres::PostgresServer;
use super::{Gateway, Setup};

#[path = "../../../src/meter/redis/tests/server.rs"]
mod server;

pub(crate) use server::{Server as RedisServer, documented_rights, free_port};

/// A Redis and a PostgreSQL.
pub(crate) struct SharedStores {
    pub(crate) redis: RedisServer,
    pub(crate) postgres: PostgresServer,
}

impl SharedStores {
    /// Both, empty.
    pub(crate) async fn start() -> Self {
        Self { redis: RedisServer::start(), postgres: PostgresServer::start().await }
    }

    /// A gateway on them.
    pub(crate) fn gateway(&self, policy: &str) -> Gateway {
        self.gateway_with(policy, Setup::default())
    }

    /// A gateway on them with settings of its own.
    pub(crate) fn gateway_with(&self, policy: &str, setup: Setup) -> Gateway {
        setup.policy(policy).shared(&self.redis.url(), &self.postgres.address()).start()
    }
}
