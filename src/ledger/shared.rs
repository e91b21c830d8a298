//! The port of books that many nodes share: who brings which queue to them, how far each is booked, and what others have
//! changed in the directory.
//!
//! A queue has one worker at a time: it leases it, and every lease has a higher number (a fence). What a worker books and
//! how far that brings the queue is one transaction, which the books refuse to whoever has not the lease any more. So
//! workers may come, go and be killed at any time: nothing is booked twice, and nothing is passed over.

mod epoch;
mod place;

use async_trait::async_trait;

use super::rows::{Applied, Restored};
use super::{Ledger, LedgerError};
use crate::access::record::Record;
use crate::units::{AccountId, Seq, Span};

pub use epoch::{Attendance, Epoch, Phase};
pub use place::{NoPlace, Place, QUEUES, Queued};

/// A queue that a worker has leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which queue.
    pub queue: u16,
    /// Which lease of it.
    pub fence: u64,
    /// How far it is booked.
    pub booked: Place,
}

/// What is taken out of a queue at a time.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The lease by which it is taken.
    pub lease: Lease,
    /// The records, in their order; at least one.
    pub records: Vec<Queued>,
}

impl Taken {
    /// How far the queue is booked once all but those that wait for an earlier one are.
    pub fn reached(&self, waiting: &[(AccountId, Seq)]) -> Place {
        let waits = |queued: &Queued| {
            let record = &queued.record;
            record.seq().is_some_and(|seq| waiting.contains(&(record.account(), seq)))
        };
        let booked = self.records.iter().take_while(|queued| !waits(queued));
        booked.last().map_or(self.lease.booked, |queued| queued.place)
    }
}

/// What came of booking out of queues.
#[derive(Debug)]
pub enum Booking {
    /// It is booked.
    Done(Applied),
    /// Another worker has one of the queues now. Nothing was booked.
    Fenced,
}

/// A change of the directory: all up to it are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change(pub i64);

/// Books that many nodes share.
#[async_trait]
pub trait SharedLedger: Ledger {
    /// Takes part as `worker` for so long from now, and tells the queues that it has: those it had, less what others who
    /// take part have too little of, more of what nobody has.
    async fn share(&self, worker: &str, alive: Span) -> Result<Vec<Lease>, LedgerError>;

    /// Gives up all queues of a worker.
    async fn leave(&self, worker: &str) -> Result<(), LedgerError>;

    /// Books what was taken out of leased queues, and how far that brings each ([`Taken::reached`]).
    async fn apply_from(&self, taken: &[Taken]) -> Result<Booking, LedgerError>;

    /// How far each queue is booked, in the order of their numbers.
    async fn places(&self) -> Result<Vec<Place>, LedgerError>;

    /// Books records of a node's journal that did not come through a queue, while the epoch that they are of is open
    /// ([`Booking::Fenced`] otherwise).
    async fn apply_in(&self, epoch: u64, batch: Vec<Record>) -> Result<Booking, LedgerError>;

    /// Takes part as a node that has come so far, for so long from now. One of those who do is the builder.
    async fn attend(&self, node: &str, alive: Span, reached: Epoch) -> Result<Attendance, LedgerError>;

    /// Takes part no longer.
    async fn depart(&self, node: &str) -> Result<(), LedgerError>;

    /// Begins the epoch after this one, unless somebody has. `why` is for whoever reads the table.
    async fn begin_epoch(&self, after: u64, why: &str) -> Result<(), LedgerError>;

    /// Brings an epoch on these servers to its next phase, unless somebody has; tells whether it was this call.
    async fn move_epoch(&self, from: Epoch, store: &str) -> Result<bool, LedgerError>;

    /// Takes one of so many places of nodes that may give something while the store of live counts is away, for the node of
    /// this data folder. It is kept until it is given up. Tells whether the node has one.
    async fn take_slot(&self, home: &str, most: u64) -> Result<bool, LedgerError>;

    /// Gives it up: all that the node gave is counted.
    async fn free_slot(&self, home: &str) -> Result<(), LedgerError>;

    /// What has changed in the directory since, by whomever: accounts, users and keys as they are now. What is known may
    /// be told again.
    async fn changes(&self, since: Change) -> Result<(Change, Vec<Restored>), LedgerError>;

    /// How far they are known before anything is read.
    async fn newest_change(&self) -> Result<Change, LedgerError>;

    /// The newest record of each of these accounts that is booked.
    async fn heads(&self, accounts: &[AccountId]) -> Result<Vec<(AccountId, Seq)>, LedgerError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::record::ExpiryRecord;
    use crate::units::Timestamp;

    /// I7: what waits for an earlier record is not passed over.
    #[test]
    fn a_queue_is_booked_up_to_the_first_record_that_waits() {
        let account = AccountId::from_bytes([1; 16]);
        let queued = |nth: u64| Queued {
            place: Place { ms: 10, nth },
            record: Record::Expiry(ExpiryRecord {
                seq: Seq(nth),
                account,
                user: None,
                expired_at: Timestamp::from_ms(0),
                grants: Vec::new(),
            }),
        };
        let booked = Place { ms: 9, nth: 0 };
        let taken = Taken {
            lease: Lease { queue: 0, fence: 1, booked },
            records: vec![queued(1), queued(2), queued(3)],
        };
        assert_eq!(taken.reached(&[]), Place { ms: 10, nth: 3 });
        assert_eq!(taken.reached(&[(account, Seq(3))]), Place { ms: 10, nth: 2 });
        assert_eq!(taken.reached(&[(account, Seq(1))]), booked);
        assert_eq!(taken.reached(&[(AccountId::MIN, Seq(1))]), Place { ms: 10, nth: 3 });
    }
}
