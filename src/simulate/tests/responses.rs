use serde_json::json;

use super::*;
use crate::simulate::LogNormal;

/// What the official clients' types require of a response.
const REQUIRED: &[&str] = &[
    "id",
    "created_at",
    "error",
    "incomplete_details",
    "instructions",
    "metadata",
    "model",
    "object",
    "output",
    "parallel_tool_calls",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
    "status",
    "usage",
    "service_tier",
    "text",
    "truncation",
    "reasoning",
    "max_output_tokens",
    "previous_response_id",
    "store",
    "background",
];

#[tokio::test]
async fn a_response_has_every_member_and_usage_counted_from_bytes() {
    let upstream = start(options());
    let told = respond(upstream.addr, r#"{"model":"gpt-5.5","input":"123456789"}"#).await;
    assert_eq!((told.status, told.header("content-type")), (200, Some("application/json")));
    assert!(told.header("x-request-id").is_some_and(|id| id.starts_with("req_")));
    let object = told.json();
    assert_has(&object, REQUIRED);
    assert_eq!(object["object"], "response");
    assert_eq!(object["status"], "completed");
    assert_eq!(object["model"], "gpt-5.5");
    assert_eq!(object["created_at"], 1_795_365_295);
    assert_eq!(
        object["usage"],
        json!({
            "input_tokens": 3, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 16, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 19,
        })
    );
    let message = &object["output"][0];
    assert_has(message, &["id", "type", "role", "status", "content"]);
    assert_eq!(message["content"][0]["text"].as_str().map(str::len), Some(64));
    assert_has(&message["content"][0], &["type", "annotations", "logprobs"]);
}

#[tokio::test]
async fn ids_are_unique_and_connections_are_kept() {
    let upstream = start(options());
    let mut stream = TcpStream::connect(upstream.addr).await.expect("connected");
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let body = br#"{"model":"m","input":"x"}"#;
        let kept = String::from_utf8(request("POST /v1/responses", "", body)).expect("UTF-8");
        stream.write_all(kept.replace("connection: close\r\n", "").as_bytes()).await.expect("written");
        let mut bytes = vec![0; 16 << 10];
        let read = stream.read(&mut bytes).await.expect("read");
        ids.insert(answer(&bytes[..read]).json()["id"].to_string());
    }
    assert_eq!((ids.len(), upstream.seen.count()), (3, 3));
}

#[tokio::test]
async fn a_stream_sends_its_events_in_the_apis_order_one_chunk_each() {
    let upstream = start(options());
    let told =
        respond(upstream.addr, r#"{"model":"gpt-5.5-sim-out=8+events=3","stream":true,"input":"x"}"#).await;
    let events = told.events();
    let mut text = String::new();
    let mut names = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let (name, data) = data(event);
        assert_eq!(name, data["type"].as_str());
        assert_eq!(data["sequence_number"], at);
        text.push_str(data["delta"].as_str().unwrap_or_default());
        names.push(name.expect("a name").to_owned());
    }
    let delta = "response.output_text.delta";
    assert_eq!(
        names,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            delta,
            delta,
            delta,
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let (_, first) = data(&events[0]);
    assert_eq!(
        (&first["response"]["status"], &first["response"]["usage"]),
        (&json!("in_progress"), &Value::Null)
    );
    assert_has(&first["response"], REQUIRED);
    let (_, last) = data(&events[10]);
    assert_has(&last["response"], REQUIRED);
    assert_eq!(last["response"]["usage"]["output_tokens"], 8);
    assert_eq!(last["response"]["output"][0]["content"][0]["text"], text.as_str());
    assert_eq!(data(&events[7]).1["text"], text.as_str());
    assert_eq!(last["response"]["id"], first["response"]["id"]);
    let (_, delta) = data(&events[4]);
    assert_has(&delta, &["item_id", "output_index", "content_index", "delta", "logprobs"]);
}

#[tokio::test]
async fn a_maximum_below_the_planned_output_makes_the_response_incomplete() {
    let upstream = start(options());
    for (most, status, output) in [(7, "incomplete", 7), (20, "completed", 20), (21, "completed", 20)] {
        let body = |stream| {
            format!(r#"{{"model":"m-sim-out=20","input":"x","max_output_tokens":{most},"stream":{stream}}}"#)
        };
        let object = respond(upstream.addr, &body(false)).await.json();
        let events = respond(upstream.addr, &body(true)).await.events();
        let (name, last) = data(events.last().expect("an event"));
        assert_eq!(name, Some(format!("response.{status}").as_str()));
        for object in [&object, &last["response"]] {
            assert_eq!(
                (&object["status"], &object["usage"]["output_tokens"]),
                (&json!(status), &json!(output))
            );
            let reason = if most == 7 { json!({"reason": "max_output_tokens"}) } else { Value::Null };
            assert_eq!(
                (&object["incomplete_details"], &object["max_output_tokens"]),
                (&reason, &json!(most))
            );
        }
    }
    let refused = respond(upstream.addr, r#"{"model":"m","input":"x","max_output_tokens":0}"#).await;
    assert_eq!((refused.status, refused.json()["error"]["param"].as_str()), (400, Some("max_output_tokens")));
}

#[tokio::test]
async fn usage_details_tier_and_tools_are_as_asked() {
    let upstream = start(options());
    let model = "m-sim-out=10+cached=2+written=9+reasoning=4+web-search=2+tier=flex";
    let body = format!(r#"{{"model":"{model}","input":"12345678901234567890","service_tier":"priority"}}"#);
    let object = respond(upstream.addr, &body).await.json();
    assert_eq!(object["usage"]["input_tokens_details"], json!({"cached_tokens": 2, "cache_write_tokens": 3}));
    assert_eq!(object["usage"]["output_tokens_details"]["reasoning_tokens"], 4);
    assert_eq!(
        (&object["service_tier"], &object["tool_usage"]["web_search"]["num_requests"]),
        (&json!("flex"), &json!(2))
    );
    let kinds: Vec<_> =
        object["output"].as_array().expect("items").iter().map(|item| item["type"].clone()).collect();
    assert_eq!(kinds, ["web_search_call", "web_search_call", "message"]);
    assert_eq!(object["output"][2]["content"][0]["text"].as_str().map(str::len), Some(24));

    let streamed = body.replace(r#""input""#, r#""stream":true,"input""#);
    let events = respond(upstream.addr, &streamed).await.events();
    let searches = events.iter().filter(|event| event.contains("event: response.web_search_call.")).count();
    assert_eq!(searches, 6);
    let done =
        events.iter().map(|event| data(event).1).filter(|data| data["type"] == "response.output_item.done");
    assert_eq!(done.map(|data| data["output_index"].clone()).collect::<Vec<_>>(), [0, 1, 2]);

    for (asked, told) in [("auto", "default"), ("flex", "flex"), ("fast", "priority")] {
        let body = format!(r#"{{"model":"m","input":"x","service_tier":"{asked}"}}"#);
        assert_eq!(respond(upstream.addr, &body).await.json()["service_tier"], told);
    }
}

#[tokio::test]
async fn spread_lengths_come_from_the_seed() {
    let upstream = start(options());
    let lengths = LogNormal { seed: 42, spread_hundredths: 50 };
    for index in 0..5 {
        let object =
            respond(upstream.addr, r#"{"model":"m-sim-out=100+lognormal=42+spread=50","input":"x"}"#)
                .await
                .json();
        assert_eq!(object["usage"]["output_tokens"], lengths.length(index, 100));
    }
}

#[tokio::test]
async fn compaction_and_counting_answer_in_their_shapes() {
    let upstream = start(options());
    let body = r#"{"model":"m-sim-out=5","input":"12345678"}"#;
    let compaction = ask(upstream.addr, "POST /v1/responses/compact", "", body).await.json();
    assert_has(&compaction, &["id", "created_at"]);
    assert_eq!(compaction["object"], "response.compaction");
    assert_eq!(compaction["output"][0]["type"], "compaction");
    assert_eq!(compaction["usage"]["total_tokens"], 7);
    let counted = ask(upstream.addr, "POST /v1/responses/input_tokens", "", body).await.json();
    assert_eq!(counted, json!({"object": "response.input_tokens", "input_tokens": 2}));
}

#[tokio::test]
async fn a_stored_response_is_retrieved_listed_and_deleted() {
    let upstream = start(options());
    let body = r#"{"model":"m","input":[{"role":"user","content":"one"},{"id":"msg_own","type":"message","role":"user","content":[]}]}"#;
    let made = respond(upstream.addr, body).await.json();
    let path = format!("/v1/responses/{}", made["id"].as_str().expect("id"));
    assert_eq!(ask(upstream.addr, &format!("GET {path}"), "", "").await.json(), made);
    let items = ask(upstream.addr, &format!("GET {path}/input_items"), "", "").await.json();
    assert_eq!(
        (&items["object"], &items["has_more"], &items["first_id"]),
        (&json!("list"), &json!(false), &json!("msg_own"))
    );
    assert_eq!(items["data"][1]["content"][0], json!({"type": "input_text", "text": "one"}));
    assert_eq!(items["data"][1]["id"], items["last_id"]);
    let cancelled = ask(upstream.addr, &format!("POST {path}/cancel"), "", "").await;
    assert_eq!(cancelled.status, 400);
    let deleted = ask(upstream.addr, &format!("DELETE {path}"), "", "").await.json();
    assert_eq!(deleted, json!({"id": made["id"], "object": "response", "deleted": true}));
    for head in ["GET", "DELETE"] {
        let gone = ask(upstream.addr, &format!("{head} {path}"), "", "").await;
        assert_eq!(
            (gone.status, gone.json()["error"]["type"].as_str()),
            (404, Some("invalid_request_error"))
        );
    }
}

#[tokio::test]
async fn a_response_that_is_not_to_be_stored_is_not_found() {
    let upstream = start(options());
    let made = respond(upstream.addr, r#"{"model":"m","input":"x","store":false}"#).await.json();
    assert_eq!(made["store"], false);
    let path = format!("GET /v1/responses/{}", made["id"].as_str().expect("id"));
    assert_eq!(ask(upstream.addr, &path, "", "").await.status, 404);
}

#[tokio::test]
async fn a_background_response_is_queued_then_done_or_cancelled() {
    let upstream = start(options());
    let made = respond(upstream.addr, r#"{"model":"m","input":"x","background":true}"#).await.json();
    assert_eq!(
        (&made["status"], &made["usage"], &made["background"]),
        (&json!("queued"), &Value::Null, &json!(true))
    );
    let path = format!("/v1/responses/{}", made["id"].as_str().expect("id"));
    let done = ask(upstream.addr, &format!("GET {path}"), "", "").await.json();
    assert_eq!((&done["status"], &done["usage"]["output_tokens"]), (&json!("completed"), &json!(16)));
    let late = ask(upstream.addr, &format!("POST {path}/cancel"), "", "").await.json();
    assert_eq!(late["status"], "completed", "what has ended is not cancelled");
    let again = ask(upstream.addr, &format!("GET {path}?stream=true&starting_after=3"), "", "").await;
    let text = String::from_utf8_lossy(&again.raw).into_owned();
    assert!(text.contains(r#""sequence_number":4,"#) && !text.contains(r#""sequence_number":3,"#), "{text}");
    assert!(text.contains("event: response.completed"), "{text}");
}

#[tokio::test]
async fn a_background_response_is_in_progress_as_long_as_asked_and_can_be_cancelled_then() {
    let upstream = start(options());
    let model = "m-sim-runs=600000+poll-after=300";
    let body = format!(r#"{{"model":"{model}","input":"x","background":true}}"#);
    let made = respond(upstream.addr, &body).await;
    assert!(made.head.contains("openai-poll-after-ms: 300"), "{}", made.head);
    let path = format!("/v1/responses/{}", made.json()["id"].as_str().expect("id"));
    let running = ask(upstream.addr, &format!("GET {path}"), "", "").await.json();
    assert_eq!((&running["status"], &running["usage"]), (&json!("in_progress"), &Value::Null));
    for _ in 0..2 {
        let cancelled = ask(upstream.addr, &format!("POST {path}/cancel"), "", "").await.json();
        assert_eq!((&cancelled["status"], &cancelled["usage"]), (&json!("cancelled"), &Value::Null));
    }
    assert_eq!(ask(upstream.addr, &format!("GET {path}"), "", "").await.json()["status"], "cancelled");
}

#[tokio::test]
async fn the_conversation_so_far_counts_as_input() {
    let upstream = start(options());
    let first = respond(upstream.addr, r#"{"model":"m-sim-out=10","input":"12345678"}"#).await.json();
    let body = format!(r#"{{"model":"m","input":"1234","previous_response_id":{}}}"#, first["id"]);
    let second = respond(upstream.addr, &body).await.json();
    assert_eq!(
        (&second["usage"]["input_tokens"], &second["previous_response_id"]),
        (&json!(13), &first["id"])
    );
    let unknown =
        respond(upstream.addr, r#"{"model":"m","input":"x","previous_response_id":"resp_0"}"#).await;
    assert_eq!(
        (unknown.status, unknown.json()["error"]["code"].as_str()),
        (400, Some("previous_response_not_found"))
    );
}

#[tokio::test]
async fn models_are_listed() {
    let upstream = start(Options { models: vec!["a".to_owned(), "b".to_owned()], ..options() });
    let list = ask(upstream.addr, "GET /v1/models", "", "").await.json();
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"].as_array().map(Vec::len), Some(2));
    assert_has(&list["data"][0], &["id", "object", "created", "owned_by"]);
}

#[tokio::test]
async fn a_function_is_called_until_its_output_has_come() {
    let upstream = start(options());
    let tools = json!([
        {"type": "web_search"},
        {"type": "function", "name": "exec_command", "parameters": {"required": ["cmd"], "properties": {}}},
    ]);
    let ask = |model: &str, input: &Value, stream: bool| {
        json!({"model": model, "tools": tools, "input": input, "stream": stream}).to_string()
    };
    let asked = json!([{"role": "user", "content": "x"}]);
    let told = respond(upstream.addr, &ask("m-sim-call=exec_command", &asked, true)).await;
    let events: Vec<Value> = told.events().iter().map(|event| data(event).1).collect();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let item = &events[5]["item"];
    assert_eq!((&item["type"], &item["name"]), (&json!("function_call"), &json!("exec_command")));
    assert_eq!(item["arguments"], "{\"cmd\":\"echo the sea\"}");
    assert_eq!(events[3]["delta"], item["arguments"]);
    assert_eq!(events[6]["response"]["output"][0], *item);
    assert_eq!(events[6]["response"]["usage"]["output_tokens"], 6);

    let done = json!([asked[0], item, {"type": "function_call_output", "call_id": item["call_id"], "output": "the sea"}]);
    let told = respond(upstream.addr, &ask("m-sim-call=exec_command", &done, false)).await.json();
    assert_eq!(told["output"][0]["type"], "message");
    let told = respond(upstream.addr, &ask("m-sim-call=other", &asked, false)).await;
    assert_eq!((told.status, &told.json()["error"]["param"]), (400, &json!("tools")));
}
