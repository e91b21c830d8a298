//! What makes two requests the same: method, path, content type, and what the body says once it is decoded.
//!
//! A multipart form is told apart by a boundary that clients make up anew for each attempt; it is no part of what they
//! say, so it counts as where it stands and not as what it is.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use memchr::memmem;
use pingora::http::RequestHeader;
use sha2::{Digest, Sha256};

use super::super::refusal::Refusal;
use crate::idempotency::Fingerprint;
use crate::telemetry::chain;

/// From here on hashing takes longer than other requests should wait for their thread.
const LONG_BYTES: usize = 1 << 20;

/// The head of a request, as far as it says what is asked.
#[derive(Clone, Debug)]
pub struct Request {
    hash: Sha256,
    boundary: Option<Vec<u8>>,
}

impl Request {
    /// Of a request's head.
    pub fn of(header: &RequestHeader) -> Self {
        let target = header.raw_path();
        let path = target.split(|byte| *byte == b'?').next().unwrap_or(target);
        let content_type = header.headers.get(CONTENT_TYPE).map_or(&[][..], http::HeaderValue::as_bytes);
        let boundary = boundary_of(content_type);
        let mut hash = Sha256::new();
        for part in [header.method.as_str().as_bytes(), path] {
            add(&mut hash, part);
        }
        add_parts(&mut hash, content_type, boundary.as_deref());
        Self { hash, boundary }
    }

    /// With this body.
    pub async fn fingerprint(self, body: &Bytes) -> Result<Fingerprint, Refusal> {
        if body.len() < LONG_BYTES {
            return Ok(self.with(body));
        }
        let body = Bytes::clone(body);
        tokio::task::spawn_blocking(move || self.with(&body)).await.map_err(|error| {
            tracing::error!(error = %chain(&error), "a body could not be hashed");
            Refusal::Internal
        })
    }

    fn with(mut self, body: &[u8]) -> Fingerprint {
        add_parts(&mut self.hash, body, self.boundary.as_deref());
        Fingerprint::from_bytes(self.hash.finalize().into())
    }
}

/// With its length, so that what belongs to one part cannot be taken for another's.
fn add(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_le_bytes());
    hash.update(part);
}

/// What stands between the boundaries.
fn add_parts(hash: &mut Sha256, text: &[u8], boundary: Option<&[u8]>) {
    let Some(boundary) = boundary else { return add(hash, text) };
    let mut begin = 0;
    for at in memmem::find_iter(text, boundary) {
        add(hash, &text[begin..at]);
        begin = at + boundary.len();
    }
    add(hash, &text[begin..]);
}

/// The boundary that the type of a multipart body names.
fn boundary_of(content_type: &[u8]) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"boundary=";
    let text = content_type.to_ascii_lowercase();
    if !text.starts_with(b"multipart/") {
        return None;
    }
    let value = &content_type[memmem::find(&text, NAME)? + NAME.len()..];
    let end = match value.strip_prefix(b"\"") {
        Some(quoted) => return quoted.split(|byte| *byte == b'"').next().map(<[u8]>::to_vec),
        None => value.iter().position(|byte| matches!(byte, b';' | b' ' | b'\t')),
    };
    let boundary = &value[..end.unwrap_or(value.len())];
    (!boundary.is_empty()).then(|| boundary.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, target: &str, content_type: &str, body: &str) -> Fingerprint {
        let mut header = RequestHeader::build(method, target.as_bytes(), None).expect("a request");
        header.insert_header(CONTENT_TYPE, content_type).expect("a header");
        Request::of(&header).with(body.as_bytes())
    }

    fn form(boundary: &str, prompt: &str) -> Fingerprint {
        let body = format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"prompt\"\r\n\r\n{prompt}\r\n--{boundary}--\r\n"
        );
        of("POST", "/v1/videos", &format!("multipart/form-data; boundary={boundary}"), &body)
    }

    #[test]
    fn each_part_of_a_request_makes_another_one() {
        let first = of("POST", "/v1/responses", "application/json", "{}");
        assert_eq!(first, of("POST", "/v1/responses?x=1", "application/json", "{}"), "queries do not go on");
        for other in [
            of("PUT", "/v1/responses", "application/json", "{}"),
            of("POST", "/v1/responses/compact", "application/json", "{}"),
            of("POST", "/v1/responses", "text/plain", "{}"),
            of("POST", "/v1/responses", "application/json", "{ }"),
            of("POST", "/v1/responsesapplication/json", "", "{}"),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn a_form_is_the_same_under_another_boundary_and_another_form_is_not() {
        assert_eq!(form("aaa", "a cat"), form("bbbbbb", "a cat"));
        assert_ne!(form("aaa", "a cat"), form("aaa", "a dog"));
        let quoted = boundary_of(b"Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"; x=1");
        assert_eq!(quoted.as_deref(), Some(&b"a b"[..]));
        assert_eq!(boundary_of(b"multipart/form-data; boundary=ab;x=1").as_deref(), Some(&b"ab"[..]));
        for none in ["application/json; boundary=x", "multipart/form-data", "multipart/form-data; boundary="]
        {
            assert_eq!(boundary_of(none.as_bytes()), None, "{none}");
        }
    }
}
