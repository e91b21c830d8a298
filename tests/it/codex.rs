//! Codex CLI itself before the gateway: how it ends, what it says, what it asks for and how often, and what it records
//! as its limits.
//!
//! Each case is a user of their own, with a wire of their own to one gateway; all run side by side. `gpt-5.5*` costs a
//! credit a request, whatever its tokens, so that what is held is what is charged; `gpt-5.5-long*` costs what it tells.

mod cases;

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use self::cases::{Before, CASES, Case, Meanwhile, POLICY, Provider, STOPPED};
use crate::harness::client::ask_stream;
use crate::harness::codex::{Home, Run, impatient_provider, provider};
use crate::harness::tap::{Carried, Tap};
use crate::harness::{Caller, Gateway, Setup, packages};

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
