//! Incremental framing of server-sent events (WHATWG HTML, section 9.2).
//!
//! Bytes are handed on as they pass, as the data of the present event; nothing of an event is held but its name
//! (at most [`NAME_MAX`] bytes; a longer one is no name). Lines end with LF, CR or CRLF, a byte order mark may stand
//! first, comments may stand anywhere, and several data lines of one event are one text with line feeds between them.

/// Bytes of an event's name.
pub const NAME_MAX: usize = 64;
/// `event` behind a byte order mark, the longest field name of interest.
const FIELD_MAX: usize = 8;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a piece of the stream is.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Data of the present event.
    Data(&'a [u8]),
    /// The blank line that ends an event with data. Its name stands until the next line begins.
    End,
    /// A line outside of any event, or the end of one without data, which is no event.
    Idle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    LineStart,
    Comment,
    FieldName,
    /// Behind the colon, where one space is no part of the value.
    Space(Field),
    /// Before another data line of the same event.
    Join,
    Value(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Data,
    Event,
    Other,
}

/// Finds the events in one stream.
#[derive(Clone, Debug)]
pub struct Framer {
    place: Place,
    after_cr: bool,
    first_line: bool,
    begun: bool,
    data_lines: u32,
    field: [u8; FIELD_MAX],
    field_len: usize,
    name: [u8; NAME_MAX],
    name_len: usize,
}

impl Default for Framer {
    fn default() -> Self {
        Self {
            place: Place::LineStart,
            after_cr: false,
            first_line: true,
            begun: false,
            data_lines: 0,
            field: [0; FIELD_MAX],
            field_len: 0,
            name: [0; NAME_MAX],
            name_len: 0,
        }
    }
}

impl Framer {
    /// The next piece of `chunk`, which is read from `at` on; nothing when it is used up.
    pub fn next<'a>(&mut self, chunk: &'a [u8], at: &mut usize) -> Option<Piece<'a>> {
        while let Some(&byte) = chunk.get(*at) {
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                *at += 1;
                continue;
            }
            if let Some(piece) = self.step(byte, chunk, at) {
                return Some(piece);
            }
        }
        None
    }

    /// The name of the event that ended, or of the present one so far.
    pub fn name(&self) -> Option<&str> {
        let name = self.name.get(..self.name_len).filter(|name| !name.is_empty())?;
        std::str::from_utf8(name).ok()
    }

    /// Whether a field of an event has begun that no blank line has ended.
    pub fn in_event(&self) -> bool {
        self.begun
    }

    /// Whether a line has begun and not ended.
    pub fn in_line(&self) -> bool {
        self.place != Place::LineStart
    }

    /// Whether a line of data has begun and not ended.
    pub fn in_data(&self) -> bool {
        matches!(self.place, Place::Space(Field::Data) | Place::Join | Place::Value(Field::Data))
    }

    /// Whether the last line ended with a CR, so that a LF coming now would belong to it.
    pub fn takes_line_feed(&self) -> bool {
        self.after_cr
    }

    fn step<'a>(&mut self, byte: u8, chunk: &'a [u8], at: &mut usize) -> Option<Piece<'a>> {
        match self.place {
            Place::LineStart => self.begin_line(byte, at),
            Place::FieldName => {
                match byte {
                    b':' => {
                        let field = self.field();
                        self.place = Place::Space(field);
                        self.begin_value(field);
                        *at += 1;
                    }
                    b'\r' | b'\n' => {
                        let field = self.field();
                        self.begin_value(field);
                        self.place = self.value_place(field);
                    }
                    _ => {
                        if let Some(room) = self.field.get_mut(self.field_len) {
                            *room = byte;
                        }
                        self.field_len = (self.field_len + 1).min(FIELD_MAX + 1);
                        *at += 1;
                    }
                }
                None
            }
            Place::Space(field) => {
                *at += usize::from(byte == b' ');
                self.place = self.value_place(field);
                None
            }
            Place::Join => {
                self.place = Place::Value(Field::Data);
                Some(Piece::Data(b"\n"))
            }
            Place::Value(field) => self.value(field, chunk, at),
            Place::Comment => {
                if self.rest_of_line(chunk, at).1 && !self.begun {
                    Some(Piece::Idle)
                } else {
                    None
                }
            }
        }
    }

    fn begin_line<'a>(&mut self, byte: u8, at: &mut usize) -> Option<Piece<'a>> {
        if !self.begun && !matches!(byte, b'\r' | b'\n' | b':') {
            self.name_len = 0;
        }
        match byte {
            b'\r' | b'\n' => {
                *at += 1;
                self.after_cr = byte == b'\r';
                self.first_line = false;
                let whole = std::mem::take(&mut self.data_lines) > 0;
                self.begun = false;
                Some(if whole { Piece::End } else { Piece::Idle })
            }
            b':' => {
                self.place = Place::Comment;
                *at += 1;
                None
            }
            _ => {
                self.begun = true;
                self.field_len = 0;
                self.place = Place::FieldName;
                None
            }
        }
    }

    fn field(&self) -> Field {
        let name = self.field.get(..self.field_len).unwrap_or_default();
        let name = if self.first_line { name.strip_prefix(BYTE_ORDER_MARK).unwrap_or(name) } else { name };
        match name {
            b"data" => Field::Data,
            b"event" => Field::Event,
            _ => Field::Other,
        }
    }

    fn begin_value(&mut self, field: Field) {
        match field {
            Field::Data => self.data_lines = self.data_lines.saturating_add(1),
            Field::Event => self.name_len = 0,
            Field::Other => {}
        }
    }

    fn value_place(&self, field: Field) -> Place {
        if field == Field::Data && self.data_lines > 1 { Place::Join } else { Place::Value(field) }
    }

    fn value<'a>(&mut self, field: Field, chunk: &'a [u8], at: &mut usize) -> Option<Piece<'a>> {
        let (value, _) = self.rest_of_line(chunk, at);
        match field {
            Field::Data if !value.is_empty() => Some(Piece::Data(value)),
            Field::Event => {
                let end = self.name_len.saturating_add(value.len());
                match self.name.get_mut(self.name_len..end) {
                    Some(room) => room.copy_from_slice(value),
                    // Longer than any name: out of range from here on, which reads as none.
                    None => self.name_len = NAME_MAX + 1,
                }
                if self.name_len <= NAME_MAX {
                    self.name_len = end;
                }
                None
            }
            Field::Data | Field::Other => None,
        }
    }

    /// What is left of the line in `chunk`, and whether the line ends there.
    fn rest_of_line<'a>(&mut self, chunk: &'a [u8], at: &mut usize) -> (&'a [u8], bool) {
        let rest = &chunk[*at..];
        let Some(length) = memchr::memchr2(b'\r', b'\n', rest) else {
            *at = chunk.len();
            return (rest, false);
        };
        *at += length + 1;
        self.after_cr = rest[length] == b'\r';
        self.first_line = false;
        self.place = Place::LineStart;
        (&rest[..length], true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Name and data of each event, fed `piece` bytes at a time.
    fn events(stream: &[u8], piece: usize) -> Vec<(Option<String>, String)> {
        let (mut framer, mut data, mut events) = (Framer::default(), Vec::new(), Vec::new());
        for chunk in stream.chunks(piece) {
            let mut at = 0;
            while let Some(piece) = framer.next(chunk, &mut at) {
                match piece {
                    Piece::Data(bytes) => data.extend_from_slice(bytes),
                    Piece::End => {
                        let name = framer.name().map(str::to_owned);
                        events.push((name, String::from_utf8(std::mem::take(&mut data)).unwrap()));
                    }
                    Piece::Idle => {}
                }
            }
        }
        events
    }

    #[test]
    fn events_are_framed_as_the_standard_says_at_any_chunking() {
        let long = "n".repeat(NAME_MAX + 1);
        for (stream, expected) in [
            ("event: a\ndata: 1\n\ndata: 2\n\n".to_owned(), vec![(Some("a"), "1"), (None, "2")]),
            ("event: a\r\ndata: 1\r\n\r\ndata: 2\r\n\r\n".into(), vec![(Some("a"), "1"), (None, "2")]),
            ("event: a\rdata: 1\r\rdata: 2\r\r".into(), vec![(Some("a"), "1"), (None, "2")]),
            ("\u{feff}data: 1\n\n".into(), vec![(None, "1")]),
            (": ping\n\ndata:1\n: pong\ndata:  2\nid: 7\n\n".into(), vec![(None, "1\n 2")]),
            ("event: a\n\ndata: 1\n\n".into(), vec![(None, "1")]),
            ("data\n\ndata\ndata\n\ndata:\n\n".into(), vec![(None, ""), (None, "\n"), (None, "")]),
            ("event: a\nevent: b\ndata: 1\n\n".into(), vec![(Some("b"), "1")]),
            ("data: 1\nevent: a\n\n".into(), vec![(Some("a"), "1")]),
            ("database: 0\nevents: x\ndata: 1\n\n".into(), vec![(None, "1")]),
            (format!("event: {long}\ndata: 1\n\nevent: a\ndata: 2\n\n"), vec![(None, "1"), (Some("a"), "2")]),
            ("data: never ended\n".into(), vec![]),
        ] {
            let expected: Vec<_> =
                expected.into_iter().map(|(name, data)| (name.map(str::to_owned), data.to_owned())).collect();
            for piece in (1..=stream.len()).rev() {
                assert_eq!(events(stream.as_bytes(), piece), expected, "{stream:?} by {piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing(stream in "(data|event|id|:|[: a]|\r|\n|é){0,60}", piece in 1usize..8) {
            prop_assert_eq!(events(stream.as_bytes(), piece), events(stream.as_bytes(), usize::MAX));
        }
    }
}
