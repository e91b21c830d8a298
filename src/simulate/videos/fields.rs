//! What a body of the Videos API says, JSON or form. Read as a lenient server reads it.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use crate::simulate::errors::ApiError;

/// The fields that matter.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) prompt: Option<String>,
    pub(super) model: Option<String>,
    pub(super) seconds: Option<u64>,
    pub(super) size: Option<String>,
    pub(super) name: Option<String>,
    /// The id of the video that it is made out of.
    pub(super) source: Option<String>,
}

impl Fields {
    /// Reads a body, or the beginning of a form.
    pub(super) fn of(headers: &HeaderMap, body: &Bytes) -> Result<Self, ApiError> {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if let Some((_, boundary)) = kind.split_once("boundary=") {
            return Ok(Self::of_form(boundary.split(';').next().unwrap_or_default().trim_matches('"'), body));
        }
        if body.is_empty() {
            return Ok(Self::default());
        }
        let json: Value = serde_json::from_slice(body)
            .map_err(|error| ApiError::invalid(None, None, format!("Invalid body: {error}.")))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(Self {
            prompt: text(&json["prompt"]),
            model: text(&json["model"]),
            seconds: json["seconds"].as_u64().or_else(|| json["seconds"].as_str()?.parse().ok()),
            size: text(&json["size"]),
            name: text(&json["name"]),
            source: text(&json["video"]["id"]),
        })
    }

    fn of_form(boundary: &str, body: &[u8]) -> Self {
        let mut fields = Self::default();
        let text = String::from_utf8_lossy(body);
        for part in text.split(&format!("--{boundary}")) {
            let Some((head, value)) = part.split_once("\r\n\r\n") else { continue };
            let name = head.split("name=\"").nth(1).and_then(|rest| rest.split('"').next());
            let value = value.strip_suffix("\r\n").unwrap_or(value);
            let place = match name {
                Some("prompt") => &mut fields.prompt,
                Some("model") => &mut fields.model,
                Some("size") => &mut fields.size,
                Some("name") => &mut fields.name,
                Some("video[id]") => &mut fields.source,
                Some("seconds") => {
                    fields.seconds = value.parse().ok();
                    continue;
                }
                _ => continue,
            };
            *place = Some(value.to_owned());
        }
        fields
    }
}
