use serde_json::json;

use super::*;

async fn chat(addr: SocketAddr, body: &str) -> Answer {
    ask(addr, "POST /v1/chat/completions", "", body).await
}

fn chunks(events: &[String]) -> Vec<Value> {
    assert_eq!(events.last().map(String::as_str), Some("data: [DONE]\n\n"));
    events[..events.len() - 1].iter().map(|event| data(event).1).collect()
}

#[tokio::test]
async fn a_completion_has_every_member_and_as_many_choices_as_asked() {
    let upstream = start(options());
    let body = r#"{"model":"gpt-5.5-sim-out=6","n":2,"messages":[{"role":"user","content":"12345678"}]}"#;
    let object = chat(upstream.addr, body).await.json();
    assert_has(&object, &["id", "created", "model", "service_tier", "system_fingerprint"]);
    assert_eq!(object["object"], "chat.completion");
    let choices = object["choices"].as_array().expect("choices");
    assert_eq!(choices.len(), 2);
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(index), &json!("stop")));
        assert_has(&choice["message"], &["role", "content", "refusal"]);
        assert!(choice.get("logprobs").is_some());
    }
    let usage = &object["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(2), &json!(12)));
    assert_eq!(usage["total_tokens"], 14);
    assert_has(usage, &["prompt_tokens_details", "completion_tokens_details"]);
}

#[tokio::test]
async fn either_maximum_stops_a_completion() {
    let upstream = start(options());
    for member in ["max_tokens", "max_completion_tokens"] {
        let body = format!(r#"{{"model":"m-sim-out=20","{member}":3,"messages":[]}}"#);
        let object = chat(upstream.addr, &body).await.json();
        assert_eq!(object["choices"][0]["finish_reason"], "length");
        assert_eq!(object["usage"]["completion_tokens"], 3);
    }
    let both = r#"{"model":"m-sim-out=20","max_tokens":3,"max_completion_tokens":5,"messages":[]}"#;
    assert_eq!(chat(upstream.addr, both).await.json()["usage"]["completion_tokens"], 5);
}

#[tokio::test]
async fn with_include_usage_every_chunk_has_it_null_and_one_more_without_choices_tells_it() {
    let upstream = start(options());
    let body = r#"{"model":"m-sim-out=4","stream":true,"stream_options":{"include_usage":true},"messages":[{"content":"1234"}]}"#;
    let chunks = chunks(&chat(upstream.addr, body).await.events());
    assert_eq!(chunks.len(), 1 + 4 + 1 + 1);
    let (last, others) = chunks.split_last().expect("chunks");
    for chunk in others {
        assert_eq!(chunk.get("usage"), Some(&Value::Null), "{chunk}");
        assert_eq!(chunk["choices"].as_array().map(Vec::len), Some(1));
        assert_eq!(chunk["id"], last["id"]);
    }
    assert_eq!(last["choices"], json!([]));
    assert_eq!(
        (&last["usage"]["prompt_tokens"], &last["usage"]["completion_tokens"]),
        (&json!(1), &json!(4))
    );
    assert_eq!(others[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(others[5]["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn without_include_usage_no_chunk_has_a_usage_member() {
    let upstream = start(options());
    for options in ["", r#""stream_options":{"include_usage":false},"#, r#""stream_options":{},"#] {
        let body = format!(r#"{{"model":"m-sim-out=4",{options}"stream":true,"messages":[]}}"#);
        let chunks = chunks(&chat(upstream.addr, &body).await.events());
        assert_eq!(chunks.len(), 6);
        assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
    }
}

#[tokio::test]
async fn a_stream_interleaves_its_choices() {
    let upstream = start(options());
    let body = r#"{"model":"m-sim-out=2","n":2,"stream":true,"messages":[]}"#;
    let chunks = chunks(&chat(upstream.addr, body).await.events());
    let indices: Vec<_> = chunks.iter().map(|chunk| chunk["choices"][0]["index"].clone()).collect();
    assert_eq!(indices, [0, 1, 0, 1, 0, 1, 0, 1]);
}

#[tokio::test]
async fn a_failure_is_an_error_in_the_stream_and_a_status_without_one() {
    let upstream = start(options());
    let body = r#"{"model":"m-sim-out=2+failed","stream":true,"messages":[]}"#;
    let events = chat(upstream.addr, body).await.events();
    assert_eq!(data(events.last().expect("an event")).1["error"]["code"], "server_error");
    assert_eq!(events.len(), 4);
    let told = chat(upstream.addr, r#"{"model":"m-sim-failed","messages":[]}"#).await;
    assert_eq!((told.status, told.json()["error"]["type"].as_str()), (500, Some("server_error")));
}

#[tokio::test]
async fn usage_is_withheld_blank_or_told_twice_as_asked() {
    let upstream = start(options());
    for (words, usages) in [
        ("no-usage", vec![]),
        ("null-usage", vec![Value::Null]),
        ("duplicate-terminal", vec![json!(3), json!(3)]),
    ] {
        let body = format!(
            r#"{{"model":"m-sim-out=3+{words}","stream":true,"stream_options":{{"include_usage":true}},"messages":[]}}"#
        );
        let chunks = chunks(&chat(upstream.addr, &body).await.events());
        let told: Vec<_> = chunks
            .iter()
            .filter(|chunk| chunk["choices"] == json!([]))
            .map(|chunk| chunk["usage"]["completion_tokens"].clone())
            .collect();
        assert_eq!(told, usages, "{words}");
    }
    let body = r#"{"model":"m-sim-out=3+no-terminal","stream":true,"messages":[]}"#;
    let events = chat(upstream.addr, body).await.events();
    assert_eq!(data(events.last().expect("an event")).1["choices"][0]["finish_reason"], "stop");
}
