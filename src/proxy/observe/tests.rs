use http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::units::ToolCalls;

mod cuts;

/// A Responses event as the API writes it.
pub(super) fn event(kind: &str, number: u64, rest: &Value) -> String {
    let mut data = json!({"type": kind, "sequence_number": number});
    data.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    format!("event: {kind}\ndata: {data}\n\n")
}

pub(super) fn response(status: &str, usage: &Value) -> Value {
    json!({"response": {"id": "resp_0a1b", "object": "response", "created_at": 1_795_365_295, "status": status,
        "model": "gpt-5.5-2026-04-23", "service_tier": if status == "in_progress" { "auto" } else { "priority" },
        "error": null, "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hé"}]}],
        "usage": usage, "tool_usage": {"web_search": {"num_requests": 2}}, "metadata": {"usage": "{}"}}})
}

pub(super) fn usage() -> Value {
    json!({"input_tokens": 1200, "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 10},
        "output_tokens": 34, "output_tokens_details": {"reasoning_tokens": 8}, "total_tokens": 1234})
}

pub(super) fn quantities() -> Quantities {
    Quantities {
        input_tokens: 1200,
        cached_input_tokens: 1024,
        cache_write_tokens: 10,
        output_tokens: 34,
        seconds: 0,
        tool_calls: [("web_search".into(), 2)].into_iter().collect(),
    }
}

/// A stream with every kind of event that carries output, up to its end.
pub(super) fn responses_body() -> Vec<String> {
    let item = json!({"output_index": 0, "item": {"id": "msg_1", "type": "message", "status": "completed",
        "content": [{"type": "output_text", "text": "Hé \"you\" 😀", "annotations": []}]}});
    let delta = |text: &str| json!({"item_id": "msg_1", "output_index": 0, "delta": text, "logprobs": []});
    vec![
        event("response.created", 0, &response("in_progress", &Value::Null)),
        event("response.in_progress", 1, &response("in_progress", &Value::Null)),
        ": ping\n\n".into(),
        event("response.reasoning_summary_text.delta", 2, &delta("thinking")),
        event("response.output_item.added", 3, &json!({"item": {"id": "msg_1", "content": []}})),
        event("response.output_text.delta", 4, &delta("Hé ")),
        event("response.output_text.delta", 5, &delta("\"you\"")).replace('é', "\\u00e9"),
        event("response.output_text.delta", 6, &delta(" 😀")).replace('😀', "\\ud83d\\ude00"),
        event("response.function_call_arguments.delta", 7, &delta("{\"a\\u00e9\":1}")),
        event("response.output_text.delta", 8, &delta("")),
        event("response.output_text.done", 9, &json!({"text": "Hé \"you\" 😀"})),
        event("response.output_item.done", 10, &item),
    ]
}

pub(super) fn responses_stream() -> String {
    responses_body().concat() + &event("response.completed", 11, &response("completed", &usage()))
}

pub(super) fn chat_chunk(delta: &Value, finish: &Value) -> String {
    let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5.5-x",
        "service_tier": "default", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": null});
    format!("data: {chunk}\n\n")
}

pub(super) const CHAT_USAGE: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\
    \"model\":\"gpt-5.5-x\",\"choices\":[],\"usage\":{\"prompt_tokens\":1200,\"completion_tokens\":34,\
    \"total_tokens\":1234,\"prompt_tokens_details\":{\"cached_tokens\":1024,\"cache_write_tokens\":10}}}\n\n";

pub(super) fn chat_stream() -> String {
    [
        chat_chunk(&json!({"role": "assistant", "content": ""}), &Value::Null),
        chat_chunk(&json!({"content": "Hé 😀"}), &Value::Null),
        chat_chunk(
            &json!({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{\"a\":1}"}}]}),
            &Value::Null,
        ),
        chat_chunk(&json!({}), &json!("stop")),
        CHAT_USAGE.into(),
        "data: [DONE]\n\n".into(),
    ]
    .concat()
}

pub(super) fn observer(shape: Shape, body: &str, piece: usize) -> Observer {
    let mut observer = Observer::new(shape, StatusCode::OK);
    body.as_bytes().chunks(piece).for_each(|chunk| observer.feed(chunk));
    observer
}

pub(super) fn observed(shape: Shape, body: &str) -> Observed {
    observer(shape, body, usize::MAX).end()
}

#[test]
fn a_whole_responses_stream_tells_everything() {
    assert_eq!(
        observed(Shape::ResponsesSse, &responses_stream()),
        Observed {
            resource_id: Some("resp_0a1b".into()),
            model: Some("gpt-5.5-2026-04-23".into()),
            tier: Some("priority".into()),
            terminal: Some(Terminal::Completed),
            quantities: Some(quantities()),
            output_seen: OutputSeen {
                deltas: 5,
                delta_bytes: ("thinking".len() + "Hé \"you\" 😀".len() + "{\"a\\u00e9\":1}".len()) as u64,
                item_bytes: "Hé \"you\" 😀".len() as u64,
            },
            accepted: true,
            first_event: true,
            sequence_number: Some(11),
            created_at: Some(1_795_365_295),
        }
    );
}

#[test]
fn a_whole_chat_stream_tells_everything() {
    let told = observed(Shape::ChatSse, &chat_stream());
    assert_eq!(told.quantities, Some(Quantities { tool_calls: ToolCalls::new(), ..quantities() }));
    assert_eq!((told.terminal, told.accepted, told.resource_id), (Some(Terminal::Completed), true, None));
    assert_eq!((told.model.as_deref(), told.tier.as_deref()), (Some("gpt-5.5-x"), Some("default")));
    assert_eq!(told.output_seen, OutputSeen { deltas: 2, delta_bytes: 15, item_bytes: 0 });
}

#[test]
fn every_end_of_a_response_is_known_with_its_usage() {
    for (kind, status, terminal) in [
        ("response.completed", "completed", Terminal::Completed),
        ("response.incomplete", "incomplete", Terminal::Incomplete),
        ("response.failed", "failed", Terminal::Failed),
        ("response.cancelled", "cancelled", Terminal::Cancelled),
    ] {
        let end = event(kind, 1, &response(status, &usage()));
        let unnamed = end.split_once('\n').unwrap().1.to_owned();
        let untyped = end.replace(&format!("\"type\":\"{kind}\""), "\"x\":0");
        let late = format!(
            "{}event: {kind}\n\n",
            untyped.split_once('\n').unwrap().1.trim_end_matches('\n').to_owned() + "\n"
        );
        for stream in [&end, &unnamed, &untyped, &late] {
            let told = observed(Shape::ResponsesSse, stream);
            assert_eq!((told.terminal, told.quantities), (Some(terminal), Some(quantities())), "{stream}");
        }
        let body = response(status, &usage())["response"].to_string();
        let told = observed(Shape::ResponsesJson, &body);
        assert_eq!((told.terminal, told.quantities), (Some(terminal), Some(quantities())), "{body}");
    }
}

#[test]
fn usage_that_is_null_or_missing_is_missing() {
    for usage in
        [Value::Null, json!({}), json!([]), json!("none"), json!({"input_tokens": -1, "output_tokens": 2})]
    {
        let failed = event("response.failed", 3, &response("failed", &usage));
        let told = observed(Shape::ResponsesSse, &failed);
        assert_eq!((told.terminal, told.quantities), (Some(Terminal::Failed), None), "{usage}");
        let body = response("completed", &usage)["response"].to_string();
        assert_eq!(observed(Shape::ResponsesJson, &body).quantities, None, "{usage}");
    }
    let told = observed(
        Shape::ResponsesSse,
        "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\"}}\n\n",
    );
    assert_eq!((told.terminal, told.quantities), (Some(Terminal::Completed), None));
}

#[test]
fn only_the_end_of_a_response_tells_its_usage() {
    let created = event("response.created", 0, &response("in_progress", &usage()));
    assert_eq!(observed(Shape::ResponsesSse, &created).quantities, None);
}

#[test]
fn a_repeated_end_adds_nothing_up() {
    let more = json!({"input_tokens": 1300, "output_tokens": 40});
    let stream = responses_stream()
        + &event("response.completed", 12, &response("completed", &more))
        + &event("response.failed", 13, &response("failed", &Value::Null));
    let told = observed(Shape::ResponsesSse, &stream);
    let used = told.quantities.unwrap();
    assert_eq!((told.terminal, used.input_tokens, used.output_tokens), (Some(Terminal::Completed), 1300, 40));
    let twice = observed(Shape::ResponsesSse, &(responses_stream() + &responses_stream()));
    assert_eq!(twice.quantities, Some(quantities()));
    let chat = observed(Shape::ChatSse, &(CHAT_USAGE.to_owned() + &chat_stream()));
    assert_eq!(chat.quantities.unwrap().input_tokens, 1200);
}

#[test]
fn a_stream_is_accepted_by_its_first_event_unless_that_is_an_error() {
    let created = event("response.created", 0, &response("in_progress", &Value::Null));
    for (shape, stream, accepted, terminal) in [
        (Shape::ResponsesSse, "", false, None),
        (Shape::ResponsesSse, ": ping\n\n", false, None),
        (Shape::ResponsesSse, "event: response.created\n\n", false, None),
        (Shape::ResponsesSse, &created[..created.len() / 2], false, None),
        (Shape::ResponsesSse, &*created, true, None),
        (Shape::ResponsesSse, "data: {\"type\":\"error\",\"code\":\"x\"}\n\n", false, Some(Terminal::Failed)),
        (Shape::ResponsesSse, "event: error\ndata: {\"error\":{}}\n\n", false, Some(Terminal::Failed)),
        (Shape::ResponsesSse, "data: {\"error\":{}}\n\n", false, Some(Terminal::Failed)),
        (Shape::ResponsesSse, "data: hello\n\n", false, None),
        (Shape::ChatSse, "data: {\"error\":{\"message\":\"no\"}}\n\n", false, Some(Terminal::Failed)),
        (Shape::ChatSse, "data: {\"choices\":[]}\n\n", true, None),
        (Shape::ChatSse, "data: [DONE]\n\n", true, Some(Terminal::Completed)),
        (Shape::ResponsesJson, "", true, None),
    ] {
        let told = observed(shape, stream);
        assert_eq!((told.accepted, told.terminal), (accepted, terminal), "{stream}");
    }
}

#[test]
fn a_refusal_teaches_nothing() {
    for shape in
        [Shape::ResponsesJson, Shape::ResponsesSse, Shape::ChatJson, Shape::ChatSse, Shape::CompactJson]
    {
        let mut observer = Observer::new(shape, StatusCode::TOO_MANY_REQUESTS);
        observer.feed(responses_stream().as_bytes());
        assert!(observer.ending(&Failure { kind: "k", code: "c", message: "m" }, None).is_empty());
        assert_eq!(observer.end(), Observed::default());
    }
}

#[test]
fn bodies_tell_their_usage_and_what_stands_in_for_it() {
    let chat = json!({"id": "chatcmpl-1", "model": "m", "choices": [{"message": {"content": "Hé", "tool_calls":
        [{"function": {"arguments": "{}"}}]}}], "usage": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}});
    let told = observed(Shape::ChatJson, &chat.to_string());
    let used = told.quantities.clone().unwrap();
    assert_eq!((used.input_tokens, used.output_tokens), (5, 0));
    assert_eq!((told.terminal, told.output_seen.item_bytes), (Some(Terminal::Completed), 5));

    let compact = json!({"id": "resp_001", "object": "response.compaction", "output": [{"type": "compaction",
        "encrypted_content": "gAAA"}], "created_at": 1, "usage": usage()});
    let told = observed(Shape::CompactJson, &compact.to_string());
    assert_eq!((told.resource_id.as_deref(), told.terminal), (Some("resp_001"), Some(Terminal::Completed)));
    assert_eq!(told.quantities.unwrap().output_tokens, 34);

    let queued = response("queued", &Value::Null)["response"].to_string();
    let told = observed(Shape::ResponsesJson, &queued);
    assert_eq!((told.terminal, told.quantities, told.resource_id.is_some()), (None, None, true));

    let whole = response("completed", &Value::Null)["response"].to_string();
    let cut = observed(Shape::ResponsesJson, &whole[..whole.len() - 1]);
    assert_eq!((cut.terminal, cut.output_seen.tokens()), (None, 1));
}

#[test]
fn output_that_passed_is_at_least_one_token_an_event_and_at_least_the_whole_items() {
    for (deltas, delta_bytes, item_bytes, tokens) in
        [(0, 0, 0, 0), (3, 3, 0, 3), (3, 100, 0, 25), (1, 5, 0, 2), (0, 0, 9, 3), (2, 8, 80, 20)]
    {
        assert_eq!(OutputSeen { deltas, delta_bytes, item_bytes }.tokens(), tokens);
    }
}

#[test]
fn hostile_bodies_are_survived_without_a_word_learnt() {
    let deep = "[".repeat(100_000);
    let huge = format!(
        "{{\"id\":\"{}\",\"usage\":{{\"input_tokens\":{}}}}}",
        "x".repeat(100_000),
        "9".repeat(100_000)
    );
    for body in
        ["", "null", "[]", "\"usage\"", "{\"usage\":", &deep, &huge, "{\"usage\":{\"input_tokens\":{}}}"]
    {
        for shape in [Shape::ResponsesJson, Shape::ChatJson, Shape::CompactJson] {
            let told = observed(shape, body);
            assert_eq!((told.quantities, told.resource_id), (None, None));
        }
        let told = observed(Shape::ResponsesSse, &format!("data: {body}\n\n"));
        assert_eq!((told.quantities, told.terminal), (None, None));
    }
}

proptest! {
    #[test]
    fn every_chunking_tells_the_same(pieces in prop::collection::vec(1usize..400, 1..30), crlf in any::<bool>()) {
        for (shape, body) in [
            (Shape::ResponsesSse, responses_stream()),
            (Shape::ChatSse, chat_stream()),
            (Shape::ResponsesJson, response("completed", &usage())["response"].to_string()),
        ] {
            let body = if crlf && shape.is_stream() { body.replace('\n', "\r\n") } else { body };
            let mut observer = Observer::new(shape, StatusCode::OK);
            let mut rest = body.as_bytes();
            for piece in pieces.iter().cycle() {
                let (chunk, more) = rest.split_at((*piece).min(rest.len()));
                observer.feed(chunk);
                rest = more;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(observer.end(), observed(shape, &body));
        }
    }
}
