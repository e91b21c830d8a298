//! Grants, expiry, and the way back: an account rebuilt from its records is the one that made them.

use super::super::ledgered::Gap;
use super::*;

#[test]
fn every_record_of_an_account_has_the_next_seq() {
    let mut world = Rules { layers: WALLET, ..Rules::default() }.open();
    world.grant(1, 10);
    let decision = world.hold(5);
    world.grant_to("wallet", 2, 10, 100, Some(HOUR));
    world.finish(decision, 5);
    world.at(HOUR).expire();
    let numbers: Vec<_> = world.records.iter().filter_map(Record::seq).collect();
    assert_eq!(numbers, [1, 2, 3, 4].map(Seq));
}

#[test]
fn a_gap_in_the_records_is_an_error_and_changes_nothing() {
    let mut world = Rules { layers: WALLET, ..Rules::default() }.open();
    world.grant(1, 10);
    world.grant(2, 10);
    let mut account = Account::new(world.account.id);
    let Record::Grant(second) = &world.records[1] else { panic!("a grant") };
    let gap = account.replay_grant(second, CounterKey::of_balance("wallet"));
    assert_eq!(gap, Err(Gap { newest: Seq(0), found: Seq(2) }));
    assert_eq!((account.seq, account.purses().count()), (Seq(0), 1));
}

#[test]
fn an_account_is_restored_from_what_the_books_say() {
    let layers = format!(
        "{{name: included, kind: rate_limit, per: user, windows: [{{allow: 50, every: 5h, starts: first_use}}]}}, {WALLET}"
    );
    let mut world = Rules { feature: "overage: {debt: 9}", layers: &layers, ..Rules::default() }.open();
    let decision = world.hold(50);
    let end = world.finish(decision, 54);
    let key = CounterKey::of_balance("wallet");
    let mut restored = Account::new(world.account.id);
    restored.seq = end.seq;
    for entry in &end.counters {
        restored.restore_counter(world.user, entry);
    }
    restored.restore_debt(None, key, whole(4));
    world.account = restored;
    assert_eq!((world.left(), world.available(), world.stands_at("wallet")), (vec![0], vec![0], -4));

    let grant = world.grant(1, 10);
    let state =
        *world.account.purses().find_map(|(_, purse)| purse.balance(key)).unwrap().grants().first().unwrap();
    assert_eq!((grant.seq, state.remaining), (Seq(2), whole(6)));
    let mut restored = Account::new(world.account.id);
    restored.restore_grant(&BookedGrant { user: None, balance: key, state, issued: true });
    let wallet = restored.purses().find_map(|(_, purse)| purse.balance(key)).unwrap();
    assert_eq!((wallet.grants(), wallet.issued), (&[state][..], true));
}

#[test]
fn what_a_lost_hold_has_left_free_pays_the_debt_at_the_next_end() {
    // With relaxed durability a crash may lose a hold; what it had reserved is free beside the debt.
    let layers = format!(
        "{{name: included, kind: rate_limit, per: user, windows: [{{allow: 50, every: 5h, starts: first_use}}]}}, {WALLET}"
    );
    let mut world = Rules { feature: "overage: {debt: 9}", layers: &layers, ..Rules::default() }.open();
    world.grant(1, 10);
    let lost = world.hold(60);
    let over = world.ask_of("free", 0, 1).unwrap().decision;
    let used = world.terms("coin").estimate(tokens(0, 4)).unwrap();
    world.end(over, used, completed()).unwrap();
    assert_eq!(world.stands_at("wallet"), 6);
    world.account = world.rebuilt();
    assert!(world.account.hold_of(lost).is_none());
    assert_eq!(world.available(), [0], "in debt");
    let decision = world.hold(50);
    let end = world.finish(decision, 52);
    assert_eq!(end.repaid.iter().map(|entry| entry.amount).collect::<Vec<_>>(), [whole(4)]);
    assert_eq!((shown(&end.draws).as_str(), world.available()), ("included 50, credits 2", vec![4]));
}

/// A hold that is open in a crash, taken up again, reserves what it reserved then.
#[test]
fn a_hold_is_taken_up_again_as_it_was() {
    let guards = "{name: burst, requests: 60, every: 1m, burst: 3, per: user}, {name: flight, concurrent: 4, per: user},
        {name: tokens, tokens: 100, every: 10s, per: user}, {name: cap, spend: 30, every: 1h, per: user}";
    let layers = format!(
        "{{name: included, kind: rate_limit, per: user, windows: [{{allow: 50, every: 5h, starts: first_use}}]}}, {WALLET}"
    );
    let mut world = Rules { guards, layers: &layers, ..Rules::default() }.open();
    world.grant(1, 100);
    world.at(10).spend(2);
    let decision = world.at(20).hold(60);
    let live = format!("{:?}", world.standing());
    let mut account = world.rebuilt();
    let Some(Record::Hold(record)) = world.records.last() else { panic!("a hold") };
    account.take_up(record, world.terms("coin"));
    world.account = account;
    assert_eq!(format!("{:?}", world.standing()), live);
    // Its end comes out as it would have.
    assert_eq!(shown(&world.finish(decision, 55).draws), "included 48, credits 7");
}

#[test]
fn a_bucket_that_counts_an_open_hold_already_counts_of_it_again_what_cannot_have_drained() {
    let guards = "{name: tokens, tokens: 100, every: 10s, per: user}";
    for (ms, left) in [(20, 0), (3_000, 59), (6_000, 99), (60_000, 99)] {
        let mut world = Rules { guards, layers: WALLET, ..Rules::default() }.open();
        world.grant(1, 1000);
        let open = world.hold(50);
        world.at(ms).spend(1);
        // The end has booked the bucket with the open hold in it.
        let mut account = world.rebuilt();
        let Record::Hold(record) = &world.records[1] else { panic!("a hold") };
        assert_eq!(record.decision, open);
        account.take_up(record, world.terms("coin"));
        let live = world.standing().guards[0].left;
        world.account = account;
        assert!(world.standing().guards[0].left <= live, "never too lax");
        assert_eq!(world.standing().guards[0].left, left, "{ms}");
    }
}

#[test]
fn a_window_that_a_void_has_closed_is_closed_after_a_restart() {
    let guards = "{name: cap, spend: 30, every: 1h, per: user}";
    let layers = format!(
        "{{name: included, kind: rate_limit, per: user, windows: [{{allow: 50, every: 5h, starts: first_use}}]}}, {WALLET}"
    );
    let mut world = Rules { guards, layers: &layers, ..Rules::default() }.open();
    world.grant(1, 100);
    world.spend(55);
    let decision = world.at(6 * HOUR).hold(55);
    world.void(decision);
    let slots = |account: &Account| {
        account.purses().flat_map(|(_, purse)| purse.counters.iter().copied()).collect::<Vec<_>>()
    };
    assert_eq!(slots(&world.account), []);
    assert_eq!(slots(&world.rebuilt()), []);
}
