//! What a refusal is as an answer: the table of status, type, code and retry, in one exhaustive match.

use std::borrow::Cow;

use http::StatusCode;

use super::code::{Code, ErrorType};
use super::{Context, Refusal, words};
use crate::access::{Block, Reason};
use crate::idempotency::Why;
use crate::proxy::client::{Dialect, Reached};
use crate::units::{DecisionId, Timestamp};

/// From here on a limit is a long one: clients had better not sleep so long by themselves.
const LONG_MS: u64 = 60_000;
/// Holds of other requests end at times that nobody knows: so many seconds, spread by chance.
const IN_FLIGHT_SECONDS: std::ops::RangeInclusive<u64> = 5..=15;
/// A call with the same key may end at any moment.
const IN_USE_SECONDS: u64 = 1;
const UNAVAILABLE_SECONDS: std::ops::RangeInclusive<u64> = 1..=5;

/// An answer before it is put into bytes.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) status: StatusCode,
    pub(super) kind: ErrorType,
    pub(super) code: Code,
    pub(super) param: Option<&'a str>,
    pub(super) message: Cow<'a, str>,
    pub(super) retry: Retry,
    /// What Codex is told besides, where this is a denial to it.
    pub(super) denial: Option<Denial>,
    pub(super) extra: Option<Extra>,
}

/// What a client is told about coming back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// Nothing: the status says it.
    Unsaid,
    /// In so many milliseconds, exactly.
    In { ms: u64 },
    /// In about so many seconds.
    InSeconds(u64),
    /// Not by itself; what is known of the time is told all the same.
    NotByItself { ms: Option<u64> },
}

/// A denial as Codex understands it.
#[derive(Debug, Default)]
pub(super) struct Denial {
    pub(super) reached: Option<&'static str>,
    pub(super) resets_at: Option<Timestamp>,
    pub(super) promo: Option<String>,
}

/// A header that belongs to the status.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extra {
    Challenge,
    Upgrade,
    Encodings,
}

impl<'a> Answer<'a> {
    fn new(status: StatusCode, kind: ErrorType, code: Code, message: impl Into<Cow<'a, str>>) -> Self {
        let message = message.into();
        Self { status, kind, code, param: None, message, retry: Retry::Unsaid, denial: None, extra: None }
    }

    fn invalid(status: StatusCode, code: Code, message: impl Into<Cow<'a, str>>) -> Self {
        Self::new(status, ErrorType::InvalidRequest, code, message)
    }

    fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    fn at(self, param: Option<&'a str>) -> Self {
        Self { param, ..self }
    }

    fn with(self, extra: Extra) -> Self {
        Self { extra: Some(extra), ..self }
    }

    /// The same as a denial to Codex: told at once, never retried.
    fn denied_to_codex(self, dialect: Dialect, denial: impl FnOnce() -> Denial) -> Self {
        match dialect {
            Dialect::OpenAi => self,
            Dialect::Codex => Self {
                status: StatusCode::TOO_MANY_REQUESTS,
                kind: ErrorType::UsageLimitReached,
                denial: Some(denial()),
                ..self
            },
        }
    }
}

pub(super) fn answer<'a>(refusal: &'a Refusal, context: &Context<'a>) -> Answer<'a> {
    match refusal {
        Refusal::Block(block) => blocked(block, context),
        Refusal::AccountSuspended => forbidden(context, Code::AccountSuspended, words::SUSPENDED.to_owned()),
        Refusal::MalformedKey(malformed) => unauthorized(words::malformed_key(*malformed)),
        Refusal::InvalidKey => unauthorized(words::INVALID_KEY),
        Refusal::UnpricedModel { model } => unpriced(words::unpriced(model)),
        Refusal::StoreUnavailable | Refusal::Overloaded => unavailable(context),
        Refusal::BadRequest { param, message, code } => {
            Answer::invalid(StatusCode::BAD_REQUEST, *code, &**message).at(param.as_deref())
        }
        Refusal::NotBuilt { what, param } => {
            let message = format!("{what} is not supported by this gateway.");
            Answer::invalid(StatusCode::BAD_REQUEST, Code::UnsupportedParameter, message).at(*param)
        }
        Refusal::NotFound => Answer::invalid(StatusCode::NOT_FOUND, Code::UnknownUrl, words::UNKNOWN_URL),
        Refusal::NotFoundObject { what, param } => {
            let message = format!("{} not found.", words::bounded(what));
            Answer::invalid(StatusCode::NOT_FOUND, Code::NotFound, message).at(*param)
        }
        Refusal::UnknownDecision => {
            Answer::invalid(StatusCode::NOT_FOUND, Code::DecisionNotFound, words::UNKNOWN_DECISION)
        }
        Refusal::KnownKey { decision, why } => known_key(*decision, *why),
        Refusal::UpgradeRequired => {
            Answer::invalid(StatusCode::UPGRADE_REQUIRED, Code::UpgradeRequired, words::NO_UPGRADE)
                .with(Extra::Upgrade)
        }
        Refusal::LengthRequired { limit } => {
            let message = words::length_required(*limit);
            Answer::invalid(StatusCode::LENGTH_REQUIRED, Code::LengthRequired, message)
        }
        Refusal::TooLarge { limit } => {
            let message = words::too_large(*limit);
            Answer::invalid(StatusCode::PAYLOAD_TOO_LARGE, Code::RequestTooLarge, message)
        }
        Refusal::BodyTimeout => {
            Answer::invalid(StatusCode::REQUEST_TIMEOUT, Code::RequestTimeout, words::BODY_TIMEOUT)
        }
        Refusal::UnsupportedEncoding => {
            let code = Code::UnsupportedEncoding;
            Answer::invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, words::UNSUPPORTED_ENCODING)
                .with(Extra::Encodings)
        }
        Refusal::UpstreamUnreachable => fault(StatusCode::BAD_GATEWAY, Code::UpstreamUnavailable),
        // Another try meets the same key.
        Refusal::UpstreamAuth => Answer {
            retry: Retry::NotByItself { ms: None },
            ..fault(StatusCode::BAD_GATEWAY, Code::UpstreamUnavailable)
        },
        Refusal::UpstreamTimeout => fault(StatusCode::GATEWAY_TIMEOUT, Code::UpstreamTimeout),
        Refusal::Internal => fault(StatusCode::INTERNAL_SERVER_ERROR, Code::InternalError),
    }
}

fn blocked<'a>(block: &'a Block, context: &Context<'a>) -> Answer<'a> {
    let wait_ms = block.next.map(|at| at.since(context.now).ms());
    match block.reason {
        Reason::LimitReached => limit_reached(block, wait_ms, context),
        Reason::HeldInFlight => in_flight(words::held_in_flight(context), context),
        Reason::InFlightLimit => in_flight(words::in_flight_limit(block, context), context),
        Reason::CreditsExhausted => Answer::new(
            StatusCode::TOO_MANY_REQUESTS,
            ErrorType::InsufficientQuota,
            Code::CreditBalanceExhausted,
            words::credits_exhausted(block),
        )
        .retry(Retry::NotByItself { ms: None })
        .denied_to_codex(context.dialect, || Denial {
            reached: Some(Reached::Credits.as_str(context.sole_user)),
            ..Denial::default()
        }),
        Reason::SpendCapReached => Answer::new(
            StatusCode::TOO_MANY_REQUESTS,
            ErrorType::InsufficientQuota,
            Code::ProjectSpendLimitExceeded,
            words::spend_cap_reached(block, context),
        )
        .retry(Retry::NotByItself { ms: None })
        .denied_to_codex(context.dialect, || Denial {
            reached: Some(Reached::Spend.as_str(context.sole_user)),
            resets_at: block.next,
            ..Denial::default()
        }),
        Reason::NeverFits => Answer::invalid(
            StatusCode::BAD_REQUEST,
            Code::RequestExceedsAllowance,
            words::never_fits(context),
        ),
        Reason::NotInPlan => forbidden(
            context,
            Code::FeatureNotInPlan,
            format!("Your plan does not include {}. Ask for a plan that does", context.feature()),
        ),
        Reason::UnpricedModel => unpriced(words::UNPRICED.to_owned()),
    }
}

fn limit_reached<'a>(block: &'a Block, wait_ms: Option<u64>, context: &Context<'a>) -> Answer<'a> {
    if let Some(ms) = wait_ms.filter(|ms| *ms < LONG_MS) {
        return rate_limited(words::short_limit(block, ms, context)).retry(Retry::In { ms });
    }
    // Codex shows the time out of the body, and would wait in silence for a header that tells it.
    let retry = match context.dialect {
        Dialect::OpenAi => Retry::NotByItself { ms: wait_ms },
        Dialect::Codex => Retry::Unsaid,
    };
    rate_limited(words::long_limit(block, context)).retry(retry).denied_to_codex(context.dialect, || Denial {
        reached: Some(Reached::Limit.as_str(context.sole_user)),
        resets_at: block.next,
        ..Denial::default()
    })
}

fn in_flight<'a>(message: String, context: &Context<'_>) -> Answer<'a> {
    rate_limited(message).retry(Retry::InSeconds(spread(IN_FLIGHT_SECONDS, context.jitter)))
}

fn rate_limited<'a>(message: String) -> Answer<'a> {
    Answer::new(StatusCode::TOO_MANY_REQUESTS, ErrorType::RateLimit, Code::RateLimitExceeded, message)
}

/// `sentence` comes without its full stop: Codex goes on after it.
fn forbidden<'a>(context: &Context<'_>, code: Code, sentence: String) -> Answer<'a> {
    Answer::invalid(StatusCode::FORBIDDEN, code, format!("{sentence}."))
        .retry(Retry::NotByItself { ms: None })
        .denied_to_codex(context.dialect, || Denial { promo: Some(sentence), ..Denial::default() })
}

fn unauthorized<'a>(message: &'static str) -> Answer<'a> {
    Answer {
        extra: Some(Extra::Challenge),
        ..Answer::invalid(StatusCode::UNAUTHORIZED, Code::InvalidApiKey, message)
    }
}

fn unpriced<'a>(message: String) -> Answer<'a> {
    Answer::invalid(StatusCode::NOT_FOUND, Code::ModelNotFound, message)
}

fn unavailable<'a>(context: &Context<'_>) -> Answer<'a> {
    Answer {
        retry: Retry::InSeconds(spread(UNAVAILABLE_SECONDS, context.jitter)),
        ..Answer::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorType::ServiceUnavailable,
            Code::ServerIsOverloaded,
            words::UNAVAILABLE,
        )
    }
}

/// Clients retry a 409 by themselves unless they are told that it is for good.
fn known_key<'a>(decision: DecisionId, why: Why) -> Answer<'a> {
    let (status, code, retry) = match why {
        Why::OtherContent => {
            (StatusCode::UNPROCESSABLE_ENTITY, Code::IdempotencyKeyReused, Retry::NotByItself { ms: None })
        }
        Why::Running => (StatusCode::CONFLICT, Code::IdempotencyKeyInUse, Retry::InSeconds(IN_USE_SECONDS)),
        Why::NotKept => {
            (StatusCode::CONFLICT, Code::IdempotencyAnswerNotKept, Retry::NotByItself { ms: None })
        }
        Why::Unanswered => {
            (StatusCode::CONFLICT, Code::IdempotencyCallUnanswered, Retry::NotByItself { ms: None })
        }
    };
    Answer::invalid(status, code, words::known_key(decision, why)).retry(retry)
}

fn fault<'a>(status: StatusCode, code: Code) -> Answer<'a> {
    Answer::new(status, ErrorType::Server, code, words::fault(code))
}

fn spread(seconds: std::ops::RangeInclusive<u64>, jitter: u64) -> u64 {
    let choices = seconds.end() - seconds.start() + 1;
    seconds.start() + jitter % choices
}
