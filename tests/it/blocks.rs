//! Every reason to be blocked: status, headers and body, as the SDKs of OpenAI and as Codex CLI understand them.

use serde_json::json;

use crate::harness::{Answer, Caller, Client, Gateway};

/// What a block has to say, to one kind of client.
struct Expected {
    reason: &'static str,
    status: u16,
    kind: &'static str,
    code: &'static str,
    retry_after: Wait,
    /// `x-should-retry: false`
    stops: bool,
}

#[derive(Clone, Copy)]
enum Wait {
    Unsaid,
    /// In seconds, at least and at most.
    Between(u64, u64),
}

impl Expected {
    #[track_caller]
    fn check(&self, answer: &Answer) {
        let shown = format!("{:#?} {}", answer.headers, String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.status, self.status, "{shown}");
        assert!(answer.header("x-access-decision").is_some_and(|told| told.starts_with("block;")), "{shown}");
        assert_eq!(answer.told("reason").as_deref(), Some(self.reason), "{shown}");
        assert_eq!(answer.error(), (self.kind.to_owned(), self.code.to_owned()), "{shown}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{shown}");
        assert!(answer.header("x-request-id").is_some(), "{shown}");
        assert_eq!(answer.header("x-should-retry"), self.stops.then_some("false"), "{shown}");
        match self.retry_after {
            Wait::Unsaid => assert_eq!(answer.header("retry-after"), None, "{shown}"),
            Wait::Between(least, most) => {
                let seconds: u64 = answer.header("retry-after").expect("a time").parse().expect("seconds");
                assert!((least..=most).contains(&seconds), "{shown}");
            }
        }
    }
}

const RATE: (&str, &str) = ("rate_limit_error", "rate_limit_exceeded");
const INVALID: &str = "invalid_request_error";
const CODEX: &str = "usage_limit_reached";

/// A gateway, a caller on a plan with credits, and that caller's two kinds of client.
fn start(plan: &str, credits: &str) -> (Gateway, Caller, Client, Client) {
    let gateway = Gateway::start();
    let (caller, client) = gateway.caller(plan);
    if credits != "0" {
        gateway.admin.grant(&caller, credits);
    }
    let codex = client.clone().codex();
    (gateway, caller, client, codex)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_ends_within_a_minute_tells_everybody_to_wait() {
    let (gateway, _, client, codex) = start("short", "0");
    client.respond("one").await.expect(200);
    let expected = Expected {
        reason: "limit-reached",
        status: 429,
        kind: RATE.0,
        code: RATE.1,
        retry_after: Wait::Between(1, 4),
        stops: false,
    };
    for client in [&client, &codex] {
        let answer = client.respond("one").await;
        expected.check(&answer);
        let ms: u64 = answer.header("retry-after-ms").expect("a time").parse().expect("milliseconds");
        assert!((1..=4000).contains(&ms));
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains("try again in "), "Codex reads the time there: {message}");
        assert!(answer.told("next").is_some());
    }
    assert_eq!(gateway.upstream.seen.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_limit_stops_sdks_and_shows_codex_the_time() {
    let (gateway, _, client, codex) = start("long", "0");
    client.respond("one").await.expect(200);
    let expected = Expected {
        reason: "limit-reached",
        status: 429,
        kind: RATE.0,
        code: RATE.1,
        retry_after: Wait::Between(17_900, 18_000),
        stops: true,
    };
    expected.check(&client.respond("one").await);
    let answer = codex.respond("one").await;
    Expected { kind: CODEX, retry_after: Wait::Unsaid, stops: false, ..expected }.check(&answer);
    let now = overfall::units::time::Clock::machine().now().ms() / 1000;
    let resets_at = answer.json()["error"]["resets_at"].as_i64().expect("seconds since 1970");
    assert!((17_900..=18_001).contains(&(resets_at - now)), "{resets_at}");
    assert_eq!(answer.header("x-codex-primary-used-percent").map(|told| told.starts_with("100")), Some(true));
    assert_eq!(gateway.upstream.seen.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_credits_say_what_is_needed_and_what_is_there() {
    let (gateway, _, client, codex) = start("prepaid", "0.25");
    let expected = Expected {
        reason: "credits-exhausted",
        status: 429,
        kind: "insufficient_quota",
        code: "credit_balance_exhausted",
        retry_after: Wait::Unsaid,
        stops: true,
    };
    let answer = client.respond("one").await;
    expected.check(&answer);
    assert_eq!((answer.told("need").as_deref(), answer.told("have").as_deref()), (Some("1"), Some("0.25")));
    let answer = codex.respond("one").await;
    assert_eq!((answer.status, answer.error().0.as_str()), (429, CODEX));
    assert_eq!(answer.header("x-codex-rate-limit-reached-type"), Some("workspace_owner_credits_depleted"));
    assert_eq!(answer.header("retry-after"), None);
    assert_eq!(gateway.upstream.seen.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_told_that_the_owner_has_to_act() {
    let (gateway, caller, _, _) = start("prepaid", "0");
    let member = gateway.client(&gateway.admin.user_of(&caller.account)).codex();
    let answer = member.respond("one").await.expect(429);
    assert_eq!(answer.header("x-codex-rate-limit-reached-type"), Some("workspace_member_credits_depleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spend_cap_is_no_lack_of_credits() {
    let (gateway, _, client, codex) = start("capped", "10");
    client.respond("one").await.expect(200);
    let expected = Expected {
        reason: "spend-cap-reached",
        status: 429,
        kind: "insufficient_quota",
        code: "project_spend_limit_exceeded",
        retry_after: Wait::Unsaid,
        stops: true,
    };
    expected.check(&client.respond("one").await);
    let answer = codex.respond("one").await;
    assert_eq!((answer.status, answer.error().0.as_str()), (429, CODEX));
    assert_eq!(answer.header("x-codex-rate-limit-reached-type"), Some("workspace_owner_usage_limit_reached"));
    assert_eq!(gateway.upstream.seen.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_requests_in_flight_stand_in_the_way_of_is_worth_a_little_wait() {
    let (gateway, _, client, codex) = start("prepaid", "1.5");
    let first = client.clone();
    let running = tokio::spawn(async move { first.respond("one-sim-wait=3000").await });
    gateway.upstream.seen.wait_for_count(1, crate::harness::PATIENCE).await.expect("it runs");
    let expected = Expected {
        reason: "held-in-flight",
        status: 429,
        kind: RATE.0,
        code: RATE.1,
        retry_after: Wait::Between(5, 15),
        stops: false,
    };
    for client in [&client, &codex] {
        expected.check(&client.respond("one").await);
    }
    running.await.expect("it ends").expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_at_once_is_worth_a_little_wait() {
    let (gateway, _, client, codex) = start("single", "10");
    let first = client.clone();
    let running = tokio::spawn(async move { first.respond("one-sim-wait=2000").await });
    gateway.upstream.seen.wait_for_count(1, crate::harness::PATIENCE).await.expect("it runs");
    let expected = Expected {
        reason: "in-flight-limit",
        status: 429,
        kind: RATE.0,
        code: RATE.1,
        retry_after: Wait::Between(5, 15),
        stops: false,
    };
    for client in [&client, &codex] {
        expected.check(&client.respond("one").await);
    }
    running.await.expect("it ends").expect(200);
    client.respond("one").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_fits_is_a_fault_of_the_request() {
    let (gateway, _, client, _) = start("long", "0");
    let expected = Expected {
        reason: "never-fits",
        status: 400,
        kind: INVALID,
        code: "request_exceeds_allowance",
        retry_after: Wait::Unsaid,
        stops: false,
    };
    expected.check(&client.respond("five").await);
    client.respond("one").await.expect(200);
    assert_eq!(gateway.upstream.seen.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_without_the_product_and_a_suspended_account_are_forbidden() {
    let (gateway, caller, client, codex) = start("video", "10");
    let mut expected = Expected {
        reason: "not-in-plan",
        status: 403,
        kind: INVALID,
        code: "feature_not_in_plan",
        retry_after: Wait::Unsaid,
        stops: true,
    };
    for (reason, code) in [("not-in-plan", "feature_not_in_plan"), ("account-suspended", "account_suspended")]
    {
        (expected.reason, expected.code) = (reason, code);
        expected.check(&client.respond("one").await);
        let answer = codex.respond("one").await;
        assert_eq!((answer.status, answer.error().0.as_str()), (429, CODEX), "{reason}");
        assert!(answer.header("x-codex-promo-message").is_some(), "{reason}");
        let path = format!("/accounts/{}", caller.account);
        let (status, _) = gateway.admin.call("PATCH", &path, Some(&json!({"status": "suspended"})));
        assert_eq!(status, 200);
    }
    let path = format!("/accounts/{}", caller.account);
    gateway.admin.call("PATCH", &path, Some(&json!({"status": "active", "plan": "prepaid"})));
    client.respond("one").await.expect(200);
    assert_eq!(gateway.upstream.seen.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_explained_afterwards_and_is_no_part_of_the_books() {
    let (gateway, caller, client, _) = start("prepaid", "0");
    let answer = client.respond("one").await.expect(429);
    let decision = answer.decision();
    let logged = gateway.admin.booked(&decision);
    assert_eq!(
        (&logged["state"], &logged["block"]["reason"]),
        (&json!("blocked"), &json!("credits-exhausted"))
    );
    let shown = client.get(&format!("/v1/access/decisions/{decision}")).await.expect(200).json();
    assert_eq!(shown, logged);
    assert_eq!(gateway.admin.get(&format!("/accounts/{}/decisions", caller.account))["items"], json!([]));
    let blocks = gateway.admin.get(&format!("/accounts/{}/blocks", caller.account));
    assert_eq!(blocks["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_seen_by_the_very_next_request_and_a_block_took_nothing() {
    let (gateway, caller, client, _) = start("prepaid", "0.5");
    for _ in 0..3 {
        client.respond("one").await.expect(429);
        gateway.admin.grant(&caller, "0.5");
        client.respond("one").await.expect(200);
        client.respond("one").await.expect(429);
        gateway.admin.grant(&caller, "0.5");
    }
}
