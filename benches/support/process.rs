//! Processes that a bench starts, what they cost, and their end. Only what was started here is ever signalled, by its
//! own id.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::Context as _;

/// A child process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

/// CPU time of a process, by the names of its threads.
#[derive(Clone, Debug)]
pub(crate) struct Cpu(Vec<(String, u64)>);

impl Process {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.spawn().with_context(|| format!("{command:?} did not start"))?;
        Ok(Self { child })
    }

    /// The process itself.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// CPU time so far, of threads that live.
    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        cpu_of(self.child.id())
    }

    /// Memory that it occupies, in bytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        resident_bytes(self.child.id())
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(mut self) -> anyhow::Result<ExitStatus> {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.context("a process without an id")?, rustix::process::Signal::TERM)?;
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("process {} does not end", self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Cpu {
    /// Microseconds of all threads.
    pub(crate) fn all_us(&self) -> f64 {
        self.us(|_| true)
    }

    /// Microseconds of the threads whose names are asked for.
    pub(crate) fn us(&self, wanted: impl Fn(&str) -> bool) -> f64 {
        let nanoseconds: u64 = self.0.iter().filter(|(name, _)| wanted(name)).map(|(_, time)| time).sum();
        Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6
    }

    /// Microseconds by thread name, largest first.
    pub(crate) fn by_name(&self) -> Vec<(String, f64)> {
        let mut sums = std::collections::BTreeMap::<&str, u64>::new();
        for (name, time) in &self.0 {
            *sums.entry(name).or_default() += time;
        }
        let mut sums: Vec<_> = sums
            .into_iter()
            .map(|(name, time)| (name.to_owned(), Duration::from_nanos(time).as_secs_f64() * 1e6))
            .collect();
        sums.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
        sums
    }
}

/// CPU time of this process so far, of threads that live.
pub(crate) fn own_cpu() -> anyhow::Result<Cpu> {
    cpu_of(std::process::id())
}

fn cpu_of(pid: u32) -> anyhow::Result<Cpu> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let folder = entry?.path();
        // A thread that ends between two reads is none.
        let Ok(name) = std::fs::read_to_string(folder.join("comm")) else { continue };
        let Ok(nanoseconds) = run_time(&folder) else { continue };
        threads.push((name.trim_end().to_owned(), nanoseconds));
    }
    Ok(Cpu(threads))
}

/// Nanoseconds that a thread has run, in user and system mode.
fn run_time(folder: &Path) -> anyhow::Result<u64> {
    const TICK_NS: u64 = 10_000_000;

    if let Ok(text) = std::fs::read_to_string(folder.join("schedstat")) {
        return Ok(text.split(' ').next().context("an empty schedstat")?.parse()?);
    }
    // Kernels without scheduler statistics tell ticks of 10 ms. The name before them may have blanks and brackets.
    let text = std::fs::read_to_string(folder.join("stat"))?;
    let (_, rest) = text.rsplit_once(") ").context("a strange stat")?;
    let ticks = rest.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks * TICK_NS)
}

/// Memory that a process occupies, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Waits until somebody listens.
pub(crate) fn wait_for(addr: SocketAddr) -> anyhow::Result<()> {
    for _ in 0..2000 {
        if std::net::TcpStream::connect(addr).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    anyhow::bail!("nobody listens on {addr}")
}
