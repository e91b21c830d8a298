//! How a stream that was cut upstream ends for the client.
//!
//! Three steps: the half event is completed, since its bytes are out; it is kept from ending the response if it was to
//! do that; then the failure follows in the words of the API. The Responses event carries the error twice: inside the
//! response, where Codex looks, and at the top, where the SDKs look and raise.
//!
//! A terminal event that was cut would tell a reader of repaired JSON that the response is whole. So `type` is said
//! once more at its end, as an event that ends nothing: readers that take the last member see that, and readers that
//! refuse a repeated member drop the event.

use serde::Serialize;

use super::json::Progress;
use super::{ChatFilter, DONE_MARK, Data, Kind, Observer, Shape};

/// Why the stream ends, for the client to read.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// Its kind, as `server_error`.
    pub kind: &'a str,
    /// A stable code, as `server_error`.
    pub code: &'a str,
    /// A sentence for people.
    pub message: &'a str,
}

/// The event that a cut terminal event becomes.
const HARMLESS_EVENT: &str = "response.in_progress";
const HARMLESS_MEMBER: &str = r#""type":"response.in_progress""#;

impl Observer {
    /// The bytes that end the stream in protocol after the last byte that was fed; none for a body, or for a stream
    /// whose end has passed. `filter` is the one between this stream and the client: what it holds back never left.
    pub fn ending(&self, failure: &Failure<'_>, filter: Option<&ChatFilter>) -> Vec<u8> {
        if !self.listening || !self.shape.is_stream() {
            return Vec::new();
        }
        let withheld = filter.is_some_and(ChatFilter::is_holding);
        let mut out = Vec::new();
        // What the client has seen once the half event is completed.
        let mut seen = self.clone();
        if !withheld {
            seen.complete(&mut out);
        }
        let sequence_number = seen.reading.told.sequence_number.max(self.reading.told.sequence_number);
        if self.reading.told.terminal.or(seen.reading.told.terminal).is_some() {
            return if out.is_empty() || seen.framer.in_event() { Vec::new() } else { out };
        }
        if self.shape == Shape::ChatSse {
            push(&mut out, None, &ChatFailure { error: SharedError::of(failure) });
        } else {
            let number = sequence_number.map_or(0, |last| last.saturating_add(1));
            push(&mut out, Some("response.failed"), &self.failed(failure, number));
        }
        out
    }

    /// Completes the half event, in `out` and for itself. One without data is left open for what follows.
    fn complete(&mut self, out: &mut Vec<u8>) {
        let begin = out.len();
        if self.data == Data::Nothing || self.data == Data::Json && self.scanner.progress() == Progress::Empty
        {
            self.end_line(out);
            self.feed_back(out, begin);
            return;
        }
        let in_data = self.framer.in_data();
        if !in_data {
            self.end_line(out);
        }
        let (rest, ends) = self.rest_of_data();
        if !rest.is_empty() {
            out.extend_from_slice(if in_data { b"" } else { b"data: " });
            out.extend_from_slice(&rest);
        }
        if in_data || !rest.is_empty() {
            out.push(b'\n');
        }
        if ends {
            out.extend_from_slice(format!("event: {HARMLESS_EVENT}\n").as_bytes());
        }
        out.push(b'\n');
        self.feed_back(out, begin);
    }

    fn feed_back(&mut self, out: &[u8], begin: usize) {
        let added = out.get(begin..).unwrap_or_default();
        self.feed(added);
    }

    fn end_line(&self, out: &mut Vec<u8>) {
        // After a CR, a line feed still belongs to the line that it ended.
        if self.framer.in_line() || self.framer.takes_line_feed() && self.framer.in_event() {
            out.push(b'\n');
        }
    }

    /// What completes the data of the half event, and whether the event was to end the response.
    fn rest_of_data(&self) -> (Vec<u8>, bool) {
        match self.data {
            Data::Mark(matched) => (DONE_MARK[matched..].to_vec(), false),
            Data::Json if self.scanner.progress() == Progress::Open => {
                let plain = self.scanner.repair(None);
                let mut whole = self.clone();
                whole.scanner.feed(&plain, &mut whole.reading);
                let kind = whole.reading.event.kind.or_else(|| self.framer.name().map(Kind::of));
                if self.shape == Shape::ResponsesSse && matches!(kind, Some(Kind::End(_))) {
                    return (self.scanner.repair(Some(HARMLESS_MEMBER)), true);
                }
                (plain, false)
            }
            _ => (Vec::new(), false),
        }
    }

    fn failed<'a>(&'a self, failure: &Failure<'a>, sequence_number: u64) -> ResponseFailed<'a> {
        let told = &self.reading.told;
        ResponseFailed {
            kind: "response.failed",
            sequence_number,
            response: FailedResponse {
                id: told.resource_id.as_deref().unwrap_or_default(),
                object: "response",
                created_at: told.created_at.unwrap_or_default(),
                status: "failed",
                error: ResponseError { code: failure.code, message: failure.message },
                incomplete_details: None,
                model: told.model.as_deref().unwrap_or_default(),
                output: [],
                usage: None,
            },
            error: SharedError::of(failure),
        }
    }
}

#[derive(Serialize)]
struct ChatFailure<'a> {
    error: SharedError<'a>,
}

/// The error object of either API.
#[derive(Serialize)]
struct SharedError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'static str>,
    code: &'a str,
}

impl<'a> SharedError<'a> {
    fn of(failure: &Failure<'a>) -> Self {
        Self { message: failure.message, kind: failure.kind, param: None, code: failure.code }
    }
}

#[derive(Serialize)]
struct ResponseFailed<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    sequence_number: u64,
    response: FailedResponse<'a>,
    error: SharedError<'a>,
}

#[derive(Serialize)]
struct FailedResponse<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    error: ResponseError<'a>,
    incomplete_details: Option<()>,
    model: &'a str,
    output: [(); 0],
    usage: Option<()>,
}

#[derive(Serialize)]
struct ResponseError<'a> {
    code: &'a str,
    message: &'a str,
}

fn push(out: &mut Vec<u8>, name: Option<&str>, event: &impl Serialize) {
    // Nothing in these types can fail to serialise; if it did, the client would see a stream that just stops.
    let Ok(data) = serde_json::to_vec(event) else { return };
    if let Some(name) = name {
        out.extend_from_slice(format!("event: {name}\n").as_bytes());
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(&data);
    out.extend_from_slice(b"\n\n");
}
