//! Section 3, the walk: layers in policy order, each gives what it can, the rest goes on.

use super::*;

const INCLUDED: &str =
    "{name: included, kind: rate_limit, per: user, windows: [{allow: 50, every: 5h, starts: first_use}]}";

#[test]
fn each_layer_gives_what_it_can_and_the_rest_goes_on() {
    // take = min(rest, what the layer can give now); rest == 0 → allow, rest > 0 → block, holding nothing.
    let layers = format!(
        "{INCLUDED}, {{name: daily, kind: free_tier, per: account,
            windows: [{{allow: 10, every: day, starts: calendar}}]}}, {WALLET}"
    );
    for (asked, outcome) in [
        (49, "included 49"),
        (50, "included 50"),
        (51, "included 50, daily 1"),
        (60, "included 50, daily 10"),
        (61, "included 50, daily 10, credits 1"),
        (80, "included 50, daily 10, credits 20"),
        (81, "credits-exhausted"),
    ] {
        let mut world = Rules { layers: &layers, ..Rules::default() }.open();
        world.grant(1, 20);
        let held = world.ask(asked);
        assert_eq!(told(&world, &held), outcome, "{asked}");
        let left = if held.is_ok() { 80 - asked } else { 80 };
        let sum = world.left().iter().sum::<u64>() + world.available().iter().sum::<u64>();
        assert_eq!(sum, left, "{asked}");
    }
}

#[test]
fn credits_equal_to_the_price_pass_and_a_micro_credit_less_does_not() {
    for (balance, passes) in [("4.999999", false), ("5", true), ("5.000001", true)] {
        let mut world = Rules { layers: WALLET, ..Rules::default() }.open();
        let order = GrantOrder {
            grant: grant_id(1),
            user: None,
            balance: "wallet".into(),
            key: CounterKey::of_balance("wallet"),
            amount: balance.parse().unwrap(),
            priority: 100,
            expires_at: None,
            origin: GrantOrigin::Operator { idempotency_key: "key".into(), note: None },
        };
        world.carry_out(order).unwrap();
        assert_eq!(world.ask(5).is_ok(), passes, "{balance}");
    }
}

#[test]
fn the_rest_is_converted_once_and_rounded_up_once() {
    // cost = ceil(price × rest / whole): 7 of 10 tokens at 0.3 micro-credits are 2.1, so 3.
    let layers = format!(
        "{{name: free, kind: free_tier, per: user, windows: [{{allow: 3, every: 1h, starts: first_use}}]}}, {WALLET}"
    );
    let mut world = Rules { feature: "unit: token", layers: &layers, ..Rules::default() }.open();
    world.grant(1, 1);
    let held = world.ask_of("grain", 0, 10);
    assert_eq!(told(&world, &held), "free 3, credits 0.000003");
    // All of it costs 3 as well, and so does what windows cover of it: nothing is counted twice.
    let end = world.finish_with(held.unwrap().decision, tokens(0, 10));
    assert_eq!(
        (end.charge.gross.micros(), end.charge.covered.micros(), end.charge.charged.micros()),
        (3, 0, 3)
    );
}

#[test]
fn behind_the_conversion_balances_subtract_plain_credits() {
    let layers = format!("{{name: gift, kind: promotion, balance: gift}}, {WALLET}");
    let rules =
        Rules { balances: "gift: {per: user},", feature: "unit: token", layers: &layers, ..Rules::default() };
    let mut world = rules.open();
    world.grant_to("gift", 1, 4, 100, None);
    world.grant(2, 6);
    let held = world.ask_of("coin", 4, 6);
    assert_eq!(told(&world, &held), "gift 4, credits 6");
    assert_eq!(held.unwrap().draws.iter().map(|draw| draw.covers.get()).sum::<u64>(), 10_000_000, "I3");
}

#[test]
fn a_window_of_requests_covers_a_request_whole_or_not_at_all() {
    let layers = format!(
        "{{name: calls, kind: free_tier, per: user, unit: request,
            windows: [{{allow: 2, every: 1h, starts: first_use}}]}}, {INCLUDED}, {WALLET}"
    );
    let mut world = Rules { layers: &layers, ..Rules::default() }.open();
    world.grant(1, 100);
    for outcome in ["calls 1", "calls 1", "included 50, credits 20"] {
        let held = world.ask(70);
        assert_eq!(told(&world, &held), outcome);
    }
    // I3: a request window's take is the whole.
    let first = world.account.holds().find(|hold| hold.draws.len() == 1).unwrap();
    assert_eq!(first.draws[0].covers, first.demand.whole);
}

#[test]
fn a_limit_holds_for_what_is_free() {
    // rest > 0 → block: the price of a rest is no measure of it where no balance stands behind the windows.
    let layers =
        "{name: free, kind: free_tier, per: user, windows: [{allow: 10, every: 1h, starts: first_use}]}";
    for (model, asked, outcome) in [
        ("free", 10, "free 10"),
        ("free", 11, "never-fits"),
        ("grain", 11, "never-fits"),
        ("coin", 11, "never-fits"),
    ] {
        let mut world = Rules { feature: "unit: token", layers, ..Rules::default() }.open();
        let held = world.ask_of(model, 0, asked);
        assert_eq!(told(&world, &held), outcome, "{model} {asked}");
    }
    let mut world = Rules { feature: "unit: token", layers, ..Rules::default() }.open();
    world.ask_of("free", 0, 6).unwrap();
    let block = world.ask_of("free", 0, 5).unwrap_err();
    assert_eq!((block.reason, block.need, block.have), (Reason::HeldInFlight, None, None));
}

#[test]
fn what_is_free_needs_no_balance() {
    // At the first balance layer the rest is converted: to nothing, which every balance has.
    let layers = format!(
        "{{name: free, kind: free_tier, per: user, windows: [{{allow: 10, every: 1h, starts: first_use}}]}}, {WALLET}"
    );
    let mut world = Rules { feature: "unit: token", layers: &layers, ..Rules::default() }.open();
    let held = world.ask_of("free", 0, 25);
    assert_eq!(told(&world, &held), "free 10");
    let end = world.finish_with(held.unwrap().decision, tokens(0, 25));
    assert_eq!((shown(&end.draws).as_str(), end.charge), ("free 10", Charge::default()));
}

#[test]
fn what_has_a_price_is_covered_though_none_of_the_unit_was_used() {
    let layers = format!(
        "{{name: free, kind: free_tier, per: user, windows: [{{allow: 1, every: 1h, starts: first_use}}]}}, {WALLET}"
    );
    let mut world = Rules { feature: "unit: output_token", layers: &layers, ..Rules::default() }.open();
    world.grant(1, 100);
    for (draws, charged) in [("free 1", 0), ("credits 30", 30)] {
        let decision = world.ask_of("coin", 30, 10).unwrap().decision;
        let end = world.finish_with(decision, tokens(30, 0));
        assert_eq!((shown(&end.draws).as_str(), end.charge.charged), (draws, whole(charged)));
    }
}

#[test]
fn a_video_is_counted_in_seconds_and_paid_in_credits() {
    let film = format!(
        "{{name: daily, kind: free_tier, per: user, windows: [{{allow: 30, every: day, starts: calendar}}]}}, {WALLET}"
    );
    let mut world = Rules { layers: WALLET, film: &film, ..Rules::default() }.open();
    world.grant(1, 100);
    let held = world.ask_film(34);
    assert_eq!(told(&world, &held), "daily 30, credits 10");
}

#[test]
fn a_decision_that_is_held_is_answered_with_that_hold() {
    let mut world = Rules { layers: INCLUDED, ..Rules::default() }.open();
    let ask = world.next_ask("coin", tokens(0, 30));
    assert!(world.account.held_already(&ask, world.now).is_none());
    let first = world.take(ask.clone()).unwrap();
    let second = world.account.held_already(&ask, world.now).unwrap();
    assert_eq!((first.draws, first.demand), (second.draws, second.demand));
    assert_eq!((first.clamped_to, first.standing), (second.clamped_to, second.standing));
}

#[test]
fn a_free_request_with_no_quantity_passes_and_draws_nothing() {
    let mut world = Rules { layers: INCLUDED, ..Rules::default() }.open();
    let held = world.ask_of("free", 5, 5);
    assert_eq!(told(&world, &held), "");
}
