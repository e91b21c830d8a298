//! What an operator sets right: balances adjusted, calls refunded, calls priced anew; and what clients see of it.

use serde_json::{Value, json};

use crate::harness::admin::{Caller, TOKEN, text};
use crate::harness::{Client, Gateway, books, policies, until};

/// More than two pages of them; every tenth is of another price.
const CALLS: usize = 1_100;
const DEARER: usize = CALLS / 10 * 9;
const CLIENTS: usize = 16;

fn run(gateway: &Gateway, words: &[&str]) -> Value {
    let output = gateway.command(&[words, &["--json"]].concat());
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words:?}: {told}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&told).expect("JSON")
}

fn left(gateway: &Gateway, account: &str) -> String {
    let grants = gateway.admin.get(&format!("/accounts/{account}/grants"));
    text(&grants["items"][0], "remaining")
}

/// I7, I12, design §4: once per key, seen by the very next request, and in the books.
#[tokio::test(flavor = "multi_thread")]
async fn an_adjustment_is_made_once_and_the_very_next_request_sees_it() {
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    let grant = gateway.admin.grant(&caller, "1");
    client.respond("one").await.expect(200);
    client.respond("one").await.expect(429);
    let path = format!("/accounts/{}/adjustments", caller.account);
    let order = json!({"grant": grant["id"], "amount": "2", "reason": "an outage", "idempotency_key": "a-1"});
    let (status, first) = gateway.admin.call("POST", &path, Some(&order));
    assert_eq!(status, 201, "{first}");
    client.respond("one").await.expect(200);
    for _ in 0..3 {
        let (status, again) = gateway.admin.call("POST", &path, Some(&order));
        assert_eq!((status, &again["id"]), (200, &first["id"]), "{again}");
    }
    for member in [json!({"amount": "3"}), json!({"reason": "another"})] {
        let mut other = order.clone();
        other.as_object_mut().expect("an object").extend(member.as_object().expect("an object").clone());
        assert_eq!(gateway.admin.call("POST", &path, Some(&other)).0, 409, "{member}");
    }
    for wrong in [
        json!({"grant": grant["id"], "amount": "-5", "reason": "too much", "idempotency_key": "b"}),
        json!({"grant": grant["id"], "amount": "0", "reason": "nothing", "idempotency_key": "b"}),
        json!({"grant": grant["id"], "amount": "1", "reason": " ", "idempotency_key": "b"}),
        json!({"grant": grant["id"], "amount": "1", "reason": "no key"}),
        json!({"grant": "grt_00", "amount": "1", "reason": "no grant", "idempotency_key": "b"}),
        json!({"debt_of": "wallet", "amount": "1", "reason": "nothing is owed", "idempotency_key": "b"}),
        json!({"amount": "1", "reason": "of what?", "idempotency_key": "b"}),
    ] {
        let (status, told) = gateway.admin.call("POST", &path, Some(&wrong));
        assert!((400..500).contains(&status), "{wrong}: {status} {told}");
    }
    let taken =
        json!({"grant": grant["id"], "amount": "-0.5", "reason": "a mistake", "idempotency_key": "c"});
    gateway.admin.post(&path, &taken);
    client.respond("one").await.expect(429);
    until("both are in the books", || {
        (gateway.admin.get(&path)["items"].as_array().map(Vec::len) == Some(2)).then_some(())
    });
    gateway.kill();
    gateway.restart();
    let (status, again) = gateway.admin.call("POST", &path, Some(&order));
    assert_eq!((status, &again["id"]), (200, &first["id"]), "also after a crash: {again}");
    assert_eq!(left(&gateway, &caller.account), "0.5");
    gateway.stop();
    gateway.audit();
}

/// I6, I7: never more than was charged, once per key; the decision shows it, to clients without the operator's words.
#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_the_next_revision_of_a_call_and_made_once() {
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "6");
    let decision = client.respond("five").await.expect(200).decision();
    gateway.admin.booked(&decision);
    let path = format!("/decisions/{decision}/refunds");
    let order = json!({"amount": "2", "reason": "half of it was cut", "idempotency_key": "r-1"});
    let (status, first) = gateway.admin.call("POST", &path, Some(&order));
    assert_eq!((status, &first["revision"], &first["charged"]), (201, &json!(2), &json!("3")), "{first}");
    let (status, again) = gateway.admin.call("POST", &path, Some(&order));
    assert_eq!((status, &again["id"]), (200, &first["id"]), "{again}");
    let mut other = order.clone();
    other["amount"] = json!("1");
    assert_eq!(gateway.admin.call("POST", &path, Some(&other)).0, 409);
    let too_much = json!({"amount": "3.5", "reason": "more", "idempotency_key": "r-2"});
    assert_eq!(gateway.admin.call("POST", &path, Some(&too_much)).0, 400, "I6: no more than is charged");
    for _ in 0..3 {
        client.respond("one").await.expect(200);
    }
    client.respond("one").await.expect(429);
    let rest = json!({"reason": "all of it", "idempotency_key": "r-3"});
    assert_eq!(gateway.admin.post(&path, &rest)["revision"], 3);
    gateway.stop();
    gateway.audit();
    gateway.restart();
    let (status, again) = gateway.admin.call("POST", &path, Some(&order));
    assert_eq!((status, &again["id"]), (200, &first["id"]), "also after a restart: {again}");
    let shown =
        client_of(&gateway, &caller.key).get(&format!("/v1/access/decisions/{decision}")).await.json();
    let end = &shown["end"];
    assert_eq!(
        (&end["charge"]["charged"], &end["charge"]["forgiven"]),
        (&json!("0"), &json!("5")),
        "{shown}"
    );
    assert_eq!((&end["corrected"]["revision"], &end["corrected"]["by"]), (&json!(3), &json!("refund")));
    assert_eq!(end["corrected"]["reason"], Value::Null, "the operator's words are the operator's");
    let told = gateway.admin.get(&format!("/decisions/{decision}"));
    assert_eq!(told["end"]["corrected"]["reason"], "all of it", "{told}");
}

fn client_of(gateway: &Gateway, key: &str) -> Client {
    Client::new(gateway.addr, key)
}

/// I6, I7, I11: dry first, then once, whether a gateway runs or not; what was too much goes back.
#[tokio::test(flavor = "multi_thread")]
async fn calls_are_priced_anew_by_a_corrected_policy_once() {
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "20");
    let mut decisions = Vec::new();
    for model in ["five", "five", "one"] {
        let decision = client.respond(model).await.expect(200).decision();
        gateway.admin.booked(&decision);
        decisions.push(decision);
    }
    assert_eq!(left(&gateway, &caller.account), "9");
    let corrected = gateway.folder.path().join("corrected.yaml");
    let file = corrected.to_str().expect("a path").to_owned();
    let range = ["rerate", "--since", "2020-01-01", "--until", "2100-01-01", "--policy", &file];
    let apply = [&range[..], &["--apply", "--reason", "five was four"]].concat();
    std::fs::write(&corrected, policies::EVERY_REASON.replace("per_request: 5", "per_request: 4")).unwrap();
    let dry = run(&gateway, &range);
    assert_eq!(dry["items"].as_array().map(Vec::len), Some(2), "{dry}");
    assert_eq!((&dry["sums"][0]["charged_before"], &dry["sums"][0]["charged"]), (&json!("10"), &json!("8")));
    assert_eq!(left(&gateway, &caller.account), "9", "nothing is changed without --apply");
    assert!(!gateway.command(&[&range[..], &["--apply"]].concat()).status.success(), "it wants a reason");
    let one = run(&gateway, &[&apply[..], &["--model", "o*"]].concat());
    assert_eq!(one["items"], json!([]), "{one}");
    let applied = run(&gateway, &apply);
    assert_eq!(applied["items"].as_array().map(Vec::len), Some(2), "{applied}");
    let shown = client.get(&format!("/v1/access/decisions/{}", decisions[0])).await.json();
    gateway.stop();
    gateway.audit();
    let again = run(&gateway, &apply);
    assert_eq!((&again["items"], &again["already"]), (&json!([]), &json!(2)), "{again}");
    assert_ne!(shown["end"], Value::Null);
    // Another correction, on the stores alone: the next revision of each.
    std::fs::write(&corrected, policies::EVERY_REASON.replace("per_request: 5", "per_request: 6")).unwrap();
    let dearer = run(&gateway, &apply);
    assert_eq!(
        (&dearer["sums"][0]["charged_before"], &dearer["sums"][0]["charged"]),
        (&json!("8"), &json!("12"))
    );
    gateway.audit();
    gateway.restart();
    assert_eq!(left(&gateway, &caller.account), "7");
    let told = gateway.admin.get(&format!("/decisions/{}", decisions[1]));
    let corrected = &told["end"]["corrected"];
    assert_eq!((&corrected["revision"], &corrected["by"]), (&json!(3), &json!("rerate")), "{told}");
    let refund = ["refund", decisions[1].as_str(), "--reason", "sorry"];
    assert_eq!(run(&gateway, &refund)["amount"], "6");
    gateway.stop();
    gateway.audit();
}

/// An account with many booked calls, 5,060 credits in all, and so much left beside; and the policy by which most of them
/// cost 6 and not 5.
async fn many_calls(gateway: &Gateway, left: usize) -> (Caller, String) {
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, &(DEARER * 5 + (CALLS - DEARER) + left).to_string());
    let mut clients = tokio::task::JoinSet::new();
    for nth in 0..CLIENTS {
        let client = client.clone();
        clients.spawn(async move {
            for call in (nth..CALLS).step_by(CLIENTS) {
                client.respond(if call % 10 == 0 { "one" } else { "five" }).await.expect(200);
            }
        });
    }
    clients.join_all().await;
    until("all calls are booked", || {
        (books::count(&gateway.ledger(), "usage_events") == CALLS as u64).then_some(())
    });
    let corrected = gateway.folder.path().join("corrected.yaml");
    let file = corrected.to_str().expect("a path").to_owned();
    std::fs::write(&corrected, policies::EVERY_REASON.replace("per_request: 5", "per_request: 6")).unwrap();
    (caller, file)
}

/// How many calls have been revised so often.
fn revised(gateway: &Gateway, revision: u32) -> u64 {
    books::count(&gateway.ledger(), &format!("monetization_events WHERE revision = {revision}"))
}

fn rerate<'a>(file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["rerate", "--since", "2020-01-01", "--until", "2100-01-01", "--policy", file], more].concat()
}

const APPLY: [&str; 3] = ["--apply", "--reason", "five is six"];

/// I6, I7: every call of every page once, as the dry run says, though a page takes what the next would have drawn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_many_pages_are_priced_anew_once_each_and_as_the_dry_run_says() {
    let mut gateway = Gateway::start();
    let (caller, file) = many_calls(&gateway, 700).await;
    let dry = run(&gateway, &rerate(&file, &[]));
    assert_eq!(dry["looked_at"], CALLS, "{}", dry["sums"]);
    // 700 are left to be drawn, which is less than 990: the second page takes the last of them.
    let sums = json!([{"account": dry["sums"][0]["account"], "model": "five", "calls": DEARER, "stay": 0,
        "gross_before": "4950", "gross": "5940", "charged_before": "4950", "charged": "5650"}]);
    assert_eq!(dry["sums"], sums);
    assert_eq!(left(&gateway, &caller.account), "700", "nothing is changed without --apply");
    let applied = run(&gateway, &rerate(&file, &APPLY));
    assert!(dry["items"] == applied["items"], "each call becomes what the dry run said");
    assert_eq!(applied["sums"], sums);
    // At once: what is not in the books yet is waited for, and not made again.
    let again = run(&gateway, &rerate(&file, &APPLY));
    assert_eq!((&again["items"], &again["already"]), (&json!([]), &json!(DEARER)), "{}", again["sums"]);
    until("nothing is left", || (left(&gateway, &caller.account) == "0").then_some(()));
    gateway.stop();
    gateway.audit();
    assert_eq!((revised(&gateway, 2), revised(&gateway, 3)), (DEARER as u64, 0));
}

/// I7, I10: a run whose client stops after a page, and whose gateway is killed in the next, is finished by another run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rerate_that_is_stopped_half_way_is_finished_by_the_next_one() {
    let mut gateway = Gateway::start();
    let (caller, file) = many_calls(&gateway, DEARER).await;
    let path = format!("/accounts/{}/rerate", caller.account);
    let mut asked = json!({"policy": std::fs::read_to_string(&file).unwrap(), "apply": true, "reason": "five is six",
        "since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"});
    let page = gateway.admin.post(&path, &asked);
    let done = page["items"].as_array().map_or(0, Vec::len);
    asked["before"] = page["before"].clone();
    let admin = gateway.admin.clone();
    let second = std::thread::spawn(move || {
        admin.raw("POST", &format!("/admin/v1{path}"), Some(TOKEN), Some(&asked)).is_ok()
    });
    let made = || gateway.admin.metric("overfall_corrections_total", &["rerate"]);
    let first = f64::from(u32::try_from(done).expect("a page"));
    until("the second page is under way", || (made() > first).then_some(()));
    gateway.kill();
    let _answered = second.join().expect("no panic");
    gateway.restart();
    let finished = run(&gateway, &rerate(&file, &APPLY));
    let items = finished["items"].as_array().expect("items");
    let stays = items.iter().find(|item| !item["stays"].is_null());
    assert_eq!(stays, None, "of {}", items.len());
    // Nobody asked for the last page.
    assert!((90..=DEARER - done).contains(&items.len()), "{} after {done}", items.len());
    assert_eq!(finished["already"], DEARER - items.len());
    until("nothing is left", || (left(&gateway, &caller.account) == "0").then_some(()));
    gateway.stop();
    gateway.audit();
    assert_eq!((revised(&gateway, 2), revised(&gateway, 3)), (DEARER as u64, 0));
}
