//! Rules of the protocol that can be broken, one at a time: that each is then found out shows that the model bites.

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bend {
    /// A worker books what is booked.
    NoDeduplication,
    /// A worker books a record before its turn.
    NoOrder,
    /// An end does not ask whether there was one.
    EndsTwice,
    /// A request leaves before its hold is durable.
    SendsTooEarly,
    /// A refusal is told before its void is durable.
    TellsTooEarly,
    /// Settlement reads what is not durable.
    SettlesTooEarly,
    /// A journal lets go of what is not booked.
    ForgetsTooEarly,
    /// A journal that lets go of an end no longer knows that its hold has ended.
    ForgetsEnds,
    /// A hold that is found open after a crash is given back, as if it had never left.
    CrashIsFree,
    /// A restart applies what the journal has, whether or not the books have it.
    ReplaysTwice,
    /// An order that is repeated is a new one.
    GrantsTwice,
    /// A late truth does not ask whether there was one.
    CorrectsTwice,
    /// What sets a call or a balance right is done again when it is ordered again.
    SetsRightTwice,
    /// A restart does not know what was ordered and is not in the books yet.
    ForgetsOrders,
    /// A revision is made from what the books have, whether or not a newer one is on its way to them.
    RevisesStale,
    /// Deadlines are not looked at.
    NeverSweeps,
    /// A call ends at the price in force, not at that of its hold.
    PricesAnew,
    /// A hold does not look at what others hold.
    OverlooksHolds,
}
