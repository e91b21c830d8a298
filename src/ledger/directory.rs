//! The directory: who may call, in memory.
//!
//! Every request asks it, so it answers without the ledger; every change to the ledger's accounts, users and keys is
//! put here right after, and holds from the next request on. A key is looked up by the first eight bytes of its hash,
//! and the whole hash is compared in constant time. The directory never sees a key, only hashes; names stay in the
//! ledger.
//!
//! Bounds: a key takes 72 bytes, a user 32, an account 40, and each list up to an eighth more. What is put in is
//! bounded by what the operator adds. A lock covers a few hundred entries and is never held across another.

mod shards;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use subtle::ConstantTimeEq;

use super::rows::{AccountRow, AccountStatus, KeyRow, Restored, UserRow};
use crate::policy::compiled::Name;
use crate::units::{AccountId, KeyId, Timestamp, UserId};
use shards::{Entry, Shards};

/// Accounts, users and keys.
#[derive(Debug, Default)]
pub struct Directory {
    keys: Shards<KeyEntry>,
    users: Shards<UserEntry>,
    accounts: Shards<AccountEntry>,
    /// Plan names in use, so that a million accounts share a handful of texts.
    plans: Mutex<HashSet<Name>>,
}

/// Who calls, and who pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The key that was used.
    pub key: KeyId,
    /// Who pays.
    pub account: AccountId,
    /// Who calls.
    pub user: UserId,
    /// The account's plan.
    pub plan: Name,
    /// Whether the account may call: whoever asks refuses.
    pub status: AccountStatus,
    /// Whether the account has no other user.
    pub sole_user: bool,
}

/// Why a key lets nobody in. Clients are not told which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// Nobody has it, or it was revoked.
    #[error("nobody has this key")]
    Unknown,
    /// It has expired.
    #[error("this key has expired")]
    Expired,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accounts.
    pub accounts: usize,
    /// Users.
    pub users: usize,
    /// Keys, expired ones included, revoked ones not.
    pub keys: usize,
}

#[derive(Clone, Debug)]
struct KeyEntry {
    hash: [u8; 32],
    key: KeyId,
    user: UserId,
    /// The end of time, if it does not expire.
    expires_at: Timestamp,
}

#[derive(Clone, Debug)]
struct UserEntry {
    user: UserId,
    account: AccountId,
}

#[derive(Clone, Debug)]
struct AccountEntry {
    account: AccountId,
    plan: Name,
    status: AccountStatus,
    users: u32,
}

impl Directory {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Who has the key of this SHA-256. An account that is suspended is told as such, not refused.
    pub fn identify(&self, hash: &[u8; 32], now: Timestamp) -> Result<Caller, Unidentified> {
        let found =
            self.keys.find(of_hash(hash), |entry| bool::from(entry.hash.ct_eq(hash)).then(|| entry.clone()));
        let KeyEntry { key, user, expires_at, .. } = found.ok_or(Unidentified::Unknown)?;
        if expires_at <= now {
            return Err(Unidentified::Expired);
        }
        // A key whose user or account was never told belongs to nobody.
        let account = self.account_of(user).ok_or(Unidentified::Unknown)?;
        let caller = |entry: &AccountEntry| Caller {
            key,
            account,
            user,
            plan: Name::clone(&entry.plan),
            status: entry.status,
            sole_user: entry.users <= 1,
        };
        self.account_entry(account, caller).ok_or(Unidentified::Unknown)
    }

    /// Takes in what the ledger restores; anything else is not for the directory.
    pub fn restore(&self, restored: &Restored) {
        match restored {
            Restored::Account(account, _) => self.put_account(account),
            Restored::User(user) => self.put_user(user),
            Restored::Key(key) => self.put_key(key),
            Restored::Counter(..) | Restored::Grant(..) | Restored::Debt(..) => {}
        }
    }

    /// Adds an account, or replaces its plan and status.
    pub fn put_account(&self, row: &AccountRow) {
        let entry =
            AccountEntry { account: row.id, plan: self.shared(&row.plan), status: row.status, users: 0 };
        self.accounts.put(entry, |known, entry| *known = AccountEntry { users: known.users, ..entry });
    }

    /// Adds a user of an account that has been put. Again is a no-op.
    pub fn put_user(&self, row: &UserRow) {
        let entry = UserEntry { user: row.id, account: row.account };
        if self.users.put(entry, |_, _| {}) {
            self.accounts.change(of_id(row.account.as_bytes()), |entry| {
                let is_its = entry.account == row.account;
                entry.users = entry.users.saturating_add(u32::from(is_its));
                is_its
            });
        }
    }

    /// Adds a key of a user that has been put, or replaces what is known of it. One that is revoked is taken out.
    pub fn put_key(&self, row: &KeyRow) {
        if row.revoked_at.is_some() {
            self.revoke(row.id);
            return;
        }
        let entry = KeyEntry {
            hash: row.hash,
            key: row.id,
            user: row.user,
            expires_at: row.expires_at.unwrap_or(Timestamp::NEVER),
        };
        self.keys.put(entry, |known, entry| *known = entry);
    }

    /// Takes a key out: the next request with it is refused. Says whether it was there.
    ///
    /// Keys are not indexed by id. All are looked through, a few hundred under each lock: some ten milliseconds for a
    /// million, which a revocation can afford and each key's memory cannot.
    pub fn revoke(&self, key: KeyId) -> bool {
        self.keys.remove_where(|entry| entry.key == key)
    }

    /// The plan and status of an account.
    pub fn account(&self, account: AccountId) -> Option<(Name, AccountStatus)> {
        self.account_entry(account, |entry| (Name::clone(&entry.plan), entry.status))
    }

    /// The account that a user belongs to.
    pub fn account_of(&self, user: UserId) -> Option<AccountId> {
        self.users.find(of_id(user.as_bytes()), |entry| (entry.user == user).then_some(entry.account))
    }

    /// The plans that accounts are on, and how many are on each. Looks through all accounts.
    pub fn plans(&self) -> BTreeMap<Name, usize> {
        let mut plans = BTreeMap::new();
        self.accounts.each(|entry| *plans.entry(Name::clone(&entry.plan)).or_default() += 1);
        plans
    }

    /// How many there are of each.
    pub fn counts(&self) -> Counts {
        Counts { accounts: self.accounts.len(), users: self.users.len(), keys: self.keys.len() }
    }

    fn account_entry<T>(&self, account: AccountId, look: impl Fn(&AccountEntry) -> T) -> Option<T> {
        self.accounts.find(of_id(account.as_bytes()), |entry| (entry.account == account).then(|| look(entry)))
    }

    fn shared(&self, plan: &Name) -> Name {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = plans.get(plan) {
            return Name::clone(known);
        }
        // The only time at which the set grows is the time to drop what nobody uses any more.
        plans.retain(|known| Name::strong_count(known) > 1);
        plans.insert(Name::clone(plan));
        Name::clone(plan)
    }
}

/// The first eight bytes of a hash.
fn of_hash(hash: &[u8; 32]) -> u64 {
    hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// The last eight bytes of an id, which are random but for the two bits that come first.
fn of_id(id: &[u8; 16]) -> u64 {
    id.last_chunk().map_or(0, |last| u64::from_be_bytes(*last)).rotate_left(2)
}

impl Entry for KeyEntry {
    fn spread(&self) -> u64 {
        of_hash(&self.hash)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Entry for UserEntry {
    fn spread(&self) -> u64 {
        of_id(self.user.as_bytes())
    }

    fn is_same(&self, other: &Self) -> bool {
        self.user == other.user
    }
}

impl Entry for AccountEntry {
    fn spread(&self) -> u64 {
        of_id(self.account.as_bytes())
    }

    fn is_same(&self, other: &Self) -> bool {
        self.account == other.account
    }
}

#[cfg(test)]
mod tests;
