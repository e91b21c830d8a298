//! Takes the usage chunk out of a chat completion's stream for a client that did not ask for it.
//!
//! The gateway asks for usage upstream on every chat stream. The chunk that brings it has no choices, which clients
//! that never asked are not ready for. Everything else passes byte for byte. An event is held only until it is known not
//! to be that chunk: at its first choice, at the latest at its end; and never more than [`HELD_MAX`] bytes of it. A
//! chunk of the body that passes in one piece is not copied.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use super::json::{Container, Progress, Scanner, Sink};
use super::sse::{Framer, Piece};
use super::usage::{self, Field};

/// Bytes of an undecided event; a longer one is released. A usage chunk has some hundred.
pub const HELD_MAX: usize = 16 * 1024;

/// Filters one stream.
#[derive(Clone, Debug)]
pub struct ChatFilter {
    framer: Framer,
    scanner: Scanner<Field>,
    marks: Marks,
    /// The present event is not the usage chunk.
    passing: bool,
    held: Vec<u8>,
    /// What passed last was dropped.
    dropped: bool,
}

/// What the present event has shown of itself.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    data: bool,
    choices: Choices,
    usage: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Choices {
    #[default]
    Unseen,
    Empty,
    Some,
}

/// What leaves of one chunk: what was held before it, and ranges of it.
#[derive(Default)]
struct Kept {
    held: Vec<u8>,
    ranges: SmallVec<[Range<usize>; 2]>,
}

impl Default for ChatFilter {
    fn default() -> Self {
        Self {
            framer: Framer::default(),
            scanner: Scanner::new(&usage::CHAT),
            marks: Marks::default(),
            passing: false,
            held: Vec::new(),
            dropped: false,
        }
    }
}

impl ChatFilter {
    /// What the client gets of the next bytes.
    pub fn feed(&mut self, chunk: &Bytes) -> Bytes {
        let mut kept = Kept::default();
        let mut at = 0;
        // A line feed at the beginning goes the way of the CR before it.
        let mut from = if self.framer.in_event() { 0 } else { self.line_end(0, chunk) };
        if from > 0 && !self.dropped {
            self.release(0..from, &mut kept);
        }
        while let Some(piece) = self.framer.next(chunk, &mut at) {
            match piece {
                Piece::Data(bytes) => self.look(bytes),
                Piece::Idle => from = self.release(from..self.line_end(at, chunk), &mut kept),
                Piece::End => from = self.end_event(from..self.line_end(at, chunk), &mut kept),
            }
        }
        let rest = from..chunk.len();
        if self.held.len() + rest.len() > HELD_MAX && self.framer.in_event() {
            self.passing = true;
        }
        if self.passing || !self.framer.in_event() {
            self.release(rest, &mut kept);
        } else {
            self.held.extend_from_slice(&chunk[rest]);
        }
        kept.of(chunk)
    }

    /// What was held when the stream ended by itself; nothing if that is the usage chunk.
    pub fn end(self) -> Bytes {
        if self.is_usage_chunk() { Bytes::new() } else { self.held.into() }
    }

    /// Whether the present event is held back, which then is all of it.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    fn look(&mut self, bytes: &[u8]) {
        if self.passing {
            return;
        }
        // `[DONE]` would read as the beginning of an array.
        self.passing = !std::mem::replace(&mut self.marks.data, true) && bytes.starts_with(b"[");
        self.scanner.feed(bytes, &mut self.marks);
        self.passing |= match self.scanner.progress() {
            Progress::Broken => true,
            Progress::Complete => !self.is_usage_chunk(),
            Progress::Empty | Progress::Open => self.marks.choices == Choices::Some,
        };
    }

    fn is_usage_chunk(&self) -> bool {
        let marks = self.marks;
        !self.passing
            && self.scanner.progress() == Progress::Complete
            && marks.choices == Choices::Empty
            && marks.usage
    }

    fn release(&mut self, range: Range<usize>, kept: &mut Kept) -> usize {
        self.dropped &= range.is_empty();
        kept.held.append(&mut self.held);
        let end = range.end;
        match kept.ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = end,
            _ if range.is_empty() => {}
            _ => kept.ranges.push(range),
        }
        end
    }

    /// Lets the event that ends with `range` go, or drops it.
    fn end_event(&mut self, range: Range<usize>, kept: &mut Kept) -> usize {
        let end = range.end;
        if self.is_usage_chunk() {
            self.held.clear();
            self.dropped = true;
        } else {
            self.release(range, kept);
        }
        self.passing = false;
        self.marks = Marks::default();
        self.scanner.reset();
        end
    }

    /// Where the line that ended at `at` ends, its line feed included where it came with one.
    fn line_end(&self, at: usize, chunk: &[u8]) -> usize {
        at + usize::from(self.framer.takes_line_feed() && chunk.get(at) == Some(&b'\n'))
    }
}

impl Kept {
    fn of(self, chunk: &Bytes) -> Bytes {
        match (&self.held[..], &self.ranges[..]) {
            ([], []) => Bytes::new(),
            ([], [range]) => chunk.slice(range.clone()),
            _ => {
                let mut out = self.held;
                for range in self.ranges {
                    out.extend_from_slice(&chunk[range]);
                }
                out.into()
            }
        }
    }
}

impl Sink<Field> for Marks {
    fn container(&mut self, field: Field, container: Container) {
        match (field, container) {
            (Field::Choices, Container::Array) if self.choices == Choices::Unseen => {
                self.choices = Choices::Empty;
            }
            (Field::Choices, _) => self.choices = Choices::Some,
            (Field::Usage, Container::Object) => self.usage = true,
            _ => {}
        }
    }

    fn text(&mut self, field: Field, _: &str) {
        if field == Field::Choices {
            self.choices = Choices::Some;
        }
    }

    fn number(&mut self, field: Field, _: &str) {
        if field == Field::Choices {
            self.choices = Choices::Some;
        }
    }

    fn length(&mut self, _: Field, _: usize) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USAGE: &str = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#;
    /// What the client is to get, in lines; the usage chunk stands where the empty text is.
    const EVENTS: [&str; 10] = [
        r#"data: {"id":"chatcmpl-1","choices":[],"prompt_filter_results":[],"usage":null}"#,
        ": keep-alive",
        r#"data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":null}"#,
        r#"data: {"usage":{"prompt_tokens":1},"choices":[{"index":0,"delta":{"content":"\"choices\":[],\"usage\":{}"}}]}"#,
        "event: nothing",
        r#"data: {"error":{"message":"no"},"usage":{}}"#,
        "",
        ": keep-alive",
        "data: not json",
        "data: [DONE]",
    ];

    fn stream(line_end: &str, usage: &str) -> String {
        let lines: Vec<_> = EVENTS.iter().map(|event| if event.is_empty() { usage } else { event }).collect();
        let end = format!("{line_end}{line_end}");
        lines.into_iter().filter(|line| !line.is_empty()).flat_map(|line| [line, &end]).collect()
    }

    fn filtered(stream: &str, pieces: &[usize]) -> String {
        let (mut filter, mut out, mut rest) = (ChatFilter::default(), Vec::new(), stream.as_bytes());
        for piece in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, more) = rest.split_at((*piece).clamp(1, rest.len()));
            out.extend_from_slice(&filter.feed(&Bytes::copy_from_slice(chunk)));
            rest = more;
        }
        out.extend_from_slice(&filter.end());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_usage_chunk_is_taken_out_and_everything_else_is_identical_at_any_chunking() {
        for line_end in ["\n", "\r\n", "\r"] {
            let (given, expected) = (stream(line_end, USAGE), stream(line_end, ""));
            for piece in 1..=given.len() {
                assert_eq!(filtered(&given, &[piece]), expected, "{line_end:?} by {piece}");
            }
        }
    }

    #[test]
    fn an_event_is_released_as_soon_as_it_shows_a_choice() {
        let mut filter = ChatFilter::default();
        for (chunk, passes) in [
            (r#"data: {"id":"x","#, ""),
            (r#""choices":["#, ""),
            (r"{", r#"data: {"id":"x","choices":[{"#),
            (r#""delta":"#, r#""delta":"#),
            ("{}}]}\n\nda", "{}}]}\n\n"),
            ("ta: [", "data: ["),
            ("DONE]\n", "DONE]\n"),
            ("\n: pi", "\n: pi"),
        ] {
            assert_eq!(filter.feed(&Bytes::from_static(chunk.as_bytes())), passes, "{chunk}");
        }
        assert!(!filter.is_holding());
    }

    #[test]
    fn a_chunk_that_passes_whole_is_not_copied() {
        let chunk = Bytes::from_static(b"data: {\"choices\":[{}]}\n\ndata: [DONE]\n\n");
        assert_eq!(ChatFilter::default().feed(&chunk).as_ptr(), chunk.as_ptr());
    }

    #[test]
    fn an_event_beyond_the_bound_is_released_undecided() {
        let padding = "x".repeat(HELD_MAX + 1000);
        let text =
            format!("data: {{\"pad\":\"{padding}\",\"choices\":[],\"usage\":{{}}}}\n\ndata: [DONE]\n\n");
        assert_eq!(filtered(&text, &[1000]), text);
    }

    #[test]
    fn what_is_held_at_the_end_of_the_stream_is_let_go_unless_it_is_the_usage_chunk() {
        assert_eq!(filtered("data: {\"id\":", &[3]), "data: {\"id\":");
        assert_eq!(filtered(USAGE, &[3]), "");
    }

    proptest! {
        #[test]
        fn no_chunking_changes_what_passes(pieces in prop::collection::vec(1usize..300, 1..40), crlf in any::<bool>()) {
            let line_end = if crlf { "\r\n" } else { "\n" };
            prop_assert_eq!(filtered(&stream(line_end, USAGE), &pieces), stream(line_end, ""));
        }
    }
}
