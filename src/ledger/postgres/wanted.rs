//! What a batch will ask the books for, and at most how many places it takes.

use std::collections::BTreeSet;

use super::columns::Id;
use crate::access::record::{CorrectionRecord, OriginEntry, Record};
use crate::ledger::posting::{self, Numbered};
use crate::units::{AccountId, DecisionId, Timestamp};

/// By the kind of what it is.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Accounts, in the order in which they are held.
    pub accounts: Vec<Id>,
    /// Owners: accounts…
    pub owner_accounts: Vec<Id>,
    /// … and users beside them.
    pub owner_users: Vec<Id>,
    /// Decisions that may be booked.
    pub decisions: Vec<Id>,
    /// Decisions that are corrected.
    pub corrected: Vec<Id>,
    /// Grants that may be booked.
    pub grants: Vec<Id>,
    /// Refunds and adjustments that may be booked.
    pub orders: Vec<Id>,
    /// Other records that may be booked: their accounts…
    pub record_accounts: Vec<Id>,
    /// … and places.
    pub record_seqs: Vec<i64>,
    /// Usage events at most.
    pub events: i64,
    /// Balance updates at most.
    pub updates: i64,
    /// Other records at most.
    pub records: i64,
    /// New balances at most.
    pub balances: i64,
    /// Instants that partitions are needed for.
    pub instants: BTreeSet<Timestamp>,
}

impl Wanted {
    /// What these records will ask for.
    pub(super) fn of(batch: &[Record]) -> Self {
        let mut wanted = Self::default();
        let (mut accounts, mut owners, mut decisions) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for record in batch {
            if let Record::Job(job) = record {
                decisions.insert(Id::from(job.decision));
            }
            for numbered in posting::numbered(record) {
                let account = Id::from(numbered.account());
                accounts.insert(account);
                owners.insert((account, Id::of_owner(None)));
                owners.insert((account, Id::of_owner(numbered.user())));
                wanted.instants.insert(numbered.at());
                match numbered {
                    Numbered::End(end) if end.ending.reached_upstream => {
                        decisions.insert(Id::from(end.decision));
                        wanted.instants.insert(made_at(end.decision));
                        wanted.events += 1;
                    }
                    _ => wanted.other(&numbered, &mut decisions),
                }
                wanted.count(&numbered);
            }
        }
        wanted.accounts = accounts.into_iter().collect();
        (wanted.owner_accounts, wanted.owner_users) = owners.into_iter().unzip();
        wanted.decisions = decisions.into_iter().collect();
        wanted
    }

    fn other(&mut self, record: &Numbered<'_>, decisions: &mut BTreeSet<Id>) {
        self.record_accounts.push(AccountId::into(record.account()));
        self.record_seqs.push(record.seq().0.cast_signed());
        self.records += 1;
        match record {
            Numbered::Grant(grant) => self.grants.push(Id::from(grant.grant)),
            Numbered::Correction(correction) => self.correction(correction, decisions),
            Numbered::Revision(revision) => {
                self.correction(&revision.correction, decisions);
                self.orders.extend(revision.order.key().map(|(id, _)| Id::from(id)));
            }
            Numbered::Adjustment(adjustment) => self.orders.push(Id::from(adjustment.id)),
            Numbered::End(_) | Numbered::Expiry(_) => {}
        }
    }

    fn correction(&mut self, correction: &CorrectionRecord, decisions: &mut BTreeSet<Id>) {
        decisions.insert(Id::from(correction.decision));
        self.corrected.push(Id::from(correction.decision));
        self.instants.insert(made_at(correction.decision));
    }

    /// Counts the lines that posting makes of a record, before those of one key are joined.
    fn count(&mut self, record: &Numbered<'_>) {
        let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        let moved = |correction: &CorrectionRecord| {
            let moves = correction.moves.len();
            (count(moves + correction.expired.len() + 2 * correction.repaid.len()), count(moves))
        };
        let (updates, balances) = match record {
            Numbered::End(end) => {
                let drawn =
                    end.draws.iter().filter(|draw| !matches!(draw.origin, OriginEntry::Windows(_))).count();
                let owed = end.draws.iter().filter(|draw| matches!(draw.origin, OriginEntry::Debt { .. }));
                (count(drawn + end.expired.len() + 2 * end.repaid.len()), count(owed.count()))
            }
            Numbered::Grant(_) | Numbered::Adjustment(_) => (3, 1),
            Numbered::Expiry(expiry) => (count(expiry.grants.len()), 0),
            Numbered::Correction(correction) => moved(correction),
            Numbered::Revision(revision) => moved(&revision.correction),
        };
        self.updates = self.updates.saturating_add(updates);
        self.balances = self.balances.saturating_add(balances);
    }
}

/// The instant inside a decision's id.
pub(super) fn made_at(decision: DecisionId) -> Timestamp {
    let mut ms = [0; 8];
    ms[2..].copy_from_slice(&decision.as_bytes()[..6]);
    Timestamp::from_ms(i64::from_be_bytes(ms))
}
