//! A truth after the end (I6): as if it had been told at the end, as far as time has not passed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::access::record::CorrectionRecord;
use crate::access::{Prior, Uncorrectable};

const LAYERS: &str = "{name: included, kind: rate_limit, per: user, windows: [{allow: 10, every: 5h, starts: first_use}, \
    {allow: 15, every: day, starts: calendar, time_zone: UTC}]}, {name: credits, kind: prepaid, balance: wallet}";
const GUARDS: &str = "{name: rate, tokens: 1000, every: 1h, per: user}, \
    {name: cap, spend: 500, every: month, time_zone: UTC, per: user}, {name: places, concurrent: 3, per: user}";

pub(super) fn rules() -> Rules<'static> {
    Rules { feature: "overage: {forgive: 4, debt: 3}", layers: LAYERS, guards: GUARDS, ..Rules::default() }
}

/// What the books would tell of an end.
pub(super) fn prior(world: &World, end: &EndRecord) -> Prior {
    let grants = world.records.iter().filter_map(|record| match record {
        Record::Grant(grant) => Some(BookedGrant::as_granted(grant)),
        _ => None,
    });
    Prior::of(end, world.terms(&end.model), grants.collect())
}

fn correct(world: &mut World, end: &EndRecord, truth: u64) -> Result<Box<CorrectionRecord>, Uncorrectable> {
    let prior = prior(world, end);
    let used = if truth == 0 { Demand::nothing() } else { prior.terms.estimate(tokens(0, truth)).unwrap() };
    let correction = world.account.correct(&prior, used, completed(), world.now)?;
    world.records.push(Record::Correction(correction.clone()));
    Ok(correction)
}

/// Counters and balances in an order of their own, without the number of the newest record.
pub(super) fn state(account: &Account) -> Vec<String> {
    let mut told = Vec::new();
    for (user, purse) in account.purses() {
        told.extend(purse.counters.iter().map(|slot| format!("{user:?} {slot:?}")));
        told.extend(purse.balances().iter().map(|balance| format!("{user:?} {balance:?}")));
    }
    told.sort_unstable();
    told
}

/// What is drawn from each origin, in one draw or in two.
pub(super) fn sums(draws: &[DrawEntry]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for draw in draws {
        *sums.entry(format!("{} {:?}", draw.layer, draw.origin)).or_default() += draw.amount.get();
    }
    sums
}

fn moved(correction: &CorrectionRecord) -> Vec<(Option<GrantId>, i64)> {
    correction.moves.iter().map(|entry| (entry.grant, entry.amount.micros() / 1_000_000)).collect()
}

proptest! {
    /// I6, I12: nothing between end and truth: the same account, draws and money as if the truth had been the end.
    #[test]
    fn a_truth_at_once_is_as_good_as_the_end(
        estimate in 1..30u64, first in 0..60u64, truth in 0..60u64, earlier in 0..20u64, small in 1..12u64,
    ) {
        let ended = |last: u64| {
            let mut world = rules().open();
            world.grant_to("wallet", 1, small, 1, None);
            world.grant_to("wallet", 2, 20, 2, Some(HOUR));
            if earlier > 0 {
                world.spend(earlier.min(9));
            }
            let asked = world.ask(estimate);
            asked.ok().map(|held| {
                let end = if last == 0 { world.void(held.decision) } else { world.finish(held.decision, last) };
                (world, end)
            })
        };
        let (Some((mut corrected, end)), Some((direct, wanted))) = (ended(first), ended(truth)) else {
            return Ok(());
        };
        let correction = correct(&mut corrected, &end, truth).unwrap();
        prop_assert_eq!(&correction.charge, &wanted.charge);
        prop_assert_eq!(sums(&correction.draws), sums(&wanted.draws));
        prop_assert_eq!(state(&corrected.account), state(&direct.account));
        let sum: i64 = correction.moves.iter().map(|entry| entry.amount.micros()).sum();
        let change = end.charge.charged.signed().micros() - correction.charge.charged.signed().micros();
        prop_assert_eq!(sum, change, "I6");
        prop_assert_eq!(state(&corrected.rebuilt()), state(&corrected.account), "I7, I8: its records say it all");
    }
}

#[test]
fn a_truth_that_costs_less_gives_back_where_it_came_from_and_one_that_costs_more_takes_on() {
    for (truth, moves) in [(30, vec![]), (25, vec![(2, 5)]), (12, vec![(1, 8), (2, 10)]), (33, vec![(2, -3)])]
    {
        let mut world = rules().open();
        world.grant_to("wallet", 1, 10, 1, None);
        world.grant_to("wallet", 2, 20, 2, None);
        let end = world.spend(30);
        world.at(HOUR);
        let correction = correct(&mut world, &end, truth).unwrap();
        let moves: Vec<_> = moves.iter().map(|(nth, amount)| (Some(grant_id(*nth)), *amount)).collect();
        assert_eq!(moved(&correction), moves, "{truth}");
        assert_eq!((correction.revision, correction.charged_before), (2, whole(20)));
        assert_eq!(state(&world.rebuilt()), state(&world.account));
    }
}

#[test]
fn what_comes_back_too_late_is_dropped_by_windows_and_expires_with_its_grant() {
    let mut world = rules().open();
    world.grant_to("wallet", 1, 40, 1, Some(HOUR));
    let end = world.spend(30);
    world.at(2 * HOUR).expire();
    let correction = correct(&mut world, &end, 12).unwrap();
    assert_eq!(moved(&correction), [(Some(grant_id(1)), 18)]);
    assert_eq!(correction.expired.len(), 1, "what came back has expired already");
    assert_eq!(world.stands_at("wallet"), 0);
    assert_eq!(state(&world.rebuilt()), state(&world.account));
    let mut world = rules().open();
    let end = world.spend(8);
    world.at(DAY).spend(3);
    let before = world.left();
    correct(&mut world, &end, 2).unwrap();
    assert_eq!(world.left(), before, "the windows of then are over");
}

#[test]
fn a_debt_that_has_been_repaid_is_not_given_back() {
    let mut world = rules().open();
    world.grant_to("wallet", 1, 10, 1, None);
    let decision = world.hold(15);
    let end = world.finish(decision, 27);
    assert!(shown(&end.draws).contains("owed 3"), "{}", shown(&end.draws));
    let before = state(&world.account);
    let owing = correct(&mut world, &end, 20).unwrap();
    assert_eq!(moved(&owing), [(None, 3)], "it is still owed");
    assert_ne!(state(&world.account), before);
    let decision = world.hold(0);
    let end = world.finish(decision, 7);
    assert!(shown(&end.draws).contains("owed"), "{}", shown(&end.draws));
    world.grant_to("wallet", 2, 50, 1, None);
    let before = state(&world.account);
    assert_eq!(correct(&mut world, &end, 1).unwrap_err(), Uncorrectable::Repaid);
    assert_eq!(state(&world.account), before, "nothing is changed by an error");
}
