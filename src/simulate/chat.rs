//! Chat completions: the object, and the stream with usage where it was asked for.

use bytes::Bytes;

use super::behaviour::{Ending, Terminals, UsageShape};
use super::body::Events;
use super::generation::{Generation, push};

/// A chat call's answer.
#[derive(Clone, Debug)]
pub(super) struct ChatAnswer {
    pub generation: Generation,
    /// At least 1; each is as long as the generation.
    pub choices: u64,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
}

impl ChatAnswer {
    /// The `chat.completion` object.
    pub(super) fn object(&self) -> String {
        let mut out = String::with_capacity(1024);
        self.push_head(&mut out, "chat.completion");
        out.push_str(r#","choices":["#);
        for index in 0..self.choices {
            let comma = if index == 0 { "" } else { "," };
            push(
                &mut out,
                format_args!(r#"{comma}{{"index":{index},"message":{{"role":"assistant","content":""#),
            );
            self.generation.push_all_text(&mut out);
            let reason = self.finish_reason();
            push(
                &mut out,
                format_args!(
                    r#"","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"{reason}"}}"#
                ),
            );
        }
        out.push(']');
        match self.generation.usage_shape() {
            UsageShape::Absent => {}
            UsageShape::Null => out.push_str(r#","usage":null"#),
            UsageShape::Object => {
                out.push_str(r#","usage":"#);
                self.push_usage(&mut out);
            }
        }
        self.push_tail(&mut out, true);
        out
    }

    /// The events of the stream.
    pub(super) fn events(self) -> Events {
        let texts = self.generation.text_events();
        Box::new(Chunks { answer: self, texts, next: Some(Step::Role(0)) })
    }

    fn finish_reason(&self) -> &'static str {
        if self.generation.is_clipped { "length" } else { "stop" }
    }

    fn push_head(&self, out: &mut String, object: &str) {
        let Generation { id, created_at, model_json, .. } = &self.generation;
        push(
            out,
            format_args!(
                r#"{{"id":"chatcmpl-{id}","object":"{object}","created":{created_at},"model":{model_json}"#
            ),
        );
    }

    fn push_tail(&self, out: &mut String, padded: bool) {
        push(out, format_args!(r#","service_tier":"{}","system_fingerprint":"fp_"#, self.generation.tier));
        if padded {
            self.generation.push_padding(out);
        }
        out.push_str(r#"simulated"}"#);
    }

    fn push_usage(&self, out: &mut String) {
        let generation = &self.generation;
        let prompt = generation.input_tokens;
        let completion = generation.output_tokens.saturating_mul(self.choices);
        push(
            out,
            format_args!(
                r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{},"cache_write_tokens":{},"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":{},"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
                prompt.saturating_add(completion),
                generation.cached_tokens(),
                generation.written_tokens(),
                generation.reasoning_tokens().saturating_mul(self.choices),
            ),
        );
    }
}

struct Chunks {
    answer: ChatAnswer,
    /// Text events of one choice.
    texts: u64,
    next: Option<Step>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Role(u64),
    Text { text: u64, choice: u64 },
    Finish(u64),
    Usage { again: bool },
    Error,
    Done,
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let step = self.next?;
        self.next = self.after(step);
        Some(self.event(step))
    }
}

impl Chunks {
    fn after(&self, step: Step) -> Option<Step> {
        let choices = self.answer.choices;
        match step {
            Step::Role(choice) if choice + 1 < choices => Some(Step::Role(choice + 1)),
            Step::Role(_) => Some(self.text_or_finish(0)),
            Step::Text { text, choice } if choice + 1 < choices => {
                Some(Step::Text { text, choice: choice + 1 })
            }
            Step::Text { text, .. } => Some(self.text_or_finish(text + 1)),
            Step::Finish(choice) if choice + 1 < choices => Some(Step::Finish(choice + 1)),
            Step::Finish(_) if self.answer.generation.behaviour.terminals == Terminals::None => None,
            Step::Finish(_) => Some(self.usage_or_done()),
            Step::Usage { again: true } => Some(Step::Usage { again: false }),
            Step::Usage { again: false } => Some(self.error_or_done()),
            Step::Error | Step::Done => None,
        }
    }

    fn text_or_finish(&self, text: u64) -> Step {
        let ending = self.answer.generation.behaviour.ending;
        match ending {
            _ if text < self.texts => Step::Text { text, choice: 0 },
            Ending::Done => Step::Finish(0),
            Ending::FailedWithUsage => self.usage_or_done(),
            Ending::Failed | Ending::ErrorEvent => Step::Error,
        }
    }

    fn usage_or_done(&self) -> Step {
        let behaviour = &self.answer.generation.behaviour;
        if self.answer.include_usage && behaviour.usage != UsageShape::Absent {
            Step::Usage { again: behaviour.terminals == Terminals::Two }
        } else {
            self.error_or_done()
        }
    }

    fn error_or_done(&self) -> Step {
        match self.answer.generation.behaviour.ending {
            Ending::Done => Step::Done,
            Ending::Failed | Ending::FailedWithUsage | Ending::ErrorEvent => Step::Error,
        }
    }

    fn event(&self, step: Step) -> Bytes {
        match step {
            Step::Role(choice) => self.chunk(choice, "null", |out| {
                out.push_str(r#"{"role":"assistant","content":"","refusal":null}"#);
            }),
            Step::Text { text, choice } => self.chunk(choice, "null", |out| {
                out.push_str(r#"{"content":""#);
                self.answer.generation.push_event_text(out, text);
                out.push_str(r#""}"#);
            }),
            Step::Finish(choice) => {
                let reason = format!("\"{}\"", self.answer.finish_reason());
                self.chunk(choice, &reason, |out| out.push_str("{}"))
            }
            Step::Usage { .. } => self.usage_chunk(),
            Step::Error => Bytes::from_static(
                b"data: {\"error\":{\"message\":\"The model failed to generate a response.\",\"type\":\"server_error\",\"param\":null,\"code\":\"server_error\"}}\n\n",
            ),
            Step::Done => Bytes::from_static(b"data: [DONE]\n\n"),
        }
    }

    fn chunk(&self, choice: u64, finish_reason: &str, delta: impl FnOnce(&mut String)) -> Bytes {
        let mut out = String::with_capacity(512);
        out.push_str("data: ");
        self.answer.push_head(&mut out, "chat.completion.chunk");
        push(&mut out, format_args!(r#","choices":[{{"index":{choice},"delta":"#));
        delta(&mut out);
        push(&mut out, format_args!(r#","logprobs":null,"finish_reason":{finish_reason}}}]"#));
        if self.answer.include_usage {
            out.push_str(r#","usage":null"#);
        }
        self.answer.push_tail(&mut out, false);
        out.push_str("\n\n");
        Bytes::from(out)
    }

    fn usage_chunk(&self) -> Bytes {
        let mut out = String::with_capacity(512);
        out.push_str("data: ");
        self.answer.push_head(&mut out, "chat.completion.chunk");
        out.push_str(r#","choices":[],"usage":"#);
        match self.answer.generation.behaviour.usage {
            UsageShape::Object => self.answer.push_usage(&mut out),
            UsageShape::Null | UsageShape::Absent => out.push_str("null"),
        }
        self.answer.push_tail(&mut out, true);
        out.push_str("\n\n");
        Bytes::from(out)
    }
}
