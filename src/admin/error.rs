//! How the operator's API says no: `{"error": {"message", "code"}}`, and never an internal cause.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::ledger::LedgerError;
use crate::meter::MeterError;

/// A call that was not carried out.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
}

/// The body of a refusal.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Serialize, ToSchema)]
struct ErrorDetail {
    /// For people.
    message: String,
    /// For programs; stable.
    code: &'static str,
}

impl Refused {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "invalid", message: message.into() }
    }

    pub(super) fn missing(what: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "not_found", message: format!("{what} does not exist") }
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, code: "conflict", message: message.into() }
    }

    pub(super) fn unauthorized() -> Self {
        let message = "send the operator's token as `Authorization: Bearer`".to_owned();
        Self { status: StatusCode::UNAUTHORIZED, code: "unauthorized", message }
    }

    pub(super) fn closing() -> Self {
        let message = "this gateway is shutting down".to_owned();
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "unavailable", message }
    }

    fn unavailable(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %crate::telemetry::chain(error), "an operator's call failed");
        let message = "the store does not answer; the log says why".to_owned();
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "unavailable", message }
    }
}

impl From<LedgerError> for Refused {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Exists { what } => Self::conflict(format!("{what} exists already")),
            LedgerError::Missing { what } => Self::missing(what),
            LedgerError::Unavailable(_) | LedgerError::Corrupt { .. } => Self::unavailable(&error),
        }
    }
}

impl From<MeterError> for Refused {
    fn from(error: MeterError) -> Self {
        match error {
            MeterError::TooMuch => Self::invalid(format!("amount: {error}")),
            MeterError::Journal(_) | MeterError::Store(_) | MeterError::NoSuchHold => {
                Self::unavailable(&error)
            }
        }
    }
}

impl From<crate::journal::NotDurable> for Refused {
    fn from(error: crate::journal::NotDurable) -> Self {
        Self::unavailable(&error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let error = ErrorDetail { message: self.message, code: self.code };
        (self.status, Json(ErrorBody { error })).into_response()
    }
}

/// What is not in the table.
pub(super) async fn no_such_route() -> Refused {
    Refused::missing("this route")
}
