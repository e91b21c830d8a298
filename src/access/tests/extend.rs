//! Extending, renewing and dispatching a hold.

use super::*;

const LAYERS: &str =
    "{name: included, kind: rate_limit, per: user, windows: [{allow: 50, every: 5h, starts: first_use}]},
    {name: credits, kind: prepaid, balance: wallet}";

fn world(layers: &str) -> World {
    let mut world = Rules { layers, ..Rules::default() }.open();
    world.grant(1, 20);
    world
}

/// The draws of a hold.
fn drawn(world: &World, decision: DecisionId) -> String {
    let hold = world.account.hold_of(decision).unwrap();
    shown(&hold.terms.entries(&hold.draws))
}

#[test]
fn all_that_a_larger_estimate_needs_is_reserved_or_nothing() {
    for (estimate, extended, draws) in [
        (39, Extended::Held, "included 40"),
        (40, Extended::Held, "included 40"),
        (50, Extended::Held, "included 40, included 10"),
        (51, Extended::Held, "included 40, included 10, credits 1"),
        (70, Extended::Held, "included 40, included 10, credits 20"),
        (71, Extended::Lacking, "included 40"),
    ] {
        let mut world = world(LAYERS);
        let decision = world.hold(40);
        let before = format!("{:?}", world.account);
        assert_eq!(world.extend(decision, "coin", 0, estimate), extended, "{estimate}");
        assert_eq!(drawn(&world, decision), draws, "{estimate}");
        if draws == "included 40" {
            assert_eq!(format!("{:?}", world.account), before, "{estimate} changes nothing");
        } else {
            world.finish(decision, estimate);
            assert_eq!(world.left()[0] + world.available()[0], 70 - estimate);
        }
    }
}

#[test]
fn an_extension_reserves_what_the_whole_costs_and_not_an_average() {
    // 10 of input at 1 and 10 of output at 10 credits: it grows by the dear part alone.
    let layers = format!(
        "{{name: free, kind: free_tier, per: user, windows: [{{allow: 5, every: 1h, starts: first_use}}]}}, {WALLET}"
    );
    let mut world = Rules { feature: "unit: token", layers: &layers, ..Rules::default() }.open();
    world.grant(1, 1000);
    let decision = world.ask_of("uneven", 10, 0).unwrap().decision;
    assert_eq!(drawn(&world, decision), "free 5, credits 5");
    assert_eq!(world.extend(decision, "uneven", 10, 10), Extended::Held);
    // 15 of 20 tokens that cost 110 in all: 82.5.
    assert_eq!(drawn(&world, decision), "free 5, credits 5, credits 77.5");
    let end = world.finish_with(decision, tokens(10, 10));
    assert_eq!((shown(&end.draws).as_str(), end.charge.forgiven), ("free 5, credits 82.5", Credits::ZERO));
}

#[test]
fn a_request_that_a_window_of_requests_covers_stays_covered() {
    let layers = format!(
        "{{name: calls, kind: free_tier, per: user, unit: request, windows: [{{allow: 2, every: 1h, starts: first_use}}]}}, {WALLET}"
    );
    let mut world = world(&layers);
    let decision = world.hold(7);
    assert_eq!(world.extend(decision, "coin", 0, 900), Extended::Held);
    assert_eq!((drawn(&world, decision).as_str(), world.left()), ("calls 1", vec![1]));
    assert_eq!(shown(&world.finish(decision, 900).draws), "calls 1");
}

#[test]
fn a_window_of_requests_does_not_cover_what_comes_on_top() {
    let layers = format!(
        "{{name: calls, kind: free_tier, per: user, unit: request, windows: [{{allow: 1, every: 1h, starts: first_use}}]}}, {WALLET}"
    );
    let mut world = world(&layers);
    world.spend(1);
    let decision = world.hold(7);
    assert_eq!(world.at(HOUR).extend(decision, "coin", 0, 9), Extended::Held);
    assert_eq!((drawn(&world, decision).as_str(), world.left()), ("credits 7, credits 2", vec![1]));
}

#[test]
fn an_extension_across_the_end_of_a_window_draws_the_one_that_is_current() {
    let mut world = world(LAYERS);
    let decision = world.hold(60);
    assert_eq!(world.at(5 * HOUR).extend(decision, "coin", 0, 75), Extended::Held);
    assert_eq!(drawn(&world, decision), "included 50, credits 10, included 15");
    assert_eq!(world.left(), [35]);
    let end = world.finish(decision, 75);
    assert_eq!(shown(&end.draws), "included 50, included 15, included 10");
    assert_eq!((world.left(), world.available()), (vec![25], vec![20]));
}

#[test]
fn an_extension_draws_nothing_that_has_expired() {
    let mut world = Rules { layers: WALLET, ..Rules::default() }.open();
    world.grant_to("wallet", 1, 20, 100, Some(HOUR));
    let decision = world.hold(10);
    assert_eq!(world.at(HOUR).extend(decision, "coin", 0, 11), Extended::Lacking);
    assert_eq!(shown(&world.finish(decision, 11).draws), "credits 10");
}

#[test]
fn an_extension_issues_nothing_and_passes_by_what_is_to_come() {
    let layers = format!(
        "{{name: included, kind: rate_limit, per: user, windows: [{{allow: 50, every: 5h, starts: first_use}}]}},
        {{name: offer, kind: promotion, balance: launch}}, {WALLET}"
    );
    let balances = "launch: {per: user, issue: {amount: 30}},";
    let mut world = Rules { balances, layers: &layers, ..Rules::default() }.open();
    world.grant(1, 20);
    let decision = world.hold(50);
    assert_eq!(world.extend(decision, "coin", 0, 60), Extended::Held);
    assert_eq!(drawn(&world, decision), "included 50, credits 10");
    assert_eq!(world.available(), [30, 10]);
}

#[test]
fn an_extension_is_asked_of_the_spend_cap_and_of_no_other_guard() {
    let guards = "{name: burst, requests: 1, every: 1h, per: user}, {name: flight, concurrent: 1, per: user},
        {name: cap, spend: 10, every: month, per: user}";
    for (estimate, extended, left) in [(60, Extended::Held, 0), (61, Extended::Lacking, 5)] {
        let mut world = Rules { guards, layers: LAYERS, ..Rules::default() }.open();
        world.grant(1, 100);
        let decision = world.hold(55);
        assert_eq!(world.extend(decision, "coin", 0, estimate), extended, "{estimate}");
        assert_eq!(world.standing().guards[2].left, whole(left).micros(), "{estimate}");
        world.finish(decision, estimate);
        assert_eq!(world.standing().guards[2].left, 0, "the truth of {estimate}");
    }
}

#[test]
fn renewing_moves_a_deadline_later_and_never_earlier() {
    let mut world = world(LAYERS);
    let decision = world.hold(1);
    let deadline = |world: &World| World::since_start(world.account.hold_of(decision).unwrap().expires_at);
    assert_eq!(deadline(&world), 120 * SECOND, "a hold lives 120 s");
    for (ms, expected) in [(60 * SECOND, 120 * SECOND), (180 * SECOND, 180 * SECOND)] {
        world.account.renew(decision, START.plus(Span::from_ms(ms))).unwrap();
        assert_eq!(deadline(&world), expected);
    }
}

#[test]
fn dispatch_is_noted_once_it_happens() {
    let mut world = world(LAYERS);
    let decision = world.hold(1);
    assert!(!world.account.hold_of(decision).unwrap().dispatched);
    world.account.dispatch(decision).unwrap();
    assert!(world.account.hold_of(decision).unwrap().dispatched);
}
