//! One node: the stores opened, live state restored from ledger and journal, and the workers that keep them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::journal::{self, Frame, Journal};
use crate::ledger::directory::Directory;
use crate::ledger::sqlite::SqliteLedger;
use crate::ledger::{Ledger, LedgerError};
use crate::meter::memory::{MemoryMeter, RecoverError, Recovered, Restoring};
use crate::policy::compiled::Policy;
use crate::policy::live::Policies;
use crate::settle::{BlockLog, BlockSender, Settler, SettlerStats, Sweeper};
use crate::units::PolicyVersion;
use crate::units::time::Clock;

/// Where a node keeps its state.
#[derive(Clone, Debug)]
pub struct Stores {
    /// The folder of journal and ledger. One process at a time.
    pub data: PathBuf,
    /// How the journal is kept.
    pub journal: journal::Options,
}

/// Why a node could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder could not be made.
    #[error("the data folder {} cannot be made", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The journal did not open; it also says which other process has the folder.
    #[error("the journal did not open")]
    Journal(#[from] journal::OpenError),
    /// The ledger did not open.
    #[error("the ledger did not open")]
    Ledger(#[from] crate::ledger::sqlite::OpenError),
    /// The ledger could not be read.
    #[error("the ledger could not be read")]
    Restore(#[from] LedgerError),
    /// Live state could not be made.
    #[error("live state could not be restored")]
    Recover(#[from] RecoverError),
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
    pub meter: Arc<MemoryMeter>,
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
    workers: Mutex<Option<Workers>>,
}

/// The workers of a node, to be run on one runtime.
pub struct Workers {
    settler: Settler,
    sweeper: Sweeper,
    blocks: BlockLog,
}

impl Node {
    /// Opens the stores and restores live state: the books, then what the journal has beyond them, then the holds that
    /// were open, which end at their floor.
    pub async fn open(stores: &Stores, policy: Arc<Policy>, clock: Clock) -> Result<Self, OpenError> {
        let folder = |source| OpenError::Folder { path: stores.data.clone(), source };
        std::fs::create_dir_all(&stores.data).map_err(folder)?;
        let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(&stores.data.join("ledger.sqlite"))?);
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
        let (journal, _) = Journal::open(&stores.data.join("journal"), stores.journal.clone(), each)?;
        let journal = Arc::new(journal);
        know_policies(&restoring, &policies, &*ledger).await?;
        let (meter, recovered) = restoring.meter(Arc::clone(&journal), |version| policies.version(version))?;
        let meter = Arc::new(meter);
        let (log, blocks) = BlockLog::new(Arc::clone(&ledger));
        let booked = Arc::clone(&meter);
        let settler = Settler::new(Arc::clone(&journal), Arc::clone(&ledger), move |grant| booked.booked(grant));
        let settled = settler.stats();
        let sweeper = Sweeper { meter: meter.clone(), every: std::time::Duration::from_secs(1) };
        let workers = Mutex::new(Some(Workers { settler, sweeper, blocks: log }));
        Ok(Self { clock, policies, directory, meter, ledger, journal, blocks, settled, recovered, workers })
    }

    /// The workers, once.
    pub fn workers(&self) -> Option<Workers> {
        self.workers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

impl Workers {
    /// Runs until `shutdown` is true and everything durable is booked.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        tokio::join!(
            self.settler.run(shutdown.clone()),
            self.sweeper.run(shutdown.clone()),
            self.blocks.run(shutdown)
        );
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
