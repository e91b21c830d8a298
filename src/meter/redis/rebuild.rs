//! A store that has nothing is built from the books, under an epoch of its own.
//!
//! While it is built, its epoch is a word that no node has, so nobody decides by half of it. What is in flight is not in
//! the books: each node takes its own holds up again, from its journal ([`RedisMeter::take_up`]).
//!
//! It is right once the books have all that any node's journal has: a record that comes later would be numbered twice.

use std::collections::BTreeMap;

use redis::Value;

use super::commit::{Answer, Found, Stamp};
use super::keys::{Fixed, Partition, RowKey};
use super::sheet::{Rows, Sheet};
use super::store::{Store, StoreError};
use super::time::StoreTime;
use super::{Epochs, PolicyShelf, RedisMeter};
use crate::access::record::HoldRecord;
use crate::access::{Account, Terms};
use crate::ledger::{Ledger, LedgerError};
use crate::meter::MeterError;
use crate::meter::restored::{account_of, restore};
use crate::units::AccountId;

/// What the epoch of a partition is called while it is built.
const BUILDING: &str = "building";
/// How often a row is written over that is there although its partition had no epoch.
const TRIES_MAX: u32 = 3;

/// Why a store could not be built.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The books could not be read.
    #[error("the books could not be read")]
    Ledger(#[from] LedgerError),
    /// Redis did not take it.
    #[error("redis did not take what the books say")]
    Store(#[from] StoreError),
}

/// The epochs of all partitions; those that have none are built first, and begin one.
pub(super) async fn begin(
    store: &Store,
    time: &StoreTime,
    policies: &PolicyShelf,
    ledger: &dyn Ledger,
) -> Result<Epochs, RebuildError> {
    let mut epochs = BTreeMap::new();
    for partition in Partition::all() {
        if let Some(epoch) = epoch_of(store, partition).await? {
            epochs.insert(partition, epoch);
        }
    }
    if epochs.len() < Partition::all().count() {
        let accounts = accounts(ledger).await?;
        for partition in
            Partition::all().filter(|partition| !epochs.contains_key(partition)).collect::<Vec<_>>()
        {
            set_epoch(store, partition, BUILDING).await?;
            for account in accounts.get(&partition).into_iter().flatten() {
                write(store, time, policies, account).await?;
            }
            let epoch = format!("{:016x}", rand::random::<u64>());
            set_epoch(store, partition, &epoch).await?;
            epochs.insert(partition, epoch);
        }
    }
    Ok(Epochs(epochs))
}

/// All accounts as the books know them.
async fn accounts(ledger: &dyn Ledger) -> Result<BTreeMap<Partition, Vec<Account>>, LedgerError> {
    let mut accounts: BTreeMap<AccountId, Account> = BTreeMap::new();
    ledger
        .restore(&mut |row| {
            if let Some(id) = account_of(&row) {
                restore(accounts.entry(id).or_insert_with(|| Account::new(id)), &row);
            }
        })
        .await?;
    let mut spread: BTreeMap<Partition, Vec<Account>> = BTreeMap::new();
    for (id, account) in accounts {
        spread.entry(Partition::of(id)).or_default().push(account);
    }
    Ok(spread)
}

async fn write(
    store: &Store,
    time: &StoreTime,
    policies: &PolicyShelf,
    account: &Account,
) -> Result<(), StoreError> {
    let users = account.purses().filter_map(|(user, _)| user).map(RowKey::User);
    let mut rows: Rows = users.chain([RowKey::Shared]).map(|key| (key, Found::default())).collect();
    for _ in 0..TRIES_MAX {
        let sheet = Sheet::whole(account.clone(), time.now());
        let stamp: Stamp = rand::random();
        let commit = sheet.commit(&rows, BUILDING, time, stamp, &policies.current())?;
        let asked = time.here();
        match commit.send(store).await? {
            Answer::Done(_) => return Ok(()),
            Answer::Stale(_, found) => rows = rows.keys().copied().zip(found).collect(),
            Answer::Time(now) => time.told(asked, now),
        }
    }
    Err(StoreError::Contended)
}

/// The epoch of a partition; none where there is none, or nobody has finished building it.
async fn epoch_of(store: &Store, partition: Partition) -> Result<Option<String>, StoreError> {
    let mut get = redis::cmd("GET");
    get.arg(partition.key(Fixed::Epoch));
    Ok(match store.call(&get).await? {
        Value::BulkString(epoch) if epoch != BUILDING.as_bytes() => {
            Some(String::from_utf8_lossy(&epoch).into_owned())
        }
        _ => None,
    })
}

async fn set_epoch(store: &Store, partition: Partition, epoch: &str) -> Result<(), StoreError> {
    let mut set = redis::cmd("SET");
    set.arg(partition.key(Fixed::Epoch)).arg(epoch);
    store.call(&set).await.map(|_| ())
}

impl RedisMeter {
    /// Takes an open hold up again that this node has in its journal and the store does not have any more: it reserves
    /// what it reserved. One that is there, or has ended there, stays as it is.
    pub async fn take_up(&self, record: HoldRecord) -> Result<(), MeterError> {
        let policy = &self.office.policies;
        policy.fetch(std::iter::once(record.policy)).await;
        let known = policy.at_hand(record.policy);
        let Some(terms) = known.and_then(|policy| Terms::of_record(&record, policy)) else {
            let what =
                format!("{} was decided by policy {}, which is not known", record.decision, record.policy);
            return Err(MeterError::Store(StoreError::Unreadable { what }));
        };
        let (account, rows) = (record.account, [RowKey::User(record.user), RowKey::Hold(record.decision)]);
        self.ask(account, &rows, move |sheet| {
            let decision = record.decision;
            if sheet.account.hold_of(decision).is_none() && !sheet.has_ended(decision) {
                sheet.account.take_up(&record, terms.clone());
            }
        })
        .await
    }
}
