//! Section 3, windows: when they open, end and close, what comes back to them, and what identifies them.

use super::*;

fn layer(windows: &str) -> String {
    format!("{{name: included, kind: rate_limit, per: user, windows: [{windows}]}}, {WALLET}")
}

fn world(windows: &str) -> World {
    let mut world = Rules { layers: &layer(windows), ..Rules::default() }.open();
    world.grant(1, 1000);
    world
}

const FIVE_HOURS: &str = "{allow: 50, every: 5h, starts: first_use}";

#[test]
fn a_first_use_window_opens_with_the_first_hold_and_ends_after_its_length() {
    for (ms, left) in [(5 * HOUR - 1, 40), (5 * HOUR, 50), (5 * HOUR + 1, 50)] {
        let mut world = world(FIVE_HOURS);
        world.at(7).spend(10);
        world.at(7 + ms);
        assert_eq!(world.left(), [left], "{ms}");
    }
}

#[test]
fn the_next_first_use_window_opens_with_the_next_hold_not_where_the_last_ended() {
    let mut world = world(FIVE_HOURS);
    world.spend(10);
    world.at(9 * HOUR).spend(1);
    let resets = world.standing().windows[0].resets_at.unwrap();
    assert_eq!(World::since_start(resets), 14 * HOUR);
}

#[test]
fn a_first_use_window_closes_unopened_if_nothing_is_left_in_it() {
    let mut world = world(FIVE_HOURS);
    let decision = world.hold(10);
    assert!(world.standing().windows[0].resets_at.is_some());
    world.at(HOUR).void(decision);
    assert_eq!(world.standing().windows[0].resets_at, None);
    // Another hold in the same instance keeps it open, from when it was opened.
    let first = world.at(2 * HOUR).hold(10);
    world.at(3 * HOUR).hold(10);
    world.void(first);
    assert_eq!(World::since_start(world.standing().windows[0].resets_at.unwrap()), 7 * HOUR);
}

#[test]
fn a_block_never_opens_a_window() {
    let layers =
        "{name: included, kind: rate_limit, per: user, windows: [{allow: 50, every: 5h, starts: first_use}]}";
    let mut world = Rules { layers, ..Rules::default() }.open();
    assert_eq!(world.block(51).reason, Reason::NeverFits);
    assert_eq!(world.standing().windows[0].resets_at, None);
}

#[test]
fn calendar_windows_turn_at_midnight_of_their_zone() {
    for (every, zone, from, edge) in [
        ("day", "UTC", "2026-11-02T10:00:00Z", "2026-11-03T00:00:00Z"),
        ("day", "Asia/Kolkata", "2026-11-02T10:00:00Z", "2026-11-02T18:30:00Z"),
        ("week", "UTC", "2026-11-02T00:00:00Z", "2026-11-09T00:00:00Z"),
        ("month", "UTC", "2026-11-30T23:59:59Z", "2026-12-01T00:00:00Z"),
        ("month", "UTC", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"),
        // The day on which Berlin's clocks go forward has 23 hours, the day on which they go back has 25.
        ("day", "Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
        ("day", "Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
    ] {
        let mut world = world(&format!("{{allow: 50, every: {every}, starts: calendar, time_zone: {zone}}}"));
        let instant =
            |text: &str| Timestamp::from_ms(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        world.now = instant(from);
        world.spend(10);
        let edge = instant(edge);
        for (now, left) in [(edge.ms() - 1, 40), (edge.ms(), 50), (edge.ms() + 1, 50)] {
            world.now = Timestamp::from_ms(now);
            assert_eq!(world.left(), [left], "{every} {zone} {now}");
        }
        world.now = Timestamp::from_ms(edge.ms() - 1);
        assert_eq!(world.standing().windows[0].resets_at, Some(edge), "{every} {zone}");
    }
}

#[test]
fn a_layer_with_several_windows_gives_the_least_of_what_they_have_left_and_takes_from_each() {
    let mut world =
        world("{allow: 50, every: 5h, starts: first_use}, {allow: 80, every: 7d, starts: first_use}");
    for (hours, asked, draws, left) in [
        (0, 49, "included 49", [1, 31]),
        (1, 2, "included 1, credits 1", [0, 30]),
        (5, 40, "included 30, credits 10", [20, 0]),
        (10, 5, "credits 5", [50, 0]),
        (7 * 24 - 1, 5, "credits 5", [50, 0]),
        (7 * 24, 5, "included 5", [45, 75]),
    ] {
        let end = world.at(hours * HOUR).spend(asked);
        assert_eq!((shown(&end.draws).as_str(), world.left()), (draws, left.to_vec()), "{hours} h");
    }
}

#[test]
fn what_comes_back_to_an_instance_that_has_ended_is_dropped() {
    // One window of the layer has ended between hold and finish, the other has not.
    let windows = "{allow: 50, every: 5h, starts: first_use}, {allow: 80, every: 7d, starts: first_use}";
    for (truth, draws, left) in [
        (0, "", [50, 80]),
        (4, "included 4", [50, 76]),
        (30, "included 30", [50, 50]),
        // More than was held is drawn from the instances current at finish, and opens those that are not open.
        (45, "included 30, included 15", [35, 35]),
        (90, "included 30, included 50, credits 10", [0, 0]),
    ] {
        let mut world = world(windows);
        let decision = world.hold(30);
        let end = world.at(6 * HOUR).finish(decision, truth);
        assert_eq!((shown(&end.draws).as_str(), world.left()), (draws, left.to_vec()), "{truth}");
        let opened = truth > 30;
        let resets = world.standing().windows[0].resets_at;
        assert_eq!(resets.map(World::since_start), opened.then_some(11 * HOUR), "{truth}");
        let week = world.standing().windows[1].resets_at;
        assert_eq!(week.map(World::since_start), (truth > 0).then_some(7 * DAY), "{truth}");
    }
}

#[test]
fn what_comes_back_to_an_instance_with_a_successor_leaves_the_successor_alone() {
    let mut world = world(FIVE_HOURS);
    let old = world.hold(30);
    world.at(6 * HOUR).spend(7);
    let end = world.finish(old, 45);
    assert_eq!(shown(&end.draws), "included 30, included 15");
    assert_eq!(world.left(), [50 - 7 - 15]);
    let instances: Vec<_> = end
        .draws
        .iter()
        .map(|draw| match &draw.origin {
            OriginEntry::Windows(instances) => World::since_start(instances[0].1),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(instances, [0, 6 * HOUR], "a draw names its window instance");
}

#[test]
fn a_finish_that_needs_more_than_was_held_opens_a_window_if_none_is_open() {
    let mut world = world(FIVE_HOURS);
    let decision = world.ask_of("free", 0, 1).unwrap().decision;
    assert_eq!(world.standing().windows[0].resets_at, None);
    let used = world.terms("coin").estimate(tokens(0, 5)).unwrap();
    world.at(HOUR).end(decision, used, completed()).unwrap();
    assert_eq!(World::since_start(world.standing().windows[0].resets_at.unwrap()), 6 * HOUR);
}

#[test]
fn a_change_of_limit_or_plan_resets_nothing_and_a_change_of_what_a_window_is_starts_a_new_one() {
    for (windows, left) in [
        ("{allow: 50, every: 5h, starts: first_use}", 40),
        ("{allow: 90, every: 5h, starts: first_use}", 80),
        ("{allow: 10, every: 5h, starts: first_use}", 0),
        ("{allow: 5, every: 5h, starts: first_use}", 0),
        ("{allow: 50, every: 6h, starts: first_use}", 50),
        ("{allow: 50, every: day, starts: calendar}", 50),
        ("{allow: 50, every: day, starts: calendar, time_zone: Asia/Tokyo}", 50),
    ] {
        let mut world = world(FIVE_HOURS);
        world.spend(10);
        world.policy = Rules { layers: &layer(windows), ..Rules::default() }.policy();
        assert_eq!(world.left(), [left], "{windows}");
    }
}

#[test]
fn finish_uses_the_policy_of_its_hold() {
    let mut world = world(FIVE_HOURS);
    let decision = world.hold(30);
    let before = world.policy.version;
    world.policy =
        Rules { layers: &layer("{allow: 35, every: 5h, starts: first_use}"), ..Rules::default() }.policy();
    let end = world.finish(decision, 45);
    assert_eq!((end.policy, shown(&end.draws).as_str()), (before, "included 30, included 15"));
    // Under the new policy nothing is left, and nothing is below nothing.
    assert_eq!(world.left(), [0]);
}

#[test]
fn windows_of_an_account_are_shared_by_its_users_and_windows_of_users_are_not() {
    for (per, left) in [("user", 50), ("account", 40)] {
        let layers = format!(
            "{{name: included, kind: entitlement, per: {per}, windows: [{{allow: 50, every: 1h, starts: first_use}}]}}"
        );
        let mut world = Rules { layers: &layers, ..Rules::default() }.open();
        world.spend(10);
        assert_eq!(world.by(1).left(), [left], "{per}");
    }
}
