use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod rewriting;

fn parse(api: Api, body: &Value) -> Result<Asked, Refused> {
    Asked::parse(api, body.to_string().as_bytes())
}

fn asked(api: Api, body: &Value) -> Asked {
    parse(api, body).unwrap_or_else(|refused| panic!("{refused}: {body}"))
}

/// A body of the Responses API with these members besides its model.
fn with(members: &Value) -> Value {
    let mut body = json!({"model": "gpt-5.5"});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

fn bad(api: Api, body: &str) -> BadRequest {
    match Asked::parse(api, body.as_bytes()) {
        Err(Refused::Bad(bad)) => bad,
        other => panic!("{body}: {other:?}"),
    }
}

fn foreign(api: Api, body: &Value) -> (ForeignKind, String) {
    match parse(api, body) {
        Err(Refused::Foreign(foreign)) => (foreign.kind, foreign.param),
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn every_member_that_matters_is_read() {
    let body =
        with(&json!({"stream": true, "max_output_tokens": 100, "service_tier": "flex", "background": true,
        "store": false, "previous_response_id": "resp_1", "input": "12345",
        "prompt_cache_options": {"mode": "explicit", "comparison_response_id": "resp_2"},
        "background_options": {"continuation_id": "resp_3"}}));
    let named = |id: &str, param| NamedResponse { id: id.into(), param };
    let expected = Asked {
        model: "gpt-5.5".into(),
        stream: true,
        include_usage: false,
        max_output_tokens: Some(100),
        choices: 1,
        service_tier: Some("flex".into()),
        background: true,
        store: Some(false),
        input_tokens_estimate: 2,
        responses: SmallVec::from_vec(vec![
            named("resp_3", "background_options.continuation_id"),
            named("resp_1", "previous_response_id"),
            named("resp_2", "prompt_cache_options.comparison_response_id"),
        ]),
    };
    let mut read = asked(Api::Responses, &body);
    read.responses.sort_by(|left, right| left.param.cmp(right.param));
    assert_eq!(read, expected);

    let chat = with(&json!({"messages": [{"role": "user", "content": "1234"}], "stream": true, "n": 3,
        "stream_options": {"include_obfuscation": false, "include_usage": true}, "max_completion_tokens": 7}));
    let read = asked(Api::Chat, &chat);
    assert_eq!((read.include_usage, read.choices, read.max_output_tokens), (true, 3, Some(7)));
    assert_eq!(asked(Api::Chat, &with(&json!({"max_tokens": 9}))).max_output_tokens, Some(9));
    assert_eq!(asked(Api::Responses, &with(&json!({"max_tokens": 9, "n": 4}))).max_output_tokens, None);
}

#[test]
fn null_is_absent() {
    let nulls = json!({"stream": null, "stream_options": null, "max_output_tokens": null, "max_tokens": null,
        "n": null, "service_tier": null, "background": null, "store": null, "previous_response_id": null,
        "conversation": null, "prompt": null, "input": null, "tools": null, "prompt_cache_options":
        {"comparison_response_id": null}, "background_options": null});
    for api in [Api::Responses, Api::Compact, Api::InputTokens, Api::Chat] {
        assert_eq!(asked(api, &with(&nulls)), asked(api, &with(&json!({}))));
    }
}

#[test]
fn bounds_that_are_no_positive_whole_number_are_refused_in_the_upstreams_words() {
    let type_error = |found| {
        format!("Invalid type for 'max_output_tokens': expected an integer, but got {found} instead.")
    };
    let low = |value| {
        format!(
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 1, but got {value} instead."
        )
    };
    let high = |value| {
        format!(
            "Invalid 'max_output_tokens': integer above maximum value. Expected a value <= 2147483647, but got {value} instead."
        )
    };
    let (wrong, below, above) = ("invalid_type", "integer_below_min_value", "integer_above_max_value");
    for (value, message, code) in [
        ("-5", low("-5"), below),
        ("0", low("0"), below),
        ("-0", low("-0"), below),
        ("-99999999999999999999999", low("-99999999999999999999999"), below),
        ("2147483648", high("2147483648"), above),
        ("18446744073709551616", high("18446744073709551616"), above),
        (&"9".repeat(400), high(&format!("{}…", "9".repeat(40))), above),
        ("1.5", type_error("a decimal number"), wrong),
        ("1.0", type_error("a decimal number"), wrong),
        ("1e3", type_error("a decimal number"), wrong),
        ("\"100\"", type_error("a string"), wrong),
        ("true", type_error("a boolean"), wrong),
        ("[1]", type_error("an array"), wrong),
        ("{}", type_error("an object"), wrong),
    ] {
        let body = format!(r#"{{"model":"m","max_output_tokens": {value} }}"#);
        let expected = BadRequest { param: Some("max_output_tokens"), message, code: Some(code) };
        assert_eq!(bad(Api::Responses, &body), expected, "{value}");
    }
    let most = asked(Api::Responses, &with(&json!({"max_output_tokens": 2_147_483_647})));
    assert_eq!(most.max_output_tokens, Some(2_147_483_647));
}

#[test]
fn other_members_of_a_wrong_kind_are_refused_by_name() {
    for (body, param, code) in [
        (r#"{"model":"m","stream":"true"}"#, "stream", "invalid_type"),
        (r#"{"model":"m","stream":1}"#, "stream", "invalid_type"),
        (r#"{"model":"m","background":"yes"}"#, "background", "invalid_type"),
        (r#"{"model":"m","store":0}"#, "store", "invalid_type"),
        (r#"{"model":7}"#, "model", "invalid_type"),
        (r#"{"model":null}"#, "model", "missing_required_parameter"),
        ("{}", "model", "missing_required_parameter"),
        (r#"{"model":"m","service_tier":[]}"#, "service_tier", "invalid_type"),
        (r#"{"model":"m","previous_response_id":{"id":"resp_1"}}"#, "previous_response_id", "invalid_type"),
        (r#"{"model":"m","n":0}"#, "n", "integer_below_min_value"),
        (r#"{"model":"m","n":129}"#, "n", "integer_above_max_value"),
        (r#"{"model":"m","max_tokens":-1}"#, "max_tokens", "integer_below_min_value"),
        (
            r#"{"model":"m","max_tokens":1,"max_completion_tokens":1}"#,
            "max_tokens",
            "invalid_parameter_combination",
        ),
        (r#"{"model":"m","stream_options":true}"#, "stream_options", "invalid_type"),
        (
            r#"{"model":"m","stream_options":{"include_usage":1}}"#,
            "stream_options.include_usage",
            "invalid_type",
        ),
        (
            r#"{"model":"m","background_options":{"continuation_id":1}}"#,
            "background_options.continuation_id",
            "invalid_type",
        ),
    ] {
        let bad = bad(Api::Chat, body);
        assert_eq!((bad.param, bad.code), (Some(param), Some(code)), "{body}");
    }
}

#[test]
fn a_repeated_member_is_refused_even_behind_an_escape() {
    for (body, param) in [
        (r#"{"model":"a","model":"b"}"#, "model"),
        (r#"{"model":"a","max_output_tokens":1,"max_output_tokens":1}"#, "max_output_tokens"),
        (r#"{"model":"a","max_output_tokens":null,"max\u005foutput_tokens":1}"#, "max_output_tokens"),
        (r#"{"model":"a","input":"x","input":[]}"#, "input"),
        (r#"{"model":"a","metadata":{},"metadata":{}}"#, "metadata"),
        (
            r#"{"model":"a","stream_options":{"include_usage":true,"include_us\u0061ge":false}}"#,
            "stream_options.include_usage",
        ),
    ] {
        let bad = bad(Api::Chat, body);
        assert_eq!((bad.param, bad.code), (Some(param), Some("duplicate_parameter")), "{body}");
    }
}

#[test]
fn what_is_no_json_object_is_refused_with_the_place() {
    for (body, message) in [
        (
            "",
            "We could not parse the JSON body of your request: EOF while parsing a value at line 1 column 0.",
        ),
        (
            "{",
            "We could not parse the JSON body of your request: EOF while parsing an object at line 1 column 1.",
        ),
        (
            "{\"model\":\n\"m\",}",
            "We could not parse the JSON body of your request: trailing comma at line 2 column 5.",
        ),
        (
            "{\"model\":\"m\"} x",
            "We could not parse the JSON body of your request: trailing characters at line 1 column 15.",
        ),
        ("[]", "Invalid type for the body of your request: expected an object, but got an array instead."),
        (
            " \"model\"",
            "Invalid type for the body of your request: expected an object, but got a string instead.",
        ),
        ("12", "Invalid type for the body of your request: expected an object, but got a number instead."),
        ("null", "Invalid type for the body of your request: expected an object, but got null instead."),
    ] {
        let bad = bad(Api::Responses, body);
        assert_eq!((bad.param, &*bad.message), (None, message), "{body:?}");
    }
    for body in [
        b"{\"model\":\"\xff\"}".as_slice(),
        b"{\"input\":\"\\ud800\"}",
        b"{\"mo\xffdel\":1}",
        b"\xef\xbb\xbf{}",
    ] {
        assert!(matches!(Asked::parse(Api::Responses, body), Err(Refused::Bad(_))), "{body:?}");
    }
    let deep = format!("{{\"model\":\"m\",\"input\":{}", "[".repeat(100_000));
    assert!(bad(Api::Responses, &deep).message.contains("recursion limit"));
}

#[test]
fn ids_of_kinds_that_no_route_creates_are_refused_with_their_path() {
    use ForeignKind::{Audio, Container, Conversation, File, Item, Prompt, Voice};
    let part = |part: Value| json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}, part]}]});
    for (members, kind, param) in [
        (json!({"conversation": "conv_1"}), Conversation, "conversation"),
        (json!({"conversation": {"id": "conv_1"}}), Conversation, "conversation"),
        (json!({"prompt": {"id": "pmpt_1", "variables": {}}}), Prompt, "prompt"),
        (part(json!({"type": "input_file", "file_id": "file-1"})), File, "input[0].content[1].file_id"),
        (part(json!({"type": "input_image", "file_id": "file-1"})), File, "input[0].content[1].file_id"),
        (
            json!({"input": [{"type": "function_call_output", "output": [{"type": "input_file", "file_id": "file-1"}]}]}),
            File,
            "input[0].output[0].file_id",
        ),
        (json!({"input": [{"type": "item_reference", "id": "msg_1"}]}), Item, "input[0].id"),
        (json!({"input": ["x", {"id": "msg_1"}]}), Item, "input[1].id"),
        (
            json!({"input": [{"id": "msg_1", "type": null, "role": null, "status": "completed"}]}),
            Item,
            "input[0].id",
        ),
        (json!({"input": [{"id": "msg_1", "content": []}]}), Item, "input[0].id"),
        (
            json!({"input": [{"type": "code_interpreter_call", "container_id": "cntr_1"}]}),
            Container,
            "input[0].container_id",
        ),
        (
            json!({"input": [{"type": "additional_tools", "tools": [{"type": "code_interpreter", "container": "cntr_1"}]}]}),
            Container,
            "input[0].tools[0].container",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]}),
            File,
            "messages[0].content[0].file.file_id",
        ),
        (
            json!({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}),
            Audio,
            "messages[0].audio.id",
        ),
        (json!({"audio": {"format": "wav", "voice": {"id": "voice_1"}}}), Voice, "audio.voice.id"),
        (
            json!({"tomorrow": {"attachments": [{"file_id": "file-1"}]}}),
            File,
            "tomorrow.attachments[0].file_id",
        ),
    ] {
        for api in [Api::Responses, Api::Compact, Api::InputTokens, Api::Chat] {
            assert_eq!(foreign(api, &with(&members)), (kind, param.to_owned()), "{members}");
        }
    }
}

#[test]
fn ids_in_tools_are_refused_with_their_path() {
    use ForeignKind::{Container, File, Skill, VectorStore};
    for (members, kind, param) in [
        (
            json!({"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}),
            Container,
            "tools[0].container",
        ),
        (
            json!({"tools": [{}, {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}}]}),
            File,
            "tools[1].container.file_ids[0]",
        ),
        (
            json!({"tools": [{"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_1"}}]}),
            Container,
            "tools[0].environment.container_id",
        ),
        (
            json!({"tools": [{"type": "shell", "environment": {"skills": [{"type": "skill_reference", "skill_id": "skl_1"}]}}]}),
            Skill,
            "tools[0].environment.skills[0].skill_id",
        ),
        (
            json!({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}),
            VectorStore,
            "tools[0].vector_store_ids[0]",
        ),
        (
            json!({"tools": [{"type": "image_generation", "input_image_mask": {"file_id": "file-1"}}]}),
            File,
            "tools[0].input_image_mask.file_id",
        ),
        (
            json!({"tools": [{"type": "namespace", "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}]}),
            VectorStore,
            "tools[0].tools[0].vector_store_ids[0]",
        ),
    ] {
        for api in [Api::Responses, Api::Compact, Api::InputTokens, Api::Chat] {
            assert_eq!(foreign(api, &with(&members)), (kind, param.to_owned()), "{members}");
        }
    }
}

#[test]
fn an_escaped_key_and_a_missing_model_do_not_hide_a_foreign_id() {
    for body in [
        r#"{"input":[{"role":"user","content":[{"file\u005fid":"file-1"}]}]}"#,
        r#"{"input":[{"role":"user","content":[{"\u0066ile_id":["file-1"]}]}]}"#,
        r#"{"pro\u006dpt":{"id":"p"}}"#,
        r#"{"input":[{"id":"x","type":"item\u005freference"}]}"#,
        r#"{"input":[{"id":"x","type":"item_reference","type":"message"}]}"#,
    ] {
        assert!(matches!(Asked::parse(Api::Responses, body.as_bytes()), Err(Refused::Foreign(_))), "{body}");
    }
}

#[test]
fn what_the_client_made_up_never_looks_like_an_id() {
    let ids = json!({"file_id": "file-1", "container": "c", "conversation": "c", "prompt": "p", "vector_store_ids": ["v"],
        "id": "x", "type": "item_reference", "image_url": "data:image/png;base64,AAAA"});
    let text = ids.to_string();
    for members in [
        json!({"tools": [{"type": "function", "name": "f", "parameters": {"properties": ids}}]}),
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": ids}}]}),
        json!({"text": {"format": {"type": "json_schema", "schema": ids}}}),
        json!({"response_format": {"type": "json_schema", "json_schema": {"schema": ids}}}),
        json!({"functions": [{"name": "f", "parameters": ids}]}),
        json!({"metadata": ids, "client_metadata": ids}),
        json!({"input": text, "instructions": text}),
        json!({"input": [{"role": "user", "content": text}, {"type": "message", "role": "assistant", "id": "msg_1",
            "content": [{"type": "output_text", "text": text}]}]}),
        json!({"input": [{"type": "function_call", "id": "fc_1", "arguments": text}]}),
        json!({"input": [{"type": "tool_search_call", "id": "ts_1", "arguments": ids}]}),
        json!({"input": [{"type": "mcp_list_tools", "id": "mcpl_1", "tools": [{"name": "f", "input_schema": ids}]}]}),
        json!({"input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}]}),
        json!({"tools": [{"type": "mcp", "server_url": "https://x", "headers": {"file_id": "x"}}]}),
        json!({"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": [], "memory_limit": "4g"}}]}),
        json!({"tools": [{"type": "file_search", "vector_store_ids": []}]}),
        json!({"audio": {"format": "wav", "voice": "alloy"}}),
        json!({"messages": [{"role": "tool", "tool_call_id": "call_1", "content": text}]}),
    ] {
        for api in [Api::Responses, Api::Chat] {
            assert!(asked(api, &with(&members)).responses.is_empty());
        }
    }
}

#[test]
fn the_input_is_estimated_by_its_text_and_its_parts() {
    let item = |content: Value| json!({"input": [{"type": "message", "role": "user", "content": content}]});
    let picture = format!("data:image/png;base64,{}", "A".repeat(4_000_000));
    for (members, tokens) in [
        (json!({}), 0),
        (json!({"input": ""}), 0),
        (json!({"input": "12345"}), 2),
        (json!({"input": "12345", "instructions": "123"}), 2),
        (json!({"input": "\u{e9}\u{e9}\n"}), 2),
        (item(json!("12345678")), 2),
        (item(json!([{"type": "input_text", "text": "1234"}, {"type": "input_text", "text": "5678"}])), 2),
        (item(json!([{"type": "input_image", "image_url": picture}])), IMAGE_TOKENS),
        (
            item(json!([{"type": "input_image", "image_url": "https://x/y.png", "detail": "high"}])),
            IMAGE_TOKENS,
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture}}]}]}),
            IMAGE_TOKENS,
        ),
        (item(json!([{"type": "input_file", "file_data": "A".repeat(100)}])), FILE_TOKENS_MIN),
        (item(json!([{"type": "input_file", "file_data": "A".repeat(850_000)}])), 10_000),
        (item(json!([{"type": "input_audio", "input_audio": {"data": "A".repeat(213_300)}}])), 100),
        (
            json!({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "A".repeat(1_600)}]}),
            100,
        ),
        (
            json!({"input": [{"type": "image_generation_call", "result": "A".repeat(1_000_000)}]}),
            IMAGE_TOKENS,
        ),
        (
            json!({"tools": [{"type": "function", "name": "1234", "parameters": {"1234": ["5678", 1, true, null]}}]}),
            4,
        ),
        (json!({"metadata": {"a": "long enough"}, "user": "somebody", "prompt_cache_key": "key"}), 0),
    ] {
        assert_eq!(
            asked(Api::Responses, &with(&members)).input_tokens_estimate,
            tokens,
            "{:.200}",
            members.to_string()
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_at_all_are_survived(body in prop::collection::vec(any::<u8>(), 0..100)) {
        let _refused = Asked::parse(Api::Responses, &body);
    }

    #[test]
    fn no_text_is_ever_taken_for_an_id(text in ".{0,40}") {
        let body = with(&json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": text}]}]}));
        let tokens = (text.len() as u64).div_ceil(BYTES_PER_TOKEN);
        prop_assert_eq!(asked(Api::Responses, &body).input_tokens_estimate, tokens);
    }
}
