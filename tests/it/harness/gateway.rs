//! A gateway in a process of its own, in front of a simulated upstream.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::admin::{Admin, Caller, TOKEN};
use super::client::Client;
use super::policies;
use super::ports;
use super::process::Process;
use super::upstream::{Simulated, UPSTREAM_KEY};
use super::wait::until;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_overfall");

/// How a gateway is to be set up.
pub(crate) struct Setup {
    policy: String,
    /// Further lines of the deployment file.
    deployment: String,
    /// What stands before the binary on its command line.
    wrapper: Vec<String>,
    /// Another upstream than the simulated one.
    base_url: Option<String>,
    /// Further settings of the upstream.
    upstream_settings: String,
    /// Further upstreams, after the first.
    spares: String,
    /// Further settings of the listeners.
    listen_settings: String,
    /// Further settings of the stores.
    stores: String,
    /// Further variables of the environment.
    variables: Vec<(String, String)>,
}

/// A gateway that serves.
pub(crate) struct Gateway {
    pub(crate) upstream: Simulated,
    pub(crate) admin: Admin,
    pub(crate) addr: SocketAddr,
    pub(crate) process: Process,
    pub(crate) folder: TempDir,
    admin_addr: SocketAddr,
    setup: Setup,
    /// What earlier processes on this folder printed.
    past: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: policies::EVERY_REASON.to_owned(),
            deployment: String::new(),
            wrapper: Vec::new(),
            base_url: None,
            upstream_settings: String::new(),
            spares: String::new(),
            listen_settings: String::new(),
            stores: String::new(),
            variables: Vec::new(),
        }
    }
}

impl Setup {
    pub(crate) fn policy(self, policy: &str) -> Self {
        Self { policy: policy.to_owned(), ..self }
    }

    /// Adds a line to the deployment file.
    pub(crate) fn deployment(mut self, line: &str) -> Self {
        self.deployment.push_str(line);
        self.deployment.push('\n');
        self
    }

    /// Has it share its counts and books with others.
    pub(crate) fn shared(self, redis: &str, postgres: &str) -> Self {
        self.shared_with("", redis, postgres)
    }

    /// The same with further settings of where counts are, as in `, cluster: true`.
    pub(crate) fn shared_with(mut self, settings: &str, redis: &str, postgres: &str) -> Self {
        let stores =
            [", meter: {redis: {env: TEST_REDIS}", settings, "}, ledger: {postgres: {env: TEST_POSTGRES}}"];
        self.stores.push_str(&stores.concat());
        self.variables.push(("TEST_REDIS".to_owned(), redis.to_owned()));
        self.variables.push(("TEST_POSTGRES".to_owned(), postgres.to_owned()));
        self
    }

    /// Puts words before the binary.
    pub(crate) fn wrapper(self, words: &[&str]) -> Self {
        Self { wrapper: words.iter().map(|word| (*word).to_owned()).collect(), ..self }
    }

    /// Puts it before another upstream.
    pub(crate) fn base_url(self, url: &str) -> Self {
        Self { base_url: Some(url.to_owned()), ..self }
    }

    /// Sets something about the upstream, as in `read_timeout: 1s`.
    pub(crate) fn upstream_setting(self, setting: &str) -> Self {
        Self { upstream_settings: format!("{}, {setting}", self.upstream_settings), ..self }
    }

    /// Lets it speak TLS to clients.
    pub(crate) fn tls(self, settings: &str) -> Self {
        Self { listen_settings: format!(", tls: {settings}"), ..self }
    }

    /// Keeps the books on a server, whose address stands in a file.
    pub(crate) fn ledger_at(self, address: &Path) -> Self {
        Self { stores: format!(", ledger: {{postgres: {{file: {}}}}}", address.display()), ..self }
    }

    /// Adds an upstream behind the others.
    pub(crate) fn spare(mut self, name: &str, url: &str) -> Self {
        self.spares = format!(
            "{}, {{name: {name}, base_url: \"{url}\", key: {{env: TEST_UPSTREAM_KEY}}}}",
            self.spares
        );
        self
    }

    /// Starts it in a new folder, and waits until it is ready.
    pub(crate) fn start(self) -> Gateway {
        self.start_in(tempfile::tempdir().expect("a folder"))
    }

    /// Starts it in a folder, and waits until it is ready.
    pub(crate) fn start_in(self, folder: TempDir) -> Gateway {
        let upstream = Simulated::start();
        let policy = folder.path().join("policy.yaml");
        std::fs::write(&policy, &self.policy).expect("a policy file");
        let (process, addr, admin_addr) = self.spawn_ready(folder.path(), &upstream);
        let admin = Admin::new(admin_addr);
        Gateway { upstream, admin, addr, process, folder, admin_addr, setup: self, past: String::new() }
    }

    /// Starts a process on free ports. A port that another took meanwhile is no failure of the product.
    fn spawn_ready(&self, folder: &Path, upstream: &Simulated) -> (Process, SocketAddr, SocketAddr) {
        for _ in 0..5 {
            let (addr, admin_addr) = (ports::free(), ports::free());
            self.write_deployment(folder, upstream, addr, admin_addr);
            let mut process = self.spawn(folder);
            let admin = Admin::new(admin_addr);
            let ready = until("the gateway is ready", || {
                if process.ended().is_some() {
                    return Some(false);
                }
                admin.probe("/readyz").is_ok_and(|status| status == 200).then_some(true)
            });
            if ready {
                return (process, addr, admin_addr);
            }
            process.wait();
            assert!(process.output().to_lowercase().contains("in use"), "it does not start");
        }
        panic!("no free port in five tries");
    }

    fn spawn(&self, folder: &Path) -> Process {
        let mut words = self.wrapper.iter().map(String::as_str).chain([BINARY, "serve", "-c"]);
        let mut command = Command::new(words.next().expect("the binary at least"));
        command.args(words).arg(deployment_in(folder));
        self.environment(&mut command);
        Process::start("overfall", &mut command)
    }

    fn write_deployment(&self, folder: &Path, upstream: &Simulated, addr: SocketAddr, admin: SocketAddr) {
        let base_url = self.base_url.clone().unwrap_or_else(|| upstream.url());
        let text = format!(
            "version: 1\n\
             policy: policy.yaml\n\
             listen: {{gateway: \"{addr}\", admin: \"{admin}\"{}}}\n\
             upstreams: [{{name: simulated, base_url: \"{base_url}\", key: {{env: TEST_UPSTREAM_KEY}}{}}}{}]\n\
             stores: {{data: data{}}}\n\
             admin: {{token: {{env: TEST_ADMIN_TOKEN}}}}\n\
             {}",
            self.listen_settings, self.upstream_settings, self.spares, self.stores, self.deployment
        );
        std::fs::write(deployment_in(folder), text).expect("a deployment file");
    }

    fn environment(&self, command: &mut Command) {
        command.env("TEST_UPSTREAM_KEY", UPSTREAM_KEY).env("TEST_ADMIN_TOKEN", TOKEN).env_remove("RUST_LOG");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }
}

impl Gateway {
    /// One with the policy that has a plan for every reason.
    pub(crate) fn start() -> Self {
        Setup::default().start()
    }

    /// A client with a caller's key.
    pub(crate) fn client(&self, caller: &Caller) -> Client {
        Client::new(self.addr, &caller.key)
    }

    /// A new caller on a plan, and its client.
    pub(crate) fn caller(&self, plan: &str) -> (Caller, Client) {
        let caller = self.admin.caller(plan);
        let client = self.client(&caller);
        (caller, client)
    }

    /// The folder of journal and ledger.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The ledger's file.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.data().join("ledger.sqlite")
    }

    /// The policy file.
    pub(crate) fn policy_file(&self) -> PathBuf {
        self.folder.path().join("policy.yaml")
    }

    /// Everything that was logged on this folder so far.
    pub(crate) fn log(&self) -> String {
        format!("{}{}", self.past, self.process.output())
    }

    /// Another command of the same binary, on this deployment.
    pub(crate) fn command(&self, words: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(words).arg("-c").arg(deployment_in(self.folder.path()));
        self.setup.environment(&mut command);
        command.output().expect("it runs")
    }

    /// Any command of the same binary.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(words);
        self.setup.environment(&mut command);
        command.output().expect("it runs")
    }

    /// Has the next start keep the books on a server, whose address stands in a file.
    pub(crate) fn keep_books_at(&mut self, address: &Path) {
        self.setup = std::mem::take(&mut self.setup).ledger_at(address);
    }

    /// Proves the books: the audit's report. What they say can be made anew (I11).
    #[track_caller]
    pub(crate) fn audit(&self) -> Value {
        let replayed = self.command(&["replay"]);
        assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stdout));
        let output = self.command(&["audit", "--json"]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "the books do not hold: {told} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&told).expect("a report in JSON")
    }

    /// Ends it as an operator does, and waits for its end: 0.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        assert_eq!(self.process.wait(), Some(0), "it ends as asked");
    }

    /// Kills it: nothing of it runs any more.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same folder, before the same upstream. It must have ended.
    pub(crate) fn restart(&mut self) {
        self.past.push_str(&self.process.output());
        self.past.push('\n');
        let (process, addr, admin_addr) = self.setup.spawn_ready(self.folder.path(), &self.upstream);
        (self.process, self.addr, self.admin_addr) = (process, addr, admin_addr);
        self.admin = Admin::new(admin_addr);
    }

    /// Starts a settlement worker on the same deployment.
    pub(crate) fn spawn_worker(&self) -> Process {
        let mut command = Command::new(BINARY);
        command.args(["settle", "-c"]).arg(deployment_in(self.folder.path()));
        self.setup.environment(&mut command);
        Process::start("worker", &mut command)
    }

    /// Starts a further process on the same deployment, ready or not.
    pub(crate) fn spawn_second(&self) -> Process {
        self.setup.spawn(self.folder.path())
    }

    /// Puts words before the binary of the next start.
    pub(crate) fn wrap(&mut self, words: &[&str]) {
        self.setup.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
    }
}

fn deployment_in(folder: &Path) -> PathBuf {
    folder.join("overfall.yaml")
}
