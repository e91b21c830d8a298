//! The bounds within which the model is explored. The numbers of states stand in `docs/proof.md`.

use super::bend::Bend;
use super::scene::{Bounds, CallPlan, OrderPlan, SetRight, Topology};
use overfall::audit::Invariant;

/// Asks for more than the window gives, and uses more than it asked for.
const LONG: CallPlan =
    CallPlan { user: 0, gateway: 0, estimate: (1, 6), truth: 10, extended: Some(7), job: false };
/// Uses less than it asked for.
const SHORT: CallPlan =
    CallPlan { user: 0, gateway: 0, estimate: (1, 2), truth: 0, extended: None, job: false };
/// As much as the window gives and a little more, by another user at another gateway.
const OTHER: CallPlan =
    CallPlan { user: 1, gateway: 1, estimate: (1, 3), truth: 3, extended: None, job: false };
/// Runs in the background.
const JOB: CallPlan = CallPlan { user: 0, gateway: 0, estimate: (2, 6), truth: 1, extended: None, job: true };
/// Runs in the background, and costs credits at its floor, too.
const LARGE_JOB: CallPlan =
    CallPlan { user: 0, gateway: 0, estimate: (5, 3), truth: 2, extended: None, job: true };
const ORDER: OrderPlan = OrderPlan { credits: 3, expires: None };
const FLEETING: OrderPlan = OrderPlan { credits: 3, expires: Some(1) };
/// All that the first call was charged, and a part of it.
const REFUND: SetRight = SetRight::Refund { call: 0, credits: None };
const PART: SetRight = SetRight::Refund { call: 0, credits: Some(1) };
const DEARER: SetRight = SetRight::Price { call: 0, policy: 1 };
/// Less and more of what the first order granted.
const LESS: SetRight = SetRight::Adjust { order: 0, credits: -1 };
const MORE_OF_IT: SetRight = SetRight::Adjust { order: 0, credits: 2 };

/// One node on which nothing happens.
const ONE_NODE: Bounds = Bounds {
    name: "",
    topology: Topology::OneNode,
    gateways: 1,
    workers: 1,
    calls: &[],
    orders: &[],
    set_right: &[],
    ticks: 0,
    crashes: 0,
    repeats: 0,
    reloads: 0,
    renewals: 0,
    extensions: 0,
    refusals: false,
    reaches: &[],
};

/// Two gateways that share a meter, and two workers.
const SHARED: Bounds = Bounds { topology: Topology::Shared, gateways: 2, workers: 2, ..ONE_NODE };

const CRASH: &str = "a call is charged at its floor after a crash";
const DEADLINE: &str = "a call is ended by its deadline";
const GIVEN_BACK: &str = "a hold that never left is given back";
const EARLY: &str = "a record comes before its turn";
const AGAIN: &str = "a record comes again";
const BLOCKED: &str = "a request is blocked";
const DEBT: &str = "a debt is owed";
const ISSUE: &str = "policy issues a grant";
const LATE: &str = "a late truth is booked";
const TOLD: &str = "a refusal is told";
const EXPIRED: &str = "a grant expires";
const EXPIRED_HELD: &str = "a grant expires while it is held";
const OLD_POLICY: &str = "a call ends under a policy that is no more";
const KEPT: &str = "a journal keeps a hold whose end it let go of";
const MORE: &str = "a running request is given more";
const NO_MORE: &str = "a running request is given no more";
const TAKEN_OVER: &str = "a job is ended by another gateway than began it";
const SAME: &str = "two workers have the same record";
const REFUNDED: &str = "a refund is booked";
const PRICED: &str = "another price is booked";
const BOTH: &str = "a call is refunded and priced anew";
const BEFORE_TRUTH: &str = "a call is refunded before a late truth";
const ADJUSTED: &str = "an adjustment is booked";
const ADJUSTED_HELD: &str = "a balance is adjusted while a call holds of it";
const KNOWN_AGAIN: &str = "an order is known after a crash, and not booked";
const ALL: &str = "everything is booked";

/// What `make test` explores.
pub(crate) const SMALL: &[Bounds] = &[
    Bounds {
        name: "one node, one call, one order",
        calls: &[LONG],
        orders: &[FLEETING],
        ticks: 1,
        crashes: 1,
        reaches: &[CRASH, DEADLINE, GIVEN_BACK, EARLY, DEBT, ISSUE, EXPIRED, EXPIRED_HELD, ALL],
        ..ONE_NODE
    },
    Bounds {
        name: "one node, two calls",
        calls: &[SHORT, CallPlan { gateway: 0, ..OTHER }],
        crashes: 1,
        repeats: 1,
        refusals: true,
        reaches: &[CRASH, GIVEN_BACK, EARLY, AGAIN, BLOCKED, ISSUE, TOLD, KEPT, ALL],
        ..ONE_NODE
    },
    Bounds {
        name: "one node, a job",
        calls: &[JOB],
        orders: &[ORDER],
        ticks: 1,
        crashes: 1,
        reaches: &[CRASH, DEADLINE, LATE, ALL],
        ..ONE_NODE
    },
    Bounds {
        name: "one node, a new policy",
        calls: &[LONG, SHORT],
        orders: &[ORDER],
        reloads: 1,
        renewals: 1,
        extensions: 1,
        reaches: &[BLOCKED, OLD_POLICY, DEBT, MORE, ALL],
        ..ONE_NODE
    },
    Bounds {
        name: "two gateways, two calls",
        calls: &[SHORT, OTHER],
        crashes: 1,
        repeats: 1,
        reaches: &[CRASH, EARLY, AGAIN, BLOCKED, SAME, ALL],
        ..SHARED
    },
    Bounds {
        name: "one node, a call that grows",
        calls: &[CallPlan { extended: Some(8), ..LONG }],
        orders: &[ORDER, OrderPlan { credits: 1, ..ORDER }],
        crashes: 1,
        extensions: 2,
        reaches: &[CRASH, MORE, NO_MORE, DEBT, ISSUE, ALL],
        ..ONE_NODE
    },
    Bounds {
        name: "one node, two workers",
        calls: &[LONG],
        orders: &[ORDER],
        workers: 2,
        crashes: 1,
        repeats: 1,
        reaches: &[CRASH, EARLY, AGAIN, SAME, ALL],
        ..ONE_NODE
    },
    Bounds {
        name: "two gateways, a job",
        calls: &[JOB],
        orders: &[ORDER],
        ticks: 1,
        crashes: 1,
        reaches: &[DEADLINE, LATE, TAKEN_OVER, ALL],
        ..SHARED
    },
    Bounds {
        name: "one node, a call, a refund, another price",
        calls: &[LONG],
        orders: &[ORDER, OrderPlan { credits: 1, ..ORDER }],
        set_right: &[REFUND, DEARER],
        crashes: 1,
        reaches: &[CRASH, DEBT, REFUNDED, PRICED, BOTH, KNOWN_AGAIN, ALL],
        ..ONE_NODE
    },
    Bounds {
        name: "one node, a call, an adjustment",
        calls: &[LONG],
        orders: &[FLEETING],
        set_right: &[LESS],
        ticks: 1,
        crashes: 1,
        reaches: &[CRASH, DEADLINE, ADJUSTED, ADJUSTED_HELD, EXPIRED, KNOWN_AGAIN, ALL],
        ..ONE_NODE
    },
    Bounds {
        name: "one node, a job, a refund",
        calls: &[LARGE_JOB],
        orders: &[ORDER],
        set_right: &[PART],
        ticks: 1,
        crashes: 1,
        reaches: &[CRASH, DEADLINE, LATE, REFUNDED, BEFORE_TRUTH, KNOWN_AGAIN, ALL],
        ..ONE_NODE
    },
];

/// What `make prove` explores besides.
pub(crate) const LARGE: &[Bounds] = &[
    Bounds {
        name: "one node, two calls, one order, two crashes",
        calls: &[LONG, CallPlan { gateway: 0, ..OTHER }],
        orders: &[FLEETING],
        ticks: 1,
        crashes: 2,
        repeats: 1,
        reaches: &[CRASH, DEADLINE, GIVEN_BACK, EARLY, AGAIN, DEBT, ISSUE, EXPIRED, EXPIRED_HELD, KEPT, ALL],
        ..ONE_NODE
    },
    Bounds {
        name: "one node, a job and a call, two crashes",
        calls: &[JOB, SHORT],
        orders: &[FLEETING],
        ticks: 2,
        crashes: 2,
        reaches: &[CRASH, DEADLINE, LATE, EXPIRED, KEPT, ALL],
        ..ONE_NODE
    },
    Bounds {
        name: "one node, three calls, a new policy",
        calls: &[LONG, SHORT, CallPlan { gateway: 0, ..OTHER }],
        orders: &[ORDER],
        crashes: 1,
        reloads: 1,
        reaches: &[CRASH, BLOCKED, OLD_POLICY, DEBT, ALL],
        ..ONE_NODE
    },
    Bounds {
        name: "two gateways, two calls, one order",
        calls: &[LONG, OTHER],
        orders: &[ORDER],
        ticks: 1,
        crashes: 1,
        reaches: &[CRASH, DEADLINE, EARLY, SAME, ALL],
        ..SHARED
    },
    Bounds {
        name: "one node, two calls, two refunds, another price",
        calls: &[LONG, CallPlan { gateway: 0, ..OTHER }],
        orders: &[ORDER],
        set_right: &[PART, REFUND, DEARER],
        crashes: 1,
        repeats: 1,
        reaches: &[CRASH, DEBT, REFUNDED, PRICED, BOTH, KNOWN_AGAIN, ALL],
        ..ONE_NODE
    },
    Bounds {
        name: "one node, a call, two adjustments",
        calls: &[LONG],
        orders: &[FLEETING],
        set_right: &[LESS, MORE_OF_IT],
        ticks: 1,
        crashes: 1,
        reaches: &[CRASH, DEADLINE, ADJUSTED, ADJUSTED_HELD, EXPIRED, KNOWN_AGAIN, ALL],
        ..ONE_NODE
    },
    Bounds {
        name: "two gateways, a job, a refund",
        calls: &[LARGE_JOB],
        orders: &[ORDER],
        set_right: &[PART],
        ticks: 1,
        crashes: 1,
        reaches: &[CRASH, DEADLINE, LATE, REFUNDED, BEFORE_TRUTH, ALL],
        ..SHARED
    },
    Bounds {
        name: "two gateways, a job, a new policy",
        calls: &[JOB, OTHER],
        orders: &[ORDER],
        ticks: 1,
        crashes: 1,
        reloads: 1,
        reaches: &[CRASH, DEADLINE, LATE, OLD_POLICY, ALL],
        ..SHARED
    },
];

/// Each rule broken, where that shows, and what it breaks.
pub(crate) const BENT: &[(Bend, Bounds, &[Invariant])] = &[
    (Bend::NoDeduplication, Bounds { repeats: 1, ..SMALL[1] }, &[Invariant::I7]),
    (Bend::NoOrder, SMALL[4], &[Invariant::I7]),
    (Bend::EndsTwice, SMALL[1], &[Invariant::I9]),
    (Bend::SendsTooEarly, SMALL[1], &[Invariant::I10]),
    (Bend::TellsTooEarly, SMALL[1], &[Invariant::I10]),
    (Bend::SettlesTooEarly, SMALL[1], &[Invariant::I7]),
    (Bend::ForgetsTooEarly, SMALL[1], &[Invariant::I10]),
    (Bend::ForgetsEnds, SMALL[1], &[Invariant::I9]),
    (Bend::CrashIsFree, SMALL[1], &[Invariant::I10]),
    (Bend::ReplaysTwice, SMALL[1], &[Invariant::I12]),
    (Bend::GrantsTwice, Bounds { repeats: 1, reaches: &[], ..SMALL[0] }, &[Invariant::I12]),
    (Bend::CorrectsTwice, SMALL[2], &[Invariant::I7]),
    (Bend::NeverSweeps, SMALL[0], &[Invariant::I9]),
    (Bend::PricesAnew, SMALL[3], &[Invariant::I6]),
    (Bend::OverlooksHolds, SMALL[4], &[Invariant::I4]),
    (Bend::SetsRightTwice, Bounds { repeats: 1, reaches: &[], ..SMALL[9] }, &[Invariant::I7]),
    (Bend::ForgetsOrders, SMALL[9], &[Invariant::I7]),
    (Bend::RevisesStale, SMALL[8], &[Invariant::I7]),
];
