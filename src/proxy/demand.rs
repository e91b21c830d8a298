//! What a request body says, as far as metering and ownership need it.
//!
//! One pass with visitors, no tree: the members that matter are read, text is counted for the estimate of the input,
//! and every place where the API takes the id of something stored is looked at. One upstream key serves all accounts,
//! so an id that this gateway did not give out could open what belongs to somebody else: ids of responses go to the
//! caller to be checked against their owner, ids of every other kind are refused.
//!
//! What could be read in two ways is refused too: a repeated member (the upstream might take the other one) and a
//! bound that is no positive whole number. Bounds: the body's own size, and the parser's 128 levels.

mod body;
mod rewrite;
mod scalar;
mod size;
pub mod video;
mod walk;

pub use rewrite::{NotAnObject, with_include_usage, with_max_output_tokens};
pub use size::{AUDIO_BYTES_PER_TOKEN, BYTES_PER_TOKEN, ENCRYPTED_BYTES_PER_TOKEN, FILE_BYTES_PER_TOKEN};
pub use size::{FILE_TOKENS_MIN, IMAGE_TOKENS};

use std::fmt;

use serde::de::DeserializeSeed;
use smallvec::SmallVec;

/// Which body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// POST /v1/responses.
    Responses,
    /// POST /v1/responses/compact.
    Compact,
    /// `POST /v1/responses/input_tokens`.
    InputTokens,
    /// POST /v1/chat/completions.
    Chat,
}

/// What a body asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The model.
    pub model: String,
    /// Whether the answer comes as events.
    pub stream: bool,
    /// Whether the client wants the usage chunk of a chat stream.
    pub include_usage: bool,
    /// The most tokens of each answer, where the client set a bound.
    pub max_output_tokens: Option<u64>,
    /// How many answers; 1 but for chat's `n`.
    pub choices: u64,
    /// The tier, where the client named one.
    pub service_tier: Option<String>,
    /// Whether it is to run in the background.
    pub background: bool,
    /// Whether the answer is to be stored, where the client said so.
    pub store: Option<bool>,
    /// Tokens of the input by size, before what has been learnt of the model.
    pub input_tokens_estimate: u64,
    /// Responses that the body names; each must belong to the account that asks.
    pub responses: SmallVec<[NamedResponse; 1]>,
}

/// A response that a body names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedResponse {
    /// Its id, as the client wrote it.
    pub id: String,
    /// Where it stands in the body.
    pub param: &'static str,
}

/// Why a body goes no further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not what the API takes: 400.
    #[error("bad request: {}", .0.message)]
    Bad(BadRequest),
    /// It names something that does not exist for this account: 404.
    #[error("unknown {} in {}", .0.kind, .0.param)]
    Foreign(Foreign),
}

/// A body that is not what the API takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// The member at fault.
    pub param: Option<&'static str>,
    /// A sentence for the client, in the upstream's own words.
    pub message: String,
    /// A stable code.
    pub code: Option<&'static str>,
}

/// An id of a kind that no route of the gateway creates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What it would be the id of.
    pub kind: ForeignKind,
    /// Where it stands, as in `input[3].content[0].file_id`.
    pub param: String,
}

/// What no route of the gateway creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignKind {
    /// A stored conversation.
    Conversation,
    /// A stored prompt template.
    Prompt,
    /// An uploaded file.
    File,
    /// A store of embedded files.
    VectorStore,
    /// A machine that tools run in.
    Container,
    /// A stored item of some response.
    Item,
    /// An uploaded skill.
    Skill,
    /// Audio of an earlier answer.
    Audio,
    /// A custom voice.
    Voice,
}

impl ForeignKind {
    /// Its name in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::Prompt => "prompt",
            Self::File => "file",
            Self::VectorStore => "vector store",
            Self::Container => "container",
            Self::Item => "item",
            Self::Skill => "skill",
            Self::Audio => "audio",
            Self::Voice => "voice",
        }
    }
}

impl fmt::Display for ForeignKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Asked {
    /// Reads a body.
    pub fn parse(api: Api, body: &[u8]) -> Result<Self, Refused> {
        scalar::object(body)?;
        let mut walk = walk::Walk::default();
        let mut members = serde_json::Deserializer::from_slice(body);
        let read = body::Body { walk: &mut walk }.deserialize(&mut members);
        let read = read.and_then(|read| members.end().map(|()| read));
        match (walk.refusal(), read) {
            (Some(refused), _) => Err(refused),
            (None, Err(error)) => Err(scalar::malformed(&error)),
            (None, Ok(read)) => read.asked(api, walk.size.tokens()),
        }
    }
}

#[cfg(test)]
mod tests;
