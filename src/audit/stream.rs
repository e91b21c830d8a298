//! Balance updates in the order of booking, followed as they come and grouped by the record that they belong to.
//!
//! A record's updates stand together, in the order in which records are booked. So the group that a record needs is the
//! next one, or was pulled while another was looked for: then it waits, parked. In books that hold hardly any does.

use std::collections::{HashMap, VecDeque};

use smallvec::SmallVec;

use super::Snapshots;
use super::balances::{Followed, Seen};
use super::invariant::Invariant;
use super::report::AuditReport;
use super::walk::Range;
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedGrant, BookedStanding, BookedUpdate, Books};
use crate::ledger::rows::UpdateKind;
use crate::policy::compiled::Name;
use crate::units::{AccountId, IdMap, Seq, Timestamp, UserId};

/// Groups that wait for their record.
pub(super) const PARKED_MAX: usize = 4_096;
/// Updates that are read together.
const PAGE: u32 = 1_024;

/// The updates of one record.
pub(super) struct Group {
    pub(super) account: AccountId,
    pub(super) seq: Seq,
    pub(super) updates: SmallVec<[Seen; 4]>,
    /// What was granted, where that was looked up already.
    pub(super) granted: Option<BookedGrant>,
}

/// All updates of a portion's balances.
pub(super) struct Stream<'a> {
    books: &'a dyn Books,
    since: Option<Timestamp>,
    balances: HashMap<i64, Followed>,
    named: HashMap<(AccountId, Option<UserId>, Name), i64>,
    /// The newest update of each account.
    newest: IdMap<AccountId, Option<i64>>,
    page: VecDeque<BookedUpdate>,
    after: i64,
    checkpoint: Option<i64>,
    ended: bool,
    parked: VecDeque<Group>,
    /// Whether balances that are not followed here are looked for elsewhere.
    pub(super) seeks_strays: bool,
    /// Updates that were followed.
    pub(super) followed: u64,
    /// Updates that granted.
    pub(super) grants: u64,
}

impl<'a> Stream<'a> {
    pub(super) fn new(books: &'a dyn Books, range: Range, since: Option<Timestamp>) -> Self {
        Self {
            books,
            since,
            balances: HashMap::new(),
            named: HashMap::new(),
            newest: IdMap::default(),
            page: VecDeque::new(),
            after: range.from.updates,
            checkpoint: range.checkpoint.map(|extent| extent.updates),
            ended: false,
            parked: VecDeque::new(),
            seeks_strays: false,
            followed: 0,
            grants: 0,
        }
    }

    /// Adds a balance to those that are followed.
    pub(super) fn add(&mut self, booked: BookedStanding, snapshots: &Snapshots) {
        let floor = snapshots.floor(&booked.name);
        self.named.insert((booked.account, booked.user, booked.name.clone()), booked.balance);
        let id = booked.balance;
        let followed =
            if self.since.is_some() { Followed::later(booked, floor) } else { Followed::new(booked, floor) };
        self.balances.insert(id, followed);
    }

    /// A balance by its owner and name.
    pub(super) fn named(&self, account: AccountId, user: Option<UserId>, name: &Name) -> Option<&Followed> {
        self.balances.get(self.named.get(&(account, user, name.clone()))?)
    }

    /// A balance by its row.
    pub(super) fn balance(&mut self, balance: i64) -> Option<&mut Followed> {
        self.balances.get_mut(&balance)
    }

    /// The newest update of an account that was followed; `None` before the first.
    pub(super) fn newest_of(&self, account: AccountId) -> Option<&Option<i64>> {
        self.newest.get(&account)
    }

    /// What the balance owed before the records from `seq` on, as far as groups of them have been pulled.
    pub(super) fn debt_before(&self, balance: &Followed, seq: Seq) -> i64 {
        let of_account = self.parked.iter().filter(|group| group.account == balance.booked.account);
        let later = of_account.filter(|group| group.seq >= seq).flat_map(|group| &group.updates);
        let touching = |seen: &&Seen| seen.update.balance == balance.booked.balance;
        later.filter(touching).map(|seen| seen.debt_before).next().unwrap_or(balance.debt)
    }

    /// The group of a record, if it waits.
    pub(super) fn parked(&mut self, account: AccountId, seq: Seq) -> Option<Group> {
        let place = self.parked.iter().position(|group| (group.account, group.seq) == (account, seq))?;
        self.parked.remove(place)
    }

    /// Parks a group.
    pub(super) fn park(&mut self, group: Group) {
        self.parked.push_back(group);
    }

    /// Whether no more groups may be parked.
    pub(super) fn is_full(&self) -> bool {
        self.parked.len() >= PARKED_MAX
    }

    /// What still waits.
    pub(super) fn leftovers(&mut self) -> VecDeque<Group> {
        std::mem::take(&mut self.parked)
    }

    /// The balances that were booked before the checkpoint, and what their hashes were then.
    pub(super) fn checked(&self) -> impl Iterator<Item = (&BookedStanding, [u8; 32])> {
        self.balances.values().filter_map(|followed| Some((&followed.booked, followed.checked?)))
    }

    /// All balances, in the order of their rows.
    pub(super) fn into_balances(self) -> Vec<Followed> {
        let mut balances: Vec<_> = self.balances.into_values().collect();
        balances.sort_unstable_by_key(|followed| followed.booked.balance);
        balances
    }

    /// Follows the next group, if there is one.
    pub(super) fn pull(&mut self, report: &mut AuditReport) -> Result<Option<Group>, LedgerError> {
        let mut group: Option<Group> = None;
        while let Some(update) = self.peek()? {
            let Some(followed) = self.balances.get_mut(&update.balance) else {
                self.page.pop_front();
                self.stray(&update, report)?;
                continue;
            };
            let key = (followed.booked.account, update.seq);
            if group.as_ref().is_some_and(|group| (group.account, group.seq) != key) {
                break;
            }
            self.page.pop_front();
            let new = || Group { account: key.0, seq: key.1, updates: SmallVec::new(), granted: None };
            self.follow(&update, group.get_or_insert_with(new), report)?;
        }
        Ok(group)
    }

    fn peek(&mut self) -> Result<Option<BookedUpdate>, LedgerError> {
        loop {
            if let Some(update) = self.page.front() {
                if self.since.is_none_or(|since| update.at >= since) {
                    return Ok(Some(*update));
                }
                self.page.pop_front();
                continue;
            }
            if self.ended {
                return Ok(None);
            }
            self.page = self.books.updates(self.after, PAGE)?.into();
            match self.page.back() {
                Some(last) => self.after = last.place,
                None => self.ended = true,
            }
        }
    }

    fn follow(
        &mut self,
        update: &BookedUpdate,
        group: &mut Group,
        report: &mut AuditReport,
    ) -> Result<(), LedgerError> {
        let Some(followed) = self.balances.get_mut(&update.balance) else { return Ok(()) };
        self.followed += 1;
        let account = followed.booked.account;
        if followed.is_unread() {
            followed.begin_before(update, self.books.hash_of(update.balance, update.previous)?);
        }
        let newest =
            self.newest.entry(account).or_insert(if self.since.is_some() { update.previous } else { None });
        let subject = || format!("{} update {}", followed.name(), update.place);
        report.compare(Invariant::I8, subject, "update before it", newest, &update.previous);
        *newest = Some(update.place);
        let mut expires_at = None;
        if let Some(grant) = update.grant.filter(|grant| !followed.knows(*grant)) {
            let booked = self.books.grant(grant)?;
            let belongs = booked.as_ref().is_some_and(|booked| booked.balance == update.balance);
            if !belongs {
                let found = booked.as_ref().map_or("none", |_| "one of another balance");
                report.violated(
                    Invariant::Orphans,
                    subject,
                    "grant that it names",
                    "one of its balance",
                    found,
                );
            }
            expires_at = booked.as_ref().and_then(|booked| booked.record.expires_at);
            group.granted = group.granted.take().or(booked);
        }
        self.grants += u64::from(update.kind == Some(UpdateKind::Grant));
        if self.checkpoint.is_some_and(|newest| update.place <= newest) {
            followed.checked = Some(update.hash);
        }
        group.updates.push(followed.follow(update, expires_at, report));
        Ok(())
    }

    /// An update of a balance that is not followed: of another portion, or of none.
    fn stray(&mut self, update: &BookedUpdate, report: &mut AuditReport) -> Result<(), LedgerError> {
        if self.seeks_strays && !self.books.has_balance(update.balance)? {
            let subject = || format!("update {}", update.place);
            report.violated(Invariant::Orphans, subject, "balance", update.balance, "none");
        }
        Ok(())
    }
}

impl Group {
    /// Whether all of it is of these kinds.
    pub(super) fn is_only(&self, kinds: &[UpdateKind]) -> bool {
        self.updates.iter().all(|seen| seen.update.kind.is_some_and(|kind| kinds.contains(&kind)))
    }
}
