//! A Redis that speaks TLS only, and lets in only whom it knows.

use std::path::Path;

use crate::harness::postgres::PostgresServer;
use crate::harness::shared::{RedisServer, documented_rights, free_port};
use crate::harness::{Gateway, Setup};
use crate::tls::{Authority, RedisFiles};

const PASSWORD: &str = "very-secret";

/// A Redis with a certificate of its own, whose only user is the gateway's.
struct Secured {
    _server: RedisServer,
    port: u16,
    operator: redis::Connection,
}

impl Secured {
    /// Starts one; the certificate to trust is put into `folder`.
    fn start(folder: &Path) -> Self {
        let (files, port) = (RedisFiles::write(folder), free_port());
        let server = RedisServer::start_at(port, &files.settings(port));
        let operator = files.client(port).get_connection().expect("it listens");
        let mut secured = Self { _server: server, port, operator };
        for right in documented_rights(PASSWORD) {
            let () = right.query(&mut secured.operator).expect("a user");
        }
        secured.says("default off");
        secured
    }

    /// Changes a user.
    fn says(&mut self, change: &str) {
        let mut acl = redis::cmd("ACL");
        acl.arg("SETUSER").arg(change.split(' ').collect::<Vec<_>>());
        let () = acl.query(&mut self.operator).expect("a user");
    }

    fn url(&self) -> String {
        format!("rediss://overfall:{PASSWORD}@127.0.0.1:{}", self.port)
    }
}

/// What a start says that comes to nothing.
fn refused(gateway: &Gateway) -> String {
    let mut process = gateway.spawn_second();
    assert_eq!(process.wait(), Some(1));
    process.quiet();
    process.output()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_serves_on_a_redis_over_tls_as_the_user_that_the_documentation_makes() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut redis = Secured::start(folder.path());
    let postgres = PostgresServer::start().await;
    let setup = Setup::default().shared_with(", ca_file: ca.pem", &redis.url(), &postgres.address());
    let mut gateway = tokio::task::block_in_place(|| setup.start_in(folder));
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "3");
    for _ in 0..3 {
        client.respond("one").await.expect(200);
    }
    client.respond("one").await.expect(429);
    gateway.admin.booked_count(&caller.account, 3);
    gateway.stop();
    gateway.audit();
    assert!(!gateway.log().contains("how it is set"), "its settings are looked at");
    tokio::task::block_in_place(|| {
        redis.says("overfall -xtrim");
        let told = refused(&gateway);
        assert!(told.contains("docs/operations.md lists") && told.contains("'xtrim'"), "{told}");
        redis.says("overfall +xtrim resetpass >another");
        let told = refused(&gateway);
        assert!(told.contains("see the user and the password in its address"), "{told}");
        assert!(!told.contains(PASSWORD) && !gateway.log().contains(PASSWORD), "{told}");
        redis.says(&format!("overfall >{PASSWORD}"));
        std::fs::write(gateway.folder.path().join("ca.pem"), Authority::new().0.pem()).expect("written");
        let told = refused(&gateway);
        assert!(told.to_lowercase().contains("certificate"), "{told}");
    });
}
