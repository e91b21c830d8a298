//! Bugs that are planted on purpose, so that the simulation proves that it would find such ones.
//!
//! Each site asks whether its bug is on: in tests a thread's own switch, with at most one of them on; elsewhere the
//! answer is a constant `false`, and the compiler leaves the site out.

/// Declares the bugs, each with what it does.
macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// A mistake that somebody could make.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Bug {
            $($(#[doc = $what])+ $name,)+
        }

        #[cfg(test)]
        impl Bug {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            /// What it does.
            pub(crate) const fn what(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($what),+),)+
                }
            }
        }
    };
}

bugs! {
    /// A call that ends for nothing keeps what it reserved of grants.
    LeakedHold,
    /// A call that ends for nothing gives nothing back to windows.
    VoidForgetsWindow,
    /// What is owed is charged, and not noted as debt.
    FinishIgnoresDebt,
    /// More is lent than policy lends.
    DebtUnbounded,
    /// What is forgiven counts twice against what may be forgiven.
    OverageCountedTwice,
    /// A call that ends keeps its place among those in flight.
    PlaceLeaked,
    /// At the instant at which a window ends it still goes on.
    WindowEndsLate,
    /// What comes back to a window that has ended goes to the present one.
    ReturnsToAnotherInstance,
    /// A window gives one more than it has.
    WindowOffByOne,
    /// Grants are drawn by their expiry alone.
    PriorityIgnored,
    /// What has expired can be drawn until the sweeper comes.
    ExpiredGrantDrawn,
    /// What comes back of a hold does not pay what is owed.
    DebtNeverRepaid,
    /// Expiry takes what a hold has reserved too.
    ExpiryTakesHeld,
    /// Policy issues to a user who has got it already.
    GrantIssuedTwice,
    /// A grant does not pay what is owed.
    GrantIgnoresDebt,
    /// An expiry has the number of the record before it.
    SeqReused,
    /// A restart applies the newest booked record again.
    ReplayAppliesTwice,
    /// A grant that is wholly held when the sweeper looks is not looked at again.
    ExpiryUnwatched,
    /// A renewal does not move the deadline.
    RenewIgnored,
    /// An extension is noted, and not reserved.
    ExtensionNotReserved,
    /// A price is rounded down.
    RoundingDown,
    /// A call is priced in the tier that was asked for, whichever served it.
    TierIgnored,
    /// A tier that has no price of its own costs what the default one does.
    UnlistedTierAtOne,
    /// A spend cap does not count what open holds may come to.
    CapOverlooksHolds,
    /// A call that ends counts all that it reserved under a spend cap.
    CapKeepsReserved,
    /// What a call costs beyond its hold is not counted under a spend cap.
    CapForgetsRest,
    /// A clamp cuts below the minimum.
    ClampPastMinimum,
    /// A clamp gives the least output, not the most that can be paid for.
    ClampTooShort,
    /// A call that was corrected is corrected again.
    RefundTwice,
    /// More is given back than was charged.
    RefundBeyondCharge,
    /// What comes back to a grant that was spent is lost.
    SpentGrantLost,
    /// Another price charges what was given back.
    RerateChargesRefunded,
    /// An adjustment takes what holds have reserved.
    AdjustmentTakesHeld,
    /// A repeated adjustment that is not booked yet is carried out again.
    AdjustedTwice,
    /// A repeated order that is not booked yet is carried out again.
    GrantAppliedTwice,
    /// A block uses a number of the account.
    BlockUsesANumber,
    /// A restart takes a job for a request that was cut.
    JobsForgotten,
    /// A restart charges calls at their floor that have ended.
    EndForgottenAtRestart,
    /// A call that nobody told the end of is charged nothing.
    FloorForgetsInput,
    /// A call that left is given back at its deadline.
    SweepVoidsWhatLeft,
    /// The settler loses the last record of a batch.
    LostRecord,
    /// The settler brings the records of a batch in the wrong order.
    OrderSwapped,
    /// The journal gets its space back before the ledger has answered.
    JournalTrimmedEarly,
    /// An expiry is not chained to the update before it.
    ChainSkipped,
    /// A debit is taken twice from its grant.
    DoubleApply,
    /// Other content in a place that is taken passes for a repetition.
    KeyConflictApplied,
    /// A record is booked whose predecessor is missing.
    GapBooked,
    /// Frames are said to be durable that were written and not synced.
    PromisedUnsynced,
    /// Under relaxed durability frames are never synced for their age.
    RelaxedWindowIgnored,
    /// Under relaxed durability frames are said to be durable that were written and not synced.
    RelaxedUnsynced,
    /// A sync that failed counts as one.
    FailedSyncTrusted,
    /// A segment goes that has an open hold.
    OpenHoldTrimmed,
    /// A restart reads no further than the first write of the newest segment.
    RecoveryStopsShort,
    /// A frame is accepted without its checksum.
    TornFrameAccepted,
}

/// Whether a bug is on: never, outside tests.
#[cfg(not(test))]
#[inline]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

/// Whether a bug is on in this thread.
#[cfg(test)]
pub(crate) fn planted(bug: Bug) -> bool {
    ON.get() == Some(bug)
}

/// Turns one bug on in this thread, or all off.
#[cfg(test)]
pub(crate) fn plant(bug: Option<Bug>) {
    ON.set(bug);
}

#[cfg(test)]
thread_local! {
    static ON: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}
