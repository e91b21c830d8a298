//! The one place that knows the YAML library: text in, a tree of nodes with their places out.
//!
//! Numbers keep the text they were written with, so no decimal passes through a float. A key written twice reaches us
//! twice and is reported with the rest; only text that is no YAML at all ends the reading at its first fault. Size,
//! depth and the expansion of aliases are bounded.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Location, Spanned};

use super::problem::{Place, Sink, quoted, tame};

const MAX_BYTES: usize = 1 << 20;
const MAX_NODES: usize = 20_000;
const MAX_DEPTH: usize = 32;

/// A value of the file and where it stands.
#[derive(Debug)]
pub(crate) struct Node {
    pub at: Place,
    pub value: Value,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Value {
    Nothing,
    Flag(bool),
    /// As written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// Each key once.
    Map(Vec<Entry>),
}

/// A key of a mapping and what it leads to. The key's place has the path of the value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub key_at: Place,
    pub node: Node,
}

/// The document in `text`; `None` and a report where it is no YAML.
pub(crate) fn read(text: &str, problems: &mut Sink<'_>) -> Option<Node> {
    let start = Place { line: 1, column: 1, length: 1, path: String::new() };
    if text.len() > MAX_BYTES {
        problems.report(
            &start,
            format!("a file of {} bytes", text.len()),
            format!("at most {MAX_BYTES} bytes"),
        );
        return None;
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_depth: MAX_DEPTH,
            max_anchors: 100,
            max_aliases: 1000,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_NODES },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Wire>>(text, options) {
        Ok(wire) => Some(Tree { text, problems }.node(wire, String::new())),
        Err(error) => {
            let at = error.location().map_or(start, |location| place(&location, String::new()));
            problems.report(&at, complaint(&error), "one document in YAML 1.2, of bounded size and depth");
            None
        }
    }
}

/// What the library complains of, without the place, which stands beside it.
fn complaint(error: &Error) -> String {
    match error.without_snippet() {
        Error::MultipleDocuments { .. } => "a second document".to_owned(),
        Error::Budget { .. } => "more or deeper than such a file may be".to_owned(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            "an alias inside of what it stands for".to_owned()
        }
        other => {
            let message = other.to_string();
            tame(message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message))
        }
    }
}

/// A value as the library tells it. Scalars that are not text are read again from the source.
enum Wire {
    Nothing,
    Flag(bool),
    Number,
    Text(String),
    List(Vec<Spanned<Wire>>),
    Map(Vec<(Spanned<Wire>, Spanned<Wire>)>),
}

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WireVisitor)
    }
}

struct WireVisitor;

impl<'de> Visitor<'de> for WireVisitor {
    type Value = Wire;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Wire, E> {
        Ok(Wire::Nothing)
    }

    fn visit_none<E>(self) -> Result<Wire, E> {
        Ok(Wire::Nothing)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Wire, E> {
        Ok(Wire::Flag(flag))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Wire, E> {
        Ok(Wire::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Wire, E> {
        Ok(Wire::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Wire, E> {
        Ok(Wire::Number)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Wire, E> {
        Ok(Wire::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Wire, E> {
        Ok(Wire::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Wire, E> {
        Ok(Wire::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Wire, E> {
        Ok(Wire::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Wire, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Wire::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Wire, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Wire::Map(map))
    }
}

/// Turns what the library told into nodes.
struct Tree<'a, 'b> {
    text: &'a str,
    problems: &'a mut Sink<'b>,
}

impl Tree<'_, '_> {
    fn node(&mut self, wire: Spanned<Wire>, path: String) -> Node {
        let value = match wire.value {
            Wire::Nothing => Value::Nothing,
            Wire::Flag(flag) => Value::Flag(flag),
            Wire::Number => Value::Number(self.written(&wire.defined)),
            Wire::Text(text) => Value::Text(text),
            Wire::List(items) => {
                let numbered = items.into_iter().enumerate();
                Value::List(numbered.map(|(nth, item)| self.node(item, format!("{path}[{nth}]"))).collect())
            }
            Wire::Map(entries) => Value::Map(self.entries(entries, &path)),
        };
        Node { at: place(&wire.referenced, path), value }
    }

    fn entries(&mut self, wire: Vec<(Spanned<Wire>, Spanned<Wire>)>, path: &str) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(wire.len());
        for (key, value) in wire {
            let text = match key.value {
                Wire::Text(text) => text,
                Wire::Flag(_) | Wire::Number => self.written(&key.defined),
                Wire::Nothing | Wire::List(_) | Wire::Map(_) => {
                    let at = place(&key.referenced, path.to_owned());
                    self.problems.report(&at, "a key that is no word", "words as keys");
                    continue;
                }
            };
            let joint = if path.is_empty() { "" } else { "." };
            let below = format!("{path}{joint}{}", tame(&text));
            let key_at = place(&key.referenced, below.clone());
            let node = self.node(value, below);
            match entries.iter().find(|known| known.key == text) {
                Some(first) => {
                    let hint = format!("the first is in line {}", first.key_at.line);
                    let found = format!("key {} a second time", quoted(&text));
                    self.problems.report(&key_at, found, "each key once").hint(hint);
                }
                None => entries.push(Entry { key: text, key_at, node }),
            }
        }
        entries
    }

    /// The source of a scalar. Where it cannot be told, nothing, which is no number.
    fn written(&self, location: &Location) -> String {
        let span = location.span();
        let range = span.byte_offset().zip(span.byte_len()).and_then(|(start, length)| {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(usize::try_from(length).ok()?)?)
        });
        range.and_then(|range| self.text.get(range)).unwrap_or_default().trim().to_owned()
    }
}

fn place(location: &Location, path: String) -> Place {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Place {
        line: number(location.line()),
        column: number(location.column()),
        length: number(location.span().len()),
        path,
    }
}
