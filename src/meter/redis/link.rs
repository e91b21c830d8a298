//! How Redis is reached: one server, or the nodes of a cluster; in the open or over TLS.
//!
//! It is spoken to in RESP3, which every server has that is fit: there a connection that ends is heard of at once, also
//! where nobody waits for an answer (`sight`).

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redis::aio::{AsyncPushSender, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind, RedisError, TlsCertificates};

use super::sight::Sight;
use super::store::{CALL_MAX, CONNECT_MAX};

/// How long a call waits, in ms, before it is sent again to a cluster that is moving a slot.
const AGAIN_LEAST_MS: u64 = 10;
const AGAIN_MOST_MS: u64 = 100;

/// Where Redis is.
#[derive(Clone, Default)]
pub struct RedisAt {
    /// Its address, or those of nodes of a cluster. They may hold a password.
    pub urls: Vec<String>,
    /// Whether it is a cluster.
    pub is_cluster: bool,
    /// PEM file of certificates to trust instead of the machine's.
    pub ca_file: Option<PathBuf>,
}

/// Why it could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An address is not one.
    #[error("the address of redis is not right")]
    Address(#[source] RedisError),
    /// Certificates are named for a connection that would show none.
    #[error("`ca_file` is given for redis, so each of its addresses has to begin with rediss://")]
    InTheOpen,
    /// The certificates to trust cannot be read.
    #[error("the certificates that redis is trusted by cannot be read from {}", path.display())]
    Certificates {
        /// Where they stand.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It does not know the user, or the password is another.
    #[error("redis does not let the gateway in: see the user and the password in its address")]
    Stranger(#[source] RedisError),
    /// It was not reached.
    #[error("redis does not answer")]
    Unanswered(#[source] RedisError),
}

/// How Redis is reached.
#[derive(Clone)]
pub(super) enum Link {
    One(ConnectionManager),
    Cluster(ClusterConnection),
}

impl RedisAt {
    /// A server by itself, in the open.
    pub fn one(url: String) -> Self {
        Self { urls: vec![url], ..Self::default() }
    }

    /// Connects. A connection that ends later puts the store out of `sight`.
    pub(super) async fn connect(&self, sight: &Arc<Sight>) -> Result<Link, ConnectError> {
        let certificates = self.ca_file.as_deref().map(certificates).transpose()?;
        if certificates.is_some() && !self.urls.iter().all(|url| url.starts_with("rediss://")) {
            return Err(ConnectError::InTheOpen);
        }
        let sight = Arc::clone(sight);
        let hear = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                sight.lose();
            }
            Ok::<(), Infallible>(())
        };
        if self.is_cluster {
            self.cluster(certificates, hear).await
        } else {
            self.server(certificates, hear).await
        }
    }

    async fn cluster(
        &self,
        certificates: Option<TlsCertificates>,
        hear: impl AsyncPushSender,
    ) -> Result<Link, ConnectError> {
        let mut client = ClusterClientBuilder::new(self.urls.clone())
            .use_protocol(ProtocolVersion::RESP3)
            .push_sender(hear)
            .connection_timeout(CONNECT_MAX)
            .response_timeout(CALL_MAX)
            .min_retry_wait(AGAIN_LEAST_MS)
            .max_retry_wait(AGAIN_MOST_MS);
        if let Some(certificates) = certificates {
            client = client.certs(certificates);
        }
        let client = client.build().map_err(ConnectError::Address)?;
        Ok(Link::Cluster(client.get_async_connection().await.map_err(unconnected)?))
    }

    async fn server(
        &self,
        certificates: Option<TlsCertificates>,
        hear: impl AsyncPushSender,
    ) -> Result<Link, ConnectError> {
        let url = self.urls.first().map_or("", String::as_str);
        let server = url.into_connection_info().map_err(ConnectError::Address)?;
        let settings = server.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let server = server.set_redis_settings(settings);
        let client = match certificates {
            Some(certificates) => redis::Client::build_with_tls(server, certificates),
            None => redis::Client::open(server),
        };
        let settings = ConnectionManagerConfig::new()
            .set_push_sender(hear)
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(CALL_MAX));
        let client = client.map_err(ConnectError::Address)?;
        Ok(Link::One(ConnectionManager::new_with_config(client, settings).await.map_err(unconnected)?))
    }
}

fn certificates(path: &Path) -> Result<TlsCertificates, ConnectError> {
    let read = std::fs::read(path);
    let root = read.map_err(|source| ConnectError::Certificates { path: path.to_owned(), source })?;
    Ok(TlsCertificates { client_tls: None, root_cert: Some(root) })
}

fn unconnected(error: RedisError) -> ConnectError {
    // A cluster tells what its nodes said as text.
    let told = error.to_string();
    let is_stranger = ["WRONGPASS", "NOAUTH"].iter().any(|code| told.contains(code));
    if is_stranger { ConnectError::Stranger(error) } else { ConnectError::Unanswered(error) }
}
