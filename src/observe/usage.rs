//! What a response says of itself and of its use, as members of its JSON.
//!
//! Upstreams differ in what they leave out, so every count is read by itself: one that is missing, null, negative, no
//! whole number or beyond 2^53 − 1 is missing, never zero. Usage is exact only where both directions are known, one of
//! them from the total if need be; otherwise there is none and the caller estimates.

use std::sync::Arc;

use crate::units::{Amount, Quantities, ToolCalls};

use super::json::{Container, Member};

/// A member that is wanted of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Of the response itself.
    Id,
    /// The model that answered.
    Model,
    /// Where a response in one body stands.
    Status,
    /// The tier that served it.
    Tier,
    /// Its creation, in seconds after the epoch.
    CreatedAt,
    /// What a stream's event is.
    Kind,
    /// The place of an event in its stream.
    SequenceNumber,
    /// An error beside or instead of a response.
    Error,
    /// The choices of a chat completion.
    Choices,
    /// The usage object.
    Usage,
    /// One count of it.
    Count(Count),
    /// Output passing as a delta.
    Delta,
    /// Output in a whole item.
    Item,
}

/// A count in a usage object, under the words of either API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// `input_tokens`.
    Input,
    /// `prompt_tokens`, the same by an older name.
    Prompt,
    /// `cached_tokens` of them.
    Cached,
    /// `cache_write_tokens` of them.
    Written,
    /// `output_tokens`.
    Output,
    /// `completion_tokens`, the same by an older name.
    Completion,
    /// `total_tokens`.
    Total,
    /// Searches of the web, from `tool_usage`.
    WebSearches,
}

type Wanted = Member<Field>;

const INPUT_DETAILS: &[Wanted] = &[
    Member::value("cached_tokens", Field::Count(Count::Cached)),
    Member::value("cache_write_tokens", Field::Count(Count::Written)),
];

const USAGE: Wanted = Member::container(
    "usage",
    Field::Usage,
    &[
        Member::value("input_tokens", Field::Count(Count::Input)),
        Member::path("input_tokens_details", INPUT_DETAILS),
        Member::value("output_tokens", Field::Count(Count::Output)),
        Member::value("prompt_tokens", Field::Count(Count::Prompt)),
        Member::path("prompt_tokens_details", INPUT_DETAILS),
        Member::value("completion_tokens", Field::Count(Count::Completion)),
        Member::value("total_tokens", Field::Count(Count::Total)),
    ],
);

const TOOL_USAGE: Wanted = Member::path(
    "tool_usage",
    &[Member::path("web_search", &[Member::value("num_requests", Field::Count(Count::WebSearches))])],
);

const ITEM: &[Wanted] = &[
    Member::path("content", &[Member::length("text", Field::Item), Member::length("refusal", Field::Item)]),
    Member::path("summary", &[Member::length("text", Field::Item)]),
    Member::length("arguments", Field::Item),
    Member::length("input", Field::Item),
    Member::length("code", Field::Item),
];

const RESPONSE: &[Wanted] = &[
    Member::value("id", Field::Id),
    Member::value("model", Field::Model),
    Member::value("status", Field::Status),
    Member::value("service_tier", Field::Tier),
    Member::value("created_at", Field::CreatedAt),
    Member::path("output", ITEM),
    USAGE,
    TOOL_USAGE,
];

const fn said(field: Field) -> [Wanted; 6] {
    [
        Member::length("content", field),
        Member::length("refusal", field),
        Member::length("reasoning_content", field),
        Member::length("reasoning", field),
        Member::path(
            "tool_calls",
            match field {
                Field::Delta => DELTA_CALL,
                _ => ITEM_CALL,
            },
        ),
        Member::path(
            "function_call",
            match field {
                Field::Delta => DELTA_FUNCTION,
                _ => ITEM_FUNCTION,
            },
        ),
    ]
}

const DELTA_FUNCTION: &[Wanted] = &[Member::length("arguments", Field::Delta)];
const DELTA_CALL: &[Wanted] = &[
    Member::path("function", DELTA_FUNCTION),
    Member::path("custom", &[Member::length("input", Field::Delta)]),
];
const ITEM_FUNCTION: &[Wanted] = &[Member::length("arguments", Field::Item)];
const ITEM_CALL: &[Wanted] = &[
    Member::path("function", ITEM_FUNCTION),
    Member::path("custom", &[Member::length("input", Field::Item)]),
];

/// The body of a response, or of a compaction.
pub static RESPONSE_BODY: Wanted = Member::path("", RESPONSE);

/// An event of a response's stream.
pub static RESPONSE_EVENT: Wanted = Member::path(
    "",
    &[
        Member::value("type", Field::Kind),
        Member::value("sequence_number", Field::SequenceNumber),
        Member::length("delta", Field::Delta),
        Member::path("item", ITEM),
        Member::path("response", RESPONSE),
        Member::container("error", Field::Error, &[]),
    ],
);

/// A chat completion in one body, or a chunk of one that streams.
pub static CHAT: Wanted = Member::path(
    "",
    &[
        Member::value("model", Field::Model),
        Member::value("service_tier", Field::Tier),
        Member::container(
            "choices",
            Field::Choices,
            &[Member::path("delta", &said(Field::Delta)), Member::path("message", &said(Field::Item))],
        ),
        USAGE,
        Member::container("error", Field::Error, &[]),
    ],
);

/// The counts of one usage object and its `tool_usage`.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    present: bool,
    input: Option<u64>,
    prompt: Option<u64>,
    cached: Option<u64>,
    written: Option<u64>,
    output: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    web_searches: Option<u64>,
}

impl Usage {
    /// A usage object begins; it replaces one before it.
    pub fn begin(&mut self, container: Container) {
        *self = Self { web_searches: self.web_searches, ..Self::default() };
        self.present = container == Container::Object;
    }

    /// Whether there is a usage object.
    pub fn is_present(&self) -> bool {
        self.present
    }

    /// One count of it.
    pub fn count(&mut self, count: Count, digits: &str) {
        let place = match count {
            Count::Input => &mut self.input,
            Count::Prompt => &mut self.prompt,
            Count::Cached => &mut self.cached,
            Count::Written => &mut self.written,
            Count::Output => &mut self.output,
            Count::Completion => &mut self.completion,
            Count::Total => &mut self.total,
            Count::WebSearches => &mut self.web_searches,
        };
        *place = whole(digits);
    }

    /// What was used, if the upstream said so. Parts of the input are held to it. Of two names for one count that of the
    /// Responses API counts, whichever came last.
    pub fn quantities(&self) -> Option<Quantities> {
        if !self.present {
            return None;
        }
        let rest = |known: u64| self.total.and_then(|total| total.checked_sub(known));
        let told = (self.input.or(self.prompt), self.output.or(self.completion));
        let (input_tokens, output_tokens) = match told {
            (Some(input), Some(output)) => (input, output),
            (Some(input), None) => (input, rest(input)?),
            (None, Some(output)) => (rest(output)?, output),
            (None, None) => return None,
        };
        let cached_input_tokens = self.cached.unwrap_or(0).min(input_tokens);
        let cache_write_tokens = self.written.unwrap_or(0).min(input_tokens - cached_input_tokens);
        let tool_calls =
            self.web_searches.filter(|calls| *calls > 0).map(|calls| (Arc::from("web_search"), calls));
        Some(Quantities {
            input_tokens,
            cached_input_tokens,
            cache_write_tokens,
            output_tokens,
            seconds: 0,
            tool_calls: tool_calls.into_iter().collect::<ToolCalls>(),
        })
    }
}

/// A count as JSON writes it; `12.0` is one, since some upstreams know only doubles.
pub fn whole(digits: &str) -> Option<u64> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if !fraction.bytes().all(|digit| digit == b'0') {
        return None;
    }
    whole.parse().ok().filter(|count| *count <= Amount::MAX.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(counts: &[(Count, &str)]) -> Option<(u64, u64, u64, u64)> {
        let mut usage = Usage::default();
        usage.begin(Container::Object);
        for (count, digits) in counts {
            usage.count(*count, digits);
        }
        let of = usage.quantities()?;
        Some((of.input_tokens, of.cached_input_tokens, of.cache_write_tokens, of.output_tokens))
    }

    #[test]
    fn missing_usage_is_never_zero() {
        use Count::{Input, Output, Total};
        for counts in [
            &[][..],
            &[(Input, "12")],
            &[(Output, "3")],
            &[(Total, "15")],
            &[(Input, "12"), (Output, "-3")],
            &[(Input, "12"), (Output, "1.5")],
            &[(Input, "12"), (Output, "1e3")],
            &[(Input, "12"), (Output, "9007199254740992")],
            &[(Input, "12"), (Output, "99999999999999999999999")],
            &[(Input, "12"), (Total, "3")],
        ] {
            assert_eq!(usage(counts), None, "{counts:?}");
        }
        assert_eq!(Usage::default().quantities(), None);
    }

    #[test]
    fn what_is_known_is_taken_and_parts_are_held_to_the_whole() {
        use Count::{Cached, Completion, Input, Output, Prompt, Total, Written};
        for (counts, expected) in [
            (&[(Input, "12"), (Prompt, "5"), (Completion, "7"), (Output, "3")][..], (12, 0, 0, 3)),
            (&[(Prompt, "12"), (Input, "-5"), (Completion, "3")], (12, 0, 0, 3)),
            (&[(Input, "12"), (Output, "3")], (12, 0, 0, 3)),
            (&[(Input, "12.0"), (Output, "0")], (12, 0, 0, 0)),
            (&[(Input, "12"), (Total, "15")], (12, 0, 0, 3)),
            (&[(Output, "3"), (Total, "15")], (12, 0, 0, 3)),
            (&[(Input, "12"), (Output, "3"), (Cached, "20"), (Written, "5")], (12, 12, 0, 3)),
            (&[(Input, "12"), (Output, "3"), (Cached, "8"), (Written, "5")], (12, 8, 4, 3)),
            (&[(Input, "12"), (Output, "3"), (Cached, "-8")], (12, 0, 0, 3)),
            (
                &[(Input, "9007199254740991"), (Output, "9007199254740991")],
                (9_007_199_254_740_991, 0, 0, 9_007_199_254_740_991),
            ),
        ] {
            assert_eq!(usage(counts), Some(expected), "{counts:?}");
        }
    }

    #[test]
    fn a_second_usage_object_replaces_the_first() {
        let mut usage = Usage::default();
        usage.count(Count::WebSearches, "2");
        usage.begin(Container::Object);
        usage.count(Count::Input, "1");
        usage.begin(Container::Object);
        usage.count(Count::Output, "1");
        usage.count(Count::Total, "4");
        let quantities = usage.quantities().unwrap();
        assert_eq!(
            (quantities.input_tokens, &*quantities.tool_calls[0].0, quantities.tool_calls[0].1),
            (3, "web_search", 2)
        );
    }
}
