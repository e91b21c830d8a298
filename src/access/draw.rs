//! Draws: what one layer gives to one request.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::units::{Amount, GrantId, Timestamp};

/// The draws of one request. Four fit without allocation.
pub type Draws = SmallVec<[Draw; 4]>;

/// Where each window of a layer began when it was drawn from, in the order of the layer's windows.
pub type Starts = SmallVec<[Timestamp; 2]>;

/// What one layer gives to one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    /// The layer's place in the waterfall.
    pub layer: u16,
    /// What is taken, in the layer's unit; micro-credits of a balance.
    pub amount: Amount,
    /// How much of the demand that covers, in the feature's unit; micro-credits of a balance.
    pub covers: Amount,
    /// Out of what exactly.
    pub origin: Origin,
}

/// The instance or grant that a draw names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// One instance of each window of the layer.
    Windows(Starts),
    /// A grant of the layer's balance.
    Grant(GrantId),
    /// Nothing: the balance owes it.
    Debt,
}

/// What a hold took from a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardCharge {
    /// The guard's place in the waterfall.
    pub guard: u16,
    /// What was taken.
    pub taken: Taken,
}

/// What a guard counts of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Taken {
    /// So much of a token bucket, in its unit: the estimate, or the burst where that is less.
    Bucket(u64),
    /// One place.
    Place,
    /// So many micro-credits of the spend window that began then.
    Spend(Amount, Timestamp),
}

/// The charges of one hold. Four fit without allocation.
pub type GuardCharges = SmallVec<[GuardCharge; 4]>;
