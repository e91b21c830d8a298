//! Section 3, balances: the order of grants, expiry, and what policy issues once.

use super::super::balance::BalanceState;
use super::*;

/// What remains of each grant of the account, in the order in which they are drawn.
fn remaining(world: &World, balance: &str) -> Vec<(GrantId, u64)> {
    let key = CounterKey::of_balance(balance);
    let states = world.account.purses().filter_map(|(_, purse)| purse.balance(key));
    let grants = states.flat_map(BalanceState::grants);
    grants.map(|grant| (grant.id, grant.remaining.micros() / 1_000_000)).collect()
}

fn wallet() -> World {
    Rules { layers: WALLET, ..Rules::default() }.open()
}

#[test]
fn grants_are_drawn_by_priority_then_earliest_expiry_then_id() {
    let mut world = wallet();
    let (low, high) = (grant_id(6).min(grant_id(7)), grant_id(6).max(grant_id(7)));
    world.grant_to("wallet", 6, 10, 100, None);
    world.grant_to("wallet", 1, 10, 200, Some(HOUR));
    world.grant_to("wallet", 2, 10, 100, Some(9 * HOUR));
    world.grant_to("wallet", 7, 10, 100, None);
    world.grant_to("wallet", 3, 10, 100, Some(8 * HOUR));
    world.grant_to("wallet", 4, 10, 50, None);
    let order = [grant_id(4), grant_id(3), grant_id(2), low, high, grant_id(1)];
    assert_eq!(remaining(&world, "wallet").iter().map(|(id, _)| *id).collect::<Vec<_>>(), order);
    for (nth, id) in order.into_iter().enumerate() {
        let end = world.spend(10);
        let OriginEntry::Grant { grant, .. } = end.draws[0].origin else { panic!("a grant") };
        assert_eq!((grant, end.draws.len()), (id, 1), "{nth}");
    }
}

#[test]
fn one_request_draws_several_grants() {
    let mut world = wallet();
    world.grant_to("wallet", 1, 3, 1, None);
    world.grant_to("wallet", 2, 3, 2, None);
    assert_eq!(shown(&world.spend(5).draws), "credits 3, credits 2");
    assert_eq!(remaining(&world, "wallet"), [(grant_id(2), 1)]);
}

#[test]
fn a_grant_is_drawn_until_the_instant_it_expires() {
    for (ms, available) in [(HOUR - 1, 10), (HOUR, 0), (HOUR + 1, 0)] {
        let mut world = wallet();
        world.grant_to("wallet", 1, 10, 100, Some(HOUR));
        assert_eq!(world.at(ms).available(), [available], "{ms}");
        assert_eq!(world.ask(10).is_ok(), available > 0, "{ms}");
    }
}

#[test]
fn at_expiry_only_what_is_not_held_expires() {
    let mut world = wallet();
    world.grant_to("wallet", 1, 10, 100, Some(HOUR));
    assert_eq!(world.account.next_expiry(world.now), Some(START.plus(Span::from_ms(HOUR))));
    let decision = world.hold(4);
    assert_eq!(world.at(HOUR - 1).expire(), 0);
    assert_eq!(world.at(HOUR).expire(), 1);
    let Some(Record::Expiry(expiry)) = world.records.last() else { panic!("an expiry") };
    assert_eq!((expiry.grants[0].amount, expiry.grants[0].scope), (whole(6), Scope::Account));
    assert_eq!((world.expire(), world.account.next_expiry(world.now)), (0, None));
    // The held part stays drawable by its hold, and by nobody else.
    assert_eq!(world.block(1).reason, Reason::CreditsExhausted);
    let end = world.finish(decision, 4);
    assert_eq!((shown(&end.draws).as_str(), end.expired.len()), ("credits 4", 0));
    assert_eq!(remaining(&world, "wallet"), []);
}

#[test]
fn the_remainder_of_the_held_part_expires_at_finish() {
    for (truth, expired) in [(0, Some(4)), (1, Some(3)), (4, None), (5, None)] {
        let mut world = wallet();
        world.grant_to("wallet", 1, 10, 100, Some(HOUR));
        let decision = world.hold(4);
        world.at(HOUR).expire();
        let end = world.finish(decision, truth);
        assert_eq!(end.expired.iter().map(|entry| entry.amount).next(), expired.map(whole), "{truth}");
        assert_eq!(world.stands_at("wallet"), 0, "{truth}");
        // What is no longer to be had elsewhere is forgiven.
        assert_eq!(end.charge.charged, whole(truth.min(4)));
    }
}

#[test]
fn the_part_that_was_never_held_expires_with_a_finish_too() {
    // Whoever comes first takes it out, the sweep or the end; it expires once.
    let mut world = wallet();
    world.grant_to("wallet", 1, 10, 100, Some(HOUR));
    let decision = world.hold(4);
    let end = world.at(HOUR).finish(decision, 3);
    assert_eq!(end.expired[0].amount, whole(7));
    assert_eq!(world.expire(), 0);
}

const LAUNCH: &str = "launch: {per: user, issue: {amount: 20, from: \"2026-11-02T01:00:00Z\",
    until: \"2026-11-02T10:00:00Z\", expires_after: 2h}},";
const LAUNCH_LAYERS: &str =
    "{name: launch-offer, kind: promotion, balance: launch}, {name: credits, kind: prepaid, balance: wallet}";

fn launch() -> World {
    Rules { balances: LAUNCH, layers: LAUNCH_LAYERS, ..Rules::default() }.open()
}

#[test]
fn an_issue_counts_as_available_while_it_is_open() {
    for (ms, available) in [(HOUR - 1, 0), (HOUR, 20), (10 * HOUR - 1, 20), (10 * HOUR, 0)] {
        let mut world = launch();
        assert_eq!(world.at(ms).available(), [available, 0], "{ms}");
        assert_eq!(world.ask(20).is_ok(), available > 0, "{ms}");
    }
}

#[test]
fn the_first_allowed_draw_issues_in_the_same_hold() {
    let mut world = launch();
    world.at(HOUR);
    // Blocks, explanations and look-ups never issue.
    assert_eq!(world.block(21).reason, Reason::CreditsExhausted);
    assert_eq!((world.available(), world.account.seq), (vec![20, 0], Seq(0)));
    let held = world.ask(5).unwrap();
    let [issued] = world.issued() else { panic!("one issue") };
    assert_eq!((issued.seq, issued.amount, issued.user), (Seq(1), whole(20), Some(world.user)));
    assert_eq!(issued.origin, GrantOrigin::Issue { decision: held.decision });
    assert_eq!(issued.expires_at.map(World::since_start), Some(3 * HOUR));
    assert_eq!(world.available(), [15, 0]);
    world.hold(5);
    assert_eq!(world.issued(), [], "once");
}

#[test]
fn a_hold_that_needs_no_issue_leaves_it_for_later() {
    let layers = format!(
        "{{name: included, kind: rate_limit, per: user, windows: [{{allow: 50, every: 5h, starts: first_use}}]}},
        {LAUNCH_LAYERS}"
    );
    let mut world = Rules { balances: LAUNCH, layers: &layers, ..Rules::default() }.open();
    let decision = world.at(HOUR).hold(50);
    assert!(
        world.records.iter().all(|record| matches!(record, Record::Hold(hold) if hold.issued.is_empty()))
    );
    // What it needs beyond its hold cannot come from what only a hold issues.
    assert_eq!(shown(&world.finish(decision, 55).draws), "included 50");
    assert_eq!(world.available(), [20, 0]);
}

#[test]
fn an_issue_happens_once_for_ever() {
    // After it was spent, after it expired, and after its hold was voided.
    for (what, hours) in [("spent", 1), ("expired", 4), ("voided", 1)] {
        let mut world = launch();
        let decision = world.at(HOUR).hold(20);
        match what {
            "spent" => drop(world.finish(decision, 20)),
            "expired" => {
                world.at(3 * HOUR).expire();
                world.void(decision);
            }
            _ => {
                world.void(decision);
                world.spend(20);
            }
        }
        world.at(hours * HOUR);
        assert_eq!(world.available(), [0, 0], "{what}");
        assert_eq!(world.block(1).reason, Reason::CreditsExhausted, "{what}");
        let state = world.rebuilt();
        assert!(state.purses().any(|(_, purse)| purse.balances().iter().any(|it| it.issued)), "{what}");
    }
}

#[test]
fn every_user_gets_an_issue_and_an_account_gets_one() {
    for (per, second) in [("user", 20), ("account", 0)] {
        let balances = LAUNCH.replace("per: user", &format!("per: {per}"));
        let mut world = Rules { balances: &balances, layers: LAUNCH_LAYERS, ..Rules::default() }.open();
        world.at(HOUR).spend(20);
        assert_eq!(world.by(1).available(), [second, 0], "{per}");
    }
}

#[test]
fn an_issue_takes_its_place_among_the_grants() {
    for (priority, expires, first) in [(99, None, false), (100, Some(2 * HOUR), false), (100, None, true)] {
        let mut world = launch();
        world.grant_to("launch", 1, 7, priority, expires);
        let end = world.at(HOUR).spend(10);
        let shown = shown(&end.draws);
        assert_eq!(
            shown,
            if first { "launch-offer 10" } else { "launch-offer 7, launch-offer 3" },
            "{priority}"
        );
    }
}

#[test]
fn while_a_balance_is_in_debt_it_gives_0_and_issues_nothing() {
    let rules = Rules {
        balances: "launch: {per: user, issue: {amount: 20, from: \"2026-11-02T01:00:00Z\"}},",
        feature: "overage: {debt: 5}",
        layers:
            "{name: daily, kind: free_tier, per: user, windows: [{allow: 3, every: day, starts: calendar}]},
            {name: launch-offer, kind: promotion, balance: launch}",
        ..Rules::default()
    };
    let mut world = rules.open();
    let decision = world.hold(3);
    assert_eq!(shown(&world.finish(decision, 5).draws), "daily 3, launch-offer owed 2");
    world.at(HOUR);
    assert_eq!((world.available(), world.block(1).reason), (vec![0], Reason::LimitReached));
    // Windows go on.
    assert_eq!(shown(&world.at(DAY).spend(2).draws), "daily 2");
    // The next grant pays first, and then the issue is there.
    assert_eq!(world.grant_to("launch", 1, 2, 100, None).repaid, whole(2));
    assert_eq!(shown(&world.spend(21).draws), "daily 1, launch-offer 20");
}

#[test]
fn a_grant_that_makes_a_balance_too_large_is_refused_and_changes_nothing() {
    let mut world = Rules { layers: WALLET, ..Rules::default() }.open();
    world.grant(1, 10);
    let order = |amount| GrantOrder {
        grant: grant_id(2),
        user: None,
        balance: "wallet".into(),
        key: CounterKey::of_balance("wallet"),
        amount,
        priority: 100,
        expires_at: None,
        origin: GrantOrigin::Operator { idempotency_key: "key".into(), note: None },
    };
    let room = Credits::MAX.saturating_sub(whole(10));
    let (fits, too_much) = (order(room), order(Credits::MAX));
    let state = format!("{:?}", world.account);
    assert_eq!(world.carry_out(too_much), Err(TooMuch));
    assert_eq!(format!("{:?}", world.account), state);
    assert_eq!(world.carry_out(fits).map(|record| record.amount), Ok(room));
}
