//! The text or number that a scanner stands in: what is kept of it, and how far an escape is.

use super::TEXT_MAX;

/// Where in an escape the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    None,
    Begun,
    Unicode { digits: u8, value: u16 },
}

/// An escape that is no JSON.
#[derive(Debug)]
pub(super) struct NotAnEscape;

/// The UTF-8 bytes of one escape.
#[derive(Debug)]
pub(super) struct Decoded {
    bytes: [u8; 4],
    length: usize,
}

impl Decoded {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn of(character: char) -> Self {
        let mut bytes = [0; 4];
        let length = character.encode_utf8(&mut bytes).len();
        Self { bytes, length }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) escape: Escape,
    /// A high surrogate that has just passed as an escape; its low one must follow.
    pub(super) high: Option<u16>,
    /// The last bytes that were fed, to see a character cut in two.
    pub(super) tail: [u8; 3],
    kept: [u8; TEXT_MAX],
    kept_len: usize,
    too_long: bool,
}

impl Text {
    pub(super) fn new() -> Self {
        Self {
            escape: Escape::None,
            high: None,
            tail: [0; 3],
            kept: [0; TEXT_MAX],
            kept_len: 0,
            too_long: false,
        }
    }

    pub(super) fn reset(&mut self) {
        self.begin();
        self.tail = [0; 3];
    }

    pub(super) fn begin(&mut self) {
        self.escape = Escape::None;
        self.high = None;
        self.kept_len = 0;
        self.too_long = false;
    }

    /// An ordinary character passed.
    pub(super) fn plain(&mut self) {
        self.high = None;
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) {
        let end = self.kept_len + bytes.len();
        match self.kept.get_mut(self.kept_len..end) {
            Some(room) if !self.too_long => {
                room.copy_from_slice(bytes);
                self.kept_len = end;
            }
            _ => self.too_long = true,
        }
    }

    /// What was kept, if it is whole.
    pub(super) fn kept(&self) -> Option<&[u8]> {
        self.kept.get(..self.kept_len).filter(|_| !self.too_long)
    }

    /// Whether nothing has been kept, so that what comes may be all.
    pub(super) fn is_fresh(&self) -> bool {
        self.kept_len == 0 && !self.too_long
    }

    /// One byte of an escape; what it stands for at its end.
    pub(super) fn escaped(&mut self, byte: u8) -> Result<Option<Decoded>, NotAnEscape> {
        if let Escape::Unicode { digits, value } = self.escape {
            return self.hexadecimal(byte, digits, value);
        }
        let character = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.escape = Escape::Unicode { digits: 0, value: 0 };
                return Ok(None);
            }
            _ => return Err(NotAnEscape),
        };
        self.escape = Escape::None;
        self.high = None;
        Ok(Some(Decoded::of(character)))
    }

    fn hexadecimal(&mut self, byte: u8, digits: u8, value: u16) -> Result<Option<Decoded>, NotAnEscape> {
        let digit =
            char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok()).ok_or(NotAnEscape)?;
        let value = value << 4 | digit;
        if digits < 3 {
            self.escape = Escape::Unicode { digits: digits + 1, value };
            return Ok(None);
        }
        self.escape = Escape::None;
        let high = self.high.take();
        if (0xd800..=0xdbff).contains(&value) {
            self.high = Some(value);
            return Ok(None);
        }
        let character = match (high, value) {
            (Some(high), 0xdc00..=0xdfff) => char::decode_utf16([high, value]).next().and_then(Result::ok),
            _ => char::from_u32(u32::from(value)),
        };
        Ok(Some(Decoded::of(character.unwrap_or(char::REPLACEMENT_CHARACTER))))
    }

    pub(super) fn remember_tail(&mut self, fed: &[u8]) {
        match fed {
            [.., a, b, c] => self.tail = [*a, *b, *c],
            [b, c] => self.tail = [self.tail[2], *b, *c],
            [c] => self.tail = [self.tail[1], self.tail[2], *c],
            [] => {}
        }
    }
}
