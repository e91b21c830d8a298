//! A sheet: an account put together from rows, worked on, and taken apart again.
//!
//! What is written is what has changed: each row is told again and compared with what was found.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::commit::{Commit, Found, Indexed, Looked, Stamp, Written};
use super::keys::{Fixed, Member, RowKey};
use super::store::StoreError;
use super::time::StoreTime;
use crate::access::account::Purse;
use crate::access::record::{EndRecord, Record};
use crate::access::rows::{HoldRow, SharedRow};
use crate::access::{Account, Terms};
use crate::policy::compiled::{Policy, Scope};
use crate::units::{AccountId, DecisionId, PolicyVersion, Seq, Span, Timestamp, UserId};

/// How long it is remembered that a decision was ended which was never seen to begin: far longer than a call that was
/// given up may take to arrive.
const NEVER_BEGAN: Span = Span::from_seconds(3600);

/// A user's row stays so long at least, whatever it says.
const LIFE_LEAST: Span = Span::from_seconds(60);

/// Rows by their keys.
pub(super) type Rows = BTreeMap<RowKey, Found>;

/// What all users share, and when the newest record was made: the instants of an account's records follow their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Shared {
    row: SharedRow,
    at: Timestamp,
}

/// A hold, or how it ended. What ended stays until the books have it: a verb that is carried out again finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum HoldState {
    /// It is open.
    Open(Box<HoldRow>),
    /// It ended, by the verb of this id.
    Ended { by: u64, record: Box<EndRecord> },
    /// It was ended before it began, and never begins.
    Never,
}

/// A record that is on its way to the books, made by the verb of this id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) by: u64,
    pub(super) record: Record,
}

/// An account, as far as its rows are at hand.
pub(super) struct Sheet {
    /// The account. Of its users and holds only those are in it that were asked for.
    pub(super) account: Account,
    /// When it is worked on.
    pub(super) now: Timestamp,
    /// What has happened, for the books.
    pub(super) records: Vec<Record>,
    /// Holds that have ended.
    pub(super) ended: BTreeMap<DecisionId, HoldState>,
    /// What is on its way to the books, by the row that says so.
    pub(super) kept: BTreeMap<RowKey, Kept>,
    /// The newest record that was found, and when it was made.
    newest: (Seq, Timestamp),
    expiries: BTreeMap<Option<UserId>, Option<Timestamp>>,
}

impl Sheet {
    /// Of the open holds in these rows: whose they are, and which policies they were decided by.
    pub(super) fn callers(rows: &Rows) -> Result<Vec<(UserId, PolicyVersion)>, StoreError> {
        let mut callers = Vec::new();
        for (key, found) in rows.iter().filter(|(key, _)| matches!(key, RowKey::Hold(_))) {
            if let Some(HoldState::Open(row)) = read::<HoldState>(*key, found)? {
                callers.push((row.record.user, row.record.policy));
            }
        }
        Ok(callers)
    }

    /// A whole account, of which the store has nothing.
    pub(super) fn whole(account: Account, now: Timestamp) -> Self {
        Self {
            newest: (account.seq, now),
            account,
            now,
            records: Vec::new(),
            ended: BTreeMap::new(),
            kept: BTreeMap::new(),
            expiries: BTreeMap::new(),
        }
    }

    /// Puts an account together.
    pub(super) fn of(
        id: AccountId,
        rows: &Rows,
        now: Timestamp,
        policy: impl Fn(PolicyVersion) -> Option<Arc<Policy>>,
    ) -> Result<Self, StoreError> {
        let shared = rows.get(&RowKey::Shared).map(|found| read::<Shared>(RowKey::Shared, found));
        let Shared { row, at } = shared.transpose()?.flatten().unwrap_or_default();
        let mut sheet = Self {
            newest: (row.seq, at),
            account: Account::of_row(id, row),
            now: now.max(at),
            records: Vec::new(),
            ended: BTreeMap::new(),
            kept: BTreeMap::new(),
            expiries: BTreeMap::new(),
        };
        for (key, found) in rows {
            sheet.put(*key, found, &policy)?;
        }
        sheet.expiries = sheet.due(rows);
        Ok(sheet)
    }

    fn put(
        &mut self,
        key: RowKey,
        found: &Found,
        policy: impl Fn(PolicyVersion) -> Option<Arc<Policy>>,
    ) -> Result<(), StoreError> {
        match key {
            RowKey::Shared => {}
            RowKey::User(user) => {
                if let Some(purse) = read::<Purse>(key, found)? {
                    self.account.put_user(user, purse);
                }
            }
            RowKey::Hold(decision) => match read::<HoldState>(key, found)? {
                Some(HoldState::Open(row)) => {
                    let terms =
                        policy(row.record.policy).and_then(|policy| Terms::of_record(&row.record, policy));
                    let terms = terms.ok_or_else(|| StoreError::Unreadable {
                        what: format!(
                            "{decision} was decided by policy {}, which is not known",
                            row.record.policy
                        ),
                    })?;
                    self.account.put_hold(&row, terms);
                }
                Some(ended) => {
                    self.ended.insert(decision, ended);
                }
                None => {}
            },
            RowKey::Grant(_) | RowKey::Revision(_) | RowKey::Order(_) => {
                self.kept.extend(read(key, found)?.map(|kept| (key, kept)));
            }
        }
        Ok(())
    }

    /// When the first grant of each purse at hand expires.
    fn due(&self, rows: &Rows) -> BTreeMap<Option<UserId>, Option<Timestamp>> {
        let purses = rows.keys().filter_map(|key| match key {
            RowKey::Shared => Some(None),
            RowKey::User(user) => Some(Some(*user)),
            _ => None,
        });
        purses.map(|owner| (owner, self.purse(owner).and_then(|purse| purse.next_expiry(self.now)))).collect()
    }

    fn purse(&self, owner: Option<UserId>) -> Option<&Purse> {
        match owner {
            None => self.account.purse(Scope::Account, UserId::MIN),
            Some(user) => self.account.purse(Scope::User, user),
        }
    }

    /// Notes a record that was made by the verb of this id, in rows of its own and for the books.
    pub(super) fn keep(&mut self, rows: &[RowKey], by: u64, record: Record) -> Record {
        for row in rows {
            self.kept.insert(*row, Kept { by, record: record.clone() });
        }
        self.records.push(record.clone());
        record
    }

    /// Whether it has ended, or is never to begin.
    pub(super) fn has_ended(&self, decision: DecisionId) -> bool {
        self.ended.contains_key(&decision)
    }

    /// The step that takes the store from what was found to what stands here.
    pub(super) fn commit<'a>(
        &self,
        rows: &Rows,
        epoch: &'a str,
        time: &StoreTime,
        stamp: Stamp,
        policy: &Policy,
    ) -> Result<Commit<'a>, StoreError> {
        let mut commit = Commit {
            account: self.account.id,
            epoch,
            now: self.now,
            tolerance: time.tolerance(),
            stamp,
            looked: Vec::with_capacity(rows.len()),
            written: Vec::new(),
            records: self.records.iter().map(write).collect::<Result<_, _>>()?,
            indexed: Vec::new(),
        };
        for (place, (key, found)) in rows.iter().enumerate() {
            commit.looked.push(Looked { row: *key, as_found: found.stamp.into() });
            let (bytes, life) = self.tell(*key, policy)?;
            if let Some(bytes) = bytes.filter(|bytes| found.stamp.is_none() || *bytes != found.bytes) {
                commit.written.push(Written { place, bytes, life });
                if let RowKey::Hold(decision) = key {
                    commit.indexed.extend(self.hold_index(*decision));
                }
            }
        }
        for (owner, due) in self.due(rows) {
            if self.expiries.get(&owner) != Some(&due) {
                commit.indexed.push(Indexed {
                    index: Fixed::Expiries,
                    member: self.member(*owner.unwrap_or(UserId::MIN).as_bytes()),
                    due,
                });
            }
        }
        Ok(commit)
    }

    /// What a row says now, and how long it stays. Nothing: there is no such row.
    fn tell(&self, key: RowKey, policy: &Policy) -> Result<(Option<Vec<u8>>, Option<Span>), StoreError> {
        match key {
            RowKey::Shared => {
                let row = self.account.shared_row();
                let at = if row.seq == self.newest.0 { self.newest.1 } else { self.now };
                let shared = Shared { row, at };
                Ok(if shared == Shared::default() { (None, None) } else { (Some(write(&shared)?), None) })
            }
            RowKey::User(user) => {
                let Some(purse) = self.purse(Some(user)) else { return Ok((None, None)) };
                let life = purse.idle_at(policy).map(|at| at.since(self.now).max(LIFE_LEAST));
                Ok((Some(write(purse)?), life))
            }
            RowKey::Hold(decision) => {
                let open = self.account.hold_row(decision).map(|row| HoldState::Open(Box::new(row)));
                let state = open.as_ref().or_else(|| self.ended.get(&decision));
                let life = matches!(state, Some(HoldState::Never)).then_some(NEVER_BEGAN);
                Ok((state.map(write).transpose()?, life))
            }
            RowKey::Grant(_) | RowKey::Revision(_) | RowKey::Order(_) => {
                Ok((self.kept.get(&key).map(write).transpose()?, None))
            }
        }
    }

    fn hold_index(&self, decision: DecisionId) -> [Indexed; 2] {
        let hold = self.account.hold_of(decision);
        let member = self.member(*decision.as_bytes());
        let due = hold.map(|hold| hold.expires_at);
        let job = hold.filter(|hold| hold.job.is_some()).and(due);
        [Indexed { index: Fixed::Deadlines, member, due }, Indexed { index: Fixed::Jobs, member, due: job }]
    }

    fn member(&self, of: [u8; 16]) -> [u8; 32] {
        Member { account: self.account.id, of }.bytes()
    }
}

fn read<T: serde::de::DeserializeOwned>(key: RowKey, found: &Found) -> Result<Option<T>, StoreError> {
    if found.stamp.is_none() {
        return Ok(None);
    }
    let unreadable = |_| StoreError::Unreadable { what: format!("row {key:?}") };
    postcard::from_bytes(&found.bytes).map(Some).map_err(unreadable)
}

fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    let unwritable =
        |error| StoreError::Unreadable { what: format!("a row that cannot be written: {error}") };
    postcard::to_stdvec(value).map_err(unwritable)
}
