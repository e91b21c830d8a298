//! A Redis Cluster of a test's own: three masters, and a replica for each, over TLS.

use std::ops::RangeInclusive;

use redis::{Cmd, FromRedisValue, Value};
use tempfile::TempDir;

use super::postgres::PostgresServer;
use super::shared::{RedisServer, documented_rights, free_port};
use super::wait::until;
use super::{Gateway, Setup};
use crate::tls::RedisFiles;

const MASTERS: usize = 3;
const NODES: usize = 2 * MASTERS;
/// The slots of each master.
const SLOTS: [RangeInclusive<u16>; MASTERS] = [0..=5460, 5461..=10_922, 10_923..=16_383];
/// The password of the user that gateways have.
const PASSWORD: &str = "of-the-gateways";
/// How long a node may be silent, in ms.
const NODE_TIMEOUT: &str = "1500";

/// A node of a cluster.
pub(crate) struct Node {
    server: RedisServer,
    client: redis::Client,
    port: u16,
    bus: u16,
    id: String,
}

/// A cluster. Its nodes end when it is dropped.
pub(crate) struct Cluster {
    /// The masters first, then a replica of each in their order, as they were at the start.
    nodes: Vec<Node>,
    files: RedisFiles,
    _folder: TempDir,
}

/// What becomes of a master whose place is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It dies.
    Dies,
    /// It does not answer for a while, with all its connections open, and does not know what was done meanwhile.
    Hangs,
}

/// A cluster and a PostgreSQL.
pub(crate) struct ClusterStores {
    pub(crate) cluster: Cluster,
    pub(crate) postgres: PostgresServer,
}

impl ClusterStores {
    /// Both, empty.
    pub(crate) async fn start() -> Self {
        let cluster = tokio::task::block_in_place(Cluster::start);
        Self { cluster, postgres: PostgresServer::start().await }
    }

    /// A gateway on them.
    pub(crate) fn gateway(&self, policy: &str) -> Gateway {
        self.gateway_at(&self.cluster.urls(), policy)
    }

    /// A gateway that is told these nodes.
    pub(crate) fn gateway_at(&self, urls: &str, policy: &str) -> Gateway {
        let setup = Setup::default().policy(policy);
        let settings = format!(", cluster: true, ca_file: {}", self.cluster.files.ca);
        setup.shared_with(&settings, urls, &self.postgres.address()).start()
    }
}

impl Node {
    fn start(files: &RedisFiles) -> Self {
        let (port, bus) = (free_port(), free_port());
        let settings =
            ["--cluster-enabled", "yes", "--cluster-node-timeout", NODE_TIMEOUT, "--tls-cluster", "yes"];
        let settings = settings.into_iter().chain(["--tls-replication", "yes", "--cluster-port"]);
        let settings = settings.map(str::to_owned).chain([bus.to_string()]).chain(files.settings(port));
        let server = RedisServer::start_at(port, &settings.collect::<Vec<_>>());
        let mut node = Self { server, client: files.client(port), port, bus, id: String::new() };
        for right in documented_rights(PASSWORD) {
            let () = node.ask(&right);
        }
        node.id = node.cluster(&["MYID"]);
        node
    }

    /// Has it do something.
    fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        let mut connection = self.client.get_connection().expect("it listens");
        command.query(&mut connection).unwrap_or_else(|error| panic!("{}: {error}", self.port))
    }

    fn cluster<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.ask(redis::cmd("CLUSTER").arg(words))
    }

    /// Whether what it says of the cluster has all of these lines.
    fn says(&self, lines: &[&str]) -> bool {
        let info: String = self.cluster(&["INFO"]);
        lines.iter().all(|line| info.lines().any(|told| told == *line))
    }

    /// Whether it follows a master, and has all that he had.
    fn follows(&self) -> bool {
        let info: String = self.ask(redis::cmd("INFO").arg("replication"));
        info.contains("role:slave") && info.contains("master_link_status:up")
    }

    /// Whether it is a master of a slot, and knows that.
    fn has(&self, slot: u16) -> bool {
        let slots: Vec<Vec<Value>> = self.cluster(&["SLOTS"]);
        slots.into_iter().any(|range| {
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &range[..] else {
                panic!("a range of slots: {range:?}");
            };
            (*first..=*last).contains(&slot.into()) && master[2] == Value::BulkString(self.id.clone().into())
        })
    }
}

impl Cluster {
    /// Starts one, and waits until it serves.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let files = RedisFiles::write(folder.path());
        let nodes: Vec<_> = (0..NODES).map(|_| Node::start(&files)).collect();
        let (masters, replicas) = nodes.split_at(MASTERS);
        for ((nth, master), slots) in (1..).zip(masters).zip(SLOTS) {
            let (first, last) = (slots.start().to_string(), slots.end().to_string());
            let () = master.cluster(&["SET-CONFIG-EPOCH", &nth.to_string()]);
            let () = master.cluster(&["ADDSLOTSRANGE", &first, &last]);
        }
        for node in &nodes[1..] {
            let (port, bus) = (node.port.to_string(), node.bus.to_string());
            let () = nodes[0].cluster(&["MEET", "127.0.0.1", &port, &bus]);
        }
        until("all nodes know each other", || {
            nodes.iter().all(|node| node.says(&["cluster_known_nodes:6", "cluster_size:3"])).then_some(())
        });
        for (master, replica) in masters.iter().zip(replicas) {
            let () = replica.cluster(&["REPLICATE", &master.id]);
        }
        until("the cluster serves", || {
            let serves = nodes.iter().all(|node| node.says(&["cluster_state:ok", "cluster_slots_ok:16384"]));
            (serves && replicas.iter().all(Node::follows)).then_some(())
        });
        until("all nodes know the replicas", || {
            let known = |node: &Node| {
                let told: String = node.cluster(&["NODES"]);
                told.matches(" connected").count() == NODES && told.matches("slave ").count() == MASTERS
            };
            nodes.iter().all(known).then_some(())
        });
        Self { nodes, files, _folder: folder }
    }

    /// Its nodes, as a deployment names them: with the user that the documentation makes.
    pub(crate) fn urls(&self) -> String {
        let urls =
            self.nodes.iter().map(|node| format!("rediss://overfall:{PASSWORD}@127.0.0.1:{}", node.port));
        urls.collect::<Vec<_>>().join(",")
    }

    /// Slots that have rows of accounts.
    pub(crate) fn slots_of_accounts(&self) -> Vec<u16> {
        let mut slots = Vec::new();
        for node in &self.nodes[..MASTERS] {
            let keys: Vec<Vec<u8>> = node.ask(redis::cmd("KEYS").arg("{of:*}:a:*"));
            for key in keys {
                slots.push(node.ask(redis::cmd("CLUSTER").arg("KEYSLOT").arg(key)));
            }
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// The master of a slot among those of the start, and another one of them.
    fn master_and_other(&self, slot: u16) -> (&Node, &Node) {
        let masters = &self.nodes[..MASTERS];
        let owner = masters.iter().position(|node| node.has(slot)).expect("a master has it");
        (&masters[owner], &masters[(owner + 1) % MASTERS])
    }

    /// Brings a slot to another master, a key at a time, and has it stand between both for `meanwhile`.
    pub(crate) fn migrate(&self, slot: u16, meanwhile: impl Fn()) {
        let (from, to) = self.master_and_other(slot);
        let slot_word = slot.to_string();
        let () = to.cluster(&["SETSLOT", &slot_word, "IMPORTING", &from.id]);
        let () = from.cluster(&["SETSLOT", &slot_word, "MIGRATING", &to.id]);
        loop {
            let keys: Vec<Vec<u8>> = from.cluster(&["GETKEYSINSLOT", &slot_word, "2"]);
            if keys.is_empty() {
                break;
            }
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(to.port).arg("").arg(0).arg(5000).arg("KEYS").arg(keys);
            let _told: String = from.ask(&migrate);
            meanwhile();
        }
        for node in [to, from].into_iter().chain(&self.nodes[..MASTERS]) {
            let () = node.cluster(&["SETSLOT", &slot_word, "NODE", &to.id]);
        }
        assert!(to.has(slot) && !from.has(slot));
    }

    /// Has the replica of a slot's master take his place, and waits for it. It has heard nothing of what was done in
    /// `before`.
    pub(crate) fn replace_master_of(&mut self, slot: u16, fate: Fate, before: impl FnOnce()) {
        let masters = &self.nodes[..MASTERS];
        let place = masters.iter().position(|node| node.has(slot)).expect("a master has it");
        self.nodes[MASTERS + place].server.pause();
        // What it was sent it would still read when it goes on.
        let _killed: u32 = self.nodes[place].ask(redis::cmd("CLIENT").arg(&["KILL", "TYPE", "replica"]));
        before();
        match fate {
            Fate::Dies => self.nodes[place].server.kill(),
            Fate::Hangs => self.nodes[place].server.pause(),
        }
        self.nodes[MASTERS + place].server.resume();
        let replica = &self.nodes[MASTERS + place];
        until("a replica takes the place of its master", || replica.has(slot).then_some(()));
        if fate == Fate::Hangs {
            self.nodes[place].server.resume();
        }
    }
}
