//! A node of many: live counts in a Redis and books in a ledger that others use too; a journal of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{FolderLock, Node, OpenError, Parts, Settlement, Stores};
use crate::access::record::HoldRecord;
use crate::access::{Hold, Terms};
use crate::journal::{Frame, Journal};
use crate::ledger::directory::Directory;
use crate::ledger::shared::SharedLedger;
use crate::meter::memory::Recovered;
use crate::meter::redis::{Allowance, Attendant, Kept, OpenHold, Owed, RedisAt, RedisMeter, Store, Streams};
use crate::meter::{Meter, MeterError};
use crate::policy::compiled::Policy;
use crate::policy::live::Policies;
use crate::settle::{Follower, Keeper, SettlerStats, Worker};
use crate::units::PolicyVersion;
use crate::units::time::Clock;

/// Where live counts and books are that nodes share.
pub(in crate::cli) struct Shared {
    /// Where live counts are.
    pub(in crate::cli) redis: RedisAt,
    /// What may be given while it is away.
    pub(in crate::cli) allowance: Option<Allowance>,
    /// The books.
    pub(in crate::cli) ledger: Arc<dyn SharedLedger>,
}

impl Node {
    /// Opens a node on shared stores. What its last run left open ends at its floor; what was a job goes on.
    pub(in crate::cli) async fn open_shared(
        stores: &Stores,
        shared: Shared,
        policy: Arc<Policy>,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let lock = FolderLock::take(&stores.data)?;
        let ledger = shared.ledger;
        ledger.keep_policy(policy.version, &policy.text).await?;
        let policies = Arc::new(Policies::new(policy));
        let directory = Arc::new(Directory::default());
        let known = ledger.newest_change().await?;
        ledger.restore(&mut |row| directory.restore(&row)).await?;
        let read = |_, _: Frame<'_>| Ok(());
        let (journal, _) = Journal::open(&stores.data.join("journal"), stores.journal.clone(), read)?;
        let journal = Arc::new(journal);
        let store = Store::connect(&shared.redis, clock.clone()).await.map_err(OpenError::Connect)?;
        let meter = RedisMeter::open(
            store.clone(),
            clock.clone(),
            Arc::clone(&policies),
            ledger.clone(),
            Arc::clone(&journal),
            shared.allowance,
        );
        let meter = Arc::new(meter.await.map_err(OpenError::Unfit)?);
        let name = worker_name();
        let mut attendant =
            Attendant::new(name.clone(), home(&stores.data)?, Arc::clone(&meter), Arc::clone(&ledger));
        let kept = attendant.join().await.map_err(OpenError::Join)?;
        let recovered = floor(&meter, &policies, &kept).await?;
        let settled: Arc<SettlerStats> = Arc::default();
        let keeper = Keeper {
            journal: Arc::clone(&journal),
            ledger: Arc::clone(&ledger),
            began: meter.began(),
            stats: Arc::clone(&settled),
        };
        let worker = Worker {
            name,
            queue: Arc::new(Streams::new(store)),
            ledger: Arc::clone(&ledger),
            stats: Arc::default(),
            clock: clock.clone(),
        };
        let follower = Follower { ledger: Arc::clone(&ledger), directory: Arc::clone(&directory), known };
        let owed = meter.owed();
        let parts = Parts {
            clock,
            policies,
            directory,
            meter,
            ledger,
            journal,
            settled,
            settlement: Settlement::Queues(Queues { keeper, worker, follower, attendant, owed }),
            recovered,
            made: kept.made,
        };
        parts.start(stores, lock)
    }
}

/// How long a node that stops waits for the store to take what it owes.
const OWED_MAX: Duration = Duration::from_secs(5);

/// What a node of many does beside requests.
pub(super) struct Queues {
    keeper: Keeper,
    worker: Worker,
    follower: Follower,
    attendant: Attendant,
    owed: Owed,
}

impl Queues {
    /// Runs until `shutdown` is true and what this node made is in the books, as far as the stores answer.
    pub(super) async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let Self { keeper, worker, follower, attendant, owed } = self;
        let (settled, stopping) = watch::channel(false);
        let last = async {
            let _closed = shutdown.wait_for(|stop| *stop).await;
            let left = owed.settle(OWED_MAX).await;
            if left > 0 {
                tracing::error!(
                    calls = left,
                    "ends that redis has not taken: the next start charges their floor"
                );
            }
            settled.send_replace(true);
        };
        tokio::join!(
            last,
            keeper.run(stopping.clone()),
            worker.run(stopping.clone()),
            follower.run(stopping.clone()),
            attendant.run(stopping)
        );
    }
}

/// What a data folder is called, for ever.
fn home(data: &Path) -> Result<String, OpenError> {
    let path = data.join("node");
    let name = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = format!("{:032x}", rand::random::<u128>());
            std::fs::write(&path, &name).map(|()| name)
        }
        name => name,
    };
    name.map_err(|source| OpenError::Folder { path, source })
}

/// What no two workers are called: the process, and a word of its own.
pub(in crate::cli) fn worker_name() -> String {
    format!("{}-{:08x}", std::process::id(), rand::random::<u32>())
}

/// Ends what the last run left in flight at its floor, but for jobs.
async fn floor(meter: &RedisMeter, policies: &Policies, kept: &Kept) -> Result<Recovered, OpenError> {
    let mut recovered = Recovered { records: kept.records, ..Recovered::default() };
    for (decision, OpenHold { hold: record, job }) in &kept.open {
        if job.is_some() {
            recovered.jobs += 1;
            continue;
        }
        let (used, ending) = hold(record, policies, record.policy)?.at_crash();
        match meter.finish(record.account, *decision, used, ending).await {
            Ok(_) => recovered.floored += 1,
            // It had ended, and the journal had not heard.
            Err(MeterError::NoSuchHold) => {}
            Err(error) => return Err(OpenError::Floor(error)),
        }
    }
    Ok(recovered)
}

fn hold(record: &HoldRecord, policies: &Policies, version: PolicyVersion) -> Result<Hold, OpenError> {
    let policy = policies.version(version);
    let terms = policy.and_then(|policy| Terms::of_record(record, policy));
    Ok(Hold::of_record(record, terms.ok_or(OpenError::OldPolicy { version })?))
}
