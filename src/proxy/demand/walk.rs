//! Walks the parts of a body that hold input, tools and ids.
//!
//! One table of keys says what stands behind each ([`Place::of`]). It holds wherever the API has an object of its own,
//! at any depth; not inside what the client made up ([`Place::Opaque`]: schemas, arguments, filters) and never inside a
//! text. A key is compared unescaped, so `"file\u005fid"` is `file_id`. Members of an unknown name are walked too: what
//! the API learns to take tomorrow must not open a door.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::size::{Binary, Size};
use super::{BadRequest, Foreign, ForeignKind, Refused};

/// What a walk gathers.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) size: Size,
    refused: Option<Refusal>,
    /// The way to a refused id, from the inside out.
    way: Vec<Step>,
    /// What the value that was walked last is.
    last: Last,
}

#[derive(Debug)]
enum Refusal {
    Bad(BadRequest),
    Foreign(ForeignKind),
}

#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Something,
    Null,
    /// The text `item_reference`.
    Reference,
}

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Text, or parts that hold some.
    Parts,
    /// Text, or items, one of which may be the id of a stored one.
    Items,
    /// One of them.
    Item,
    /// What the client made up: counted as text, its keys mean nothing.
    Opaque,
    /// What an object is, or who speaks.
    Kind,
    /// Not looked at.
    Ignored,
    /// What is no text.
    Binary(Binary),
    /// A picture, by URL or in an object.
    Picture,
    /// Audio in an object.
    Recording,
    /// One id or several of this kind, alone or in an object.
    Ids(ForeignKind),
    /// An object that may name one by its `id`; a text names none.
    Named(ForeignKind),
    /// A container's id, or what a new one is made of.
    Container,
}

impl Place {
    fn of(key: &str) -> Self {
        match key {
            "file_id" | "file_ids" => Self::Ids(ForeignKind::File),
            "vector_store_id" | "vector_store_ids" => Self::Ids(ForeignKind::VectorStore),
            "container_id" => Self::Ids(ForeignKind::Container),
            "skill_id" => Self::Ids(ForeignKind::Skill),
            "container" => Self::Container,
            "audio" => Self::Named(ForeignKind::Audio),
            "voice" => Self::Named(ForeignKind::Voice),
            "type" | "role" => Self::Kind,
            "image_url" => Self::Picture,
            "result" => Self::Binary(Binary::Result),
            "input_audio" => Self::Recording,
            "file_data" | "file_url" => Self::Binary(Binary::File),
            "encrypted_content" => Self::Binary(Binary::Encrypted),
            "parameters" | "schema" | "input_schema" | "output_schema" | "json_schema" | "format"
            | "arguments" | "action" | "filters" | "attributes" => Self::Opaque,
            "id" | "status" | "call_id" | "detail" | "metadata" | "client_metadata" | "logprobs"
            | "headers" | "authorization" => Self::Ignored,
            _ => Self::Parts,
        }
    }

    /// What stands behind `key` in an object at this place.
    fn inside(self, key: &str) -> Self {
        match (self, key) {
            (Self::Opaque, _) => Self::Opaque,
            (Self::Recording, "data") => Self::Binary(Binary::Audio),
            (Self::Picture, _) => Self::Ignored,
            (Self::Named(kind), "id") => Self::Ids(kind),
            _ => Self::of(key),
        }
    }

    /// What an element of an array at this place is.
    fn element(self) -> Self {
        match self {
            Self::Items => Self::Item,
            Self::Item => Self::Parts,
            place => place,
        }
    }
}

impl Walk {
    /// Ends the walk with a refusal; the error only unwinds the parser.
    pub(super) fn refuse<E: Error>(&mut self, bad: BadRequest) -> E {
        self.refused = Some(Refusal::Bad(bad));
        E::custom("refused")
    }

    /// Ends the walk at an id.
    pub(super) fn refuse_id<E: Error>(&mut self, kind: ForeignKind) -> E {
        self.refused = Some(Refusal::Foreign(kind));
        E::custom("refused")
    }

    /// Notes, on the way out, that the refused id stands behind `key`.
    pub(super) fn leave_key(&mut self, key: &str) {
        self.way.push(Step::Key(key.to_owned()));
    }

    /// Why the walk ended early, if it did.
    pub(super) fn refusal(&mut self) -> Option<Refused> {
        Some(match self.refused.take()? {
            Refusal::Bad(bad) => Refused::Bad(bad),
            Refusal::Foreign(kind) => Refused::Foreign(Foreign { kind, param: self.param() }),
        })
    }

    fn param(&self) -> String {
        let mut param = String::new();
        for step in self.way.iter().rev() {
            match step {
                Step::Key(key) if param.is_empty() => param.push_str(key),
                Step::Key(key) => param.extend([".", key]),
                Step::Index(index) => param.extend(["[", &index.to_string(), "]"]),
            }
        }
        param
    }
}

/// A key, borrowed from the body where it has no escapes.
pub(super) struct Key<'de>(pub(super) Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// Walks one value.
pub(super) struct At<'w> {
    pub(super) place: Place,
    pub(super) walk: &'w mut Walk,
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.place == Place::Ignored {
            self.walk.last = Last::Something;
            return deserializer.deserialize_ignored_any(IgnoredAny).map(drop);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let walk = self.walk;
        walk.last = Last::Something;
        match self.place {
            Place::Ids(kind) => return Err(walk.refuse_id(kind)),
            Place::Container => return Err(walk.refuse_id(ForeignKind::Container)),
            Place::Kind if text == "item_reference" => walk.last = Last::Reference,
            Place::Kind | Place::Ignored | Place::Named(_) => {}
            Place::Picture => walk.size.binary(Binary::Image, text.len()),
            Place::Recording => walk.size.binary(Binary::Audio, text.len()),
            Place::Binary(binary) => walk.size.binary(binary, text.len()),
            Place::Parts | Place::Items | Place::Item | Place::Opaque => walk.size.text(text.len()),
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.number();
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.number();
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.number();
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.number();
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.walk.last = Last::Null;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let (place, walk) = (self.place.element(), self.walk);
        for index in 0.. {
            match elements.next_element_seed(At { place, walk: &mut *walk }) {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(error) => {
                    walk.way.push(Step::Index(index));
                    return Err(error);
                }
            }
        }
        walk.last = Last::Something;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let (place, walk) = (self.place, self.walk);
        match place {
            Place::Ids(kind) => return Err(walk.refuse_id(kind)),
            Place::Picture => walk.size.binary(Binary::Image, 0),
            _ => {}
        }
        let (mut reference, mut has_id, mut has_shape) = (false, false, false);
        while let Some(Key(key)) = members.next_key()? {
            if place == Place::Opaque {
                walk.size.text(key.len());
            }
            let inside = place.inside(&key);
            if let Err(error) = members.next_value_seed(At { place: inside, walk: &mut *walk }) {
                walk.leave_key(&key);
                return Err(error);
            }
            has_id |= key == "id";
            has_shape |= matches!(&*key, "type" | "role") && walk.last != Last::Null;
            reference |= walk.last == Last::Reference;
        }
        walk.last = Last::Something;
        // The API reads an item that says neither what it is nor who speaks as a reference by its id.
        if place != Place::Opaque && (reference || place == Place::Item && has_id && !has_shape) {
            walk.leave_key("id");
            return Err(walk.refuse_id(ForeignKind::Item));
        }
        Ok(())
    }
}

impl At<'_> {
    fn number(self) {
        self.walk.last = Last::Something;
        if self.place == Place::Opaque {
            self.walk.size.text(1);
        }
    }
}
