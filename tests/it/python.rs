//! The official Python SDK and curl, as people use them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::gateway::BINARY;
use crate::harness::process::Process;
use crate::harness::{Caller, Gateway, ports, workspace};

/// A virtual environment with the SDK; made once, and again when what it needs has changed.
fn python() -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let wanted =
        std::fs::read_to_string(workspace::root().join("tests/clients/requirements.txt")).expect("a list");
    let installed = venv.join("installed.txt");
    // Two tests may come here at once.
    let lock = std::fs::File::create(venv.with_extension("lock")).expect("a lock");
    lock.lock().expect("locked");
    if std::fs::read_to_string(&installed).ok().as_ref() != Some(&wanted) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        let requirements = workspace::root().join("tests/clients/requirements.txt");
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "-r"]).arg(requirements));
        std::fs::write(&installed, &wanted).expect("written");
    }
    venv.join("bin/python")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {told}");
}

/// Runs a part of the script. What it is to use comes in the environment.
fn sdk(part: &str, variables: &[(&str, &str)]) {
    let script = workspace::root().join("tests/clients/sdk.py");
    run(Command::new(python())
        .arg(script)
        .arg(part)
        .envs(variables.iter().copied())
        .env_remove("OPENAI_API_KEY"));
}

/// A demo that has printed what it prints.
struct Demo {
    process: Process,
    told: String,
    base: String,
    _data: tempfile::TempDir,
}

impl Demo {
    fn start() -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let (port, admin_port) = (ports::free().port(), ports::free().port());
        let mut command = Command::new(BINARY);
        command.args([
            "demo",
            "--port",
            &port.to_string(),
            "--admin-port",
            &admin_port.to_string(),
            "--data",
        ]);
        let mut process = Process::start("the demo", command.arg(data.path()));
        process.wait_for_line("Ctrl-C");
        let told = process.output();
        Self { process, told, base: format!("http://127.0.0.1:{port}/v1"), _data: data }
    }

    /// The three keys, in the order they are printed.
    fn keys(&self) -> [String; 3] {
        let mut keys: Vec<String> = Vec::new();
        for word in self.told.split_whitespace().filter(|word| word.starts_with("ofk_")) {
            if !keys.iter().any(|key| key == word) {
                keys.push(word.to_owned());
            }
        }
        keys.try_into().expect("three keys")
    }

    /// The lines to paste: each begins with `curl`, and goes on where a line ends in a backslash.
    fn curls(&self) -> Vec<String> {
        let mut curls: Vec<String> = Vec::new();
        let mut continues = false;
        for line in self.told.lines() {
            if continues {
                let last = curls.last_mut().expect("there is one");
                *last = format!("{last}\n{line}");
            } else if line.trim_start().starts_with("curl ") {
                curls.push(line.to_owned());
            }
            continues = (continues || line.trim_start().starts_with("curl ")) && line.ends_with('\\');
        }
        curls
    }
}

#[test]
fn what_the_demo_prints_can_be_pasted() {
    let mut demo = Demo::start();
    let told: Vec<String> = demo
        .curls()
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
    demo.process.signal(rustix::process::Signal::INT);
    assert_eq!(demo.process.wait(), Some(0));
}

#[test]
fn a_demo_on_a_used_folder_brings_its_accounts_back_to_their_roles() {
    let data = tempfile::tempdir().expect("a folder");
    let mut first: Option<[String; 3]> = None;
    for _ in 0..2 {
        let (port, admin_port) = (ports::free().port(), ports::free().port());
        let mut command = Command::new(BINARY);
        command.args([
            "demo",
            "--port",
            &port.to_string(),
            "--admin-port",
            &admin_port.to_string(),
            "--data",
        ]);
        let mut process = Process::start("the demo", command.arg(data.path()));
        process.wait_for_line("Ctrl-C");
        let demo = Demo {
            told: process.output(),
            process,
            base: format!("http://127.0.0.1:{port}/v1"),
            _data: tempfile::tempdir().expect("a folder"),
        };
        let keys = demo.keys();
        let status = |key: &str| {
            let body = "{\"model\": \"gpt-5.5\", \"input\": \"Say hello.\"}";
            let output = Command::new("curl")
                .args([
                    "-s",
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code}",
                    "-H",
                    "Content-Type: application/json",
                    "-d",
                    body,
                ])
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
        let mut process = demo.process;
        process.signal(rustix::process::Signal::TERM);
        assert_eq!(process.wait(), Some(0));
        first = Some(keys);
    }
}

#[test]
fn the_sdk_works_against_the_demo() {
    let demo = Demo::start();
    let [allowance, credits, nothing] = demo.keys();
    sdk(
        "demo",
        &[("BASE", &demo.base), ("ALLOWANCE", &allowance), ("CREDITS", &credits), ("NOTHING", &nothing)],
    );
}

#[test]
fn the_sdk_understands_every_refusal() {
    let gateway = Gateway::start();
    let caller = |plan: &str, credits: Option<&str>| -> Caller {
        let caller = gateway.admin.caller(plan);
        if let Some(credits) = credits {
            gateway.admin.grant(&caller, credits);
        }
        caller
    };
    let suspended = caller("prepaid", None);
    let suspend = serde_json::json!({"status": "suspended"});
    gateway.admin.call("PATCH", &format!("/accounts/{}", suspended.account), Some(&suspend));
    let base = format!("http://{}/v1", gateway.addr);
    sdk(
        "refusals",
        &[
            ("BASE", &base),
            ("SHORT", &caller("short", None).key),
            ("LONG", &caller("long", None).key),
            ("PREPAID", &caller("prepaid", None).key),
            ("CAPPED", &caller("capped", Some("10")).key),
            ("SINGLE", &caller("single", Some("10")).key),
            ("VIDEO", &caller("video", None).key),
            ("SUSPENDED", &suspended.key),
            ("FREE", &caller("free", None).key),
        ],
    );
}
