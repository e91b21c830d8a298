//! Reading a request: its body's encoding, the members that matter, and how many tokens it counts as.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use serde::Deserialize;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The members of a Responses or chat request that change its answer. All others are ignored.
#[derive(Deserialize)]
pub(super) struct Call<'a> {
    #[serde(borrow)]
    pub model: Option<Cow<'a, str>>,
    #[serde(default)]
    pub stream: Option<bool>,
    #[serde(default)]
    pub stream_options: Option<StreamOptions>,
    #[serde(borrow, default)]
    pub input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub instructions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub messages: Option<&'a RawValue>,
    #[serde(default)]
    pub max_output_tokens: Option<u64>,
    #[serde(default)]
    pub max_completion_tokens: Option<u64>,
    #[serde(default)]
    pub max_tokens: Option<u64>,
    #[serde(default)]
    pub n: Option<u64>,
    #[serde(borrow, default)]
    pub service_tier: Option<Cow<'a, str>>,
    #[serde(default)]
    pub background: Option<bool>,
    #[serde(default)]
    pub store: Option<bool>,
    #[serde(borrow, default)]
    pub previous_response_id: Option<Cow<'a, str>>,
}

/// `stream_options` of a chat request.
#[derive(Deserialize)]
pub(super) struct StreamOptions {
    #[serde(default)]
    pub include_usage: Option<bool>,
}

impl Call<'_> {
    /// Input tokens: the text's bytes divided by 4, rounded up. Text is a string that is `input`, `instructions` or
    /// `messages` itself, or that stands in them under `text`, `content`, `output` or `arguments`. Images and files
    /// count nothing.
    pub(super) fn input_tokens(&self) -> u64 {
        let bytes: u64 =
            [self.input, self.instructions, self.messages].into_iter().flatten().map(text_bytes).sum();
        bytes.div_ceil(4)
    }
}

/// The body without its `Content-Encoding`; at most `bytes_max` bytes long, or an error.
pub(super) fn decoded(headers: &HeaderMap, body: Bytes, bytes_max: usize) -> io::Result<Bytes> {
    match headers.get(CONTENT_ENCODING).map(http::HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(body),
        Some(b"gzip") => read_bounded(flate2::read::MultiGzDecoder::new(body.as_ref()), bytes_max),
        Some(b"zstd") => read_bounded(zstd::stream::read::Decoder::new(body.as_ref())?, bytes_max),
        Some(_) => Err(io::Error::other("content-encoding is not identity, gzip or zstd")),
    }
}

fn read_bounded(reader: impl Read, bytes_max: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::other("the decoded body is too large"));
    }
    Ok(Bytes::from(bytes))
}

fn text_bytes(json: &RawValue) -> u64 {
    let mut reader = serde_json::Deserializer::from_str(json.get());
    // A `RawValue` is valid JSON; only nesting deeper than serde_json follows ends here.
    TextBytes { is_text: true }.deserialize(&mut reader).unwrap_or(0)
}

/// Counts the bytes of text in a value without building it.
#[derive(Clone, Copy)]
struct TextBytes {
    /// Whether a string standing here is text.
    is_text: bool,
}

impl<'de> DeserializeSeed<'de> for TextBytes {
    type Value = u64;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextBytes {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<u64, E> {
        Ok(if self.is_text { u64::try_from(text.len()).unwrap_or(u64::MAX) } else { 0 })
    }

    fn visit_bool<E>(self, _: bool) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_i64<E>(self, _: i64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_u64<E>(self, _: u64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_f64<E>(self, _: f64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_unit<E>(self) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<u64, A::Error> {
        let mut sum: u64 = 0;
        while let Some(bytes) = elements.next_element_seed(self)? {
            sum = sum.saturating_add(bytes);
        }
        Ok(sum)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<u64, A::Error> {
        let mut sum: u64 = 0;
        while let Some(key) = members.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "text" | "content" | "output" | "arguments" => {
                    sum = sum.saturating_add(members.next_value_seed(Self { is_text: true })?);
                }
                "image_url" | "file_data" | "encrypted_content" => {
                    members.next_value::<IgnoredAny>()?;
                }
                _ => sum = sum.saturating_add(members.next_value_seed(Self { is_text: false })?),
            }
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http::HeaderValue;

    use super::*;

    #[test]
    fn input_counts_a_token_for_every_four_bytes_of_text_begun() {
        for (body, tokens) in [
            (r#"{"input":"12345678"}"#, 2),
            (r#"{"input":"123456789"}"#, 3),
            (r#"{"input":"a\n\u00e4"}"#, 1),
            (r#"{"input":"1234","instructions":"5678"}"#, 2),
            (r#"{"input":[{"role":"user","content":"12345678"}]}"#, 2),
            (r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"1234"}]}]}"#, 1),
            (r#"{"input":[{"type":"function_call_output","call_id":"call_1","output":"1234"}]}"#, 1),
            (
                r#"{"input":[{"content":[{"type":"input_image","image_url":"data:image/png;base64,AAAA"}]}]}"#,
                0,
            ),
            (r#"{"messages":[{"role":"user","content":"1234"},{"role":"assistant","content":null}]}"#, 1),
            (r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"x","text":"1234"}}]}]}"#, 0),
            (r#"{"input":[1,-2,3.5,true,null,{"a":{"b":[]}}]}"#, 0),
            (r"{}", 0),
        ] {
            let call: Call<'_> = serde_json::from_str(body).expect(body);
            assert_eq!(call.input_tokens(), tokens, "{body}");
        }
    }

    #[test]
    fn bodies_are_decoded_up_to_a_bound() {
        let plain = vec![b'x'; 5000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).expect("memory");
        let gzip = gzip.finish().expect("memory");
        let zstd = zstd::encode_all(&plain[..], 3).expect("memory");
        for (encoding, body) in [("identity", plain.clone()), ("gzip", gzip), ("zstd", zstd)] {
            let headers: HeaderMap =
                [(CONTENT_ENCODING, HeaderValue::from_static(encoding))].into_iter().collect();
            let body = Bytes::from(body);
            assert_eq!(decoded(&headers, body.clone(), 5000).expect(encoding), plain);
            if encoding != "identity" {
                assert!(decoded(&headers, body, 4999).is_err(), "{encoding}");
            }
        }
        let headers: HeaderMap = [(CONTENT_ENCODING, HeaderValue::from_static("br"))].into_iter().collect();
        assert!(decoded(&headers, Bytes::new(), 10).is_err());
    }
}
