//! Refusals: every way in which the gateway answers instead of the upstream, and the one place that says it.
//!
//! A refusal names what happened; [`respond`] turns it into status, headers and body, in the words that the client at
//! hand acts on. To Codex, every denial that is no matter of moments is a 429 of type `usage_limit_reached`: it shows
//! that at once and stops, while 401, 402, 403 and 5xx make it ask 6 to 30 times. Which `workspace_*` variant Codex
//! reads depends on who can do something about it: the only user of an account is its owner, any other a member.
//!
//! Nothing here carries an error of ours: a client cannot be told an internal cause, because none gets this far.

mod answer;
mod body;
mod code;
mod words;

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderName, StatusCode};

pub use code::{Code, ErrorType};

use super::client::Dialect;
use super::headers::{self, BlockNote, Headers, Scene, Writer};
use super::keys::Malformed;
use crate::access::{Block, Reason};
use crate::idempotency::Why;
use crate::units::{DecisionId, Timestamp};
use answer::{Extra, Retry};

/// A way in which the gateway answers by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The waterfall said no.
    Block(Block),
    /// The account is suspended.
    AccountSuspended,
    /// No key, or none of ours.
    MalformedKey(Malformed),
    /// A key that looks right and does not let in: unknown, revoked or expired, and nobody is told which.
    InvalidKey,
    /// No price fits the model.
    UnpricedModel {
        /// As the request named it.
        model: String,
    },
    /// The decision cannot be made or kept now.
    StoreUnavailable,
    /// The gateway has as much in hand as it takes, or is about to stop.
    Overloaded,
    /// The request is not one that can be understood, or priced.
    BadRequest {
        /// Where in the body.
        param: Option<Cow<'static, str>>,
        /// What is wrong, a sentence for people.
        message: Cow<'static, str>,
        /// What is wrong, for programs.
        code: Code,
    },
    /// Something of the API that this gateway does not do.
    NotBuilt {
        /// The subject of the sentence, as in `background: true`.
        what: &'static str,
        /// Where in the body.
        param: Option<&'static str>,
    },
    /// Not a route.
    NotFound,
    /// A thing that is not there, or is another account's.
    NotFoundObject {
        /// The subject of the sentence, as in `Response with id 'resp_1'`.
        what: Cow<'static, str>,
        /// Where in the body, if it was named there.
        param: Option<&'static str>,
    },
    /// A decision that is not on record for the account: unknown, or a block that was not kept.
    UnknownDecision,
    /// The request's idempotency key is known, and it cannot go on.
    KnownKey {
        /// The decision on the first request with it.
        decision: DecisionId,
        /// Why.
        why: Why,
    },
    /// A WebSocket, or another protocol.
    UpgradeRequired,
    /// A body of unstated length, larger than is read without one.
    LengthRequired {
        /// How much is, in bytes.
        limit: u64,
    },
    /// A body above the limit.
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The body took too long.
    BodyTimeout,
    /// A body in a coding that cannot be read.
    UnsupportedEncoding,
    /// The upstream took no connection, or dropped it before it answered.
    UpstreamUnreachable,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// The upstream did not accept the gateway's own key.
    UpstreamAuth,
    /// A fault of the gateway.
    Internal,
}

/// Around what a refusal is told.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// To whom.
    pub dialect: Dialect,
    /// The id of this answer.
    pub request_id: &'a str,
    /// The present instant, for what is told in seconds.
    pub now: Timestamp,
    /// A random number, so that those who were refused together do not come back together.
    pub jitter: u64,
    /// The decision, once there is one.
    pub decision: Option<DecisionId>,
    /// What is left, once that is known.
    pub scene: Option<Scene<'a>>,
    /// Whether the account has no other user.
    pub sole_user: bool,
    /// The decision's headers, where the request had been let through before it came to this.
    pub held: Option<&'a Headers>,
}

/// An answer of the gateway's own.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// All headers, length and type of the body included.
    pub headers: Headers,
    /// JSON.
    pub body: Bytes,
}

impl Refusal {
    /// The word for it, in `X-Access-Decision`, logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Block(block) => block.reason.as_str(),
            Self::AccountSuspended => "account-suspended",
            Self::MalformedKey(_) | Self::InvalidKey => "invalid-key",
            Self::UnpricedModel { .. } => Reason::UnpricedModel.as_str(),
            Self::StoreUnavailable => "store-unavailable",
            Self::Overloaded => "overloaded",
            Self::BadRequest { .. } => "bad-request",
            Self::NotBuilt { .. } => "not-built",
            Self::NotFound => "not-found",
            Self::NotFoundObject { .. } => "object-not-found",
            Self::UnknownDecision => "unknown-decision",
            Self::KnownKey { .. } => "known-key",
            Self::UpgradeRequired => "upgrade-required",
            Self::LengthRequired { .. } => "length-required",
            Self::TooLarge { .. } => "too-large",
            Self::BodyTimeout => "body-timeout",
            Self::UnsupportedEncoding => "unsupported-encoding",
            Self::UpstreamUnreachable => "upstream-unreachable",
            Self::UpstreamTimeout => "upstream-timeout",
            Self::UpstreamAuth => "upstream-auth",
            Self::Internal => "internal",
        }
    }

    /// Whether this is a decision about access, which headers tell, or another reason for which nothing was decided.
    pub const fn is_decision(&self) -> bool {
        matches!(
            self,
            Self::Block(_)
                | Self::AccountSuspended
                | Self::MalformedKey(_)
                | Self::InvalidKey
                | Self::UnpricedModel { .. }
                | Self::StoreUnavailable
        )
    }
}

impl<'a> Context<'a> {
    /// A context in which nothing but the client and the instant is known.
    pub const fn new(dialect: Dialect, request_id: &'a str, now: Timestamp, jitter: u64) -> Self {
        Self { dialect, request_id, now, jitter, decision: None, scene: None, sole_user: true, held: None }
    }

    /// The name of the product, for sentences.
    fn feature(&self) -> &'a str {
        self.scene.as_ref().map_or("this product", |scene| &*scene.policy[scene.feature].name)
    }
}

/// Says a refusal to a client.
pub fn respond(refusal: &Refusal, context: &Context<'_>) -> Response {
    let answer = answer::answer(refusal, context);
    let body = body::body(&answer);
    let mut writer = Writer::new();
    writer.put(&CONTENT_TYPE, "application/json");
    writer.put_number(&CONTENT_LENGTH, u64::try_from(body.len()).unwrap_or(u64::MAX));
    writer.put(&CACHE_CONTROL, "no-store");
    headers::write_request_id(&mut writer, context.request_id);
    write_retry(&mut writer, &answer.retry);
    if let Some(extra) = answer.extra {
        let (name, value): (&'static HeaderName, _) = match extra {
            Extra::Challenge => (&WWW_AUTHENTICATE, "Bearer realm=\"Overfall\""),
            Extra::Upgrade => (&UPGRADE, "HTTP/1.1"),
            Extra::Encodings => (&ACCEPT_ENCODING, "gzip, zstd"),
        };
        writer.put(name, value);
    }
    if let Refusal::KnownKey { decision, why } = refusal {
        let told = format!("{};id=\"{decision}\"", why.as_str());
        writer.put(&headers::ACCESS_IDEMPOTENCY, &told);
    }
    if refusal.is_decision() {
        write_decision(&mut writer, refusal, context);
    }
    if let Some(denial) = &answer.denial {
        if let Some(reached) = denial.reached {
            writer.put(&headers::CODEX_REACHED_TYPE, reached);
        }
        if let Some(promo) = &denial.promo {
            writer.put(&headers::CODEX_PROMO_MESSAGE, promo);
        }
    }
    let mut headers = writer.finish();
    if let Some(held) = context.held {
        headers.complete(held);
    }
    Response { status: answer.status, headers, body }
}

fn write_retry(writer: &mut Writer, retry: &Retry) {
    match *retry {
        Retry::Unsaid => {}
        Retry::In { ms } => {
            // Never 0: some clients would ask again at once, and others would fall back on their own guess.
            writer.put_number(&RETRY_AFTER, ms.div_ceil(1000).max(1));
            writer.put_number(&headers::RETRY_AFTER_MS, ms.max(1));
        }
        Retry::InSeconds(seconds) => writer.put_number(&RETRY_AFTER, seconds),
        Retry::NotByItself { ms } => {
            if let Some(ms) = ms {
                writer.put_number(&RETRY_AFTER, ms.div_ceil(1000).max(1));
            }
            writer.put(&headers::SHOULD_RETRY, "false");
        }
    }
}

fn write_decision(writer: &mut Writer, refusal: &Refusal, context: &Context<'_>) {
    let block = match refusal {
        Refusal::Block(block) => Some(block),
        _ => None,
    };
    let next = block.and_then(|block| block.next);
    let note = BlockNote {
        decision: context.decision,
        reason: refusal.as_str(),
        next_seconds: next.map(|at| at.since(context.now).seconds_ceil().max(1)),
        need: block.and_then(|block| block.need),
        have: block.and_then(|block| block.have),
    };
    headers::write_blocked(writer, context.scene.as_ref(), &note);
    if let Some(scene) = &context.scene {
        headers::write_left(writer, scene, context.dialect);
    }
}

#[cfg(test)]
mod tests;
