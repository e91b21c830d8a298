//! What operators ordered, under the policy that decided and under others: computed by hand, and for any life.

use super::*;

/// One credit a token, out of the wallet alone.
const PREPAID: &str = "
version: 1
prices: [{model: m, per_million_tokens: {input: 1000000, output: 1000000}}]
balances: {wallet: {per: account}}
features: {codex: {apis: [responses], unit: credit}}
plans: {plus: {codex: {waterfall: [{name: credits, kind: prepaid, balance: wallet}]}}}
";
/// The same, where a balance may owe.
const LENDING: &str = "overage: {forgive: 0, debt: 20}";
const CREDIT: i64 = 1_000_000;
const ASK: Step = Step::Ask { user: 0, input: 10, output: 20 };
const END: Step = Step::End { percent: 100, outcome: Outcome::Completed };

fn prepaid(price: &str) -> String {
    PREPAID.replace("1000000", price)
}

fn lending(price: &str) -> String {
    prepaid(price).replace("unit: credit", &format!("unit: credit, {LENDING}"))
}

/// A life of a step a second.
fn life(text: &str, steps: &[Step]) -> (PathBuf, TempDir) {
    let policy = policy(text);
    let steps: Vec<_> = steps.iter().map(|step| (1_000, step.clone())).collect();
    booked(&policy, lived(&policy, &steps))
}

/// Of the only plan and feature: how many are let through and blocked, and what is earned.
#[track_caller]
fn check(path: &std::path::Path, text: &str, (allowed, blocked, earned): (u64, u64, &str), orders: [u64; 3]) {
    let told = asked(path, &policy(text), None);
    let now = &told.tallies[0].now;
    let [whole, in_part, left_out] = orders;
    assert_eq!((now.allowed, now.blocked, &*now.charged.to_string()), (allowed, blocked, earned), "{told}");
    assert_eq!(told.orders, Orders { whole, in_part, left_out, prices: 0 }, "{told}");
}

/// 100 are granted. A costs 30; 10 of it are given back, 60 are taken out of the grant: 20 are left, and B, of 30, is
/// blocked. The rest of A is given back, and C, of 30, passes: 10 are left.
#[test]
fn orders_are_carried_out_again_at_their_instants_and_at_what_calls_then_cost() {
    let steps = [
        Step::Grant { credits: 100, hours: None },
        ASK,
        END,
        Step::Refund { nth: 0, micros: Some(10_000_000) },
        Step::Adjust { nth: 0, micros: -60 * CREDIT },
        ASK,
        Step::Refund { nth: 0, micros: None },
        ASK,
        END,
    ];
    let (path, _folder) = life(PREPAID, &steps);
    check(&path, PREPAID, (2, 1, "30"), [3, 0, 0]);
    // A costs 60 and 10 come back: 50 are left, and all 50 are taken. Another 50 come back, and C would cost 60.
    check(&path, &prepaid("2000000"), (1, 2, "0"), [2, 1, 0]);
    // A costs 15 and 10 come back; 60 are taken, and 35 are left. B costs 15, 5 of A come back, C costs 15.
    check(&path, &prepaid("500000"), (3, 0, "30"), [3, 0, 0]);
    // A costs 6, and no more than that comes back, once: nothing is left to give back the second time.
    check(&path, &prepaid("200000"), (3, 0, "12"), [1, 1, 1]);
    // All are blocked: there is nothing to give back, and the grant is adjusted all the same.
    let capped = PREPAID.replace(
        "codex: {waterfall",
        "codex: {guards: [{name: cap, spend: 20, every: month, per: user, time_zone: UTC}], waterfall",
    );
    check(&path, &capped, (0, 3, "0"), [1, 0, 2]);
    // A window covers all calls: they cost no credits.
    let covered = PREPAID.replace(
        "waterfall: [",
        "waterfall: [{name: included, kind: rate_limit, per: user, windows: [{allow: 90, every: 5h, starts: first_use}]}, ",
    );
    check(&path, &covered, (3, 0, "0"), [1, 0, 2]);
}

/// 30 are granted, and A ends at its floor of 10. B takes the other 20; then the truth of A comes, 30.
#[test]
fn a_truth_that_came_late_is_the_truth_of_its_call_and_comes_late() {
    let (at_floor, small) =
        (Step::End { percent: 0, outcome: Outcome::Expired }, Step::Ask { user: 0, input: 10, output: 10 });
    let steps = [
        Step::Grant { credits: 30, hours: None },
        ASK,
        at_floor,
        small,
        END,
        Step::Tell { nth: 0, percent: 67 },
    ];
    let (path, _folder) = life(&lending("1000000"), &steps);
    let told = asked(&path, &policy(&lending("1000000")), None);
    // 30 × 67 % of output, and the input: the truth is 30, of which 20 are owed.
    check(&path, &lending("1000000"), (2, 0, "50"), [0; 3]);
    assert_eq!(told.tallies[0].then, told.tallies[0].now, "{told}");
    assert_eq!(told.tallies[0].now.sources["credits"].owed.to_string(), "20", "{told}");
    // Of 15: the floor is 5, B takes 10 and leaves 15, of which the truth takes 10.
    check(&path, &lending("500000"), (2, 0, "25"), [0; 3]);
    // Of 60: it is blocked, so that no truth is told of it, and B, of 40, is, too.
    check(&path, &lending("2000000"), (0, 2, "0"), [0; 3]);
}

/// 10 are granted; A uses 25, so that 15 are owed, and an operator takes 10 of that off. 10 more are granted.
#[test]
fn a_debt_is_adjusted_as_far_as_it_is_owed_and_lent() {
    let small = Step::Ask { user: 0, input: 5, output: 5 };
    let grown = Step::End { percent: 400, outcome: Outcome::Completed };
    let less = Step::Forgive { micros: 10 * CREDIT };
    let grant = Step::Grant { credits: 10, hours: None };
    let steps = [grant.clone(), small.clone(), grown.clone(), less, grant.clone(), small.clone()];
    let (path, _folder) = life(&lending("1000000"), &steps);
    // 5 are owed, and the grant pays them: 5 are left, and B needs 10.
    check(&path, &lending("1000000"), (1, 1, "25"), [1, 0, 0]);
    // A costs 12.5: 2.5 are owed, and no more is taken off. B, of 5, passes.
    check(&path, &lending("500000"), (2, 0, "17.5"), [0, 1, 0]);
    // Nothing is owed where policy lends nothing.
    check(&path, PREPAID, (2, 0, "20"), [0, 0, 1]);

    let more = Step::Forgive { micros: -4 * CREDIT };
    let steps = [grant.clone(), small.clone(), grown, more, grant, small];
    let (path, _folder) = life(&lending("1000000"), &steps);
    // 19 are owed: the grant pays 10 of them, and B finds nothing.
    check(&path, &lending("1000000"), (1, 1, "25"), [1, 0, 0]);
    // 17 is what may be owed: 15 are, and 2 more.
    check(&path, &lending("1000000").replace("debt: 20", "debt: 17"), (1, 1, "25"), [0, 1, 0]);
    // A costs 5: the balance has something, and owes nothing.
    check(&path, &lending("200000"), (2, 0, "7"), [0, 0, 1]);
}

/// What policy issued is adjusted where it is issued by then.
#[test]
fn an_adjustment_of_what_is_not_issued_is_left_out() {
    let text = super::plain();
    let steps = [ASK, END, ASK, END, Step::Adjust { nth: 0, micros: -20 * CREDIT }, ASK];
    // 50 are included, and 10 of 30 on offer are drawn; the operator takes the rest of the offer.
    let (path, _folder) = life(&text, &steps);
    check(&path, &text, (2, 1, "10"), [1, 0, 0]);
    check(&path, &text.replace("amount: 30", "amount: 45"), (2, 1, "10"), [1, 0, 0]);
    check(&path, &text.replace("amount: 30", "amount: 60"), (3, 0, "40"), [1, 0, 0]);
    // 70 are included: nothing is issued before the third call.
    check(&path, &text.replace("allow: 50", "allow: 70"), (3, 0, "20"), [0, 0, 1]);
}

/// Other prices that operators ordered are told, and change nothing of what a policy would have done.
#[test]
fn other_prices_give_way_to_those_of_the_asked_policy() {
    let steps = [
        Step::Grant { credits: 100, hours: None },
        ASK,
        END,
        ASK,
        END,
        Step::Refund { nth: 1, micros: None },
    ];
    let (plain, _folder) = life(PREPAID, &steps);
    let (rerated, _other) = life(PREPAID, &[&steps[..], &[Step::Rerate]].concat());
    let [plain, rerated] = [plain, rerated].map(|path| asked(&path, &policy(PREPAID), None));
    assert_eq!(plain.tallies[0].now, rerated.tallies[0].now);
    assert_eq!(rerated.tallies[0].then.gross.to_string(), "120", "{rerated}");
    assert_eq!(rerated.orders, Orders { prices: 2, ..plain.orders });
    assert!(rerated.to_string().contains("1 carried out, 0 in part, 0 not; 2 other prices"), "{rerated}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// I6, under any policy: what is used is covered, forgiven or paid, and what is paid came from somewhere; every order
    /// is told once.
    #[test]
    fn the_money_adds_up_under_another_policy(
        steps in prop::collection::vec(step(), 1..80),
        price in prop::sample::select(vec!["100000", "700000", "1300000", "4000000"]),
        allow in prop::sample::select(vec!["allow: 1", "allow: 20", "allow: 500"]),
        debt in prop::sample::select(vec!["debt: 0", "debt: 5", "debt: 90"]),
        issue in prop::sample::select(vec!["amount: 2", "amount: 90"]),
    ) {
        let decided = policy(POLICY);
        let life = lived(&decided, &steps);
        let (requests, ordered) = (life.requests(), life.ordered);
        let (path, _folder) = booked(&decided, life);
        let other = POLICY.replace("1000000", price).replace("allow: 50", allow).replace("debt: 20", debt);
        let told = asked(&path, &policy(&other.replace("amount: 30", issue)), None);
        let Orders { whole, in_part, left_out, prices } = told.orders;
        prop_assert_eq!((whole + in_part + left_out, prices), (ordered, 0));
        for tally in &told.tallies {
            let now = &tally.now;
            let parts = [now.covered, now.forgiven, now.charged].map(CreditSum::total);
            prop_assert_eq!(parts.iter().sum::<u128>(), now.gross.total());
            let paid = ["offer", "credits"].map(|layer| now.sources.get(layer).map_or(0, |it| it.amount.total()));
            prop_assert_eq!(paid.iter().sum::<u128>(), now.charged.total());
            prop_assert_eq!(now.allowed + now.blocked, requests);
        }
    }
}
