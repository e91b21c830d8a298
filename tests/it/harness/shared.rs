//! Stores that several gateways share: a Redis and a PostgreSQL of a test's own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::postgres::PostgresServer;
use super::{Gateway, Setup, eventually};

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

/// Has a Redis do something, by itself.
pub(crate) fn told(port: &str, line: &str) -> String {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("redis listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    stream.write_all(format!("{line}\r\n").as_bytes()).expect("it hears");
    let mut answer = vec![0; 8192];
    let read = stream.read(&mut answer).expect("it answers");
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

/// Has it do something that succeeds.
pub(crate) fn succeeds(port: &str, line: &str) {
    assert_eq!(told(port, line), "+OK\r\n", "{line}");
}

/// Where a Redis listens.
pub(crate) fn port(redis: &RedisServer) -> String {
    redis.url().rsplit(':').next().expect("a port").to_owned()
}

/// A Redis that follows another, to take its place.
pub(crate) struct Replica {
    redis: RedisServer,
    of: String,
}

impl Replica {
    /// One that has all that its master has.
    pub(crate) async fn of(master: &RedisServer) -> Self {
        let (redis, of) = (RedisServer::start(), port(master));
        let own = port(&redis);
        succeeds(&own, &format!("REPLICAOF 127.0.0.1 {of}"));
        eventually("the replica follows", async || {
            told(&own, "INFO replication").contains("master_link_status:up").then_some(())
        })
        .await;
        Self { redis, of }
    }

    /// Hears of nothing any more.
    pub(crate) fn hear_nothing(&self) {
        self.redis.pause();
        // What it was sent it would still read when it goes on.
        assert!(told(&self.of, "CLIENT KILL TYPE replica").starts_with(":1"));
    }

    /// Takes the place of its master, who is dead, at its address.
    pub(crate) fn take_over(&self) {
        let own = port(&self.redis);
        self.redis.resume();
        succeeds(&own, "REPLICAOF NO ONE");
        succeeds(&own, &format!("CONFIG SET port {}", self.of));
    }
}
