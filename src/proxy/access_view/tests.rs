use super::*;
use crate::proxy::sample::Sample;

fn shown_json(sample: &Sample) -> String {
    let standings = [(sample.feature, sample.standing.clone())];
    let view = access_view(&sample.policy, sample.plan, &standings, sample.now);
    serde_json::to_string_pretty(&view).unwrap()
}

#[test]
fn a_client_sees_every_window_guard_and_balance() {
    insta::assert_snapshot!(shown_json(&Sample::on("plus", "codex").grant("95.5").hold(180_000)));
}

#[test]
fn calendar_windows_and_spend_caps_are_shown() {
    insta::assert_snapshot!(shown_json(&Sample::on("enterprise", "codex").grant("7").hold(20_000)));
}

#[test]
fn a_feature_that_the_plan_lacks_is_not_shown() {
    let sample = Sample::on("plus", "codex");
    let absent = [(FeatureIndex(9), Standing::default())];
    assert!(access_view(&sample.policy, sample.plan, &absent, sample.now).features.is_empty());
}
