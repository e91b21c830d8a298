//! What the simulated upstream does with one request, and the words that ask for it.
//!
//! A request asks by its model's name, `gpt-5.5-sim-out=200+pace=20` (so a price for `gpt-5.5*` still matches), or by
//! the header `x-simulate: out=200, pace=20`. Both go through one table, [`WORDS`], which is also what people read:
//! [`Words`] prints it. Words of the header come after those of the name, and the later word wins. An unknown word or
//! a value out of bounds is an error: a test that misspells its fault must not pass.

use std::fmt;

use super::lengths::LogNormal;

/// What stands between a model's name and its words.
pub const MODEL_MARK: &str = "-sim-";

/// The request header with words.
pub const HEADER: &str = "x-simulate";

/// What to do with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Whether it is served at all.
    pub reaction: Reaction,
    /// Milliseconds before anything is answered.
    pub wait_ms: u64,
    /// Milliseconds between two events of a stream.
    pub pace_ms: u64,
    /// Milliseconds that a background response is in progress.
    pub runs_ms: u64,
    /// When to ask for it again, in milliseconds, as a header tells.
    pub poll_after_ms: Option<u64>,
    /// Tokens of output, or their mean where `spread` is set.
    pub output_tokens: u64,
    /// Spreads the output's length from request to request.
    pub spread: Option<LogNormal>,
    /// Text events of a stream; by default one per token, at most [`Behaviour::EVENTS_DEFAULT_MAX`].
    pub events: Option<u64>,
    /// Where the answer breaks off.
    pub cut: Option<Cut>,
    /// How generation ends.
    pub ending: Ending,
    /// How often a stream tells its end.
    pub terminals: Terminals,
    /// How usage is told.
    pub usage: UsageShape,
    /// The service tier in the answer; by default what the request asks for.
    pub tier: Option<String>,
    /// How many of the input tokens were cached.
    pub cached_tokens: u64,
    /// How many of the input tokens were written to the cache.
    pub written_tokens: u64,
    /// How many of the output tokens were reasoning.
    pub reasoning_tokens: u64,
    /// Web searches made.
    pub web_searches: u64,
    /// The function that is called instead of telling a text, until the input has its output.
    pub call: Option<String>,
    /// KiB by which the terminal event or the JSON body is blown up.
    pub padding_kib: u64,
    /// Sends the request's headers back as `x-echo-…`.
    pub echo: bool,
    /// Sends limit and access headers of the upstream's own.
    pub own_limits: bool,
    /// Compresses the answer if `Accept-Encoding` has gzip.
    pub gzip: bool,
    /// What is asked of a video.
    pub video: Film,
}

/// What is asked of a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Film {
    /// Whether moderation ends its job, which fails by `ending` too.
    pub moderated: bool,
    /// Whether the end of its job is in the answer to its creation.
    pub at_once: bool,
    /// Bytes of its content.
    pub content_bytes: u64,
}

/// Whether a request is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Served.
    Serve,
    /// Answered with an error in the API's shape.
    Refuse {
        /// 400 to 599.
        status: u16,
        /// `Retry-After`, instead of the status's own.
        retry_after_seconds: Option<u64>,
    },
    /// Answered with 204.
    NoContent,
    /// The connection is closed before any byte.
    HangUp,
}

/// Where an answer breaks off. A JSON body counts as one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The event, counted from 1; 0 is after the header.
    pub event: u64,
    /// Bytes of that event that are still sent; all of them where absent.
    pub bytes: Option<u64>,
}

/// How generation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Completed, or incomplete where the request's maximum stops it.
    Done,
    /// `response.failed` with `"usage": null`; in chat an error in the stream, or a 500.
    Failed,
    /// `response.failed` with usage.
    FailedWithUsage,
    /// A bare `error` event.
    ErrorEvent,
}

/// How often a stream tells its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminals {
    /// The stream ends in order, but without its terminal event.
    None,
    /// As it should be.
    One,
    /// The terminal event comes twice.
    Two,
}

/// How usage is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageShape {
    /// As an object.
    Object,
    /// As `null`.
    Null,
    /// Not at all.
    Absent,
}

/// A word that was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown word or value `{word}`")]
pub struct WordError {
    /// The word as written.
    pub word: String,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            reaction: Reaction::Serve,
            wait_ms: 0,
            pace_ms: 0,
            runs_ms: 0,
            poll_after_ms: None,
            output_tokens: 16,
            spread: None,
            events: None,
            cut: None,
            ending: Ending::Done,
            terminals: Terminals::One,
            usage: UsageShape::Object,
            tier: None,
            cached_tokens: 0,
            written_tokens: 0,
            reasoning_tokens: 0,
            web_searches: 0,
            call: None,
            padding_kib: 0,
            echo: false,
            own_limits: false,
            gzip: false,
            video: Film { moderated: false, at_once: false, content_bytes: 4096 },
        }
    }
}

impl Behaviour {
    /// The most text events of a stream that does not ask for a number.
    pub const EVENTS_DEFAULT_MAX: u64 = 100;

    /// This behaviour as changed by the words in a model's name, if it has any.
    pub fn with_model(self, model: &str) -> Result<Self, WordError> {
        match model.split_once(MODEL_MARK) {
            Some((_, words)) => self.with_words(words),
            None => Ok(self),
        }
    }

    /// This behaviour as changed by words between `+`, `,`, `;` or blanks.
    pub fn with_words(mut self, words: &str) -> Result<Self, WordError> {
        for word in words.split(['+', ',', ';', ' ', '\t']).filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let known =
                WORDS.iter().find(|known| known.name == name && known.value.is_empty() == value.is_empty());
            known
                .and_then(|known| (known.apply)(&mut self, value))
                .ok_or_else(|| WordError { word: word.chars().take(100).collect() })?;
        }
        Ok(self)
    }

    /// Text events for an output of `tokens`.
    pub(super) fn text_events(&self, tokens: u64) -> u64 {
        self.events.unwrap_or_else(|| tokens.min(Self::EVENTS_DEFAULT_MAX))
    }
}

/// One word: how it is written, what it means, what it changes.
pub struct Word {
    /// The word, or its part before `=`.
    pub name: &'static str,
    /// What stands after `=`; empty where the word stands alone.
    pub value: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// `None` where the value is out of bounds.
    apply: fn(&mut Behaviour, &str) -> Option<()>,
}

const WAIT_MAX_MS: u64 = 600_000;
const TOKENS_MAX: u64 = 1_000_000;
const PADDING_MAX_KIB: u64 = 65_536;
const CONTENT_MAX_KIB: u64 = 4 << 20;

/// Every word.
pub const WORDS: &[Word] = &[
    word("out", "N", "output of N tokens (default 16); their mean with lognormal", |b, v| {
        set(&mut b.output_tokens, number(v, TOKENS_MAX))
    }),
    word("lognormal", "SEED", "lengths spread from request to request, from a seed", |b, v| {
        let spread_hundredths = b.spread.map_or(30, |spread| spread.spread_hundredths);
        set(&mut b.spread, number(v, u64::MAX).map(|seed| Some(LogNormal { seed, spread_hundredths })))
    }),
    word("spread", "N", "sigma of lognormal in hundredths (default 30); after it", |b, v| {
        set(&mut b.spread.as_mut()?.spread_hundredths, number(v, LogNormal::SPREAD_MAX))
    }),
    word("wait", "MS", "wait before the header", |b, v| set(&mut b.wait_ms, milliseconds(v))),
    word("pace", "MS", "wait between two events", |b, v| set(&mut b.pace_ms, milliseconds(v))),
    word("runs", "MS", "a background response is in progress so long", |b, v| {
        set(&mut b.runs_ms, milliseconds(v))
    }),
    word("poll-after", "MS", "openai-poll-after-ms on answers that tell of one", |b, v| {
        set(&mut b.poll_after_ms, milliseconds(v).map(Some))
    }),
    word("events", "N", "N text events in a stream (default one per token, at most 100)", |b, v| {
        set(&mut b.events, number(v, TOKENS_MAX).map(Some))
    }),
    word("status", "CODE", "answer 400..599 with OpenAI's error body", |b, v| {
        let status =
            number(v, 599).filter(|status| *status >= 400).and_then(|status| u16::try_from(status).ok());
        set(&mut b.reaction, status.map(|status| Reaction::Refuse { status, retry_after_seconds: None }))
    }),
    word("retry-after", "S", "Retry-After of S seconds with that status; after it", |b, v| {
        match &mut b.reaction {
            Reaction::Refuse { retry_after_seconds, .. } => {
                set(retry_after_seconds, number(v, 86_400).map(Some))
            }
            _ => None,
        }
    }),
    word("204", "", "answer 204 without a body", |b, _| set(&mut b.reaction, Some(Reaction::NoContent))),
    word("drop", "", "close the connection before any byte", |b, _| {
        set(&mut b.reaction, Some(Reaction::HangUp))
    }),
    word("cut", "K[.B]", "close after event K, or after B bytes of it (a JSON body is event 1)", |b, v| {
        set(&mut b.cut, cut(v).map(Some))
    }),
    word("failed", "", "response.failed, usage null", |b, _| set(&mut b.ending, Some(Ending::Failed))),
    word("failed-with-usage", "", "response.failed with usage", |b, _| {
        set(&mut b.ending, Some(Ending::FailedWithUsage))
    }),
    word("error-event", "", "a bare error event instead of the terminal one", |b, _| {
        set(&mut b.ending, Some(Ending::ErrorEvent))
    }),
    word("no-terminal", "", "end the stream in order, without its terminal event", |b, _| {
        set(&mut b.terminals, Some(Terminals::None))
    }),
    word("duplicate-terminal", "", "send the terminal event twice", |b, _| {
        set(&mut b.terminals, Some(Terminals::Two))
    }),
    word("no-usage", "", "leave usage out", |b, _| set(&mut b.usage, Some(UsageShape::Absent))),
    word("null-usage", "", "tell usage as null", |b, _| set(&mut b.usage, Some(UsageShape::Null))),
    word("tier", "NAME", "service_tier in the answer", |b, v| {
        let plain = v.len() <= 32 && v.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        set(&mut b.tier, plain.then(|| Some(v.to_owned())))
    }),
    word("cached", "N", "N of the input tokens were cached", |b, v| {
        set(&mut b.cached_tokens, number(v, TOKENS_MAX))
    }),
    word("written", "N", "N of the input tokens were written to the cache", |b, v| {
        set(&mut b.written_tokens, number(v, TOKENS_MAX))
    }),
    word("reasoning", "N", "N of the output tokens were reasoning", |b, v| {
        set(&mut b.reasoning_tokens, number(v, TOKENS_MAX))
    }),
    word("web-search", "N", "N web searches, in output and tool_usage", |b, v| {
        set(&mut b.web_searches, number(v, 100))
    }),
    word("call", "NAME", "call this function of the request's, until the input has its output", |b, v| {
        let plain = v.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        set(&mut b.call, plain.then(|| Some(v.to_owned())))
    }),
    word("big", "KIB", "blow the terminal event or JSON body up by so much", |b, v| {
        set(&mut b.padding_kib, number(v, PADDING_MAX_KIB))
    }),
    word("echo", "", "send the request's headers back as x-echo-...", |b, _| set(&mut b.echo, Some(true))),
    word("own-limits", "", "send limit and access headers of the upstream's own", |b, _| {
        set(&mut b.own_limits, Some(true))
    }),
    word("moderated", "", "a video job fails by moderation; with failed it just fails", |b, _| {
        set(&mut b.video.moderated, Some(true))
    }),
    word("at-once", "", "a video job's end is in the answer to its creation", |b, _| {
        set(&mut b.video.at_once, Some(true))
    }),
    word("content", "KIB", "a video's content is so long (default 4)", |b, v| {
        set(&mut b.video.content_bytes, number(v, CONTENT_MAX_KIB).map(|kib| kib << 10))
    }),
    word("gzip", "", "compress the answer if Accept-Encoding has gzip", |b, _| set(&mut b.gzip, Some(true))),
];

/// The table of all words, as text for people.
#[derive(Clone, Copy, Debug)]
pub struct Words;

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Words, in a model's name (gpt-5.5{MODEL_MARK}out=200+pace=20) or a header ({HEADER}: out=200, pace=20):"
        )?;
        for Word { name, value, meaning, .. } in WORDS {
            let sign = if value.is_empty() { "" } else { "=" };
            writeln!(f, "  {:<22}{meaning}", format_args!("{name}{sign}{value}").to_string())?;
        }
        Ok(())
    }
}

const fn word(
    name: &'static str,
    value: &'static str,
    meaning: &'static str,
    apply: fn(&mut Behaviour, &str) -> Option<()>,
) -> Word {
    Word { name, value, meaning, apply }
}

fn set<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

fn number(text: &str, most: u64) -> Option<u64> {
    // `parse` alone would take a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number <= most)
}

fn milliseconds(text: &str) -> Option<u64> {
    number(text.strip_suffix("ms").unwrap_or(text), WAIT_MAX_MS)
}

fn cut(text: &str) -> Option<Cut> {
    let (event, bytes) = match text.split_once('.') {
        Some((event, bytes)) => (event, Some(number(bytes, u64::MAX)?)),
        None => (text, None),
    };
    Some(Cut { event: number(event, TOKENS_MAX)?, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Behaviour {
        Behaviour::default().with_words(words).expect(words)
    }

    #[test]
    fn every_word_of_the_table_is_understood_and_changes_something() {
        for Word { name, value, .. } in WORDS {
            let text = match (*name, *value) {
                ("spread", _) => "lognormal=1+spread=99".to_owned(),
                ("retry-after", _) => "status=429+retry-after=7".to_owned(),
                ("status", _) => "status=503".to_owned(),
                (_, "") => (*name).to_owned(),
                (_, "NAME") => format!("{name}=priority"),
                (_, "K[.B]") => format!("{name}=3.17"),
                _ => format!("{name}=7"),
            };
            assert_ne!(parsed(&text), Behaviour::default(), "{text}");
        }
    }

    #[test]
    fn a_words_name_stands_once_in_the_table() {
        let names: std::collections::BTreeSet<_> = WORDS.iter().map(|word| word.name).collect();
        assert_eq!(names.len(), WORDS.len());
    }

    #[test]
    fn a_models_name_carries_words_after_its_mark() {
        let told = Behaviour::default().with_model("gpt-5.5-sim-out=20+wait=50ms+no-usage").expect("words");
        assert_eq!((told.output_tokens, told.wait_ms, told.usage), (20, 50, UsageShape::Absent));
        for plain in ["gpt-5.5", "gpt-5.5-sim", "", "gpt-5.5-sim-"] {
            assert_eq!(Behaviour::default().with_model(plain), Ok(Behaviour::default()), "{plain}");
        }
    }

    #[test]
    fn the_later_word_wins() {
        assert_eq!(parsed("out=1, out=2; out=3").output_tokens, 3);
        let header_after_model =
            Behaviour::default().with_model("m-sim-cut=1").and_then(|told| told.with_words("cut=2.9"));
        assert_eq!(header_after_model.map(|told| told.cut), Ok(Some(Cut { event: 2, bytes: Some(9) })));
    }

    #[test]
    fn a_word_that_is_not_understood_is_an_error_that_names_it() {
        for word in [
            "outt=3",
            "out",
            "out=",
            "out=-1",
            "out=1000001",
            "status=200",
            "status=600",
            "drop=1",
            "cut=.",
            "cut=1.",
            "cut=x",
            "retry-after=3",
            "spread=10",
            "tier=a/b",
            "wait=600001",
            "big=65537",
            "events=1.5",
        ] {
            assert_eq!(
                Behaviour::default().with_words(word),
                Err(WordError { word: word.to_owned() }),
                "{word}"
            );
        }
    }

    #[test]
    fn the_table_for_people_has_a_line_for_every_word() {
        let text = Words.to_string();
        assert_eq!(text.lines().count(), WORDS.len() + 1);
        assert!(text.contains("  cut=K[.B]             close after event K"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 110), "{text}");
    }
}
