//! The official SDKs and curl, as people use them: each script in `tests/clients` runs in a process of its own, both
//! SDKs side by side against one gateway.

use std::path::PathBuf;
use std::process::Command;

use rusqlite::Connection;

use crate::harness::codex::{Home, impatient_provider};
use crate::harness::demo::Demo;
use crate::harness::tap::Tap;
use crate::harness::{Caller, Client, Gateway, Setup, packages, workspace};

/// A plan for every reason to refuse a video.
const FILM: &str = r#"
version: 1
prices:
  - model: "sora-2*"
    per_second: {720x1280: 2.5, 1280x720: 2.5}
balances:
  wallet: {per: account}
features:
  codex: {apis: [responses, chat], unit: credit}
  sora: {apis: [videos], unit: second, deadlines: {job: 1h}}
plans:
  film:
    sora:
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
  daily:
    sora:
      waterfall: [{name: daily, kind: free_tier, per: user, windows: [{allow: 4, every: 5h, starts: first_use}]}]
  capped:
    sora:
      guards: [{name: member-cap, spend: 10, every: month, time_zone: UTC, per: user}]
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
  single:
    sora:
      guards: [{name: jobs, concurrent: 1, per: user}]
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
  codex:
    codex:
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
"#;

/// What a part of a script is to use: the base URL and keys, by their names in the environment.
type Variables<'a> = &'a [(&'a str, &'a str)];

/// Runs a part of both scripts, side by side; each is told what it is to use.
fn sdks(part: &str, python: Variables<'_>, node: Variables<'_>) {
    let run = |command: (PathBuf, PathBuf), variables: Variables<'_>| {
        let home = tempfile::tempdir().expect("a folder");
        let (program, script) = command;
        let mut command = packages::client(program, home.path());
        let output = command.arg(script).arg(part).envs(variables.iter().copied()).output();
        packages::succeeded(&format!("{command:?}"), &output.expect("it starts"));
    };
    let script = workspace::root().join("tests/clients/python/sdk.py");
    let python_command = (packages::python(), script);
    let node_command = (PathBuf::from("node"), packages::node().join("sdk.mjs"));
    std::thread::scope(|scope| {
        scope.spawn(|| run(python_command, python));
        scope.spawn(|| run(node_command, node));
    });
}

#[test]
fn what_the_demo_prints_can_be_pasted() {
    let mut demo = Demo::start();
    let told: Vec<String> = demo
        .lines_with("curl")
        .iter()
        .map(|curl| {
            let output = Command::new("bash").args(["-c", curl]).output().expect("a shell");
            assert!(output.status.success(), "{curl}");
            String::from_utf8_lossy(&output.stdout).replace('\r', "").to_lowercase()
        })
        .collect();
    let [two, blocked, stream, ..] = &told[..] else { panic!("three lines at least: {told:#?}") };
    assert!(two.starts_with("http/1.1 200") && two.contains("x-access-decision: allow;"), "{two}");
    let sources = two.lines().find(|line| line.starts_with("x-access-sources: ")).expect("sources");
    assert!(
        sources.contains("included;") && sources.contains("credits;"),
        "from two sources at once: {sources}"
    );
    assert!(blocked.starts_with("http/1.1 429") && blocked.contains("reason=credits-exhausted"), "{blocked}");
    assert!(stream.starts_with("http/1.1 200") && stream.contains("event: response.completed"), "{stream}");
    let sources = stream.lines().find(|line| line.starts_with("x-access-sources: ")).expect("sources");
    assert!(sources.contains("credits;") && !sources.contains("included;"), "living on credits: {sources}");
    codex_as_printed(&demo);
    demo.process.signal(rustix::process::Signal::INT);
    assert_eq!(demo.process.wait(), Some(0));
}

/// The provider's block is all that the configuration needs, and the commands work as they stand.
fn codex_as_printed(demo: &Demo) {
    let home = Home::new(&demo.block("[model_providers.overfall]"));
    let commands = demo.lines_with("codex");
    let told: Vec<(bool, String)> = commands
        .iter()
        .map(|command| {
            let output = home.program("bash", "").args(["-c", command]).output().expect("a shell");
            let told = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&told).into_owned())
        })
        .collect();
    let [works, refused] = &told[..] else { panic!("two commands: {told:#?}") };
    assert!(works.0 && works.1.contains("the sea was low"), "{}", works.1);
    assert!(!refused.0 && refused.1.contains("Your workspace is out of credits."), "{}", refused.1);
}

#[test]
fn the_demos_help_lists_every_word_for_the_simulated_model() {
    let output = Command::new(crate::harness::gateway::BINARY).args(["demo", "--help"]).output();
    let told = String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned();
    assert!(told.contains(&overfall::simulate::behaviour::Words.to_string()), "{told}");
}

#[test]
fn a_demo_on_a_used_folder_brings_its_accounts_back_to_their_roles() {
    let data = tempfile::tempdir().expect("a folder");
    let mut first: Option<[String; 3]> = None;
    for _ in 0..2 {
        let mut demo = Demo::start_on(data.path());
        let keys = demo.keys();
        let status = |key: &str| {
            let body = "{\"model\": \"gpt-5.5\", \"input\": \"Say hello.\"}";
            let output = Command::new("curl")
                .args(["-s", "-o", "/dev/null", "-w", "%{http_code}"])
                .args(["-H", "Content-Type: application/json", "-d", body])
                .args(["-H", &format!("Authorization: Bearer {key}"), &format!("{}/responses", demo.base)])
                .output()
                .expect("curl");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert_eq!(keys.each_ref().map(|key| status(key)), ["200", "200", "429"]);
        if let Some(first) = &first {
            assert_eq!(
                first.each_ref().map(|key| status(key)),
                ["401", "401", "401"],
                "the keys of before are revoked"
            );
        }
        demo.process.signal(rustix::process::Signal::TERM);
        assert_eq!(demo.process.wait(), Some(0));
        first = Some(keys);
    }
}

#[test]
fn the_sdks_work_against_the_demo() {
    let demo = Demo::start();
    let [allowance, credits, nothing] = demo.keys();
    let variables =
        [("BASE", &*demo.base), ("ALLOWANCE", &*allowance), ("CREDITS", &*credits), ("NOTHING", &*nothing)];
    sdks("demo", &variables, &variables);
}

/// Most of it is waiting, as clients are told to: side by side.
#[test]
fn every_client_does_what_a_refusal_tells_it() {
    std::thread::scope(|scope| {
        scope.spawn(every_refusal);
        scope.spawn(every_refusal_of_a_video);
        scope.spawn(while_the_store_is_away);
    });
}

fn every_refusal() {
    let plans = [
        ("SHORT", "short", None),
        ("LONG", "long", None),
        ("PREPAID", "prepaid", None),
        ("CAPPED", "capped", Some("10")),
        ("SINGLE", "single", Some("10")),
        ("HELD", "prepaid", Some("1")),
        ("VIDEO", "video", None),
        ("SUSPENDED", "prepaid", None),
        ("FREE", "free", None),
    ];
    let gateway = Gateway::start();
    sdks_as("refusals", &gateway, || callers(&gateway, &plans));
    gateway.audit();
}

fn every_refusal_of_a_video() {
    let plans = [
        ("CODEX", "codex", None),
        ("DAILY", "daily", None),
        ("BROKE", "film", None),
        ("CAPPED", "capped", Some("100")),
        ("SINGLE", "single", Some("100")),
        ("SUSPENDED", "film", None),
    ];
    let gateway = film_gateway();
    sdks_as("no_videos", &gateway, || callers(&gateway, &plans));
    gateway.audit();
}

#[test]
fn the_sdks_make_watch_and_share_videos() {
    let gateway = film_gateway();
    let plans =
        [("FILM", "film", Some("1000")), ("SPOILT", "film", Some("1000")), ("STRANGER", "film", None)];
    sdks_as("videos", &gateway, || {
        let mut callers = callers(&gateway, &plans);
        callers.push(("COLLEAGUE", gateway.admin.user_of(&callers[0].1.account)));
        callers
    });
    gateway.audit();
}

/// A gateway for videos: for small bodies, and with a watcher in a hurry.
fn film_gateway() -> Gateway {
    let jobs = "jobs: {polls_per_second: 100, poll_first: 1s, poll_longest: 1s}";
    Setup::default().policy(FILM).deployment("limits: {body: 1MiB}").deployment(jobs).start()
}

/// Runs a part of both scripts, each with the keys of callers of its own.
fn sdks_as(part: &str, gateway: &Gateway, callers: impl Fn() -> Vec<(&'static str, Caller)>) {
    let base = format!("http://{}/v1", gateway.addr);
    let variables = || {
        let keys = callers().into_iter().map(|(name, caller)| (name, caller.key));
        std::iter::once(("BASE", base.clone())).chain(keys).collect::<Vec<_>>()
    };
    let (python, node) = (variables(), variables());
    sdks(part, &borrowed(&python), &borrowed(&node));
}

fn borrowed<'a>(variables: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// New callers, by their names in the environment: the plan of each, and credits.
fn callers(gateway: &Gateway, plans: &[(&'static str, &str, Option<&str>)]) -> Vec<(&'static str, Caller)> {
    let callers = plans.iter().map(|(name, plan, credits)| {
        let caller = gateway.admin.caller(plan);
        if let Some(credits) = credits {
            gateway.admin.grant(&caller, credits);
        }
        if *name == "SUSPENDED" {
            let suspend = serde_json::json!({"status": "suspended"});
            gateway.admin.call("PATCH", &format!("/accounts/{}", caller.account), Some(&suspend));
        }
        (*name, caller)
    });
    callers.collect()
}

/// A journal that is full because the ledger is away: the gateway refuses everybody before anything is held.
fn while_the_store_is_away() {
    let gateway = Setup::default().deployment("limits: {journal: 256KiB}").start();
    let caller = gateway.admin.caller("free");
    let locked = Connection::open(gateway.ledger()).expect("the ledger");
    locked.execute_batch("PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE").expect("nobody writes for long");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let client = Client::new(gateway.addr, &caller.key);
    while runtime.block_on(client.respond("one")).status == 200 {
        assert!(gateway.upstream.seen.count() < 5000, "the bound on the journal is not kept");
    }
    let passed = gateway.upstream.seen.count();
    let base = format!("http://{}/v1", gateway.addr);
    let variables = [("BASE", &*base), ("FREE", &*caller.key)];
    std::thread::scope(|scope| {
        scope.spawn(|| sdks("away", &variables, &variables));
        scope.spawn(|| codex_while_away(&gateway, &caller));
    });
    assert_eq!(gateway.upstream.seen.count(), passed, "nothing is forwarded unbooked");
    drop(locked);
}

fn codex_while_away(gateway: &Gateway, caller: &Caller) {
    let tap = Tap::to(gateway.addr);
    let run = Home::new(&impatient_provider(&format!("http://{}/v1", tap.addr))).exec(&caller.key, "gpt-5.5");
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert_eq!(run.failure(), Some("Selected model is at capacity. Please try a different model."));
    let carried = tap.carried();
    assert_eq!(carried.len(), 4, "{carried:#?}");
    for pair in carried.windows(2) {
        let waited = (pair[1].came - pair[0].went).as_secs_f64();
        assert!((0.9..60.0).contains(&waited), "it waits as it is told, 1 to 5 s: {carried:#?}");
    }
}
