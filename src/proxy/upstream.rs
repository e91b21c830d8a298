//! Where allowed requests go: the addresses behind a host name, and the key that stands in for the client's.
//!
//! Names are resolved in the background, because Pingora resolves them while it blocks a thread, and panics where it
//! cannot. A name that stops resolving keeps the addresses it had. Without any address requests are refused.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Uri};
use pingora::protocols::TcpKeepalive;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::{HttpPeer, Peer, PeerOptions};
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::watch;

use super::addresses::Addresses;
use super::breaker::{Breaker, Position};
use crate::config::{Breaker as Rules, Health, Secret};
use crate::policy::compiled::Name;
use crate::units::Timestamp;

/// How often names are resolved.
const RESOLVE_EVERY: Duration = Duration::from_secs(5);

/// An upstream.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it is called in metrics, and where what was made there is noted.
    pub name: Name,
    /// Scheme and host, perhaps a port.
    pub base_url: Uri,
    /// Its key, which no other upstream is shown.
    pub key: Secret,
    /// PEM file of certificates that it is trusted by, in place of the machine's.
    pub ca_file: Option<PathBuf>,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for the next bytes of an answer.
    pub read_timeout: Duration,
    /// When it is left alone for a while.
    pub breaker: Rules,
    /// How it is asked whether it is there; absent: only by the requests that it gets.
    pub health: Option<Health>,
}

/// Why an upstream cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Its URL is not one that begins with `http://` or `https://` and a host.
    #[error("the upstream's URL `{base_url}` does not begin with http:// or https:// and a host")]
    Url {
        /// It.
        base_url: Uri,
    },
    /// No header can carry its host or key.
    #[error("the upstream's host or key has characters that no header may have")]
    Header(#[source] http::header::InvalidHeaderValue),
    /// A file holds no certificates.
    #[error("cannot read certificates from {}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate is not one that others can be trusted by.
    #[error("cannot trust by the certificates in {}", path.display())]
    Certificate {
        /// In which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// Two upstreams have the same name.
    #[error("two upstreams are called `{name}`")]
    Twice {
        /// It.
        name: Name,
    },
    /// There is none.
    #[error("there is no upstream")]
    None,
}

/// An upstream in use.
pub struct Upstream {
    name: Name,
    /// Keeps its connections apart from any other's.
    group_key: u64,
    tls: bool,
    /// A name, or an address without brackets.
    host: String,
    port: u16,
    host_header: HeaderValue,
    bearer: HeaderValue,
    options: PeerOptions,
    addresses: Addresses,
    breaker: Mutex<Breaker>,
    health: Option<Health>,
    /// What the health checks say, where there are any.
    is_alive: AtomicBool,
}

impl Upstream {
    /// An upstream by its settings; no other one has this `group_key`. A host that is an address needs no resolving.
    pub fn new(settings: &Settings, group_key: u64) -> Result<Self, SettingsError> {
        let wrong = || SettingsError::Url { base_url: settings.base_url.clone() };
        let authority = settings.base_url.authority().ok_or_else(wrong)?;
        let tls = match settings.base_url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let literal = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        Ok(Self {
            name: settings.name.clone(),
            group_key,
            tls,
            port,
            host_header: HeaderValue::from_str(authority.as_str()).map_err(SettingsError::Header)?,
            bearer: settings.key.bearer().map_err(SettingsError::Header)?,
            options: options(settings)?,
            addresses: Addresses::new(literal),
            breaker: Mutex::new(Breaker::new(settings.breaker)),
            health: settings.health.clone(),
            is_alive: AtomicBool::new(true),
            host,
        })
    }

    /// One of its addresses, in turn. `None`: none is known yet.
    pub fn peer(&self) -> Option<HttpPeer> {
        let address = self.addresses.next()?;
        // The server's name stays empty without TLS: a name there would be a connection of its own in the pool.
        let name = if self.tls { self.host.clone() } else { String::new() };
        let mut peer = HttpPeer::new(address, self.tls, name);
        peer.group_key = self.group_key;
        peer.options = self.options.clone();
        Some(peer)
    }

    /// Notes that no connection could be made to this peer of it.
    pub(super) fn avoid(&self, peer: &HttpPeer) {
        if let Some(address) = peer.address().as_inet() {
            self.addresses.avoid(address);
        }
    }

    /// What it is called.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// How it is asked whether it is there.
    pub(super) fn health(&self) -> Option<&Health> {
        self.health.as_ref()
    }

    /// Its breaker.
    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far its breaker is.
    pub(super) fn position(&self) -> Position {
        self.breaker().position()
    }

    /// Notes what a health check found.
    pub(super) fn set_alive(&self, is_alive: bool) {
        if self.is_alive.swap(is_alive, Ordering::Relaxed) != is_alive {
            tracing::warn!(upstream.name = %self.name, is_alive, "the health of an upstream has changed");
        }
    }

    /// Whether it answers, as far as its checks and the requests before tell.
    pub(super) fn is_up(&self, now: Timestamp) -> bool {
        self.is_alive.load(Ordering::Relaxed) && self.breaker().allows(now)
    }

    /// Whether a request would be sent to it now.
    pub(super) fn is_usable(&self, now: Timestamp) -> bool {
        self.is_up(now) && self.is_resolved()
    }

    /// The `Host` header.
    pub fn host(&self) -> HeaderValue {
        self.host_header.clone()
    }

    /// The `Authorization` header; marked as sensitive.
    pub fn bearer(&self) -> HeaderValue {
        self.bearer.clone()
    }

    /// Whether an address is known.
    pub fn is_resolved(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Keeps the addresses up to date until `shutdown` is true.
    pub async fn resolve(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        if self.host.parse::<IpAddr>().is_ok() {
            return;
        }
        let mut failing = false;
        loop {
            let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
            let found = found.map(Iterator::collect::<Vec<_>>).and_then(|found| {
                if found.is_empty() { Err(std::io::ErrorKind::NotFound.into()) } else { Ok(found) }
            });
            match found {
                Ok(found) => {
                    self.addresses.set(found);
                    failing = false;
                }
                Err(error) => {
                    metrics::counter!(super::metrics::RESOLVE_FAILURES).increment(1);
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(upstream.name = %self.name, host = self.host, %error, "the upstream's name does not resolve");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RESOLVE_EVERY) => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
        }
    }
}

fn options(settings: &Settings) -> Result<PeerOptions, SettingsError> {
    let mut options = PeerOptions::new();
    options.ca = settings.ca_file.as_deref().map(trusted).transpose()?;
    options.connection_timeout = Some(settings.connect_timeout);
    options.total_connection_timeout = Some(settings.connect_timeout * 2);
    options.read_timeout = Some(settings.read_timeout);
    options.write_timeout = Some(Duration::from_mins(1));
    // Below what upstreams keep idle connections: a POST on a connection that has just been closed is lost.
    options.idle_timeout = Some(Duration::from_secs(50));
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(30),
        interval: Duration::from_secs(10),
        count: 3,
        user_timeout: Duration::ZERO,
    });
    Ok(options)
}

/// The certificates in a file. Pingora would panic at one that is none, so they are tried here first.
fn trusted(path: &Path) -> Result<Arc<CaType>, SettingsError> {
    let pem = |source| SettingsError::Pem { path: path.to_owned(), source };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)?;
    if chain.is_empty() {
        return Err(pem(rustls::pki_types::pem::Error::NoItemsFound));
    }
    let mut roots = rustls::RootCertStore::empty();
    for certificate in &chain {
        let added = roots.add(certificate.clone());
        added.map_err(|source| SettingsError::Certificate { path: path.to_owned(), source })?;
    }
    Ok(chain.iter().map(|certificate| WrappedX509::new(certificate.to_vec(), parse_x509)).collect())
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("host", &self.host)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The settings of an upstream with this name at this URL.
    pub(in crate::proxy) fn settings(name: &str, base_url: &str) -> Settings {
        Settings {
            name: name.into(),
            base_url: base_url.parse().expect(base_url),
            key: Secret::new("sk-secret", "a test").expect("a secret"),
            ca_file: None,
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_mins(10),
            breaker: Rules::default(),
            health: None,
        }
    }

    #[test]
    fn an_address_needs_no_resolving_and_a_name_does() {
        let upstream = |base| Upstream::new(&settings("a", base), 1).expect(base);
        for (base, host) in [("http://127.0.0.1:9000", "127.0.0.1:9000"), ("http://[::1]:9000", "[::1]:9000")]
        {
            let upstream = upstream(base);
            let peer = upstream.peer().expect("known");
            assert_eq!((peer.is_tls(), peer.sni.as_str()), (false, ""), "{base}");
            assert_eq!(upstream.host(), host);
            assert!(upstream.is_usable(Timestamp::default()));
        }
        let named = upstream("https://api.openai.com");
        assert!(named.peer().is_none() && !named.is_usable(Timestamp::default()));
    }

    #[test]
    fn what_is_no_url_of_an_upstream_is_refused() {
        for base in ["api.openai.com", "ftp://api.openai.com", "/v1"] {
            assert!(Upstream::new(&settings("a", base), 1).is_err(), "{base}");
        }
    }

    #[test]
    fn a_file_without_certificates_to_trust_is_an_error_and_no_panic() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let damaged = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        for path in [write("empty.pem", ""), write("damaged.pem", damaged), folder.path().join("missing.pem")]
        {
            let settings = Settings { ca_file: Some(path), ..settings("a", "https://a") };
            let error = Upstream::new(&settings, 1).expect_err("no certificate");
            assert!(
                matches!(error, SettingsError::Pem { .. } | SettingsError::Certificate { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn the_key_is_never_shown() {
        let settings = settings("a", "https://a");
        let upstream = Upstream::new(&settings, 1).expect("settings");
        let shown = format!("{settings:?} {upstream:?} {:?}", upstream.bearer());
        assert!(!shown.contains("sk-secret"), "{shown}");
    }
}
