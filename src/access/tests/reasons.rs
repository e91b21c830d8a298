//! Section 3, which reason is told, and `next`: the first instant at which this very request passes.

use proptest::prelude::*;

use super::*;

const WINDOW: &str =
    "{name: included, kind: rate_limit, per: user, windows: [{allow: 50, every: 5h, starts: first_use}]}";

#[test]
fn reasons_are_told_in_their_order() {
    // Each row adds what its reason needs to a request to which all reasons behind it apply.
    let guards = "{name: burst, requests: 2, every: 1h, per: user}";
    for (what, reason) in [
        ("no plan", Reason::NotInPlan),
        ("no room", Reason::NeverFits),
        ("guard", Reason::LimitReached),
        ("holds", Reason::HeldInFlight),
        ("time", Reason::LimitReached),
        ("money", Reason::CreditsExhausted),
    ] {
        let layers = if what == "no room" { WINDOW.to_owned() } else { format!("{WINDOW}, {WALLET}") };
        let guards = if matches!(what, "no plan" | "no room" | "guard") { guards } else { "" };
        let mut world = Rules { guards, layers: &layers, ..Rules::default() }.open();
        if what != "no room" {
            world.grant(1, 10);
        }
        let first = world.hold(50);
        let asked = match what {
            "holds" | "time" => 60,
            _ => 61,
        };
        match what {
            "no plan" => world.plan = "none",
            "time" | "money" => drop(world.finish(first, 50)),
            _ => {}
        }
        if !guards.is_empty() && what != "no plan" {
            world.spend(0);
        }
        let block = world.ask_of("coin", asked, 0).unwrap_err();
        assert_eq!(block.reason, reason, "{what}");
    }
}

#[test]
fn a_model_without_a_price_makes_no_demand() {
    // unpriced-model comes before all that needs a demand: there is none.
    let world = Rules { layers: WALLET, ..Rules::default() }.open();
    let unpriced = world.terms("unknown").estimate(tokens(1, 1));
    assert_eq!(unpriced, Err(super::super::terms::Unpriced::Model));
    assert!(Reason::ALL.iter().all(|reason| !reason.as_str().is_empty()));
}

#[test]
fn never_fits_is_the_input_estimate_and_the_least_output_above_what_empty_windows_give() {
    for (layers, input, output, reason) in [
        (WINDOW.to_owned(), 40, 10, None),
        (WINDOW.to_owned(), 40, 11, Some(Reason::NeverFits)),
        (WINDOW.to_owned(), 49, 2, Some(Reason::NeverFits)),
        (WINDOW.to_owned(), 50, 1, Some(Reason::NeverFits)),
        (format!("{WINDOW}, {WALLET}"), 50, 1, Some(Reason::CreditsExhausted)),
        (WINDOW.replace("allow: 50", "allow: unlimited"), 1_000_000, 1, None),
    ] {
        let mut world = Rules { layers: &layers, ..Rules::default() }.open();
        let block = world.ask_of("coin", input, output).err();
        assert_eq!(block.map(|block| block.reason), reason, "{layers} {input} {output}");
    }
}

#[test]
fn held_in_flight_is_what_would_pass_if_all_open_holds_of_the_account_were_voided() {
    let layers = format!("{WINDOW}, {WALLET}");
    let mut world = Rules { layers: &layers, ..Rules::default() }.open();
    world.grant(1, 10);
    world.hold(45);
    world.by(1).hold(55);
    // The other user holds five of the account's ten.
    world.by(0);
    let block = world.block(11);
    assert_eq!(
        (block.reason, block.need, block.have),
        (Reason::HeldInFlight, Some(whole(6)), Some(whole(5)))
    );
    assert_eq!(block.next, None);
    assert_eq!(world.block(61).reason, Reason::CreditsExhausted);
}

#[test]
fn a_cap_without_holds_is_asked_with_the_cost_without_holds() {
    let guards = "{name: cap, spend: 10, every: month, per: user}";
    let layers = format!("{WINDOW}, {WALLET}");
    let mut world = Rules { guards, layers: &layers, ..Rules::default() }.open();
    world.grant(1, 100);
    world.hold(50);
    // Without the hold the window would cover it, and the cap would not be asked.
    assert_eq!(world.block(11).reason, Reason::HeldInFlight);
    assert_eq!(world.block(61).reason, Reason::SpendCapReached);
}

#[test]
fn limit_reached_tells_need_and_have_too_where_money_heals() {
    let layers = format!("{WINDOW}, {WALLET}");
    let mut world = Rules { layers: &layers, ..Rules::default() }.open();
    world.grant(1, 7);
    world.spend(45);
    let block = world.block(20);
    assert_eq!(block.reason, Reason::LimitReached);
    assert_eq!(
        (block.need, block.have, block.next.map(World::since_start)),
        (Some(whole(15)), Some(whole(7)), Some(5 * HOUR))
    );
    assert_eq!(block.binding.as_deref(), Some("credits"));
    let block = world.block(57 + 1);
    assert_eq!((block.reason, block.next), (Reason::CreditsExhausted, None));
}

#[test]
fn next_is_the_start_of_an_issue_that_helps() {
    let balances = "launch: {per: user, issue: {amount: 20, from: \"2026-11-02T01:00:00Z\"}},";
    let layers =
        "{name: offer, kind: promotion, balance: launch}, {name: credits, kind: prepaid, balance: wallet}";
    let mut world = Rules { balances, layers, ..Rules::default() }.open();
    assert_eq!(world.block(20).next.map(World::since_start), Some(HOUR));
    assert_eq!(world.block(21).reason, Reason::CreditsExhausted);
}

#[test]
fn next_counts_the_clamp() {
    let guards =
        "{name: cap, spend: 10, every: 1h, per: user}, {name: tokens, tokens: 60, every: 1m, per: user}";
    let feature = "clamp: {minimum_output_tokens: 5}";
    let mut world = Rules { feature, guards, layers: WALLET, ..Rules::default() }.open();
    world.grant(1, 100);
    world.at(HOUR - 1000).spend(10);
    let decision = world.ask_of("free", 50, 0).unwrap().decision;
    world.finish_with(decision, tokens(50, 0));
    let block = world.ask_of("coin", 0, 30).unwrap_err();
    assert_eq!(block.reason, Reason::SpendCapReached);
    let next = block.next.unwrap();
    // Five tokens are back after five seconds; the cap turns only later.
    assert_eq!(World::since_start(next), 2 * HOUR - 1000);
    world.now = next;
    assert_eq!(world.ask_of("coin", 0, 30).unwrap().clamped_to, Some(10));
}

/// A request that asks, waits as it is told, and asks again.
#[derive(Clone, Debug)]
struct Plan {
    /// `(milliseconds to wait, input, output, used in percent; above 200 stays open)`
    before: Vec<(u64, u64, u64, u64)>,
    asked: (u64, u64),
    wallet: u64,
    clamp: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    let one = (0u64..9_000, 0u64..20, 1u64..40, 0u64..260);
    (prop::collection::vec(one, 0..8), (0u64..30, 1u64..60), 0u64..60, any::<bool>())
        .prop_map(|(before, asked, wallet, clamp)| Plan { before, asked, wallet, clamp })
}

const BUSY_GUARDS: &str = "{name: burst, requests: 2, every: 4s, burst: 3, per: user},
    {name: cap, spend: 70, every: 20s, per: account}, {name: tokens, tokens: 70, every: 7s, per: user}";
const BUSY_LAYERS: &str = "{name: calls, kind: free_tier, per: user, unit: request, windows: [{allow: 1, every: 9s, starts: first_use}]},
    {name: included, kind: rate_limit, per: user, windows: [{allow: 30, every: 5s, starts: first_use}, {allow: 55, every: 12s, starts: first_use}]},
    {name: offer, kind: promotion, balance: launch}, {name: credits, kind: prepaid, balance: wallet}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// At t it passes, at t − 1 s it does not, nor at any instant before t that was tried; and where no instant is
    /// told, none is found by trying.
    #[test]
    fn next_is_the_first_instant_at_which_the_request_passes(plan in plan()) {
        let feature = if plan.clamp { "clamp: {minimum_output_tokens: 3}" } else { "" };
        let balances = "launch: {per: user, issue: {amount: 25, from: \"2026-11-02T00:00:15Z\", until: \"2026-11-02T00:00:40Z\"}},";
        let rules = Rules { balances, feature, guards: BUSY_GUARDS, layers: BUSY_LAYERS, ..Rules::default() };
        let mut world = rules.open();
        world.grant(1, plan.wallet);
        for (wait, input, output, used) in plan.before {
            world.now = world.now.plus(Span::from_ms(wait));
            if let Ok(held) = world.ask_of("coin", input, output) && used <= 200 {
                world.finish_with(held.decision, tokens(input, output * used / 100));
            }
        }
        let ask = world.next_ask("coin", tokens(plan.asked.0, plan.asked.1));
        let passes = |at| world.account.decide(&ask.terms, ask.user, &ask.demand, at).is_ok();
        let Err(block) = world.account.decide(&ask.terms, ask.user, &ask.demand, world.now) else { return Ok(()) };
        let after = |ms| world.now.plus(Span::from_ms(ms));
        let found = (0..600u64).map(|step| after(step * 100)).find(|at| passes(*at));
        let Some(next) = block.next.filter(|at| passes(*at)) else {
            // A rate tells when it would let it pass itself, where other things stand in the way for good; what waits
            // for holds tells no time.
            let waits = matches!(block.reason, Reason::HeldInFlight | Reason::InFlightLimit);
            prop_assert!(waits || found.is_none(), "{block:?}, but {found:?}");
            return Ok(());
        };
        prop_assert!(next > world.now);
        prop_assert!(!passes(Timestamp::from_ms(next.ms() - 1)), "a millisecond before");
        prop_assert!(!passes(Timestamp::from_ms(next.ms() - 1000).max(world.now)), "a second before");
        prop_assert!(found.is_none_or(|found| found >= next), "{found:?} before {next:?}");
    }
}

#[test]
fn a_request_for_tokens_has_a_price_or_the_first_reason_why_not() {
    let mut world = Rules { layers: WALLET, ..Rules::default() }.open();
    let tokens = |input_tokens| Quantities { input_tokens, ..Quantities::default() };
    let asked = |world: &World, model: &str, input: u64| {
        world.terms(model).demand_for_tokens(tokens(input)).map(|demand| demand.whole.get())
    };
    assert_eq!(asked(&world, "coin", 3), Ok(3_000_000));
    assert_eq!(asked(&world, "nowhere", 3), Err(Reason::UnpricedModel));
    assert_eq!(asked(&world, "coin", u64::MAX), Err(Reason::NeverFits));
    let by_the_second = Terms { model: "film".into(), ..world.terms("coin") };
    assert_eq!(by_the_second.demand_for_tokens(tokens(3)), Err(Reason::UnpricedModel));
    world.plan = "none";
    assert_eq!(asked(&world, "nowhere", 3), Err(Reason::NotInPlan));
}
