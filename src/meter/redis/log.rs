//! What a node keeps of its own: the journal of what it did to the shared counts, and how many holds it has open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::access::record::{Entry, Record};
use crate::journal::{AppendError, Frame, Health, Journal, Tag, Ticket};
use crate::meter::began::Began;
use crate::meter::{MeterError, effect_of};
use crate::units::DecisionId;

pub(super) struct Log {
    pub(super) journal: Arc<Journal>,
    open: AtomicU64,
    pub(super) began: Began,
}

impl Log {
    pub(super) fn new(journal: Arc<Journal>) -> Self {
        Self { journal, open: AtomicU64::new(0), began: Began::default() }
    }

    /// Keeps a record until the books have it.
    pub(super) fn append(&self, record: &Record) -> Result<Ticket, MeterError> {
        let (tag, id) = effect_of(record);
        self.journal.append(Frame { tag, id, payload: &record.bytes() }).map_err(MeterError::Journal)
    }

    /// Keeps what is no record.
    pub(super) fn note(&self, entry: &Entry) -> Result<Ticket, AppendError> {
        let (tag, id) = match entry {
            Entry::Record(record) => effect_of(record),
            Entry::Over(decision) => (Tag::End, *decision.as_bytes()),
            Entry::Began(_) | Entry::DoneAgain(_) => (Tag::Other, [0; 16]),
        };
        self.journal.append(Frame { tag, id, payload: &entry.bytes() })
    }

    /// Notes that a hold is over whose end is told elsewhere: another node has seen its deadline pass.
    pub(super) fn is_over(&self, decision: DecisionId) {
        // What is not noted keeps a file of the journal until the next start, which notes it.
        let _unawaited = self.note(&Entry::Over(decision));
    }

    /// Whether the journal takes holds; asked first, so that none is taken that it then refuses.
    pub(super) fn takes_holds(&self) -> Result<(), MeterError> {
        match self.journal.health() {
            Health::Good => Ok(()),
            Health::Refusing { reason } => Err(MeterError::Journal(reason.into())),
        }
    }

    /// A hold of this node is open.
    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A hold of this node has ended.
    pub(super) fn closed(&self) {
        let less = |open: u64| Some(open.saturating_sub(1));
        let _before = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// How many holds of this node are open.
    pub(super) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }
}
