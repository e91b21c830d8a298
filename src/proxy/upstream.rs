//! Where allowed requests go: the addresses behind a host name, and the key that stands in for the client's.
//!
//! Names are resolved in the background, because Pingora resolves them while it blocks a thread, and panics where it
//! cannot. A name that stops resolving keeps the addresses it had. Without any address requests are refused.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderValue, Uri};
use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::{HttpPeer, PeerOptions};
use tokio::sync::watch;

use crate::config::Secret;

/// How often names are resolved.
const RESOLVE_EVERY: Duration = Duration::from_secs(5);
/// Keeps this upstream's connections apart from any other's.
const GROUP_KEY: u64 = 1;

/// An upstream.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Scheme and host, perhaps a port and a path that stands in front of every route.
    pub base_url: Uri,
    /// Its key.
    pub key: Secret,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for the next bytes of an answer.
    pub read_timeout: Duration,
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
}

/// An upstream in use.
pub struct Upstream {
    tls: bool,
    /// A name, or an address without brackets.
    host: String,
    port: u16,
    path: String,
    host_header: HeaderValue,
    bearer: HeaderValue,
    options: PeerOptions,
    addresses: ArcSwap<Vec<SocketAddr>>,
    turn: AtomicUsize,
}

impl Upstream {
    /// An upstream by its settings. A host that is an address needs no resolving.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
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
            tls,
            port,
            path: settings.base_url.path().trim_end_matches('/').to_owned(),
            host_header: HeaderValue::from_str(authority.as_str()).map_err(SettingsError::Header)?,
            bearer: settings.key.bearer().map_err(SettingsError::Header)?,
            options: options(settings),
            addresses: ArcSwap::from_pointee(literal.into_iter().collect()),
            turn: AtomicUsize::new(0),
            host,
        })
    }

    /// One of its addresses, in turn. `None`: none is known yet.
    pub fn peer(&self) -> Option<HttpPeer> {
        let addresses = self.addresses.load();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let address = *addresses.get(turn % addresses.len().max(1))?;
        // The server's name stays empty without TLS: a name there would be a connection of its own in the pool.
        let name = if self.tls { self.host.clone() } else { String::new() };
        let mut peer = HttpPeer::new(address, self.tls, name);
        peer.group_key = GROUP_KEY;
        peer.options = self.options.clone();
        Some(peer)
    }

    /// The path in front of every route.
    pub fn path(&self) -> &str {
        &self.path
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
        !self.addresses.load().is_empty()
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
                Ok(mut found) => {
                    found.sort_unstable();
                    self.addresses.store(Arc::new(found));
                    failing = false;
                }
                Err(error) => {
                    metrics::counter!(super::metrics::RESOLVE_FAILURES).increment(1);
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(host = self.host, %error, "the upstream's name does not resolve");
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

fn options(settings: &Settings) -> PeerOptions {
    let mut options = PeerOptions::new();
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
    options
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("host", &self.host)
            .field("addresses", &self.addresses.load())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(base_url: &str) -> Settings {
        Settings {
            base_url: base_url.parse().expect(base_url),
            key: Secret::new("sk-secret", "a test").expect("a secret"),
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_mins(10),
        }
    }

    #[test]
    fn an_address_needs_no_resolving_and_a_name_does() {
        let upstream = |base| Upstream::new(&settings(base)).expect(base);
        for (base, host) in
            [("http://127.0.0.1:9000/a/", "127.0.0.1:9000"), ("http://[::1]:9000/a", "[::1]:9000")]
        {
            let upstream = upstream(base);
            let peer = upstream.peer().expect("known");
            assert_eq!((peer.is_tls(), peer.sni.as_str(), upstream.path()), (false, "", "/a"), "{base}");
            assert_eq!(upstream.host(), host);
        }
        assert!(upstream("https://api.openai.com").peer().is_none());
    }

    #[test]
    fn what_is_no_url_of_an_upstream_is_refused() {
        for base in ["api.openai.com", "ftp://api.openai.com", "/v1"] {
            assert!(Upstream::new(&settings(base)).is_err(), "{base}");
        }
    }

    #[test]
    fn the_key_is_never_shown() {
        let settings = settings("https://a");
        let upstream = Upstream::new(&settings).expect("settings");
        let shown = format!("{settings:?} {upstream:?} {:?}", upstream.bearer());
        assert!(!shown.contains("sk-secret"), "{shown}");
    }
}
