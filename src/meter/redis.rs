//! The meter of many machines: accounts in Redis, decided by the same core as everywhere.
//!
//! # Why the rules are not in the script
//!
//! A node puts an account together from the few rows that a verb needs, lets the access core decide, and sends what has
//! changed as one step, which the script takes only if every row it was computed from is still as it was (`commit.lua`).
//! So the waterfall stands in one place, is tested in one place, and counts in whole numbers of 64 and 128 bits, which
//! Lua has not; and a script that compares and writes is over in microseconds. The price is that a step may have to be
//! tried again when several nodes work on one account; verbs that wait for an account at one node go together
//! (`desk`), which bounds that to the number of nodes.
//!
//! # Contract
//!
//! That of [`super::Meter`]. *Atomic*: a step is one script. *Idempotent*: an end, a grant and a correction leave their
//! record in a row until the books have it, with the id of the verb that made it; a step that is sent again finds its
//! stamp. *Numbered*: `seq` is in the shared row, and records go into the partition's queue in the same script. *Durable*:
//! as the store keeps what it has acknowledged, and by the node's own journal.
//!
//! # How it fails
//!
//! A call that is not answered is sent again a few times, then it is an error, within a second or two; what it may have
//! done ends by its deadline. A hold counts as dispatched from the beginning: a node that dies with it has it charged at
//! its floor. Redis that has lost its epoch is not used before it has been built anew ([`StoreError::Lost`]).

mod commit;
mod desk;
mod fit;
mod keys;
mod orders;
mod queue;
mod rebuild;
mod sheet;
mod store;
mod sweep;
mod time;
mod verbs;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;

use crate::access::record::Record;
use crate::journal::{Frame, Health, Journal, Tag, Ticket};
use crate::ledger::Ledger;
use crate::meter::{ENDED_ELSEWHERE, MeterError, frame_of, lock};
use crate::policy::compiled::Policy;
use crate::policy::live::Policies;
use crate::units::time::Clock;
use crate::units::{AccountId, DecisionId, IdMap, PolicyVersion};

pub use fit::Unfit;
pub use queue::Streams;
pub use rebuild::RebuildError;
pub use store::{Store, StoreError};

use desk::{Desk, Office};
use keys::{Partition, RowKey};
use sheet::Sheet;
use time::StoreTime;

/// Desks that stay although nobody is at them.
const DESKS_MAX: usize = 65_536;
const SHARDS: usize = 64;

type Desks = IdMap<AccountId, Arc<Desk>>;

/// Live counts of all accounts, in Redis.
pub struct RedisMeter {
    office: Arc<Office>,
    desks: Box<[Mutex<Desks>]>,
    journal: Arc<Journal>,
    /// Holds that this node took and has not ended.
    open: AtomicU64,
}

/// Why live counts could not be kept in a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not fit.
    #[error("redis is not fit to keep live counts")]
    Unfit(#[from] Unfit),
    /// It was empty, and could not be built.
    #[error("live counts could not be built from the books")]
    Rebuild(#[from] RebuildError),
}

/// Since when each partition has kept everything.
struct Epochs(BTreeMap<Partition, String>);

impl Epochs {
    fn of(&self, partition: Partition) -> String {
        self.0.get(&partition).cloned().unwrap_or_default()
    }
}

/// Policies at hand, and the books that have the others.
struct PolicyShelf {
    policies: Arc<Policies>,
    ledger: Arc<dyn Ledger>,
}

impl PolicyShelf {
    fn current(&self) -> Arc<Policy> {
        self.policies.current()
    }

    fn at_hand(&self, version: PolicyVersion) -> Option<Arc<Policy>> {
        self.policies.version(version)
    }

    /// Brings policies from the books that another node has decided by.
    async fn fetch(&self, versions: impl Iterator<Item = PolicyVersion>) {
        for version in versions.filter(|version| self.at_hand(*version).is_none()) {
            let text = self.ledger.policy(version).await.ok().flatten();
            let policy =
                text.and_then(|text| crate::policy::load::parse("a policy in the books", &text).ok());
            if let Some(policy) = policy {
                self.policies.remember(Arc::new(policy));
            }
        }
    }
}

impl RedisMeter {
    /// A meter on a store, which must be fit for it. What of it is empty is built from the books first. It works on the
    /// runtime that this is called on, which must outlive it.
    pub async fn open(
        store: Store,
        clock: Clock,
        policies: Arc<Policies>,
        ledger: Arc<dyn Ledger>,
        journal: Arc<Journal>,
    ) -> Result<Self, OpenError> {
        fit::check(&store).await?;
        let time = StoreTime::new(clock);
        let shelf = PolicyShelf { policies, ledger: Arc::clone(&ledger) };
        let epochs = rebuild::begin(&store, &time, &shelf, &*ledger).await?;
        let runtime = Handle::current();
        let office = Arc::new(Office { store, time, epochs, policies: shelf, runtime });
        let desks = (0..SHARDS).map(|_| Mutex::default()).collect();
        Ok(Self { office, desks, journal, open: AtomicU64::new(0) })
    }

    fn desk(&self, account: AccountId) -> Arc<Desk> {
        let shard = &self.desks[account.shard(SHARDS)];
        let mut desks = lock(shard);
        if desks.len() >= DESKS_MAX / SHARDS && !desks.contains_key(&account) {
            desks.retain(|_, desk| !desk.is_idle());
        }
        Arc::clone(desks.entry(account).or_insert_with(|| Arc::new(Desk::new(account))))
    }

    /// Has a verb carried out at an account's desk. It may run several times; what it gave last counts.
    async fn ask<R: Send + 'static>(
        &self,
        account: AccountId,
        rows: &[RowKey],
        run: impl FnMut(&mut Sheet) -> R + Send + 'static,
    ) -> Result<R, MeterError> {
        self.desk(account).ask(&self.office, rows, run).await.map_err(MeterError::Store)
    }

    /// Keeps a record in the node's own journal until the books have it.
    fn journal(&self, record: &Record) -> Result<Ticket, MeterError> {
        let (tag, id, bytes) = frame_of(record);
        self.journal.append(Frame { tag, id, payload: &bytes }).map_err(MeterError::Journal)
    }

    /// Notes in the journal that a hold is over whose end is told elsewhere: another node has seen its deadline pass.
    fn is_over(&self, decision: DecisionId) {
        let told = Frame { tag: Tag::End, id: *decision.as_bytes(), payload: ENDED_ELSEWHERE };
        // What is not noted keeps a file of the journal until the next start, which notes it.
        let _unawaited = self.journal.append(told);
    }

    /// Whether the journal takes holds; asked first, so that none is taken that it then refuses.
    fn takes_holds(&self) -> Result<(), MeterError> {
        match self.journal.health() {
            Health::Good => Ok(()),
            Health::Refusing { reason } => Err(MeterError::Journal(reason.into())),
        }
    }

    fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    fn closed(&self) {
        let less = |open: u64| Some(open.saturating_sub(1));
        let _before = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

#[cfg(test)]
mod tests;
