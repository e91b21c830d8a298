//! Codex CLI from its package, before the gateway: one run in a home of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{packages, workspace};

/// No connection but to the base URL: no plugins, no telemetry, no updates.
const QUIET: &str = r#"
check_for_update_on_startup = false
[features]
plugins = false
apps = false
[analytics]
enabled = false
[feedback]
enabled = false
[otel]
exporter = "none"
metrics_exporter = "none"
trace_exporter = "none"
"#;

/// Nobody's identity: an account `acct`, and valid for long.
const ID_TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDAsImh0dHBzOi8vYXBpLm9wZW5haS5jb20vYXV0aCI6eyJjaGF0Z3B0X2FjY291bnRfaWQiOiJhY2N0In19.c2ln";

/// A home with a configuration.
pub(crate) struct Home(TempDir);

/// A run of `codex exec --json` that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    /// What it printed, one event a line.
    pub(crate) events: Vec<Value>,
    pub(crate) stderr: String,
    /// What it recorded of the session.
    pub(crate) rollout: Vec<Value>,
}

/// A configuration with the gateway as a provider of its own, as a user writes it.
pub(crate) fn provider(base: &str) -> String {
    format!(
        r#"model_provider = "gateway"
[model_providers.gateway]
name = "Gateway"
base_url = "{base}"
env_key = "GATEWAY_KEY"
wire_api = "responses""#
    )
}

/// The same, patient with an overloaded server no longer than a test wants to wait: it posts 4 times. By default it
/// posts 30 times, each after as long as it was told to wait.
pub(crate) fn impatient_provider(base: &str) -> String {
    format!("{}\nrequest_max_retries = 1\nstream_max_retries = 1", provider(base))
}

impl Home {
    /// A home with this configuration.
    pub(crate) fn new(config: &str) -> Self {
        // It refuses to work well below the system's folder for temporary files.
        let folder = tempfile::tempdir_in(workspace::target().join("tmp")).expect("a folder");
        std::fs::create_dir_all(folder.path().join("codex")).expect("a folder");
        std::fs::create_dir_all(folder.path().join("work")).expect("a folder");
        // Members of the top stand before the first table.
        let (top, tables) = QUIET.split_at(QUIET.find('[').expect("a table"));
        let config = format!("{top}{config}\n{tables}");
        std::fs::write(folder.path().join("codex/config.toml"), config).expect("written");
        Self(folder)
    }

    /// Where Codex keeps what is its own.
    pub(crate) fn codex(&self) -> PathBuf {
        self.0.path().join("codex")
    }

    /// A program of the package, with a key for the gateway in the environment.
    pub(crate) fn program(&self, name: &str, key: &str) -> Command {
        let bin = packages::codex();
        let mut command = packages::client(name, self.0.path());
        let path = std::env::join_paths(
            std::iter::once(bin).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
        );
        command
            .env("PATH", path.expect("a path"))
            .env("CODEX_HOME", self.codex())
            .env("GATEWAY_KEY", key)
            .env("CODEX_API_KEY", key)
            .env("TZ", "UTC")
            .current_dir(self.0.path().join("work"));
        command
    }

    /// Lets it carry out a prompt, with a model.
    pub(crate) fn exec(&self, key: &str, model: &str) -> Run {
        let mut command = self.program("codex", key);
        command.args(["exec", "--json", "--skip-git-repo-check", "-m", model, "Say hello."]);
        let output = command.output().expect("it starts");
        Run {
            code: output.status.code(),
            events: lines(&String::from_utf8_lossy(&output.stdout)),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            rollout: rollout(&self.codex()),
        }
    }

    /// Lets the server that editors start read the limits, signed in with the key as its token, and gives its answer.
    pub(crate) fn read_limits(&self, key: &str) -> Value {
        let now = jiff::Timestamp::now();
        let tokens =
            json!({"id_token": ID_TOKEN, "access_token": key, "refresh_token": "none", "account_id": "acct"});
        let auth = json!({"auth_mode": "chatgpt", "tokens": tokens, "last_refresh": format!("{now:.0}")});
        std::fs::write(self.codex().join("auth.json"), auth.to_string()).expect("written");
        let mut command = self.program("codex", key);
        let mut server = command
            .arg("app-server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut asks = server.stdin.take().expect("piped");
        let mut told = BufReader::new(server.stdout.take().expect("piped")).lines();
        let mut ask = |id: u64, method: &str, params: Value| -> Value {
            let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
            writeln!(asks, "{request}").expect("it listens");
            let answers =
                told.by_ref().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            answers.into_iter().find(|answer: &Value| answer["id"] == id).expect("an answer")
        };
        ask(1, "initialize", json!({"clientInfo": {"name": "editor", "title": "An editor", "version": "1"}}));
        let answer = ask(2, "account/rateLimits/read", Value::Null);
        drop(asks);
        server.wait().expect("it ends");
        answer
    }
}

impl Run {
    /// What its events of this type are.
    pub(crate) fn events(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["type"] == kind).collect()
    }

    /// The id that it sends with every request of the session.
    pub(crate) fn thread(&self) -> &str {
        let started = self.events("thread.started");
        started.first().and_then(|event| event["thread_id"].as_str()).unwrap_or_default()
    }

    /// The items that it completed, by their types.
    pub(crate) fn items(&self) -> Vec<(&str, &Value)> {
        let items = self.events("item.completed").into_iter().map(|event| &event["item"]);
        items.map(|item| (item["type"].as_str().unwrap_or_default(), item)).collect()
    }

    /// Whether it gave the model's answer.
    pub(crate) fn spoke(&self) -> bool {
        self.items().iter().any(|(kind, _)| *kind == "agent_message")
    }

    /// Why its turn failed, in the words that a user reads.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.events("turn.failed").first().and_then(|event| event["error"]["message"].as_str())
    }

    /// The last limits that it wrote into the record of the session: windows and credits.
    pub(crate) fn limits(&self) -> Option<Value> {
        let told = self.rollout.iter().rev().find_map(|line| line["payload"].get("rate_limits"))?;
        Some(json!({
            "primary": told["primary"], "secondary": told["secondary"],
            "credits": {"has_credits": told["credits"]["has_credits"], "balance": told["credits"]["balance"]},
        }))
    }
}

fn rollout(codex: &Path) -> Vec<Value> {
    let mut folders = vec![codex.join("sessions")];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "jsonl") {
                text.push_str(&std::fs::read_to_string(&path).expect("a record"));
            }
        }
    }
    lines(&text)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
