//! Section 3, overage: forgiven, then owed, then forgiven with an alarm.

use super::*;

fn rules<'a>(feature: &'a str, layers: &'a str) -> Rules<'a> {
    Rules { feature, layers, ..Rules::default() }
}

/// `(draws, forgiven, excess, charged)` of an end, in whole credits.
fn money(end: &EndRecord) -> (String, u64, u64, u64) {
    let whole = |credits: Credits| credits.micros() / 1_000_000;
    let charge = end.charge;
    assert_eq!(
        charge.covered.micros() + charge.forgiven.micros() + charge.charged.micros(),
        charge.gross.micros()
    );
    (shown(&end.draws), whole(charge.forgiven), whole(charge.excess), whole(charge.charged))
}

#[test]
fn what_can_be_drawn_nowhere_is_forgiven_then_owed_then_excess() {
    for (truth, draws, forgiven, excess, charged) in [
        (10, "credits 10", 0, 0, 10),
        (11, "credits 10", 1, 0, 10),
        (14, "credits 10", 4, 0, 10),
        (15, "credits 10, credits owed 1", 4, 0, 11),
        (17, "credits 10, credits owed 3", 4, 0, 13),
        (18, "credits 10, credits owed 3", 5, 1, 13),
        (99, "credits 10, credits owed 3", 86, 82, 13),
    ] {
        let mut world = rules("overage: {forgive: 4, debt: 3}", WALLET).open();
        world.grant(1, 10);
        let decision = world.hold(8);
        let end = world.finish(decision, truth);
        assert_eq!(money(&end), (draws.to_owned(), forgiven, excess, charged), "{truth}");
        // I5: balance ≥ −overage.debt.
        assert_eq!(world.stands_at("wallet"), 10 - i64::try_from(charged).unwrap());
    }
}

#[test]
fn no_overage_is_0_and_0() {
    let mut world = rules("", WALLET).open();
    world.grant(1, 10);
    let decision = world.hold(10);
    assert_eq!(money(&world.finish(decision, 12)), ("credits 10".to_owned(), 2, 2, 10));
}

#[test]
fn forgiveness_is_counted_per_account_and_feature_and_utc_month() {
    let mut world = rules("overage: {forgive: 4}", WALLET).open();
    world.grant(1, 10);
    let overrun = |world: &mut World, by: u64| {
        let decision = world.hold(1);
        let end = world.finish(decision, 10 + by);
        world.grant(world.decisions + 10, 10);
        (end.charge.forgiven.micros() / 1_000_000, end.charge.excess.micros() / 1_000_000)
    };
    assert_eq!(overrun(&mut world, 3), (3, 0));
    assert_eq!(overrun(world.by(1), 3), (3, 2), "an account's users share it");
    // START is the second day of November.
    assert_eq!(overrun(world.at(29 * DAY - 1), 1), (1, 1));
    assert_eq!(overrun(world.at(29 * DAY), 4), (4, 0), "a new month");
    assert_eq!(overrun(world.at(29 * DAY), 1), (1, 1));
}

#[test]
fn what_is_found_after_the_turn_of_the_month_belongs_to_the_new_month() {
    let mut world = rules("overage: {forgive: 4}", WALLET).open();
    world.grant(1, 1);
    let decision = world.at(29 * DAY - 1).hold(1);
    world.at(29 * DAY).finish(decision, 4);
    world.grant(2, 1);
    let decision = world.hold(1);
    assert_eq!(money(&world.finish(decision, 4)), ("credits 1".to_owned(), 3, 2, 1));
}

#[test]
fn debt_lies_on_the_last_balance_layer() {
    let layers = format!("{{name: gift, kind: promotion, balance: gift}}, {WALLET}");
    let rules = Rules { balances: "gift: {per: user},", ..rules("overage: {debt: 3}", &layers) };
    let mut world = rules.open();
    world.grant_to("gift", 1, 5, 100, None);
    let decision = world.hold(5);
    assert_eq!(money(&world.finish(decision, 7)), ("gift 5, credits owed 2".to_owned(), 0, 0, 7));
    assert_eq!((world.stands_at("gift"), world.stands_at("wallet")), (0, -2));
}

#[test]
fn without_a_balance_nothing_is_owed() {
    let layers =
        "{name: included, kind: rate_limit, per: user, windows: [{allow: 5, every: 1h, starts: first_use}]}";
    let mut world = rules("overage: {forgive: 1, debt: 3}", layers).open();
    let decision = world.hold(5);
    assert_eq!(money(&world.finish(decision, 8)), ("included 5".to_owned(), 3, 2, 0));
}

#[test]
fn while_in_debt_a_balance_gives_0_and_windows_go_on() {
    let layers = format!(
        "{{name: included, kind: rate_limit, per: user, windows: [{{allow: 5, every: 1h, starts: first_use}}]}}, {WALLET}"
    );
    let mut world = rules("overage: {debt: 3}", &layers).open();
    let decision = world.hold(5);
    world.finish(decision, 7);
    assert_eq!(world.block(1).reason, Reason::LimitReached);
    assert_eq!(shown(&world.at(HOUR).spend(5).draws), "included 5");
    assert_eq!(world.stands_at("wallet"), -2);
}

#[test]
fn the_next_grant_pays_the_debt_first() {
    for (granted, repaid, available) in [(1, 1, 0), (2, 2, 0), (3, 2, 1)] {
        let mut world = rules("overage: {debt: 3}", WALLET).open();
        world.grant(1, 1);
        let decision = world.hold(1);
        world.finish(decision, 3);
        let record = world.grant(2, granted);
        assert_eq!((record.amount, record.repaid), (whole(granted), whole(repaid)), "{granted}");
        assert_eq!(world.available(), [available], "{granted}");
        assert_eq!(world.stands_at("wallet"), i64::try_from(granted).unwrap() - 2, "{granted}");
    }
}

#[test]
fn debt_is_paid_by_what_holds_give_back() {
    let mut world = rules("overage: {debt: 3}", WALLET).open();
    world.grant(1, 10);
    let open = world.hold(6);
    let decision = world.hold(4);
    assert_eq!(money(&world.finish(decision, 6)), ("credits 4, credits owed 2".to_owned(), 0, 0, 6));
    // It would pass if all open holds were voided: they would pay the debt and leave four.
    assert_eq!(world.block(4).reason, Reason::HeldInFlight);
    assert_eq!(world.block(5).reason, Reason::CreditsExhausted);
    // The held part stays drawable by its hold.
    let end = world.finish(open, 3);
    assert_eq!(shown(&end.draws), "credits 3");
    assert_eq!(end.repaid.iter().map(|entry| entry.amount).collect::<Vec<_>>(), [whole(2)]);
    assert_eq!((world.available(), world.stands_at("wallet")), (vec![1], 1));
}

#[test]
fn debt_never_passes_its_bound() {
    let mut world = rules("overage: {debt: 3}", WALLET).open();
    world.grant(1, 10);
    let holds: Vec<_> = (0..5).map(|_| world.hold(2)).collect();
    let owed: Vec<_> = holds.into_iter().map(|hold| money(&world.finish(hold, 4)).3).collect();
    assert_eq!(owed, [4, 3, 2, 2, 2]);
    assert_eq!(world.stands_at("wallet"), -3);
}
