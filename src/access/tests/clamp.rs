//! Section 3, clamp: "how much is allowed" is an amount.

use super::*;

fn world(minimum: u64, guards: &str, credits: u64) -> World {
    let feature = format!("clamp: {{minimum_output_tokens: {minimum}}}");
    let mut world = Rules { feature: &feature, guards, layers: WALLET, ..Rules::default() }.open();
    world.grant(1, credits);
    world
}

#[test]
fn what_can_be_afforded_below_the_estimate_and_above_the_minimum_is_the_amount() {
    for (credits, clamped_to) in
        [(100, Some(None)), (99, Some(Some(89))), (31, Some(Some(21))), (30, Some(Some(20))), (29, None)]
    {
        let mut world = world(20, "", credits);
        let held = world.ask_of("coin", 10, 90);
        assert_eq!(held.as_ref().ok().map(|held| held.clamped_to), clamped_to, "{credits}");
        if let Ok(held) = held {
            assert_eq!(held.demand.quantities.output_tokens, clamped_to.unwrap().unwrap_or(90));
            assert_eq!(world.available(), [0], "{credits}");
        }
    }
}

#[test]
fn affordability_counts_spend_too() {
    let mut capped = world(20, "{name: cap, spend: 50, every: month, per: user}", 1000);
    assert_eq!(capped.ask_of("coin", 10, 90).unwrap().clamped_to, Some(40));
    let mut capped = world(20, "{name: cap, spend: 29, every: month, per: user}", 1000);
    assert_eq!(capped.ask_of("coin", 10, 90).unwrap_err().reason, Reason::SpendCapReached);
}

#[test]
fn a_minimum_at_or_above_the_estimate_clamps_nothing() {
    for minimum in [90, 91] {
        assert_eq!(
            world(minimum, "", 99).ask_of("coin", 10, 90).unwrap_err().reason,
            Reason::CreditsExhausted
        );
    }
    assert_eq!(world(89, "", 99).ask_of("coin", 10, 90).unwrap().clamped_to, Some(89));
}

#[test]
fn without_clamp_it_is_a_block() {
    let mut world = Rules { layers: WALLET, ..Rules::default() }.open();
    world.grant(1, 99);
    assert_eq!(world.block(100).reason, Reason::CreditsExhausted);
}

#[test]
fn a_rate_is_no_reason_to_cut_a_request_down() {
    // Time heals it.
    let mut world = world(20, "{name: tokens, tokens: 100, every: 10s, per: user}", 1000);
    world.spend(50);
    assert_eq!(world.ask_of("coin", 10, 80).unwrap_err().reason, Reason::LimitReached);
}

#[test]
fn a_request_that_a_window_of_requests_covers_is_not_cut_down() {
    let layers = format!(
        "{{name: calls, kind: free_tier, per: user, unit: request, windows: [{{allow: 1, every: 1h, starts: first_use}}]}}, {WALLET}"
    );
    let rules = Rules { feature: "clamp: {minimum_output_tokens: 5}", layers: &layers, ..Rules::default() };
    let mut world = rules.open();
    world.grant(1, 30);
    assert_eq!(world.ask_of("coin", 0, 90).unwrap().clamped_to, None);
    assert_eq!(world.ask_of("coin", 0, 90).unwrap().clamped_to, Some(30));
}

#[test]
fn a_window_alone_is_cut_down_to_as_well() {
    let layers =
        "{name: included, kind: rate_limit, per: user, windows: [{allow: 50, every: 5h, starts: first_use}]}";
    for unit in ["credit", "token", "output_token"] {
        let feature = format!("unit: {unit}, clamp: {{minimum_output_tokens: 20}}");
        let rules = Rules { feature: &feature, layers, ..Rules::default() };
        let affordable = if unit == "output_token" { 50 } else { 40 };
        assert_eq!(rules.open().ask_of("coin", 10, 60).unwrap().clamped_to, Some(affordable), "{unit}");
        // The least output is what never-fits is judged by.
        let least = if unit == "output_token" { None } else { Some(Reason::NeverFits) };
        let block = rules.open().ask_of("coin", 31, 60).err();
        assert_eq!(block.map(|block| block.reason), least, "{unit}");
    }
}

#[test]
fn the_amount_is_the_most_that_passes() {
    // Against trying every output, over prices that round.
    for credits in 1..40 {
        let mut world = world(3, "", 0);
        let order = GrantOrder {
            grant: grant_id(2),
            user: None,
            balance: "wallet".into(),
            key: CounterKey::of_balance("wallet"),
            amount: Credits::from_micros(credits).unwrap(),
            priority: 100,
            expires_at: None,
            origin: GrantOrigin::Operator { idempotency_key: "key".into(), note: None },
        };
        world.carry_out(order).unwrap();
        let cost = |output: u64| (11 + 3 * output).div_ceil(10);
        let best = (3..=100).rev().find(|output| cost(*output) <= credits);
        let held = world.ask_of("grain", 11, 100).ok();
        let clamped = held.map(|held| held.clamped_to.unwrap_or(100));
        assert_eq!(clamped, best, "{credits} micro-credits");
    }
}

#[test]
fn asking_twice_tells_the_clamp_twice() {
    let mut world = world(20, "", 50);
    let ask = world.next_ask("coin", tokens(10, 90));
    let again = ask.clone();
    assert_eq!(world.take(ask).unwrap().clamped_to, Some(40));
    assert_eq!(world.account.held_already(&again, world.now).unwrap().clamped_to, Some(40));
}
