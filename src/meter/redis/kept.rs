//! What a node's journal says of it: what it has in flight, and what may not have reached the books.

use std::collections::HashMap;

use crate::access::record::{Entry, HoldRecord, JobRecord, MadeRecord, Record};
use crate::journal::Position;
use crate::units::DecisionId;

/// A hold that is open in the journal.
#[derive(Clone, Debug)]
pub struct OpenHold {
    /// The hold as it was made.
    pub hold: Box<HoldRecord>,
    /// What it has become.
    pub job: Option<JobRecord>,
}

/// What the frames of a journal come to, in their order.
#[derive(Debug, Default)]
pub struct Kept {
    /// Holds without an end.
    pub open: HashMap<DecisionId, OpenHold>,
    /// What was made upstream.
    pub made: Vec<MadeRecord>,
    /// How many records there are.
    pub records: u64,
    /// The newest epoch that began, and where.
    began: Option<(u64, Position)>,
    /// Records of epochs before that, unless they have been done again in it.
    older: Vec<Record>,
    /// Records of it.
    newer: Vec<Record>,
}

impl Kept {
    /// Adds a frame, and where it stands.
    pub fn add(&mut self, at: Position, entry: Entry) {
        match entry {
            Entry::Record(record) => self.record(record),
            Entry::Over(decision) => {
                self.open.remove(&decision);
            }
            Entry::Began(epoch) => {
                self.began = Some((epoch, at));
                self.older.append(&mut self.newer);
            }
            Entry::DoneAgain(_) => self.older.clear(),
        }
    }

    fn record(&mut self, record: Record) {
        self.records += 1;
        match record {
            Record::Hold(hold) => {
                self.newer.extend(hold.issued.iter().cloned().map(Record::Grant));
                self.open.insert(hold.decision, OpenHold { hold, job: None });
            }
            Record::Job(job) => {
                if let Some(open) = self.open.get_mut(&job.decision) {
                    open.job = Some(job);
                }
            }
            Record::Made(made) => self.made.push(made),
            Record::End(end) => {
                self.open.remove(&end.decision);
                self.newer.push(Record::End(end));
            }
            Record::Grant(_)
            | Record::Expiry(_)
            | Record::Correction(_)
            | Record::Revision(_)
            | Record::Adjustment(_) => self.newer.push(record),
        }
    }

    /// Whether the newest epoch that began is this one.
    pub fn has_begun(&self, epoch: u64) -> bool {
        self.began.is_some_and(|(began, _)| began == epoch)
    }

    /// Where it did.
    pub fn began_at(&self) -> Option<Position> {
        self.began.map(|(_, at)| at)
    }

    /// What was done in epochs before the newest, and has not been done again in it. The books may have it.
    pub fn before(&self) -> &[Record] {
        &self.older
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::record::ExpiryRecord;
    use crate::units::{AccountId, Seq, Timestamp};

    fn record(seq: u64) -> Record {
        Record::Expiry(ExpiryRecord {
            seq: Seq(seq),
            account: AccountId::MIN,
            user: None,
            expired_at: Timestamp::from_ms(0),
            grants: Vec::new(),
        })
    }

    fn before(entries: &[Entry]) -> Vec<u64> {
        let mut kept = Kept::default();
        entries.iter().cloned().for_each(|entry| kept.add(Position::START, entry));
        kept.before().iter().filter_map(Record::seq).map(|seq| seq.0).collect()
    }

    /// I7: what was done before an epoch is done again in it once; what is of it is not.
    #[test]
    fn what_is_of_an_epoch_is_not_done_again_in_it() {
        let [one, two, three] = [1, 2, 3].map(|seq| Entry::Record(record(seq)));
        let mut entries = vec![one, Entry::Began(1), two];
        assert_eq!(before(&entries), [1], "it was not done again before a crash");
        entries.push(Entry::DoneAgain(1));
        assert_eq!(before(&entries), [0; 0]);
        entries.extend([three, Entry::Began(2)]);
        assert_eq!(before(&entries), [2, 3]);
        entries.push(Entry::Began(3));
        assert_eq!(
            before(&entries),
            [2, 3],
            "epochs may follow each other faster than anything is done again"
        );
        entries.push(Entry::DoneAgain(3));
        assert_eq!(before(&entries), [0; 0]);
    }
}
