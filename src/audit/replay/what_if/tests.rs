//! Recorded lives, asked again: of the same policy, and of others.

use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::access::record::Outcome;
use crate::ledger::sqlite::SqliteBooks;
use crate::policy::load;
use crate::units::Span;

mod lived;
mod ordered;

use lived::{Step, booked, lived, step};

const POLICY: &str = "
version: 1
prices: [{model: m, per_million_tokens: {input: 1000000, output: 1000000}}]
balances: {wallet: {per: account}, launch: {per: user, issue: {amount: 30, expires_after: 1h}}}
features: {codex: {apis: [responses], unit: credit, overage: {forgive: 10, debt: 20}, clamp: {minimum_output_tokens: 5}}}
plans:
  plus:
    codex:
      guards: [{name: flight, concurrent: 2, per: user}]
      waterfall:
        - {name: included, kind: rate_limit, per: user, windows: [{allow: 50, every: 5h, starts: first_use}]}
        - {name: offer, kind: promotion, balance: launch}
        - {name: credits, kind: prepaid, balance: wallet}
";
const START: Timestamp = Timestamp::from_ms(1_793_577_600_000);

fn policy(text: &str) -> Arc<Policy> {
    Arc::new(load::parse("policy", text).unwrap_or_else(|problems| panic!("{problems}")))
}

fn asked(path: &std::path::Path, policy: &Arc<Policy>, since: Option<Timestamp>) -> WhatIf {
    what_if(&SqliteBooks::open(path).unwrap(), policy, since, &mut |_| {}).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Asked again, the policy that decided decides the same, and earns the same: with all that operators ordered, and
    /// with truths that came late.
    #[test]
    fn the_same_policy_changes_nothing(steps in prop::collection::vec(step(), 1..80)) {
        let policy = policy(POLICY);
        let life = lived(&policy, &steps);
        let (charged, blocks, ordered) = (life.charged(), life.blocks.len() as u64, life.ordered);
        let (path, _folder) = booked(&policy, life);
        let told = asked(&path, &policy, None);
        prop_assert_eq!((told.users_changed, told.users.len()), (0, 0));
        prop_assert_eq!(told.orders, Orders { whole: ordered, ..Orders::default() });
        for tally in &told.tallies {
            prop_assert_eq!(&tally.then, &tally.now);
            prop_assert_eq!((tally.newly_allowed, tally.newly_blocked), (0, 0));
            prop_assert_eq!(tally.now.charged.total(), charged);
            prop_assert_eq!(tally.now.blocked, blocks);
        }
    }
}

/// The policy without a clamp.
fn plain() -> String {
    POLICY.replace(", clamp: {minimum_output_tokens: 5}", "")
}

/// Three calls of 30 by one user, of whom 50 are included and 30 are on offer: the third is blocked.
fn three_calls() -> (PathBuf, TempDir) {
    let ask = Step::Ask { user: 0, input: 10, output: 20 };
    let end = Step::End { percent: 100, outcome: Outcome::Completed };
    let policy = policy(&plain());
    let steps: Vec<_> =
        [&ask, &end, &ask, &end, &ask].into_iter().map(|step| (1_000, step.clone())).collect();
    let mut life = lived(&policy, &steps);
    life.blocks[0].count = 4;
    booked(&policy, life)
}

#[test]
fn a_policy_that_gives_more_lets_blocks_through_and_one_that_gives_less_stops_calls() {
    let (path, _folder) = three_calls();
    let more = asked(&path, &policy(&plain().replace("allow: 50", "allow: 110")), None);
    let tally = &more.tallies[0];
    assert_eq!((tally.then.allowed, tally.then.blocked, tally.now.allowed), (2, 4, 4), "{more}");
    assert_eq!((tally.newly_allowed, tally.newly_blocked, more.users_changed), (2, 0, 1), "{more}");
    assert_eq!(tally.now.sources["included"].amount.to_string(), "110");
    assert_eq!(tally.now.charged.to_string(), "10");
    assert_eq!(tally.now.reasons["limit-reached"], 2);

    let less = asked(
        &path,
        &policy(&plain().replace("allow: 50", "allow: 1").replace("amount: 30", "amount: 1")),
        None,
    );
    let tally = &less.tallies[0];
    assert_eq!((tally.now.allowed, tally.newly_blocked), (0, 2), "{less}");
    assert_eq!((less.users_changed, less.users_freed, less.users_stopped), (1, 0, 0), "{less}");
    assert_eq!(less.users[0].newly_blocked, 2);
}

#[test]
fn a_plan_feature_or_price_that_is_gone_is_the_reason() {
    let (path, _folder) = three_calls();
    for (from, to, reason) in [
        ("plus:", "team:", "not-in-plan"),
        ("codex", "agent", "not-in-plan"),
        ("model: m,", "model: n,", "unpriced-model"),
    ] {
        let told = asked(&path, &policy(&plain().replace(from, to)), None);
        assert_eq!(told.tallies[0].now.reasons[reason], 6, "{told}");
    }
}

#[test]
fn requests_before_the_asked_time_make_the_accounts_and_are_not_counted() {
    let (path, _folder) = three_calls();
    let told = asked(&path, &policy(&plain()), Some(START.plus(Span::from_ms(2_500))));
    let tally = &told.tallies[0];
    assert_eq!((tally.then.allowed, tally.then.blocked), (1, 4), "{told}");
    assert_eq!(tally.then.charged.to_string(), "10");
}

#[test]
fn a_what_if_is_told_to_people() {
    let (path, _folder) = three_calls();
    let told = asked(&path, &policy(&plain().replace("allow: 50", "allow: 110")), None).to_string();
    let lines = [
        "plus codex",
        "  allowed",
        "limit-reached",
        "  from included (credit)",
        "2 newly allowed, 0 newly blocked",
    ];
    for line in lines {
        assert!(told.contains(line), "no {line:?} in\n{told}");
    }
    assert!(told.contains("1 users change sides"), "{told}");
}
