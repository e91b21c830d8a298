use proptest::prelude::*;
use serde_json::json;

use super::super::compiled::{GuardRule, LayerKind, Period, Scope, Source, Waterfall, WhenExhausted};
use super::super::problem::MAX_SHOWN;
use super::*;
use crate::units::{Amount, Credits, PolicyVersion, Span, Timestamp, Unit};

mod schema;

const EXAMPLE: &str = include_str!("../../../config/policy.yaml");

fn example() -> Policy {
    parse("config/policy.yaml", EXAMPLE).unwrap_or_else(|problems| panic!("{problems}"))
}

fn waterfall<'a>(policy: &'a Policy, plan: &str, feature: usize) -> &'a Waterfall {
    policy[policy.plan(plan).unwrap()].waterfalls[feature].as_ref().unwrap()
}

fn guards(waterfall: &Waterfall) -> Vec<&str> {
    waterfall.guards.iter().map(|guard| &*guard.name).collect()
}

#[test]
fn the_policy_of_section_7_loads_as_it_says() {
    let policy = example();
    assert_eq!((policy.version, &*policy.text), (PolicyVersion::of(EXAMPLE), EXAMPLE));
    assert_eq!(policy.prices.rows.len(), 4);

    let launch = &policy[policy.balance("launch").unwrap()];
    let issue = launch.issue.unwrap();
    assert_eq!((launch.per, issue.amount), (Scope::User, Credits::from_micros(200_000_000).unwrap()));
    assert_eq!(issue.from, Some(Timestamp::from_ms(1_793_491_200_000)));
    assert_eq!(issue.expires_after, Some(Span::from_seconds(30 * 86_400)));

    let (codex, sora) = (&policy.features[0], &policy.features[1]);
    assert_eq!((codex.unit, sora.unit), (Unit::Credit, Unit::Second));
    assert_eq!(codex.overage.forgive, Credits::from_micros(100_000_000).unwrap());
    assert_eq!(codex.clamp.unwrap().minimum_output_tokens, 256);
    assert_eq!((codex.when_exhausted, sora.when_exhausted), (WhenExhausted::Finish, WhenExhausted::Finish));
    assert_eq!((sora.overage.forgive, sora.overage.debt, sora.clamp), (Credits::ZERO, Credits::ZERO, None));
    assert_eq!(sora.deadlines.job, Span::from_seconds(24 * 3600));

    let plus = waterfall(&policy, "plus", 0);
    let GuardRule::Rate(burst) = plus.guards[0].rule else { panic!("a bucket") };
    assert_eq!((burst.amount, burst.burst, burst.every), (60, 20, Span::from_seconds(60)));
    let GuardRule::Rate(tokens) = plus.guards[1].rule else { panic!("a bucket") };
    assert_eq!((tokens.unit, tokens.burst), (Unit::Token, 400_000), "burst defaults to the amount");
    assert_eq!(plus.guards[2].rule, GuardRule::Concurrent { limit: 8 });
    let Source::Window(included) = &plus.layers[0].source else { panic!("windows") };
    assert_eq!(included.windows[0].allow, Some(Amount::clamped(50_000_000)));
    assert_eq!(included.windows[1].period, Period::FirstUse(Span::from_seconds(7 * 86_400)));
    assert_eq!(plus.layers[1].kind, LayerKind::Promotion);

    let Source::Window(daily) = &waterfall(&policy, "plus", 1).layers[0].source else { panic!("windows") };
    assert_eq!(daily.windows[0].allow, Some(Amount::clamped(30)), "seconds are whole");
}

#[test]
fn guards_merge_by_name_and_a_waterfall_is_replaced_whole() {
    let policy = example();
    let (plus, enterprise) = (waterfall(&policy, "plus", 0), waterfall(&policy, "enterprise", 0));
    assert_eq!(guards(plus), ["burst", "tokens", "in-flight"]);
    assert_eq!(guards(enterprise), ["burst", "tokens", "in-flight", "member-cap"]);
    let layers: Vec<&str> = enterprise.layers.iter().map(|layer| &*layer.name).collect();
    assert_eq!(layers, ["contract", "credits"]);
    assert_eq!(
        guards(waterfall(&policy, "enterprise", 1)),
        ["jobs"],
        "what it does not mention it takes over"
    );
}

#[test]
fn a_plan_replaces_and_removes_the_guards_of_any_ancestor() {
    let more = "
  team:
    extends: enterprise
    codex:
      guards:
        - {name: tokens, tokens: 7, every: 1m, per: account}
        - {name: burst, off: true}
  last: {extends: team, codex: {guards: [{name: burst, concurrent: 1, per: user}]}}
";
    let policy = parse("p", &format!("{EXAMPLE}{more}")).unwrap();
    let team = waterfall(&policy, "team", 0);
    assert_eq!(guards(team), ["tokens", "in-flight", "member-cap"]);
    assert_eq!((team.guards[0].per, &team.guards[0].rule), (Scope::Account, &rate(7)));
    assert_eq!(guards(waterfall(&policy, "last", 0)), ["tokens", "in-flight", "member-cap", "burst"]);
}

fn rate(tokens: u64) -> GuardRule {
    use super::super::compiled::Rate;
    GuardRule::Rate(Rate { unit: Unit::Token, amount: tokens, every: Span::from_seconds(60), burst: tokens })
}

#[test]
fn a_counter_has_one_key_under_every_plan_and_limit() {
    let text = EXAMPLE.replace("allow: 50,", "allow: 60,").replace("plus:\n    codex", "pro:\n    codex");
    let text = text.replace("extends: plus", "extends: pro");
    let (before, after) = (example(), parse("p", &text).unwrap());
    let keys = |policy: &Policy, plan: &str| -> Vec<_> {
        let Source::Window(layer) = &waterfall(policy, plan, 0).layers[0].source else { panic!("windows") };
        layer.windows.iter().map(|window| window.key).collect()
    };
    assert_eq!(keys(&before, "plus"), keys(&after, "pro"));
    let burst = |plan| waterfall(&before, plan, 0).guards[0].key;
    assert_eq!(burst("plus"), burst("enterprise"));
}

#[test]
fn unlimited_is_a_word() {
    let text = EXAMPLE.replace("allow: 100000, every: month", "allow: unlimited, every: month");
    let last = "        - {name: credits, kind: prepaid, balance: wallet}\n";
    let text = text.strip_suffix(last).unwrap();
    let policy = parse("p", text).unwrap();
    let Source::Window(contract) = &waterfall(&policy, "enterprise", 0).layers[0].source else {
        panic!("windows")
    };
    assert_eq!(contract.windows[0].allow, None);
}

#[test]
fn spend_over_a_length_of_time_opens_at_first_use_and_over_a_month_is_calendar() {
    let text = EXAMPLE.replace("every: month, time_zone: UTC, per: user}]", "every: 5h, per: user}]");
    for (text, first_use) in [(EXAMPLE, false), (&text, true)] {
        let policy = parse("p", text).unwrap();
        let GuardRule::Spend { window } = &waterfall(&policy, "enterprise", 0).guards[3].rule else {
            panic!("a cap on spend")
        };
        assert_eq!(matches!(window.period, Period::FirstUse(_)), first_use);
        assert_eq!(window.allow, Some(Amount::clamped(5_000_000_000)));
    }
}

#[test]
fn an_alias_stands_for_what_it_names() {
    let text = EXAMPLE.replace("forgive: 100, debt: 0}", "forgive: &some 12.5, debt: *some}");
    let overage = parse("p", &text).unwrap().features[0].overage;
    assert_eq!((overage.forgive.micros(), overage.debt.micros()), (12_500_000, 12_500_000));
}

#[test]
fn problems_are_told_all_at_once_for_people_and_for_programs() {
    let text = EXAMPLE.replace("burst: 20", "burst: 0").replace("overage:", "overige:");
    let problems = parse("config/policy.yaml", &text).unwrap_err();
    insta::assert_snapshot!(problems.to_string(), @r"
    config/policy.yaml:42:5: unknown key `overige`
       |
    42 |     overige: {forgive: 100, debt: 0}       # what can be drawn nowhere: forgiven up to so much per account and month, then owed up to so much
       |     ^^^^^^^
       = at: features.codex.overige
       = allowed: apis, unit, overage, clamp, when_exhausted, websocket, deadlines
       = hint: did you mean `overage`?

    config/policy.yaml:60:57: the number `0`
       |
    60 |         - {name: burst, requests: 60, every: 1m, burst: 0, per: user}
       |                                                         ^
       = at: plans.plus.codex.guards[0].burst
       = allowed: a whole number of at least 1
       = hint: 0 neither limits nor means `unlimited`; leave out what is not wanted
    ");
    let told = serde_json::to_value(&problems).unwrap();
    assert_eq!(told["file"], "config/policy.yaml");
    assert_eq!(told["problems"].as_array().unwrap().len(), 2);
    assert_eq!(
        told["problems"][1],
        json!({
            "line": 60, "column": 57,
            "path": "plans.plus.codex.guards[0].burst",
            "found": "the number `0`",
            "allowed": "a whole number of at least 1",
            "hint": "0 neither limits nor means `unlimited`; leave out what is not wanted",
        })
    );
}

#[test]
fn a_flood_of_problems_is_counted_and_cut() {
    let keys: Vec<String> = (0..MAX_SHOWN + 5).map(|nth| format!("x{nth}: 1")).collect();
    let problems = parse("p", &format!("{EXAMPLE}\n{}\n", keys.join("\n"))).unwrap_err();
    assert_eq!((problems.problems.len(), problems.omitted), (MAX_SHOWN, 5));
    assert!(problems.to_string().ends_with("\nand 5 more\n"));
}

#[test]
fn what_is_too_large_or_too_deep_is_refused() {
    let deep = format!("version: {}{}", "[".repeat(200), "]".repeat(200));
    let bomb = "a: &a [1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d]\n";
    let long = format!("# {}\n", "x".repeat(2 << 20));
    let wide = format!("[{}]", "1,".repeat(30_000));
    for text in [&deep, bomb, &long, &wide] {
        assert_eq!(parse("p", text).unwrap_err().problems.len(), 1);
    }
}

#[test]
fn what_a_terminal_would_obey_is_not_repeated() {
    let text = EXAMPLE.replace("version: 1\n", "version: 1\n\"a\\eb\": 1\n# \n");
    let told = parse("p", &text).unwrap_err().to_string();
    assert!(told.contains("unknown key `a\\u{1b}b`"), "{told}");
    assert!(told.chars().all(|char| char == '\n' || !char.is_control()), "{told}");
}

/// A text with some of its parts cut out and others put in.
fn mutated() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(String::new()),
        "[-:{}\\[\\],&*!|>'\"#% \n\t~?@`<.0-9a-z]{1,6}",
        prop::sample::select(vec![
            "unlimited",
            "0",
            "null",
            "- ",
            "\n\n",
            "<<: ",
            "&a ",
            "*a",
            "!!int ",
            "\u{feff}",
            "é🔑",
            ".inf",
            "1e999",
            "99999999999999999999",
            "every: day",
            "off: true",
            "extends: plus",
            "\u{1b}[31m",
        ])
        .prop_map(str::to_owned),
    ];
    let cut = (any::<prop::sample::Index>(), 0..12usize, piece);
    prop::collection::vec(cut, 1..5).prop_map(|cuts| {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (at, length, piece) in cuts {
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, piece.chars());
        }
        text.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader_and_every_problem_stands_in_the_file(text in mutated()) {
        if let Err(problems) = parse("p", &text) {
            prop_assert!(!problems.problems.is_empty());
            for problem in &problems.problems {
                prop_assert!(problem.line <= text.lines().count() + 1, "{problem:?}");
                prop_assert!(!problem.found.is_empty() && !problem.allowed.is_empty());
            }
            prop_assert!(!problems.to_string().is_empty());
        }
    }
}
