//! Where allowed requests go: the addresses behind a host name, and the key that stands in for the client's.
//!
//! Names are resolved in the background, because Pingora resolves them while it blocks a thread, and panics where it
//! cannot. A name that stops resolving keeps the addresses it had. Without any address requests are refused.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::{HttpPeer, PeerOptions};
use tokio::sync::watch;

/// How often names are resolved.
const RESOLVE_EVERY: Duration = Duration::from_secs(5);
/// Keeps this upstream's connections apart from any other's.
const GROUP_KEY: u64 = 1;

/// Where an upstream is: `https://host`, `http://host:port/path`.
///
/// A `/v1` at the end is left out: routes bring it along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

/// Text that is no base URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a base URL such as https://api.openai.com: {why}")]
pub struct BaseUrlError {
    why: &'static str,
}

/// An upstream.
#[derive(Clone)]
pub struct Settings {
    /// Where it is.
    pub base: BaseUrl,
    /// Its key; sent as `Authorization: Bearer`, never shown.
    pub key: Option<Secret>,
    /// Certificates to trust in place of the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// How long it may be silent.
    pub read_timeout: Duration,
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why an upstream cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The key has characters that no header can carry.
    #[error("the upstream's key has characters that no header can carry")]
    Key,
    /// The host's name has.
    #[error("the upstream's host is not a name")]
    Host,
}

/// An upstream in use.
pub struct Upstream {
    base: BaseUrl,
    host: HeaderValue,
    bearer: Option<HeaderValue>,
    options: PeerOptions,
    addresses: ArcSwap<Vec<SocketAddr>>,
    turn: AtomicUsize,
}

impl Upstream {
    /// An upstream by its settings. A host that is an address needs no resolving.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let base = settings.base.clone();
        let literal = base.host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let addresses: Vec<_> = literal.map(|ip| SocketAddr::new(ip, base.port)).into_iter().collect();
        Ok(Self {
            host: HeaderValue::from_str(&base.authority()).map_err(|_| SettingsError::Host)?,
            bearer: settings.key.as_ref().map(bearer).transpose()?,
            options: options(settings),
            addresses: ArcSwap::from_pointee(addresses),
            turn: AtomicUsize::new(0),
            base,
        })
    }

    /// One of its addresses, in turn. `None`: none is known yet.
    pub fn peer(&self) -> Option<HttpPeer> {
        let addresses = self.addresses.load();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let address = *addresses.get(turn % addresses.len().max(1))?;
        // The server's name stays empty without TLS: a name there would be a connection of its own in the pool.
        let name = if self.base.tls { self.base.host.clone() } else { String::new() };
        let mut peer = HttpPeer::new(address, self.base.tls, name);
        peer.group_key = GROUP_KEY;
        peer.options = self.options.clone();
        Some(peer)
    }

    /// The path in front of every route.
    pub fn path(&self) -> &str {
        &self.base.path
    }

    /// The `Host` header.
    pub fn host(&self) -> HeaderValue {
        self.host.clone()
    }

    /// The `Authorization` header; marked as sensitive.
    pub fn bearer(&self) -> Option<HeaderValue> {
        self.bearer.clone()
    }

    /// Whether an address is known.
    pub fn is_resolved(&self) -> bool {
        !self.addresses.load().is_empty()
    }

    /// Keeps the addresses up to date until `shutdown` is true.
    pub async fn resolve(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        if self.base.host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return;
        }
        let mut failing = false;
        loop {
            let found = tokio::net::lookup_host((self.base.host.as_str(), self.base.port)).await;
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
                        tracing::warn!(host = self.base.host, %error, "the upstream's name does not resolve");
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

fn bearer(key: &Secret) -> Result<HeaderValue, SettingsError> {
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", key.0)).map_err(|_| SettingsError::Key)?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

fn options(settings: &Settings) -> PeerOptions {
    let mut options = PeerOptions::new();
    options.connection_timeout = Some(Duration::from_secs(3));
    options.total_connection_timeout = Some(Duration::from_secs(6));
    options.read_timeout = Some(settings.read_timeout);
    options.write_timeout = Some(Duration::from_secs(60));
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

impl Settings {
    /// An upstream with the usual patience.
    pub fn new(base: BaseUrl, key: Option<Secret>) -> Self {
        Self { base, key, ca_file: None, read_timeout: Duration::from_secs(600) }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("base", &self.base)
            .field("key", &self.key)
            .field("ca_file", &self.ca_file)
            .field("read_timeout", &self.read_timeout)
            .finish()
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("base", &self.base)
            .field("addresses", &self.addresses.load())
            .finish_non_exhaustive()
    }
}

impl Secret {
    /// Text that is never shown; blanks around it are left out.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl BaseUrl {
    fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let because = |why| BaseUrlError { why };
        let uri: http::Uri = text.parse().map_err(|_| because("it is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(because("it begins neither with https:// nor with http://")),
        };
        let authority = uri.authority().ok_or_else(|| because("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(because("a user or password has no place in it"));
        }
        if uri.query().is_some() {
            return Err(because("a query has no place in it"));
        }
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path);
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host: authority.host().to_owned(), port, path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_read_with_or_without_its_version() {
        for (text, shown) in [
            ("https://api.openai.com", "https://api.openai.com"),
            ("https://api.openai.com/v1", "https://api.openai.com"),
            ("https://api.openai.com/v1/", "https://api.openai.com"),
            ("http://127.0.0.1:9000/openai/v1", "http://127.0.0.1:9000/openai"),
            ("http://[::1]:9000", "http://[::1]:9000"),
        ] {
            assert_eq!(text.parse::<BaseUrl>().map(|base| base.to_string()), Ok(shown.to_owned()), "{text}");
        }
        for text in ["", "api.openai.com", "ftp://a", "https://", "https://me:pw@a", "https://a?b", "/v1"] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_needs_no_resolving_and_a_name_does() {
        let upstream = |base: &str| {
            let settings = Settings::new(base.parse().expect(base), Some(Secret::new(" sk-secret\n")));
            Upstream::new(&settings).expect(base)
        };
        for base in ["http://127.0.0.1:9000", "http://[::1]:9000"] {
            let peer = upstream(base).peer().expect("known");
            assert_eq!((peer.is_tls(), peer.sni.as_str()), (false, ""), "{base}");
        }
        assert!(upstream("https://api.openai.com").peer().is_none());
    }

    #[test]
    fn the_key_is_never_shown() {
        let settings = Settings::new("https://a".parse().expect("URL"), Some(Secret::new("sk-secret")));
        let upstream = Upstream::new(&settings).expect("settings");
        let shown = format!("{settings:?} {upstream:?} {:?}", upstream.bearer());
        assert!(!shown.contains("sk-secret"), "{shown}");
        let bad = Settings { key: Some(Secret::new("a\nb")), ..settings };
        assert_eq!(Upstream::new(&bad).err(), Some(SettingsError::Key));
    }
}
