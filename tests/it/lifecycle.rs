//! Beginning and end: the books of the process before, SIGTERM, `kill -9`, a second process on the same folder.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::harness::client::ask_stream;
use crate::harness::gateway::BINARY;
use crate::harness::process::Process;
use crate::harness::{Gateway, Setup, books, eventually, ports, until};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_streams_finish_and_ends_as_soon_as_idle_with_everything_booked() {
    let mut gateway = Gateway::start();
    let (_, client) = gateway.caller("free");
    client.respond("one").await.expect(200);
    let body = ask_stream("gpt-5.5-sim-out=20+pace=100");
    let mut stream = client.stream("/v1/responses", &body).await;
    stream.events(2).await;
    gateway.process.signal(Signal::TERM);
    until("readiness falls", || {
        let probe = gateway.admin.probe("/readyz");
        (probe.ok()? == 503).then_some(())
    });
    assert!(gateway.process.ended().is_none(), "it waits for the stream");
    let (told, whole) = stream.rest().await;
    assert!(whole && told.contains("response.completed"), "the stream finishes: {told}");
    let idle = Instant::now();
    assert_eq!(gateway.process.wait(), Some(0));
    assert!(idle.elapsed() < Duration::from_secs(5), "it ends as soon as idle: {:?}", idle.elapsed());
    gateway.audit();
    let events = books::usage_events(&gateway.ledger());
    let ends: Vec<_> = events.iter().map(|event| (event.outcome.as_str(), event.grade.as_str())).collect();
    assert_eq!(ends, [("completed", "exact"), ("completed", "exact")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlasts_the_grace_period_is_cut_and_booked() {
    let mut gateway = Setup::default().deployment("limits: {shutdown_grace: 1s}").start();
    let (_, client) = gateway.caller("free");
    let mut stream = client.stream("/v1/responses", &ask_stream("gpt-5.5-sim-out=100+pace=200")).await;
    stream.events(6).await;
    let asked = Instant::now();
    gateway.stop();
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    gateway.audit();
    let events = books::usage_events(&gateway.ledger());
    assert_eq!(events.len(), 1);
    assert!(events[0].gross > 0 && events[0].grade != "exact", "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_and_balances_are_after_a_restart_what_they_were() {
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("split");
    gateway.admin.grant(&caller, "10");
    client.respond("one").await.expect(200);
    client.respond("five").await.expect(200);
    gateway.admin.booked_count(&caller.account, 2);
    let before = client.get("/v1/access").await.json();
    for end in [Gateway::stop, Gateway::kill] {
        end(&mut gateway);
        gateway.restart();
        let after = gateway.client(&caller).get("/v1/access").await.json();
        assert_eq!(after["features"], before["features"]);
    }
    gateway.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_was_open_when_the_process_died_is_booked_at_its_floor_after_it() {
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "5");
    let mut stream = client.stream("/v1/responses", &ask_stream("one-sim-out=50+pace=100")).await;
    stream.events(3).await;
    gateway.kill();
    gateway.restart();
    let booked = gateway.admin.booked_count(&caller.account, 1);
    let end = &booked[0]["end"];
    assert_eq!(
        (end["outcome"].as_str(), end["grade"].as_str()),
        (Some("crashed"), Some("floor")),
        "{booked:?}"
    );
    assert_eq!(end["charge"]["charged"], "1");
    gateway.client(&caller).respond("one").await.expect(200);
    gateway.stop();
    gateway.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_folder_is_refused_and_told_the_first_ones_id() {
    let gateway = Gateway::start();
    let (_, client) = gateway.caller("free");
    let second = tempfile::tempdir().expect("a folder");
    let file = second.path().join("overfall.yaml");
    let text = std::fs::read_to_string(gateway.folder.path().join("overfall.yaml")).expect("a deployment");
    let listen = format!("listen: {{gateway: \"{}\", admin: \"{}\"}}", ports::free(), ports::free());
    let lines = text.lines().map(|line| match line.split(':').next() {
        Some("listen") => listen.clone(),
        Some("policy") => format!("policy: {}", gateway.policy_file().display()),
        Some("stores") => format!("stores: {{data: {}}}", gateway.data().display()),
        _ => line.to_owned(),
    });
    std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).expect("written");
    let mut command = Command::new(BINARY);
    command.args(["serve", "-c"]).arg(&file).env("TEST_UPSTREAM_KEY", "k").env("TEST_ADMIN_TOKEN", "t");
    let mut refused = Process::start("the second overfall", &mut command);
    assert_eq!(refused.wait(), Some(1));
    let told = refused.output();
    assert!(told.contains(&gateway.process.pid().to_string()), "it names the other process: {told}");
    client.respond("one").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_deployment_is_told_before_anything_is_touched() {
    let gateway = Gateway::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("overfall.yaml");
    let good = std::fs::read_to_string(gateway.folder.path().join("overfall.yaml")).expect("a deployment");
    let listen = format!("listen: {{gateway: \"{}\", admin: \"{}\"}}", ports::free(), ports::free());
    let good: Vec<String> = good
        .lines()
        .map(|line| if line.starts_with("listen") { listen.clone() } else { line.to_owned() })
        .collect();
    let good = good.join("\n");
    std::fs::write(folder.path().join("policy.yaml"), "version: 1\nplans: {}\n").expect("written");
    for (text, part) in [
        (good.replace("version: 1", "version: 2"), "overfall.yaml:1:10"),
        (good.replace("policy: policy.yaml", "policy: missing.yaml"), "missing.yaml"),
        (good.clone(), "policy.yaml"),
        (good.replace("TEST_ADMIN_TOKEN", "NOT_SET_ANYWHERE"), "NOT_SET_ANYWHERE"),
    ] {
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new(BINARY);
        command
            .args(["serve", "-c"])
            .arg(&file)
            .env("TEST_UPSTREAM_KEY", "key")
            .env("TEST_ADMIN_TOKEN", "token");
        let output = command.output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(part), "{part} is missing in: {told}");
        assert!(!folder.path().join("data").exists(), "nothing was made: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_of_a_long_stream_outlives_its_first_deadline() {
    let policy = crate::harness::policies::EVERY_REASON.replace(
        "    overage: {forgive: 100, debt: 0}\n",
        "    overage: {forgive: 100, debt: 0}\n    deadlines: {request: 2s}\n",
    );
    let gateway = Setup::default().policy(&policy).start();
    let (_, client) = gateway.caller("free");
    let mut stream = client.stream("/v1/responses", &ask_stream("gpt-5.5-sim-out=30+pace=150")).await;
    let decision = stream.decision();
    assert!(stream.rest().await.1);
    let booked = gateway.admin.booked(&decision);
    assert_eq!(booked["end"]["grade"], "exact", "it was renewed while it ran: {booked}");
    eventually("nothing is left open", async || {
        (gateway.admin.metric("overfall_meter_holds", &[]) < 0.5).then_some(())
    })
    .await;
}
