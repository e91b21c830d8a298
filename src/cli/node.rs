//! One node: the stores opened, live state restored from ledger and journal, and the workers that keep them.

mod shared;

use shared::Queues;
pub(super) use shared::{Shared, worker_name};

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::admin::{Operator, Readiness};
use crate::config::{LedgerAt, Secret};

use crate::access::record::MadeRecord;
use crate::journal::{self, Frame, Journal};
use crate::ledger::directory::Directory;
use crate::ledger::postgres::PostgresLedger;
use crate::ledger::sqlite::SqliteLedger;
use crate::ledger::{Ledger, LedgerError};
use crate::meter::memory::{RecoverError, Recovered, Restoring};
use crate::meter::redis;
use crate::meter::{Meter, MeterError};
use crate::policy::compiled::Policy;
use crate::policy::live::Policies;
use crate::settle::{BlockLog, BlockSender, Progress, Retention, Settler, SettlerStats, Sweeper};
use crate::telemetry::Exposition;
use crate::units::time::Clock;
use crate::units::{PolicyVersion, Span};

/// How often is looked for ownership records that are past their time.
const FORGET_EVERY: Duration = Duration::from_mins(1);

/// Where a node keeps its state.
#[derive(Clone, Debug)]
pub struct Stores {
    /// The folder of the journal and of embedded stores. One process at a time.
    pub data: PathBuf,
    /// Where the books are.
    pub ledger: LedgerAt,
    /// How the journal is kept.
    pub journal: journal::Options,
    /// How long it is known whose a thing made upstream is.
    pub owned: Span,
}

/// Why a node could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder could not be made, or nothing can be written there.
    #[error("the data folder {} cannot be made or written to", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has the folder.
    #[error("the data folder {} is in use by process {holder}: stop it first, or name another folder", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
        /// Its process id.
        holder: String,
    },
    /// No thread for the workers.
    #[error("the settlement thread did not start")]
    Thread(#[source] std::io::Error),
    /// The journal did not open.
    #[error("the journal did not open")]
    Journal(#[from] journal::OpenError),
    /// The ledger did not open.
    #[error("the ledger did not open")]
    Ledger(#[from] crate::ledger::sqlite::OpenError),
    /// The ledger on a server did not open.
    #[error("the ledger did not open")]
    Server(#[from] crate::ledger::postgres::OpenError),
    /// The ledger could not be read.
    #[error("the ledger could not be read")]
    Restore(#[from] LedgerError),
    /// Live state could not be made.
    #[error("live state could not be restored")]
    Recover(#[from] RecoverError),
    /// Redis could not be connected to.
    #[error("redis could not be connected to")]
    Connect(#[source] redis::ConnectError),
    /// Live counts cannot be kept in Redis as it is.
    #[error("live counts cannot be kept in redis")]
    Unfit(#[source] redis::Unfit),
    /// The epoch of live counts could not be joined.
    #[error("the live counts of all nodes could not be joined")]
    Join(#[source] redis::AttendError),
    /// A hold that a crash left open could not be ended.
    #[error("a hold that was open could not be ended")]
    Floor(#[source] MeterError),
    /// A policy in the books is not one that this version reads.
    #[error("policy {version}, which open holds were decided by, cannot be read any more")]
    OldPolicy {
        /// Which.
        version: PolicyVersion,
    },
}

/// An open node.
pub struct Node {
    /// What time it is.
    pub clock: Clock,
    /// The policy in force.
    pub policies: Arc<Policies>,
    /// Who may call.
    pub directory: Arc<Directory>,
    /// Live counts.
    pub meter: Arc<dyn Meter>,
    /// The books.
    pub ledger: Arc<dyn Ledger>,
    /// What is on its way to the books.
    pub journal: Arc<Journal>,
    /// Takes blocked decisions for the log.
    pub blocks: BlockSender,
    /// What settlement has done.
    pub settled: Arc<SettlerStats>,
    /// What was taken up again.
    pub recovered: Recovered,
    made: Mutex<Vec<MadeRecord>>,
    shutdown: watch::Sender<bool>,
    worker: Mutex<Option<JoinHandle<()>>>,
    _lock: FolderLock,
}

/// The workers of a node: one thread of their own, so that what settlement costs can be seen and never delays a request.
struct Workers {
    settlement: Settlement,
    sweeper: Sweeper,
    retention: Retention,
    blocks: BlockLog,
}

/// Who brings records to the books.
enum Settlement {
    /// The journal is the queue.
    Journal(Settler),
    /// The records are in queues that workers share, and the journal keeps what this node made.
    Queues(Queues),
}

/// An open node whose workers do not run yet.
struct Parts {
    clock: Clock,
    policies: Arc<Policies>,
    directory: Arc<Directory>,
    meter: Arc<dyn Meter>,
    ledger: Arc<dyn Ledger>,
    journal: Arc<Journal>,
    settled: Arc<SettlerStats>,
    settlement: Settlement,
    recovered: Recovered,
    made: Vec<MadeRecord>,
}

impl Parts {
    fn start(self, stores: &Stores, lock: FolderLock) -> Result<Node, OpenError> {
        let Self { clock, policies, directory, meter, ledger, journal, settled, settlement, recovered, made } =
            self;
        let (log, blocks) = BlockLog::new(Arc::clone(&ledger));
        let sweeper = Sweeper { meter: Arc::clone(&meter), every: Duration::from_secs(1) };
        let retention = Retention {
            ledger: Arc::clone(&ledger),
            clock: clock.clone(),
            keep: stores.owned,
            every: FORGET_EVERY,
        };
        let (shutdown, stopping) = watch::channel(false);
        let workers = Workers { settlement, sweeper, retention, blocks: log };
        let worker = workers.start(stopping).map_err(OpenError::Thread)?;
        Ok(Node {
            clock,
            policies,
            directory,
            meter,
            ledger,
            journal,
            blocks,
            settled,
            recovered,
            made: Mutex::new(made),
            shutdown,
            worker: Mutex::new(Some(worker)),
            _lock: lock,
        })
    }
}

impl Node {
    /// Opens the stores and restores live state: the books, then what the journal has beyond them, then the holds that
    /// were open, which end at their floor.
    pub async fn open(stores: &Stores, policy: Arc<Policy>, clock: Clock) -> Result<Self, OpenError> {
        let lock = FolderLock::take(&stores.data)?;
        let ledger = open_ledger(&stores.ledger).await?;
        ledger.keep_policy(policy.version, &policy.text).await?;
        let policies = Arc::new(Policies::new(policy));
        let directory = Arc::new(Directory::default());
        let mut restoring = Restoring::new(clock.clone());
        ledger
            .restore(&mut |row| {
                directory.restore(&row);
                restoring.row(&row);
            })
            .await?;
        let each = |_, frame: Frame<'_>| Ok(restoring.frame(frame.payload)?);
        let (journal, recovery) = Journal::open(&stores.data.join("journal"), stores.journal.clone(), each)?;
        restoring.keep_open(&recovery.open);
        let made = restoring.take_made();
        let journal = Arc::new(journal);
        know_policies(&restoring, &policies, &*ledger).await?;
        let (meter, recovered) =
            restoring.meter(Arc::clone(&journal), |version| policies.version(version))?;
        let meter = Arc::new(meter);
        let booked = Arc::clone(&meter);
        let settler =
            Settler::new(Arc::clone(&journal), Arc::clone(&ledger), move |what| booked.booked(what));
        let parts = Parts {
            clock,
            policies,
            directory,
            meter,
            ledger,
            journal,
            settled: settler.stats(),
            settlement: Settlement::Journal(settler),
            recovered,
            made,
        };
        parts.start(stores, lock)
    }

    /// What the operator's routes act on.
    pub fn operator(
        &self,
        token: Secret,
        exposition: Option<Exposition>,
        reload: Arc<Notify>,
    ) -> Arc<Operator> {
        Arc::new(Operator {
            clock: self.clock.clone(),
            policies: Arc::clone(&self.policies),
            directory: Arc::clone(&self.directory),
            meter: self.meter.clone(),
            ledger: Arc::clone(&self.ledger),
            readiness: Readiness::new(Arc::clone(&self.journal)),
            settled: Arc::clone(&self.settled),
            exposition,
            token,
            reload,
            grant_order: tokio::sync::Mutex::new(()),
            closing: AtomicBool::new(false),
        })
    }

    /// What was made upstream, as far as the journal still tells of it: the books may not have it yet.
    pub fn take_made(&self) -> Vec<MadeRecord> {
        std::mem::take(&mut self.made.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until what is journalled is booked, as long as the ledger answers.
    pub async fn settle(&self) {
        let failures = self.settled.failures.load(Ordering::Relaxed);
        while self.settled.position.load(Ordering::Acquire) < self.journal.stats().next.value()
            && self.settled.failures.load(Ordering::Relaxed) == failures
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// How far the books are behind the journal.
    pub fn progress(&self) -> Progress {
        Progress { journal: Arc::clone(&self.journal), settled: Arc::clone(&self.settled) }
    }

    /// Ends the workers once everything durable is booked, and closes the journal. Blocks.
    pub fn close(&self) {
        self.shutdown.send_replace(true);
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if worker.is_some_and(|worker| worker.join().is_err()) {
            tracing::error!("the settlement thread had panicked");
        }
        if let Err(error) = self.journal.close() {
            tracing::error!(error = %crate::telemetry::chain(&error), "the journal did not close");
        }
    }
}

impl Settlement {
    async fn run(self, shutdown: watch::Receiver<bool>) {
        match self {
            Self::Journal(settler) => settler.run(shutdown).await,
            Self::Queues(queues) => queues.run(shutdown).await,
        }
    }
}

impl Workers {
    /// Runs until `shutdown` is true and everything durable is booked.
    fn start(self, shutdown: watch::Receiver<bool>) -> std::io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("settle".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::join!(
                    self.settlement.run(shutdown.clone()),
                    self.sweeper.run(shutdown.clone()),
                    self.retention.run(shutdown.clone()),
                    self.blocks.run(shutdown)
                );
            });
        })
    }
}

/// Opens the books: the one place that knows the stores by their types.
async fn open_ledger(at: &LedgerAt) -> Result<Arc<dyn Ledger>, OpenError> {
    Ok(match at {
        LedgerAt::File(path) => Arc::new(SqliteLedger::open(path)?),
        LedgerAt::Server(address) => Arc::new(PostgresLedger::open(address.as_address()).await?),
    })
}

/// Keeps a data folder to one process.
pub(super) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes it, or tells who has it.
    pub(super) fn take(data: &Path) -> Result<Self, OpenError> {
        let folder = |source| OpenError::Folder { path: data.to_owned(), source };
        std::fs::create_dir_all(data).map_err(folder)?;
        let path = data.join("lock");
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(folder)?;
        if file.try_lock().is_err() {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(folder)?;
            return Err(OpenError::InUse { path: data.to_owned(), holder: holder.trim().to_owned() });
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(folder)?;
        Ok(Self { _file: file })
    }
}

/// Brings the policies that open holds were decided by back from the books.
async fn know_policies(
    restoring: &Restoring,
    policies: &Policies,
    ledger: &dyn Ledger,
) -> Result<(), OpenError> {
    for version in restoring.policies() {
        if policies.version(version).is_none()
            && let Some(text) = ledger.policy(version).await?
        {
            let policy = crate::policy::load::parse("a policy in the books", &text);
            policies.remember(Arc::new(policy.map_err(|_| OpenError::OldPolicy { version })?));
        }
    }
    Ok(())
}
