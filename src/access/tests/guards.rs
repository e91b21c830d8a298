//! Section 3, guards: all must pass, no money passes them, and the truth is counted always.

use super::*;

fn world(guards: &str) -> World {
    let mut world = Rules { guards, layers: WALLET, ..Rules::default() }.open();
    world.grant(1, 1_000_000);
    world
}

const BURST: &str = "{name: burst, requests: 60, every: 1m, burst: 3, per: user}";
const TOKENS: &str = "{name: tokens, tokens: 100, every: 10s, per: user}";

#[test]
fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
    let mut world = world(BURST);
    let passes = |world: &mut World, ms| world.at(ms).ask(1).is_ok();
    assert_eq!([0, 0, 0, 0].map(|ms| passes(&mut world, ms)), [true, true, true, false]);
    assert_eq!(
        [999, 1000, 1001, 1999, 2000].map(|ms| passes(&mut world, ms)),
        [false, true, false, false, true]
    );
    // What has drained in an hour is the burst, and not an hour's worth.
    assert_eq!([HOUR; 4].map(|ms| passes(&mut world, ms)), [true, true, true, false]);
}

#[test]
fn burst_defaults_to_the_amount() {
    let mut world = world(TOKENS);
    world.hold(100);
    assert_eq!(world.block(1).reason, Reason::LimitReached);
}

#[test]
fn admission_counts_the_estimate_or_the_capacity_where_that_is_less() {
    for (estimate, passes) in [(99, true), (100, true), (101, true), (1000, true)] {
        let mut world = world(TOKENS);
        assert_eq!(world.ask(estimate).is_ok(), passes, "{estimate} into an empty bucket");
        // One token that is not back yet keeps a request of the whole capacity out.
        let mut world = self::world(TOKENS);
        world.spend(1);
        assert_eq!(world.at(99).ask(estimate).is_ok(), estimate < 100, "{estimate} at 99 ms");
        assert!(world.at(100).ask(estimate).is_ok() || estimate < 100, "{estimate} at 100 ms");
    }
}

#[test]
fn an_open_hold_counts_for_no_more_than_the_capacity() {
    let mut world = world(TOKENS);
    world.hold(1000);
    assert!(world.at(99).ask(1).is_err());
    assert!(world.at(100).ask(1).is_ok());
}

#[test]
fn the_truth_is_counted_always_so_a_bucket_may_go_into_debt() {
    let mut world = world(TOKENS);
    let decision = world.hold(10);
    world.finish(decision, 350);
    let block = world.block(1);
    // 350 less the 99 beside which one more fits, at a hundred in ten seconds.
    assert_eq!((block.reason, block.next.map(World::since_start)), (Reason::LimitReached, Some(25_100)));
    assert_eq!(world.at(25_099).block(1).reason, Reason::LimitReached);
    assert!(world.at(25_100).ask(1).is_ok());
}

#[test]
fn what_was_estimated_too_large_comes_back_unless_it_may_have_drained() {
    for (ms, left) in [(0, 90), (1_000, 90), (7_000, 90), (7_999, 99), (8_000, 100)] {
        let mut world = world(TOKENS);
        let decision = world.hold(80);
        world.at(ms).finish(decision, 10);
        assert_eq!(world.standing().guards[0].left, left, "{ms}");
    }
    // In debt, draining is slower than giving back: no interval gets more than burst + rate × time.
    let mut world = world(TOKENS);
    let decision = world.hold(80);
    let other = world.hold(20);
    world.at(2_000).finish(other, 120);
    world.finish(decision, 0);
    // 100 held, 20 drained, 100 more, and 60 of the 80 back: two seconds' worth may have drained.
    assert_eq!(world.standing().guards[0].left, 0);
    assert_eq!(world.standing().guards[0].full_at.map(World::since_start), Some(2_000 + 12_000));
}

#[test]
fn voids_give_everything_back_but_the_count_of_requests() {
    let mut world = world(&format!("{BURST}, {TOKENS}, {{name: flight, concurrent: 2, per: user}}"));
    let decision = world.hold(60);
    assert_eq!(world.standing().guards.iter().map(|guard| guard.left).collect::<Vec<_>>(), [2, 40, 1]);
    world.void(decision);
    assert_eq!(world.standing().guards.iter().map(|guard| guard.left).collect::<Vec<_>>(), [2, 100, 2]);
}

#[test]
fn requests_in_flight_are_counted_until_their_end() {
    for (in_flight, passes) in [(1, true), (2, false)] {
        let mut world = world("{name: flight, concurrent: 2, per: user}");
        for _ in 0..in_flight {
            world.hold(1);
        }
        assert_eq!(world.ask(1).is_ok(), passes, "{in_flight}");
        assert!(world.by(1).ask(1).is_ok(), "another user has places of its own");
    }
    let mut world = world("{name: flight, concurrent: 1, per: account}");
    let decision = world.hold(1);
    assert_eq!(world.by(1).block(1).reason, Reason::InFlightLimit);
    world.finish(decision, 900);
    assert!(world.ask(1).is_ok());
}

#[test]
fn no_money_passes_a_guard() {
    for (guards, reason) in [
        ("{name: burst, requests: 1, every: 1m, per: user}", Reason::LimitReached),
        ("{name: tokens, tokens: 1, every: 1m, per: user}", Reason::LimitReached),
        ("{name: flight, concurrent: 1, per: user}", Reason::InFlightLimit),
        ("{name: cap, spend: 1, every: month, per: user}", Reason::HeldInFlight),
    ] {
        let mut world = world(guards);
        world.hold(1);
        assert_eq!(world.block(1).reason, reason, "{guards}");
    }
}

const LAYERS: &str =
    "{name: included, kind: rate_limit, per: user, windows: [{allow: 50, every: 5h, starts: first_use}]},
    {name: credits, kind: prepaid, balance: wallet}";

fn capped(cap: &str) -> World {
    let mut world = Rules { guards: cap, layers: LAYERS, ..Rules::default() }.open();
    world.grant(1, 1_000_000);
    world
}

#[test]
fn spend_is_judged_after_the_windows_on_what_the_walk_needs_of_balances() {
    for (asked, reason) in [(50, None), (60, None), (61, Some(Reason::SpendCapReached))] {
        let mut world = capped("{name: cap, spend: 10, every: month, per: user}");
        let block = world.ask(asked).err();
        assert_eq!(block.as_ref().map(|block| block.reason), reason, "{asked}");
        if let Some(block) = block {
            assert_eq!((block.need, block.have), (Some(whole(11)), Some(whole(10))));
        }
    }
    // Drawn or lacking: the cap is told, though the balance could not give it either.
    let mut world = Rules {
        guards: "{name: cap, spend: 10, every: month, per: user}",
        layers: LAYERS,
        ..Rules::default()
    }
    .open();
    assert_eq!(world.block(61).reason, Reason::SpendCapReached);
    assert_eq!(world.block(60).reason, Reason::CreditsExhausted);
    // What windows cover passes under a cap that is used up.
    let mut world = capped("{name: cap, spend: 10, every: month, per: user}");
    world.spend(60);
    assert_eq!(shown(&world.at(5 * HOUR).spend(50).draws), "included 50");
}

#[test]
fn a_cap_by_month_is_a_calendar_window_and_one_by_length_opens_at_first_use() {
    for (every, edge) in [("month", 29 * DAY), ("48h", 2 * DAY + HOUR)] {
        let mut world = capped(&format!("{{name: cap, spend: 10, every: {every}, per: account}}"));
        world.at(HOUR).spend(60);
        for (ms, left) in [(edge - 1, 0), (edge, 10), (edge + 1, 10)] {
            world.at(ms);
            assert_eq!(world.standing().guards[0].left, whole(left).micros(), "{every} {ms}");
        }
        assert_eq!(world.at(2 * HOUR).by(1).block(51).next.map(World::since_start), Some(edge), "{every}");
    }
}

#[test]
fn a_cap_counts_what_was_charged_debt_included_and_what_was_forgiven_not() {
    let guards = "{name: cap, spend: 100, every: month, per: user}";
    let feature = "overage: {forgive: 2, debt: 3}";
    let mut world = Rules { guards, feature, layers: WALLET, ..Rules::default() }.open();
    world.grant(1, 10);
    let decision = world.hold(10);
    world.finish(decision, 15);
    assert_eq!(world.standing().guards[0].left, whole(100 - 13).micros());
}

#[test]
fn a_cap_that_turns_between_hold_and_finish_counts_only_what_was_not_held() {
    let mut world = capped("{name: cap, spend: 100, every: 1h, per: user}");
    let decision = world.hold(70);
    world.at(HOUR).finish(decision, 75);
    assert_eq!(world.standing().guards[0].left, whole(95).micros());
    // Where the next one is open already, the held part is dropped with the old one all the same.
    let decision = world.hold(20);
    world.at(3 * HOUR).spend(1);
    world.finish(decision, 18);
    assert_eq!(world.standing().guards[0].left, whole(99).micros());
}

#[test]
fn the_first_failing_guard_is_told_in_policy_order() {
    let guards = [
        ("{name: flight, concurrent: 1, per: user}", Reason::InFlightLimit),
        ("{name: cap, spend: 1, every: month, per: user}", Reason::HeldInFlight),
        ("{name: burst, requests: 1, every: 1m, per: user}", Reason::LimitReached),
    ];
    for first in 0..guards.len() {
        let order: Vec<_> = (0..guards.len()).map(|nth| guards[(first + nth) % guards.len()].0).collect();
        let mut world = world(&order.join(", "));
        world.hold(1);
        let block = world.block(1);
        assert_eq!(block.reason, guards[first].1, "{order:?}");
        assert!(order[0].contains(&format!("name: {},", block.binding.unwrap())));
    }
}

#[test]
fn a_guard_that_stops_a_request_charges_no_other() {
    // I2 over guards: the one in front of the failing one keeps its count.
    let mut world = world(&format!("{BURST}, {{name: flight, concurrent: 1, per: user}}"));
    world.hold(1);
    for _ in 0..5 {
        assert_eq!(world.block(1).reason, Reason::InFlightLimit);
    }
    assert_eq!(world.standing().guards[0].left, 2);
}

#[test]
fn a_cap_that_is_not_open_is_full_now() {
    let mut world = capped("{name: cap, spend: 10, every: 48h, per: user}");
    assert_eq!(world.standing().guards[0].full_at, Some(world.now));
    world.spend(60);
    assert_eq!(world.standing().guards[0].full_at.map(World::since_start), Some(2 * DAY));
}
