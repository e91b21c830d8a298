//! Asks the upstream for a job, with the gateway's own key.
//!
//! A blocking client on threads of its own is enough here: questions are few, and bounded by those who ask. Nothing of
//! an answer but its object is looked at, redirections are not followed, and no proxy is taken from the environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Uri};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::{AskError, Source, Told};
use crate::access::record::{JobKind, Resource};
use crate::config::Secret;
use crate::policy::compiled::Name;
use crate::units::Span;

/// How long an answer may take in all.
const TIMEOUT: Duration = Duration::from_secs(15);
/// No object is larger.
const OBJECT_BYTES_MAX: u64 = 64 << 20;
const POLL_AFTER: &str = "openai-poll-after-ms";
/// No id is longer.
const ID_BYTES_MAX: usize = 128;

/// Where jobs are made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name in the list, under which what is made there is looked for.
    pub name: Name,
    /// Scheme and host, perhaps a port and a path that stands in front of every route.
    pub base_url: Uri,
    /// Its key.
    pub key: Secret,
    /// Certificates that it is trusted by, in place of the machine's.
    pub ca_file: Option<PathBuf>,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
}

/// Why the upstream cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file holds no certificates.
    #[error("cannot read certificates from {}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The machine's certificates cannot be read.
    #[error("cannot read this machine's certificates")]
    Machine(#[source] std::io::Error),
    /// No header can carry its key.
    #[error("the upstream's key has characters that no header may have")]
    Header(#[source] http::header::InvalidHeaderValue),
}

/// The upstreams, to be asked.
pub struct Client(Vec<Arc<Upstream>>);

/// One upstream, to be asked.
struct Upstream {
    name: Name,
    agent: ureq::Agent,
    base: String,
    bearer: HeaderValue,
}

impl Client {
    /// A client of these upstreams; what is at none of them that has a name is at the first.
    pub fn new(settings: impl IntoIterator<Item = Settings>) -> Result<Self, SettingsError> {
        settings.into_iter().map(|settings| Upstream::new(&settings)).collect::<Result<_, _>>().map(Self)
    }

    fn upstream(&self, name: Option<&Name>) -> Option<&Arc<Upstream>> {
        match name {
            Some(name) => self.0.iter().find(|upstream| upstream.name == *name),
            None => self.0.first(),
        }
    }
}

impl Upstream {
    fn new(settings: &Settings) -> Result<Arc<Self>, SettingsError> {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent("overfall")
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_global(Some(TIMEOUT));
        if settings.base_url.scheme_str() == Some("https") {
            let roots = roots(settings.ca_file.as_deref())?;
            let trusted: Vec<_> = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
            let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(trusted)));
            config = config.tls_config(tls.build());
        }
        Ok(Arc::new(Self {
            name: settings.name.clone(),
            agent: ureq::Agent::new_with_config(config.build()),
            base: settings.base_url.to_string().trim_end_matches('/').to_owned(),
            bearer: settings.key.bearer().map_err(SettingsError::Header)?,
        }))
    }

    fn ask_now(&self, kind: JobKind, resource: &str) -> Result<Told, AskError> {
        let folder = match kind {
            JobKind::Video => "videos",
            JobKind::Response => "responses",
        };
        let asked = self.agent.get(format!("{}/v1/{folder}/{resource}", self.base));
        let answer = asked.header(http::header::AUTHORIZATION, &self.bearer).call();
        let mut answer = answer.map_err(|error| AskError::Unreachable(Box::new(error)))?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Ok(Told::Unknown),
            status => return Err(AskError::Status { status }),
        }
        let poll_after = answer.headers().get(POLL_AFTER).and_then(poll_after);
        let body = answer.body_mut().with_config().limit(OBJECT_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| AskError::Unreachable(Box::new(error)))?;
        let object = serde_json::from_slice(&body).map_err(AskError::Unreadable)?;
        Ok(Told::Object { object, poll_after })
    }
}

#[async_trait]
impl Source for Client {
    async fn ask(&self, kind: JobKind, resource: &Resource) -> Result<Told, AskError> {
        // What could change the path it stands in is no id; and an upstream that has left the list is asked no more.
        let upstream = self.upstream(resource.upstream.as_ref()).filter(|_| is_plain(&resource.id));
        let Some(upstream) = upstream.map(Arc::clone) else { return Ok(Told::Unknown) };
        let id = Arc::clone(&resource.id);
        let asked = tokio::task::spawn_blocking(move || upstream.ask_now(kind, &id)).await;
        asked.unwrap_or_else(|error| Err(AskError::Unreachable(Box::new(error))))
    }
}

/// When the upstream wishes to be asked again, by the value of its header.
pub fn poll_after(value: &HeaderValue) -> Option<Span> {
    value.to_str().ok()?.trim().parse().ok().map(Span::from_ms)
}

fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(plain)
}

fn roots(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let Some(path) = file else {
        return rustls_native_certs::load_native_certs().map_err(SettingsError::Machine);
    };
    let pem = |source| SettingsError::Pem { path: path.to_owned(), source };
    CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_change_a_path_is_no_id() {
        for (id, plain) in
            [("video_1-a", true), ("", false), ("a/b", false), ("..", false), ("a?b", false), ("a%2f", false)]
        {
            assert_eq!(is_plain(id), plain, "{id}");
        }
        assert!(!is_plain(&"a".repeat(ID_BYTES_MAX + 1)));
    }

    #[test]
    fn a_wish_is_a_whole_number_of_milliseconds() {
        for (value, expected) in [("300", Some(300)), ("0", Some(0)), ("1.5", None), ("-1", None), ("", None)]
        {
            let wished = poll_after(&HeaderValue::from_static(value));
            assert_eq!(wished, expected.map(Span::from_ms), "{value}");
        }
    }
}
