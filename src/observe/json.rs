//! An incremental JSON scanner that keeps nothing but what it was asked for.
//!
//! A response may be megabytes and arrives in pieces cut anywhere, so it is neither collected nor parsed into a tree:
//! one pass over the bytes follows the grammar, hands the wanted members to a [`Sink`] and skips the rest, inside
//! strings at the speed of `memchr`. Because it always knows where in the grammar it stands, it can also say which
//! bytes would complete a text that was cut ([`Scanner::repair`]).
//!
//! Arrays are transparent: a wanted member of an array is wanted in each of its elements. Bounds: [`DEPTH_MAX`] levels,
//! and [`TEXT_MAX`] bytes of one wanted text; a longer one is not told. Text that is no JSON, or deeper, leaves the
//! scanner broken until [`Scanner::reset`]: it ignores the rest and repairs nothing.

mod repair;
mod text;

use text::{Escape, Text};

/// Levels of nesting that are followed.
pub const DEPTH_MAX: usize = 512;
/// Bytes of one wanted text or number, unescaped.
pub const TEXT_MAX: usize = 512;
/// Levels at which members can be wanted.
const WANTED_DEPTH_MAX: usize = 8;

/// A member by its key, what is wanted of it, and the wanted members inside it.
#[derive(Debug)]
pub struct Member<F: 'static> {
    key: &'static str,
    want: Want<F>,
    members: &'static [Member<F>],
}

#[derive(Clone, Copy, Debug)]
enum Want<F> {
    Nothing,
    Value(F),
    Length(F),
}

impl<F> Member<F> {
    /// A member wanted only for those inside it.
    pub const fn path(key: &'static str, members: &'static [Self]) -> Self {
        Self { key, want: Want::Nothing, members }
    }

    /// A text or number wanted as `field`.
    pub const fn value(key: &'static str, field: F) -> Self {
        Self { key, want: Want::Value(field), members: &[] }
    }

    /// A container whose beginning is told as `field`.
    pub const fn container(key: &'static str, field: F, members: &'static [Self]) -> Self {
        Self { key, want: Want::Value(field), members }
    }

    /// A text of which only the length is wanted, as `field`.
    pub const fn length(key: &'static str, field: F) -> Self {
        Self { key, want: Want::Length(field), members: &[] }
    }
}

/// Takes what the scanner was asked for.
pub trait Sink<F> {
    /// A wanted container begins, or an object or array inside a wanted array.
    fn container(&mut self, field: F, container: Container);
    /// A wanted text, unescaped.
    fn text(&mut self, field: F, text: &str);
    /// A wanted number, as written.
    fn number(&mut self, field: F, digits: &str);
    /// So many more bytes of a text whose length is wanted, unescaped.
    fn length(&mut self, field: F, bytes: usize);
}

/// The two containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
}

/// How far a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing but white space so far.
    Empty,
    /// Begun and not ended.
    Open,
    /// One whole container.
    Complete,
    /// Not JSON, or deeper than [`DEPTH_MAX`].
    Broken,
}

/// Where in the grammar the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Value,
    FirstElement,
    FirstKey,
    Key,
    Colon,
    After,
    InText,
    InNumber { last: u8 },
    InLiteral { rest: &'static [u8] },
    Done,
    Broken,
}

/// What is done with the text or number that is passing.
#[derive(Clone, Copy, Debug)]
enum Take<F> {
    Nothing,
    Key,
    Value(F),
    Length(F),
}

/// Scans one JSON text after another for the members under `root`.
#[derive(Clone, Debug)]
pub struct Scanner<F: 'static> {
    root: &'static Member<F>,
    place: Place,
    depth: usize,
    arrays: [u64; DEPTH_MAX / 64],
    /// The wanted containers around the present place, from the outermost in.
    path: [Option<&'static Member<F>>; WANTED_DEPTH_MAX],
    path_len: usize,
    /// The wanted member whose value is expected.
    next: Option<&'static Member<F>>,
    take: Take<F>,
    key: bool,
    text: Text,
}

impl<F: Copy> Scanner<F> {
    /// A scanner at the beginning of a text.
    pub fn new(root: &'static Member<F>) -> Self {
        Self {
            root,
            place: Place::Value,
            depth: 0,
            arrays: [0; DEPTH_MAX / 64],
            path: [None; WANTED_DEPTH_MAX],
            path_len: 0,
            next: Some(root),
            take: Take::Nothing,
            key: false,
            text: Text::new(),
        }
    }

    /// Goes back to the beginning of a text.
    pub fn reset(&mut self) {
        self.place = Place::Value;
        self.depth = 0;
        self.path_len = 0;
        self.next = Some(self.root);
        self.take = Take::Nothing;
        self.text.reset();
    }

    /// How far the text is.
    pub fn progress(&self) -> Progress {
        match self.place {
            Place::Value if self.depth == 0 => Progress::Empty,
            Place::Done => Progress::Complete,
            Place::Broken => Progress::Broken,
            _ => Progress::Open,
        }
    }

    /// Reads on. What follows a whole text is ignored.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut impl Sink<F>) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            at = match self.place {
                Place::InText => self.in_text(bytes, at, sink),
                Place::InNumber { .. } => self.in_number(bytes, at, sink),
                Place::InLiteral { rest } => at + self.in_literal(&bytes[at..], rest),
                Place::Done | Place::Broken => break,
                _ => {
                    self.between(byte, sink);
                    at + 1
                }
            };
        }
        self.text.remember_tail(bytes);
    }

    /// One byte of the structure between texts, numbers and literals.
    fn between(&mut self, byte: u8, sink: &mut impl Sink<F>) {
        match (self.place, byte) {
            (_, b' ' | b'\t' | b'\n' | b'\r') => {}
            (Place::FirstKey | Place::Key, b'"') => self.begin_key(),
            (Place::Colon, b':') => self.place = Place::Value,
            (Place::After, b',') => self.after_comma(),
            (Place::After | Place::FirstKey, b'}') if !self.in_array() => self.close(),
            (Place::After | Place::FirstElement, b']') if self.in_array() => self.close(),
            (Place::Value | Place::FirstElement, _) => self.begin_value(byte, sink),
            _ => self.place = Place::Broken,
        }
    }

    fn begin_value(&mut self, byte: u8, sink: &mut impl Sink<F>) {
        let member = self.next.take();
        self.take = match member.map(|member| member.want) {
            Some(Want::Value(field)) => Take::Value(field),
            Some(Want::Length(field)) => Take::Length(field),
            Some(Want::Nothing) | None => Take::Nothing,
        };
        match byte {
            b'{' => self.open(Container::Object, member, sink),
            b'[' => self.open(Container::Array, member, sink),
            b'"' => {
                self.key = false;
                self.begin_text();
            }
            b'-' | b'0'..=b'9' => {
                self.text.begin();
                self.text.keep(&[byte]);
                self.place = Place::InNumber { last: byte };
            }
            b't' => self.place = Place::InLiteral { rest: b"rue" },
            b'f' => self.place = Place::InLiteral { rest: b"alse" },
            b'n' => self.place = Place::InLiteral { rest: b"ull" },
            _ => self.place = Place::Broken,
        }
    }

    fn open(&mut self, container: Container, member: Option<&'static Member<F>>, sink: &mut impl Sink<F>) {
        if self.depth == DEPTH_MAX {
            self.place = Place::Broken;
            return;
        }
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
        match container {
            Container::Array => self.arrays[word] |= bit,
            Container::Object => self.arrays[word] &= !bit,
        }
        self.depth += 1;
        if let Some(member) = member.filter(|_| self.path_len < WANTED_DEPTH_MAX) {
            self.path[self.path_len] = Some(member);
            self.path_len += 1;
            if let Want::Value(field) = member.want {
                sink.container(field, container);
            }
        }
        self.place = match container {
            Container::Object => Place::FirstKey,
            Container::Array => {
                self.next = self.here();
                Place::FirstElement
            }
        };
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.path_len = self.path_len.min(self.depth);
        self.end_value();
    }

    fn end_value(&mut self) {
        self.place = if self.depth == 0 { Place::Done } else { Place::After };
    }

    fn after_comma(&mut self) {
        if self.in_array() {
            self.next = self.here();
            self.place = Place::Value;
        } else {
            self.place = Place::Key;
        }
    }

    fn begin_key(&mut self) {
        self.key = true;
        self.take = if self.here().is_some() { Take::Key } else { Take::Nothing };
        self.begin_text();
    }

    fn begin_text(&mut self) {
        self.text.begin();
        self.place = Place::InText;
    }

    fn in_text(&mut self, bytes: &[u8], at: usize, sink: &mut impl Sink<F>) -> usize {
        if self.text.escape != Escape::None {
            match self.text.escaped(bytes[at]) {
                Ok(None) => {}
                Ok(Some(decoded)) => self.pass(decoded.bytes(), sink),
                Err(_) => self.place = Place::Broken,
            }
            return at + 1;
        }
        let rest = &bytes[at..];
        let run = end_of_run(rest);
        let plain = &rest[..run.unwrap_or(rest.len())];
        let Some(run) = run else {
            self.plain(plain, sink);
            return bytes.len();
        };
        if rest[run] == b'\\' {
            self.plain(plain, sink);
            self.text.escape = Escape::Begun;
        } else if self.text.is_fresh() {
            // Most texts are whole in one piece and need not be kept.
            self.end_text(plain, sink);
        } else {
            self.plain(plain, sink);
            self.end_kept_text(sink);
        }
        at + run + 1
    }

    fn plain(&mut self, bytes: &[u8], sink: &mut impl Sink<F>) {
        if !bytes.is_empty() {
            self.text.plain();
            self.pass(bytes, sink);
        }
    }

    fn pass(&mut self, decoded: &[u8], sink: &mut impl Sink<F>) {
        match self.take {
            Take::Nothing => {}
            Take::Length(field) => sink.length(field, decoded.len()),
            Take::Key | Take::Value(_) => self.text.keep(decoded),
        }
    }

    fn end_kept_text(&mut self, sink: &mut impl Sink<F>) {
        match self.take {
            Take::Key => self.next = self.text.kept().and_then(|key| self.member(key)),
            Take::Value(field) => {
                if let Some(text) = self.text.kept().and_then(|text| std::str::from_utf8(text).ok()) {
                    sink.text(field, text);
                }
            }
            Take::Nothing | Take::Length(_) => {}
        }
        self.after_text();
    }

    fn end_text(&mut self, text: &[u8], sink: &mut impl Sink<F>) {
        match self.take {
            Take::Key => self.next = self.member(text),
            Take::Value(field) if text.len() <= TEXT_MAX => {
                if let Ok(text) = std::str::from_utf8(text) {
                    sink.text(field, text);
                }
            }
            Take::Length(field) if !text.is_empty() => sink.length(field, text.len()),
            Take::Nothing | Take::Value(_) | Take::Length(_) => {}
        }
        self.after_text();
    }

    /// The wanted member of this name in the object around.
    fn member(&self, key: &[u8]) -> Option<&'static Member<F>> {
        self.here()?.members.iter().find(|member| member.key.as_bytes() == key)
    }

    fn after_text(&mut self) {
        if self.key {
            self.place = Place::Colon;
        } else {
            self.end_value();
        }
    }

    fn in_number(&mut self, bytes: &[u8], at: usize, sink: &mut impl Sink<F>) -> usize {
        let rest = &bytes[at..];
        let part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let length = rest.iter().position(|byte| !part(byte)).unwrap_or(rest.len());
        if let Some(&last) = rest[..length].last() {
            self.place = Place::InNumber { last };
        }
        if let Take::Value(field) = self.take {
            self.text.keep(&rest[..length]);
            if length < rest.len()
                && let Some(digits) = self.text.kept().and_then(|digits| std::str::from_utf8(digits).ok())
            {
                sink.number(field, digits);
            }
        }
        if length < rest.len() {
            self.end_value();
        }
        at + length
    }

    /// As much of a literal as is there. Says how many bytes that was.
    fn in_literal(&mut self, bytes: &[u8], rest: &'static [u8]) -> usize {
        let (expected, rest) = rest.split_at(rest.len().min(bytes.len()));
        match () {
            () if !bytes.starts_with(expected) => self.place = Place::Broken,
            () if rest.is_empty() => self.end_value(),
            () => self.place = Place::InLiteral { rest },
        }
        expected.len()
    }

    fn in_array(&self) -> bool {
        self.depth.checked_sub(1).is_some_and(|level| self.is_array(level))
    }

    fn is_array(&self, level: usize) -> bool {
        self.arrays[level / 64] & (1 << (level % 64)) != 0
    }

    /// The wanted container that the present place stands in directly.
    fn here(&self) -> Option<&'static Member<F>> {
        let index = self.depth.checked_sub(1).filter(|_| self.path_len == self.depth)?;
        self.path.get(index).copied().flatten()
    }
}

/// Where a run of plain characters ends: at a quote or an escape. Most runs are short and end before a search by
/// vectors has begun, so the first bytes are looked at eight at a time in one register.
fn end_of_run(rest: &[u8]) -> Option<usize> {
    const WORDS: usize = 3;
    let mut at = 0;
    for word in rest.chunks_exact(8).take(WORDS) {
        let word = <[u8; 8]>::try_from(word).map_or(0, u64::from_le_bytes);
        let found = zero_bytes(word ^ every(b'"')) | zero_bytes(word ^ every(b'\\'));
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    memchr::memchr2(b'"', b'\\', &rest[at..]).map(|found| at + found)
}

/// The byte in each place of a word.
const fn every(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The high bit of each byte that is zero; above the lowest one, of some others too.
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(every(1)) & !word & every(0x80)
}

#[cfg(test)]
mod tests;
