//! A PostgreSQL server of one's own, for tests and benches: its own files, reached by a socket in them, gone with whoever
//! started it.
//!
//! The server refuses to run as root, so it runs as the user that Debian's package makes for it; whatever kills the
//! process that started it ends it too.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Where Debian puts the server's programs, newest first.
const PROGRAMS: &str = "/usr/lib/postgresql";

/// A running server, and its files.
pub(crate) struct PostgresServer {
    process: Child,
    folder: TempDir,
    user: Option<User>,
    settings: &'static [&'static str],
}

/// Whom it runs as.
#[derive(Clone, Copy)]
struct User {
    id: u32,
    group: u32,
}

impl PostgresServer {
    /// Starts one with an empty database, which does not wait for the disk.
    pub(crate) async fn start() -> Self {
        Self::start_in(&std::env::temp_dir(), &["shared_buffers=16MB", "max_connections=30", "fsync=off"])
            .await
    }

    /// Starts one with an empty database and these settings, its files in a folder that everybody may pass through.
    pub(crate) async fn start_in(parent: &Path, settings: &'static [&'static str]) -> Self {
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir_in(parent).expect("a folder");
        let user = rustix::process::geteuid().is_root().then(User::of_server);
        if let Some(user) = user {
            chown(folder.path(), Some(user.id), Some(user.group)).expect("a folder of the server's");
        }
        let data = folder.path().join("data");
        let made = command(user, "initdb")
            .args(["--auth=trust", "--username=owner", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .arg("--no-instructions")
            .arg(&data)
            .stdout(Stdio::null())
            .status();
        assert!(made.is_ok_and(|made| made.success()), "initdb");
        let process = serve(user, &data, folder.path(), settings);
        let server = Self { process, folder, user, settings };
        server.reached().await;
        server
    }

    /// The address of its database.
    pub(crate) fn address(&self) -> String {
        self.address_as("owner")
    }

    /// The same for somebody else.
    pub(crate) fn address_as(&self, user: &str) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://{user}@{folder}/postgres")
    }

    /// Ends it as a crash does.
    pub(crate) fn stop(&mut self) {
        self.end(rustix::process::Signal::QUIT);
    }

    /// Starts it again.
    pub(crate) async fn again(&mut self) {
        self.process = serve(self.user, &self.folder.path().join("data"), self.folder.path(), self.settings);
        self.reached().await;
    }

    fn end(&mut self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            let _ = rustix::process::kill_process(id, signal);
        }
        drop(self.process.wait());
    }

    /// Runs statements as whoever owns the tables.
    pub(crate) async fn run(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.run_as("owner", sql).await
    }

    /// The same for somebody else.
    pub(crate) async fn run_as(&self, user: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
        let (client, connection) =
            tokio_postgres::connect(&self.address_as(user), tokio_postgres::NoTls).await?;
        let driven = tokio::spawn(connection);
        let done = client.batch_execute(sql).await;
        drop(client);
        drop(driven.await);
        done
    }

    async fn reached(&self) {
        while self.run("SELECT 1").await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.end(rustix::process::Signal::QUIT);
    }
}

impl User {
    /// The user of Debian's package, or nobody.
    fn of_server() -> Self {
        let users = std::fs::read_to_string("/etc/passwd").expect("users");
        let find = |name: &str| {
            let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
            let mut parts = line.split(':').skip(2);
            Some(Self { id: parts.next()?.parse().ok()?, group: parts.next()?.parse().ok()? })
        };
        find("postgres").or_else(|| find("nobody")).expect("a user to run the server as")
    }
}

fn serve(user: Option<User>, data: &Path, sockets: &Path, settings: &[&str]) -> Child {
    let mut server = command(user, "postgres");
    server.arg("-D").arg(data).arg("-k").arg(sockets);
    for setting in ["listen_addresses="].iter().chain(settings) {
        server.args(["-c", setting]);
    }
    server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("postgres")
}

/// A program of the server, which ends when the test does.
fn command(user: Option<User>, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(User { id, group }) = user {
        command.arg(format!("--reuid={id}")).arg(format!("--regid={group}")).arg("--clear-groups");
    }
    command.args(["--pdeathsig", "QUIT"]).arg(program_path(program)).current_dir("/tmp");
    command
}

fn program_path(program: &str) -> PathBuf {
    let versions = std::fs::read_dir(PROGRAMS).map(|entries| entries.flatten().map(|entry| entry.path()));
    let mut found: Vec<PathBuf> = versions
        .into_iter()
        .flatten()
        .map(|version| version.join("bin").join(program))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| program.into())
}
