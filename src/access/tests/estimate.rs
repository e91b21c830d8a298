//! Section 3, estimate, then truth: the same walk again, where each layer can give its own hold plus what it has now.

use super::*;
use crate::units::{Decimal, Price};

const LAYERS: &str =
    "{name: included, kind: rate_limit, per: user, windows: [{allow: 50, every: 5h, starts: first_use}]},
    {name: credits, kind: prepaid, balance: wallet}";

fn world() -> World {
    let mut world = Rules { layers: LAYERS, ..Rules::default() }.open();
    world.grant(1, 100);
    world
}

#[test]
fn what_was_held_and_not_used_comes_back_layer_by_layer() {
    for (truth, draws, left, available) in [
        (0, "", 50, 100),
        (1, "included 1", 49, 100),
        (49, "included 49", 1, 100),
        (50, "included 50", 0, 100),
        (51, "included 50, credits 1", 0, 99),
        (70, "included 50, credits 20", 0, 80),
        (71, "included 50, credits 21", 0, 79),
        (150, "included 50, credits 100", 0, 0),
    ] {
        let mut world = world();
        let decision = world.hold(70);
        let end = world.finish(decision, truth);
        assert_eq!(shown(&end.draws), draws, "{truth}");
        assert_eq!((world.left(), world.available()), (vec![left], vec![available]), "{truth}");
        let charge = end.charge;
        assert_eq!(charge.gross, whole(truth));
        assert_eq!(
            (charge.covered, charge.charged),
            (whole(truth.min(50)), whole(truth.max(50) - 50)),
            "{truth}"
        );
    }
}

#[test]
fn a_finish_takes_nothing_that_another_hold_has_reserved() {
    let mut world = world();
    let first = world.hold(30);
    let second = world.hold(20);
    assert_eq!(shown(&world.finish(first, 45).draws), "included 30, credits 15");
    assert_eq!(shown(&world.finish(second, 20).draws), "included 20");
}

#[test]
fn a_finish_takes_what_other_holds_gave_back() {
    let mut world = world();
    let first = world.hold(50);
    let second = world.hold(20);
    assert_eq!(
        shown(
            &world
                .account
                .hold_of(second)
                .unwrap()
                .terms
                .entries(&world.account.hold_of(second).unwrap().draws)
        ),
        "credits 20"
    );
    world.void(first);
    // The same walk is done with the real quantities: the window stands before the balance.
    assert_eq!(shown(&world.finish(second, 20).draws), "included 20");
    assert_eq!(world.available(), [100]);
}

#[test]
fn a_window_of_requests_that_covers_a_request_covers_its_truth() {
    let layers = format!(
        "{{name: calls, kind: free_tier, per: user, unit: request, windows: [{{allow: 1, every: 1h, starts: first_use}}]}}, {WALLET}"
    );
    for (truth, draws, left) in [(0, "", 1), (1, "calls 1", 0), (90, "calls 1", 0)] {
        let mut world = Rules { layers: &layers, ..Rules::default() }.open();
        let decision = world.hold(7);
        let end = world.finish(decision, truth);
        assert_eq!((shown(&end.draws).as_str(), world.left()), (draws, vec![left]), "{truth}");
        assert_eq!((end.charge.covered, end.charge.charged), (whole(truth), Credits::ZERO), "{truth}");
    }
}

#[test]
fn a_window_of_requests_that_has_begun_again_covers_what_was_held_elsewhere() {
    let layers = format!(
        "{{name: calls, kind: free_tier, per: user, unit: request, windows: [{{allow: 1, every: 1h, starts: first_use}}]}}, {WALLET}"
    );
    let mut world = Rules { layers: &layers, ..Rules::default() }.open();
    world.grant(1, 10);
    world.spend(1);
    let decision = world.hold(5);
    assert_eq!(shown(&world.at(HOUR).finish(decision, 6).draws), "calls 1");
    assert_eq!(world.available(), [10]);
}

#[test]
fn a_grant_that_came_meanwhile_is_drawn_in_its_place() {
    let mut world = Rules { layers: WALLET, ..Rules::default() }.open();
    world.grant_to("wallet", 1, 10, 100, None);
    let decision = world.hold(8);
    world.grant_to("wallet", 2, 5, 50, None);
    let end = world.finish(decision, 8);
    let grants: Vec<_> = end
        .draws
        .iter()
        .map(|draw| match draw.origin {
            OriginEntry::Grant { grant, .. } => (grant, draw.amount.get() / 1_000_000),
            _ => panic!("a grant"),
        })
        .collect();
    assert_eq!(grants, [(grant_id(2), 5), (grant_id(1), 3)]);
}

#[test]
fn the_first_end_wins_and_a_later_one_finds_no_hold() {
    // I9
    let mut world = world();
    let decision = world.hold(10);
    world.finish(decision, 10);
    let state = format!("{:?}", world.account);
    assert_eq!(world.end(decision, Demand::nothing(), Ending::not_sent()), Err(NoSuchHold));
    assert_eq!(world.account.renew(decision, world.now), Err(NoSuchHold));
    assert_eq!(world.account.dispatch(decision), Err(NoSuchHold));
    let estimate = world.terms("coin").estimate(tokens(0, 90)).unwrap();
    assert_eq!(world.account.extend(decision, estimate, world.now), Err(NoSuchHold));
    assert_eq!(format!("{:?}", world.account), state);
}

#[test]
fn every_outcome_ends_a_hold_and_stands_in_the_record() {
    // What counts is what was used; the outcome is told, and never a branch.
    for outcome in Outcome::ALL {
        let mut world = world();
        let decision = world.hold(60);
        let reached_upstream = outcome != Outcome::NotSent;
        let used = if matches!(outcome, Outcome::Refused | Outcome::NotSent) { 0 } else { 55 };
        let ending = Ending { outcome, reached_upstream, ..completed() };
        let used = world.terms("coin").estimate(tokens(0, used)).unwrap();
        let end = world.end(decision, used.clone(), ending.clone()).unwrap();
        assert_eq!((&end.ending, &end.used, end.seq), (&ending, &used, Seq(2)), "{outcome:?}");
        assert_eq!(end.charge.gross.micros(), used.whole.get());
        assert_eq!(shown(&end.held), "included 50, credits 10");
        assert!(world.account.holds().next().is_none());
    }
}

#[test]
fn the_price_of_the_truth_is_the_answers_tier() {
    let mut world = world();
    let decision = world.hold(60);
    let (used, _) = world.terms("coin").priced(tokens(0, 60), Some("flex")).unwrap();
    let end = world.end(decision, used, completed()).unwrap();
    assert_eq!((shown(&end.draws).as_str(), end.charge.gross), ("included 30", whole(30)));
}

#[test]
fn a_truth_beyond_all_amounts_is_forgiven_with_an_alarm_and_still_adds_up() {
    let mut world = world();
    let decision = world.hold(60);
    let mut used = world.terms("coin").estimate(tokens(0, 60)).unwrap();
    used.price = Price::times(u64::MAX, "999999999".parse().unwrap()).unwrap();
    used.whole = Amount::MAX;
    let charge = world.end(decision, used, completed()).unwrap().charge;
    let sum = charge.covered.micros() + charge.forgiven.micros() + charge.charged.micros();
    assert_eq!((sum, charge.gross), (charge.gross.micros(), Credits::MAX));
    assert!(!charge.excess.is_zero());
}

#[test]
fn a_share_that_cannot_be_computed_is_charged_as_the_whole() {
    let layers =
        "{name: free, kind: free_tier, per: user, windows: [{allow: 1, every: 1h, starts: first_use}]},
        {name: credits, kind: prepaid, balance: wallet}";
    let mut world = Rules { feature: "unit: token", layers, ..Rules::default() }.open();
    let decision = world.hold(1);
    let factor = "0.999999".parse().unwrap();
    let price = Price::times(1_000_000_000_000_007, Decimal::ONE).unwrap();
    let price =
        price.scaled(factor).and_then(|price| price.scaled(factor)).and_then(|price| price.scaled(factor));
    let used =
        Demand { quantities: tokens(0, 2_000_003), price: price.unwrap(), whole: Amount::clamped(2_000_003) };
    assert!(used.price.ceil_share(Amount::clamped(2_000_002), used.whole).is_err());
    let charge = world.end(decision, used, completed()).unwrap().charge;
    assert_eq!((charge.covered, charge.forgiven), (Credits::ZERO, charge.gross));
}

#[test]
fn saving_never_lowers_what_is_left() {
    // I13, over all windows and the balance, whatever the time at which the hold ends.
    for ms in [0, HOUR, 5 * HOUR - 1, 5 * HOUR, 6 * HOUR] {
        let mut most = None;
        for truth in (0..=160).rev() {
            let mut world = world();
            let decision = world.hold(70);
            world.at(ms).finish(decision, truth);
            let left = (world.left()[0], world.available()[0]);
            let (window, balance) = most.unwrap_or(left);
            assert!(left.0 >= window && left.1 >= balance, "{truth} at {ms}");
            most = Some(left);
        }
    }
}
