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
//! A call that is not answered is sent again a few times, then it is an error, within a second or two. A hold of which
//! nobody knows whether it was taken is given up; an end that was not taken is tried again until it is (`owed`). A hold counts as dispatched from the beginning: a node that dies with it has it charged at
//! its floor. Redis that may have lost something is not used before it has been built anew, in a new epoch
//! (`attendant`), nor for the moment until that is known (`sight`).

mod again;
mod alone;
mod attendant;
mod commit;
mod degraded;
mod desk;
mod epochs;
mod fit;
mod kept;
mod keys;
mod link;
mod log;
mod orders;
mod owed;
mod queue;
mod rebuild;
mod sheet;
mod sight;
mod store;
mod sweep;
mod time;
mod verbs;

use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;

use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::meter::began::Began;
use crate::meter::{MeterError, lock};
use crate::policy::compiled::Policy;
use crate::policy::live::Policies;
use crate::units::time::Clock;
use crate::units::{AccountId, IdMap, PolicyVersion};

pub use attendant::{AttendError, Attendant};
pub use degraded::Allowance;
pub use fit::Unfit;
pub use kept::{Kept, OpenHold};
pub use link::{ConnectError, RedisAt};
pub use owed::Owed;
pub use queue::Streams;
pub use store::{Store, StoreError};

use degraded::Degraded;
use desk::{Desk, Office};
use epochs::Epochs;
use keys::RowKey;
use log::Log;
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
    log: Arc<Log>,
    owed: Owed,
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
    /// A meter on a store, which must be fit for it; `allowance` is what it may give while that is away. It decides nothing before it has joined an epoch
    /// ([`Attendant::join`]). It works on the runtime that this is called on, which must outlive it.
    pub async fn open(
        store: Store,
        clock: Clock,
        policies: Arc<Policies>,
        ledger: Arc<dyn Ledger>,
        journal: Arc<Journal>,
        allowance: Option<Allowance>,
    ) -> Result<Self, Unfit> {
        fit::check(&store).await?;
        let office = Arc::new(Office {
            store,
            time: StoreTime::new(clock),
            epochs: Epochs::closed(),
            policies: PolicyShelf { policies, ledger },
            degraded: Degraded::new(allowance),
            runtime: Handle::current(),
        });
        let desks = (0..SHARDS).map(|_| Mutex::default()).collect();
        Ok(Self { office, desks, log: Arc::new(Log::new(journal)), owed: Owed::default() })
    }

    /// Where in the node's journal the present epoch begins.
    pub fn began(&self) -> Began {
        self.log.began.clone()
    }

    /// Ends that the store has not taken yet.
    pub fn owed(&self) -> Owed {
        self.owed.clone()
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
        let epoch = self.office.epochs.word().map_err(MeterError::Store)?;
        self.desk(account).ask(&self.office, epoch, rows, run).await.map_err(MeterError::Store)
    }
}

#[cfg(test)]
mod tests;
