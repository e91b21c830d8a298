//! Codex CLI itself before the gateway: how it ends, what it says, what it asks for and how often, and what it records
//! as its limits.
//!
//! Each case is a user of their own, with a wire of their own to one gateway; all run side by side. `gpt-5.5*` costs a
//! credit a request, whatever its tokens, so that what is held is what is charged; `gpt-5.5-long*` costs what it tells.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::client::ask_stream;
use crate::harness::codex::{Home, Run, impatient_provider, provider};
use crate::harness::tap::{Carried, Tap};
use crate::harness::{Caller, Gateway, Setup, packages};

const POLICY: &str = r#"
version: 1
prices:
  - model: "gpt-5.5-fast*"
    per_million_tokens: {input: 0, output: 0}
    per_request: 5
  - model: "gpt-5.5-long*"
    per_million_tokens: {input: 0, output: 750}
  - model: "gpt-5.5*"
    per_million_tokens: {input: 0, output: 0}
    per_request: 1
balances:
  wallet: {per: account}
features:
  codex: {apis: [responses, chat], unit: credit, when_exhausted: stop}
  sora: {apis: [videos], unit: second}
plans:
  plus:
    codex:
      waterfall:
        - name: included
          kind: rate_limit
          per: user
          windows:
            - {allow: 40, every: 5h, starts: first_use}
            - {allow: 300, every: 7d, starts: first_use}
        - {name: credits, kind: prepaid, balance: wallet}
  free:
    codex:
      waterfall:
        - name: included
          kind: free_tier
          per: user
          windows:
            - {allow: 1, every: 5h, starts: first_use}
            - {allow: 4, every: 7d, starts: first_use}
  short:
    codex:
      waterfall: [{name: included, kind: rate_limit, per: user, windows: [{allow: 1, every: 20s, starts: first_use}]}]
  payg:
    codex:
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
  capped:
    codex:
      guards: [{name: member-cap, spend: 1, every: month, time_zone: UTC, per: user}]
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
  single:
    codex:
      guards: [{name: in-flight, concurrent: 1, per: user}]
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
  video:
    sora:
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
"#;

/// What has happened to a user before the run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// They are the second in their account, and so no owner.
    Joined,
    /// They have made one request.
    Spent,
    /// Their account has been suspended.
    Suspended,
    /// Their key has been revoked.
    Revoked,
}

/// What happens on the way of its requests, so that they meet it however slow it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    /// Nothing.
    Nothing,
    /// Just before its first request arrives, the user makes another.
    Spends,
    /// A stream of the user's is in flight, until it asks again.
    Streams,
}

/// What the gateway is in the configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Provider {
    /// A provider of its own.
    Own,
    /// The same, with fewer retries.
    Impatient,
    /// In the place of the one that is built in, which is asked for a WebSocket first.
    BuiltIn,
}

/// One user's run of Codex, and what is expected of it.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    plan: &'static str,
    credits: Option<&'static str>,
    /// What has happened to the user.
    before: &'static [Before],
    meanwhile: Meanwhile,
    model: &'static str,
    provider: Provider,
    /// Requests that Codex posts.
    asks: usize,
    /// Those that get to the upstream.
    reaches: usize,
    /// How its words about the failure begin; none where it ends well.
    says: Option<&'static str>,
    /// Whether it is told limits; they are what `GET /v1/access` says.
    limits: bool,
}

const CASE: Case = Case {
    name: "",
    plan: "plus",
    credits: None,
    before: &[],
    meanwhile: Meanwhile::Nothing,
    model: "gpt-5.5",
    provider: Provider::Own,
    asks: 1,
    reaches: 0,
    says: None,
    limits: true,
};

/// The policy stops a stream for which nothing is left.
const STOPPED: &str = "credits that end in a stream";

const CASES: &[Case] = &[
    Case { name: "success", credits: Some("9.5"), reaches: 1, ..CASE },
    Case { name: "the built-in provider", provider: Provider::BuiltIn, reaches: 1, ..CASE },
    Case { name: "a tool call", model: "gpt-5.5-sim-call=exec_command", asks: 2, reaches: 2, ..CASE },
    Case {
        name: "a window spent",
        plan: "free",
        before: &[Before::Spent],
        says: Some("You’ve hit your usage limit. Try again at "),
        ..CASE
    },
    Case {
        name: "credits spent",
        plan: "payg",
        credits: Some("1"),
        before: &[Before::Spent],
        says: Some("Your workspace is out of credits. Add credits to continue."),
        ..CASE
    },
    Case {
        name: "a member's credits spent",
        plan: "payg",
        before: &[Before::Joined],
        says: Some(
            "Your workspace is out of credits. Ask your workspace owner to refill in order to continue.",
        ),
        ..CASE
    },
    Case {
        name: "a spend cap",
        plan: "capped",
        credits: Some("10"),
        before: &[Before::Spent],
        says: Some("You hit your spend cap set in your workspace. Increase your spend cap to continue."),
        ..CASE
    },
    Case {
        name: "a member's spend cap",
        plan: "capped",
        credits: Some("10"),
        before: &[Before::Joined, Before::Spent],
        says: Some(
            "You hit your spend cap set by the owner of your workspace. Ask an owner to increase your spend cap to continue.",
        ),
        ..CASE
    },
    // Its window has gone by when the others have ended: what it records is compared nowhere.
    Case {
        name: "a short limit",
        plan: "short",
        meanwhile: Meanwhile::Spends,
        asks: 2,
        reaches: 1,
        limits: false,
        ..CASE
    },
    Case {
        name: "too many at once",
        plan: "single",
        credits: Some("10"),
        meanwhile: Meanwhile::Streams,
        asks: 2,
        reaches: 1,
        ..CASE
    },
    // What it is told at the head of its stream is what was held.
    Case {
        name: STOPPED,
        plan: "payg",
        credits: Some("2"),
        model: "gpt-5.5-long-sim-out=200000+events=4000+pace=5",
        reaches: 1,
        says: Some("Quota exceeded. Check your plan and billing details."),
        limits: false,
        ..CASE
    },
    Case {
        name: "a cut stream",
        model: "gpt-5.5-sim-cut=6",
        asks: 6,
        reaches: 6,
        says: Some("stream disconnected before completion: "),
        ..CASE
    },
    Case {
        name: "overload",
        provider: Provider::Impatient,
        model: "gpt-5.5-sim-status=503",
        asks: 4,
        reaches: 4,
        says: Some("Selected model is at capacity. Please try a different model."),
        limits: false,
        ..CASE
    },
    Case {
        name: "not in the plan",
        plan: "video",
        says: Some(
            "You’ve hit your usage limit. Your plan does not include codex. Ask for a plan that does, or try again later.",
        ),
        limits: false,
        ..CASE
    },
    Case {
        name: "a suspended account",
        before: &[Before::Suspended],
        says: Some(
            "You’ve hit your usage limit. Your account is suspended. Ask whoever runs this gateway, or try again later.",
        ),
        limits: false,
        ..CASE
    },
    // It asks again as it does for whatever it does not know; none of it costs anything.
    Case {
        name: "a revoked key",
        before: &[Before::Revoked],
        asks: 6,
        says: Some("unexpected status 401 Unauthorized: Incorrect API key provided"),
        limits: false,
        ..CASE
    },
    Case {
        name: "more than ever fits",
        plan: "free",
        model: "gpt-5.5-fast",
        says: Some("{\"error\":{\"message\":\"This request is larger than"),
        limits: false,
        ..CASE
    },
    Case {
        name: "no price",
        model: "gpt-5.4",
        says: Some("The model `gpt-5.4` does not exist"),
        limits: false,
        ..CASE
    },
];

/// A run, and what came of it.
struct Ran {
    case: Case,
    caller: Caller,
    run: Run,
    carried: Vec<Carried>,
}

/// A user to whom all that has happened.
fn start(gateway: &Gateway, runtime: &tokio::runtime::Handle, case: Case) -> Caller {
    let mut caller = gateway.admin.caller(case.plan);
    if let Some(credits) = case.credits {
        gateway.admin.grant(&caller, credits);
    }
    for before in case.before {
        match before {
            Before::Joined => caller = gateway.admin.user_of(&caller.account),
            Before::Spent => {
                runtime.block_on(gateway.client(&caller).respond("gpt-5.5")).expect(200);
            }
            Before::Suspended => {
                let suspend = json!({"status": "suspended"});
                gateway.admin.call("PATCH", &format!("/accounts/{}", caller.account), Some(&suspend));
            }
            Before::Revoked => {
                let (status, _) =
                    gateway.admin.call("POST", &format!("/keys/{}/revoke", caller.key_id), None);
                assert_eq!(status, 204);
            }
        }
    }
    caller
}

/// A wire on which all that happens.
fn wire(gateway: &Gateway, runtime: &tokio::runtime::Handle, case: Case, caller: &Caller) -> Tap {
    let (client, runtime) = (gateway.client(caller), runtime.clone());
    match case.meanwhile {
        Meanwhile::Nothing => Tap::to(gateway.addr),
        Meanwhile::Spends => Tap::gated(gateway.addr, move |number| {
            if number == 0 {
                runtime.block_on(client.respond("gpt-5.5")).expect(200);
            }
        }),
        Meanwhile::Streams => {
            let body = ask_stream("gpt-5.5-sim-pace=100+events=6000");
            let stream = runtime.block_on(client.stream("/v1/responses", &body));
            let (admin, account) = (gateway.admin.clone(), caller.account.clone());
            let stream = Mutex::new(Some(stream));
            Tap::gated(gateway.addr, move |number| {
                if number == 1 {
                    drop(stream.lock().unwrap().take());
                    admin.booked_count(&account, 1);
                }
            })
        }
    }
}

fn carry_out(gateway: &Gateway, runtime: &tokio::runtime::Handle, case: Case) -> Ran {
    let caller = start(gateway, runtime, case);
    let tap = wire(gateway, runtime, case, &caller);
    let base = format!("http://{}/v1", tap.addr);
    let home = Home::new(&match case.provider {
        Provider::Own => provider(&base),
        Provider::Impatient => impatient_provider(&base),
        Provider::BuiltIn => format!("openai_base_url = \"{base}\""),
    });
    let run = home.exec(&caller.key, case.model);
    Ran { case, caller, run, carried: tap.carried() }
}

#[test]
fn codex_ends_says_asks_and_records_what_it_should() {
    let gateway = Setup::default().policy(POLICY).start();
    packages::codex();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ran: Vec<Ran> = std::thread::scope(|scope| {
        let (gateway, handle) = (&gateway, runtime.handle());
        let running: Vec<_> =
            CASES.iter().map(|case| scope.spawn(move || carry_out(gateway, handle, *case))).collect();
        running.into_iter().map(|running| running.join().expect("it runs")).collect()
    });
    let seen = gateway.upstream.seen.requests();
    let mut wrong = Vec::new();
    for ran in &ran {
        let reached = seen.iter().filter(|request| {
            request.headers.get("thread-id").is_some_and(|thread| thread == ran.run.thread())
        });
        let client = gateway.client(&ran.caller);
        let access = runtime.block_on(client.get("/v1/access"));
        let access = if ran.case.limits { access.json() } else { Value::Null };
        if let Some(found) = difference(ran, reached.count(), &access) {
            wrong.push(format!("--- {}: {found}\n{:#?}\n{}", ran.case.name, ran.run.events, ran.run.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let stopped = ran.iter().find(|ran| ran.case.name == STOPPED).expect("a case");
    let end = &gateway.admin.booked_count(&stopped.caller.account, 1)[0]["end"];
    assert_eq!(end["outcome"], "stopped", "{end}");
    gateway.audit();
}

/// The server that editors start reads what `/status` shows; its words and numbers are those of its protocol.
#[test]
fn codex_reads_its_limits_where_it_looks_for_them() {
    let gateway = Setup::default().policy(POLICY).start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    std::thread::scope(|scope| {
        for (under, path) in [("", "/api/codex/usage"), ("/backend-api", "/backend-api/wham/usage")] {
            let (gateway, runtime) = (&gateway, &runtime);
            scope.spawn(move || {
                let caller = gateway.admin.caller("plus");
                gateway.admin.grant(&caller, "9.5");
                let client = gateway.client(&caller);
                runtime.block_on(client.respond("gpt-5.5")).expect(200);
                let tap = Tap::to(gateway.addr);
                let config = format!(
                    "openai_base_url = \"http://{0}/v1\"\nchatgpt_base_url = \"http://{0}{under}\"\n\
                     cli_auth_credentials_store = \"file\"",
                    tap.addr
                );
                let answer = Home::new(&config).read_limits(&caller.key);
                let told = &answer["result"]["rateLimits"];
                let window = |told: &Value| {
                    json!({
                        "used_percent": told["usedPercent"], "window_minutes": told["windowDurationMins"],
                        "resets_at": told["resetsAt"],
                    })
                };
                let credits = &told["credits"];
                let found = json!({
                    "primary": window(&told["primary"]), "secondary": window(&told["secondary"]),
                    "credits": {"has_credits": credits["hasCredits"], "balance": credits["balance"]},
                });
                let mut expected = limits(&runtime.block_on(client.get("/v1/access")).json());
                // Whole percents are all that it reads there: 1 of 40 is 2.5, 1 of 300 is 0.3.
                expected["primary"]["used_percent"] = json!(2);
                expected["secondary"]["used_percent"] = json!(0);
                assert_eq!(found, expected, "{answer:#}");
                let asked = tap.carried();
                assert!(asked.iter().any(|request| request.line == format!("GET {path}")), "{asked:#?}");
            });
        }
    });
    assert_eq!(
        gateway
            .upstream
            .seen
            .requests()
            .iter()
            .filter(|request| request.target.path() != "/v1/models")
            .count(),
        2
    );
}

/// What is not as the case expects it.
fn difference(ran: &Ran, reached: usize, access: &Value) -> Option<String> {
    let Ran { case, run, carried, .. } = ran;
    let lines: Vec<&str> = carried.iter().map(|request| request.line.as_str()).collect();
    if run.code != Some(i32::from(case.says.is_some())) {
        return Some(format!("it ended with {:?}", run.code));
    }
    let mut expected = vec!["POST /v1/responses"; case.asks];
    if case.provider == Provider::BuiltIn {
        expected.insert(0, "GET /v1/responses");
        let noise = run.events("error");
        if !noise.is_empty() || run.stderr.contains("Falling back") {
            return Some(format!("it complains: {noise:?}"));
        }
    }
    if lines != expected {
        return Some(format!("it asked {lines:?}"));
    }
    let items = run.items();
    let calls = items.iter().any(|(kind, item)| {
        *kind == "command_execution" && item["command"].to_string().contains("echo the sea")
    });
    if calls != case.model.contains("call=") || case.says.is_none() != run.spoke() {
        return Some(format!("its items are {items:?}"));
    }
    // By itself it would ask again within half a second; how long it is told to wait depends on what is in the way.
    let least = match case.meanwhile {
        Meanwhile::Nothing => Duration::ZERO,
        Meanwhile::Spends => Duration::from_secs(1),
        Meanwhile::Streams => Duration::from_millis(4900),
    };
    if let [first, second] = &carried[..]
        && second.came - first.went < least
    {
        return Some(format!("it waited {:?}", second.came - first.went));
    }
    if reached != case.reaches {
        return Some(format!("{reached} requests reached the upstream"));
    }
    match (case.says, run.failure()) {
        (None, None) => {}
        (Some(begins), Some(said)) if said.starts_with(begins) => {}
        (_, said) => return Some(format!("it said {said:?}")),
    }
    let recorded = run.limits();
    let expected = case.limits.then(|| limits(access));
    if case.limits && recorded != expected {
        return Some(format!("it recorded {recorded:#?}, and access says {expected:#?}"));
    }
    None
}

/// What Codex should record, by what `GET /v1/access` says.
fn limits(access: &Value) -> Value {
    let codex = &access["features"][0];
    let layers = codex["layers"].as_array().expect("layers");
    let windows = layers.iter().find_map(|layer| layer["windows"].as_array());
    let window = |place: usize| windows.and_then(|windows| windows.get(place)).map_or(Value::Null, window);
    let balance = layers.iter().find_map(|layer| layer["balance"]["available"].as_str()).unwrap_or("0");
    let caps = codex["guards"].as_array().expect("guards");
    let capped = caps.iter().any(|guard| guard["limits"] == "spend" && guard["left"] == "0");
    let balance = if capped { "0" } else { balance };
    json!({
        "primary": window(0), "secondary": window(1),
        "credits": {"has_credits": balance != "0", "balance": balance},
    })
}

fn window(window: &Value) -> Value {
    let number = |member: &str| -> u64 {
        window[member].as_str().and_then(|told| told.parse().ok()).expect("a whole number")
    };
    let used_permille = (number("allow") - number("left")) * 1000 / number("allow");
    let minutes = match window["every"].as_str().expect("a length") {
        "5h" => 300,
        "7d" => 10_080,
        other => panic!("a window of {other}"),
    };
    let resets_at = window["resets_at"].as_str().map(|at| {
        let at: jiff::Timestamp = at.parse().expect("RFC 3339");
        at.as_second() + i64::from(at.subsec_nanosecond() > 0)
    });
    let used_percent = format!("{}.{}", used_permille / 10, used_permille % 10);
    let used_percent: Value = serde_json::from_str(&used_percent).expect("a number");
    json!({"used_percent": used_percent, "window_minutes": minutes, "resets_at": resets_at})
}
