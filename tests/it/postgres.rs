//! The books on a PostgreSQL server: everything is as with a file, and the server may go away for a while.

use crate::harness::postgres::PostgresServer;
use crate::harness::{Gateway, Setup};

/// A gateway whose books are on a server.
async fn start() -> (Gateway, PostgresServer) {
    let server = PostgresServer::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let address = folder.path().join("ledger-address");
    std::fs::write(&address, with_password(&server)).expect("a file");
    (Setup::default().ledger_at(&address).start_in(folder), server)
}

/// The server lets everybody in; what it is given as a password is to be seen nowhere.
fn with_password(server: &PostgresServer) -> String {
    server.address().replacen("owner@", "owner:very-secret@", 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_keeps_its_books_on_a_server_and_every_proof_is_made_there() {
    let (mut gateway, _server) = start().await;
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "10");
    for _ in 0..3 {
        client.respond("one").await.expect(200);
    }
    gateway.admin.booked_count(&caller.account, 3);
    gateway.kill();
    gateway.restart();
    let client = gateway.client(&caller);
    client.respond("one").await.expect(200);
    let booked = gateway.admin.booked_count(&caller.account, 4);
    let access = client.get("/v1/access").await.json();
    assert_eq!(access["features"][0]["layers"][0]["left"], "6");
    assert!(!gateway.ledger().exists(), "no books in the folder");
    gateway.stop();
    gateway.audit();
    let decision = booked[0]["id"].as_str().expect("an id").to_owned();
    for words in [&["checkpoint", "make"][..], &["receipt", &decision]] {
        let output = gateway.command(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(gateway.log().contains("postgres://"), "it says where its books are");
    assert!(!gateway.log().contains("very-secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_go_on_while_the_server_is_away_and_the_books_catch_up() {
    let (mut gateway, mut server) = start().await;
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "10");
    client.respond("one").await.expect(200);
    gateway.admin.booked_count(&caller.account, 1);
    server.stop();
    for _ in 0..9 {
        client.respond("one").await.expect(200);
    }
    client.respond("one").await.expect(429);
    server.again().await;
    gateway.admin.booked_count(&caller.account, 10);
    gateway.stop();
    gateway.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_of_a_file_are_moved_once_and_the_gateway_goes_on_with_them() {
    let server = PostgresServer::start().await;
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "10");
    client.respond("one").await.expect(200);
    gateway.admin.booked_count(&caller.account, 1);
    let (from, to) = (gateway.ledger().display().to_string(), with_password(&server));
    let words = ["ledger", "move", "--from", &from, "--to", &to];
    let told = |gateway: &Gateway| {
        let output = gateway.run(&words);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, text) = told(&gateway);
    assert!(code == Some(1) && text.contains("in use"), "the gateway runs: {text}");
    gateway.stop();
    let (code, text) = told(&gateway);
    assert!(code == Some(0) && text.contains("their heads are equal"), "{text}");
    assert!(!text.contains("very-secret"), "{text}");
    let (code, text) = told(&gateway);
    assert!(code == Some(1) && text.contains("empty one only"), "{text}");
    let address = gateway.folder.path().join("ledger-address");
    std::fs::write(&address, to).expect("a file");
    gateway.keep_books_at(&address);
    gateway.restart();
    gateway.client(&caller).respond("one").await.expect(200);
    gateway.admin.booked_count(&caller.account, 2);
    gateway.stop();
    gateway.audit();
}
