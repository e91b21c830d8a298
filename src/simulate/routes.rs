//! Which call is meant, and what it is answered with. No I/O: a request in, a [`Plan`] out.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method};
use serde_json::value::RawValue;

use super::behaviour::{Behaviour, Ending, HEADER, Reaction, WordError};
use super::body::Events;
use super::chat::ChatAnswer;
use super::errors::ApiError;
use super::function_call::FunctionCall;
use super::generation::{Generation, Id, Setting, quoted};
use super::request::{Call, decoded};
use super::responses::{Answer, State, compaction, deleted, input_items, input_tokens, response_events};
use super::store::{Background, Stored};
use super::videos::{Download, VideoRoute};
use super::{BODY_BYTES_MAX, Shared};
use crate::units::Span;

/// How a request is answered.
pub(super) struct Plan {
    pub behaviour: Behaviour,
    pub content: Content,
}

/// What it is answered with.
pub(super) enum Content {
    Json(Bytes),
    Events(Events),
    Download(Download),
    Error(ApiError),
    Empty,
    HangUp,
}

/// The call that a method and a path mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    CreateResponse,
    Compact,
    CountInput,
    CreateChat,
    ListModels,
    Retrieve(&'a str),
    Delete(&'a str),
    Cancel(&'a str),
    ListInputItems(&'a str),
}

impl Route<'_> {
    fn of<'a>(method: &Method, path: &'a str) -> Option<Route<'a>> {
        let rest = path.strip_prefix("/v1/").unwrap_or_default();
        let segments: smallvec::SmallVec<[&str; 4]> = rest.split('/').collect();
        Some(match (method.as_str(), segments.as_slice()) {
            ("POST", ["responses"]) => Route::CreateResponse,
            ("POST", ["responses", "compact"]) => Route::Compact,
            ("POST", ["responses", "input_tokens"]) => Route::CountInput,
            ("POST", ["chat", "completions"]) => Route::CreateChat,
            ("GET", ["models"]) => Route::ListModels,
            ("GET", ["responses", id]) => Route::Retrieve(id),
            ("DELETE", ["responses", id]) => Route::Delete(id),
            ("POST", ["responses", id, "cancel"]) => Route::Cancel(id),
            ("GET", ["responses", id, "input_items"]) => Route::ListInputItems(id),
            _ => return None,
        })
    }
}

impl Shared {
    /// The answer to the `number`-th request.
    pub(super) fn plan(&self, head: &Parts, body: &Bytes, number: u64) -> Plan {
        let plain = |error| Plan { behaviour: Behaviour::default(), content: Content::Error(error) };
        if !self.is_authorized(&head.headers) {
            return plain(ApiError::invalid_key());
        }
        if let Some(route) = VideoRoute::of(&head.method, head.uri.path()) {
            return self.plan_video(route, head, body, number);
        }
        let Some(route) = Route::of(&head.method, head.uri.path()) else {
            return plain(ApiError::not_found(format!("Invalid URL ({} {})", head.method, head.uri.path())));
        };
        let decoded = match decoded(&head.headers, body.clone(), BODY_BYTES_MAX) {
            Ok(decoded) => decoded,
            Err(error) => return plain(ApiError::invalid(None, None, format!("Invalid body: {error}."))),
        };
        // A request without a body has no members either.
        let text = if decoded.is_empty() { &b"{}"[..] } else { &decoded };
        let call: Call<'_> = match serde_json::from_slice(text) {
            Ok(call) => call,
            Err(error) => return plain(ApiError::invalid(None, None, format!("Invalid body: {error}."))),
        };
        let behaviour = match self.behaviour(call.model.as_deref().unwrap_or_default(), &head.headers) {
            Ok(behaviour) => behaviour,
            Err(error) => {
                return plain(ApiError::invalid(None, Some("model"), format!("Simulation: {error}.")));
            }
        };
        let content = match behaviour.reaction {
            Reaction::HangUp => Ok(Content::HangUp),
            Reaction::NoContent => Ok(Content::Empty),
            Reaction::Refuse { status, retry_after_seconds } => {
                let model = call.model.as_deref().unwrap_or("the model");
                Err(ApiError::of_status(status, model, retry_after_seconds))
            }
            Reaction::Serve => self.serve_route(route, head, &call, &behaviour, number),
        };
        Plan { behaviour, content: content.unwrap_or_else(Content::Error) }
    }

    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.options.key else { return true };
        let told = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        told == Some(key.as_bytes())
    }

    pub(super) fn behaviour(&self, model: &str, headers: &HeaderMap) -> Result<Behaviour, WordError> {
        let mut behaviour = self.options.behaviour.clone().with_model(model)?;
        for words in headers.get_all(HEADER) {
            let words = words.to_str().map_err(|_| WordError { word: HEADER.to_owned() })?;
            behaviour = behaviour.with_words(words)?;
        }
        Ok(behaviour)
    }

    fn serve_route(
        &self,
        route: Route<'_>,
        head: &Parts,
        call: &Call<'_>,
        behaviour: &Behaviour,
        number: u64,
    ) -> Result<Content, ApiError> {
        let id = Id { series: self.series, number };
        match route {
            Route::CreateResponse => self.create_response(call, behaviour, id),
            Route::Compact => {
                model_of(call)?;
                let context = self.context_tokens(call)?;
                let generation = self.generation(call, None, behaviour, id, context);
                Ok(json(compaction(&generation)))
            }
            Route::CountInput => {
                Ok(json(input_tokens(call.input_tokens().saturating_add(self.context_tokens(call)?))))
            }
            Route::CreateChat => self.create_chat(call, behaviour, id),
            Route::ListModels => Ok(json(self.models())),
            Route::Retrieve(response_id) => {
                let stored = self.find(response_id)?;
                let query = head.uri.query().unwrap_or_default();
                if !query.split('&').any(|pair| pair == "stream=true") {
                    return Ok(Content::Json(stored.shown(self.options.clock.now())));
                }
                let Some(background) = stored.background else {
                    let message = "Only a background response can be streamed again.".to_owned();
                    return Err(ApiError::invalid(None, Some("stream"), message));
                };
                let after = query.split('&').find_map(|pair| pair.strip_prefix("starting_after="));
                let first = after.and_then(|after| after.parse::<usize>().ok()).map_or(0, |after| after + 1);
                Ok(Content::Events(Box::new(response_events(background.answer).skip(first))))
            }
            Route::Delete(response_id) => {
                self.find(response_id)?;
                self.store.delete(response_id);
                Ok(json(deleted(response_id)))
            }
            Route::Cancel(response_id) => {
                if self.find(response_id)?.background.is_none() {
                    let message = "Cannot cancel a synchronous response.".to_owned();
                    return Err(ApiError::invalid(None, None, message));
                }
                let now = self.options.clock.now();
                self.store.cancel(response_id, now);
                Ok(Content::Json(self.find(response_id)?.shown(now)))
            }
            Route::ListInputItems(response_id) => {
                let stored = self.find(response_id)?;
                Ok(json(input_items(&stored.input, &id.to_string())))
            }
        }
    }

    fn create_response(&self, call: &Call<'_>, behaviour: &Behaviour, id: Id) -> Result<Content, ApiError> {
        model_of(call)?;
        let output_max = limit("max_output_tokens", call.max_output_tokens)?;
        let context = self.context_tokens(call)?;
        let mut generation = self.generation(call, output_max, behaviour, id, context);
        let function_call = FunctionCall::wanted(call, behaviour)?;
        if let Some(function_call) = &function_call {
            generation.output_tokens = function_call.tokens;
            generation.is_clipped = false;
        }
        let answer = Answer {
            generation,
            function_call,
            previous_response_id_json: call
                .previous_response_id
                .as_deref()
                .map_or_else(|| "null".to_owned(), quoted),
            max_output_tokens: output_max,
            is_background: call.background == Some(true),
            is_stored: call.store != Some(false),
        };
        let is_streamed = call.stream == Some(true);
        let is_kept = answer.is_stored && self.store.is_on();
        if is_streamed && !is_kept {
            return Ok(Content::Events(response_events(answer)));
        }
        let object = Bytes::from(answer.object(State::Ended));
        if is_kept {
            self.keep(&answer, call, object.clone());
        }
        Ok(if is_streamed {
            Content::Events(response_events(answer))
        } else if answer.is_background {
            json(answer.object(State::Queued))
        } else {
            Content::Json(object)
        })
    }

    fn create_chat(&self, call: &Call<'_>, behaviour: &Behaviour, id: Id) -> Result<Content, ApiError> {
        const CHOICES_MAX: u64 = 128;

        model_of(call)?;
        if behaviour.call.is_some() {
            let message = "Simulation: `call` is for responses.".to_owned();
            return Err(ApiError::invalid(None, Some("model"), message));
        }
        let choices = call.n.unwrap_or(1);
        if !(1..=CHOICES_MAX).contains(&choices) {
            let message = format!("Invalid 'n': expected 1 to {CHOICES_MAX}.");
            return Err(ApiError::invalid(Some("invalid_value"), Some("n"), message));
        }
        let output_max = match limit("max_completion_tokens", call.max_completion_tokens)? {
            Some(most) => Some(most),
            None => limit("max_tokens", call.max_tokens)?,
        };
        let include_usage = call.stream_options.as_ref().and_then(|options| options.include_usage);
        let answer = ChatAnswer {
            generation: self.generation(call, output_max, behaviour, id, 0),
            choices,
            include_usage: include_usage == Some(true),
        };
        if call.stream == Some(true) {
            return Ok(Content::Events(answer.events()));
        }
        match behaviour.ending {
            Ending::Done => Ok(json(answer.object())),
            Ending::Failed | Ending::FailedWithUsage | Ending::ErrorEvent => {
                Err(ApiError::of_status(500, "", None))
            }
        }
    }

    fn generation(
        &self,
        call: &Call<'_>,
        output_max: Option<u64>,
        behaviour: &Behaviour,
        id: Id,
        context_tokens: u64,
    ) -> Generation {
        let length_index = if behaviour.spread.is_some() { self.next_length() } else { 0 };
        let created_at = self.options.clock.now().ms().div_euclid(1000);
        let setting = Setting { id, created_at, context_tokens, length_index };
        Generation::new(call, output_max, behaviour.clone(), setting)
    }

    /// What the conversation so far adds to the input.
    fn context_tokens(&self, call: &Call<'_>) -> Result<u64, ApiError> {
        let Some(previous) = call.previous_response_id.as_deref() else { return Ok(0) };
        self.store.find(previous).map(|stored| stored.context_tokens).ok_or_else(|| {
            ApiError::invalid(
                Some("previous_response_not_found"),
                Some("previous_response_id"),
                format!("Previous response with id '{previous}' not found."),
            )
        })
    }

    fn find(&self, response_id: &str) -> Result<Stored, ApiError> {
        let found = self.store.find(response_id);
        found.ok_or_else(|| ApiError::not_found(format!("Response with id '{response_id}' not found.")))
    }

    fn keep(&self, answer: &Answer, call: &Call<'_>, object: Bytes) {
        let Generation { input_tokens, output_tokens, .. } = answer.generation;
        let stored = Stored {
            object,
            background: answer.is_background.then(|| Background {
                running: Bytes::from(answer.object(State::InProgress)),
                ends_at: self.options.clock.now().plus(Span::from_ms(answer.generation.behaviour.runs_ms)),
                cancelled: Bytes::from(answer.object(State::Cancelled)),
                answer: answer.clone(),
            }),
            input: call.input.map_or_else(|| RawValue::NULL.to_owned(), ToOwned::to_owned),
            context_tokens: input_tokens.saturating_add(output_tokens),
        };
        self.store.keep(answer.response_id(), stored);
    }

    fn models(&self) -> String {
        let models: Vec<String> = self
            .options
            .models
            .iter()
            .map(|model| {
                let id = quoted(model);
                format!(
                    r#"{{"id":{id},"object":"model","created":1764547200,"owned_by":"overfall-simulate"}}"#
                )
            })
            .collect();
        format!(r#"{{"object":"list","data":[{}]}}"#, models.join(","))
    }
}

fn json(text: String) -> Content {
    Content::Json(Bytes::from(text))
}

fn model_of<'a>(call: &'a Call<'_>) -> Result<&'a str, ApiError> {
    let missing = || {
        let message = "Missing required parameter: 'model'.".to_owned();
        ApiError::invalid(Some("missing_required_parameter"), Some("model"), message)
    };
    call.model.as_deref().filter(|model| !model.is_empty()).ok_or_else(missing)
}

/// A maximum of output tokens; none is not 0.
fn limit(param: &'static str, asked: Option<u64>) -> Result<Option<u64>, ApiError> {
    match asked {
        Some(0) => {
            let message = format!("Invalid '{param}': integer below minimum value. Expected a value >= 1.");
            Err(ApiError::invalid(Some("integer_below_min_value"), Some(param), message))
        }
        _ => Ok(asked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_one_method_and_one_path() {
        for (method, path, route) in [
            (Method::POST, "/v1/responses", Some(Route::CreateResponse)),
            (Method::POST, "/v1/responses/compact", Some(Route::Compact)),
            (Method::POST, "/v1/responses/input_tokens", Some(Route::CountInput)),
            (Method::POST, "/v1/chat/completions", Some(Route::CreateChat)),
            (Method::GET, "/v1/models", Some(Route::ListModels)),
            (Method::GET, "/v1/responses/resp_1", Some(Route::Retrieve("resp_1"))),
            (Method::DELETE, "/v1/responses/resp_1", Some(Route::Delete("resp_1"))),
            (Method::POST, "/v1/responses/resp_1/cancel", Some(Route::Cancel("resp_1"))),
            (Method::GET, "/v1/responses/resp_1/input_items", Some(Route::ListInputItems("resp_1"))),
            (Method::GET, "/v1/responses", None),
            (Method::POST, "/v1/responses/", None),
            (Method::POST, "/responses", None),
            (Method::PUT, "/v1/responses", None),
            (Method::GET, "/v1/responses/resp_1/cancel", None),
        ] {
            assert_eq!(Route::of(&method, path), route, "{method} {path}");
        }
    }
}
