//! Which balance updates belong to which record: both come in the order of booking, side by side.

use super::super::invariant::Invariant;
use super::super::stream::Group;
use super::Walk;
use crate::ledger::LedgerError;
use crate::units::{AccountId, Seq};

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

    /// Pulls until all is followed that was booked before the usage event of this place.
    pub(super) fn catch_up(&mut self, id: AccountId, seq: Seq, place: i64) -> Result<(), LedgerError> {
        while self.has_room() {
            let Some(group) = self.stream.pull(self.report)? else { return Ok(()) };
            let later = self.event_of(&group)?.is_some_and(|found| found > place);
            if group.account == id && group.seq > seq {
                self.stream.park(group);
            } else {
                self.place(group)?;
            }
            if later {
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

    /// The place of the usage event that a group belongs to, if it does to one.
    pub(super) fn event_of(&self, group: &Group) -> Result<Option<i64>, LedgerError> {
        let Some(decision) = group.decision() else { return Ok(None) };
        let found = self.books.event_of(decision)?;
        Ok(found
            .filter(|(_, account, seq)| (*account, *seq) == (group.account, group.seq))
            .map(|(place, ..)| place))
    }

    /// Finds the record of a group that nobody waits for: one that has passed, one that can be reached, or one that is
    /// still to come.
    pub(super) fn place(&mut self, group: Group) -> Result<(), LedgerError> {
        let (id, seq) = (group.account, group.seq);
        let Some(newest) = self.accounts.get(&id).and_then(|account| account.seq) else {
            self.stream.park(group);
            return Ok(());
        };
        if self.is_believed(&group) {
            return Ok(());
        }
        if seq <= newest {
            self.came_back(&format!("{id} seq {}", seq.0), Some(&group));
            return Ok(());
        }
        let is_event = self.event_of(&group)?.is_some();
        self.stream.park(group);
        if is_event {
            return Ok(());
        }
        let records = self.books.records(id, newest, seq.next())?;
        let reaches = records.iter().zip(newest.0 + 1..).all(|(record, next)| record.seq.0 == next)
            && records.last().is_some_and(|last| last.seq == seq);
        if reaches {
            for record in records {
                self.record(id, &record)?;
            }
        }
        Ok(())
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
