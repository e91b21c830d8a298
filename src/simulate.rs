//! A simulated model upstream: the shapes and streams of the Responses, chat and Videos APIs, without a model.
//!
//! `overfall demo` puts it behind the gateway, tests ask it for faults and look at what reached it, benches measure
//! against it. Therefore it is exact where a client or a meter looks (members, order of events, one chunk and one
//! write per event, usage), deterministic (tokens are bytes ÷ 4, lengths come from seeds), and cheap.
//!
//! Each request chooses its own faults by words in the model's name or a header: see [`behaviour`]. What arrived and
//! how it ended is told by [`Seen`].
//!
//! Bounds: [`Options`] bounds connections, recorded requests and stored responses; a body is at most 64 MiB. Dropping
//! the future of [`Upstream::serve`] drops all connections at once, like a crash; its `shutdown` lets answers finish.

pub mod behaviour;
mod body;
mod chat;
mod errors;
mod function_call;
mod generation;
mod lengths;
mod request;
mod respond;
mod responses;
mod routes;
mod seen;
mod store;
#[cfg(test)]
mod tests;
mod videos;
mod wire;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub use behaviour::Behaviour;
pub use lengths::LogNormal;
pub use seen::{End, NotSeen, Seen, SeenRequest};

use crate::units::time::Clock;
use store::Store;
use videos::Videos;
use wire::Wire;

/// The most bytes of a request's body, both as sent and decoded.
const BODY_BYTES_MAX: usize = 64 << 20;

/// How long answers in flight may take after the shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// How the upstream behaves as a whole.
#[derive(Clone)]
pub struct Options {
    /// The key that `Authorization: Bearer` must carry; without one every request is welcome.
    pub key: Option<String>,
    /// What a request without words of its own gets.
    pub behaviour: Behaviour,
    /// The models that GET /v1/models lists; any other name works as well.
    pub models: Vec<String>,
    /// Requests kept for [`Seen`]; 0 keeps counts only.
    pub recorded_max: usize,
    /// Bytes kept of each one's body.
    pub recorded_body_bytes_max: usize,
    /// Responses kept for retrieval; 0 keeps none, and then no `previous_response_id` is known.
    pub stored_max: usize,
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// Where `created_at` comes from.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            key: None,
            behaviour: Behaviour::default(),
            models: ["gpt-5.5", "gpt-5.3-codex"].map(str::to_owned).to_vec(),
            recorded_max: 1024,
            recorded_body_bytes_max: 64 << 10,
            stored_max: 1024,
            connections_max: 16_384,
            clock: Clock::machine(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("key", &self.key.as_ref().map(|_| "***"))
            .field("behaviour", &self.behaviour)
            .field("models", &self.models)
            .field("recorded_max", &self.recorded_max)
            .field("recorded_body_bytes_max", &self.recorded_body_bytes_max)
            .field("stored_max", &self.stored_max)
            .field("connections_max", &self.connections_max)
            .finish_non_exhaustive()
    }
}

/// A simulated upstream that listens, and answers once it is served.
#[derive(Debug)]
pub struct Upstream {
    listener: TcpListener,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
}

/// What all connections share.
struct Shared {
    options: Options,
    seen: Seen,
    store: Store,
    videos: Videos,
    /// Tells this upstream's ids from those of an earlier one.
    series: u64,
    lengths: AtomicU64,
}

impl Upstream {
    /// Listens on `addr`; port 0 takes a free one. Must be called within a tokio runtime.
    pub fn bind(addr: SocketAddr, options: Options) -> io::Result<Self> {
        // A bench connects by the thousand at once.
        const BACKLOG: u32 = 4096;

        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        let listener = socket.listen(BACKLOG)?;
        let local_addr = listener.local_addr()?;
        let shared = Shared {
            seen: Seen::new(options.recorded_max, options.recorded_body_bytes_max),
            store: Store::new(options.stored_max),
            videos: Videos::new(options.stored_max),
            series: rand::random(),
            lengths: AtomicU64::new(0),
            options,
        };
        Ok(Self { listener, local_addr, shared: Arc::new(shared) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What it sees.
    pub fn seen(&self) -> Seen {
        self.shared.seen.clone()
    }

    /// Answers until `shutdown` is ready, then lets the answers in flight finish for at most 5 s.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let slots = Arc::new(Semaphore::new(self.shared.options.connections_max));
        let (stop, stopped) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, self.listener.accept().await)
            };
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_ended) = connections.join_next() => {}
                (slot, accepted) = accepted => match accepted {
                    Ok((stream, _)) => {
                        let connection = serve_connection(stream, Arc::clone(&self.shared), stopped.clone());
                        connections.spawn(async move {
                            connection.await;
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        // Out of file descriptors, most likely: connections that end give some back.
                        tracing::warn!(%error, "simulated upstream cannot accept");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        drop((self.listener, stop));
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_GRACE, drained).await.is_err() {
            tracing::warn!("simulated upstream drops the answers still in flight");
        }
    }
}

impl Shared {
    /// The place of the next answer in its series of lengths.
    fn next_length(&self) -> u64 {
        self.lengths.fetch_add(1, Ordering::Relaxed)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("options", &self.options)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

/// Serves one connection to its end. Errors are not told: a client that leaves and a cut that was asked for are what
/// this upstream is for, and [`Seen`] tells them apart.
async fn serve_connection(stream: TcpStream, shared: Arc<Shared>, mut stopped: watch::Receiver<()>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let (wire, drain) = Wire::new(stream);
    let service = service_fn(|request| respond::answer(&shared, drain.clone(), request));
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(wire), service));
    tokio::select! {
        _ended = connection.as_mut() => return,
        _stopped = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ended = connection.await;
}
