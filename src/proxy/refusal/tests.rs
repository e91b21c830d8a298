use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::access::Reason;
use crate::proxy::headers::{Allowed, allowed};
use crate::proxy::sample::{DECISION, NOW, REQUEST_ID, Sample};
use crate::proxy::structured;
use crate::units::{Credits, Span};

/// 50 included credits spent, 13 of the 200 from the launch offer, 3 in the wallet.
fn sample() -> Sample {
    Sample::on("plus", "codex").grant("3").hold(180_000)
}

fn context(sample: &Sample, dialect: Dialect) -> Context<'_> {
    Context {
        decision: Some(DECISION),
        scene: Some(sample.scene()),
        ..Context::new(dialect, REQUEST_ID, NOW, 3)
    }
}

fn block(reason: Reason, binding: Option<&str>, wait_ms: Option<u64>, money: bool) -> Block {
    Block {
        binding: binding.map(Into::into),
        next: wait_ms.map(|ms| NOW.plus(Span::from_ms(ms))),
        need: money.then(|| "12.5".parse().unwrap()),
        have: money.then(|| "3".parse::<Credits>().unwrap()),
        ..Block::because(reason)
    }
}

fn blocks() -> Vec<Block> {
    let of = |reason| match reason {
        Reason::LimitReached => vec![
            block(reason, Some("burst"), Some(1_250), false),
            block(reason, Some("tokens"), Some(59_999), false),
            block(reason, Some("included"), Some(60_000), true),
            block(reason, Some("included"), Some(7_100_000), true),
            block(reason, Some("included"), None, false),
        ],
        Reason::SpendCapReached => vec![
            block(reason, Some("member-cap"), Some(691_504_877), true),
            block(reason, Some("member-cap"), None, true),
        ],
        Reason::HeldInFlight => vec![block(reason, Some("credits"), None, true)],
        Reason::InFlightLimit => vec![block(reason, Some("in-flight"), None, false)],
        Reason::CreditsExhausted => vec![block(reason, None, None, true)],
        Reason::NotInPlan | Reason::UnpricedModel | Reason::NeverFits => vec![Block::because(reason)],
    };
    Reason::ALL.into_iter().flat_map(of).collect()
}

fn refusals() -> Vec<Refusal> {
    let others = [
        Refusal::AccountSuspended,
        Refusal::MalformedKey(Malformed::Missing),
        Refusal::MalformedKey(Malformed::Foreign),
        Refusal::MalformedKey(Malformed::Damaged),
        Refusal::InvalidKey,
        Refusal::UnpricedModel { model: "gpt-99".to_owned() },
        Refusal::StoreUnavailable,
        Refusal::Overloaded,
        Refusal::BadRequest {
            param: Some("max_output_tokens".into()),
            message: "Invalid type for 'max_output_tokens': expected an integer.".into(),
            code: Code::InvalidType,
        },
        Refusal::NotFound,
        Refusal::NotFoundObject { what: "Response with id 'resp_1'".into(), param: None },
        Refusal::UnknownDecision,
        Refusal::KnownKey { decision: DECISION, why: Why::OtherContent },
        Refusal::KnownKey { decision: DECISION, why: Why::Running },
        Refusal::KnownKey { decision: DECISION, why: Why::NotKept },
        Refusal::KnownKey { decision: DECISION, why: Why::Unanswered },
        Refusal::UpgradeRequired,
        Refusal::LengthRequired { limit: 64 * 1024 },
        Refusal::TooLarge { limit: 32 * 1024 * 1024 },
        Refusal::BodyTimeout,
        Refusal::UnsupportedEncoding,
        Refusal::UpstreamUnreachable,
        Refusal::UpstreamTimeout,
        Refusal::UpstreamAuth,
        Refusal::Internal,
    ];
    blocks().into_iter().map(Refusal::Block).chain(others).collect()
}

fn error_of(response: &Response) -> Value {
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    body["error"].clone()
}

/// What is left is told by the same headers for every block; their own tests hold them.
fn of_standing(name: &HeaderName) -> bool {
    let begins = ["x-access-sources", "ratelimit", "x-ratelimit-", "x-codex-primary-", "x-codex-secondary-"];
    begins.iter().any(|begin| name.as_str().starts_with(begin))
}

/// Section 8: codes are stable, and this holds them.
#[test]
fn every_refusal_is_told_to_every_client_in_its_own_words() {
    let sample = sample();
    let mut told = String::new();
    for refusal in refusals() {
        for dialect in Dialect::ALL {
            let response = respond(&refusal, &context(&sample, dialect));
            let _ = writeln!(told, "=== {} to {}\n{}", refusal.as_str(), dialect.as_str(), response.status);
            for (name, value) in response.headers.iter().filter(|(name, _)| !of_standing(name)) {
                let _ = writeln!(told, "{name}: {}", value.to_str().unwrap());
            }
            let _ = writeln!(told, "{}\n", String::from_utf8_lossy(&response.body));
        }
    }
    insta::assert_snapshot!(told);
}

#[test]
fn the_words_for_programs_are_stable() {
    let types: Vec<_> = ErrorType::ALL.iter().map(|one| one.as_str()).collect();
    let codes: Vec<_> = Code::ALL.iter().map(|one| one.as_str()).collect();
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
    insta::assert_snapshot!(format!("types: {}\ncodes: {}", types.join(" "), codes.join(" ")));
}

#[test]
fn every_answer_is_whole() {
    // None of these may reach a client: they name what the gateway is made of.
    let inside = [
        "journal", "ledger", "sqlite", "redis", "postgres", "meter", "hold", "disk", "mutex", "thread",
        "pingora", "rust", "panic", "os error", "admin", "database", "upstream", "settle", "store",
    ];
    let sample = sample();
    for (refusal, dialect) in refusals().iter().flat_map(|one| Dialect::ALL.map(|dialect| (one, dialect))) {
        let response = respond(refusal, &context(&sample, dialect));
        let error = error_of(&response);
        let members = error.as_object().unwrap();
        for key in ["message", "type", "param", "code"] {
            assert!(members.contains_key(key), "{refusal:?} lacks {key}");
        }
        let message = error["message"].as_str().unwrap();
        assert!(message.ends_with('.') && message.is_ascii(), "{message}");
        let found = inside.iter().find(|word| message.to_lowercase().contains(**word));
        assert_eq!(found, None, "{message}");
        assert!(Code::ALL.iter().any(|code| error["code"] == code.as_str()));
        assert_eq!(response.headers.value("content-length"), Some(&*response.body.len().to_string()));
        assert_eq!(response.headers.value("cache-control"), Some("no-store"));
        assert_eq!(response.headers.value("x-request-id"), Some(REQUEST_ID));
        let names: Vec<_> = response.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names.iter().collect::<std::collections::HashSet<_>>().len(), names.len(), "{names:?}");
    }
}

/// Section 8, every row with a reason: the header tells it, with `next`, `need` and `have` where they are known.
#[test]
fn every_block_says_why_in_a_well_formed_header() {
    let sample = sample();
    for (block, dialect) in blocks().iter().flat_map(|one| Dialect::ALL.map(|dialect| (one, dialect))) {
        let response = respond(&Refusal::Block(block.clone()), &context(&sample, dialect));
        let decision = structured::list(response.headers.value("x-access-decision").unwrap()).unwrap();
        assert_eq!(decision[0].item, "block");
        assert_eq!(decision[0].parameter("reason"), Some(block.reason.as_str()));
        assert_eq!(decision[0].parameter("id"), Some(&*format!("\"{DECISION}\"")));
        let next = block.next.map(|at| at.since(NOW).seconds_ceil().to_string());
        assert_eq!(decision[0].parameter("next"), next.as_deref());
        let need = block.need.map(|credits| format!("\"{credits}\""));
        assert_eq!(decision[0].parameter("need"), need.as_deref());
        let sources = structured::list(response.headers.value("x-access-sources").unwrap()).unwrap();
        assert!(sources.iter().all(|source| source.parameter("take") == Some("\"0\"")), "I2");
        assert_eq!(sources.len(), 3);
    }
}

/// codex-cli.md, section 9, rule 3: Codex retries these up to 30 times and reads none of them.
#[test]
fn codex_is_never_denied_by_a_status_that_it_retries() {
    let sample = sample();
    let denials = blocks().into_iter().map(Refusal::Block).chain([Refusal::AccountSuspended]);
    for refusal in denials {
        let status = respond(&refusal, &context(&sample, Dialect::Codex)).status.as_u16();
        assert!([400, 404, 429].contains(&status), "{refusal:?}: {status}");
    }
}

/// It sits in silence for as long as `Retry-After` says, and shows `resets_at` at once.
#[test]
fn codex_is_told_a_long_limit_in_the_body_only() {
    let sample = sample();
    let refusal = Refusal::Block(block(Reason::LimitReached, Some("included"), Some(7_100_000), false));
    let response = respond(&refusal, &context(&sample, Dialect::Codex));
    assert_eq!(response.headers.value("retry-after"), None);
    assert_eq!(response.headers.value("x-should-retry"), None);
    let error = error_of(&response);
    assert_eq!(error["type"], "usage_limit_reached");
    assert_eq!(error["resets_at"], 1_795_372_396_i64);
}

#[test]
fn the_only_user_is_told_as_owner_and_others_as_members() {
    let sample = sample();
    for (reason, owner, member) in [
        (Reason::CreditsExhausted, "workspace_owner_credits_depleted", "workspace_member_credits_depleted"),
        (
            Reason::SpendCapReached,
            "workspace_owner_usage_limit_reached",
            "workspace_member_usage_limit_reached",
        ),
    ] {
        for (sole_user, told) in [(true, owner), (false, member)] {
            let context = Context { sole_user, ..context(&sample, Dialect::Codex) };
            let response = respond(&Refusal::Block(Block::because(reason)), &context);
            assert_eq!(response.headers.value("x-codex-rate-limit-reached-type"), Some(told));
        }
    }
}

#[test]
fn unknown_and_expired_keys_are_told_the_same_and_damaged_ones_are_told_so() {
    let message = |refusal: &Refusal| {
        let response = respond(refusal, &Context::new(Dialect::OpenAi, REQUEST_ID, NOW, 0));
        assert_eq!(response.status, StatusCode::UNAUTHORIZED);
        assert!(response.headers.value("www-authenticate").unwrap().starts_with("Bearer "));
        error_of(&response)["message"].as_str().unwrap().to_owned()
    };
    assert!(message(&Refusal::InvalidKey).contains("not known, or no longer valid"));
    assert!(message(&Refusal::MalformedKey(Malformed::Damaged)).contains("mistyped"));
    assert!(message(&Refusal::MalformedKey(Malformed::Foreign)).contains("not a key of this gateway"));
}

/// I1: a request that was let through keeps its decision, whatever becomes of it.
#[test]
fn a_fault_after_the_hold_shows_the_decision_that_let_it_through() {
    let sample = sample();
    let told = Allowed { decision: DECISION, draws: &sample.draws, clamped_to: None, is_degraded: false };
    let held = allowed(&sample.scene(), &told, Dialect::OpenAi, "another");
    let context = Context { held: Some(&held), ..context(&sample, Dialect::OpenAi) };
    let response = respond(&Refusal::UpstreamTimeout, &context);
    assert_eq!(response.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(response.headers.value("x-access-decision"), held.value("x-access-decision"));
    assert!(response.headers.value("x-access-decision").unwrap().starts_with("allow;"));
    assert_eq!(response.headers.value("x-request-id"), Some(REQUEST_ID));
}

#[test]
fn what_a_client_sent_is_repeated_within_bounds_and_never_in_a_header() {
    let sent = format!("\u{1b}[31m\"é\r\nset-cookie: a=b{}", "x".repeat(100_000));
    let refusals = [
        Refusal::UnpricedModel { model: sent.clone() },
        Refusal::NotFoundObject { what: sent.clone().into(), param: None },
    ];
    for refusal in refusals {
        let response = respond(&refusal, &Context::new(Dialect::Codex, REQUEST_ID, NOW, 0));
        assert!(response.body.len() < 512, "{}", response.body.len());
        assert!(error_of(&response)["message"].as_str().unwrap().contains("set-cookie"));
        assert_eq!(response.headers.value("set-cookie"), None);
    }
}

#[test]
fn without_a_scene_a_refusal_still_says_what_it_can() {
    let context = Context::new(Dialect::Codex, REQUEST_ID, NOW, 0);
    for refusal in refusals() {
        let response = respond(&refusal, &context);
        assert_eq!(response.headers.value("ratelimit"), None);
        assert!(error_of(&response)["message"].is_string());
    }
}

proptest! {
    /// Section 8: `Retry-After` is true to the second, so rounded up, and never 0, which some clients hammer on.
    #[test]
    fn retry_after_rounds_up_and_is_never_0(wait_ms in -5_000_i64..200_000) {
        let sample = sample();
        let next = Some(Timestamp::from_ms(NOW.ms() + wait_ms));
        let refusal = Refusal::Block(Block { next, ..Block::because(Reason::LimitReached) });
        let response = respond(&refusal, &context(&sample, Dialect::OpenAi));
        let number = |name: &str| response.headers.value(name).map(|value| value.parse::<i64>().unwrap());
        let seconds = number("retry-after").unwrap();
        let wait_ms = wait_ms.max(0);
        prop_assert!(seconds >= 1 && seconds * 1000 >= wait_ms);
        prop_assert!(seconds == 1 || (seconds - 1) * 1000 < wait_ms);
        if wait_ms < 60_000 {
            prop_assert_eq!(number("retry-after-ms"), Some(wait_ms.max(1)));
            prop_assert_eq!(response.headers.value("x-should-retry"), None);
            let phrase = format!("Please try again in {}.{:03}s.", wait_ms.max(1) / 1000, wait_ms.max(1) % 1000);
            prop_assert!(error_of(&response)["message"].as_str().unwrap().ends_with(&phrase));
        } else {
            prop_assert_eq!(response.headers.value("x-should-retry"), Some("false"));
            prop_assert_eq!(number("retry-after-ms"), None);
        }
    }

    /// Section 8: requests in flight end at times that nobody knows, so those who wait come back 5 to 15 s later,
    /// spread by chance; a store that is away is asked again after 1 to 5 s.
    #[test]
    fn waits_that_nobody_knows_are_spread(jitter: u64) {
        let sample = sample();
        for (refusal, seconds) in [
            (Refusal::Block(Block::because(Reason::HeldInFlight)), 5..=15),
            (Refusal::Block(Block::because(Reason::InFlightLimit)), 5..=15),
            (Refusal::StoreUnavailable, 1..=5),
            (Refusal::Overloaded, 1..=5),
        ] {
            for dialect in Dialect::ALL {
                let context = Context { jitter, ..context(&sample, dialect) };
                let response = respond(&refusal, &context);
                let told: u64 = response.headers.value("retry-after").unwrap().parse().unwrap();
                prop_assert!(seconds.contains(&told), "{told}");
            }
        }
    }
}
