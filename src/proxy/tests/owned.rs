//! Responses belong to the account that made them (I14).

use serde_json::json;

use super::world::World;

fn body(extra: &serde_json::Value) -> String {
    let mut body = json!({"model": "gpt-5.5-sim-out=20", "input": "hello"});
    body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    body.to_string()
}

#[test]
fn a_response_is_its_accounts_on_every_route_from_the_start_and_nobody_elses() {
    let world = World::new();
    for stream in [false, true] {
        let made = world.post("/v1/responses", &body(&json!({"stream": stream})));
        let told = if stream { made.events()[0]["response"].clone() } else { made.json() };
        let id = told["id"].as_str().expect("an id").to_owned();
        let continued = body(&json!({"previous_response_id": id}));
        let tries: Vec<(&str, String, &str)> = vec![
            ("GET", format!("/v1/responses/{id}"), ""),
            ("GET", format!("/v1/responses/{id}/input_items"), ""),
            ("POST", format!("/v1/responses/{id}/cancel"), ""),
            ("POST", "/v1/responses".to_owned(), &continued),
            ("POST", "/v1/responses/compact".to_owned(), &continued),
            ("POST", "/v1/responses/input_tokens".to_owned(), &continued),
            ("DELETE", format!("/v1/responses/{id}"), ""),
        ];
        let before = world.seen.count();
        for (method, target, body) in &tries {
            let answer = world.ask(method, target, &world.other.key, "", body.as_bytes());
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (404, "not_found"),
                "{method} {target} {answer:?}"
            );
        }
        assert_eq!(world.seen.count(), before, "nothing went upstream");
        for (method, target, body) in &tries {
            let answer = world.ask(method, target, &world.anna.key, "", body.as_bytes());
            let cancelled = target.ends_with("/cancel");
            assert_eq!(answer.status, if cancelled { 400 } else { 200 }, "{method} {target} {answer:?}");
        }
        for (method, target, body) in &tries {
            let answer = world.ask(method, target, &world.anna.key, "", body.as_bytes());
            // What was deleted before it was on the books is put on them afterwards: then the upstream says so.
            assert!(matches!(answer.status, 400 | 404), "deleted: {method} {target} {answer:?}");
        }
    }
}

#[test]
fn a_continued_response_is_estimated_with_what_it_continues() {
    let world = World::new();
    let long = json!({"model": "gpt-5.5-sim-out=20", "input": "a".repeat(40_000)}).to_string();
    let first = world.post("/v1/responses", &long);
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    let next = world.post("/v1/responses", &body(&json!({"previous_response_id": id})));
    let row = world.booked(next.decision());
    assert!(row.estimate.input_tokens > 10_000, "{row:?}");
}

#[test]
fn ids_of_kinds_that_no_route_makes_exist_for_nobody() {
    let world = World::new();
    for extra in [
        json!({"conversation": "conv_1"}),
        json!({"prompt": {"id": "pmpt_1"}}),
        json!({"input": [{"type": "item_reference", "id": "msg_1"}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]}),
        json!({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}),
        json!({"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}),
    ] {
        for target in ["/v1/responses", "/v1/responses/input_tokens"] {
            let answer = world.post(target, &body(&extra));
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (404, "not_found"),
                "{target} {extra} {answer:?}"
            );
        }
    }
    for id in ["resp_nobody", "compact", "input_tokens"] {
        let answer = world.ask("GET", &format!("/v1/responses/{id}"), &world.anna.key, "", b"");
        assert_eq!(answer.status, 404, "{id}");
    }
    assert_eq!(world.seen.count(), 0);
}
