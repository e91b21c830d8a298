//! What a call of the Videos API asks for: the fields that price it, and the things that it names.
//!
//! JSON and forms say the same. A field stands there once: the upstream might take the other one. What could make
//! more, or name something stored, in a way that is not known here is refused. A video made out of another has that
//! one's length, size and model; where such a call states them all the same, they have to be those.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::walk::Key;
use super::{BadRequest, Foreign, ForeignKind, Refused, scalar};
use crate::proxy::multipart::{Field, Value};

/// The model where none is named.
pub const MODEL_DEFAULT: &str = "sora-2";
/// The seconds where none are stated.
pub const SECONDS_DEFAULT: u64 = 4;
/// The size where none is stated.
pub const SIZE_DEFAULT: &str = "720x1280";
/// The longest video of the API: what an uploaded source of unknown length may have.
pub const SECONDS_LONGEST: u64 = 120;
/// The most seconds that are believed.
const SECONDS_MAX: u64 = 3600;
/// The most characters in one video.
const CHARACTERS_MAX: usize = 16;
/// The most members of one object.
const MEMBERS_MAX: usize = 256;
const NAME_MAX: usize = 128;

/// Fields that price a call, or name something stored.
const WATCHED: [&str; 8] =
    ["model", "seconds", "size", "n", "video", "characters", "input_reference", "_charset_"];

/// What a call of the Videos API asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedVideo {
    /// The model, where one is named.
    pub model: Option<String>,
    /// How long, where that is stated.
    pub seconds: Option<u64>,
    /// `WIDTHxHEIGHT`, where that is stated.
    pub size: Option<String>,
    /// What it is made out of, where that is another video.
    pub source: Option<Source>,
    /// Characters that it names.
    pub characters: SmallVec<[String; 2]>,
}

/// The video that another is made out of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// One that was made here.
    Stored(String),
    /// One that is sent along.
    Uploaded,
}

impl AskedVideo {
    /// Whether a field of a form has to be read.
    pub fn is_watched(name: &str) -> bool {
        let base = name.split(['[', '.']).next().unwrap_or(name);
        WATCHED.iter().any(|watched| watched.eq_ignore_ascii_case(base))
    }

    /// Reads a JSON body.
    pub fn of_json(body: &[u8]) -> Result<Self, Refused> {
        scalar::object(body)?;
        let members = members(body)?;
        let mut asked = Self::default();
        for (name, raw) in &members {
            asked.member(name, raw)?;
        }
        Ok(asked)
    }

    /// Reads the watched fields of a form.
    pub fn of_form(fields: &[Field]) -> Result<Self, Refused> {
        let mut asked = Self::default();
        let mut seen: SmallVec<[&str; 8]> = SmallVec::new();
        for field in fields {
            let list = field.name.starts_with("characters[");
            if seen.contains(&&*field.name) && !list {
                return Err(twice(&field.name));
            }
            seen.push(&field.name);
            asked.field(field)?;
        }
        Ok(asked)
    }

    fn member(&mut self, name: &str, raw: &RawValue) -> Result<(), Refused> {
        match name {
            "model" => {
                self.model = scalar::text("model", raw).map_err(Refused::Bad)?.map(model).transpose()?;
            }
            "seconds" => {
                let text = raw.get();
                let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
                self.seconds = (text != "null").then(|| seconds(digits)).transpose()?;
            }
            "size" => self.size = scalar::text("size", raw).map_err(Refused::Bad)?.map(size).transpose()?,
            "n" if matches!(raw.get(), "1" | "null") => {}
            "video" => {
                self.source = named("video", "id", &[], raw)?.map(Source::Stored);
            }
            "input_reference" if named("input_reference", "file_id", &["image_url"], raw)?.is_some() => {
                return Err(file("input_reference.file_id"));
            }
            "characters" => self.characters = characters(raw)?,
            "input_reference" => {}
            _ if Self::is_watched(name) => return Err(unknown(name)),
            _ => {}
        }
        Ok(())
    }

    fn field(&mut self, field: &Field) -> Result<(), Refused> {
        let text = match &field.value {
            Value::File if field.name == "video" => return self.made_of(Source::Uploaded),
            Value::File if field.name == "input_reference" => return Ok(()),
            Value::File => return Err(invalid(&field.name, "a plain field, and not a file")),
            Value::Text(text) => std::str::from_utf8(text).map_err(|_| invalid(&field.name, "text"))?,
        };
        match &*field.name {
            "model" => self.model = Some(model(text.to_owned())?),
            "seconds" => self.seconds = Some(seconds(text)?),
            "size" => self.size = Some(size(text.to_owned())?),
            "n" if text == "1" => {}
            "video[id]" => return self.made_of(Source::Stored(text.to_owned())),
            "input_reference[file_id]" => return Err(file("input_reference[file_id]")),
            "input_reference[image_url]" => {}
            name if is_character(name) => self.character(text.to_owned())?,
            name => return Err(unknown(name)),
        }
        Ok(())
    }

    fn made_of(&mut self, source: Source) -> Result<(), Refused> {
        match self.source.replace(source) {
            None => Ok(()),
            Some(_) => Err(twice("video")),
        }
    }

    fn character(&mut self, id: String) -> Result<(), Refused> {
        self.characters.push(id);
        if self.characters.len() > CHARACTERS_MAX {
            return Err(invalid("characters", "fewer of them"));
        }
        Ok(())
    }
}

/// Whether a form's field is `characters[][id]` or `characters[0][id]`.
fn is_character(name: &str) -> bool {
    let index = name.strip_prefix("characters[").and_then(|rest| rest.strip_suffix("][id]"));
    index.is_some_and(|index| index.len() <= 3 && index.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What an object names as `key`, beside which it may have `others`; `None` where it names nothing.
fn named(param: &'static str, key: &str, others: &[&str], raw: &RawValue) -> Result<Option<String>, Refused> {
    if raw.get() == "null" {
        return Ok(None);
    }
    if !raw.get().starts_with('{') {
        return Err(Refused::Bad(scalar::not_an_object(param, raw)));
    }
    let mut found = None;
    for (name, raw) in &members(raw.get().as_bytes())? {
        if name == key {
            found = scalar::text(param, raw).map_err(Refused::Bad)?;
        } else if !others.contains(&&**name) {
            return Err(unknown(&format!("{param}.{name}")));
        }
    }
    Ok(found)
}

/// The ids that an array of objects names.
struct Characters;

impl<'de> Visitor<'de> for Characters {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of at most {CHARACTERS_MAX}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = elements.next_element()? {
            all.push(element);
            if all.len() > CHARACTERS_MAX {
                return Err(A::Error::invalid_length(all.len(), &self));
            }
        }
        Ok(all)
    }
}

fn characters(raw: &RawValue) -> Result<SmallVec<[String; 2]>, Refused> {
    if raw.get() == "null" {
        return Ok(SmallVec::new());
    }
    let all = serde_json::Deserializer::from_str(raw.get()).deserialize_seq(Characters);
    let all = all.map_err(|_| invalid("characters", "an array of at most 16 objects"))?;
    let id = |one: &RawValue| {
        named("characters", "id", &[], one)?.ok_or_else(|| invalid("characters", "an `id` in each"))
    };
    all.into_iter().map(id).collect()
}

/// The text of a model: what stands in it must not look like another.
fn model(text: String) -> Result<String, Refused> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if plain && (1..=NAME_MAX).contains(&text.len()) {
        Ok(text)
    } else {
        Err(invalid("model", "the name of a model"))
    }
}

fn seconds(text: &str) -> Result<u64, Refused> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let seconds = text.parse().ok().filter(|seconds| plain && (1..=SECONDS_MAX).contains(seconds));
    seconds.ok_or_else(|| invalid("seconds", "a whole number from 1 to 3600"))
}

fn size(text: String) -> Result<String, Refused> {
    let side = |side: &str| {
        (2..=5).contains(&side.len())
            && side.bytes().all(|byte| byte.is_ascii_digit())
            && !side.starts_with('0')
    };
    match text.split_once('x') {
        Some((width, height)) if side(width) && side(height) => Ok(text),
        _ => Err(invalid("size", "WIDTHxHEIGHT, as in 720x1280")),
    }
}

fn invalid(name: &str, expected: &str) -> Refused {
    let message = format!("Invalid value for '{name}': expected {expected}.");
    Refused::Bad(BadRequest { param: param_of(name), message, code: Some("invalid_value") })
}

fn unknown(name: &str) -> Refused {
    let message = format!("Unknown parameter: '{name}'.");
    Refused::Bad(BadRequest { param: param_of(name), message, code: Some("invalid_value") })
}

fn twice(name: &str) -> Refused {
    let message = format!("Duplicate parameter: '{name}'.");
    Refused::Bad(BadRequest { param: param_of(name), message, code: Some("duplicate_parameter") })
}

fn file(param: &str) -> Refused {
    Refused::Foreign(Foreign { kind: ForeignKind::File, param: param.to_owned() })
}

/// The field that a message is about, by the name that is known here.
fn param_of(name: &str) -> Option<&'static str> {
    WATCHED.iter().find(|watched| name.split(['[', '.']).next() == Some(watched)).copied()
}

/// The members of an object, each once.
fn members(body: &[u8]) -> Result<Vec<(String, &RawValue)>, Refused> {
    let mut parser = serde_json::Deserializer::from_slice(body);
    let members = Members.deserialize(&mut parser).and_then(|members| parser.end().map(|()| members));
    let members = members.map_err(|error| scalar::malformed(&error))?;
    let mut names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(twice(pair[0])),
        None => Ok(members),
    }
}

struct Members;

impl<'de> DeserializeSeed<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of at most {MEMBERS_MAX} members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(Key(name)) = map.next_key()? {
            members.push((name.into_owned(), map.next_value()?));
            if members.len() > MEMBERS_MAX {
                return Err(A::Error::invalid_length(members.len(), &self));
            }
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests;
