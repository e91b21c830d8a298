//! A body as metering reads it, and as it leaves.

use bytes::Bytes;
use pingora::proxy::Session;

use super::bad;
use crate::proxy::body::{Body, BodyError, Encoding};
use crate::proxy::demand::{self, Asked, BadRequest, Foreign, Refused};
use crate::proxy::gateway::Shared;
use crate::proxy::refusal::{Code, Refusal};
use crate::telemetry::chain;

/// From here on reading a body takes longer than other requests should wait for their thread.
const LONG_BYTES: usize = 1 << 20;

/// What the body says, where it is compressed.
pub(super) async fn plain(shared: &Shared, session: &Session, sent: &Body) -> Result<Option<Body>, Refusal> {
    let encoding = Encoding::of(&session.req_header().headers).map_err(|error| refusal(&error))?;
    let Some(encoding) = encoding else { return Ok(None) };
    shared.bodies.decode(sent, encoding).await.map(Some).map_err(|error| refusal(&error))
}

/// What the body asks for.
pub(super) async fn parse(api: demand::Api, body: &Body) -> Result<Asked, Refusal> {
    let bytes = body.bytes();
    let asked = if bytes.len() < LONG_BYTES {
        Asked::parse(api, bytes)
    } else {
        let bytes = Bytes::clone(bytes);
        match tokio::task::spawn_blocking(move || Asked::parse(api, &bytes)).await {
            Ok(asked) => asked,
            Err(error) => {
                tracing::error!(error = %chain(&error), "a body could not be read");
                return Err(Refusal::Internal);
            }
        }
    };
    asked.map_err(refused)
}

/// A body that goes no further, to the client.
pub(super) fn refused(refused: Refused) -> Refusal {
    match refused {
        Refused::Bad(BadRequest { param, message, code }) => Refusal::BadRequest {
            param: param.map(Into::into),
            message: message.into(),
            code: code.map_or(Code::InvalidJson, code_of),
        },
        Refused::Foreign(Foreign { kind, param }) => {
            Refusal::NotFoundObject { what: format!("The {kind} named in '{param}'").into(), param: None }
        }
    }
}

/// The body with what the gateway has to change in it; `None`: nothing.
pub(super) fn rewritten(
    api: demand::Api,
    text: &Bytes,
    max_output_tokens: Option<u64>,
    adds_usage: bool,
) -> Result<Option<Bytes>, Refusal> {
    let mut changed = None;
    if let Some(tokens) = max_output_tokens {
        changed = Some(demand::with_max_output_tokens(text, tokens, api).map_err(|error| unchanged(&error))?);
    }
    if adds_usage {
        let text = changed.as_deref().unwrap_or(text);
        changed = Some(demand::with_include_usage(text).map_err(|error| unchanged(&error))?);
    }
    Ok(changed.map(Bytes::from))
}

/// What was read as an object can be changed as one; if it could not be, it must not leave as it is.
fn unchanged(error: &demand::NotAnObject) -> Refusal {
    tracing::error!(error = %chain(error), "a body could not be rewritten");
    Refusal::Internal
}

/// A body that was not taken, to the client.
pub(in crate::proxy) fn refusal(error: &BodyError) -> Refusal {
    let limit = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    match error {
        BodyError::TooLarge { bytes_max } => Refusal::TooLarge { limit: limit(*bytes_max) },
        BodyError::LengthRequired => {
            Refusal::LengthRequired { limit: limit(crate::proxy::body::UNSTATED_BYTES_MAX) }
        }
        BodyError::TimedOut => Refusal::BodyTimeout,
        BodyError::NoRoom => Refusal::Overloaded,
        BodyError::Cut(_) => bad("The request's body ends before its end.", Code::InvalidJson),
        BodyError::UnknownEncoding => Refusal::UnsupportedEncoding,
        BodyError::Malformed(_) => bad("The request's body is not encoded as it says.", Code::InvalidValue),
        BodyError::NotKept => {
            tracing::error!(error = %chain(error), "a body could not be kept");
            Refusal::Internal
        }
    }
}

fn code_of(word: &str) -> Code {
    Code::ALL.iter().copied().find(|code| code.as_str() == word).unwrap_or(Code::InvalidValue)
}
