use proptest::prelude::*;

use super::*;
use crate::proxy::sample::{DECISION, REQUEST_ID, Sample};
use crate::proxy::structured::{self, Member};
use crate::units::Amount;

fn of(sample: &Sample, dialect: Dialect) -> Headers {
    let told = Allowed { decision: DECISION, draws: &sample.draws, clamped_to: None, is_degraded: false };
    allowed(&sample.scene(), &told, dialect, REQUEST_ID)
}

fn shown(headers: &Headers) -> String {
    let lines = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    lines.collect::<Vec<_>>().join("\n")
}

fn members(headers: &Headers, name: &str) -> Vec<Member> {
    let value = headers.value(name).unwrap_or_default();
    structured::list(value).unwrap_or_else(|problem| panic!("{name}: {value}: {problem}"))
}

const STRUCTURED: [&str; 4] = ["x-access-decision", "x-access-sources", "ratelimit-policy", "ratelimit"];

/// Section 8: the amounts are those after the hold, in each family of headers the same.
#[test]
fn a_call_paid_from_two_sources_shows_both_and_what_is_left() {
    // 63 credits: 50 are included, 13 come from the 200 that are issued to every user.
    let sample = Sample::on("plus", "codex").grant("95.5").hold(180_000);
    insta::assert_snapshot!(shown(&of(&sample, Dialect::Codex)));
}

#[test]
fn an_untouched_account_shows_full_windows_that_are_not_open() {
    let sample = Sample::on("plus", "codex");
    insta::assert_snapshot!(shown(&of(&sample, Dialect::Codex)));
}

#[test]
fn calendar_windows_and_spend_caps_are_named_by_what_they_are() {
    let sample = Sample::on("enterprise", "codex").grant("7").hold(20_000);
    insta::assert_snapshot!(shown(&of(&sample, Dialect::OpenAi)));
}

#[test]
fn seconds_are_counted_whole() {
    let sample = Sample::on("plus", "sora");
    let headers = of(&sample, Dialect::OpenAi);
    assert_eq!(
        headers.value("ratelimit-policy"),
        Some(r#""daily-day";q=30;w=86400;overfall-unit="second", "jobs";q=2;qu="concurrent-requests""#)
    );
    assert_eq!(headers.value("x-ratelimit-limit-requests"), None);
}

#[test]
fn only_codex_is_told_the_codex_family() {
    let sample = Sample::on("plus", "codex").hold(1_000);
    assert!(of(&sample, Dialect::OpenAi).iter().all(|(name, _)| !name.as_str().starts_with("x-codex-")));
    assert!(of(&sample, Dialect::Codex).value("x-codex-primary-used-percent").is_some());
}

#[test]
fn a_request_that_was_cut_down_says_to_what() {
    let sample = Sample::on("plus", "codex").hold(1_000);
    let told =
        Allowed { decision: DECISION, draws: &sample.draws, clamped_to: Some(812), is_degraded: false };
    let headers = allowed(&sample.scene(), &told, Dialect::OpenAi, REQUEST_ID);
    let decision = members(&headers, "x-access-decision");
    assert_eq!(decision[0].item, "allow");
    assert_eq!(decision[0].parameter("max-output-tokens"), Some("812"));
}

#[test]
fn what_costs_nothing_has_no_sources() {
    let sample = Sample::on("plus", "codex");
    assert_eq!(of(&sample, Dialect::OpenAi).value("x-access-sources"), None);
}

/// codex-cli.md, section 9, rule 6: credits that cannot be used must not silence the warnings.
#[test]
fn codex_has_credits_only_while_a_request_could_be_paid_from_them() {
    let capped = POLICY.replace("GUARD", "{name: cap, spend: 1, every: month, time_zone: UTC, per: user}");
    let open = POLICY.replace("GUARD", "{name: cap, spend: 500, every: month, time_zone: UTC, per: user}");
    let cases = [
        (Sample::of(&open, "small", "codex"), "false", "0"),
        (Sample::of(&open, "small", "codex").grant("12.34"), "true", "12.34"),
        // 10 credits are included; the eleventh takes all that the cap lets through.
        (Sample::of(&capped, "small", "codex").grant("12.34").hold(11_000_000), "false", "0"),
    ];
    for (sample, has_credits, balance) in cases {
        let headers = of(&sample, Dialect::Codex);
        assert_eq!(headers.value("x-codex-credits-has-credits"), Some(has_credits));
        assert_eq!(headers.value("x-codex-credits-unlimited"), Some("false"));
        assert_eq!(headers.value("x-codex-credits-balance"), Some(balance));
    }
}

const POLICY: &str = r#"
version: 1
prices:
  - model: "*"
    per_million_tokens: {input: 1, output: 1}
balances:
  wallet: {per: account}
features:
  codex: {apis: [responses], unit: credit}
plans:
  small:
    codex:
      guards: [GUARD]
      waterfall:
        - {name: included, kind: free_tier, per: user, windows: [{allow: 10, every: 30m, starts: first_use}]}
        - {name: credits, kind: prepaid, balance: wallet}
  boundless:
    codex:
      guards: []
      waterfall:
        - {name: contract, kind: entitlement, per: account, windows: [{allow: unlimited, every: month, starts: calendar, time_zone: UTC}]}
"#;

#[test]
fn what_is_unlimited_is_told_as_the_word() {
    let policy = POLICY.replace("[GUARD]", "[]");
    let sample = Sample::of(&policy, "boundless", "codex").hold(5_000_000);
    let headers = of(&sample, Dialect::Codex);
    let sources = members(&headers, "x-access-sources");
    assert_eq!(sources[0].parameter("take"), Some("\"5\""));
    assert_eq!(sources[0].parameter("left"), Some("\"unlimited\""));
    assert_eq!(headers.value("ratelimit"), None);
    assert_eq!(headers.value("x-codex-primary-used-percent"), None);
}

#[test]
fn one_window_alone_is_the_primary_one() {
    let policy = POLICY.replace("[GUARD]", "[]");
    let sample = Sample::of(&policy, "small", "codex").hold(1_234_567);
    let headers = of(&sample, Dialect::Codex);
    // 1.234567 of 10 credits, rounded down to a tenth of a percent.
    assert_eq!(headers.value("x-codex-primary-used-percent"), Some("12.3"));
    assert_eq!(headers.value("x-codex-primary-window-minutes"), Some("30"));
    assert_eq!(headers.value("x-codex-primary-reset-at"), Some("1795367096"));
    assert_eq!(headers.value("x-codex-secondary-used-percent"), None);
}

/// The draft's `t` is the time until one more fits, `OpenAI`'s reset the time until all of it is back.
#[test]
fn a_bucket_tells_both_times() {
    let mut sample = Sample::on("plus", "codex");
    for _ in 0..3 {
        sample = sample.later(100).hold(10);
    }
    let headers = of(&sample, Dialect::OpenAi);
    // Three of 20 are taken and 200 ms have passed: 18 would be there in 800 ms, all 20 in 2.8 s.
    let left = members(&headers, "ratelimit");
    let burst = left.iter().find(|member| member.item == "\"burst\"").unwrap();
    assert_eq!((burst.parameter("r"), burst.parameter("t")), (Some("17"), Some("1")));
    assert_eq!(headers.value("x-ratelimit-limit-requests"), Some("20"));
    assert_eq!(headers.value("x-ratelimit-remaining-requests"), Some("17"));
    assert_eq!(headers.value("x-ratelimit-reset-requests"), Some("2.8s"));
}

#[test]
fn times_are_printed_as_go_prints_them() {
    for (ms, text) in [
        (0, "0s"),
        (2, "2ms"),
        (120, "120ms"),
        (1_000, "1s"),
        (8_640, "8.64s"),
        (62_500, "1m2.5s"),
        (360_000, "6m0s"),
        (21_030_000, "5h50m30s"),
        (3_600_000, "1h0m0s"),
        (604_800_001, "168h0m0.001s"),
    ] {
        let mut writer = Writer::new();
        writer.go_duration(Span::from_ms(ms));
        assert_eq!(writer.into_text(), text);
    }
}

#[test]
fn lengths_are_told_in_the_largest_whole_unit() {
    for (ms, label) in
        [(500, "500ms"), (90_000, "90s"), (5_400_000, "90m"), (18_000_000, "5h"), (604_800_000, "7d")]
    {
        assert_eq!(length_label(&Period::FirstUse(Span::from_ms(ms))), label);
    }
}

#[test]
fn an_upstream_may_not_speak_of_limits() {
    for (name, ours) in [
        ("x-access-decision", true),
        ("x-ratelimit-remaining-project-tokens", true),
        ("ratelimit", true),
        ("ratelimit-policy", true),
        ("x-codex-primary-used-percent", true),
        ("x-codex-sora-secondary-reset-at", true),
        ("x-codex-sora-limit-name", true),
        ("x-codex-credits-balance", true),
        ("x-codex-promo-message", true),
        ("x-codex-turn-state", false),
        ("x-models-etag", false),
        ("openai-model", false),
        ("x-request-id", false),
        ("content-type", false),
    ] {
        assert_eq!(is_ours(&HeaderName::from_static(name)), ours, "{name}");
    }
    let sample = Sample::on("plus", "codex").grant("5").hold(180_000);
    let told = of(&sample, Dialect::Codex);
    assert!(told.iter().all(|(name, _)| is_ours(name) || name.as_str() == "x-request-id"));
}

#[test]
fn a_request_id_that_no_header_may_hold_is_left_out() {
    let sample = Sample::on("plus", "codex");
    let told = Allowed { decision: DECISION, draws: &[], clamped_to: None, is_degraded: false };
    let headers = allowed(&sample.scene(), &told, Dialect::OpenAi, "req\r\nset-cookie: a");
    assert_eq!(headers.value("x-request-id"), None);
    assert!(headers.value("x-access-decision").is_some());
}

proptest! {
    /// Whatever was used: fields are well formed, nothing is above its limit, and credits are rounded down.
    #[test]
    fn headers_are_well_formed(tokens in prop::collection::vec(1u64..100_000, 0..8), wait_ms in 0u64..20_000_000) {
        let mut sample = Sample::on("plus", "codex").grant("250.000001");
        for tokens in tokens {
            if let Ok(held) = sample.attempt(tokens) {
                sample.draws = held.draws;
            }
            sample = sample.later(wait_ms);
        }
        let headers = of(&sample, Dialect::Codex);
        for name in STRUCTURED {
            if headers.value(name).is_some() {
                members(&headers, name);
            }
        }
        let policies = members(&headers, "ratelimit-policy");
        let left = members(&headers, "ratelimit");
        prop_assert_eq!(policies.len(), left.len());
        for (policy, left) in policies.iter().zip(&left) {
            let number = |text: Option<&str>| text.unwrap().parse::<u64>().unwrap();
            prop_assert_eq!(&policy.item, &left.item);
            prop_assert!(number(left.parameter("r")) <= number(policy.parameter("q")));
        }
        let percent = headers.value("x-codex-primary-used-percent").unwrap();
        let (whole, fraction) = percent.split_once('.').unwrap_or((percent, "1"));
        prop_assert!(whole.parse::<u64>().unwrap() <= 100 && fraction.len() == 1 && fraction != "0");
    }

    #[test]
    fn a_percentage_is_a_hundred_only_when_nothing_is_left(allow in 1u64..1 << 53, left in 0u64..1 << 53) {
        prop_assume!(left <= allow);
        let permille = codex::used_permille(Amount::clamped(left), Amount::clamped(allow));
        prop_assert_eq!(permille == 1000, left == 0);
    }
}
