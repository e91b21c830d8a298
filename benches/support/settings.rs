//! How long and how often is measured. `OVERFALL_BENCH=quick` shows that everything runs; its figures mean little.

use std::path::Path;
use std::time::Duration;

/// Bounds of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Whether this is only to see that everything runs.
    pub(crate) quick: bool,
    /// Alternating rounds; the order of peers is turned round every second one.
    pub(crate) rounds: usize,
    /// How long a peer is under load in a round.
    pub(crate) load: Duration,
    /// How long requests come slowly in a round.
    pub(crate) trickle: Duration,
    /// Streams of each peer in a round.
    pub(crate) streams: usize,
    /// Idle streams of each peer.
    pub(crate) idle_streams: usize,
    /// Users whose state is loaded.
    pub(crate) users: usize,
    /// Usage events in the books before settlement is measured.
    pub(crate) booked: usize,
    /// Requests settled in a round.
    pub(crate) settled: usize,
    /// Usage events in the books that are audited.
    pub(crate) audited: usize,
    /// Samples of what takes less than a millisecond.
    pub(crate) samples: usize,
}

impl Settings {
    /// What the environment asks for.
    pub(crate) fn from_env() -> Self {
        if std::env::var_os("OVERFALL_BENCH").is_some_and(|value| value == "quick") { QUICK } else { FULL }
    }
}

const FULL: Settings = Settings {
    quick: false,
    rounds: 7,
    load: Duration::from_secs(6),
    trickle: Duration::from_secs(5),
    streams: 24,
    idle_streams: 1000,
    users: 1_000_000,
    booked: 1_000_000,
    settled: 50_000,
    audited: 1_000_000,
    samples: 51,
};

const QUICK: Settings = Settings {
    quick: true,
    rounds: 2,
    load: Duration::from_secs(1),
    trickle: Duration::from_secs(1),
    streams: 6,
    idle_streams: 100,
    users: 50_000,
    booked: 10_000,
    settled: 5_000,
    audited: 20_000,
    samples: 7,
};

/// A new folder on the disk that the build is on, gone when it is dropped. Not in `/tmp`: that may be memory, where
/// syncs cost nothing.
pub(crate) fn folder() -> anyhow::Result<tempfile::TempDir> {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(parent)?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(parent)?)
}

/// As many open files as this user may have: a thousand streams are three thousand sockets.
pub(crate) fn allow_many_files() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}
