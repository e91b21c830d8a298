//! Bodies of answers and of requests: what is read of a JSON text is what a tree of it says, whatever the chunks.

use http::StatusCode;
use overfall::observe::{Observed, Observer, Shape};
use overfall::proxy::demand::video::AskedVideo;
use overfall::proxy::demand::{Api, Asked, with_include_usage, with_max_output_tokens};
use serde_json::Value;

use super::{Target, came_to, pieces};

#[test]
fn fuzz_json_bodies() {
    let words = &[
        "\"usage\":",
        "{",
        "}",
        "[",
        "]",
        ",",
        "null",
        "1e3",
        "12.0",
        "-1",
        "9007199254740991",
        "18446744073709551616",
        "\"input_tokens\":",
        "\"output_tokens\":",
        "\"total_tokens\":",
        "\"input_tokens_details\":{\"cached_tokens\":3}",
        "\"prompt_tokens\":",
        "\"completion_tokens\":",
        "\"status\":\"completed\"",
        "\"id\":\"resp_1\"",
        "\"model\":\"m\"",
        "\\\"",
        "\\u0041",
        "\\ud800",
        "\"error\":{}",
        "\"service_tier\":\"flex\"",
        "\"stream\":true",
        "\"input\":\"x\"",
        "\"max_output_tokens\":",
        "\"previous_response_id\":\"resp_2\"",
        "\"stream_options\":{}",
        "\"seconds\":\"8\"",
        " ",
    ];
    Target { name: "usage", rounds: 8000, words, check }.run();
}

fn check(input: &[u8]) -> u64 {
    let answers = [Shape::ResponsesJson, Shape::ChatJson, Shape::CompactJson].map(|shape| {
        let told = observed(shape, &[input]);
        assert_eq!(observed(shape, &pieces(input)), told, "chunks do not matter");
        told
    });
    if let Ok(tree @ Value::Object(_)) = serde_json::from_slice::<Value>(input) {
        agrees_with(&tree);
    }
    let asked = [Api::Responses, Api::Chat, Api::Compact, Api::InputTokens].map(|api| request(api, input));
    let video = AskedVideo::of_json(input);
    let told = answers.map(|told| (told.terminal.map(|terminal| terminal as u8), told.quantities.is_some()));
    came_to(&(told, asked, video.is_ok()))
}

fn observed(shape: Shape, pieces: &[&[u8]]) -> Observed {
    let mut observer = Observer::new(shape, StatusCode::OK);
    for piece in pieces {
        observer.feed(piece);
    }
    assert!(
        observer.ending(&overfall::observe::Failure { kind: "", code: "", message: "" }, None).is_empty()
    );
    observer.end()
}

/// A tree is written again, each member once: then what is read of it is what stands in the tree.
fn agrees_with(tree: &Value) {
    let text = serde_json::to_vec(tree).unwrap();
    let told = observed(Shape::ResponsesJson, &[&text]);
    let usage = tree.get("usage").filter(|usage| usage.is_object());
    let count = |name: &str| usage.and_then(|usage| usage.get(name)).and_then(Value::as_u64);
    let countable = |count: u64| count < 1 << 53;
    if let (Some(input), Some(output)) = (count("input_tokens"), count("output_tokens"))
        && countable(input)
        && countable(output)
    {
        let quantities = told.quantities.clone().expect("usage");
        assert_eq!((quantities.input_tokens, quantities.output_tokens), (input, output));
        assert!(quantities.cached_input_tokens + quantities.cache_write_tokens <= input);
    }
    if tree.get("usage").is_none() {
        assert_eq!(told.quantities, None, "usage out of nothing");
    }
    if let Some(id) = tree.get("id").and_then(Value::as_str)
        && id.len() < 64
    {
        assert_eq!(told.resource_id.as_deref(), Some(id));
    }
}

/// A request that is understood can be given a bound, and says all else as before.
fn request(api: Api, body: &[u8]) -> bool {
    let Ok(asked) = Asked::parse(api, body) else { return false };
    if let Ok(bounded) = with_max_output_tokens(body, 77, api)
        && matches!(api, Api::Responses | Api::Chat)
    {
        let again = Asked::parse(api, &bounded).expect("a bounded request is one");
        assert_eq!(again.max_output_tokens, Some(77));
        assert_eq!(Asked { max_output_tokens: asked.max_output_tokens, ..again }, asked);
    }
    if api == Api::Chat
        && let Ok(with_usage) = with_include_usage(body)
    {
        let again = Asked::parse(api, &with_usage).expect("a request for usage is one");
        assert_eq!(Asked { include_usage: asked.include_usage, ..again.clone() }, asked);
        assert!(again.include_usage);
    }
    true
}
