//! The words for programs in an error: `error.type` and `error.code`. They are stable.

use serde::{Serialize, Serializer};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

words! {
    /// What kind of error it is, as `error.type` says it.
    ErrorType {
        /// Too much at a time.
        RateLimit = "rate_limit_error",
        /// Nothing left that time brings back.
        InsufficientQuota = "insufficient_quota",
        /// The request is at fault.
        InvalidRequest = "invalid_request_error",
        /// Come back later.
        ServiceUnavailable = "service_unavailable_error",
        /// The gateway or the provider is at fault.
        Server = "server_error",
        /// A denial as Codex understands it.
        UsageLimitReached = "usage_limit_reached",
    }
}

words! {
    /// What the error is, as `error.code` says it.
    Code {
        /// A window, a rate, or too many at the same time.
        RateLimitExceeded = "rate_limit_exceeded",
        /// Balances are too low.
        CreditBalanceExhausted = "credit_balance_exhausted",
        /// A spend cap is reached.
        ProjectSpendLimitExceeded = "project_spend_limit_exceeded",
        /// Larger than anything the plan ever allows.
        RequestExceedsAllowance = "request_exceeds_allowance",
        /// The plan does not include the product.
        FeatureNotInPlan = "feature_not_in_plan",
        /// The account may not call.
        AccountSuspended = "account_suspended",
        /// No price fits the model.
        ModelNotFound = "model_not_found",
        /// No key that lets in.
        InvalidApiKey = "invalid_api_key",
        /// The gateway cannot take it now.
        ServerIsOverloaded = "server_is_overloaded",
        /// A value that is not allowed.
        InvalidValue = "invalid_value",
        /// A value of the wrong kind.
        InvalidType = "invalid_type",
        /// A body that is not JSON, or is cut short.
        InvalidJson = "invalid_json",
        /// A parameter that has to be there.
        MissingRequiredParameter = "missing_required_parameter",
        /// A parameter that this gateway does not do.
        UnsupportedParameter = "unsupported_parameter",
        /// Not a route.
        UnknownUrl = "unknown_url",
        /// Not there, or not the account's.
        NotFound = "not_found",
        /// A decision that is not on record.
        DecisionNotFound = "decision_not_found",
        /// The first request with this idempotency key is under way.
        IdempotencyKeyInUse = "idempotency_key_in_use",
        /// This idempotency key came with another request.
        IdempotencyKeyReused = "idempotency_key_reused",
        /// The first request with this idempotency key was answered, and the answer is not kept.
        IdempotencyAnswerNotKept = "idempotency_answer_not_kept",
        /// The first request with this idempotency key ended without an answer, and may have been charged.
        IdempotencyCallUnanswered = "idempotency_call_unanswered",
        /// Plain HTTP only.
        UpgradeRequired = "upgrade_required",
        /// The body needs a length.
        LengthRequired = "length_required",
        /// The body is too large.
        RequestTooLarge = "request_too_large",
        /// The body took too long.
        RequestTimeout = "request_timeout",
        /// The body's coding cannot be read.
        UnsupportedEncoding = "unsupported_encoding",
        /// The model provider cannot serve it.
        UpstreamUnavailable = "upstream_unavailable",
        /// The model provider did not answer in time.
        UpstreamTimeout = "upstream_timeout",
        /// A fault of the gateway.
        InternalError = "internal_error",
    }
}
