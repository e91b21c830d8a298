//! Reads `multipart/form-data` as it passes: which fields there are, and the values of those that are watched.
//!
//! What a form says decides what it costs, and whose it is. So it is read by a grammar so narrow that no reader of the
//! upstream can read the same bytes otherwise: what could be read in two ways is refused, though some parser would take
//! it. The bytes of the delimiter stand nowhere but in delimiters, whose lines end as they must; nothing stands before
//! the first or behind the last; a part's headers are plain lines, and its name plain characters.
//!
//! Bytes are pushed in as they come, in any pieces; the outcome is the same. Bounds: what of the bytes is not yet
//! understood (a delimiter, or [`HEADERS_MAX`]), the watched values ([`VALUE_MAX`] each), and their number.

use memchr::memmem::Finder;

/// The longest head of a part, in bytes.
pub const HEADERS_MAX: usize = 4 << 10;
/// The longest value of a watched field, in bytes.
pub const VALUE_MAX: usize = 1 << 10;
/// The most parts of a form.
pub const PARTS_MAX: usize = 256;
/// The longest name of a field.
const NAME_MAX: usize = 128;
/// The longest boundary.
const BOUNDARY_MAX: usize = 70;

/// A form that is being read.
pub struct Form {
    finder: Finder<'static>,
    state: State,
    /// What has come and is not understood yet.
    held: Vec<u8>,
    fields: Vec<Field>,
    parts: usize,
    watched: fn(&str) -> bool,
    sealed: bool,
}

/// A watched field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub value: Value,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Its bytes, all of them once the form or the next part has come.
    Text(Vec<u8>),
    /// A file, whose bytes are not kept.
    File,
}

/// Why a form is not read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The header that names the delimiter is not as it must be.
    #[error("its Content-Type names no usable boundary")]
    Boundary,
    /// It could be read in two ways, or in none.
    #[error("{0}")]
    Malformed(&'static str),
    /// A watched field is too long.
    #[error("the field `{0}` is too long")]
    TooLong(String),
    /// It ends before its last delimiter.
    #[error("it ends before its end")]
    Cut,
    /// A field that had to stand at the beginning comes late.
    #[error("the field `{0}` stands behind the first 64 KiB")]
    Late(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first delimiter.
    Start,
    /// Behind a delimiter.
    Headers,
    /// In a part; whether its value is kept in the last field.
    Data { kept: bool },
    /// Behind the last delimiter.
    End,
}

/// What one step came to.
enum Step {
    Again,
    NeedsMore,
}

impl Form {
    /// A form whose delimiter `content_type` names; the values of the fields that `watched` says are kept.
    pub fn new(content_type: &str, watched: fn(&str) -> bool) -> Result<Self, FormError> {
        let boundary = boundary(content_type).ok_or(FormError::Boundary)?;
        let delimiter = [b"--", boundary.as_bytes()].concat();
        Ok(Self {
            finder: Finder::new(&delimiter).into_owned(),
            state: State::Start,
            held: Vec::new(),
            fields: Vec::new(),
            parts: 0,
            watched,
            sealed: false,
        })
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), FormError> {
        self.held.extend_from_slice(bytes);
        while let Step::Again = self.step()? {}
        Ok(())
    }

    /// Says that from here on no watched field may come: what they say has been acted on.
    pub fn seal(&mut self) -> Result<(), FormError> {
        self.sealed = true;
        match (&self.state, self.fields.last()) {
            (State::Data { kept: true }, Some(field)) => Err(FormError::Late(field.name.clone())),
            _ => Ok(()),
        }
    }

    /// Says that nothing more comes.
    pub fn end(&self) -> Result<(), FormError> {
        if self.state == State::End && matches!(&*self.held, b"" | b"\r\n") {
            Ok(())
        } else {
            Err(FormError::Cut)
        }
    }

    /// The watched fields so far.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn step(&mut self) -> Result<Step, FormError> {
        match self.state {
            State::Start => self.start(),
            State::Headers => self.headers(),
            State::Data { kept } => self.data(kept),
            State::End if b"\r\n".starts_with(&self.held) => Ok(Step::NeedsMore),
            State::End => Err(FormError::Malformed("something stands behind its last delimiter")),
        }
    }

    fn start(&mut self) -> Result<Step, FormError> {
        let delimiter = self.finder.needle();
        let shared = delimiter.len().min(self.held.len());
        if self.held[..shared] != delimiter[..shared] {
            return Err(FormError::Malformed("it does not begin with its delimiter"));
        }
        if self.held.len() < delimiter.len() {
            return Ok(Step::NeedsMore);
        }
        self.delimited(0)
    }

    /// Takes the delimiter at `at`, and what stands behind it.
    fn delimited(&mut self, at: usize) -> Result<Step, FormError> {
        let behind = at + self.finder.needle().len();
        let Some(two) = self.held.get(behind..behind + 2) else { return Ok(Step::NeedsMore) };
        self.state = match two {
            b"\r\n" => State::Headers,
            b"--" => State::End,
            _ => return Err(FormError::Malformed("a delimiter does not end its line")),
        };
        self.held.drain(..behind + 2);
        Ok(Step::Again)
    }

    fn headers(&mut self) -> Result<Step, FormError> {
        let end = self.held.windows(4).take(HEADERS_MAX).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else {
            if self.held.len() > HEADERS_MAX {
                return Err(FormError::Malformed("the head of a part is too long"));
            }
            return Ok(Step::NeedsMore);
        };
        if self.finder.find(&self.held[..end]).is_some() {
            return Err(FormError::Malformed("a delimiter stands in the head of a part"));
        }
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return Err(FormError::Malformed("it has too many parts"));
        }
        let part = part(&self.held[..end])?;
        let watched = (self.watched)(&part.name);
        if watched && self.sealed {
            return Err(FormError::Late(part.name));
        }
        let kept = watched && !part.file;
        if watched {
            let value = if part.file { Value::File } else { Value::Text(Vec::new()) };
            self.fields.push(Field { name: part.name, value });
        }
        self.held.drain(..end + 4);
        self.state = State::Data { kept };
        Ok(Step::Again)
    }

    fn data(&mut self, kept: bool) -> Result<Step, FormError> {
        let Some(at) = self.finder.find(&self.held) else {
            // A delimiter may have begun, and the end of a line before it.
            let passed = self.held.len().saturating_sub(self.finder.needle().len() + 1);
            self.pass(passed, kept)?;
            return Ok(Step::NeedsMore);
        };
        let Some(end) = at.checked_sub(2).filter(|end| self.held[*end..at] == *b"\r\n") else {
            return Err(FormError::Malformed("a delimiter does not begin its line"));
        };
        if self.held.len() < at + self.finder.needle().len() + 2 {
            return Ok(Step::NeedsMore);
        }
        self.pass(end, kept)?;
        self.delimited(2)
    }

    /// Lets `count` bytes of a part go.
    fn pass(&mut self, count: usize, kept: bool) -> Result<(), FormError> {
        let passed = self.held.drain(..count);
        if kept && let Some(Field { name, value: Value::Text(value) }) = self.fields.last_mut() {
            value.extend(passed);
            if value.len() > VALUE_MAX {
                return Err(FormError::TooLong(name.clone()));
            }
        }
        Ok(())
    }
}

/// The head of a part.
struct Part {
    name: String,
    file: bool,
}

/// The boundary that a Content-Type of `multipart/form-data` names, as in RFC 2046, quoted or not.
fn boundary(content_type: &str) -> Option<&str> {
    let (kind, mut rest) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut found = None;
    while !rest.is_empty() {
        let (key, value, behind) = parameter(rest)?;
        if key.eq_ignore_ascii_case("boundary") && found.replace(value).is_some() {
            return None;
        }
        rest = behind;
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    found.filter(|found| (1..=BOUNDARY_MAX).contains(&found.len()) && found.bytes().all(legal))
}

/// The first parameter of `text`, and what stands behind it. Nothing in quotes is escaped.
fn parameter(text: &str) -> Option<(&str, &str, &str)> {
    let (key, rest) = text.split_once('=')?;
    let key = key.trim_matches([' ', '\t']);
    if let Some(quoted) = rest.strip_prefix('"') {
        let (value, rest) = quoted.split_once('"')?;
        let rest = rest.trim_start_matches([' ', '\t']);
        let rest = if rest.is_empty() { rest } else { rest.strip_prefix(';')? };
        return (!value.contains('\\')).then_some((key, value, rest));
    }
    let (value, rest) = rest.split_once(';').unwrap_or((rest, ""));
    let value = value.trim_end_matches([' ', '\t']);
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\,;".contains(&byte);
    (!value.is_empty() && value.bytes().all(plain)).then_some((key, value, rest))
}

fn part(head: &[u8]) -> Result<Part, FormError> {
    const ODD: FormError = FormError::Malformed("the head of a part is not as it must be");
    let head = std::str::from_utf8(head).map_err(|_| ODD)?;
    let mut found = None;
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or(ODD)?;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if name.is_empty()
            || !name.bytes().all(token)
            || value.chars().any(|char| char.is_control() && char != '\t')
        {
            return Err(ODD);
        }
        let value = value.trim_matches([' ', '\t']);
        if name.eq_ignore_ascii_case("content-disposition") {
            let part = disposition(value).ok_or(ODD)?;
            if found.replace(part).is_some() {
                return Err(ODD);
            }
        } else if name.eq_ignore_ascii_case("content-transfer-encoding") {
            let plain = ["7bit", "8bit", "binary"].iter().any(|plain| value.eq_ignore_ascii_case(plain));
            if !plain {
                return Err(FormError::Malformed("a part is encoded"));
            }
        }
    }
    found.ok_or(ODD)
}

fn disposition(value: &str) -> Option<Part> {
    let (kind, mut rest) = value.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let (mut name, mut plain, mut extended) = (None, false, false);
    while !rest.is_empty() {
        let (key, value, behind) = parameter(rest)?;
        let again = match key.to_ascii_lowercase().as_str() {
            "name" => name.replace(value).is_some(),
            "filename" => std::mem::replace(&mut plain, true),
            "filename*" => std::mem::replace(&mut extended, true),
            _ => return None,
        };
        if again {
            return None;
        }
        rest = behind;
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte);
    let name = name.filter(|name| (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(legal))?;
    Some(Part { name: name.to_owned(), file: plain || extended })
}

#[cfg(test)]
mod tests;
