//! Bodies changed in one member and nowhere else.

use super::*;

fn shown(body: Result<Vec<u8>, NotAnObject>) -> String {
    String::from_utf8(body.unwrap()).unwrap()
}

#[test]
fn usage_is_asked_for_and_every_other_byte_stays() {
    for (body, expected) in [
        ("{}", r#"{"stream_options":{"include_usage":true}}"#),
        (" { } ", r#" {"stream_options":{"include_usage":true} } "#),
        (
            r#" {"a" : 1.0e0, "b":"\u00e9"}"#,
            r#" {"stream_options":{"include_usage":true},"a" : 1.0e0, "b":"\u00e9"}"#,
        ),
        (r#"{"stream_options": null ,"a":1}"#, r#"{"stream_options": {"include_usage":true} ,"a":1}"#),
        (r#"{"stream_options":{},"a":1}"#, r#"{"stream_options":{"include_usage":true},"a":1}"#),
        (
            r#"{"a":1,"stream_options":{ "x":[1, 2]}}"#,
            r#"{"a":1,"stream_options":{"include_usage":true, "x":[1, 2]}}"#,
        ),
        (
            r#"{"stream\u005foptions":{"include_usage" : false, "x":1}}"#,
            r#"{"stream\u005foptions":{"include_usage" : true, "x":1}}"#,
        ),
        (
            r#"{"m":{"stream_options":{"include_usage":false}}}"#,
            r#"{"stream_options":{"include_usage":true},"m":{"stream_options":{"include_usage":false}}}"#,
        ),
    ] {
        assert_eq!(shown(with_include_usage(body.as_bytes())), expected);
    }
}

#[test]
fn a_bound_is_put_where_the_client_had_it() {
    for (api, body, expected) in [
        (Api::Responses, r#"{"a":1}"#, r#"{"max_output_tokens":812,"a":1}"#),
        (Api::Responses, r#"{"max_output_tokens" : 4096 }"#, r#"{"max_output_tokens" : 812 }"#),
        (Api::Responses, r#"{"max_output_tokens":null}"#, r#"{"max_output_tokens":812}"#),
        (Api::Chat, r#"{"a":1}"#, r#"{"max_completion_tokens":812,"a":1}"#),
        (Api::Chat, r#"{"max_tokens":4096}"#, r#"{"max_tokens":812}"#),
        (Api::Chat, r#"{"max_tokens":null}"#, r#"{"max_completion_tokens":812,"max_tokens":null}"#),
        (Api::Chat, r#"{"max_completion_tokens":4096}"#, r#"{"max_completion_tokens":812}"#),
    ] {
        assert_eq!(shown(with_max_output_tokens(body.as_bytes(), 812, api)), expected);
    }
}

#[test]
fn what_is_no_object_is_not_changed() {
    for body in [b"".as_slice(), b"[]", b"{", b"\"{}\"", b"{\"a\":\"\xff\"}"] {
        assert!(with_include_usage(body).is_err());
        assert!(with_max_output_tokens(body, 1, Api::Responses).is_err());
    }
}

proptest! {
    #[test]
    fn a_changed_body_reads_as_the_same_but_for_the_change(
        keys in prop::collection::btree_map("[a-z_é\"\\\\]{0,8}|stream_options|max_tokens", any::<Option<i32>>(), 0..6),
        max in 1u64..1 << 31,
    ) {
        let body = serde_json::to_value(&keys).unwrap();
        let text = serde_json::to_string_pretty(&body).unwrap();
        let mut expected = body.clone();
        expected["max_output_tokens"] = json!(max);
        let changed = with_max_output_tokens(text.as_bytes(), max, Api::Responses).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Value>(&changed).unwrap(), expected);

        let mut expected = body;
        expected["stream_options"] = json!({"include_usage": true});
        let changed = with_include_usage(text.as_bytes()).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Value>(&changed).unwrap(), expected);
    }
}
