//! The members of a body.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::walk::{At, Key, Place, Walk};
use super::{Api, Asked, BadRequest, ForeignKind, NamedResponse, Refused, scalar};

/// Every member whose meaning is known here; one that stands there twice is refused.
const KNOWN: [&str; 41] = [
    "model",
    "input",
    "instructions",
    "messages",
    "tools",
    "stream",
    "stream_options",
    "max_output_tokens",
    "max_completion_tokens",
    "max_tokens",
    "n",
    "service_tier",
    "background",
    "background_options",
    "previous_response_id",
    "prompt_cache_options",
    "conversation",
    "prompt",
    "store",
    "text",
    "response_format",
    "functions",
    "audio",
    "metadata",
    "client_metadata",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "include",
    "reasoning",
    "reasoning_effort",
    "tool_choice",
    "parallel_tool_calls",
    "truncation",
    "temperature",
    "top_p",
    "max_tool_calls",
    "prediction",
    "stop",
    "logit_bias",
];
/// The most answers to one chat request.
const CHOICES_MAX: u64 = 128;

/// Reads a whole body.
pub(super) struct Body<'w> {
    pub(super) walk: &'w mut Walk,
}

/// What was read of it.
#[derive(Debug, Default)]
pub(super) struct Read {
    seen: u64,
    model: Option<String>,
    stream: Option<bool>,
    include_usage: Option<bool>,
    max_output_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_tokens: Option<u64>,
    choices: Option<u64>,
    service_tier: Option<String>,
    background: Option<bool>,
    store: Option<bool>,
    responses: SmallVec<[NamedResponse; 1]>,
}

impl Read {
    pub(super) fn asked(self, api: Api, input_tokens_estimate: u64) -> Result<Asked, Refused> {
        if self.max_completion_tokens.is_some() && self.max_tokens.is_some() && api == Api::Chat {
            let message =
                "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
            let code = Some("invalid_parameter_combination");
            return Err(Refused::Bad(BadRequest {
                param: Some("max_tokens"),
                message: message.into(),
                code,
            }));
        }
        let max_output_tokens = match api {
            Api::Chat => self.max_completion_tokens.or(self.max_tokens),
            Api::Responses | Api::Compact | Api::InputTokens => self.max_output_tokens,
        };
        Ok(Asked {
            model: self.model.ok_or_else(|| Refused::Bad(scalar::missing("model")))?,
            stream: self.stream.unwrap_or(false),
            include_usage: self.include_usage.unwrap_or(false),
            max_output_tokens,
            choices: self.choices.filter(|_| api == Api::Chat).unwrap_or(1),
            service_tier: self.service_tier,
            background: self.background.unwrap_or(false),
            store: self.store,
            input_tokens_estimate,
            responses: self.responses,
        })
    }

    fn name(&mut self, id: Option<String>, param: &'static str) {
        self.responses.extend(id.map(|id| NamedResponse { id, param }));
    }

    /// Takes a member that is one value.
    fn scalar(&mut self, key: &str, raw: &RawValue) -> Result<(), BadRequest> {
        match key {
            "model" => self.model = scalar::text("model", raw)?,
            "stream" => self.stream = scalar::boolean("stream", raw)?,
            "max_output_tokens" => self.max_output_tokens = scalar::tokens("max_output_tokens", raw)?,
            "max_completion_tokens" => {
                self.max_completion_tokens = scalar::tokens("max_completion_tokens", raw)?;
            }
            "max_tokens" => self.max_tokens = scalar::tokens("max_tokens", raw)?,
            "n" => self.choices = scalar::whole("n", raw, CHOICES_MAX)?,
            "service_tier" => self.service_tier = scalar::text("service_tier", raw)?,
            "background" => self.background = scalar::boolean("background", raw)?,
            "store" => self.store = scalar::boolean("store", raw)?,
            "previous_response_id" => {
                self.name(scalar::text("previous_response_id", raw)?, "previous_response_id");
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes the one member of interest of an object of options.
    fn option(&mut self, param: &'static str, raw: &RawValue) -> Result<(), BadRequest> {
        match param {
            "stream_options.include_usage" => self.include_usage = scalar::boolean(param, raw)?,
            _ => self.name(scalar::text(param, raw)?, param),
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = Read;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Read, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Read, A::Error> {
        let mut read = Read::default();
        while let Some(Key(key)) = members.next_key()? {
            if let Some(index) = KNOWN.iter().position(|known| *known == key) {
                let bit = 1 << index;
                if read.seen & bit != 0 {
                    return Err(self.walk.refuse(scalar::duplicate(KNOWN[index])));
                }
                read.seen |= bit;
            }
            self.member(&key, &mut members, &mut read)?;
        }
        Ok(read)
    }
}

impl Body<'_> {
    fn member<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        members: &mut A,
        read: &mut Read,
    ) -> Result<(), A::Error> {
        let place = match key {
            "model"
            | "stream"
            | "max_output_tokens"
            | "max_completion_tokens"
            | "max_tokens"
            | "n"
            | "service_tier"
            | "background"
            | "store"
            | "previous_response_id" => {
                let raw: &RawValue = members.next_value()?;
                return read.scalar(key, raw).map_err(|bad| self.walk.refuse(bad));
            }
            "stream_options" => {
                return self.options(key, "include_usage", "stream_options.include_usage", members, read);
            }
            "prompt_cache_options" => {
                let param = "prompt_cache_options.comparison_response_id";
                return self.options(key, "comparison_response_id", param, members, read);
            }
            "background_options" => {
                let param = "background_options.continuation_id";
                return self.options(key, "continuation_id", param, members, read);
            }
            "conversation" => Place::Ids(ForeignKind::Conversation),
            "prompt" => Place::Ids(ForeignKind::Prompt),
            "input" => Place::Items,
            "response_format" | "functions" => Place::Opaque,
            "instructions" | "messages" | "tools" | "text" => Place::Parts,
            "audio" => Place::Named(ForeignKind::Audio),
            _ if KNOWN.contains(&key) => Place::Ignored,
            _ => Place::Parts,
        };
        members.next_value_seed(At { place, walk: &mut *self.walk }).inspect_err(|_| self.walk.leave_key(key))
    }

    fn options<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        inner: &'static str,
        param: &'static str,
        members: &mut A,
        read: &mut Read,
    ) -> Result<(), A::Error> {
        let raw: &RawValue = members.next_value()?;
        let options = Options { inner, param, read, walk: &mut *self.walk };
        if raw.get().starts_with('{') {
            return serde_json::Deserializer::from_str(raw.get())
                .deserialize_map(options)
                .map_err(A::Error::custom);
        }
        if raw.get() == "null" {
            return Ok(());
        }
        let param = KNOWN.iter().find(|known| **known == key).copied().unwrap_or(param);
        Err(self.walk.refuse(scalar::not_an_object(param, raw)))
    }
}

/// Reads one member of an object of options.
struct Options<'r> {
    inner: &'static str,
    param: &'static str,
    read: &'r mut Read,
    walk: &'r mut Walk,
}

impl<'de> Visitor<'de> for Options<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut seen = false;
        while let Some(Key(key)) = members.next_key()? {
            if key != self.inner {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            if std::mem::replace(&mut seen, true) {
                return Err(self.walk.refuse(scalar::duplicate(self.param)));
            }
            let raw: &RawValue = members.next_value()?;
            self.read.option(self.param, raw).map_err(|bad| self.walk.refuse(bad))?;
        }
        Ok(())
    }
}
