//! Errors in the shape of the API.

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

/// An error as the API answers it.
#[derive(Debug)]
pub(super) struct ApiError {
    pub status: StatusCode,
    pub kind: &'static str,
    pub code: Option<&'static str>,
    pub param: Option<&'static str>,
    pub message: String,
    pub retry_after_seconds: Option<u64>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Content<'a>,
}

#[derive(Serialize)]
struct Content<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

impl ApiError {
    /// A request that is wrong in itself, for instance in the member `param`.
    pub(super) fn invalid(code: Option<&'static str>, param: Option<&'static str>, message: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "invalid_request_error",
            code,
            param,
            message,
            retry_after_seconds: None,
        }
    }

    /// No such object or path.
    pub(super) fn not_found(message: String) -> Self {
        Self { status: StatusCode::NOT_FOUND, ..Self::invalid(None, None, message) }
    }

    /// The key is not the one that is configured.
    pub(super) fn invalid_key() -> Self {
        let message =
            "Incorrect API key provided. You can find your API key at the upstream's operator.".to_owned();
        Self { status: StatusCode::UNAUTHORIZED, ..Self::invalid(Some("invalid_api_key"), None, message) }
    }

    /// The error that a behaviour asks for.
    pub(super) fn of_status(status: u16, model: &str, retry_after_seconds: Option<u64>) -> Self {
        let (kind, code, message, retry_after) = match status {
            401 => (
                "invalid_request_error",
                Some("invalid_api_key"),
                "Incorrect API key provided.".to_owned(),
                None,
            ),
            404 => (
                "invalid_request_error",
                Some("model_not_found"),
                format!("The model `{model}` does not exist or you do not have access to it."),
                None,
            ),
            429 => (
                "rate_limit_error",
                Some("rate_limit_exceeded"),
                format!(
                    "Rate limit reached for {model} on requests per min (RPM). Please try again in {}s.",
                    retry_after_seconds.unwrap_or(1)
                ),
                Some(1),
            ),
            503 => (
                "service_unavailable_error",
                Some("server_is_overloaded"),
                "The server is overloaded. Please try again later.".to_owned(),
                Some(1),
            ),
            400..=499 => ("invalid_request_error", None, "The request is refused.".to_owned(), None),
            _ => (
                "server_error",
                Some("server_error"),
                "The server had an error while processing your request.".to_owned(),
                None,
            ),
        };
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            kind,
            code,
            param: None,
            message,
            retry_after_seconds: retry_after_seconds.or(retry_after),
        }
    }

    /// The body, all four members present.
    pub(super) fn body(&self) -> Bytes {
        let content =
            Content { message: &self.message, r#type: self.kind, param: self.param, code: self.code };
        // Serialising strings into memory does not fail.
        serde_json::to_vec(&Envelope { error: content }).map(Bytes::from).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_an_error_body_with_all_four_members() {
        for status in 400..=599 {
            let error = ApiError::of_status(status, "gpt-\"5.5\"", None);
            assert_eq!(error.status.as_u16(), status);
            let body: serde_json::Value = serde_json::from_slice(&error.body()).expect("JSON");
            let content = body["error"].as_object().expect("error");
            assert_eq!(content.keys().collect::<Vec<_>>(), ["code", "message", "param", "type"], "{status}");
        }
    }

    #[test]
    fn retry_after_stands_where_waiting_helps() {
        for (status, asked, told) in
            [(429, None, Some(1)), (503, None, Some(1)), (500, None, None), (503, Some(9), Some(9))]
        {
            assert_eq!(ApiError::of_status(status, "m", asked).retry_after_seconds, told, "{status}");
        }
    }
}
