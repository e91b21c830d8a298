//! An answer that is given again.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use pingora::http::ResponseHeader;
use pingora::{ErrorType, OrErr};

use super::super::headers;
use crate::idempotency::Answer;
use crate::units::DecisionId;

const UNREADABLE: &str = "a header that was kept cannot be read";

/// The answer to the first request with a key.
pub struct Kept {
    decision: DecisionId,
    answer: Answer,
}

impl Kept {
    pub(super) const fn new(decision: DecisionId, answer: Answer) -> Self {
        Self { decision, answer }
    }

    /// Its header, with what says that it is given again.
    pub fn header(&self) -> pingora::Result<ResponseHeader> {
        let mut header = ResponseHeader::build(self.answer.status, Some(24))?;
        let mut streams = false;
        for line in self.answer.head.split(|byte| *byte == b'\n') {
            let Some(colon) = memchr::memmem::find(line, b": ") else { continue };
            let (name, value) = (&line[..colon], &line[colon + 2..]);
            let name = http::HeaderName::from_bytes(name).or_err(ErrorType::InternalError, UNREADABLE)?;
            let value = http::HeaderValue::from_bytes(value).or_err(ErrorType::InternalError, UNREADABLE)?;
            streams |= name == CONTENT_TYPE && value.as_bytes().starts_with(b"text/event-stream");
            header.append_header(name, value)?;
        }
        if streams {
            header.insert_header(TRANSFER_ENCODING, "chunked")?;
        } else if self.answer.status != 204 {
            header.insert_header(CONTENT_LENGTH, self.answer.body.len())?;
        }
        header.insert_header(headers::ACCESS_REPLAYED.clone(), "true")?;
        header.insert_header(
            headers::ACCESS_IDEMPOTENCY.clone(),
            format!("replayed;id=\"{}\"", self.decision),
        )?;
        Ok(header)
    }

    /// Its body.
    pub fn body(&self) -> Bytes {
        self.answer.body.clone()
    }
}
