//! Changes one member of a body and leaves every other byte as it is.
//!
//! The upstream gets what the client wrote, not what a parser made of it: only the span of one value is replaced, or
//! one member inserted in front. A member that stands there already is never doubled.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Api;
use super::walk::Key;

/// The body is no JSON object.
#[derive(Debug, thiserror::Error)]
#[error("the body to change is not a JSON object")]
pub struct NotAnObject(#[source] serde_json::Error);

/// The body of a chat stream that asks for the usage chunk.
pub fn with_include_usage(body: &[u8]) -> Result<Vec<u8>, NotAnObject> {
    const KEY: &str = "stream_options";
    let object = text(body)?;
    let options = spans(object, KEY)?.values.pop().map(|span| &object[span]);
    let options = match options.filter(|options| options.starts_with('{')) {
        Some(options) => set(options, "include_usage", "true")?,
        None => r#"{"include_usage":true}"#.to_owned(),
    };
    set(object, KEY, &options).map(String::into_bytes)
}

/// The body with this bound on the tokens of an answer, under the name that the client used.
pub fn with_max_output_tokens(body: &[u8], max_output_tokens: u64, api: Api) -> Result<Vec<u8>, NotAnObject> {
    let object = text(body)?;
    let key = match api {
        Api::Responses | Api::Compact | Api::InputTokens => "max_output_tokens",
        Api::Chat => {
            let older = spans(object, "max_tokens")?.values.pop();
            let used = older.is_some_and(|span| &object[span] != "null");
            if used { "max_tokens" } else { "max_completion_tokens" }
        }
    };
    set(object, key, &max_output_tokens.to_string()).map(String::into_bytes)
}

fn text(body: &[u8]) -> Result<&str, NotAnObject> {
    std::str::from_utf8(body).map_err(|error| NotAnObject(serde::de::Error::custom(error)))
}

fn set(object: &str, key: &'static str, value: &str) -> Result<String, NotAnObject> {
    let found = spans(object, key)?;
    let mut out = String::with_capacity(object.len() + key.len() + value.len() + 4);
    let mut from = 0;
    for span in &found.values {
        out.push_str(&object[from..span.start]);
        out.push_str(value);
        from = span.end;
    }
    if found.values.is_empty() {
        from = object.find('{').map_or(0, |brace| brace + 1);
        out.push_str(&object[..from]);
        out.extend(["\"", key, "\":", value]);
        out.push_str(if found.empty { "" } else { "," });
    }
    out.push_str(&object[from..]);
    Ok(out)
}

/// Where the values of a member stand in an object.
struct Spans {
    /// The object has no member at all.
    empty: bool,
    values: Vec<Range<usize>>,
}

fn spans(object: &str, wanted: &'static str) -> Result<Spans, NotAnObject> {
    serde_json::Deserializer::from_str(object).deserialize_map(Finder { object, wanted }).map_err(NotAnObject)
}

struct Finder<'a> {
    object: &'a str,
    wanted: &'static str,
}

impl<'de> Visitor<'de> for Finder<'de> {
    type Value = Spans;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Spans, A::Error> {
        let mut spans = Spans { empty: true, values: Vec::new() };
        while let Some(Key(key)) = members.next_key()? {
            spans.empty = false;
            let value = members.next_value::<&'de RawValue>()?.get();
            if key == self.wanted {
                // A raw value is a part of the text that it was read from, so their distance is its place.
                let start = value.as_ptr().addr() - self.object.as_ptr().addr();
                spans.values.push(start..start + value.len());
            }
        }
        Ok(spans)
    }
}
