//! A store is built from the books: every account as they know it, under the word of an epoch that is not open yet, so that
//! nobody decides by half of it.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use redis::Value;

use super::attendant::AttendError;
use super::commit::{Answer, Found, Stamp};
use super::desk::Office;
use super::keys::{Fixed, Partition, RowKey};
use super::sheet::{Rows, Sheet};
use super::store::{Store, StoreError};
use crate::access::Account;
use crate::ledger::{Ledger, LedgerError};
use crate::meter::restored::{account_of, restore};
use crate::units::AccountId;

/// How many accounts are written at a time.
const TOGETHER: usize = 32;
/// How often a row is written over that is there although everything was cleared.
const TRIES_MAX: u32 = 3;

/// Writes all accounts; tells how many.
pub(super) async fn build(office: &Office, word: &str, ledger: &dyn Ledger) -> Result<usize, AttendError> {
    let accounts = accounts(ledger).await?;
    let count = accounts.len();
    let writes = accounts.into_values().map(|account| async move { write(office, word, &account).await });
    stream::iter(writes).buffer_unordered(TOGETHER).try_for_each(|()| async { Ok(()) }).await?;
    Ok(count)
}

/// All accounts as the books know them.
async fn accounts(ledger: &dyn Ledger) -> Result<BTreeMap<AccountId, Account>, LedgerError> {
    let mut accounts: BTreeMap<AccountId, Account> = BTreeMap::new();
    ledger
        .restore(&mut |row| {
            if let Some(id) = account_of(&row) {
                restore(accounts.entry(id).or_insert_with(|| Account::new(id)), &row);
            }
        })
        .await?;
    Ok(accounts)
}

async fn write(office: &Office, word: &str, account: &Account) -> Result<(), StoreError> {
    let Office { store, time, policies, .. } = office;
    let users = account.purses().filter_map(|(user, _)| user).map(RowKey::User);
    let mut rows: Rows = users.chain([RowKey::Shared]).map(|key| (key, Found::default())).collect();
    for _ in 0..TRIES_MAX {
        let sheet = Sheet::whole(account.clone(), time.now());
        let stamp: Stamp = rand::random();
        let commit = sheet.commit(&rows, word, time, stamp, &policies.current())?;
        let asked = time.here();
        match commit.send(store).await? {
            Answer::Done(_) => return Ok(()),
            Answer::Stale(_, found) => rows = rows.keys().copied().zip(found).collect(),
            Answer::Time(now) => time.told(asked, now),
        }
    }
    Err(StoreError::Contended)
}

/// Takes out what waits in all queues.
pub(super) async fn drop_queues(store: &Store) -> Result<(), StoreError> {
    for partition in Partition::all() {
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(partition.key(Fixed::Queue));
        store.call(&unlink).await?;
    }
    Ok(())
}

/// Whether the store knows an epoch by this word, in one partition.
pub(super) async fn know(store: &Store, partition: Partition, word: &str) -> Result<(), StoreError> {
    let mut get = redis::cmd("GET");
    get.arg(partition.key(Fixed::Epoch));
    match store.call(&get).await? {
        Value::BulkString(known) if known == word.as_bytes() => Ok(()),
        _ => Err(StoreError::Lost { partition: partition.number() }),
    }
}

/// The same in all.
pub(super) async fn know_all(store: &Store, word: &str) -> Result<(), StoreError> {
    for partition in Partition::all() {
        know(store, partition, word).await?;
    }
    Ok(())
}

/// Has the store know an epoch by this word.
pub(super) async fn name_epoch(store: &Store, word: &str) -> Result<(), StoreError> {
    for partition in Partition::all() {
        let mut set = redis::cmd("SET");
        set.arg(partition.key(Fixed::Epoch)).arg(word);
        store.call(&set).await?;
    }
    Ok(())
}

/// The same where it knows one already: a store that was emptied meanwhile knows none.
pub(super) async fn rename_epoch(store: &Store, word: &str) -> Result<(), StoreError> {
    for partition in Partition::all() {
        let mut set = redis::cmd("SET");
        set.arg(partition.key(Fixed::Epoch)).arg(word).arg("XX");
        if store.call(&set).await? == Value::Nil {
            return Err(StoreError::Lost { partition: partition.number() });
        }
    }
    Ok(())
}
