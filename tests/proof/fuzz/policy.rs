//! Policies: a text is told all that is wrong with it, or it decides whatever comes without a panic.

use std::sync::Arc;

use overfall::access::record::{Ending, Grade, GrantOrigin, Outcome};
use overfall::access::{Account, Ask, GrantOrder, Terms};
use overfall::policy::compiled::{Policy, Scope};
use overfall::policy::load;
use overfall::policy::prices::Pattern;
use overfall::units::{
    AccountId, Credits, DecisionId, GrantId, PolicyVersion, Quantities, Span, Timestamp, UserId,
};

use super::{Target, came_to};

#[test]
fn fuzz_policies() {
    let words = &[
        "version: 1\n",
        "prices:\n",
        "  - model: \"x*\"\n",
        "per_million_tokens: {input: 1, output: 2}",
        "balances:\n",
        "wallet: {per: account}",
        "features:\n",
        "plans:\n",
        "unlimited",
        "0",
        "-1",
        "1e9",
        "0.0000001",
        "9007199254.740991",
        "every: 5h",
        "every: day",
        "starts: calendar",
        "starts: first_use",
        "time_zone: Europe/Berlin",
        "extends: plus",
        "off: true",
        "&a",
        "*a",
        "<<: *a",
        "!!str",
        "[",
        "]",
        "{",
        "}",
        ": ",
        "- ",
        "\n",
        "  ",
        "#",
        "unit: second",
        "unit: credit",
        "burst: 1",
        "concurrent: 1",
        "requests: 1",
        "spend: 5",
        "every: month",
        "deadlines: {request: 120s}",
        "forgive: 1, debt: 2",
        "\t",
    ];
    Target { name: "policy", rounds: 1500, words, check }.run();
}

fn check(input: &[u8]) -> u64 {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    match load::parse("fuzz", text) {
        Ok(policy) => {
            assert_eq!((policy.version, &*policy.text), (PolicyVersion::of(text), text));
            use_it(&Arc::new(policy))
        }
        Err(problems) => {
            assert!(!problems.problems.is_empty() && !problems.to_string().is_empty());
            let last = text.lines().flat_map(|line| line.split('\r')).count() + 1;
            for problem in &problems.problems {
                assert!((1..=last).contains(&problem.line) && problem.column > 0, "{problem:?}");
            }
            let first = &problems.problems[0];
            came_to(&(&first.allowed, first.hint.is_some(), problems.problems.len().min(4)))
        }
    }
}

/// Every plan, feature and model, with little and with much, now and long after.
fn use_it(policy: &Arc<Policy>) -> u64 {
    let mut account = Account::new(AccountId::derived(&[b"fuzz"]));
    let user = UserId::derived(&[b"fuzz"]);
    let mut outcomes = Vec::new();
    let mut decisions = 0u64;
    for (step, ms) in [0, 1, 86_400_000, 40_000_000_000].into_iter().enumerate() {
        let now = Timestamp::from_ms(1_793_577_600_000 + ms);
        grant(&mut account, policy, user, step, now);
        for plan in policy.plans.iter().filter_map(|plan| policy.plan(&plan.name)) {
            for feature in policy.feature_indices() {
                let _standing = account.standing(policy, plan, feature, user, now);
                for (model, tokens) in models(policy).zip([1, 1_000, 1 << 40, u64::MAX].into_iter().cycle()) {
                    let terms = Terms {
                        policy: Arc::clone(policy),
                        plan,
                        feature,
                        model: model.into(),
                        tier: Some("flex".into()),
                        size: Some("720x1280".into()),
                    };
                    decisions += 1;
                    outcomes.push(call(
                        &mut account,
                        terms,
                        tokens,
                        DecisionId::derived(&[&decisions.to_le_bytes()]),
                        now,
                    ));
                }
            }
        }
        let _expired = account.expire_grants(now);
    }
    outcomes.sort_unstable();
    outcomes.dedup();
    came_to(&outcomes)
}

fn models(policy: &Policy) -> impl Iterator<Item = String> + use<> {
    let named = |model: &Pattern| match model {
        Pattern::Exact(name) => name.to_string(),
        Pattern::Prefix(beginning) => format!("{beginning}x"),
    };
    let mut names: Vec<String> = policy.prices.rows.iter().map(|row| named(&row.model)).collect();
    names.truncate(4);
    names.push("no-such-model".to_owned());
    names.into_iter()
}

fn grant(account: &mut Account, policy: &Policy, user: UserId, step: usize, now: Timestamp) {
    for balance in &policy.balances {
        let order = GrantOrder {
            grant: GrantId::derived(&[balance.name.as_bytes(), &step.to_le_bytes()]),
            user: (balance.per == Scope::User).then_some(user),
            balance: balance.name.clone(),
            key: balance.key,
            amount: if step == 3 { Credits::MAX } else { Credits::from_micros(5_000_000).unwrap() },
            priority: 100,
            expires_at: (step == 1).then(|| now.plus(Span::from_seconds(60))),
            origin: GrantOrigin::Operator { idempotency_key: "fuzz".into(), note: None },
        };
        let key = order.key;
        if let Ok(record) = account.grant(order, now) {
            account.granted(&record, key);
        }
    }
}

/// One call: asked, held, extended, ended with more than was held. What it came to.
fn call(
    account: &mut Account,
    terms: Terms,
    tokens: u64,
    decision: DecisionId,
    now: Timestamp,
) -> &'static str {
    let of = |tokens| Quantities {
        input_tokens: tokens,
        output_tokens: tokens,
        seconds: tokens,
        ..Quantities::default()
    };
    let (Ok(demand), Ok(more)) = (terms.estimate(of(tokens)), terms.estimate(of(tokens.saturating_mul(2))))
    else {
        return "unpriced";
    };
    let user = UserId::derived(&[b"fuzz"]);
    let ask = Ask { decision, user, terms, demand, lifetime: Span::from_seconds(120) };
    let proposal = match account.propose(ask, now) {
        Ok(proposal) => proposal,
        Err(block) => return block.reason.as_str(),
    };
    let _held = account.accept(proposal, now);
    let _extended = account.extend(decision, more.clone(), now).is_ok();
    let ending = Ending {
        outcome: Outcome::Completed,
        grade: Grade::Exact,
        reached_upstream: true,
        status: Some(200),
        tier: None,
        resource: None,
    };
    let end = account.finish(decision, more, ending, now).unwrap();
    let parts = end.charge.covered.micros() + end.charge.forgiven.micros() + end.charge.charged.micros();
    assert_eq!(parts, end.charge.gross.micros(), "I6");
    if end.charge.charged.is_zero() { "free" } else { "charged" }
}
