use super::*;
use proptest::prelude::*;

fn action(method: &str, target: &str) -> Option<Action> {
    find(method, target.as_bytes()).map(|matched| matched.route.action)
}

fn example(route: &Route) -> String {
    match route.id {
        None => route.head.to_owned(),
        Some((IdKind::Opaque, tail)) => format!("{}resp_0a-B{tail}", route.head),
        Some((IdKind::Model, tail)) => format!("{}ft:gpt-5.5:me{tail}", route.head),
    }
}

/// I14: the table, spelled out once more, so that a change of a row's class is seen.
#[test]
fn every_route_is_in_the_table_with_exactly_one_class() {
    let rows: Vec<_> =
        TABLE.iter().map(|route| (route.method, example(route), route.class.as_str())).collect();
    let expected = [
        ("POST", "/v1/responses", "metered"),
        ("POST", "/v1/chat/completions", "metered"),
        ("POST", "/v1/responses/compact", "metered"),
        ("POST", "/v1/responses/input_tokens", "free"),
        ("GET", "/v1/responses/resp_0a-B", "owned"),
        ("DELETE", "/v1/responses/resp_0a-B", "owned"),
        ("POST", "/v1/responses/resp_0a-B/cancel", "owned"),
        ("GET", "/v1/responses/resp_0a-B/input_items", "owned"),
        ("GET", "/v1/models", "free"),
        ("GET", "/v1/models/ft:gpt-5.5:me", "free"),
        ("GET", "/v1/access", "local"),
        ("GET", "/v1/access/decisions/resp_0a-B", "local"),
        ("GET", "/api/codex/usage", "local"),
        ("GET", "/backend-api/wham/usage", "local"),
    ];
    assert_eq!(rows, expected.map(|(method, path, class)| (method, path.to_owned(), class)));
    for route in &TABLE {
        let found = action(route.method, &example(route));
        assert_eq!(found, Some(route.action), "{} {}", route.method, route.head);
    }
}

#[test]
fn a_target_goes_upstream_as_its_row_says_and_never_as_it_came() {
    for (target, upstream) in [
        (
            "/v1/responses/resp_1?stream=true&starting_after=4",
            "/v1/responses/resp_1?stream=true&starting_after=4",
        ),
        ("/v1/responses/resp_1?beta=true&include[]=x&stream", "/v1/responses/resp_1?include[]=x&stream"),
        (
            "/v1/responses/resp_1/input_items?limit=2&&order=asc",
            "/v1/responses/resp_1/input_items?limit=2&order=asc",
        ),
        ("/v1/models?limit=1", "/v1/models"),
        ("/v1/models/gpt-5.5", "/v1/models/gpt-5.5"),
    ] {
        let matched = find("GET", target.as_bytes()).expect(target);
        assert_eq!(matched.target(), upstream.as_bytes());
    }
}

#[test]
fn what_is_written_otherwise_is_no_route() {
    for target in [
        "",
        "/",
        "*",
        "/v1",
        "/v1/",
        "/v1/responses/",
        "//v1/responses",
        "/v1//responses",
        "/V1/responses",
        "/v1/Responses",
        "/v1/responses;a",
        "/v1/responses%2f",
        "/v1/%72esponses",
        "/v1/./responses",
        "/v1/x/../responses",
        "/v1/responses/.",
        "/v1/responses/..",
        "/v1/responses/%2e%2e",
        "/v1/responses/a/",
        "/v1/responses/a/cancel/",
        "/v1/responses/a//cancel",
        "/v1/responses/a/b/cancel",
        "/v1/models/..",
        "/v1/models/.hidden",
        "/v1/models/a/b",
        "/v1/models/a%2fb",
        "/v1/responses/a b",
        "/v1/responses#a",
        "/v1/responses/a\u{e9}",
        "/v1/responses?a#b",
        "/v1/responses?a\u{1}",
        "http://host/v1/responses",
        "/v1/chat/completions/x",
        "/v1/files",
        "/v1/conversations",
        "/v1/videos",
        "/v1/embeddings",
    ] {
        for method in ["GET", "POST", "DELETE", "get", "HEAD", "OPTIONS", "PUT", "PATCH", "CONNECT", "TRACE"]
        {
            assert_eq!(action(method, target), None, "{method} {target}");
        }
    }
    assert_eq!(find("GET", b"/v1/models/\xff"), None);
    assert_eq!(action("POST", &format!("/v1/responses/{}", "a".repeat(129))), None);
    assert_eq!(action("GET", &format!("/v1/models?{}", "a".repeat(2049))), None);
    assert_eq!(action("PUT", "/v1/responses"), None);
}

proptest! {
    /// Whatever is asked for: what goes upstream is a row of the table with an id of its kind.
    #[test]
    fn what_goes_upstream_is_in_the_table(
        method in "GET|POST|DELETE",
        target in "/v1/(responses|models|chat|access)(/[a-zA-Z0-9._:%/;-]{0,12}){0,3}(\\?[a-z=&%.]{0,12})?",
    ) {
        if let Some(matched) = find(&method, target.as_bytes()) {
            let upstream = matched.target();
            let again = find(&method, &upstream).expect("found again");
            prop_assert_eq!((again.route, again.id), (matched.route, matched.id));
            let path = target.split('?').next().unwrap_or_default();
            prop_assert!(upstream.starts_with(path.as_bytes()));
        }
    }
}
