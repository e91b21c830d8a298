//! The books of a gateway made anew, asked again under another policy, and held against a provider's export.

use serde_json::{Value, json};

use crate::harness::Gateway;

/// What a command answers, and whether it ended with 0.
#[track_caller]
fn told(gateway: &Gateway, words: &[&str]) -> (Value, bool) {
    let output = gateway.command(words);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text} {errors}")),
        output.status.success(),
    )
}

/// I11, and what another policy would have done to a call and a block.
#[tokio::test(flavor = "multi_thread")]
async fn the_books_are_made_anew_and_asked_again_under_another_policy() {
    let mut gateway = Gateway::start();
    let (_, client) = gateway.caller("long");
    client.respond("one").await.expect(200);
    client.respond("one").await.expect(429);
    // What is in flight to the books and to the log of blocks is there once it has ended.
    gateway.stop();
    let (report, is_same) = told(&gateway, &["replay", "--json"]);
    assert!(is_same, "{report:#}");
    assert_eq!(report["monetization_events"], 1, "{report:#}");

    let same = gateway.policy_file();
    let (report, _) = told(&gateway, &["replay", "--json", "--policy", &same.display().to_string()]);
    let tally = &report["tallies"][0];
    assert_eq!((&tally["then"]["allowed"], &tally["then"]["blocked"]), (&json!(1), &json!(1)), "{report:#}");
    for what in ["allowed", "blocked", "sources", "charged"] {
        assert_eq!(tally["then"][what], tally["now"][what], "{report:#}");
    }
    assert_eq!(report["users_changed"], 0, "{report:#}");

    let other = same.with_file_name("other.yaml");
    let text = std::fs::read_to_string(&same).expect("a policy");
    std::fs::write(&other, text.replace("\n  long:", "\n  brief:")).expect("another policy");
    let (report, _) = told(&gateway, &["replay", "--json", "--policy", &other.display().to_string()]);
    let tally = &report["tallies"][0];
    assert_eq!(tally["now"]["reasons"]["not-in-plan"], 2, "{report:#}");
    assert_eq!((&tally["newly_blocked"], &report["users_changed"]), (&json!(1), &json!(1)), "{report:#}");
}

/// I11: what an operator ordered is asked again with the calls, and under the policy in force changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_ordered_is_asked_again_too() {
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    let grant = gateway.admin.grant(&caller, "6");
    let decision = client.respond("five").await.expect(200).decision();
    gateway.admin.booked(&decision);
    client.respond("five").await.expect(429);
    let refund = json!({"reason": "it was cut", "idempotency_key": "r"});
    gateway.admin.post(&format!("/decisions/{decision}/refunds"), &refund);
    let less = json!({"grant": grant["id"], "amount": "-0.5", "reason": "a mistake", "idempotency_key": "a"});
    gateway.admin.post(&format!("/accounts/{}/adjustments", caller.account), &less);
    client.respond("five").await.expect(200);
    gateway.stop();
    let same = gateway.policy_file();
    let (report, _) = told(&gateway, &["replay", "--json", "--policy", &same.display().to_string()]);
    let tally = &report["tallies"][0];
    assert_eq!(tally["then"], tally["now"], "{report:#}");
    assert_eq!((&tally["now"]["charged"], &report["users_changed"]), (&json!("5"), &json!(0)), "{report:#}");
    let orders = json!({"whole": 2, "in_part": 0, "left_out": 0, "prices": 0});
    assert_eq!(report["orders"], orders, "{report:#}");

    let dearer = same.with_file_name("dearer.yaml");
    let text = std::fs::read_to_string(&same).expect("a policy");
    std::fs::write(&dearer, text.replace("per_request: 5", "per_request: 6")).expect("another policy");
    let (report, _) = told(&gateway, &["replay", "--json", "--policy", &dearer.display().to_string()]);
    let tally = &report["tallies"][0];
    // All 6 come back, and half a credit less than 6 does not pay for another.
    assert_eq!((&tally["now"]["allowed"], &tally["now"]["charged"]), (&json!(1), &json!("0")), "{report:#}");
    assert_eq!(report["orders"], orders, "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_does_not_tell_of_is_only_ours() {
    let mut gateway = Gateway::start();
    let (_, client) = gateway.caller("long");
    client.respond("one").await.expect(200);
    gateway.stop();
    let day = |from: i64| json!({"start_time": from, "end_time": from + 86_400, "results": []});
    let days: Vec<Value> = (0..).map(|nth| 1_577_836_800 + nth * 86_400).take(20_000).map(day).collect();
    let export = gateway.policy_file().with_file_name("usage.json");
    std::fs::write(&export, json!({"data": days, "has_more": false}).to_string()).expect("an export");
    let (report, agrees) = told(&gateway, &["reconcile", "--json", &export.display().to_string()]);
    assert!(!agrees);
    assert_eq!(report["only_ours"][0]["ours"]["requests"], 1, "{report:#}");
    assert_eq!((&report["different"], &report["only_theirs"]), (&json!([]), &json!([])), "{report:#}");
}
