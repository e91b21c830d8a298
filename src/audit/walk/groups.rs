//! Which balance updates belong to which record: both come in the order of booking, side by side.

use super::super::invariant::Invariant;
use super::super::stream::Group;
use super::Walk;
use crate::ledger::LedgerError;
use crate::units::{AccountId, Seq};

/// Records that are looked at within others at most. In books that hold, one within another is.
const NESTED_MAX: usize = 4;

impl Walk<'_> {
    /// The group of a record that must have one. What is met on the way is placed once it is found: records of other
    /// accounts would take it for one that has passed.
    pub(super) fn take(&mut self, id: AccountId, seq: Seq) -> Result<Option<Group>, LedgerError> {
        if let Some(group) = self.stream.parked(id, seq) {
            return Ok(Some(group));
        }
        let (mut met, mut found) = (Vec::new(), None);
        while found.is_none() && self.has_room() {
            let Some(group) = self.stream.pull(self.report)? else { break };
            if (group.account, group.seq) == (id, seq) {
                found = Some(group);
            } else {
                met.push((group.account, group.seq));
                self.stream.park(group);
            }
        }
        for (account, seq) in met {
            if let Some(group) = self.stream.parked(account, seq) {
                self.place(group)?;
            }
        }
        Ok(found)
    }

    /// Pulls until all is followed that was booked before the record that is looked at: until something is met that has
    /// not been gone through.
    pub(super) fn catch_up(&mut self, id: AccountId, seq: Seq) -> Result<(), LedgerError> {
        while self.has_room() {
            let Some(group) = self.stream.pull(self.report)? else { return Ok(()) };
            let (account, of) = (group.account, group.seq);
            if account == id && of > seq {
                self.stream.park(group);
                return Ok(());
            }
            self.place(group)?;
            if self.newest(account).is_some_and(|newest| newest < of) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether another group may be parked.
    pub(super) fn has_room(&mut self) -> bool {
        if self.stream.is_full() && self.scope.since.is_some() {
            for group in self.stream.leftovers() {
                if !self.is_believed(&group) {
                    self.stream.park(group);
                }
            }
        }
        !self.stream.is_full()
    }

    /// Whether a group belongs to what came before the walk: of a record before the account's first usage event in it.
    pub(super) fn is_believed(&self, group: &Group) -> bool {
        let account = self.accounts.get(&group.account);
        let began = account.filter(|account| account.seq.is_some()).map(|account| account.began);
        began.map_or(self.scope.since.is_some(), |began| group.seq <= began)
    }

    /// Finds the record of a group that nobody waits for: one that has passed, one that can be reached, or one that is
    /// still to come.
    pub(super) fn place(&mut self, group: Group) -> Result<(), LedgerError> {
        let (id, seq) = (group.account, group.seq);
        let Some(newest) = self.newest(id) else {
            self.stream.park(group);
            return Ok(());
        };
        if self.is_believed(&group) {
            return Ok(());
        }
        if self.present.contains(&(id, seq)) || self.present.len() > NESTED_MAX {
            self.stream.park(group);
            return Ok(());
        }
        if seq <= newest {
            self.came_back(&format!("{id} seq {}", seq.0), Some(&group));
            return Ok(());
        }
        self.stream.park(group);
        self.reach(id, seq)
    }

    /// Updates that belong to no record.
    pub(super) fn leftovers(&mut self) {
        for group in self.stream.leftovers() {
            if self.is_believed(&group) {
                continue;
            }
            let subject = || format!("{} seq {}", group.account, group.seq.0);
            let found = group.updates.len();
            let what = "balance updates without a record";
            self.report.violated(Invariant::Orphans, subject, what, 0, found);
        }
    }
}
