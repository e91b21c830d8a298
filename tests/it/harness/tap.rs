//! A wire between one client and the gateway that writes down each request it carries, and when: what a client asked
//! for, answered or not, is counted before the gateway. It can keep a request waiting until something has happened, so
//! that what a request meets does not depend on how long its client took to start.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// A request that was carried.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    /// Method and target.
    pub(crate) line: String,
    /// When it came from the client.
    pub(crate) came: Instant,
    /// When it went on to the gateway.
    pub(crate) went: Instant,
}

/// What has to happen before a request goes on; it is told the request's number, counted from 0.
type Gate = dyn Fn(usize) + Send + Sync;

/// A wire on a port of its own. It ends when it is dropped.
pub(crate) struct Tap {
    pub(crate) addr: SocketAddr,
    carried: Arc<Mutex<Vec<Carried>>>,
    _runtime: Runtime,
}

impl Tap {
    /// A wire to `gateway`.
    pub(crate) fn to(gateway: SocketAddr) -> Self {
        Self::gated(gateway, |_| {})
    }

    /// A wire to `gateway` on which each request waits until `gate` has been passed, which may block.
    pub(crate) fn gated(gateway: SocketAddr, gate: impl Fn(usize) + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let addr = listener.local_addr().expect("it listens");
        let carried = Arc::new(Mutex::new(Vec::new()));
        let (all, gate): (_, Arc<Gate>) = (Arc::clone(&carried), Arc::new(gate));
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, gateway, Arc::clone(&all), Arc::clone(&gate)));
            }
        });
        Self { addr, carried, _runtime: runtime }
    }

    /// What was carried so far.
    pub(crate) fn carried(&self) -> Vec<Carried> {
        self.carried.lock().unwrap().clone()
    }
}

/// Either side's end is the other's.
async fn carry(client: TcpStream, gateway: SocketAddr, carried: Arc<Mutex<Vec<Carried>>>, gate: Arc<Gate>) {
    let Ok(server) = TcpStream::connect(gateway).await else { return };
    let ((mut asks, mut told), (mut answers, mut server)) = (client.into_split(), server.into_split());
    let outward = async {
        let mut chunk = vec![0; 64 << 10];
        while let Ok(length @ 1..) = asks.read(&mut chunk).await {
            // A client writes a request's head by itself or first: it begins a chunk.
            if let Some(line) = request_line(&chunk[..length]) {
                let (came, number) = (Instant::now(), carried.lock().unwrap().len());
                let gate = Arc::clone(&gate);
                if tokio::task::spawn_blocking(move || gate(number)).await.is_err() {
                    // A panic there has been printed there; what was to happen has not.
                    return;
                }
                carried.lock().unwrap().push(Carried { line, came, went: Instant::now() });
            }
            if server.write_all(&chunk[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = outward => {}
        _ended = copy(&mut answers, &mut told) => {}
    }
}

fn request_line(chunk: &[u8]) -> Option<String> {
    let line = chunk.split(|byte| *byte == b'\r').next()?;
    Some(std::str::from_utf8(line).ok()?.strip_suffix(" HTTP/1.1")?.to_owned())
}
