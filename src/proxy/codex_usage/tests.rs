use serde_json::{Value, json};

use super::*;
use crate::proxy::sample::{Sample, USER};

/// What a user of these features reads.
fn shown(sample: &Sample, features: &[&str], sole_user: bool) -> Value {
    let standings: Vec<(FeatureIndex, Standing)> = features
        .iter()
        .map(|name| {
            let feature = sample.policy.feature(name).unwrap();
            let standing = sample.account.standing(&sample.policy, sample.plan, feature, USER, sample.now);
            (feature, standing)
        })
        .collect();
    let view = usage_view(&sample.policy, sample.plan, &standings, sole_user, sample.now);
    serde_json::to_value(view).unwrap()
}

#[test]
fn both_windows_credits_and_other_products_are_shown() {
    // 180 000 tokens cost 63 credits: all of the shorter window, and 13 of the promotion.
    let sample = Sample::on("plus", "codex").grant("95.5").hold(180_000).later(1000);
    assert_eq!(
        shown(&sample, &["codex", "sora"], true),
        json!({
            "plan_type": "overfall",
            "rate_limit": {
                "allowed": false, "limit_reached": true,
                "primary_window": {
                    "used_percent": 100, "limit_window_seconds": 18_000,
                    "reset_after_seconds": 17_999, "reset_at": 1_795_383_296,
                },
                "secondary_window": {
                    "used_percent": 12, "limit_window_seconds": 604_800,
                    "reset_after_seconds": 604_799, "reset_at": 1_795_970_096,
                },
            },
            "additional_rate_limits": [{
                "limit_name": "sora", "metered_feature": "sora",
                "rate_limit": {
                    "allowed": true, "limit_reached": false,
                    "primary_window": {
                        "used_percent": 0, "limit_window_seconds": 86_400,
                        "reset_after_seconds": 26_704, "reset_at": 1_795_392_000,
                    },
                    "secondary_window": null,
                },
            }],
            "credits": {"has_credits": true, "unlimited": false, "balance": "282.5"},
            "spend_control": {"reached": false, "individual_limit": null},
            "rate_limit_reached_type": null,
        })
    );
}

#[test]
fn a_window_that_is_not_open_ends_as_if_it_opened_now() {
    let told = shown(&Sample::on("plus", "codex"), &["codex"], true);
    assert_eq!(
        told["rate_limit"]["primary_window"],
        json!({
            "used_percent": 0, "limit_window_seconds": 18_000,
            "reset_after_seconds": 18_000, "reset_at": 1_795_383_296,
        })
    );
}

const CAPPED: &str = r#"
version: 1
prices: [{model: "gpt-5.3-codex*", per_million_tokens: {input: 43.75, output: 350}}]
balances: {wallet: {per: account}}
features: {codex: {apis: [responses, chat], unit: credit}}
plans:
  windows:
    codex:
      waterfall: [{name: included, kind: rate_limit, per: user, windows: [{allow: 35, every: 5h, starts: first_use}]}]
  payg:
    codex:
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
  capped:
    codex:
      guards: [{name: member-cap, spend: 35, every: month, time_zone: UTC, per: user}]
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
"#;

#[test]
fn what_is_reached_is_told_in_the_words_of_a_block() {
    // 100 000 tokens cost 35 credits.
    for (sample, owner, member) in [
        (Sample::of(CAPPED, "windows", "codex"), None, None),
        (
            Sample::of(CAPPED, "windows", "codex").hold(100_000),
            Some("rate_limit_reached"),
            Some("rate_limit_reached"),
        ),
        (
            Sample::of(CAPPED, "payg", "codex"),
            Some("workspace_owner_credits_depleted"),
            Some("workspace_member_credits_depleted"),
        ),
        (Sample::of(CAPPED, "payg", "codex").grant("1"), None, None),
        (Sample::of(CAPPED, "capped", "codex").grant("70"), None, None),
        (
            Sample::of(CAPPED, "capped", "codex").grant("70").hold(100_000),
            Some("workspace_owner_usage_limit_reached"),
            Some("workspace_member_usage_limit_reached"),
        ),
    ] {
        for (sole_user, expected) in [(true, owner), (false, member)] {
            let told = shown(&sample, &["codex"], sole_user);
            assert_eq!(told["rate_limit_reached_type"]["type"].as_str(), expected, "{told:#}");
        }
    }
}

#[test]
fn a_spend_cap_shows_what_it_still_lets_through() {
    let told = shown(&Sample::of(CAPPED, "capped", "codex").grant("70").hold(10_000), &["codex"], true);
    assert_eq!(told["rate_limit"], Value::Null);
    assert_eq!(told["credits"], json!({"has_credits": true, "unlimited": false, "balance": "66.5"}));
    let limit = &told["spend_control"]["individual_limit"];
    assert_eq!(
        (&limit["limit"], &limit["used"], &limit["remaining"]),
        (&json!("35"), &json!("3.5"), &json!("31.5"))
    );
    assert_eq!((&limit["used_percent"], &limit["remaining_percent"]), (&json!(10), &json!(90)));
    assert_eq!(limit["reset_at"], 1_796_083_200);
}

#[test]
fn a_plan_without_codex_shows_nothing_of_it() {
    let told = shown(&Sample::on("plus", "codex"), &[], true);
    assert_eq!((&told["rate_limit"], &told["credits"]["balance"]), (&Value::Null, &json!("0")));
}
