//! The invariants by name: one word for one thing in the audit's report, in the properties of the model of the
//! protocol, in the simulation and in the tests.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What must hold, by its number in the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Invariant {
    /// One decision per request; header, stored decision and books agree.
    I1,
    /// A block changes no window, guard, balance, hold or issue.
    I2,
    /// The draws of an allowed request are its demand.
    I3,
    /// No window is admitted past its limit, no guard past its bound.
    I4,
    /// No balance is below zero, or below the debt that policy allows.
    I5,
    /// A usage event has one live monetization event, and its balance updates sum to what was charged.
    I6,
    /// Any redelivery in any order has the effect of one application in seq order: an account's records have no gap
    /// and end where its head says.
    I7,
    /// A balance is the sum of its updates, and their chain holds.
    I8,
    /// Every hold ends once, within a stated time.
    I9,
    /// What was acknowledged survives `kill -9`.
    I10,
    /// The books can be regenerated from usage events, entries and policy snapshots.
    I11,
    /// Granted, adjusted and refunded is what is left, debited and expired.
    I12,
    /// Saving never lowers what is left; more credits never turn an allow into a block.
    I13,
    /// Every route has one class, and an owned resource is served to its account only.
    I14,
    /// Every record of an account says what it said when the next one was booked.
    Chain,
    /// What was booked before a checkpoint is what it was then.
    Checkpoint,
    /// Rows name only what is there.
    Orphans,
}

impl Invariant {
    /// All of them, in order.
    pub const ALL: [Self; 17] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::I10,
        Self::I11,
        Self::I12,
        Self::I13,
        Self::I14,
        Self::Chain,
        Self::Checkpoint,
        Self::Orphans,
    ];

    /// Its number, or word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::I1 => "I1",
            Self::I2 => "I2",
            Self::I3 => "I3",
            Self::I4 => "I4",
            Self::I5 => "I5",
            Self::I6 => "I6",
            Self::I7 => "I7",
            Self::I8 => "I8",
            Self::I9 => "I9",
            Self::I10 => "I10",
            Self::I11 => "I11",
            Self::I12 => "I12",
            Self::I13 => "I13",
            Self::I14 => "I14",
            Self::Chain => "chain",
            Self::Checkpoint => "checkpoint",
            Self::Orphans => "orphans",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
