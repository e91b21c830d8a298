//! One request, several sources: header, stored decision and books say the same (I1, I3).

use serde_json::{Value, json};

use crate::harness::client::{ask_stream, parameter};
use crate::harness::{Gateway, Setup, books, policies};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_paid_from_a_window_and_credits_at_once_and_everybody_says_so() {
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("split");
    gateway.admin.grant(&caller, "10");
    // The window gives 3 of 5; the rest is bought.
    let answer = client.respond("five").await.expect(200);
    let sources = answer.header("x-access-sources").expect("sources").to_owned();
    let (window, credits) = sources.split_once(", ").expect("two sources");
    assert_eq!((window.split(';').next(), credits.split(';').next()), (Some("included"), Some("credits")));
    let told =
        |source: &str, name| parameter(source, name).unwrap_or_else(|| panic!("no {name} in {source}"));
    assert_eq!((told(window, "take").as_str(), told(window, "left").as_str()), ("3", "0"));
    assert_eq!((told(credits, "take").as_str(), told(credits, "left").as_str()), ("2", "8"));
    let reset: u64 = told(window, "reset").parse().expect("seconds");
    assert!((17_900..=18_000).contains(&reset), "{reset}");
    let decision = answer.decision();
    assert!(answer.header("x-access-decision").expect("it").starts_with("allow;"));
    assert_eq!(answer.told("feature").as_deref(), Some("codex"));

    let booked = gateway.admin.booked(&decision);
    let draws = |draws: &Value| -> Vec<(String, String)> {
        let draws = draws.as_array().expect("draws").iter();
        draws.map(|draw| (text(draw, "layer"), text(draw, "amount"))).collect()
    };
    let expected = [("included".to_owned(), "3".to_owned()), ("credits".to_owned(), "2".to_owned())];
    assert_eq!(
        (draws(&booked["held"]), draws(&booked["end"]["draws"])),
        (expected.to_vec(), expected.to_vec())
    );
    let charge = &booked["end"]["charge"];
    assert_eq!(charge, &json!({"gross": "5", "covered": "3", "forgiven": "0", "charged": "2"}));
    let shown = client.get(&format!("/v1/access/decisions/{decision}")).await.expect(200).json();
    assert_eq!(shown, booked, "the client is shown what the operator is shown");

    let updates = gateway.admin.get(&format!("/accounts/{}/balance-updates", caller.account));
    let amounts: Vec<_> =
        updates["items"].as_array().expect("items").iter().map(|update| text(update, "amount")).collect();
    assert_eq!(amounts, ["-2", "10"]);
    gateway.stop();
    gateway.audit();
    let events = books::usage_events(&gateway.ledger());
    assert_eq!((events.len(), events[0].gross, events[0].charged), (1, 5_000_000, 2_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_is_the_same_in_headers_and_in_the_look_up() {
    let gateway = Gateway::start();
    let (caller, client) = gateway.caller("split");
    gateway.admin.grant(&caller, "10");
    let answer = client.respond("one").await.expect(200);
    let policy = answer.header("ratelimit-policy").expect("a policy");
    assert!(policy.contains("q=3") && policy.contains("w=18000"), "{policy}");
    assert!(answer.header("ratelimit").expect("what is left").contains("r=2"));
    gateway.admin.booked(&answer.decision());
    let access = client.get("/v1/access").await.expect(200).json();
    assert_eq!(access["plan"], "split");
    let layers = access["features"][0]["layers"].as_array().expect("layers");
    let left: Vec<_> = layers.iter().map(|layer| (text(layer, "name"), text(layer, "left"))).collect();
    assert_eq!(left, [("included".to_owned(), "2".to_owned()), ("credits".to_owned(), "10".to_owned())]);
    let path = format!("/accounts/{}/users/{}/access", caller.account, caller.user);
    assert_eq!(gateway.admin.get(&path)["features"], access["features"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_where_it_is_paid_from_before_its_first_event() {
    let gateway = Gateway::start();
    let (caller, client) = gateway.caller("split");
    gateway.admin.grant(&caller, "10");
    let mut stream = client.stream("/v1/responses", &ask_stream("five-sim-wait=50")).await;
    assert_eq!(stream.status, 200);
    assert!(stream.header("x-access-sources").expect("sources").contains("credits;"));
    let decision = stream.decision();
    assert!(stream.rest().await.1);
    assert_eq!(gateway.admin.booked(&decision)["end"]["grade"], "exact");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_of_another_account_or_of_nobody_is_404_that_says_so() {
    let gateway = Gateway::start();
    let (_, client) = gateway.caller("free");
    let (_, stranger) = gateway.caller("free");
    let decision = client.respond("one").await.expect(200).decision();
    gateway.admin.booked(&decision);
    for (client, id) in [(&stranger, decision.as_str()), (&client, "dec_unknown"), (&client, "dec_")] {
        let answer = client.get(&format!("/v1/access/decisions/{id}")).await.expect(404);
        assert!(answer.json()["error"]["message"].is_string(), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_upstreams_own_limits_are_replaced() {
    let gateway = Gateway::start();
    let (_, client) = gateway.caller("long");
    let answer = client.codex().respond("one-sim-own-limits").await.expect(200);
    assert_eq!(answer.header("x-ratelimit-limit-requests"), None, "this plan limits no requests");
    assert_eq!(answer.headers.get_all("x-access-decision").iter().count(), 1);
    assert_eq!(answer.headers.get_all("ratelimit").iter().count(), 1);
    for (name, value) in &answer.headers {
        let name = name.as_str();
        if name.starts_with("x-codex-primary") {
            assert_eq!(answer.headers.get_all(name).iter().count(), 1, "{name}: {value:?}");
        }
    }
    assert_eq!(answer.header("x-codex-primary-window-minutes"), Some("300"));
}

fn text(value: &Value, member: &str) -> String {
    crate::harness::admin::text(value, member)
}

/// A stream that outgrows what the window gave it goes on from credits, and ends when both are used up. A stream that is
/// killed with the gateway had held more than at first, and is booked at its floor all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_draws_from_the_next_source_as_it_grows_and_stops_when_none_is_left() {
    let policy = policies::EVERY_REASON.replace("    overage:", "    when_exhausted: stop\n    overage:");
    let mut gateway = Setup::default().policy(&policy).start();
    let (caller, client) = gateway.caller("split");
    gateway.admin.grant(&caller, "2");
    let stream = |words: &str| json!({"model": format!("gpt-5.5-sim-{words}"), "input": "x", "stream": true});
    // The window gives 3 credits, 4,000 tokens; the wallet 2.
    let (told, whole) =
        client.stream("/v1/responses", &stream("out=20000+events=2000+pace=1")).await.rest().await;
    assert!(whole && told.contains("response.failed") && told.contains("insufficient_quota"), "{told}");
    let booked = gateway.admin.booked_count(&caller.account, 1);
    let end = &booked[0]["end"];
    assert_eq!((end["outcome"].as_str(), end["grade"].as_str()), (Some("stopped"), Some("floor")), "{end}");
    for draws in [&booked[0]["held"], &end["draws"]] {
        for layer in ["included", "credits"] {
            assert!(draws.as_array().expect("draws").iter().any(|draw| draw["layer"] == layer), "{booked:?}");
        }
    }

    let (other, client) = gateway.caller("split");
    gateway.admin.grant(&other, "100");
    let mut stream = client.stream("/v1/responses", &stream("out=9000+events=300+pace=20")).await;
    stream.events(150).await;
    gateway.kill();
    gateway.restart();
    let booked = gateway.admin.booked_count(&other.account, 1);
    let end = &booked[0]["end"];
    assert_eq!((end["outcome"].as_str(), end["grade"].as_str()), (Some("crashed"), Some("floor")), "{end}");
    gateway.stop();
    gateway.audit();
}
