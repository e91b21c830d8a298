//! A function call in the place of a text: enough for a client to carry it out and come back with its output.

use serde_json::{Map, Value};

use super::behaviour::Behaviour;
use super::errors::ApiError;
use super::generation::{Id, push, quoted};
use super::request::Call;
use super::responses::ItemState;

/// What every required argument says: a command that harms nobody where it is run.
const ARGUMENT: &str = "echo the sea";

/// A call of one of the request's functions.
#[derive(Clone, Debug)]
pub(super) struct FunctionCall {
    /// As a JSON string.
    name_json: String,
    /// The arguments' JSON, as a JSON string.
    pub arguments_json: String,
    /// What the arguments count as.
    pub tokens: u64,
}

impl FunctionCall {
    /// The call that the behaviour asks for; none where it does not, or once the input has a function's output. A
    /// function that the request does not declare is an error: a client could do nothing with its call.
    pub(super) fn wanted(call: &Call<'_>, behaviour: &Behaviour) -> Result<Option<Self>, ApiError> {
        let Some(name) = behaviour.call.as_deref() else { return Ok(None) };
        let items = call.input.map(|input| serde_json::from_str(input.get()).unwrap_or_default());
        let is_output = |item: &Value| item["type"] == "function_call_output";
        if items.is_some_and(|items: Value| items.as_array().is_some_and(|items| items.iter().any(is_output)))
        {
            return Ok(None);
        }
        let tools: Value =
            call.tools.map(|tools| serde_json::from_str(tools.get()).unwrap_or_default()).unwrap_or_default();
        let mut tools = tools.as_array().into_iter().flatten();
        let tool =
            tools.find(|tool| tool["type"] == "function" && tool["name"] == name).ok_or_else(|| {
                ApiError::invalid(None, Some("tools"), format!("Simulation: there is no function '{name}'."))
            })?;
        let required = tool["parameters"]["required"].as_array().into_iter().flatten();
        let arguments: Map<String, Value> =
            required.filter_map(|name| Some((name.as_str()?.to_owned(), Value::from(ARGUMENT)))).collect();
        let arguments = Value::from(arguments).to_string();
        Ok(Some(Self {
            name_json: quoted(name),
            arguments_json: quoted(&arguments),
            tokens: u64::try_from(arguments.len().div_ceil(4)).unwrap_or(u64::MAX),
        }))
    }

    /// The item of the output.
    pub(super) fn push_item(&self, out: &mut String, id: Id, state: ItemState) {
        let (status, arguments) = match state {
            ItemState::Begun => ("in_progress", r#""""#),
            ItemState::Done => ("completed", self.arguments_json.as_str()),
        };
        push(
            out,
            format_args!(
                r#"{{"id":"fc_{id}","type":"function_call","status":"{status}","arguments":{arguments},"call_id":"call_{id}","name":{}}}"#,
                self.name_json
            ),
        );
    }
}
