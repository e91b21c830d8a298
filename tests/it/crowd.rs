//! Counts that are exact under any concurrency (I4, I5): many clients at once, none of them patient.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;

use crate::harness::client::ask;
use crate::harness::process::Process;
use crate::harness::upstream::options;
use crate::harness::{Client, Gateway, Setup, Simulated, books, until};
use overfall::simulate::Options;

const REQUESTS: usize = 400;
const CLIENTS: usize = 64;

/// The crowd that comes at once, and how many of it the window lets in.
const CROWD: usize = 10_000;
const LET_IN: usize = 9_000;
/// Long enough for the whole crowd to be in flight at the same time.
const WAIT_MS: u64 = 30_000;
const CROWD_PATIENCE: Duration = Duration::from_mins(4);

/// Sends requests from so many clients, each its next one as soon as it has the answer to the last; statuses, counted.
async fn hit(client: &Client, model: &str) -> BTreeMap<u16, usize> {
    let left = Arc::new(Semaphore::new(REQUESTS));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (client, left, model) = (client.clone(), Arc::clone(&left), model.to_owned());
        clients.spawn(async move {
            let mut statuses = Vec::new();
            while let Ok(permit) = left.try_acquire() {
                permit.forget();
                statuses.push(client.respond(&model).await.status);
            }
            statuses
        });
    }
    let mut counts = BTreeMap::new();
    for status in clients.join_all().await.into_iter().flatten() {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_of_50_requests_lets_50_of_400_pass() {
    let mut gateway = Gateway::start();
    let (_, client) = gateway.caller("fifty");
    assert_eq!(hit(&client, "gpt-5.5").await, [(200, 50), (429, 350)].into());
    assert_eq!(gateway.upstream.seen.count(), 50);
    gateway.stop();
    gateway.audit();
    assert_eq!(books::usage_events(&gateway.ledger()).len(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balance_worth_20_requests_lets_20_of_400_pass() {
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "20");
    assert_eq!(hit(&client, "one").await, [(200, 20), (429, 380)].into());
    assert_eq!(gateway.upstream.seen.count(), 20);
    gateway.stop();
    gateway.audit();
    let charged: u64 = books::usage_events(&gateway.ledger()).iter().map(|event| event.charged).sum();
    assert_eq!(charged, 20_000_000);
}

/// What one of the processes of the next test is to be.
const ROLE: &str = "OVERFALL_CROWD_ROLE";

/// Client, gateway and upstream are processes of their own: this very test, started again in the other two roles.
#[test]
fn ten_thousand_requests_of_one_user_at_once_are_counted_exactly() {
    match std::env::var(ROLE).as_deref() {
        Ok("upstream") => be_the_upstream(),
        Ok("clients") => be_the_clients(),
        _ => ten_thousand(),
    }
}

fn ten_thousand() {
    // The gateway needs two descriptors for each request in flight, and raises its own limit to what is allowed.
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    assert!(
        allowed.is_none_or(|allowed| allowed >= 20_000),
        "20,000 open files are needed, {allowed:?} are allowed"
    );
    let mut upstream = role("upstream", &[]);
    let addr = upstream.wait_for_line("listens on ").rsplit(' ').next().expect("an address").to_owned();
    let policy = format!(
        "version: 1\nprices:\n  - {{model: \"one*\", per_million_tokens: {{input: 0, output: 0}}, per_request: 1}}\nfeatures:\n  codex: {{apis: [responses], unit: credit}}\n\
         plans:\n  crowd:\n    codex:\n      waterfall:\n        - {{name: crowd, kind: rate_limit, per: user, unit: request, \
         windows: [{{allow: {LET_IN}, every: 5h, starts: first_use}}]}}\n"
    );
    let mut gateway = Setup::default().policy(&policy).base_url(&format!("http://{addr}")).start();
    let caller = gateway.admin.caller("crowd");
    let mut clients = role("clients", &[("ADDR", &gateway.addr.to_string()), ("KEY", &caller.key)]);
    let deadline = tokio::time::Instant::now() + CROWD_PATIENCE;
    while clients.ended().is_none() {
        assert!(tokio::time::Instant::now() < deadline, "the crowd is not served in {CROWD_PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(clients.wait(), Some(0));
    let told = clients.wait_for_line("statuses ");
    let told = told.split_once("statuses ").expect("the word").1;
    assert_eq!(told, json!({"200": LET_IN, "429": CROWD - LET_IN}).to_string());
    let seen = until("the upstream has told of all", || {
        let output = upstream.output();
        output.lines().rev().find(|line| line.contains(&format!("seen {LET_IN} "))).map(str::to_owned)
    });
    let at_once: usize = seen.rsplit(' ').next().expect("a number").parse().expect("a number");
    assert_eq!(at_once, LET_IN, "all that were let in were in flight at once");
    gateway.stop();
    gateway.audit();
    let events = books::usage_events(&gateway.ledger());
    assert_eq!(events.len(), LET_IN);
    assert!(events.iter().all(|event| (event.grade.as_str(), event.gross) == ("exact", 1_000_000)));
}

/// This test again, in another role.
fn role(name: &str, variables: &[(&str, &str)]) -> Process {
    let myself = std::env::current_exe().expect("a test binary");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn $(ulimit -Hn); exec \"$0\" \"$@\""]).arg(myself);
    command.envs(variables.iter().copied()).env(ROLE, name);
    let this = "crowd::ten_thousand_requests_of_one_user_at_once_are_counted_exactly";
    command.args(["--exact", this, "--nocapture"]);
    Process::start(name, &mut command)
}

fn be_the_upstream() {
    let upstream = Simulated::with(Options { connections_max: 20_000, ..options() });
    println!("the upstream listens on {}", upstream.addr);
    loop {
        println!("seen {} at once {}", upstream.seen.count(), upstream.seen.in_flight_max());
        std::thread::sleep(Duration::from_millis(250));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn be_the_clients() {
    let variable = |name: &str| std::env::var(name).expect(name);
    let addr: SocketAddr = variable("ADDR").parse().expect("an address");
    let client = Client::new(addr, &variable("KEY"));
    let body: bytes::Bytes = ask(&format!("one-sim-out=1+wait={WAIT_MS}")).to_string().into();
    // Only the connecting is paced: a listen queue has an end.
    let connecting = Arc::new(Semaphore::new(256));
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..CROWD {
        let (client, body, connecting) = (client.clone(), body.clone(), Arc::clone(&connecting));
        requests.spawn(async move {
            let permit = connecting.acquire().await.expect("never closed");
            let sent = client.send_only("POST", "/v1/responses", body).await.expect("sent");
            drop(permit);
            sent.answer().await.expect("answered").status
        });
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(status) = requests.join_next().await {
        *counts.entry(status.expect("no panic").to_string()).or_default() += 1;
    }
    println!("statuses {}", json!(counts));
}
