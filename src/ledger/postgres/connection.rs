//! Connections: where the server is, who the gateway is there, how long anything may take.
//!
//! A runtime of the ledger's own drives them, on one thread: they live as long as the ledger, whoever asks for
//! something, and what was begun is done even if nobody waits for it any more.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long to wait for a connection.
const CONNECT_FOR: Duration = Duration::from_secs(3);
/// How long a piece of work may take; a statement of it less.
pub(super) const WORK_FOR: Duration = Duration::from_secs(20);
/// Connections that read at the same time.
const READERS: usize = 4;
/// What every kept connection asks of the server: an end to everything, and that a commit is on disk when it is told.
const BOUNDS: &str = "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=15s \
     -c synchronous_commit=on";
/// Who books, and who only reads; made with the tables.
const WRITER: &str = "overfall_writer";
const READER: &str = "overfall_reader";
/// Held while tables are made.
const MIGRATION_LOCK: i64 = 7_378;

mod schema {
    refinery::embed_migrations!("src/ledger/postgres/schema");
}

/// Why the ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not the address of a PostgreSQL server. What was given is not shown: it may hold a password.
    #[error(
        "the address of the ledger is none of a PostgreSQL server: postgres://user:password@host:port/database"
    )]
    Address,
    /// No certificates to trust.
    #[error("the machine has no certificates to trust a PostgreSQL server by")]
    Certificates,
    /// The runtime did not start.
    #[error("the ledger's thread did not start")]
    Thread(#[source] std::io::Error),
    /// The runtime has ended.
    #[error("the ledger is closed")]
    Closed,
    /// Connections cannot be kept.
    #[error("the ledger's connections cannot be kept")]
    Pool(#[source] deadpool_postgres::BuildError),
    /// The server does not let the gateway in, or is not there.
    #[error("the PostgreSQL server cannot be reached")]
    Connect(#[source] tokio_postgres::Error),
    /// The tables cannot be brought to what this program knows.
    #[error("the ledger's tables are not what this program knows")]
    Schema(#[source] Box<refinery::Error>),
    /// They were made by a newer program.
    #[error("the ledger's tables are of version {found}; this program knows them up to {known}")]
    Newer {
        /// The version there.
        found: i32,
        /// The version here.
        known: i32,
    },
}

/// Where a ledger is, read from its address.
#[derive(Clone)]
pub(super) struct Server {
    config: Config,
    tls: MakeRustlsConnect,
}

impl Server {
    /// Reads an address. A server that is not on this machine has to speak TLS, unless the address says otherwise.
    pub(super) fn of(address: &str) -> Result<Self, OpenError> {
        let mut config = Config::from_str(address).map_err(|_| OpenError::Address)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(OpenError::Address);
        }
        config.application_name("overfall").connect_timeout(CONNECT_FOR).tcp_user_timeout(WORK_FOR);
        config.keepalives_idle(Duration::from_secs(30));
        if !is_here(&config) && !address.contains("sslmode") {
            config.ssl_mode(SslMode::Require);
        }
        Ok(Self { tls: MakeRustlsConnect::new(tls(&config)?), config })
    }

    /// The same, as another role and with more settings.
    fn as_role(&self, role: &str, more: &str) -> Config {
        let mut config = self.config.clone();
        config.options(format!("-c role={role} {more}"));
        config
    }

    /// A few connections that are kept.
    fn pool(&self, role: &str, size: usize) -> Result<Pool, OpenError> {
        let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(self.as_role(role, BOUNDS), self.tls.clone(), recycle);
        let pool = Pool::builder(manager)
            .max_size(size)
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .wait_timeout(Some(WORK_FOR))
            .create_timeout(Some(CONNECT_FOR))
            .recycle_timeout(Some(CONNECT_FOR))
            .build();
        pool.map_err(OpenError::Pool)
    }

    /// The connection that books.
    pub(super) fn writer(&self) -> Result<Pool, OpenError> {
        self.pool(WRITER, 1)
    }

    /// Those that look things up.
    pub(super) fn readers(&self) -> Result<Pool, OpenError> {
        self.pool(READER, READERS)
    }

    /// A connection that only reads, for as long as it takes.
    pub(super) async fn reader(&self) -> Result<Client, tokio_postgres::Error> {
        self.connect(&self.as_role(READER, "-c work_mem=64MB")).await
    }

    /// A connection that books, beside the one that is kept.
    pub(super) async fn booking(&self) -> Result<Client, tokio_postgres::Error> {
        self.connect(&self.as_role(WRITER, BOUNDS)).await
    }

    /// A connection as whoever owns the tables.
    async fn owner(&self) -> Result<Client, tokio_postgres::Error> {
        self.connect(&self.config).await
    }

    async fn connect(&self, config: &Config) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = config.connect(self.tls.clone()).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(error = %crate::telemetry::chain(&error), "a connection to the ledger has ended");
            }
        });
        Ok(client)
    }

    /// Makes the tables, or brings them up to date. One process at a time; where they are what they should be, nothing
    /// but reading them is asked for.
    pub(super) async fn migrate(&self) -> Result<(), OpenError> {
        let mut client = self.owner().await.map_err(OpenError::Connect)?;
        let runner = schema::migrations::runner();
        let known =
            runner.get_migrations().iter().map(refinery::Migration::version).max().unwrap_or_default();
        let is_made = "SELECT to_regclass('refinery_schema_history') IS NOT NULL";
        if client.query_one(is_made, &[]).await.map_err(OpenError::Connect)?.get(0) {
            let newest = "SELECT coalesce(max(version), 0) FROM refinery_schema_history";
            let found: i32 = client.query_one(newest, &[]).await.map_err(OpenError::Connect)?.get(0);
            match found.cmp(&known) {
                std::cmp::Ordering::Equal => return Ok(()),
                std::cmp::Ordering::Greater => return Err(OpenError::Newer { found, known }),
                std::cmp::Ordering::Less => {}
            }
        }
        // Ends with the connection.
        client
            .execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK])
            .await
            .map_err(OpenError::Connect)?;
        let migrated = runner.run_async(&mut client).await;
        migrated.map_err(|error| OpenError::Schema(Box::new(error)))?;
        Ok(())
    }
}

/// Whether all of it is this machine.
fn is_here(config: &Config) -> bool {
    use tokio_postgres::config::Host;
    config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
        && config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost"
                    || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
            }
        })
}

/// Trusts whom the machine trusts.
fn tls(config: &Config) -> Result<ClientConfig, OpenError> {
    let mut roots = RootCertStore::empty();
    if config.get_ssl_mode() != SslMode::Disable {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().unwrap_or_default());
        if roots.is_empty() && config.get_ssl_mode() == SslMode::Require {
            return Err(OpenError::Certificates);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| OpenError::Certificates)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
