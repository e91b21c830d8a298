//! The body of a refusal: `OpenAI`'s error object, whose four keys are always there, and what Codex reads besides.

use bytes::Bytes;
use serde::Serialize;

use super::answer::Answer;
use super::code::{Code, ErrorType};
use crate::proxy::client::CODEX_PLAN_TYPE;

#[derive(Serialize)]
struct Body<'a> {
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    message: &'a str,
    r#type: ErrorType,
    param: Option<&'a str>,
    code: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<i64>,
}

pub(super) fn body(answer: &Answer<'_>) -> Bytes {
    let denial = answer.denial.as_ref();
    let error = ErrorBody {
        message: &answer.message,
        r#type: answer.kind,
        param: answer.param,
        code: answer.code,
        plan_type: denial.map(|_| CODEX_PLAN_TYPE),
        resets_at: denial.and_then(|denial| denial.resets_at).map(crate::units::Timestamp::seconds_ceil),
    };
    // Strings and numbers into memory: this does not fail, and if it did, an empty body would say less, not wrong.
    serde_json::to_vec(&Body { error }).map(Bytes::from).unwrap_or_default()
}
