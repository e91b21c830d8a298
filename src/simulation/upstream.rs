//! The upstream: what it says of a call, and what that is worth.

use crate::observe::finish::Cause;
use crate::observe::{Observer, Shape};

use super::auditor::Use;

/// How an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// To its end, with its usage.
    Told(Use),
    /// To its end, without a word of usage.
    Untold,
    /// It fails, without a word of usage.
    Failed,
    /// It is cut.
    Cut,
    /// The client leaves.
    ClientGone,
    /// An error, or nothing that it accepted.
    Refused,
    /// Accepted by its head, and cut before its first event.
    Empty,
    /// Nobody sees its end.
    Dropped,
}

/// Tokens in each piece of output.
const PIECE_TOKENS: u64 = 2;

impl Answer {
    /// What the answer is worth after `pieces` of output: what was used, and the word for its outcome.
    pub(super) fn worth(self, estimate: Use, pieces: u64) -> (Use, &'static str) {
        let seen = Use { output: pieces * PIECE_TOKENS, ..estimate };
        match self {
            Self::Told(used) => (used, "completed"),
            Self::Untold => (seen, "completed"),
            Self::Failed => (seen, "failed"),
            Self::Cut => (seen, "cut"),
            Self::ClientGone => (seen, "client-gone"),
            Self::Refused | Self::Empty => (Use { tier: estimate.tier, ..Use::default() }, "refused"),
            Self::Dropped => (Use { output: 0, ..estimate }, "cancelled"),
        }
    }

    /// What is wrong with it.
    pub(super) const fn fault(self) -> Option<&'static str> {
        match self {
            Self::Told(_) => None,
            Self::Untold => Some("answer without usage"),
            Self::Failed => Some("failed answer"),
            Self::Cut => Some("cut answer"),
            Self::ClientGone => Some("client gone"),
            Self::Refused => Some("refused request"),
            Self::Empty => Some("empty answer"),
            Self::Dropped => Some("unseen end"),
        }
    }

    /// The answer as it passes, and how the gateway sees it end.
    pub(super) fn pass(self, id: &str, pieces: u64) -> (Option<Observer>, Option<u16>, Cause) {
        let mut text = String::new();
        let mut event = |data: String| text.extend(["data: ", &data, "\n\n"]);
        event(format!(r#"{{"type":"response.created","response":{{"id":"{id}","status":"in_progress"}}}}"#));
        for _ in 0..pieces {
            event(r#"{"type":"response.output_text.delta","delta":"abcdefgh"}"#.to_owned());
        }
        let end = |kind: &str, usage: &str| {
            format!(r#"{{"type":"response.{kind}","response":{{"id":"{id}","status":"{kind}"{usage}}}}}"#)
        };
        let cause = match self {
            Self::Told(used) => {
                let (input, output, tier) = (used.input, used.output, used.tier.name());
                let usage = format!(
                    r#","service_tier":"{tier}","usage":{{"input_tokens":{input},"output_tokens":{output}}}"#
                );
                event(end("completed", &usage));
                Cause::Ended
            }
            Self::Untold => {
                event(end("completed", ""));
                Cause::Ended
            }
            Self::Failed => {
                event(end("failed", ""));
                Cause::Ended
            }
            Self::Cut => Cause::Cut,
            Self::ClientGone => Cause::ClientGone,
            Self::Refused => return (None, Some(500), Cause::Refused),
            Self::Empty => {
                text.clear();
                Cause::Ended
            }
            Self::Dropped => return (None, None, Cause::Dropped),
        };
        let mut observer = Observer::new(Shape::ResponsesSse, http::StatusCode::OK);
        // In chunks that respect no event.
        for chunk in text.as_bytes().chunks(37) {
            observer.feed(chunk);
        }
        (Some(observer), Some(200), cause)
    }
}
