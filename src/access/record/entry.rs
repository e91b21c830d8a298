//! What stands in a frame of a node's journal.

use super::Record;
use crate::units::DecisionId;

/// What nearly every record fits in, so that it is written without growing.
const RECORD_BYTES: usize = 1024;

/// The first byte of what is no record; no record begins with it.
const MARK: u8 = 0xff;

/// A frame's content.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A record.
    Record(Record),
    /// A hold is over, and its end is told elsewhere: another node has seen its deadline pass.
    Over(DecisionId),
    /// What follows is of this epoch.
    Began(u64),
    /// What was of earlier epochs, and did not reach the books, has been done again in this one.
    DoneAgain(u64),
}

impl Entry {
    /// Reads a frame's content; `id` is the decision that the frame names, if it names one.
    pub fn read(id: [u8; 16], payload: &[u8]) -> Result<Self, postcard::Error> {
        match payload {
            [] => Ok(Self::Over(DecisionId::from_bytes(id))),
            [MARK, kind, epoch @ ..] => {
                let epoch = epoch.try_into().map(u64::from_le_bytes);
                let epoch = epoch.map_err(|_| postcard::Error::DeserializeUnexpectedEnd)?;
                match kind {
                    0 => Ok(Self::Began(epoch)),
                    1 => Ok(Self::DoneAgain(epoch)),
                    _ => Err(postcard::Error::DeserializeBadEncoding),
                }
            }
            record => Ok(Self::Record(postcard::from_bytes(record)?)),
        }
    }

    /// The bytes of it.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Record(record) => record.bytes(),
            Self::Over(_) => Vec::new(),
            Self::Began(epoch) => mark(0, *epoch),
            Self::DoneAgain(epoch) => mark(1, *epoch),
        }
    }

    /// Its record, if it is one.
    pub fn record(self) -> Option<Record> {
        match self {
            Self::Record(record) => Some(record),
            Self::Over(_) | Self::Began(_) | Self::DoneAgain(_) => None,
        }
    }
}

impl Record {
    /// What a frame has of a record.
    pub fn bytes(&self) -> Vec<u8> {
        // Serialising values made of numbers, strings and lists into memory cannot fail.
        postcard::to_extend(self, Vec::with_capacity(RECORD_BYTES)).unwrap_or_default()
    }
}

fn mark(kind: u8, epoch: u64) -> Vec<u8> {
    [&[MARK, kind][..], &epoch.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::super::ExpiryRecord;
    use super::*;
    use crate::units::{AccountId, Seq, Timestamp};

    #[test]
    fn what_is_written_is_read() {
        let record = Record::Expiry(ExpiryRecord {
            seq: Seq(1),
            account: AccountId::MIN,
            user: None,
            expired_at: Timestamp::from_ms(0),
            grants: Vec::new(),
        });
        let over = Entry::Over(DecisionId::from_bytes([7; 16]));
        for entry in [Entry::Record(record), over, Entry::Began(3), Entry::DoneAgain(u64::MAX)] {
            assert_eq!(Entry::read([7; 16], &entry.bytes()).unwrap(), entry);
        }
        for damaged in [&[MARK][..], &[MARK, 0, 1], &[MARK, 2, 0, 0, 0, 0, 0, 0, 0, 0], &[0x40]] {
            assert!(Entry::read([0; 16], damaged).is_err(), "{damaged:?}");
        }
    }
}
