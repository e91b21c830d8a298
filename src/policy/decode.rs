//! From nodes to the structs of [`raw`](super::raw): a decoder that goes on after a problem.
//!
//! Serde ends at the first value that does not fit. Here a value that does not fit is reported and left out, and its
//! neighbours are read; a record that lost a part says so in `whole`, so that later checks do not take the part for
//! absent. [`record!`] writes the struct, its decoder and its JSON Schema from one list of fields.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::problem::{Place, Sink, listed, nearest, quoted};
use super::yaml::{Entry, Node, Value};

/// What can be read from a node.
pub(crate) trait Decode: Sized {
    /// The value, or a report.
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self>;

    /// What stands for a key that is not written; `None` if it must be.
    fn absent() -> Option<Self> {
        None
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub value: T,
    pub at: Place,
}

/// A list of at least `MIN` items. An item that does not fit is left out.
#[derive(Debug)]
pub(crate) struct List<T, const MIN: usize = 1> {
    pub items: Vec<At<T>>,
    /// Whether nothing of it was left out.
    pub whole: bool,
}

/// A mapping from words spelt as `K` says. The key of a value that does not fit stays.
#[derive(Debug)]
pub(crate) struct Map<K, T> {
    pub entries: Vec<(At<String>, Option<At<T>>)>,
    spelling: PhantomData<K>,
}

/// How a kind of word is spelt.
pub(crate) trait Spelling {
    /// As a regular expression.
    const PATTERN: &'static str;
    /// For people.
    const ALLOWED: &'static str;

    /// Whether `word` fits [`Spelling::PATTERN`].
    fn fits(word: &str) -> bool;
}

/// One word of a closed list.
pub(crate) trait Words: Sized + Copy + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

/// Declares a record: the struct, its decoder and its JSON Schema. `with whole` keeps whether a part was left out.
macro_rules! record {
    ($(#[$meta:meta])* $name:ident $(with $whole:ident)? {
        $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
    }) => {
        #[derive(Debug, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        $(#[$meta])*
        pub(super) struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            $(
                /// Whether nothing of it was left out.
                #[schemars(skip)]
                pub $whole: bool,
            )?
        }

        impl $crate::policy::decode::Decode for $name {
            fn decode(
                node: $crate::policy::yaml::Node,
                problems: &mut $crate::policy::problem::Sink<'_>,
            ) -> Option<Self> {
                let keys = &[$(stringify!($field)),*];
                let mut fields = $crate::policy::decode::Fields::of(node, keys, problems)?;
                $(let $field = fields.take::<$type>(stringify!($field), problems);)*
                Some(Self { $($field: $field?,)* $($whole: fields.whole)? })
            }
        }
    };
}
pub(crate) use record;

/// The entries of a record that are not taken yet.
pub(crate) struct Fields {
    at: Place,
    entries: Vec<Entry>,
    /// Whether every entry fits so far.
    pub whole: bool,
}

impl Fields {
    /// The entries of a mapping with none but these keys.
    pub(crate) fn of(node: Node, keys: &[&str], problems: &mut Sink<'_>) -> Option<Self> {
        let at = node.at.clone();
        let mut entries = mapping(node, problems)?;
        let written = entries.len();
        entries.retain(|entry| {
            let known = keys.contains(&entry.key.as_str());
            if !known {
                unknown_key(entry, keys, problems);
            }
            known
        });
        let whole = entries.len() == written;
        Some(Self { at, entries, whole })
    }

    /// The value of a key, or what stands for it when it is not written.
    pub(crate) fn take<T: Decode>(&mut self, key: &str, problems: &mut Sink<'_>) -> Option<T> {
        if let Some(nth) = self.entries.iter().position(|entry| entry.key == key) {
            let decoded = T::decode(self.entries.swap_remove(nth).node, problems);
            self.whole &= decoded.is_some();
            // A part that does not fit is reported; the rest of the record is still worth checking without it.
            return decoded.or_else(T::absent);
        }
        let absent = T::absent();
        if absent.is_none() && self.whole {
            missing_key(&self.at, key, problems);
        }
        absent
    }
}

/// Reports a key that must be there.
pub(crate) fn missing_key(at: &Place, key: &str, problems: &mut Sink<'_>) {
    problems.report(at, format!("no key `{key}`"), format!("`{key}` must be there"));
}

fn unknown_key(entry: &Entry, keys: &[&str], problems: &mut Sink<'_>) {
    let found = format!("unknown key {}", quoted(&entry.key));
    let problem = problems.report(&entry.key_at, found, listed(keys.iter().copied()));
    if entry.key == "<<" {
        problem.hint("merge keys are not read; write the keys out");
    } else if let Some(near) = nearest(&entry.key, keys.iter().copied()) {
        problem.hint(format!("did you mean `{near}`?"));
    }
}

fn mapping(node: Node, problems: &mut Sink<'_>) -> Option<Vec<Entry>> {
    match node.value {
        Value::Map(entries) => Some(entries),
        _ => mismatch(&node, "a mapping of keys to values", problems),
    }
}

/// Reports a node that is not what is wanted here.
pub(crate) fn mismatch<T>(node: &Node, allowed: &str, problems: &mut Sink<'_>) -> Option<T> {
    problems.report(&node.at, shown(node), allowed);
    None
}

/// A node in a few words.
pub(crate) fn shown(node: &Node) -> String {
    match &node.value {
        Value::Nothing => "nothing".to_owned(),
        Value::Flag(flag) => format!("`{flag}`"),
        Value::Number(text) => format!("the number {}", quoted(text)),
        Value::Text(text) => format!("the text {}", quoted(text)),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        T::decode(node, problems).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Decode> Decode for At<T> {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        let at = node.at.clone();
        T::decode(node, problems).map(|value| Self { value, at })
    }
}

impl<T: Decode, const MIN: usize> Decode for List<T, MIN> {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        let Value::List(items) = node.value else { return mismatch(&node, "a list", problems) };
        if items.len() < MIN {
            problems.report(&node.at, "an empty list", "at least one item");
        }
        let written = items.len();
        let items: Vec<_> = items.into_iter().filter_map(|item| At::decode(item, problems)).collect();
        Some(Self { whole: items.len() == written && written >= MIN, items })
    }
}

impl<K: Spelling, T: Decode> Decode for Map<K, T> {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        let at = node.at.clone();
        let entries = mapping(node, problems)?;
        if entries.is_empty() {
            problems.report(&at, "an empty mapping", "at least one key");
        }
        Some(Self::of(entries, problems))
    }
}

impl<K: Spelling, T: Decode> Map<K, T> {
    /// The map of these entries.
    pub(crate) fn of(entries: Vec<Entry>, problems: &mut Sink<'_>) -> Self {
        let mut read = Vec::with_capacity(entries.len());
        for entry in entries {
            if K::fits(&entry.key) {
                let key = At { value: entry.key, at: entry.key_at };
                read.push((key, At::decode(entry.node, problems)));
            } else {
                problems.report(&entry.key_at, format!("key {}", quoted(&entry.key)), K::ALLOWED);
            }
        }
        Self { entries: read, spelling: PhantomData }
    }

    /// The entries that fit.
    pub(crate) fn fitting(&self) -> impl Iterator<Item = (&At<String>, &At<T>)> {
        self.entries.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }

    /// Where a key stands in the list of keys, whether its value fits or not.
    pub(crate) fn position(&self, key: &str) -> Option<usize> {
        self.entries.iter().position(|(known, _)| known.value == key)
    }

    /// All keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(key, _)| key.value.as_str())
    }
}

impl<T: Words> Decode for T {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        let Value::Text(text) = &node.value else {
            return mismatch(&node, &listed(words::<T>()), problems);
        };
        if let Some((_, value)) = T::WORDS.iter().find(|(word, _)| word == text) {
            return Some(*value);
        }
        let problem = problems.report(&node.at, shown(&node), listed(words::<T>()));
        if let Some(near) = nearest(text, words::<T>()) {
            problem.hint(format!("did you mean `{near}`?"));
        }
        None
    }
}

fn words<T: Words>() -> impl Iterator<Item = &'static str> {
    T::WORDS.iter().map(|(word, _)| *word)
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema, const MIN: usize> JsonSchema for List<T, MIN> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("List_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": generator.subschema_for::<T>(), "minItems": MIN})
    }
}

impl<K: Spelling, T: JsonSchema> JsonSchema for Map<K, T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Map_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": {"pattern": K::PATTERN},
            "additionalProperties": generator.subschema_for::<T>(),
            "minProperties": 1,
        })
    }
}
