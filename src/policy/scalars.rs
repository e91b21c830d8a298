//! The scalars of a policy file: names, numbers as written, lengths of time, closed lists of words.

use std::str::FromStr;

use jiff::civil::DateTime;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::compiled::{Api, CalendarUnit, LayerKind, Scope, WhenExhausted};
use super::decode::{Decode, Spelling, Words, mismatch, shown};
use super::problem::{Sink, nearest, quoted};
use super::yaml::{Node, Value};
use crate::units::{Credits, Decimal, Span, Timestamp, Unit};

/// Longest length of time: ten years, leap days included. Nothing that adds a few of them overflows.
const MAX_DAYS: u64 = 3653;
const MS_PER_DAY: u64 = 86_400_000;

/// Spelling of the names of balances, features, plans, guards and layers.
#[derive(Debug)]
pub(crate) enum NameSpelling {}
/// Spelling of a size of video.
#[derive(Debug)]
pub(crate) enum SizeSpelling {}
/// Spelling of the upstream's own words: tiers and hosted tools.
#[derive(Debug)]
pub(crate) enum UpstreamSpelling {}

/// A name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub String);
/// Any text.
#[derive(Clone, Debug)]
pub(crate) struct Text(pub String);
/// A count of at least one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count(pub u64);
/// An amount of credits above zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Money(pub Credits);
/// An amount of credits, zero for none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MoneyOrNone(pub Credits);
/// A price, zero for free.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate(pub Decimal);
/// A multiplier above zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factor(pub Decimal);
/// An amount in a unit that stands elsewhere, as written; or `unlimited`.
#[derive(Clone, Debug)]
pub(crate) enum Allowance {
    Amount(String),
    Unlimited,
}
/// A length of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length(pub Span);
/// A length of time or a stretch of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Every {
    Length(Span),
    Calendar(CalendarUnit),
}
/// An instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instant(pub Timestamp);
/// When a window begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Starts {
    FirstUse,
    Calendar,
}

impl Words for Starts {
    const WORDS: &'static [(&'static str, Self)] =
        &[("first_use", Self::FirstUse), ("calendar", Self::Calendar)];
}

impl Words for Scope {
    const WORDS: &'static [(&'static str, Self)] = &[("user", Self::User), ("account", Self::Account)];
}

impl Words for Api {
    const WORDS: &'static [(&'static str, Self)] =
        &[("responses", Self::Responses), ("chat", Self::Chat), ("videos", Self::Videos)];
}

impl Words for WhenExhausted {
    const WORDS: &'static [(&'static str, Self)] = &[("finish", Self::Finish), ("stop", Self::Stop)];
}

impl Words for LayerKind {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("rate_limit", Self::RateLimit),
        ("free_tier", Self::FreeTier),
        ("promotion", Self::Promotion),
        ("entitlement", Self::Entitlement),
        ("prepaid", Self::Prepaid),
    ];
}

impl Words for Unit {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("request", Self::Request),
        ("input_token", Self::InputToken),
        ("output_token", Self::OutputToken),
        ("token", Self::Token),
        ("second", Self::Second),
        ("credit", Self::Credit),
    ];
}

impl Spelling for NameSpelling {
    const PATTERN: &'static str = "^[a-z][a-z0-9-]{0,31}$";
    const ALLOWED: &'static str =
        "a name of at most 32 of a-z, 0-9 and -, beginning with a letter, such as `plus-2`";

    fn fits(word: &str) -> bool {
        is_word(word, '-')
    }
}

impl Spelling for UpstreamSpelling {
    const PATTERN: &'static str = "^[a-z][a-z0-9_]{0,31}$";
    const ALLOWED: &'static str =
        "a word of at most 32 of a-z, 0-9 and _, beginning with a letter, such as `web_search`";

    fn fits(word: &str) -> bool {
        is_word(word, '_')
    }
}

impl Spelling for SizeSpelling {
    const PATTERN: &'static str = "^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$";
    const ALLOWED: &'static str = "a size in pixels, such as `1280x720`";

    fn fits(word: &str) -> bool {
        let side = |side: &str| side.len() <= 5 && !side.starts_with('0') && digits(side).is_some();
        word.split_once('x').is_some_and(|(width, height)| side(width) && side(height))
    }
}

fn is_word(word: &str, joint: char) -> bool {
    let inner = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == joint;
    word.len() <= 32 && word.starts_with(|first: char| first.is_ascii_lowercase()) && word.chars().all(inner)
}

/// A whole number in digits, thousands set apart by `_` if at all.
pub(crate) fn digits(text: &str) -> Option<u64> {
    let text = text.replace('_', "");
    let decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    decimal.then(|| text.parse().ok()).flatten()
}

impl Decode for Text {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        match node.value {
            Value::Text(text) => Some(Self(text)),
            Value::Number(_) | Value::Flag(_) => {
                problems.report(&node.at, shown(&node), "a text").hint("put it in quotes");
                None
            }
            _ => mismatch(&node, "a text", problems),
        }
    }
}

impl Decode for Name {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        match node.value {
            Value::Text(text) if NameSpelling::fits(&text) => Some(Self(text)),
            _ => mismatch(&node, NameSpelling::ALLOWED, problems),
        }
    }
}

impl Decode for bool {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        match node.value {
            Value::Flag(flag) => Some(flag),
            _ => mismatch(&node, "true, false", problems),
        }
    }
}

/// The number of a node by `read`, which says why a text is none.
fn number<T>(
    node: &Node,
    allowed: &str,
    problems: &mut Sink<'_>,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    match &node.value {
        Value::Number(text) => match read(text) {
            Ok(value) => Some(value),
            Err(reason) => {
                problems.report(&node.at, shown(node), allowed).hint(reason);
                None
            }
        },
        Value::Text(text) => {
            let problem = problems.report(&node.at, shown(node), allowed);
            if text == "unlimited" {
                problem.hint("only `allow` of a window can be `unlimited`");
            } else if Decimal::from_str(text).is_ok() {
                problem.hint(UNQUOTE);
            }
            None
        }
        _ => mismatch(node, allowed, problems),
    }
}

const UNQUOTE: &str = "write it without quotes";
const ZERO: &str = "0 neither limits nor means `unlimited`; leave out what is not wanted";

impl Decode for Count {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        number(&node, "a whole number of at least 1", problems, |text| match digits(text) {
            Some(0) => Err(ZERO.to_owned()),
            Some(count) if count <= Credits::MAX.micros() => Ok(Self(count)),
            Some(_) => Err("at most 9007199254740991".to_owned()),
            None => Err("digits only".to_owned()),
        })
    }
}

impl Decode for MoneyOrNone {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        let allowed = "an amount of credits such as 12 or 0.5, or 0 for none";
        number(&node, allowed, problems, |text| credits(text).map(Self))
    }
}

impl Decode for Money {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        number(&node, "an amount of credits above 0, such as 12 or 0.5", problems, |text| {
            let credits = credits(text)?;
            if credits.is_zero() { Err(ZERO.to_owned()) } else { Ok(Self(credits)) }
        })
    }
}

/// Credits as written, or why not.
pub(crate) fn credits(text: &str) -> Result<Credits, String> {
    Credits::from_str(text).map_err(|error| error.to_string())
}

fn decimal(text: &str) -> Result<Decimal, String> {
    Decimal::from_str(text).map_err(|error| error.to_string())
}

impl Decode for Rate {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        number(&node, "a price in credits such as 43.75, or 0 for free", problems, |text| {
            decimal(text).map(Self)
        })
    }
}

impl Decode for Factor {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        number(&node, "a multiplier above 0, such as 1.5", problems, |text| match decimal(text)? {
            zero if zero.is_zero() => Err("what is free has a row of its own with the price 0".to_owned()),
            factor => Ok(Self(factor)),
        })
    }
}

impl Decode for Allowance {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        let allowed = "a number above 0 in the layer's unit, or the word `unlimited`";
        match node.value {
            Value::Number(text) => Some(Self::Amount(text)),
            Value::Text(text) if text == "unlimited" => Some(Self::Unlimited),
            Value::Text(ref text) => {
                let problem = problems.report(&node.at, shown(&node), allowed);
                if nearest(text, ["unlimited"]).is_some() || matches!(text.as_str(), "none" | "infinite") {
                    problem.hint("did you mean `unlimited`?");
                } else if Decimal::from_str(text).is_ok() {
                    problem.hint(UNQUOTE);
                }
                None
            }
            _ => mismatch(&node, allowed, problems),
        }
    }
}

const LENGTH: &str = "a length of time such as 500ms, 120s, 1m, 5h or 7d";

impl Decode for Length {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        length(&node, LENGTH, problems).map(Self)
    }
}

impl Decode for Every {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text == "day" => Some(Self::Calendar(CalendarUnit::Day)),
            Value::Text(text) if text == "week" => Some(Self::Calendar(CalendarUnit::Week)),
            Value::Text(text) if text == "month" => Some(Self::Calendar(CalendarUnit::Month)),
            _ => length(&node, &format!("{LENGTH}, or day, week, month"), problems).map(Self::Length),
        }
    }
}

fn length(node: &Node, allowed: &str, problems: &mut Sink<'_>) -> Option<Span> {
    let (Value::Text(text) | Value::Number(text)) = &node.value else {
        return mismatch(node, allowed, problems);
    };
    let hint = match span(text) {
        Ok(span) => return Some(span),
        Err(hint) => hint,
    };
    let problem = problems.report(&node.at, shown(node), allowed);
    if !hint.is_empty() {
        problem.hint(hint);
    }
    None
}

fn span(text: &str) -> Result<Span, String> {
    let unit = text.trim_start_matches(|char: char| char.is_ascii_digit());
    let count = digits(&text[..text.len() - unit.len()]);
    let ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => MS_PER_DAY,
        "" if count.is_some() => return Err(format!("with a unit: {text}s, say")),
        "w" => return Err("count a week as 7d".to_owned()),
        _ => return Err(String::new()),
    };
    match count.ok_or_else(String::new)?.checked_mul(ms) {
        Some(0) => Err("0 is no time at all".to_owned()),
        Some(ms) if ms <= MAX_DAYS * MS_PER_DAY => Ok(Span::from_ms(ms)),
        _ => Err(format!("at most {MAX_DAYS}d")),
    }
}

impl Decode for Instant {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        let allowed = "an instant as RFC 3339 writes it, such as \"2026-11-01T00:00:00Z\"";
        let Value::Text(text) = &node.value else { return mismatch(&node, allowed, problems) };
        let plain = text.contains('T') && !text.contains('[');
        if let (true, Ok(instant)) = (plain, text.parse::<jiff::Timestamp>()) {
            return Some(Self(Timestamp::from_ms(instant.as_millisecond())));
        }
        let problem = problems.report(&node.at, shown(&node), allowed);
        if text.parse::<DateTime>().is_ok() {
            problem.hint(format!("with time and zone: {}", quoted(&example(text))));
        }
        None
    }
}

/// A date or a local time written out as an instant of UTC.
fn example(text: &str) -> String {
    text.parse::<DateTime>().map(|local| format!("{local}Z")).unwrap_or_default()
}

/// Implements the schema of a scalar.
macro_rules! scalar_schema {
    ($($type:ty => $schema:tt,)*) => {$(
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

scalar_schema! {
    Name => {"type": "string", "pattern": NameSpelling::PATTERN},
    Text => {"type": "string"},
    Count => {"type": "integer", "minimum": 1, "maximum": Credits::MAX.micros()},
    Money => {"type": "number", "exclusiveMinimum": 0},
    MoneyOrNone => {"type": "number", "minimum": 0},
    Rate => {"type": "number", "minimum": 0},
    Factor => {"type": "number", "exclusiveMinimum": 0},
    Allowance => {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "unlimited"}]},
    Length => {"type": "string", "pattern": "^[0-9]*[1-9][0-9]*(ms|s|m|h|d)$"},
    Every => {"anyOf": [
        {"type": "string", "pattern": "^[0-9]*[1-9][0-9]*(ms|s|m|h|d)$"},
        {"enum": ["day", "week", "month"]},
    ]},
    Instant => {"type": "string", "format": "date-time"},
}
