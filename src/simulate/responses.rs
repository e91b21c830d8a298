//! The Responses API's objects.

mod events;

pub(super) use events::response_events;

use super::behaviour::{Ending, UsageShape};
use super::function_call::FunctionCall;
use super::generation::{Generation, push, quoted};

/// A Responses call's answer: what is generated, and what of the request its object repeats.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub generation: Generation,
    /// Stands in the place of the message.
    pub function_call: Option<FunctionCall>,
    /// As JSON: a string or null.
    pub previous_response_id_json: String,
    /// As asked for.
    pub max_output_tokens: Option<u64>,
    pub is_background: bool,
    pub is_stored: bool,
}

/// Where in its life a response is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Queued,
    InProgress,
    /// Completed, incomplete or failed, as the behaviour says.
    Ended,
    Cancelled,
}

/// What the object says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Queued,
    InProgress,
    Completed,
    Incomplete,
    Failed,
    Cancelled,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Answer {
    /// `resp_…`.
    pub(super) fn response_id(&self) -> String {
        format!("resp_{}", self.generation.id)
    }

    fn status(&self, state: State) -> Status {
        match (state, self.generation.behaviour.ending) {
            (State::Queued, _) => Status::Queued,
            (State::InProgress, _) => Status::InProgress,
            (State::Cancelled, _) => Status::Cancelled,
            (State::Ended, Ending::Done) if self.generation.is_clipped => Status::Incomplete,
            (State::Ended, Ending::Done) => Status::Completed,
            (State::Ended, Ending::Failed | Ending::FailedWithUsage | Ending::ErrorEvent) => Status::Failed,
        }
    }

    /// The response object.
    pub(super) fn object(&self, state: State) -> String {
        let mut out = String::with_capacity(2048);
        self.push_object(&mut out, state);
        out
    }

    fn push_object(&self, out: &mut String, state: State) {
        let Generation { id, created_at, model_json, tier, behaviour, .. } = &self.generation;
        let status = self.status(state);
        push(
            out,
            format_args!(
                r#"{{"id":"resp_{id}","object":"response","created_at":{created_at},"status":"{}","background":{},"#,
                status.as_str(),
                self.is_background,
            ),
        );
        match status {
            Status::Completed => push(out, format_args!(r#""completed_at":{created_at},"#)),
            _ => out.push_str(r#""completed_at":null,"#),
        }
        out.push_str(match status {
            Status::Failed => {
                r#""error":{"code":"server_error","message":"The model failed to generate a response."},"#
            }
            _ => r#""error":null,"#,
        });
        out.push_str(match status {
            Status::Incomplete => r#""incomplete_details":{"reason":"max_output_tokens"},"#,
            _ => r#""incomplete_details":null,"#,
        });
        self.push_instructions(out, state);
        match self.max_output_tokens {
            Some(most) => push(out, format_args!(r#""max_output_tokens":{most},"#)),
            None => out.push_str(r#""max_output_tokens":null,"#),
        }
        push(out, format_args!(r#""max_tool_calls":null,"model":{model_json},"output":["#));
        if matches!(status, Status::Completed | Status::Incomplete) {
            self.push_output(out);
        }
        let previous = &self.previous_response_id_json;
        push(
            out,
            format_args!(
                r#"],"parallel_tool_calls":true,"previous_response_id":{previous},"prompt_cache_key":null,"reasoning":{{"effort":null,"summary":null}},"safety_identifier":null,"service_tier":"{tier}","store":{},"temperature":1.0,"text":{{"format":{{"type":"text"}},"verbosity":"medium"}},"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":1.0,"truncation":"disabled","#,
                self.is_stored,
            ),
        );
        if behaviour.web_searches > 0 && state == State::Ended {
            push_tool_usage(out, behaviour.web_searches);
        }
        self.push_usage_member(out, state);
        out.push_str(r#""user":null,"metadata":{}}"#);
    }

    /// Instructions are text that the real object repeats whole, so that is where an end is blown up.
    fn push_instructions(&self, out: &mut String, state: State) {
        if self.generation.behaviour.padding_kib == 0 || state != State::Ended {
            out.push_str(r#""instructions":null,"#);
            return;
        }
        out.push_str(r#""instructions":""#);
        self.generation.push_padding(out);
        out.push_str(r#"","#);
    }

    fn push_usage_member(&self, out: &mut String, state: State) {
        let shape = if state == State::Ended { self.generation.usage_shape() } else { UsageShape::Null };
        match shape {
            UsageShape::Absent => {}
            UsageShape::Null => out.push_str(r#""usage":null,"#),
            UsageShape::Object => {
                out.push_str(r#""usage":"#);
                push_usage(out, &self.generation);
                out.push(',');
            }
        }
    }

    fn push_output(&self, out: &mut String) {
        for search in 0..self.generation.behaviour.web_searches {
            self.push_search(out, search, "completed");
            out.push(',');
        }
        self.push_item(out, ItemState::Done);
    }

    /// The function call, or the message.
    fn push_item(&self, out: &mut String, state: ItemState) {
        match &self.function_call {
            Some(call) => call.push_item(out, self.generation.id, state),
            None => self.push_message(out, state),
        }
    }

    fn push_message(&self, out: &mut String, state: ItemState) {
        let status = match state {
            ItemState::Begun => "in_progress",
            ItemState::Done if self.generation.is_clipped => "incomplete",
            ItemState::Done => "completed",
        };
        push(
            out,
            format_args!(
                r#"{{"id":"msg_{}","type":"message","status":"{status}","role":"assistant","content":["#,
                self.generation.id
            ),
        );
        if state == ItemState::Done {
            self.push_part(out, ItemState::Done);
        }
        out.push_str("]}");
    }

    fn push_part(&self, out: &mut String, state: ItemState) {
        out.push_str(r#"{"type":"output_text","annotations":[],"logprobs":[],"text":""#);
        if state == ItemState::Done {
            self.generation.push_all_text(out);
        }
        out.push_str(r#""}"#);
    }

    fn push_search(&self, out: &mut String, search: u64, status: &str) {
        push(
            out,
            format_args!(
                r#"{{"id":"ws_{}{search:04x}","type":"web_search_call","status":"{status}","action":{{"type":"search","query":"how far is the sea"}}}}"#,
                self.generation.id
            ),
        );
    }
}

/// Whether an item has only begun or is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemState {
    Begun,
    Done,
}

/// The body of `POST /v1/responses/compact`.
pub(super) fn compaction(generation: &Generation) -> String {
    let Generation { id, created_at, .. } = generation;
    let mut out = String::with_capacity(1024);
    push(
        &mut out,
        format_args!(
            r#"{{"id":"resp_{id}","object":"response.compaction","created_at":{created_at},"output":[{{"id":"cmp_{id}","type":"compaction","encrypted_content":""#
        ),
    );
    generation.push_all_text(&mut out);
    out.push_str(r#""}]"#);
    match generation.usage_shape() {
        UsageShape::Absent => {}
        UsageShape::Null => out.push_str(r#","usage":null"#),
        UsageShape::Object => {
            out.push_str(r#","usage":"#);
            push_usage(&mut out, generation);
        }
    }
    out.push('}');
    out
}

/// The body of `POST /v1/responses/input_tokens`.
pub(super) fn input_tokens(count: u64) -> String {
    format!(r#"{{"object":"response.input_tokens","input_tokens":{count}}}"#)
}

/// The body of `DELETE /v1/responses/{id}`.
pub(super) fn deleted(response_id: &str) -> String {
    format!(r#"{{"id":{},"object":"response","deleted":true}}"#, quoted(response_id))
}

/// The body of `GET /v1/responses/{id}/input_items`: `input` as items, newest first, each with an id.
pub(super) fn input_items(input: &serde_json::value::RawValue, id: &str) -> String {
    use serde_json::{Value, json};

    let items = match serde_json::from_str(input.get()).unwrap_or(Value::Null) {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        text => vec![json!({"role": "user", "content": [{"type": "input_text", "text": text}]})],
    };
    let mut data: Vec<Value> = Vec::with_capacity(items.len());
    for (at, mut item) in items.into_iter().enumerate() {
        if let Value::Object(members) = &mut item {
            members.entry("type").or_insert_with(|| json!("message"));
            members.entry("status").or_insert_with(|| json!("completed"));
            members.entry("id").or_insert_with(|| json!(format!("msg_{id}{at:04x}")));
            if let Some(content @ Value::String(_)) = members.get_mut("content") {
                let text = content.take();
                *content = json!([{"type": "input_text", "text": text}]);
            }
        }
        data.push(item);
    }
    data.reverse();
    let edge = |item: Option<&Value>| item.and_then(|item| item.get("id")).cloned();
    let (first_id, last_id) = (edge(data.first()), edge(data.last()));
    json!({"object": "list", "data": data, "first_id": first_id, "last_id": last_id, "has_more": false})
        .to_string()
}

fn push_usage(out: &mut String, generation: &Generation) {
    let (input, output) = (generation.input_tokens, generation.output_tokens);
    push(
        out,
        format_args!(
            r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":{},"cache_write_tokens":{}}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":{}}},"total_tokens":{}}}"#,
            generation.cached_tokens(),
            generation.written_tokens(),
            generation.reasoning_tokens(),
            input.saturating_add(output),
        ),
    );
}

fn push_tool_usage(out: &mut String, web_searches: u64) {
    push(
        out,
        format_args!(
            r#""tool_usage":{{"image_gen":{{"input_tokens":0,"input_tokens_details":{{"image_tokens":0,"text_tokens":0}},"output_tokens":0,"total_tokens":0,"cached_tokens":0,"cached_tokens_details":{{"cached_image_tokens":0,"cached_text_tokens":0}},"output_tokens_details":{{"image_tokens":0,"text_tokens":0}}}},"web_search":{{"num_requests":{web_searches}}}}},"#
        ),
    );
}
