//! Reads the real usage out of a response as it passes.
//!
//! The bytes are looked at and let go: an [`Observer`] never delays, changes or collects them, whatever the chunks, and
//! its memory is a few kilobytes however long the response. It tells what the upstream said (exact quantities), what
//! passed (for the price of a stream that was cut), and which bytes would end a cut stream in protocol
//! ([`Observer::ending`]). A body that is not what it claims to be is no error here: nothing is learnt from it, and the
//! caller estimates.

pub mod chat_filter;
mod ending;
pub mod finish;
pub mod json;
pub mod sse;
pub mod usage;

pub use chat_filter::ChatFilter;
pub use ending::Failure;

use crate::units::Quantities;

use json::{Container, Progress, Scanner, Sink};
use sse::{Framer, Piece};
use usage::{Field, Usage};

/// Ends a chat completion's stream.
const DONE_MARK: &[u8] = b"[DONE]";
/// Bytes of text per token where nothing better is known.
const BYTES_PER_TOKEN: u64 = 4;

/// What a response looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A response in one body.
    ResponsesJson,
    /// A response as events.
    ResponsesSse,
    /// A chat completion in one body.
    ChatJson,
    /// A chat completion as events.
    ChatSse,
    /// A compaction in one body.
    CompactJson,
}

impl Shape {
    /// Whether it comes as events.
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::ResponsesSse | Self::ChatSse)
    }

    const fn is_chat(self) -> bool {
        matches!(self, Self::ChatJson | Self::ChatSse)
    }
}

/// How a response ended, in the upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// It is whole.
    Completed,
    /// It stopped at a bound.
    Incomplete,
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// Output that passed, whatever the usage says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputSeen {
    /// Events that carried output.
    pub deltas: u64,
    /// Bytes of text in them, unescaped.
    pub delta_bytes: u64,
    /// Bytes of text in whole items, which repeat the deltas where there were any.
    pub item_bytes: u64,
}

impl OutputSeen {
    /// An estimate in tokens: four bytes each, and at least one for every event that carried output.
    pub fn tokens(&self) -> u64 {
        let bytes = self.delta_bytes.max(self.item_bytes);
        bytes.div_ceil(BYTES_PER_TOKEN).max(self.deltas)
    }
}

/// What a response told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The id under which a response is owned, as seen first. A chat completion has none.
    pub resource_id: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// The tier that served it, as told last.
    pub tier: Option<String>,
    /// How it ended; nothing while it has not, or if it was cut. The first end counts.
    pub terminal: Option<Terminal>,
    /// Whether it said so of itself: a body that is whole and states no status counts as completed, and an error in a
    /// stream as a failure, but neither is the end of what is made in the background.
    pub is_stated: bool,
    /// What was used, if the upstream said so; the last word counts, never a sum.
    pub quantities: Option<Quantities>,
    /// The output that passed.
    pub output_seen: OutputSeen,
    /// Whether the upstream accepted the request: by its status for a body, by a first event other than an error for
    /// a stream.
    pub accepted: bool,
    /// Whether a whole event has passed.
    pub first_event: bool,
    /// The place of the last event in its stream.
    pub sequence_number: Option<u64>,
    /// When the upstream made the response, in seconds after the epoch.
    pub created_at: Option<u64>,
}

/// Watches one response.
#[derive(Clone, Debug)]
pub struct Observer {
    shape: Shape,
    listening: bool,
    framer: Framer,
    scanner: Scanner<Field>,
    data: Data,
    reading: Reading,
}

/// What the present event carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    Nothing,
    Json,
    /// So many bytes of [`DONE_MARK`].
    Mark(usize),
    Other,
}

impl Observer {
    /// An observer of a response with this status; of a refusal (not 2xx) it learns nothing.
    pub fn new(shape: Shape, status: http::StatusCode) -> Self {
        let wanted = match shape {
            Shape::ResponsesJson | Shape::CompactJson => &usage::RESPONSE_BODY,
            Shape::ResponsesSse => &usage::RESPONSE_EVENT,
            Shape::ChatJson | Shape::ChatSse => &usage::CHAT,
        };
        let accepted = status.is_success() && !shape.is_stream();
        Self {
            shape,
            listening: status.is_success(),
            framer: Framer::default(),
            scanner: Scanner::new(wanted),
            data: Data::Nothing,
            reading: Reading {
                chat: shape.is_chat(),
                told: Observed { accepted, ..Observed::default() },
                event: Event::default(),
            },
        }
    }

    /// Looks at the next bytes of the body.
    pub fn feed(&mut self, chunk: &[u8]) {
        if !self.listening {
            return;
        }
        if !self.shape.is_stream() {
            self.scanner.feed(chunk, &mut self.reading);
            return;
        }
        let mut at = 0;
        while let Some(piece) = self.framer.next(chunk, &mut at) {
            match piece {
                Piece::Data(bytes) => self.data(bytes),
                Piece::End => self.end_event(),
                Piece::Idle => {}
            }
        }
    }

    /// What was told so far. An event counts from its end on.
    pub fn observed(&self) -> &Observed {
        &self.reading.told
    }

    /// What was told in all. The last event needs no blank line if its data is whole.
    pub fn end(mut self) -> Observed {
        self.settle();
        self.reading.told
    }

    fn settle(&mut self) {
        if self.shape.is_stream() {
            // Half a mark is as good as a whole one: nothing comes between it and the end.
            if let Data::Mark(_) = self.data {
                self.data = Data::Mark(DONE_MARK.len());
            }
            self.end_event();
        } else if self.listening {
            self.reading.end_body(self.scanner.progress());
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        if self.data == Data::Nothing {
            self.data = if bytes.starts_with(b"[") { Data::Mark(0) } else { Data::Json };
        }
        match self.data {
            Data::Json => self.scanner.feed(bytes, &mut self.reading),
            Data::Mark(matched) if DONE_MARK[matched..].starts_with(bytes) => {
                self.data = Data::Mark(matched + bytes.len());
            }
            Data::Mark(_) => self.data = Data::Other,
            Data::Nothing | Data::Other => {}
        }
    }

    fn end_event(&mut self) {
        match self.data {
            Data::Json if self.scanner.progress() == Progress::Complete => {
                self.reading.end_event(self.framer.name());
            }
            Data::Mark(matched) if matched == DONE_MARK.len() => self.reading.end_marked(),
            _ => {}
        }
        self.data = Data::Nothing;
        self.scanner.reset();
        self.reading.event = Event::default();
    }
}

/// What an event is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    End(Terminal),
    ItemDone,
    Error,
    Other,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            "response.completed" => Self::End(Terminal::Completed),
            "response.incomplete" => Self::End(Terminal::Incomplete),
            "response.failed" => Self::End(Terminal::Failed),
            "response.cancelled" => Self::End(Terminal::Cancelled),
            "response.output_item.done" => Self::ItemDone,
            "error" => Self::Error,
            _ => Self::Other,
        }
    }
}

/// What the present event, or the body, has told that counts only at its end.
#[derive(Clone, Debug, Default)]
struct Event {
    kind: Option<Kind>,
    status: Option<Terminal>,
    pending: bool,
    error: bool,
    usage: Usage,
    item_bytes: u64,
    delta: bool,
}

#[derive(Clone, Debug)]
struct Reading {
    chat: bool,
    told: Observed,
    event: Event,
}

impl Reading {
    fn end_event(&mut self, name: Option<&str>) {
        let event = std::mem::take(&mut self.event);
        let stated = event.kind.or_else(|| name.map(Kind::of));
        let kind = stated.unwrap_or(if event.error { Kind::Error } else { Kind::Other });
        let kind = if self.chat && event.error { Kind::Error } else { kind };
        self.told.first_event = true;
        self.told.accepted |= kind != Kind::Error;
        match kind {
            Kind::End(terminal) => {
                self.told.is_stated |= self.told.terminal.is_none();
                self.end_with(terminal);
                self.use_exactly(&event.usage);
            }
            Kind::Error => self.end_with(Terminal::Failed),
            Kind::ItemDone => {
                let sum = self.told.output_seen.item_bytes.saturating_add(event.item_bytes);
                self.told.output_seen.item_bytes = sum;
            }
            Kind::Other if self.chat => self.use_exactly(&event.usage),
            Kind::Other => {}
        }
    }

    fn end_marked(&mut self) {
        self.told.first_event = true;
        if self.chat {
            self.told.accepted = true;
            self.end_with(Terminal::Completed);
        }
    }

    fn end_body(&mut self, progress: Progress) {
        let event = std::mem::take(&mut self.event);
        self.told.output_seen.item_bytes = event.item_bytes;
        self.use_exactly(&event.usage);
        if progress == Progress::Complete && !event.pending {
            self.told.is_stated = event.status.is_some();
            let unstated = if event.error { Terminal::Failed } else { Terminal::Completed };
            self.end_with(event.status.unwrap_or(unstated));
        }
    }

    fn end_with(&mut self, terminal: Terminal) {
        self.told.terminal.get_or_insert(terminal);
    }

    fn use_exactly(&mut self, usage: &Usage) {
        if let Some(quantities) = usage.quantities() {
            self.told.quantities = Some(quantities);
        }
    }
}

impl Sink<Field> for Reading {
    fn container(&mut self, field: Field, container: Container) {
        match field {
            Field::Usage => self.event.usage.begin(container),
            Field::Error => self.event.error = true,
            _ => {}
        }
    }

    fn text(&mut self, field: Field, text: &str) {
        match field {
            Field::Id if self.told.resource_id.is_none() => self.told.resource_id = Some(text.to_owned()),
            Field::Model => replace(&mut self.told.model, text),
            Field::Tier => replace(&mut self.told.tier, text),
            Field::Kind => self.event.kind = Some(Kind::of(text)),
            Field::Error => self.event.error = true,
            Field::Status => {
                self.event.pending = matches!(text, "queued" | "in_progress");
                self.event.status = match text {
                    "completed" => Some(Terminal::Completed),
                    "incomplete" => Some(Terminal::Incomplete),
                    "failed" => Some(Terminal::Failed),
                    "cancelled" => Some(Terminal::Cancelled),
                    _ => None,
                };
            }
            _ => {}
        }
    }

    fn number(&mut self, field: Field, digits: &str) {
        match field {
            Field::Count(count) => self.event.usage.count(count, digits),
            Field::SequenceNumber => {
                self.told.sequence_number = usage::whole(digits).or(self.told.sequence_number);
            }
            Field::CreatedAt => self.told.created_at = usage::whole(digits).or(self.told.created_at),
            _ => {}
        }
    }

    fn length(&mut self, field: Field, bytes: usize) {
        let bytes = bytes as u64;
        if field == Field::Item {
            self.event.item_bytes = self.event.item_bytes.saturating_add(bytes);
            return;
        }
        let seen = &mut self.told.output_seen;
        seen.deltas += u64::from(!std::mem::replace(&mut self.event.delta, true));
        seen.delta_bytes = seen.delta_bytes.saturating_add(bytes);
    }
}

/// Puts `text` in place without allocating where it stands there already, as it does in most events.
fn replace(place: &mut Option<String>, text: &str) {
    if place.as_deref() != Some(text) {
        *place = Some(text.to_owned());
    }
}

#[cfg(test)]
mod tests;
