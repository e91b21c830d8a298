//! Epochs: since when a store of live counts has kept everything.
//!
//! A store that may have lost something is not counted on. All nodes leave it, it is built anew from the books, every
//! node fills balances and then holds again what the books have not yet, and only then do all go on. The books know how far that has come, since
//! they are what all nodes can still agree by.

/// How far an epoch has come, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nodes stop to decide by the one before. What waits in queues is booked.
    #[default]
    Closing,
    /// Nothing of the one before is booked any more. Counts are built from the books.
    Building,
    /// Nodes fill balances again that were filled and are in no books.
    Granting,
    /// Nodes have the store hold what they have in flight, which draws on those.
    Holding,
    /// All decide by it.
    Open,
}

/// An epoch that has come so far. Ordered by what comes later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch {
    /// From 1.
    pub number: u64,
    /// How far it has come.
    pub phase: Phase,
}

/// What a node is told when it takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attendance {
    /// The present epoch.
    pub epoch: Epoch,
    /// The servers that it is on.
    pub store: String,
    /// Whether this node is the one that builds it.
    pub is_builder: bool,
    /// Whether every node that is alive has come as far.
    pub is_joined: bool,
}

impl Phase {
    /// All of them, by their numbers.
    pub const ALL: [Self; 5] = [Self::Closing, Self::Building, Self::Granting, Self::Holding, Self::Open];
}
