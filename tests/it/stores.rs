//! The ledger away, read-only, or its disk full; the journal full: what goes on, what is refused, and that the books
//! catch up.

use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;

use crate::harness::client::ask_stream;
use crate::harness::gateway::BINARY;
use crate::harness::{Caller, Client, Gateway, Setup, books, until};

/// Whether this machine lets a test mount things in a namespace of its own; says so where not.
fn mounts_are_allowed() -> bool {
    let tried = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    let allowed = tried.is_ok_and(|output| output.status.success());
    if !allowed {
        eprintln!("*** SKIPPED: this needs mounts, which are not allowed here ***");
    }
    allowed
}

/// A path as the gateway's process sees it, mounts of its own included.
fn within(gateway: &Gateway, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", gateway.process.pid()));
    root.join(path.strip_prefix("/").expect("an absolute path"))
}

/// Keeps everybody else from writing into the ledger.
fn lock(gateway: &Gateway) -> Connection {
    let connection = Connection::open(gateway.ledger()).expect("the ledger");
    connection.busy_timeout(std::time::Duration::from_secs(10)).expect("a setting");
    connection.execute_batch("BEGIN IMMEDIATE").expect("nobody writes for long");
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_go_on_while_the_ledger_does_not_answer_and_the_books_catch_up() {
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "10");
    client.respond("one").await.expect(200);
    gateway.admin.booked_count(&caller.account, 1);
    let locked = lock(&gateway);
    for _ in 0..5 {
        client.respond("one").await.expect(200);
    }
    assert!(client.stream("/v1/responses", &ask_stream("one")).await.rest().await.1);
    for _ in 0..3 {
        client.respond("one").await.expect(200);
    }
    client.respond("one").await.expect(429);
    assert_eq!(gateway.admin.probe("/readyz").expect("an answer"), 200);
    assert_eq!(books::usage_events(&gateway.ledger()).len(), 1, "nothing is booked meanwhile");
    drop(locked);
    gateway.admin.booked_count(&caller.account, 10);
    gateway.stop();
    gateway.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_ledger_survives_a_kill() {
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "10");
    client.respond("one").await.expect(200);
    gateway.admin.booked_count(&caller.account, 1);
    let locked = lock(&gateway);
    for _ in 0..4 {
        client.respond("one").await.expect(200);
    }
    gateway.kill();
    drop(locked);
    gateway.restart();
    let booked = gateway.admin.booked_count(&caller.account, 5);
    assert_eq!(booked.len(), 5);
    let access = gateway.client(&caller).get("/v1/access").await.json();
    assert_eq!(access["features"][0]["layers"][0]["left"], "5");
    gateway.stop();
    gateway.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_refuses_before_the_hold_and_recovers_by_itself() {
    let mut gateway = Setup::default().deployment("limits: {journal: 256KiB}").start();
    let (caller, client) = gateway.caller("free");
    client.respond("one").await.expect(200);
    gateway.admin.booked_count(&caller.account, 1);
    let locked = lock(&gateway);
    let mut passed = 1;
    let refused = loop {
        let answer = client.respond("one").await;
        if answer.status != 200 {
            break answer.expect(503);
        }
        passed += 1;
        assert!(passed < 5000, "the bound on the journal is not kept");
    };
    assert_eq!(refused.error(), ("service_unavailable_error".to_owned(), "server_is_overloaded".to_owned()));
    assert_eq!(refused.told("reason").as_deref(), Some("store-unavailable"));
    let seconds: u64 = refused.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=5).contains(&seconds));
    assert_eq!(gateway.upstream.seen.count(), passed, "nothing is forwarded unbooked");
    assert_eq!(gateway.admin.probe("/readyz").expect("an answer"), 503);
    assert_eq!(gateway.admin.probe("/healthz").expect("an answer"), 200);
    drop(locked);
    until("it is ready again", || (gateway.admin.probe("/readyz").ok()? == 200).then_some(()));
    client.respond("one").await.expect(200);
    gateway.stop();
    gateway.audit();
    assert_eq!(books::usage_events(&gateway.ledger()).len() as u64, passed + 1);
}

/// A gateway whose data folder is a small file system of its own.
fn on_a_small_disk() -> (Gateway, Caller, Client) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    let mount = format!("mount -t tmpfs -o size=192m none {} && exec \"$0\" \"$@\"", data.display());
    let gateway = Setup::default().wrapper(&["unshare", "-m", "sh", "-c", &mount]).start_in(folder);
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "100");
    (gateway, caller, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_go_on_while_the_disk_is_full_and_the_books_catch_up() {
    if !mounts_are_allowed() {
        return;
    }
    let (gateway, caller, client) = on_a_small_disk();
    client.respond("one").await.expect(200);
    gateway.admin.booked_count(&caller.account, 1);
    let filler = within(&gateway, &gateway.data().join("filler"));
    fill(&filler);
    let mut passed = 1;
    for _ in 0..40 {
        let answer = client.respond("one").await;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
        passed += usize::from(answer.status == 200);
    }
    assert!(passed > 30, "the journal has room set aside: {passed}");
    assert_eq!(gateway.upstream.seen.count(), passed as u64, "nothing is forwarded unbooked");
    std::fs::remove_file(&filler).expect("removed");
    gateway.admin.booked_count(&caller.account, passed);
    client.respond("one").await.expect(200);
    gateway.admin.booked_count(&caller.account, passed + 1);
    // The file system lives as long as the process: it is audited there.
    let output = Command::new("nsenter")
        .args(["-m", "-t", &gateway.process.pid().to_string(), BINARY, "audit", "--json", "--ledger"])
        .arg(gateway.ledger())
        .output()
        .expect("it runs");
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
}

fn fill(path: &std::path::Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).expect("room for a name");
    let mut size = 1 << 20;
    while size > 0 {
        if file.write_all(&vec![1; size]).is_err() {
            size /= 2;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_on_a_read_only_mount_is_refused_at_the_start_and_loses_nothing() {
    if !mounts_are_allowed() {
        return;
    }
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "10");
    client.respond("one").await.expect(200);
    gateway.stop();
    // The whole folder, and the ledger's file alone.
    for (read_only, part) in [(gateway.data(), "data folder"), (gateway.ledger(), "ledger")] {
        let path = read_only.display();
        let mount =
            format!("mount --bind {path} {path} && mount -o remount,bind,ro {path} && exec \"$0\" \"$@\"");
        gateway.wrap(&["unshare", "-m", "sh", "-c", &mount]);
        let mut refused = gateway.spawn_second();
        assert_eq!(refused.wait(), Some(1));
        let told = refused.output();
        let why = told.to_lowercase().replace(['-', ' '], "");
        assert!(told.contains(part) && why.contains("readonly"), "it says what is wrong, and why: {told}");
    }
    gateway.wrap(&[]);
    gateway.restart();
    gateway.client(&caller).respond("one").await.expect(200);
    gateway.admin.booked_count(&caller.account, 2);
    gateway.stop();
    gateway.audit();
}
