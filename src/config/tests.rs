use super::*;

fn problems(text: &str) -> String {
    Config::parse("overfall.yaml", text, Path::new("/etc/overfall")).unwrap_err().to_string()
}

const LEAST: &str = "version: 1\npolicy: policy.yaml\nupstreams: [{name: openai, base_url: \"https://api.openai.com\", key: {env: KEY}}]\nstores: {data: /var/lib/overfall}\nadmin: {token: {file: token}}\n";

#[test]
fn the_deployment_file_that_we_ship_loads() {
    let config = Config::load(Path::new("config/overfall.yaml")).unwrap();
    let [upstream] = &*config.upstreams else { panic!("one upstream: {:?}", config.upstreams) };
    assert_eq!(
        (&*upstream.name, upstream.base_url.to_string().as_str()),
        ("openai", "https://api.openai.com/")
    );
    assert_eq!(upstream.key, SecretSource::Env("OPENAI_API_KEY".to_owned()));
    assert_eq!(config.policy, Path::new("config/policy.yaml"));
}

#[test]
fn what_is_left_out_has_the_documented_default_and_paths_are_relative_to_the_file() {
    let config = Config::parse("overfall.yaml", LEAST, Path::new("/etc/overfall")).unwrap();
    assert_eq!(config.listen.gateway.to_string(), "127.0.0.1:8080");
    assert_eq!(config.listen.admin.to_string(), "127.0.0.1:8081");
    assert_eq!(config.durability, Durability::Strict);
    assert_eq!(config.limits.body_bytes, 32 << 20);
    assert_eq!(config.policy, Path::new("/etc/overfall/policy.yaml"));
    assert_eq!(config.admin_token, SecretSource::File("/etc/overfall/token".into()));
    let LedgerAt::File(path) = config.ledger_at().unwrap() else { panic!("a server") };
    assert_eq!(path, Path::new("/var/lib/overfall/ledger.sqlite"));
}

#[test]
fn the_books_may_be_on_a_server_whose_address_is_a_secret() {
    let address = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(address.path(), "postgres://ada:secret@db.example/books\n").unwrap();
    let ledger = format!("ledger: {{postgres: {{file: {}}}}}", address.path().display());
    let text = LEAST.replacen("stores: {", &format!("stores: {{{ledger}, "), 1);
    assert_ne!(text, LEAST);
    let config = Config::parse("overfall.yaml", &text, Path::new("/etc/overfall")).unwrap();
    let at = config.ledger_at().unwrap();
    assert_eq!(at.to_string(), "postgres://db.example/books");
    assert!(!format!("{config:?} {at:?}").contains("ada:"));
    let wrong = text.replace("postgres: {file", "mysql: {file");
    assert!(Config::parse("overfall.yaml", &wrong, Path::new("")).is_err());
}

#[test]
fn what_is_kept_for_requests_that_come_again_is_read_and_checked() {
    let parse = |line: &str| Config::parse("overfall.yaml", &format!("{LEAST}{line}\n"), Path::new(""));
    let kept = |line: &str| parse(line).unwrap().idempotency;
    let default = kept("");
    assert_eq!(
        (default.keep.ms(), default.answer_bytes, default.total_bytes),
        (86_400_000, 1 << 20, 1 << 30)
    );
    let given = kept("idempotency: {keep: 1h, answer: 64KiB, total: 2GiB}");
    assert_eq!((given.keep.ms(), given.answer_bytes, given.total_bytes), (3_600_000, 64 << 10, 2 << 30));
    for (line, told) in [
        ("idempotency: {keep: 0s}", "6:21: the text `0s`"),
        ("idempotency: {answer: 0KiB}", "a number of bytes above zero"),
        ("idempotency: {answer: 17MiB}", "6:23: 17825792 bytes"),
        ("idempotency: {total: 1KiB}", "one answer larger than all together"),
        ("idempotency: {answer: 2MiB, total: 1MiB}", "one answer larger than all together"),
        ("idempotency: {forget: 1h}", "forget"),
    ] {
        let problems = parse(line).unwrap_err().to_string();
        assert!(problems.contains(told), "{line}: {told} is missing in\n{problems}");
    }
}

#[test]
fn how_long_it_is_known_whose_a_thing_is_is_read_and_checked() {
    let parse = |line: &str| Config::parse("overfall.yaml", &format!("{LEAST}{line}\n"), Path::new(""));
    let owned = |line: &str| parse(line).unwrap().limits.owned;
    assert_eq!(owned(""), Span::from_seconds(90 * 86_400));
    assert_eq!(owned("limits: {owned: 24h}"), Span::from_seconds(86_400));
    assert_eq!(owned("limits: {owned: 400d}"), Span::from_seconds(400 * 86_400));
    for (line, told) in [
        ("limits: {owned: 23h}", "at least 1d"),
        ("limits: {owned: 0d}", "6:17: the text `0d`"),
        ("limits: {owned: unlimited}", "6:17: the text `unlimited`"),
        ("limits: {kept: 3d}", "kept"),
    ] {
        let problems = parse(line).unwrap_err().to_string();
        assert!(problems.contains(told), "{line}: {told} is missing in\n{problems}");
    }
}

#[test]
fn every_problem_is_told_at_once_with_what_is_allowed() {
    let text = LEAST
        .replace("version: 1", "version: 2")
        .replace("https://api.openai.com", "api.openai.com/v1")
        .replace("{file: token}", "{file: token, env: TOKEN}");
    let told = problems(&format!("{text}durability: strikt\nlimits: {{body: 32MB}}\n"));
    for part in [
        "overfall.yaml:1:10: the number `2`",
        "a URL without a path, such as `https://api.openai.com`",
        "one of `env` and `file`",
        "did you mean `strict`?",
        "a number of bytes above zero",
    ] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
}

#[test]
fn upstreams_are_a_list_in_order_of_preference_each_with_a_name_of_its_own() {
    let one = "{name: openai, base_url: \"https://api.openai.com\", key: {env: KEY}}";
    let two = "{name: backup, base_url: \"https://b\", key: {env: B}, ca_file: b.pem, breaker: {failures: 3, pause: 1m}, \
               health: {path: /v1/models}}";
    let text = LEAST.replace(one, &format!("{one}, {two}"));
    let config = Config::parse("overfall.yaml", &text, Path::new("/etc/overfall")).unwrap();
    let names: Vec<_> = config.upstreams.iter().map(|upstream| &*upstream.name).collect();
    assert_eq!(names, ["openai", "backup"]);
    let [first, second] = &*config.upstreams else { panic!("two upstreams") };
    assert_eq!((first.breaker, first.health.as_ref(), &first.ca_file), (Breaker::default(), None, &None));
    assert_eq!((second.breaker.failures, second.breaker.pause), (3, Span::from_seconds(60)));
    assert_eq!(second.breaker.within, Breaker::default().within);
    assert_eq!(second.ca_file.as_deref(), Some(Path::new("/etc/overfall/b.pem")));
    assert_eq!(second.health.as_ref().unwrap().path, "/v1/models");
    for (wrong, part) in [
        (format!("{one}, {one}"), "a name that another upstream has"),
        (one.replace("openai,", "Open AI,"), "overfall.yaml:3:20"),
        (
            one.replace("{env: KEY}", "{env: KEY}, health: {path: v1}"),
            "a path of a URL, such as `/v1/models`",
        ),
        (one.replace("{env: KEY}", "{env: KEY}, breaker: {failures: 0}"), "at least 1"),
        (String::new(), "at least one item"),
    ] {
        let told = problems(&LEAST.replace(one, &wrong));
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    let old = LEAST.replace("upstreams: [", "upstream: ").replace("}]", "}");
    assert!(problems(&old).contains("did you mean `upstreams`?"));
}

#[test]
fn what_is_not_built_yet_is_an_error() {
    for line in ["jobs: {poll: 1s}", "stores: {data: x, meter: redis}"] {
        let text = if line.starts_with("stores") {
            LEAST.replace("stores: {data: /var/lib/overfall}", line)
        } else {
            format!("{LEAST}{line}\n")
        };
        assert!(Config::parse("overfall.yaml", &text, Path::new("")).is_err(), "{line}");
    }
}

#[test]
fn stores_that_several_gateways_share_are_named_by_where_their_addresses_stand() {
    let of = |stores: &str| LEAST.replace("stores: {data: /var/lib/overfall}", stores);
    let text = of(
        "stores: {data: x, meter: {redis: {env: REDIS}, cluster: true, ca_file: ca.pem}, ledger: {postgres: {file: pg}}}",
    );
    let config = Config::parse("overfall.yaml", &text, Path::new("/etc/overfall")).unwrap();
    let meter = config.meter.unwrap();
    assert_eq!((meter.address, meter.is_cluster), (SecretSource::Env("REDIS".into()), true));
    assert_eq!(meter.ca_file.as_deref(), Some(Path::new("/etc/overfall/ca.pem")));
    let postgres = SecretSource::File("/etc/overfall/pg".into());
    assert_eq!(config.ledger, LedgerStore::Postgres(postgres));
    let alone = of("stores: {data: x, ledger: {postgres: {env: PG}}}");
    assert!(Config::parse("overfall.yaml", &alone, Path::new("")).unwrap().meter.is_none());
    let told = problems(&of("stores: {data: x, meter: {redis: {env: REDIS}}}"));
    assert!(told.contains("gateways that share counts share books"), "{told}");
    let several = Secret::new("redis://a:1,redis://b:2,", "a test").unwrap();
    assert_eq!(several.parts(',').count(), 2);
}

#[test]
fn what_is_given_without_the_store_has_a_bound_and_a_store() {
    let shared = "stores: {data: x, meter: {redis: {env: REDIS}}, ledger: {postgres: {env: PG}}}";
    let of = |stores: &str, lines: &str| {
        format!("{}{lines}\n", LEAST.replace("stores: {data: /var/lib/overfall}", stores))
    };
    let both = "on_store_failure: degraded\ndegraded: {per_account: 2.5, max_nodes: 3}";
    let config = Config::parse("overfall.yaml", &of(shared, both), Path::new("")).unwrap();
    let degraded = config.degraded.unwrap();
    assert_eq!((degraded.per_account, degraded.max_nodes), ("2.5".parse().unwrap(), 3));
    let refuse = Config::parse("overfall.yaml", &of(shared, "on_store_failure: refuse"), Path::new(""));
    assert!(refuse.unwrap().degraded.is_none());
    let alone = "stores: {data: x}";
    for (stores, lines, part) in [
        (shared, "on_store_failure: degraded", "`degraded: {per_account: …, max_nodes: …}` beside it"),
        (shared, "degraded: {per_account: 1, max_nodes: 1}", "`on_store_failure: degraded` beside it"),
        (alone, both, "counts in memory are never away"),
    ] {
        let told = problems(&of(stores, lines));
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
}

#[test]
fn jobs_are_asked_for_at_a_pace_that_makes_sense() {
    let of = |line: &str| Config::parse("overfall.yaml", &format!("{LEAST}{line}\n"), Path::new(""));
    assert_eq!(of("").unwrap().jobs, Jobs::default());
    let set = of("jobs: {polls_per_second: 3, poll_first: 90s}").unwrap().jobs;
    let longest = crate::units::Span::from_seconds(90);
    assert_eq!(set, Jobs { polls_per_second: 3, poll_first: longest, poll_longest: longest });
    let told = problems(&format!("{LEAST}jobs: {{polls_per_second: 1001, poll_longest: 5s}}\n"));
    for part in
        ["jobs.polls_per_second", "1 to 1000", "jobs.poll_longest", "at least `poll_first`, which is 10 s"]
    {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    assert!(of("jobs: {polls_per_second: 0}").is_err());
}

#[test]
fn the_secret_of_webhooks_is_named_like_any_other() {
    let text = LEAST.replace("key: {env: KEY}", "key: {env: KEY}, webhook_secret: {file: hook}");
    let config = Config::parse("overfall.yaml", &text, Path::new("/etc/overfall")).unwrap();
    assert_eq!(config.upstreams[0].webhook_secret, Some(SecretSource::File("/etc/overfall/hook".into())));
    let none = Config::parse("overfall.yaml", LEAST, Path::new("")).unwrap();
    assert!(none.webhook_secrets().unwrap().is_empty());
}
