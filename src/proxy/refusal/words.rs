//! The sentences for people. They say what happened and what to do, and nothing of how the gateway works inside.

use super::Context;
use super::code::Code;
use crate::access::Block;
use crate::idempotency::Why;
use crate::proxy::headers::Writer;
use crate::proxy::keys::Malformed;
use crate::units::{DecisionId, Span};

const AGAIN_LATER: &str = "Please try again when one of them has ended.";
/// What a client sent is repeated up to this many characters.
const REPEATED_CHARACTERS: usize = 128;
const BYTES_PER_KIB: u64 = 1024;

pub(super) const SUSPENDED: &str = "Your account is suspended. Ask whoever runs this gateway";
pub(super) const INVALID_KEY: &str = "Incorrect API key provided: it is not known, or no longer valid.";
pub(super) const UNPRICED: &str = "The model does not exist or is not offered here.";
pub(super) const UNAVAILABLE: &str = "The gateway cannot take this request now. Please try again shortly.";
pub(super) const UNKNOWN_URL: &str =
    "Unknown request URL or method. See GET /v1/models and the documentation.";
pub(super) const UNKNOWN_DECISION: &str = "No decision with this id is on record for your account. Requests that \
    were refused are kept for a limited time, and not all of them under heavy load.";
pub(super) const NO_UPGRADE: &str =
    "WebSocket and other upgrades are not supported here. Use plain HTTP requests.";
pub(super) const BODY_TIMEOUT: &str = "The request body took too long to arrive.";
pub(super) const UNSUPPORTED_ENCODING: &str = "Content-Encoding must be gzip, zstd, or absent.";

pub(super) const fn malformed_key(malformed: Malformed) -> &'static str {
    match malformed {
        Malformed::Missing => {
            "You didn't provide an API key. Send it as `Authorization: Bearer ofk_...` with every request."
        }
        Malformed::Foreign => {
            "Incorrect API key provided: it is not a key of this gateway. Its keys begin with `ofk_`."
        }
        Malformed::Damaged => "Incorrect API key provided: it is incomplete or mistyped.",
    }
}

pub(super) const fn fault(code: Code) -> &'static str {
    match code {
        Code::UpstreamTimeout => "The model provider did not answer in time.",
        Code::UpstreamUnavailable => "The model provider could not serve this request.",
        _ => "The gateway failed to serve this request.",
    }
}

pub(super) fn length_required(limit: u64) -> String {
    format!(
        "A request body of more than {} needs a Content-Length: it is measured before the request is let through.",
        bytes(limit)
    )
}

pub(super) fn too_large(limit: u64) -> String {
    format!("The request body is larger than {}.", bytes(limit))
}

pub(super) fn unpriced(model: &str) -> String {
    format!("The model `{}` does not exist or is not offered here.", bounded(model))
}

/// Clients read the time out of this very phrase.
pub(super) fn short_limit(block: &Block, wait_ms: u64, context: &Context<'_>) -> String {
    let ms = wait_ms.max(1);
    format!(
        "Rate limit reached for {}{}. Please try again in {}.{:03}s.",
        context.feature(),
        binding(block),
        ms / 1000,
        ms % 1000
    )
}

pub(super) fn long_limit(block: &Block, context: &Context<'_>) -> String {
    let feature = context.feature();
    let used_up = format!("You have reached the limit of {feature}{}.", binding(block));
    let wait =
        block.next.map(|at| format!(" This request passes again in {}, at {at}.", duration(block, context)));
    let money = block.need.filter(|need| !need.is_zero()).map(|need| {
        let have = block.have.unwrap_or_default();
        format!(" Without waiting it needs {need} credits, and {have} are available.")
    });
    format!("{used_up}{}{}", wait.unwrap_or_default(), money.unwrap_or_default())
}

pub(super) fn held_in_flight(context: &Context<'_>) -> String {
    let feature = context.feature();
    format!("Your requests in progress may need all that is left of {feature}. {AGAIN_LATER}")
}

pub(super) fn in_flight_limit(block: &Block, context: &Context<'_>) -> String {
    let feature = context.feature();
    format!("Too many requests at the same time for {feature}{}. {AGAIN_LATER}", binding(block))
}

pub(super) fn credits_exhausted(block: &Block) -> String {
    format!("You do not have enough credits.{} Add credits to continue.", need_and_have(block, "available"))
}

pub(super) fn spend_cap_reached(block: &Block, context: &Context<'_>) -> String {
    let refill = block.next.map(|at| format!(" It begins again in {}, at {at}.", duration(block, context)));
    format!(
        "You have reached the spend cap on {}{}.{}{}",
        context.feature(),
        binding(block),
        need_and_have(block, "left under the cap"),
        refill.unwrap_or_default()
    )
}

pub(super) fn never_fits(context: &Context<'_>) -> String {
    format!(
        "This request is larger than your plan ever allows for {}. Shorten the input or lower the output limit.",
        context.feature()
    )
}

pub(super) fn known_key(decision: DecisionId, why: Why) -> String {
    let not_again =
        format!("It is not carried out again. See what became of it: GET /v1/access/decisions/{decision}.");
    let first = "A request with this Idempotency-Key";
    match why {
        Why::OtherContent => format!(
            "This Idempotency-Key came with another request before (decision {decision}). Use a new key for a new request."
        ),
        Why::Running => {
            format!("{first} is being carried out (decision {decision}). Please try again in 1 second.")
        }
        Why::NotKept => format!("{first} was answered before, and the answer is not kept. {not_again}"),
        Why::Unanswered => format!("{first} ended without a whole answer. {not_again}"),
    }
}

/// What a client sent, cut to a length that an answer may repeat.
pub(super) fn bounded(text: &str) -> &str {
    text.char_indices().nth(REPEATED_CHARACTERS).map_or(text, |(end, _)| &text[..end])
}

fn need_and_have(block: &Block, of_what: &str) -> String {
    let told = block
        .need
        .zip(block.have)
        .map(|(need, have)| format!(" This request needs {need}, and {have} are {of_what}."));
    told.unwrap_or_default()
}

fn binding(block: &Block) -> String {
    block.binding.as_ref().map(|name| format!(" ({name})")).unwrap_or_default()
}

/// The time until the request passes, in whole seconds rounded up.
fn duration(block: &Block, context: &Context<'_>) -> String {
    let wait = block.next.map_or(Span::ZERO, |at| at.since(context.now));
    let mut writer = Writer::new();
    writer.go_duration(Span::from_seconds(wait.seconds_ceil()));
    writer.into_text()
}

fn bytes(count: u64) -> String {
    let (kib, mib) = (count / BYTES_PER_KIB, count / BYTES_PER_KIB / BYTES_PER_KIB);
    if mib > 0 && count.is_multiple_of(BYTES_PER_KIB * BYTES_PER_KIB) {
        format!("{mib} MiB")
    } else if kib > 0 && count.is_multiple_of(BYTES_PER_KIB) {
        format!("{kib} KiB")
    } else {
        format!("{count} bytes")
    }
}
