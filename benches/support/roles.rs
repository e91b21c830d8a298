//! This binary again, as a process of its own with one role: `figures --role NAME ARG…`.
//!
//! A role tells its port, or its result, on standard output and lives until its standard input ends, so that it never
//! outlives who started it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use super::process::Process;

/// The argument that asks for a role.
pub(crate) const ROLE: &str = "--role";

/// Starts a role that listens, and says where.
pub(crate) fn listening(role: &str, arguments: &[String]) -> anyhow::Result<(Process, SocketAddr)> {
    let mut process = start(role, arguments)?;
    let output = process.child().stdout.take().context("no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let port: u16 = line.trim().parse().with_context(|| format!("{role} told `{line}` for a port"))?;
    Ok((process, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
}

/// Runs a role to its end and gives what it told.
pub(crate) fn told(role: &str, arguments: &[String]) -> anyhow::Result<String> {
    let mut process = start(role, arguments)?;
    let mut text = String::new();
    process.child().stdout.take().context("no output")?.read_to_string(&mut text)?;
    let status = process.child().wait()?;
    anyhow::ensure!(status.success(), "{role} failed: {status}");
    Ok(text)
}

fn start(role: &str, arguments: &[String]) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ROLE).arg(role).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    Process::start(&mut command)
}

/// Told by a role: where it listens.
pub(crate) fn tell_port(port: u16) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{port}")?;
    Ok(output.flush()?)
}

/// Ready when whoever started this role is gone or has had enough.
pub(crate) async fn orphaned() {
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _read = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(tell);
    });
    let _closed = told.await;
}
