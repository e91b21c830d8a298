//! A Redis of a test's own, on a free port of this machine.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

/// How long a server may take to answer.
const START_MAX: Duration = Duration::from_secs(20);

/// A running server. Ended when it is dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
    settings: Vec<String>,
}

impl Server {
    /// Starts one.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with these settings besides.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let settings: Vec<_> = settings.iter().map(|word| (*word).to_owned()).collect();
        Self::start_at(free_port(), &settings)
    }

    /// Starts one at a port, with these settings besides.
    pub(crate) fn start_at(port: u16, settings: &[String]) -> Self {
        let (folder, settings) = (tempfile::tempdir().unwrap(), settings.to_vec());
        let mut server = Self { child: spawn(port, &folder, &settings), port, folder, settings };
        server.wait();
        server
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it, and starts it again at the same place, empty.
    pub(crate) fn restart_empty(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.folder.path().join("appendonlydir")).unwrap();
        self.start_again();
    }

    /// Starts it again at the same place, with what it kept.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.port, &self.folder, &self.settings);
        self.wait();
    }

    /// Stops it from answering, until [`Self::resume`].
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it answer again.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn wait(&mut self) {
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("redis-server ended ({status}) before it listened");
            }
            assert!(begun.elapsed() < START_MAX, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn spawn(port: u16, folder: &TempDir, settings: &[String]) -> Child {
    let port = port.to_string();
    Command::new("redis-server")
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir"])
        .arg(folder.path())
        .args(settings)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("redis-server: {error}: install it, as `make tools` does"))
}

/// What the documentation has an operator say to Redis, so that a gateway may do what it does there and no more.
pub(crate) fn documented_rights(password: &str) -> Vec<redis::Cmd> {
    let text = include_str!("../../../../docs/operations.md");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("ACL SETUSER ")).collect();
    assert_eq!(lines.len(), 2, "one line for every Redis, one for a cluster");
    let command = |line: &str| {
        let line = line.replace("PASSWORD", password);
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command
    };
    lines.into_iter().map(command).collect()
}

/// A port that nobody listens at.
pub(crate) fn free_port() -> u16 {
    // Outside the range that outgoing connections take theirs from.
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (0..1000).map(|_| rand::random_range(12_000..32_000)).find(free).unwrap()
}
