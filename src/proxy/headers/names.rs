//! Names of headers, each made once.

use http::HeaderName;

macro_rules! names {
    ($($name:ident = $text:literal;)*) => {
        $(pub(in crate::proxy) static $name: HeaderName = HeaderName::from_static($text);)*
    };
}

names! {
    ACCESS_DECISION = "x-access-decision";
    ACCESS_SOURCES = "x-access-sources";
    ACCESS_IDEMPOTENCY = "x-access-idempotency";
    ACCESS_REPLAYED = "x-access-replayed";
    RATE_LIMIT = "ratelimit";
    RATE_LIMIT_POLICY = "ratelimit-policy";
    LIMIT_REQUESTS = "x-ratelimit-limit-requests";
    REMAINING_REQUESTS = "x-ratelimit-remaining-requests";
    RESET_REQUESTS = "x-ratelimit-reset-requests";
    LIMIT_TOKENS = "x-ratelimit-limit-tokens";
    REMAINING_TOKENS = "x-ratelimit-remaining-tokens";
    RESET_TOKENS = "x-ratelimit-reset-tokens";
    REQUEST_ID = "x-request-id";
    RETRY_AFTER_MS = "retry-after-ms";
    SHOULD_RETRY = "x-should-retry";
    CODEX_PRIMARY_USED = "x-codex-primary-used-percent";
    CODEX_PRIMARY_MINUTES = "x-codex-primary-window-minutes";
    CODEX_PRIMARY_RESET = "x-codex-primary-reset-at";
    CODEX_SECONDARY_USED = "x-codex-secondary-used-percent";
    CODEX_SECONDARY_MINUTES = "x-codex-secondary-window-minutes";
    CODEX_SECONDARY_RESET = "x-codex-secondary-reset-at";
    CODEX_HAS_CREDITS = "x-codex-credits-has-credits";
    CODEX_UNLIMITED = "x-codex-credits-unlimited";
    CODEX_BALANCE = "x-codex-credits-balance";
    CODEX_REACHED_TYPE = "x-codex-rate-limit-reached-type";
    CODEX_PROMO_MESSAGE = "x-codex-promo-message";
}

/// Whether only the gateway may say this to a client: such headers of an upstream's answer are taken out.
///
/// An upstream counts against the gateway's key, which says nothing about the client. Its other `x-codex-*` headers
/// (turn state, models' etag) are part of the protocol and pass. So does `x-request-id`, where the gateway has none.
pub fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    let limits = |rest: &str| {
        let ends =
            ["-used-percent", "-window-minutes", "-reset-at", "-reset-after-seconds", "-limit-percent"];
        rest.starts_with("credits-")
            || rest.ends_with("limit-name")
            || ends.iter().any(|end| rest.ends_with(end))
            || ["active-limit", "promo-message", "rate-limit-reached-type", "plan-type"].contains(&rest)
    };
    name.starts_with("x-access-")
        || name.starts_with("x-ratelimit-")
        || ["ratelimit", "ratelimit-policy"].contains(&name)
        || name.strip_prefix("x-codex-").is_some_and(limits)
}
