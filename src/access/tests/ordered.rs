//! What operators order: a charge given back, another price, a balance adjusted (I2, I5, I6, I7, I12, I13).

use std::sync::Arc;

use proptest::prelude::*;

use super::correct::{prior, rules, state, sums};
use super::*;
use crate::access::balance::GrantState;
use crate::access::record::{AdjustmentRecord, RevisionRecord};
use crate::access::{
    Adjusted, AdjustmentOrder, Prior, RefundOrder, Repriced, Revision, Unadjustable, Uncorrectable,
    Unrefundable, Unrevisable,
};
use crate::units::{OrderId, PolicyVersion, SignedCredits};

fn order(nth: u64) -> (OrderId, Arc<str>) {
    (OrderId::derived(&[&nth.to_le_bytes()]), format!("order {nth}").into())
}

fn revise(
    world: &mut World,
    prior: &mut Prior,
    revision: Revision,
) -> Result<Box<RevisionRecord>, Unrevisable> {
    let record = world.account.revise(prior, revision, world.now)?;
    prior.revised(&record);
    world.records.push(record.clone());
    match record {
        Record::Revision(told) => Ok(told),
        other => panic!("{other:?} is ordered by nobody"),
    }
}

/// Gives back so many credits; all where none are said.
fn refund(
    world: &mut World,
    prior: &mut Prior,
    credits: Option<u64>,
) -> Result<Box<RevisionRecord>, Unrevisable> {
    let (id, idempotency_key) = order(1);
    let amount = credits.map(whole);
    let order = RefundOrder { id, amount, idempotency_key, reason: "an outage".into() };
    revise(world, prior, Revision::Refund(order))
}

/// Prices anew, at so many credits.
fn reprice(world: &mut World, prior: &mut Prior, credits: u64) -> Result<Box<RevisionRecord>, Unrevisable> {
    let used = prior.terms.estimate(tokens(0, credits)).unwrap();
    let (policy, reason) = (PolicyVersion(credits), "a wrong price".into());
    revise(world, prior, Revision::Price(Repriced { used, policy, reason }))
}

fn adjust(world: &mut World, what: Adjusted, micros: i64) -> Result<AdjustmentRecord, Unadjustable> {
    let (id, idempotency_key) = order(2);
    let key = CounterKey::of_balance("wallet");
    let amount = SignedCredits::from_micros(micros).unwrap();
    let (balance, reason) = ("wallet".into(), "a complaint".into());
    let order = AdjustmentOrder { id, user: None, balance, key, what, amount, idempotency_key, reason };
    let before = state(&world.account);
    let adjusted = world.account.adjust(&order, world.now);
    assert_eq!(state(&world.account), before, "I2: nothing is changed before it is kept");
    let record = adjusted?;
    world.account.adjusted(&record, key);
    world.records.push(Record::Adjustment(record.clone()));
    Ok(record)
}

fn of(grant: &GrantRecord) -> Adjusted {
    Adjusted::Grant(GrantState {
        id: grant.grant,
        priority: grant.priority,
        expires_at: grant.expires_at.unwrap_or(Timestamp::NEVER),
        remaining: Credits::ZERO,
        held: Credits::ZERO,
    })
}

/// A call of a wallet with two grants, ended with so many credits.
fn ended(small: u64, estimate: u64, truth: u64) -> Option<(World, Prior)> {
    let mut world = rules().open();
    world.grant_to("wallet", 1, small, 1, None);
    world.grant_to("wallet", 2, 20, 2, Some(HOUR));
    let held = world.ask(estimate).ok()?;
    let end = world.finish(held.decision, truth);
    let prior = prior(&world, &end);
    Some((world, prior))
}

/// I6: the parts are the price, and what balances get back is what is charged less.
fn adds_up(prior: &Prior, told: &RevisionRecord) -> bool {
    let (charge, correction) = (&told.correction.charge, &told.correction);
    let moved: i64 = correction.moves.iter().map(|entry| entry.amount.micros()).sum();
    let less = prior.charge.charged.signed().micros() - charge.charged.signed().micros();
    let drawn: u64 = correction
        .draws
        .iter()
        .filter(|draw| !matches!(draw.origin, OriginEntry::Windows(_)))
        .map(|draw| draw.amount.get())
        .sum();
    let sum = charge.covered.saturating_add(charge.forgiven).saturating_add(charge.charged);
    sum == charge.gross
        && moved == less
        && drawn == charge.charged.micros()
        && told.refunded.saturating_add(charge.excess) <= charge.forgiven
}

proptest! {
    /// I5, I6, I12: whatever is given back in whatever parts, it is never more than was charged, and what grants get is
    /// what they gave.
    #[test]
    fn refunds_never_exceed_what_was_charged(
        small in 1..12u64, estimate in 1..30u64, truth in 0..60u64, parts in proptest::collection::vec(0..25u64, 1..6),
        late in 0..3u64,
    ) {
        let Some((mut world, mut prior)) = ended(small, estimate, truth) else { return Ok(()) };
        world.at(late * HOUR);
        let charged = prior.charge.charged;
        let mut given = Credits::ZERO;
        for part in parts {
            let (before, was) = (state(&world.account), prior.clone());
            if let Ok(told) = refund(&mut world, &mut prior, Some(part)) {
                prop_assert!(adds_up(&was, &told), "{told:?}");
                prop_assert_eq!(told.correction.charge.gross, was.charge.gross);
                prop_assert_eq!(told.correction.revision, was.revision + 1);
                given = given.saturating_add(whole(part));
                prop_assert_eq!(told.refunded, given);
            } else {
                prop_assert!(part == 0 || whole(part) > was.charge.charged, "{part} of {}", was.charge.charged);
                prop_assert_eq!(state(&world.account), before, "nothing is changed by an error");
            }
            prop_assert!(given <= charged);
            prop_assert_eq!(state(&world.rebuilt()), state(&world.account), "I7, I8: its records say it all");
        }
    }

    /// I6, I12: a price and back again is as if nothing had been, as long as nobody else drew meanwhile.
    #[test]
    fn another_price_and_back_is_as_it_was(
        small in 1..12u64, estimate in 1..30u64, truth in 1..30u64, other in 1..30u64,
    ) {
        let Some((mut world, mut prior)) = ended(small, estimate, truth) else { return Ok(()) };
        let (before, draws, charge) = (state(&world.account), sums(&prior.draws), prior.charge);
        prop_assume!(charge.forgiven.is_zero() && !draws.keys().any(|origin| origin.contains("Debt")));
        for credits in [other, truth] {
            let was = prior.clone();
            let told = reprice(&mut world, &mut prior, credits).unwrap();
            prop_assert!(adds_up(&was, &told), "{told:?}");
            prop_assert_eq!(state(&world.rebuilt()), state(&world.account), "I7, I8: its records say it all");
        }
        prop_assert_eq!(prior.revision, 3);
        prop_assert_eq!((state(&world.account), sums(&prior.draws), prior.charge), (before, draws, charge));
    }

    /// I13: no lower price charges more, whatever has been granted since, and what was given back stays so.
    #[test]
    fn a_lower_price_never_charges_more(
        small in 1..12u64, estimate in 1..30u64, truth in 1..60u64, lower in 1..60u64, back in 0..20u64,
    ) {
        let Some((mut world, mut prior)) = ended(small, estimate, truth) else { return Ok(()) };
        let _refunded = refund(&mut world, &mut prior, Some(back));
        world.grant(3, 100);
        let was = prior.clone();
        prop_assume!(lower <= truth);
        let Ok(told) = reprice(&mut world, &mut prior, lower) else { return Ok(()) };
        prop_assert!(adds_up(&was, &told), "{told:?}");
        let charge = &told.correction.charge;
        prop_assert!(charge.charged <= was.charge.charged, "{charge:?} after {:?}", was.charge);
        prop_assert_eq!(told.refunded, was.refunded.min(charge.gross.saturating_sub(charge.covered)));
    }

    /// I5, I12, I13: an adjustment takes nothing that is held and nothing that is not there; more never blocks.
    #[test]
    fn an_adjustment_stays_within_what_is_free(
        small in 1..40u64, held in 1..30u64, change in -50..50i64, next in 1..60u64,
    ) {
        let mut world = rules().open();
        let grant = world.grant(1, small);
        let open = world.ask(held).is_ok();
        let passed = would_pass(&mut world, next);
        let free = world.available()[0];
        let told = adjust(&mut world, of(&grant), change * 1_000_000);
        match &told {
            Ok(_) => prop_assert_eq!(world.available()[0].cast_signed(), free.cast_signed() + change),
            Err(Unadjustable::Nothing) => prop_assert_eq!(change, 0),
            Err(_) => prop_assert!(-change > free.cast_signed(), "{change} of {free}, open {open}"),
        }
        let passes = would_pass(&mut world, next);
        prop_assert!(passes || !passed || change < 0, "I13");
        if !open {
            prop_assert_eq!(state(&world.rebuilt()), state(&world.account), "I7, I8");
        }
    }
}

fn would_pass(world: &mut World, credits: u64) -> bool {
    let ask = world.next_ask("coin", tokens(0, credits));
    world.account.propose(ask, world.now).is_ok()
}

#[test]
fn a_refund_gives_back_from_the_end_and_what_is_owed_first() {
    let mut world = rules().open();
    world.grant_to("wallet", 1, 10, 1, None);
    let decision = world.hold(15);
    let end = world.finish(decision, 27);
    assert!(shown(&end.draws).contains("owed 3"), "{}", shown(&end.draws));
    let mut prior = prior(&world, &end);
    let told = refund(&mut world, &mut prior, Some(5)).unwrap();
    let moved: Vec<_> =
        told.correction.moves.iter().map(|entry| (entry.grant, entry.amount.micros())).collect();
    assert_eq!(moved, [(Some(grant_id(1)), 2_000_000), (None, 3_000_000)]);
    assert_eq!(world.stands_at("wallet"), 2);
    refund(&mut world, &mut prior, None).unwrap();
    assert_eq!((world.stands_at("wallet"), prior.charge.charged), (10, Credits::ZERO));
    let nothing = refund(&mut world, &mut prior, None).unwrap_err();
    assert_eq!(nothing, Unrevisable::Unrefundable(Unrefundable::Nothing));
}

/// A debt that was repaid is nobody's to give back; what grants gave still is.
#[test]
fn of_a_call_whose_debt_was_repaid_only_what_grants_gave_is_given_back() {
    let mut world = rules().open();
    world.grant_to("wallet", 1, 10, 1, None);
    let decision = world.hold(15);
    let end = world.finish(decision, 27);
    let mut prior = prior(&world, &end);
    world.grant_to("wallet", 2, 50, 1, None);
    let before = state(&world.account);
    let left = whole(10);
    let too_much = refund(&mut world, &mut prior, None).unwrap_err();
    assert_eq!(too_much, Unrevisable::Unrefundable(Unrefundable::Repaid { left }));
    assert_eq!(state(&world.account), before, "nothing is changed by an error");
    refund(&mut world, &mut prior, Some(10)).unwrap();
    assert_eq!(world.stands_at("wallet"), 57);
}

/// I12: what comes back to a grant that has expired expires at once.
#[test]
fn what_is_given_back_to_an_expired_grant_expires_at_once() {
    let mut world = rules().open();
    world.grant_to("wallet", 1, 40, 1, Some(HOUR));
    let end = world.spend(30);
    let mut prior = prior(&world, &end);
    world.at(2 * HOUR).expire();
    let told = refund(&mut world, &mut prior, None).unwrap();
    assert_eq!((told.correction.expired.len(), world.stands_at("wallet")), (1, 0));
    assert_eq!(state(&world.rebuilt()), state(&world.account));
}

/// A cap on spending counts what is charged: less of it leaves room again.
#[test]
fn a_refund_leaves_room_under_the_cap_of_its_month() {
    let mut world = Rules {
        layers: WALLET,
        guards: "{name: cap, spend: 30, every: month, time_zone: UTC, per: user}",
        ..Rules::default()
    }
    .open();
    world.grant(1, 100);
    let end = world.spend(25);
    let mut prior = prior(&world, &end);
    assert_eq!(world.block(10).reason, Reason::SpendCapReached);
    refund(&mut world, &mut prior, Some(20)).unwrap();
    world.spend(10);
    assert_eq!(state(&world.rebuilt()), state(&world.account));
}

/// I6: after a truth comes a refund, after that another price; after a refund no truth.
#[test]
fn revisions_follow_each_other_but_for_a_truth_after_a_refund() {
    let Some((mut world, mut prior)) = ended(12, 20, 20) else { panic!("it is let through") };
    let truth =
        world.account.correct(&prior, prior.terms.estimate(tokens(0, 15)).unwrap(), completed(), world.now);
    prior.revised(&Record::Correction(truth.unwrap()));
    assert_eq!(refund(&mut world, &mut prior, Some(2)).unwrap().correction.revision, 3);
    let told = reprice(&mut world, &mut prior, 12).unwrap();
    assert_eq!((told.correction.revision, told.refunded), (4, whole(2)));
    let late = world.account.correct(&prior, Demand::nothing(), completed(), world.now);
    assert_eq!(late.unwrap_err(), Uncorrectable::Refunded);
}

/// Design §3: paid first is what is owed. I5: what policy lends is not exceeded.
#[test]
fn an_adjustment_pays_what_is_owed_first_and_owes_no_more_than_policy_lends() {
    let mut world = rules().open();
    let grant = world.grant_to("wallet", 1, 10, 1, None);
    let decision = world.hold(15);
    world.finish(decision, 27);
    assert_eq!(world.stands_at("wallet"), -3);
    let most = whole(3);
    for (what, credits, why) in [
        (Adjusted::Debt { most }, -1, Unadjustable::BeyondDebt { most, owed: most }),
        (Adjusted::Debt { most }, 4, Unadjustable::NotOwed { owed: most }),
        (of(&grant), -1, Unadjustable::NotFree { free: Credits::ZERO }),
    ] {
        assert_eq!(adjust(&mut world, what, credits * 1_000_000), Err(why));
    }
    adjust(&mut world, Adjusted::Debt { most }, 1_000_000).unwrap();
    assert_eq!(world.stands_at("wallet"), -2);
    let told = adjust(&mut world, of(&grant), 5_000_000).unwrap();
    assert_eq!((told.repaid, world.stands_at("wallet")), (whole(2), 3));
    let free = Unadjustable::StillFree { free: whole(3) };
    assert_eq!(adjust(&mut world, Adjusted::Debt { most }, -1), Err(free));
    assert_eq!(state(&world.rebuilt()), state(&world.account));
    let over = adjust(&mut world, of(&grant), Credits::MAX.signed().micros());
    assert_eq!(over, Err(Unadjustable::TooMuch));
    let short = world.grant_to("wallet", 2, 1, 1, Some(HOUR));
    world.at(HOUR);
    assert_eq!(adjust(&mut world, of(&short), 1), Err(Unadjustable::Expired));
}
