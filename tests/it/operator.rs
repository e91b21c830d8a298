//! The operator's side: accounts, keys, grants, policy, health, metrics, and the same by commands.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::admin::text;
use crate::harness::client::ask_stream;
use crate::harness::{Gateway, policies, until};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_operators_is_told_without_the_token_and_probes_need_none() {
    let gateway = Gateway::start();
    let (caller, client) = gateway.caller("free");
    for token in
        [None, Some(""), Some("wrong"), Some(caller.key.as_str()), Some("operator-token-0123456789abcdeF")]
    {
        for (method, path) in
            [("GET", "/admin/v1/accounts"), ("GET", "/admin/v1/policy"), ("POST", "/admin/v1/accounts")]
        {
            let (status, body) = gateway.admin.raw(method, path, token, None).expect("an answer");
            assert_eq!(status, 401, "{token:?} {path}: {body}");
        }
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(gateway.admin.probe(path).expect("an answer"), 200, "{path}");
        assert_eq!(client.get(path).await.status, 404, "{path} is not on the clients' listener");
    }
    assert_eq!(client.get("/admin/v1/accounts").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_lives_from_its_making_to_its_suspension() {
    let gateway = Gateway::start();
    let admin = &gateway.admin;
    let account = admin.post("/accounts", &json!({"name": "Acme, Inc.", "plan": "prepaid"}));
    let id = text(&account, "id");
    assert_eq!((&account["plan"], &account["status"]), (&json!("prepaid"), &json!("active")));
    for wrong in [
        json!({"name": "Acme, Inc.", "plan": "prepaid"}),
        json!({"name": "Other", "plan": "no-such-plan"}),
        json!({"name": "", "plan": "prepaid"}),
        json!({"name": "Other"}),
        json!({"name": "Other", "plan": "prepaid", "colour": "red"}),
    ] {
        let (status, told) = admin.call("POST", "/accounts", Some(&wrong));
        assert!(
            (400..500).contains(&status) && told["error"]["message"].is_string(),
            "{wrong}: {status} {told}"
        );
    }
    assert_eq!(admin.get(&format!("/accounts/{id}")), account);
    assert_eq!(admin.get("/accounts/Acme%2C%20Inc."), account, "by its name too");
    let user = admin.post(&format!("/accounts/{id}/users"), &json!({"name": "ann"}));
    let (status, _) = admin.call("POST", &format!("/accounts/{id}/users"), Some(&json!({"name": "ann"})));
    assert_eq!(status, 409, "a user's name is unique in its account");
    let made = admin.post(&format!("/accounts/{id}/users/ann/keys"), &json!({}));
    assert_eq!(made["user"], user["id"]);
    let listed = admin.get(&format!("/accounts/{id}/keys"));
    assert_eq!(listed["items"][0]["id"], made["id"]);
    assert_eq!(listed["items"][0]["key"], Value::Null, "a key is shown once");
    for path in ["/accounts/none", "/accounts/none/users", "/keys/key_none", "/decisions/dec_none"] {
        assert_eq!(admin.call("GET", path, None).0 / 100, 4, "{path}");
    }
    let (status, changed) = admin.call("PATCH", &format!("/accounts/{id}"), Some(&json!({"plan": "free"})));
    assert_eq!((status, &changed["plan"]), (200, &json!("free")));
    let client = crate::harness::Client::new(gateway.addr, &text(&made, "key"));
    client.respond("one").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_order_is_the_same_grant_and_another_one_under_its_key_a_conflict() {
    let mut gateway = Gateway::start();
    let caller = gateway.admin.caller("prepaid");
    let path = format!("/accounts/{}/grants", caller.account);
    let order = json!({"balance": "wallet", "amount": "2", "idempotency_key": "order-1", "note": "two"});
    let (status, first) = gateway.admin.call("POST", &path, Some(&order));
    assert_eq!(status, 201, "{first}");
    for _ in 0..3 {
        let (status, again) = gateway.admin.call("POST", &path, Some(&order));
        assert_eq!((status, &again["id"]), (200, &first["id"]), "{again}");
    }
    for member in [json!({"amount": "3"}), json!({"note": "other"}), json!({"priority": 7})] {
        let mut other = order.clone();
        other.as_object_mut().expect("an object").extend(member.as_object().expect("an object").clone());
        assert_eq!(gateway.admin.call("POST", &path, Some(&other)).0, 409, "{member}");
    }
    for wrong in [
        json!({"balance": "wallet", "amount": "2"}),
        json!({"balance": "none", "amount": "2", "idempotency_key": "a"}),
        json!({"balance": "wallet", "amount": "0", "idempotency_key": "a"}),
        json!({"balance": "wallet", "amount": "-1", "idempotency_key": "a"}),
        json!({"balance": "wallet", "amount": "1.0000001", "idempotency_key": "a"}),
        json!({"balance": "wallet", "amount": "9007199254.740992", "idempotency_key": "a"}),
        // With what is there it is more than any amount may be.
        json!({"balance": "wallet", "amount": "9007199254.740991", "idempotency_key": "a"}),
        json!({"balance": "wallet", "amount": "2", "idempotency_key": "a", "expires_at": "2020-01-01T00:00:00Z"}),
        json!({"balance": "wallet", "amount": "2", "idempotency_key": "a", "user": caller.user}),
    ] {
        let (status, told) = gateway.admin.call("POST", &path, Some(&wrong));
        assert!((400..500).contains(&status), "{wrong}: {status} {told}");
    }
    let soon = overfall::units::time::Clock::machine().now().plus(overfall::units::Span::from_ms(500));
    let brief = json!({"balance": "wallet", "amount": "1", "idempotency_key": "brief",
        "expires_at": soon.to_string()});
    let (status, first_brief) = gateway.admin.call("POST", &path, Some(&brief));
    assert_eq!(status, 201, "{first_brief}");
    tokio::time::sleep(Duration::from_millis(600)).await;
    let (status, again) = gateway.admin.call("POST", &path, Some(&brief));
    assert_eq!((status, &again["id"]), (200, &first_brief["id"]), "also when it has expired: {again}");
    gateway.stop();
    gateway.restart();
    let (status, again) = gateway.admin.call("POST", &path, Some(&order));
    assert_eq!((status, &again["id"]), (200, &first["id"]), "also after a restart: {again}");
    let client = gateway.client(&caller);
    client.respond("one").await.expect(200);
    client.respond("one").await.expect(200);
    client.respond("one").await.expect(429);
    gateway.stop();
    gateway.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_are_drawn_by_priority_and_earliest_expiry_and_expire() {
    let gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    let path = format!("/accounts/{}/grants", caller.account);
    let now = overfall::units::time::Clock::machine().now();
    let in_ms = |ms| now.plus(overfall::units::Span::from_ms(ms)).to_string();
    let order = |key: &str, priority: u64, expires_at: Option<String>| {
        let order = json!({"balance": "wallet", "amount": "1", "idempotency_key": key, "priority": priority,
            "expires_at": expires_at});
        text(&gateway.admin.post(&path, &order), "id")
    };
    let last = order("last", 100, None);
    let third = order("third", 100, Some(in_ms(86_400_000)));
    let second = order("second", 100, Some(in_ms(3_600_000)));
    let first = order("first", 1, None);
    let mut drawn = Vec::new();
    for _ in 0..4 {
        let answer = client.respond("one").await.expect(200);
        let booked = gateway.admin.booked(&answer.decision());
        drawn.push(text(&booked["end"]["draws"][0], "grant"));
    }
    assert_eq!(drawn, [first, second, third, last]);

    let soon =
        overfall::units::time::Clock::machine().now().plus(overfall::units::Span::from_ms(1200)).to_string();
    order("soon", 100, Some(soon));
    client.respond("one").await.expect(200);
    let soon =
        overfall::units::time::Clock::machine().now().plus(overfall::units::Span::from_ms(800)).to_string();
    order("sooner", 100, Some(soon));
    until("the grant expires", || {
        let updates = gateway.admin.get(&format!("/accounts/{}/balance-updates", caller.account));
        let newest = &updates["items"][0];
        (newest["kind"] == "expiry")
            .then(|| assert_eq!((&newest["amount"], &newest["after"]), (&json!("-1"), &json!("0"))))
    });
    client.respond("one").await.expect(429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_policy_is_in_force_at_once_and_a_bad_one_leaves_the_old_one() {
    let gateway = Gateway::start();
    let (caller, client) = gateway.caller("prepaid");
    gateway.admin.grant(&caller, "100");
    client.respond("one").await.expect(200);
    let version = text(&gateway.admin.get("/policy"), "version");
    let left = async || client.get("/v1/access").await.json()["features"][0]["layers"][0]["left"].clone();
    until("the first call is finished", || {
        gateway.admin.metrics().contains("overfall_calls_ended_total").then_some(())
    });
    assert_eq!(left().await, "99");

    let dearer = policies::EVERY_REASON.replace("per_request: 1\n", "per_request: 2\n");
    std::fs::write(gateway.policy_file(), &dearer).expect("written");
    let in_force = |wanted: &dyn Fn(&str) -> bool| {
        until("the policy is read again", || {
            let found = text(&gateway.admin.get("/policy"), "version");
            wanted(&found).then_some(found)
        })
    };
    let changed = in_force(&|found| found != version);
    let answer = client.respond("one").await.expect(200);
    assert_eq!(answer.told("policy"), Some(changed.clone()));
    assert_eq!(left().await, "97", "two credits by the new policy");

    let refused = || gateway.admin.metric("overfall_policy_file_refused", &[]);
    assert!(refused() < 0.5);
    for bad in
        [dearer.replace("allow: 3,", "allow: 0,"), "version: 1\n".to_owned(), "\t".to_owned(), String::new()]
    {
        std::fs::write(gateway.policy_file(), bad).expect("written");
        until("the bad file is told in the metric", || (refused() > 0.5).then_some(()));
        assert_eq!(text(&gateway.admin.get("/policy"), "version"), changed);
        client.respond("one").await.expect(200);
        std::fs::write(gateway.policy_file(), &dearer).expect("written");
        until("the good file is told in the metric", || (refused() < 0.5).then_some(()));
    }
    assert!(gateway.log().contains("the old policy stays"), "the log says so");
    assert!(gateway.log().contains("policy.yaml:"), "and where the mistakes are");

    // An editor writes a new file and moves it over the old one.
    let beside = gateway.policy_file().with_extension("new");
    std::fs::write(&beside, policies::EVERY_REASON).expect("written");
    std::fs::rename(&beside, gateway.policy_file()).expect("moved");
    in_force(&|found| found == version);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_read_again_on_sighup_and_when_the_operator_says_so() {
    let gateway = Gateway::start();
    let reads = || {
        ["applied", "unchanged", "refused"]
            .iter()
            .map(|outcome| gateway.admin.metric("overfall_policy_reloads_total", &[outcome]))
            .sum::<f64>()
    };
    let before = reads();
    gateway.process.signal(rustix::process::Signal::HUP);
    let after = until("it is read on SIGHUP", || (reads() > before).then(&reads));
    assert_eq!(gateway.admin.call("POST", "/policy/reload", None).0, 202);
    until("it is read when it is said", || (reads() > after).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_lists_every_route_of_the_operators() {
    let gateway = Gateway::start();
    let document = gateway.admin.get("/openapi.json");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{document}");
    let mut listed = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            assert!(operation["responses"].is_object(), "{method} {path}");
            listed.push(format!("{} {path}", method.to_uppercase()));
        }
    }
    listed.sort();
    assert_eq!(
        listed,
        [
            "GET /admin/v1/accounts",
            "GET /admin/v1/accounts/{account}",
            "GET /admin/v1/accounts/{account}/adjustments",
            "GET /admin/v1/accounts/{account}/balance-updates",
            "GET /admin/v1/accounts/{account}/blocks",
            "GET /admin/v1/accounts/{account}/decisions",
            "GET /admin/v1/accounts/{account}/grants",
            "GET /admin/v1/accounts/{account}/keys",
            "GET /admin/v1/accounts/{account}/users",
            "GET /admin/v1/accounts/{account}/users/{user}/access",
            "GET /admin/v1/decisions/{decision}",
            "GET /admin/v1/policy",
            "PATCH /admin/v1/accounts/{account}",
            "POST /admin/v1/accounts",
            "POST /admin/v1/accounts/{account}/adjustments",
            "POST /admin/v1/accounts/{account}/grants",
            "POST /admin/v1/accounts/{account}/rerate",
            "POST /admin/v1/accounts/{account}/users",
            "POST /admin/v1/accounts/{account}/users/{user}/explain",
            "POST /admin/v1/accounts/{account}/users/{user}/keys",
            "POST /admin/v1/decisions/{decision}/refunds",
            "POST /admin/v1/keys/{key}/revoke",
            "POST /admin/v1/policy/reload",
        ]
    );
    // Whatever refers to a schema finds it.
    let text = document.to_string();
    for name in text.split("#/components/schemas/").skip(1).filter_map(|part| part.split('"').next()) {
        assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_metrics_are_bounded_by_the_code_and_the_policy() {
    let gateway = Gateway::start();
    let (caller, client) = gateway.caller("free");
    let (_, broke) = gateway.caller("prepaid");
    let drive = async |models: &[&str]| {
        for model in models {
            client.respond(model).await;
            client.stream("/v1/responses", &ask_stream(model)).await.rest().await;
            broke.respond(model).await;
        }
    };
    let series = || -> Vec<String> {
        let text = gateway.admin.metrics();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    };
    // What settlement and the gauges tell comes a while after the answers: the series are all there when no more come.
    let settled = async || {
        let (mut told, mut looks) = (series(), 0);
        while looks < 16 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let now = series();
            looks = if now.len() == told.len() { looks + 1 } else { 0 };
            told = now;
        }
        told
    };
    drive(&["one-sim-out=1", "one-sim-out=2+status=500", "gpt-4o"]).await;
    let mut before = settled().await;
    drive(&["one-sim-out=3", "one-sim-out=4+status=500", "gpt-4o-mini", "one-sim-out=5"]).await;
    let (_, another) = gateway.caller("prepaid");
    another.respond("one").await;
    let mut after = settled().await;
    before.sort();
    after.sort();
    assert_eq!(before, after, "more models, accounts and users, and no more series");
    for told in &after {
        for secret in [&caller.account, &caller.user, &caller.key_id] {
            assert!(!told.contains(secret.as_str()), "{told}");
        }
        assert!(!told.contains("gpt-") && !told.contains("sim-") && !told.contains("\"one"), "{told}");
        assert!(told.starts_with("overfall_"), "{told}");
    }
    let text = gateway.admin.metrics();
    let page = include_str!("../../docs/operations.md");
    for name in after.iter().map(|told| told.split('{').next().expect("a name")) {
        let base =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(
            text.contains(&format!("# HELP {base} ")) || text.contains(&format!("# HELP {name} ")),
            "{name} is explained"
        );
        assert!([base, name].iter().any(|name| page.contains(&format!("`{name}`"))), "{name} is documented");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_do_what_the_api_does_with_and_without_a_gateway() {
    let mut gateway = Gateway::start();
    let run = |gateway: &Gateway, words: &[&str]| -> Value {
        let output = gateway.command(&[words, &["--json"]].concat());
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {told}{}", String::from_utf8_lossy(&output.stderr));
        if told.trim().is_empty() { Value::Null } else { serde_json::from_str(&told).expect("JSON") }
    };
    for round in ["with", "without"] {
        let name = format!("acme-{round}");
        run(&gateway, &["account", "create", &name, "--plan", "prepaid"]);
        run(&gateway, &["user", "create", "ann", "--account", &name]);
        let made = run(&gateway, &["key", "create", "--account", &name, "--user", "ann"]);
        let grant = ["grant", "create", "--account", &name, "--balance", "wallet", "--amount", "12.5"];
        let key = ["--idempotency-key", "order-1"];
        let first = run(&gateway, &[&grant[..], &key].concat());
        assert_eq!(run(&gateway, &[&grant[..], &key].concat())["id"], first["id"], "{round}");
        let shown = run(&gateway, &["account", "show", &name]);
        assert_eq!(
            shown["users"][0]["access"]["features"][0]["layers"][0]["left"], "12.5",
            "{round}: {shown}"
        );
        let explain = ["policy", "explain", "--account", &name, "--user", "ann", "--model"];
        assert_eq!(run(&gateway, &[&explain[..], &["one"]].concat())["decision"], "allow", "{round}");
        assert_eq!(
            run(&gateway, &[&explain[..], &["gpt-4o"]].concat())["reason"],
            "unpriced-model",
            "{round}"
        );
        let doomed = run(&gateway, &["key", "create", "--account", &name, "--user", "ann"]);
        run(&gateway, &["key", "revoke", &text(&doomed, "id")]);
        assert_eq!(
            run(&gateway, &["grant", "list", "--account", &name]).as_array().map(Vec::len),
            Some(1),
            "{round}"
        );
        assert!(
            !gateway.command(&["account", "create", &name, "--plan", "prepaid"]).status.success(),
            "{round}"
        );
        gateway.audit();
        if round == "with" {
            gateway.stop();
        } else {
            gateway.restart();
        }
        if round == "without" {
            let client = crate::harness::Client::new(gateway.addr, &text(&made, "key"));
            client.respond("one").await.expect(200);
            crate::harness::Client::new(gateway.addr, &text(&doomed, "key")).respond("one").await.expect(401);
        }
    }
}
