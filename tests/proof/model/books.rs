//! The books as a worker keeps them: what the ledger's `apply` does, with the very posting that it uses.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use overfall::access::record::{CorrectionRecord, EndRecord, GrantRecord, Record};
use overfall::ledger::posting::{self, Numbered, Purse, Purses, Update};
use overfall::ledger::rows::Cause;
use overfall::policy::compiled::{Name, Scope};
use overfall::units::{DecisionId, GrantId, OrderId, Seq, Timestamp, UserId};

use super::bend::Bend;

/// A record that has been made, and what tells it from others.
#[derive(Debug)]
pub(crate) struct Kept {
    pub record: Record,
    /// Its place, where it has one.
    pub seq: Option<u64>,
    digest: u64,
}

/// One balance update, with what its record adds.
#[derive(Clone, Debug)]
pub(crate) struct BookedUpdate {
    pub owner: Option<UserId>,
    pub balance: Name,
    pub update: Update,
    pub seq: Seq,
    pub cause: Cause,
    pub at: Timestamp,
}

/// Everything that is booked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    /// The newest place.
    pub seq: u64,
    /// What the account has of its own.
    pub shared: Purse,
    /// What each user has.
    pub own: BTreeMap<UserId, Purse>,
    /// Balance updates, in the order in which they were booked.
    pub updates: Vec<BookedUpdate>,
    /// Records, in the order in which they were booked.
    pub applied: Vec<Arc<Kept>>,
    /// Records that contradicted what is booked.
    pub conflicts: u8,
}

/// What became of a record that was given to the books.
#[derive(Debug)]
pub(crate) enum Applied {
    /// It changed them.
    Booked(Books),
    /// They have it.
    Repeated,
    /// An earlier one is missing.
    Waits,
}

impl Kept {
    pub(crate) fn new(record: Record) -> Arc<Self> {
        let bytes = postcard::to_allocvec(&record).unwrap();
        let seq = posting::numbered(&record).next().map(|numbered| numbered.seq().0);
        Arc::new(Self { seq, digest: digest(&bytes), record })
    }

    pub(crate) fn end(&self) -> Option<&EndRecord> {
        match &self.record {
            Record::End(end) => Some(end),
            _ => None,
        }
    }

    /// The grants it tells of.
    pub(crate) fn grants(&self) -> &[GrantRecord] {
        match &self.record {
            Record::Grant(grant) => std::slice::from_ref(grant),
            Record::Hold(hold) => &hold.issued,
            _ => &[],
        }
    }

    /// The decision whose money it tells, where it is not the end's.
    pub(crate) fn corrects(&self) -> Option<DecisionId> {
        match &self.record {
            Record::Correction(correction) => Some(correction.decision),
            _ => None,
        }
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        (self.seq, self.digest) == (other.seq, other.digest)
    }
}

impl Eq for Kept {}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl Books {
    /// Books a record, in its turn and once.
    pub(crate) fn apply(&self, kept: &Arc<Kept>, bend: Option<Bend>) -> Applied {
        let seq = kept.seq.unwrap_or_default();
        if seq <= self.seq && bend != Some(Bend::NoDeduplication) {
            let same = self.applied.iter().any(|other| other == kept);
            return if same { Applied::Repeated } else { Applied::Booked(self.refused()) };
        }
        if seq > self.seq + 1 && bend != Some(Bend::NoOrder) {
            return Applied::Waits;
        }
        let mut books = self.clone();
        for numbered in posting::numbered(&kept.record) {
            if bend != Some(Bend::NoDeduplication) && self.is_taken(&numbered) || !books.book(numbered) {
                return Applied::Booked(self.refused());
            }
        }
        books.seq = books.seq.max(seq);
        books.applied.push(Arc::clone(kept));
        Applied::Booked(books)
    }

    /// The end of a decision.
    pub(crate) fn end_of(&self, decision: DecisionId) -> Option<&EndRecord> {
        self.applied.iter().filter_map(|kept| kept.end()).find(|end| end.decision == decision)
    }

    /// Whether a truth has been booked that came after the end.
    pub(crate) fn is_corrected(&self, decision: DecisionId) -> bool {
        self.applied.iter().any(|kept| kept.corrects() == Some(decision))
    }

    /// The revisions of a call, in the order in which they were booked.
    pub(crate) fn revisions(&self, decision: DecisionId) -> impl Iterator<Item = &Record> {
        let records = self.applied.iter().map(|kept| &kept.record);
        records.filter(move |record| record.revision().is_some_and(|it| it.decision == decision))
    }

    pub(crate) fn has_order(&self, order: OrderId) -> bool {
        self.applied.iter().any(|kept| order_of(&kept.record) == Some(order))
    }

    pub(crate) fn has_grant(&self, grant: GrantId) -> bool {
        self.grants().any(|record| record.grant == grant)
    }

    pub(crate) fn grants(&self) -> impl Iterator<Item = &GrantRecord> {
        self.applied.iter().flat_map(|kept| kept.grants())
    }

    /// All purses, with whose they are.
    pub(crate) fn purses(&self) -> impl Iterator<Item = (Option<UserId>, &Purse)> {
        std::iter::once((None, &self.shared)).chain(self.own.iter().map(|(user, purse)| (Some(*user), purse)))
    }

    /// What the database's unique keys refuse.
    fn is_taken(&self, numbered: &Numbered<'_>) -> bool {
        match numbered {
            Numbered::End(end) => self.end_of(end.decision).is_some(),
            Numbered::Grant(grant) => self.has_grant(grant.grant),
            Numbered::Correction(correction) => self.has_revision(correction),
            Numbered::Revision(told) => {
                let order = told.order.key().map(|(order, _)| order);
                self.has_revision(&told.correction) || order.is_some_and(|order| self.has_order(order))
            }
            Numbered::Adjustment(adjustment) => self.has_order(adjustment.id),
            Numbered::Expiry(_) => false,
        }
    }

    fn has_revision(&self, told: &CorrectionRecord) -> bool {
        let booked = self.revisions(told.decision).filter_map(Record::revision);
        booked.into_iter().any(|booked| booked.revision == told.revision)
    }

    fn refused(&self) -> Self {
        Self { conflicts: self.conflicts + 1, ..self.clone() }
    }

    fn book(&mut self, numbered: Numbered<'_>) -> bool {
        let mut nobody = Purse::default();
        let own = match numbered.user() {
            Some(user) => self.own.entry(user).or_default(),
            None => &mut nobody,
        };
        let mut purses = Purses { shared: &mut self.shared, own };
        let Ok(plan) = posting::plan(numbered, &mut purses) else { return false };
        for update in plan.carry_out(&mut purses) {
            let purse = if update.scope == Scope::User { &*purses.own } else { &*purses.shared };
            self.updates.push(BookedUpdate {
                owner: numbered.user().filter(|_| update.scope == Scope::User),
                balance: purse.balances[update.balance].name.clone(),
                seq: numbered.seq(),
                cause: numbered.cause(&update),
                at: numbered.at(),
                update,
            });
        }
        true
    }
}

impl PartialEq for Books {
    fn eq(&self, other: &Self) -> bool {
        (&self.applied, self.conflicts) == (&other.applied, other.conflicts)
    }
}

impl Eq for Books {}

/// What is booked follows from which records were, in which order.
impl Hash for Books {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.applied.hash(state);
        self.conflicts.hash(state);
    }
}

/// What makes an order of an operator the same, beside credits and prices.
pub(crate) fn order_of(record: &Record) -> Option<OrderId> {
    match record {
        Record::Adjustment(adjustment) => Some(adjustment.id),
        Record::Revision(revision) => revision.order.key().map(|(order, _)| order),
        _ => None,
    }
}

/// A short digest of bytes.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
