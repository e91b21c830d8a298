//! Keys: where the rows of an account stand.
//!
//! All keys of an account carry the same hash tag, `{of:0017}`, so that they are in one slot of a cluster and one script
//! may touch them. There are 256 such partitions, fixed at installation: a queue, a clock and a worker for each.

use crate::ledger::shared::QUEUES;
use crate::units::{AccountId, DecisionId, GrantId, OrderId, UserId};

/// The slots of a cluster.
const SLOTS: u16 = 16_384;

/// One of the parts that accounts are spread over: as many as there are queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Partition(u16);

/// A row of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum RowKey {
    /// What all users share.
    Shared,
    /// What a user has.
    User(UserId),
    /// A hold, or how it ended.
    Hold(DecisionId),
    /// A grant that is on its way to the books.
    Grant(GrantId),
    /// The newest revision of a call's money.
    Revision(DecisionId),
    /// An adjustment or refund that is on its way to the books.
    Order(OrderId),
}

/// Keys that a partition has once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fixed {
    /// Since when the store has kept everything.
    Epoch,
    /// The newest instant that was told.
    Clock,
    /// Records on their way to the books: a stream.
    Queue,
    /// When holds end: a sorted set.
    Deadlines,
    /// When grants expire: a sorted set.
    Expiries,
    /// Holds that are jobs: a sorted set.
    Jobs,
}

impl Fixed {
    /// In the order in which the script takes them.
    pub(super) const ALL: [Self; 6] =
        [Self::Epoch, Self::Clock, Self::Queue, Self::Deadlines, Self::Expiries, Self::Jobs];

    /// Its place among the script's keys, from 1.
    pub(super) const fn place(self) -> usize {
        self as usize + 1
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Clock => "clock",
            Self::Queue => "queue",
            Self::Deadlines => "deadlines",
            Self::Expiries => "expiries",
            Self::Jobs => "jobs",
        }
    }
}

impl Partition {
    /// The partition of an account.
    pub(super) fn of(account: AccountId) -> Self {
        let place = account.shard(usize::from(QUEUES));
        Self(u16::try_from(place).unwrap_or_default())
    }

    /// The partition of a number.
    pub(super) const fn numbered(number: u16) -> Self {
        Self(number)
    }

    /// All partitions.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..QUEUES).map(Self)
    }

    /// All of them, whichever first.
    pub(super) fn all_from_any() -> impl Iterator<Item = Self> {
        let first = rand::random_range(0..QUEUES);
        (first..QUEUES).chain(0..first).map(Self)
    }

    /// One of them.
    pub(super) fn any() -> Self {
        Self(rand::random_range(0..QUEUES))
    }

    /// What all of its keys begin with.
    pub(super) fn tag(self) -> String {
        format!("{{{}}}:", self.word())
    }

    /// Where its keys are in a cluster.
    pub(super) fn slot(self) -> u16 {
        crc16(self.word().as_bytes()) % SLOTS
    }

    /// What stands between braces in its keys: that alone decides about the slot.
    fn word(self) -> String {
        format!("of:{:04}", self.0)
    }

    /// Its number.
    pub(super) const fn number(self) -> u16 {
        self.0
    }

    /// A key that it has once.
    pub(super) fn key(self, fixed: Fixed) -> Vec<u8> {
        format!("{}{}", self.tag(), fixed.name()).into_bytes()
    }

    /// The key of a row.
    pub(super) fn row(self, account: AccountId, row: RowKey) -> Vec<u8> {
        let (kind, id) = match &row {
            RowKey::Shared => ('a', account.as_bytes()),
            RowKey::User(user) => ('u', user.as_bytes()),
            RowKey::Hold(decision) => ('h', decision.as_bytes()),
            RowKey::Grant(grant) => ('g', grant.as_bytes()),
            RowKey::Revision(decision) => ('r', decision.as_bytes()),
            RowKey::Order(order) => ('o', order.as_bytes()),
        };
        let mut key = format!("{}{kind}:", self.tag()).into_bytes();
        key.extend_from_slice(id);
        key
    }
}

/// What a cluster spreads keys by: CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum: u16, _| {
            (sum << 1) ^ if sum & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    })
}

/// A member of an index: an account, and a user, a decision or nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) account: AccountId,
    pub(super) of: [u8; 16],
}

impl Member {
    pub(super) fn bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(self.account.as_bytes());
        bytes[16..].copy_from_slice(&self.of);
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (account, of) = bytes.split_first_chunk::<16>()?;
        Some(Self { account: AccountId::from_bytes(*account), of: of.try_into().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_an_account_are_in_one_slot() {
        let account = AccountId::from_bytes([7; 16]);
        let partition = Partition::of(account);
        let tag = format!("{{of:{:04}}}:", partition.number());
        let rows = [RowKey::Shared, RowKey::User(UserId::MIN), RowKey::Hold(DecisionId::MIN)];
        let rows = rows.map(|row| partition.row(account, row));
        for key in rows.into_iter().chain(Fixed::ALL.map(|fixed| partition.key(fixed))) {
            assert!(key.starts_with(tag.as_bytes()), "{key:?}");
        }
    }

    #[test]
    fn slots_are_those_of_a_cluster() {
        // What `CLUSTER KEYSLOT` says.
        assert_eq!(
            [crc16(b"123456789"), crc16(b"foo") % SLOTS, crc16(b"bar") % SLOTS],
            [0x31C3, 12182, 5061]
        );
    }

    #[test]
    fn the_fixed_keys_stand_where_the_script_takes_them() {
        for (place, fixed) in Fixed::ALL.into_iter().enumerate() {
            assert_eq!(fixed.place(), place + 1);
        }
    }
}
