//! The plan of a run: steps with plain numbers, all made from the seed beforehand, so that any of them can be left out.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What a step does. What its numbers mean depends on what there is when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// A user asks for something.
    Ask,
    /// A request that is held is asked for again.
    AskAgain,
    /// The upstream answers, or takes a job on.
    Answer,
    /// A stream needs more than was held.
    Extend,
    /// A request goes on: its hold is renewed.
    Renew,
    /// What has ended is ended again.
    EndAgain,
    /// An operator grants credits.
    Grant,
    /// An operator sends an order again.
    GrantAgain,
    /// An operator gives back what a call was charged.
    Refund,
    /// An operator prices a call anew.
    Rerate,
    /// An operator adjusts a balance.
    Adjust,
    /// An operator sends one of these orders again.
    OrderAgain,
    /// The upstream tells how a job stands.
    Learn,
    /// Jobs past their deadline are looked for.
    FindLate,
    /// Another policy is put in force.
    Reload,
    /// Time passes, and the sweeper comes by.
    Pass,
    /// The journal's writer does its next piece of work.
    Write,
    /// The settler does.
    Settle,
    /// What was settled is brought again, in any order.
    Redeliver,
    /// Something else is brought in the place of what is booked.
    Contradict,
    /// The ledger fails at the next batch, before or after the fact.
    LedgerFails,
    /// The disk fails the next syncs.
    SyncFails,
    /// The disk fails the next writes, half done.
    WriteFails,
    /// The disk is full.
    Fill,
    /// It has room again.
    Empty,
    /// The process dies, or the machine does.
    Crash,
}

/// One step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) verb: Verb,
    pub(super) a: u32,
    pub(super) b: u32,
    pub(super) c: u32,
}

/// How often each verb comes, about.
const WEIGHTS: [(Verb, u32); 26] = [
    (Verb::Ask, 30),
    (Verb::AskAgain, 2),
    (Verb::Answer, 26),
    (Verb::Extend, 4),
    (Verb::Renew, 3),
    (Verb::EndAgain, 2),
    (Verb::Grant, 6),
    (Verb::GrantAgain, 2),
    (Verb::Refund, 4),
    (Verb::Rerate, 4),
    (Verb::Adjust, 3),
    (Verb::OrderAgain, 2),
    (Verb::Learn, 9),
    (Verb::FindLate, 2),
    (Verb::Reload, 2),
    (Verb::Pass, 14),
    (Verb::Write, 32),
    (Verb::Settle, 12),
    (Verb::Redeliver, 3),
    (Verb::Contradict, 2),
    (Verb::LedgerFails, 2),
    (Verb::SyncFails, 2),
    (Verb::WriteFails, 2),
    (Verb::Fill, 1),
    (Verb::Empty, 2),
    (Verb::Crash, 4),
];

/// The steps of a seed.
pub(super) fn plan(seed: u64, steps: usize) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let total: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    let mut step = || {
        let mut at = random.random_range(0..total);
        let found = WEIGHTS.iter().find(|(_, weight)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        let verb = found.map_or(Verb::Write, |(verb, _)| *verb);
        Step { verb, a: random.random(), b: random.random(), c: random.random() }
    };
    (0..steps).map(|_| step()).collect()
}
