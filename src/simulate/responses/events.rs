//! A response as a stream: each event made when it is its turn, in the order in which the API sends them.

use bytes::Bytes;

use super::{Answer, ItemState, State};
use crate::simulate::behaviour::{Ending, Terminals};
use crate::simulate::body::Events;
use crate::simulate::generation::push;

/// The events of a streamed response.
pub(in crate::simulate) fn response_events(answer: Answer) -> Events {
    let texts = answer.generation.text_events();
    Box::new(ResponseEvents { answer, texts, next: Some(Step::Created), sequence: 0 })
}

struct ResponseEvents {
    answer: Answer,
    /// Text events.
    texts: u64,
    next: Option<Step>,
    sequence: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Created,
    InProgress,
    Search { search: u64, stage: SearchStage },
    ItemAdded,
    PartAdded,
    Text(u64),
    TextDone,
    PartDone,
    Arguments,
    ArgumentsDone,
    ItemDone,
    Terminal { again: bool },
}

#[derive(Clone, Copy, Debug)]
enum SearchStage {
    Added,
    InProgress,
    Searching,
    Completed,
    Done,
}

impl Iterator for ResponseEvents {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let step = self.next?;
        self.next = self.after(step);
        let event = self.event(step);
        self.sequence += 1;
        Some(event)
    }
}

impl ResponseEvents {
    fn after(&self, step: Step) -> Option<Step> {
        Some(match step {
            Step::Created => Step::InProgress,
            Step::InProgress => self.search_or_message(0),
            Step::Search { search, stage } => match stage {
                SearchStage::Added => Step::Search { search, stage: SearchStage::InProgress },
                SearchStage::InProgress => Step::Search { search, stage: SearchStage::Searching },
                SearchStage::Searching => Step::Search { search, stage: SearchStage::Completed },
                SearchStage::Completed => Step::Search { search, stage: SearchStage::Done },
                SearchStage::Done => self.search_or_message(search + 1),
            },
            Step::ItemAdded if self.answer.function_call.is_some() => Step::Arguments,
            Step::ItemAdded => Step::PartAdded,
            Step::Arguments => return self.unless_it_fails(Step::ArgumentsDone),
            Step::PartAdded => return self.text_or_end(0),
            Step::Text(text) => return self.text_or_end(text + 1),
            Step::TextDone => Step::PartDone,
            Step::PartDone | Step::ArgumentsDone => Step::ItemDone,
            Step::ItemDone => return self.terminal(),
            Step::Terminal { again: true } => Step::Terminal { again: false },
            Step::Terminal { again: false } => return None,
        })
    }

    fn search_or_message(&self, search: u64) -> Step {
        if search < self.answer.generation.behaviour.web_searches {
            Step::Search { search, stage: SearchStage::Added }
        } else {
            Step::ItemAdded
        }
    }

    fn text_or_end(&self, text: u64) -> Option<Step> {
        if text < self.texts { Some(Step::Text(text)) } else { self.unless_it_fails(Step::TextDone) }
    }

    fn unless_it_fails(&self, next: Step) -> Option<Step> {
        if self.answer.generation.behaviour.ending == Ending::Done { Some(next) } else { self.terminal() }
    }

    fn terminal(&self) -> Option<Step> {
        match self.answer.generation.behaviour.terminals {
            Terminals::None => None,
            Terminals::One => Some(Step::Terminal { again: false }),
            Terminals::Two => Some(Step::Terminal { again: true }),
        }
    }

    fn event(&self, step: Step) -> Bytes {
        let answer = &self.answer;
        match step {
            Step::Created => self.with_response("response.created", State::InProgress),
            Step::InProgress => self.with_response("response.in_progress", State::InProgress),
            Step::Search { search, stage } => self.search(search, stage),
            Step::ItemAdded => self.framed("response.output_item.added", |out| {
                self.push_place(out, Place::Output);
                out.push_str(r#","item":"#);
                answer.push_item(out, ItemState::Begun);
            }),
            Step::PartAdded => self.framed("response.content_part.added", |out| {
                self.push_place(out, Place::Content);
                out.push_str(r#","part":"#);
                answer.push_part(out, ItemState::Begun);
            }),
            Step::Text(text) => self.framed("response.output_text.delta", |out| {
                self.push_place(out, Place::Content);
                out.push_str(r#","delta":""#);
                answer.generation.push_event_text(out, text);
                out.push_str(r#"","logprobs":[]"#);
            }),
            Step::TextDone => self.framed("response.output_text.done", |out| {
                self.push_place(out, Place::Content);
                out.push_str(r#","text":""#);
                answer.generation.push_all_text(out);
                out.push_str(r#"","logprobs":[]"#);
            }),
            Step::PartDone => self.framed("response.content_part.done", |out| {
                self.push_place(out, Place::Content);
                out.push_str(r#","part":"#);
                answer.push_part(out, ItemState::Done);
            }),
            Step::Arguments => self.arguments("response.function_call_arguments.delta", "delta"),
            Step::ArgumentsDone => self.arguments("response.function_call_arguments.done", "arguments"),
            Step::ItemDone => self.framed("response.output_item.done", |out| {
                self.push_place(out, Place::Output);
                out.push_str(r#","item":"#);
                answer.push_item(out, ItemState::Done);
            }),
            Step::Terminal { .. } => self.end(),
        }
    }

    fn end(&self) -> Bytes {
        match self.answer.generation.behaviour.ending {
            Ending::Done if self.answer.generation.is_clipped => {
                self.with_response("response.incomplete", State::Ended)
            }
            Ending::Done => self.with_response("response.completed", State::Ended),
            Ending::Failed | Ending::FailedWithUsage => self.with_response("response.failed", State::Ended),
            Ending::ErrorEvent => self.framed("error", |out| {
                out.push_str(
                    r#","code":"server_error","message":"The model failed to generate a response.","param":null"#,
                );
            }),
        }
    }

    fn search(&self, search: u64, stage: SearchStage) -> Bytes {
        let with_item = |kind, status| {
            self.framed(kind, |out| {
                push(out, format_args!(r#","output_index":{search},"item":"#));
                self.answer.push_search(out, search, status);
            })
        };
        let with_id = |kind| {
            self.framed(kind, |out| {
                let id = self.answer.generation.id;
                push(out, format_args!(r#","output_index":{search},"item_id":"ws_{id}{search:04x}""#));
            })
        };
        match stage {
            SearchStage::Added => with_item("response.output_item.added", "in_progress"),
            SearchStage::InProgress => with_id("response.web_search_call.in_progress"),
            SearchStage::Searching => with_id("response.web_search_call.searching"),
            SearchStage::Completed => with_id("response.web_search_call.completed"),
            SearchStage::Done => with_item("response.output_item.done", "completed"),
        }
    }

    fn arguments(&self, kind: &str, member: &str) -> Bytes {
        self.framed(kind, |out| {
            self.push_place(out, Place::Output);
            if let Some(call) = &self.answer.function_call {
                let id = self.answer.generation.id;
                push(out, format_args!(r#","item_id":"fc_{id}","{member}":{}"#, call.arguments_json));
            }
        })
    }

    fn with_response(&self, kind: &str, state: State) -> Bytes {
        self.framed(kind, |out| {
            out.push_str(r#","response":"#);
            self.answer.push_object(out, state);
        })
    }

    /// One event: its name, its number, and the members that `members` adds, on one line.
    fn framed(&self, kind: &str, members: impl FnOnce(&mut String)) -> Bytes {
        let mut out = String::with_capacity(512);
        let sequence = self.sequence;
        push(
            &mut out,
            format_args!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{sequence}"),
        );
        members(&mut out);
        out.push_str("}\n\n");
        Bytes::from(out)
    }

    /// Where the message, or its one part, stands.
    fn push_place(&self, out: &mut String, place: Place) {
        let output_index = self.answer.generation.behaviour.web_searches;
        push(out, format_args!(r#","output_index":{output_index}"#));
        if let Place::Content = place {
            push(out, format_args!(r#","item_id":"msg_{}","content_index":0"#, self.answer.generation.id));
        }
    }
}

#[derive(Clone, Copy)]
enum Place {
    Output,
    Content,
}
