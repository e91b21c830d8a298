//! Runs the gateway: Pingora's server, the tasks beside it, and their end.
//!
//! Pingora's own shutdown sleeps for a fixed time and then drops what is left. So it is asked to end only when all is
//! done: readiness falls, answers in flight run to their end (within the grace period), the tasks beside are told to
//! finish and do, and then Pingora has nothing left to wait for. What the grace period cuts is settled by its drop,
//! and booked before [`run`] returns. The caller closes journal and ledger after that.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{ALPN, L4BufferSettings, ListenerConfig};
use pingora::proxy::http_proxy_service_with_name;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::{BackgroundService, GenBackgroundService};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, watch};

use super::gateway::Gateway;
use super::upstreams::ATTEMPTS_MAX;

/// Requests on one connection: now and then one is closed, so that load moves to new machines.
const REQUESTS_PER_CONNECTION: u32 = 10_000;
/// Idle upstream connections kept in all.
const POOL: usize = 512;
/// What one read of a connection may bring: heads and short bodies. Longer bodies are read past this buffer.
const READ_BUFFER_BYTES: usize = 16 << 10;
/// What leaves with one write: an answer's head with all that it tells, and a short body. Events do not wait for it to
/// fill, since every chunk is flushed.
const WRITE_BUFFER_BYTES: usize = 8 << 10;
/// How long the tasks beside the proxy may take to finish.
const TASKS_GRACE: Duration = Duration::from_secs(10);
/// How long new requests are still taken after the stop, for whoever routes them here to hear of it.
const STILL_TAKEN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where and how the gateway listens.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; at least one.
    pub listeners: Vec<Listener>,
    /// Threads that serve; one for each core.
    pub threads: usize,
    /// How long answers in flight may take after the stop.
    pub grace: Duration,
}

/// One address that is listened on. HTTP/1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address.
    pub address: SocketAddr,
    /// Its certificate, where it speaks TLS.
    pub tls: Option<Tls>,
}

/// A certificate, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The chain, leaf first.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why the gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address is taken, or not this machine's.
    #[error("cannot listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file holds no certificates or no key.
    #[error("cannot read certificates or a key from {}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key cannot be used.
    #[error("cannot use the certificate in {}", path.display())]
    Certificate {
        /// Of the certificate.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// Pingora does not take the certificate.
    #[error("cannot use the certificate in {}", path.display())]
    Tls {
        /// Of the certificate.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<pingora::Error>,
    },
    /// No runtime could be made to book what was dropped.
    #[error("cannot start a runtime")]
    Runtime(#[source] std::io::Error),
}

/// Work beside the proxy: settlement, deadlines, the operator's listener. Ends soon after it is told to.
pub struct Task {
    name: &'static str,
    run: Start,
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;
type Start = Box<dyn FnOnce(watch::Receiver<bool>) -> Running + Send>;

impl Task {
    /// Work that runs until the watch it is given turns true. It has a thread of its own, called `name`.
    pub fn new<F>(name: &'static str, run: impl FnOnce(watch::Receiver<bool>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self { name, run: Box::new(move |stop| Box::pin(run(stop))) }
    }
}

/// Resolves at the first SIGTERM or SIGINT.
pub async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(error) => {
                tracing::error!(%error, "a signal cannot be listened for");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
}

/// Serves until `stop` resolves and what was in flight has ended. Blocks; must not be called from async code.
pub fn run(
    settings: &Settings,
    gateway: Gateway,
    tasks: Vec<Task>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    let conf = ServerConf {
        threads: settings.threads.max(1),
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(5),
        upstream_keepalive_pool_size: POOL,
        max_retries: ATTEMPTS_MAX,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    let mut service = http_proxy_service_with_name(&server.configuration, gateway.clone(), "gateway");
    if let Some(proxy) = service.app_logic_mut() {
        let mut options = HttpServerOptions::default();
        options.keepalive_request_limit = Some(REQUESTS_PER_CONNECTION);
        proxy.server_options = Some(options);
    }
    for listener in &settings.listeners {
        let address = listener.address;
        try_to_bind(address).map_err(|source| ServerError::Bind { address, source })?;
        let buffers = L4BufferSettings::new(READ_BUFFER_BYTES, WRITE_BUFFER_BYTES);
        let endpoint = ListenerConfig::tcp(address.to_string()).l4_buffer(buffers);
        service.add_listener(match &listener.tls {
            None => endpoint,
            Some(tls) => endpoint.tls(tls.settings()?),
        });
    }
    server.add_service(service);
    let (tell_tasks, tasks) = beside(&mut server, &gateway, tasks);
    let settlements = Arc::clone(&gateway.shared().settlements);
    let watch =
        Ending { stop: Mutex::new(Some(Box::pin(stop))), gateway, tell_tasks, tasks, grace: settings.grace };
    server.run(RunArgs { shutdown_signal: Box::new(watch) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ServerError::Runtime)?.block_on(settlements.drain());
    Ok(())
}

/// Pingora panics in a thread where it cannot bind; so that is tried first. It does not listen: who connected would be
/// thrown out again.
fn try_to_bind(address: SocketAddr) -> std::io::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

/// Adds the gateway's own tasks and the caller's. The receiver ends when all of them have.
fn beside(
    server: &mut Server,
    gateway: &Gateway,
    tasks: Vec<Task>,
) -> (watch::Sender<bool>, tokio::sync::Mutex<mpsc::Receiver<()>>) {
    let (tell_tasks, stop) = watch::channel(false);
    let (running, ended) = mpsc::channel(1);
    for task in std::iter::once(gateway.task()).chain(tasks) {
        let service = Beside { run: Mutex::new(Some((task.run, running.clone()))), stop: stop.clone() };
        server.add_service(GenBackgroundService::new(task.name.to_owned(), Arc::new(service)));
    }
    (tell_tasks, tokio::sync::Mutex::new(ended))
}

struct Beside {
    run: Mutex<Option<(Start, mpsc::Sender<()>)>>,
    stop: watch::Receiver<bool>,
}

#[async_trait]
impl BackgroundService for Beside {
    async fn start(&self, _pingora: ShutdownWatch) {
        let start = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((run, running)) = start {
            run(self.stop.clone()).await;
            drop(running);
        }
    }
}

/// Tells Pingora when to end: when nothing is left to do.
struct Ending {
    stop: Mutex<Option<Running>>,
    gateway: Gateway,
    tell_tasks: watch::Sender<bool>,
    tasks: tokio::sync::Mutex<mpsc::Receiver<()>>,
    grace: Duration,
}

#[async_trait]
impl ShutdownSignalWatch for Ending {
    async fn recv(&self) -> ShutdownSignal {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stop) = stop {
            stop.await;
        }
        let shared = self.gateway.shared();
        shared.intake.leave();
        tracing::info!(in_flight = shared.in_flight.requests(), "stopping");
        let still_taken = STILL_TAKEN.min(self.grace / 2);
        if !self.idle_within(still_taken).await {
            shared.intake.close();
            if !self.idle_within(self.grace.saturating_sub(still_taken)).await {
                tracing::warn!(in_flight = shared.in_flight.requests(), "answers are cut by the stop");
            }
        }
        shared.intake.close();
        // No task takes a sender's last word back: this only tells whoever still listens.
        self.tell_tasks.send_replace(true);
        let mut tasks = self.tasks.lock().await;
        if tokio::time::timeout(TASKS_GRACE, tasks.recv()).await.is_err() {
            tracing::warn!("a task has not finished in time");
        }
        ShutdownSignal::GracefulTerminate
    }
}

impl Ending {
    /// Whether nothing is in flight any more before `limit` has passed.
    async fn idle_within(&self, limit: Duration) -> bool {
        let idle = async {
            while self.gateway.shared().in_flight.requests() > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(limit, idle).await.is_ok()
    }
}

impl Tls {
    /// What Pingora listens with. It would panic in a thread where files cannot be used, so they are tried here first.
    fn settings(&self) -> Result<TlsSettings, ServerError> {
        let chain = certificates(&self.certificates)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|source| ServerError::Pem { path: self.key.clone(), source })?;
        let unusable = |source| ServerError::Certificate { path: self.certificates.clone(), source };
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .map_err(unusable)?;
        let (certificates, key) = (self.certificates.to_string_lossy(), self.key.to_string_lossy());
        let settings = TlsSettings::intermediate(&certificates, &key);
        let mut settings =
            settings.map_err(|source| ServerError::Tls { path: self.certificates.clone(), source })?;
        settings.set_alpn(ALPN::H1);
        Ok(settings)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let pem = |source| ServerError::Pem { path: path.to_owned(), source };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)?;
    if chain.is_empty() { Err(pem(rustls::pki_types::pem::Error::NoItemsFound)) } else { Ok(chain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_hold_no_certificate_or_key_are_an_error_and_no_panic() {
        let folder = tempfile::tempdir().expect("a folder");
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "nothing").expect("written");
        for certificates in [empty.clone(), folder.path().join("missing.pem")] {
            let tls = Tls { certificates, key: empty.clone() };
            assert!(matches!(tls.settings(), Err(ServerError::Pem { .. })), "{tls:?}");
        }
    }
}
