//! The simulated upstream, on a thread and runtime of its own, so that a busy test does not slow it down.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;

use overfall::simulate::{Behaviour, Options, Seen, Upstream};
use tokio::sync::oneshot;

/// The key that only the gateway knows.
pub(crate) const UPSTREAM_KEY: &str = "sk-upstream-secret-0123456789abcdef";

/// A simulated upstream that runs.
pub(crate) struct Simulated {
    pub(crate) addr: SocketAddr,
    pub(crate) seen: Seen,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Simulated {
    /// Starts it; every request must carry [`UPSTREAM_KEY`].
    pub(crate) fn start() -> Self {
        Self::with(Options { recorded_max: 100_000, recorded_body_bytes_max: 4096, ..options() })
    }

    /// Starts it in another way.
    pub(crate) fn with(options: Options) -> Self {
        let (started, start) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let upstream =
                    Upstream::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options).expect("a free port");
                started.send((upstream.local_addr(), upstream.seen())).expect("somebody waits");
                tokio::select! {
                    () = upstream.serve(std::future::pending()) => {}
                    _ = stopped => {}
                }
            });
        });
        let (addr, seen) = start.recv().expect("it starts");
        Self { addr, seen, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

/// As the tests want it, with nothing recorded.
pub(crate) fn options() -> Options {
    Options {
        key: Some(UPSTREAM_KEY.to_owned()),
        behaviour: Behaviour::default(),
        recorded_max: 0,
        stored_max: 10_000,
        ..Options::default()
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed there.
            let _ended = thread.join();
        }
    }
}
