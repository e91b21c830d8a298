//! What one call generates: decided whole before its first byte, and the pieces of JSON that every shape shares.
//!
//! JSON is written by hand, member by member: in a bench the upstream's own work should be next to nothing, and the
//! shapes are fixed. Tests parse all of it.

use std::fmt::{self, Write as _};

use super::behaviour::{Behaviour, Ending, UsageShape};
use super::request::Call;

/// The unique part of all ids of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    /// Tells this upstream's ids from another's.
    pub series: u64,
    /// The request's number.
    pub number: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.series, self.number)
    }
}

/// The answer to one call, before it takes a shape.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    pub id: Id,
    /// Unix seconds.
    pub created_at: i64,
    /// The model's name as a JSON string.
    pub model_json: String,
    /// Free of characters that JSON escapes.
    pub tier: String,
    pub input_tokens: u64,
    /// Of one choice, reasoning included.
    pub output_tokens: u64,
    /// Whether the request's maximum stopped the output.
    pub is_clipped: bool,
    pub behaviour: Behaviour,
}

/// What stands around a call and not in it.
#[derive(Clone, Copy)]
pub(super) struct Setting {
    pub id: Id,
    /// Unix seconds.
    pub created_at: i64,
    /// Tokens of the conversation so far, by `previous_response_id`.
    pub context_tokens: u64,
    /// The call's place in a series of spread lengths.
    pub length_index: u64,
}

impl Generation {
    /// Decides the answer to `call`, of whose output there are at most `output_max` tokens.
    pub(super) fn new(
        call: &Call<'_>,
        output_max: Option<u64>,
        behaviour: Behaviour,
        setting: Setting,
    ) -> Self {
        let planned = match behaviour.spread {
            Some(spread) => spread.length(setting.length_index, behaviour.output_tokens),
            None => behaviour.output_tokens,
        };
        let output_tokens = output_max.map_or(planned, |most| planned.min(most));
        let asked = call.service_tier.as_deref().unwrap_or("auto");
        let tier = behaviour.tier.as_deref().unwrap_or(match asked {
            "priority" | "fast" => "priority",
            "flex" => "flex",
            _ => "default",
        });
        Self {
            id: setting.id,
            created_at: setting.created_at,
            model_json: quoted(call.model.as_deref().unwrap_or_default()),
            tier: tier.to_owned(),
            input_tokens: call.input_tokens().saturating_add(setting.context_tokens),
            output_tokens,
            is_clipped: output_tokens < planned,
            behaviour,
        }
    }

    /// Tokens of one choice that are text.
    pub(super) fn text_tokens(&self) -> u64 {
        self.output_tokens - self.reasoning_tokens()
    }

    /// Tokens of one choice that are reasoning.
    pub(super) fn reasoning_tokens(&self) -> u64 {
        self.behaviour.reasoning_tokens.min(self.output_tokens)
    }

    /// Input tokens that came from the cache.
    pub(super) fn cached_tokens(&self) -> u64 {
        self.behaviour.cached_tokens.min(self.input_tokens)
    }

    /// Input tokens that went into the cache; none is both.
    pub(super) fn written_tokens(&self) -> u64 {
        self.behaviour.written_tokens.min(self.input_tokens - self.cached_tokens())
    }

    /// How usage is told at the end.
    pub(super) fn usage_shape(&self) -> UsageShape {
        match self.behaviour.ending {
            Ending::Failed | Ending::ErrorEvent => UsageShape::Null,
            Ending::Done | Ending::FailedWithUsage => self.behaviour.usage,
        }
    }

    /// How many text events a stream of one choice has.
    pub(super) fn text_events(&self) -> u64 {
        self.behaviour.text_events(self.text_tokens())
    }

    /// The text of the `event`-th of them.
    pub(super) fn push_event_text(&self, out: &mut String, event: u64) {
        let events = u128::from(self.text_events().max(1));
        let tokens = u128::from(self.text_tokens());
        let edge = |event: u64| u64::try_from(u128::from(event) * tokens / events).unwrap_or(u64::MAX);
        push_text(out, edge(event), edge(event + 1));
    }

    /// All of the text.
    pub(super) fn push_all_text(&self, out: &mut String) {
        push_text(out, 0, self.text_tokens());
    }

    /// As many `x` as the behaviour blows the answer up by.
    pub(super) fn push_padding(&self, out: &mut String) {
        let bytes = usize::try_from(self.behaviour.padding_kib * 1024).unwrap_or(0);
        out.extend(std::iter::repeat_n('x', bytes));
    }
}

/// Tokens `from` to `to` of the text that every answer has: four bytes each, so that bytes ÷ 4 is right.
pub(super) fn push_text(out: &mut String, from: u64, to: u64) {
    const TOKENS: [&str; 8] = ["the ", "sea ", "was ", "low ", "and ", "far ", "off ", "now "];
    for token in from..to {
        out.push_str(usize::try_from(token % 8).map_or("", |at| TOKENS[at]));
    }
}

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    // Serialising a string does not fail.
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

/// Appends formatted text; writing into a `String` does not fail.
pub(super) fn push(out: &mut String, text: fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}
