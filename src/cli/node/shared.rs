//! A node of many: live counts in a Redis and books in a ledger that others use too; a journal of its own.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{FolderLock, Node, OpenError, Parts, Settlement, Stores};
use crate::access::record::{HoldRecord, JobRecord, MadeRecord, Record};
use crate::access::{Hold, Terms};
use crate::journal::{self, Frame, Journal, Position};
use crate::ledger::directory::Directory;
use crate::ledger::shared::SharedLedger;
use crate::meter::memory::{RecoverError, Recovered};
use crate::meter::redis::{Owed, RedisMeter, Store, Streams};
use crate::meter::{ENDED_ELSEWHERE, Meter, MeterError};
use crate::policy::compiled::Policy;
use crate::policy::live::Policies;
use crate::settle::{Follower, Keeper, SettlerStats, Worker};
use crate::units::time::Clock;
use crate::units::{DecisionId, PolicyVersion};

/// Records that are given to the books together.
const BATCH_RECORDS: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;

/// Where live counts and books are that nodes share.
pub(in crate::cli) struct Shared {
    /// The addresses of Redis.
    pub(in crate::cli) redis: Vec<String>,
    /// Whether that is a cluster.
    pub(in crate::cli) is_cluster: bool,
    /// The books.
    pub(in crate::cli) ledger: Arc<dyn SharedLedger>,
}

/// What a node's journal had when it was opened.
#[derive(Default)]
struct Kept {
    holds: HashMap<DecisionId, Box<HoldRecord>>,
    jobs: HashMap<DecisionId, JobRecord>,
    made: Vec<MadeRecord>,
    records: u64,
}

impl Kept {
    fn frame(&mut self, payload: &[u8]) -> Result<(), RecoverError> {
        if payload == ENDED_ELSEWHERE {
            return Ok(());
        }
        self.records += 1;
        match postcard::from_bytes(payload).map_err(RecoverError::Unreadable)? {
            Record::Hold(hold) => {
                self.holds.insert(hold.decision, hold);
            }
            Record::Job(job) => {
                self.jobs.insert(job.decision, job);
            }
            Record::End(end) => {
                self.holds.remove(&end.decision);
                self.jobs.remove(&end.decision);
            }
            Record::Made(made) => self.made.push(made),
            Record::Grant(_)
            | Record::Expiry(_)
            | Record::Correction(_)
            | Record::Revision(_)
            | Record::Adjustment(_) => {}
        }
        Ok(())
    }
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
        let (journal, kept) = open_journal(&stores.data.join("journal"), stores.journal.clone())?;
        book(&journal, &*ledger).await?;
        let store = Store::connect(&shared.redis, shared.is_cluster, clock.clone()).await;
        let store = store.map_err(OpenError::Connect)?;
        let meter = RedisMeter::open(
            store.clone(),
            clock.clone(),
            Arc::clone(&policies),
            ledger.clone(),
            Arc::clone(&journal),
        );
        let meter = meter.await?;
        let (recovered, made) = take_up(&meter, &policies, kept).await?;
        let settled: Arc<SettlerStats> = Arc::default();
        let keeper = Keeper {
            journal: Arc::clone(&journal),
            ledger: Arc::clone(&ledger),
            stats: Arc::clone(&settled),
        };
        let worker = Worker {
            name: worker_name(),
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
            meter: Arc::new(meter),
            ledger,
            journal,
            settled,
            settlement: Settlement::Queues(Queues { keeper, worker, follower, owed }),
            recovered,
            made,
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
    owed: Owed,
}

impl Queues {
    /// Runs until `shutdown` is true and what this node made is in the books, as far as the stores answer.
    pub(super) async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let Self { keeper, worker, follower, owed } = self;
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
            follower.run(stopping)
        );
    }
}

/// What no two workers are called: the process, and a word of its own.
pub(in crate::cli) fn worker_name() -> String {
    format!("{}-{:08x}", std::process::id(), rand::random::<u32>())
}

fn open_journal(folder: &Path, options: journal::Options) -> Result<(Arc<Journal>, Kept), OpenError> {
    let mut kept = Kept::default();
    let each = |_, frame: Frame<'_>| Ok(kept.frame(frame.payload)?);
    let (journal, recovery) = Journal::open(folder, options, each)?;
    kept.holds.retain(|decision, _| recovery.open.contains(decision.as_bytes()));
    Ok((Arc::new(journal), kept))
}

/// Gives the books what the journal has of this node, before anything is built from them: a queue may have been lost with
/// its store. What they have already changes nothing; what follows a record of another node waits for that one.
async fn book(journal: &Journal, ledger: &dyn SharedLedger) -> Result<(), OpenError> {
    let mut reader = journal.reader(Position::START);
    loop {
        let batch = reader.next_batch(BATCH_RECORDS, BATCH_BYTES).map_err(OpenError::Unread)?;
        if batch.is_empty() {
            return Ok(());
        }
        let told = batch.iter().filter(|frame| frame.payload != ENDED_ELSEWHERE);
        let records: Result<Vec<Record>, _> =
            told.map(|frame| postcard::from_bytes(&frame.payload)).collect();
        ledger.apply(records.map_err(RecoverError::Unreadable)?).await?;
    }
}

/// Has the store hold what this node left open, where it does not any more; then ends it, unless it is a job.
async fn take_up(
    meter: &RedisMeter,
    policies: &Policies,
    kept: Kept,
) -> Result<(Recovered, Vec<MadeRecord>), OpenError> {
    let mut recovered = Recovered { records: kept.records, ..Recovered::default() };
    for (decision, record) in &kept.holds {
        let version = record.policy;
        meter.take_up((**record).clone()).await.map_err(OpenError::Floor)?;
        if let Some(job) = kept.jobs.get(decision) {
            match meter.begin_job(job.clone()).await {
                Ok(_ticket) => recovered.jobs += 1,
                Err(MeterError::NoSuchHold) => {}
                Err(error) => return Err(OpenError::Floor(error)),
            }
            continue;
        }
        let hold = hold(record, policies, version)?;
        let (used, ending) = hold.at_crash();
        match meter.finish(record.account, *decision, used, ending).await {
            Ok(_) => recovered.floored += 1,
            // It had ended, and the journal had not heard.
            Err(MeterError::NoSuchHold) => {}
            Err(error) => return Err(OpenError::Floor(error)),
        }
    }
    Ok((recovered, kept.made))
}

fn hold(record: &HoldRecord, policies: &Policies, version: PolicyVersion) -> Result<Hold, OpenError> {
    let policy = policies.version(version);
    let terms = policy.and_then(|policy| Terms::of_record(record, policy));
    Ok(Hold::of_record(record, terms.ok_or(OpenError::OldPolicy { version })?))
}
