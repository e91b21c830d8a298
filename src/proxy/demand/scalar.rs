//! Single values of a body, and what is said when they are wrong.
//!
//! The upstream's own sentences and codes are used, since clients and people know them. Numbers are read from their
//! text, so that no float stands between the client and its bound.

use serde_json::value::RawValue;

use super::{BadRequest, Refused};

/// The largest bound on tokens that is believed.
const TOKENS_MAX: u64 = (1 << 31) - 1;
/// Longest piece of a client's own text in a message.
const QUOTE_MAX: usize = 40;

/// Refuses what does not begin as an object.
pub(super) fn object(body: &[u8]) -> Result<(), Refused> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let found = match first {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        // An object, or what only the parser can name.
        _ => return Ok(()),
    };
    let message =
        format!("Invalid type for the body of your request: expected an object, but got {found} instead.");
    Err(Refused::Bad(BadRequest { param: None, message, code: Some("invalid_type") }))
}

/// What is no JSON, with the place.
pub(super) fn malformed(error: &serde_json::Error) -> Refused {
    let message = format!("We could not parse the JSON body of your request: {error}.");
    Refused::Bad(BadRequest { param: None, message, code: None })
}

/// A member that stands there twice.
pub(super) fn duplicate(param: &'static str) -> BadRequest {
    let message = format!("Duplicate parameter: '{param}'.");
    BadRequest { param: Some(param), message, code: Some("duplicate_parameter") }
}

/// A member that must be there.
pub(super) fn missing(param: &'static str) -> BadRequest {
    let message = format!("Missing required parameter: '{param}'.");
    BadRequest { param: Some(param), message, code: Some("missing_required_parameter") }
}

/// A truth value.
pub(super) fn boolean(param: &'static str, raw: &RawValue) -> Result<Option<bool>, BadRequest> {
    match raw.get() {
        "null" => Ok(None),
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        other => Err(wrong_type(param, "a boolean", other)),
    }
}

/// A text.
pub(super) fn text(param: &'static str, raw: &RawValue) -> Result<Option<String>, BadRequest> {
    match raw.get() {
        "null" => Ok(None),
        value => serde_json::from_str(value).map(Some).map_err(|_| wrong_type(param, "a string", value)),
    }
}

/// A bound on tokens: 1 to 2^31 − 1.
pub(super) fn tokens(param: &'static str, raw: &RawValue) -> Result<Option<u64>, BadRequest> {
    whole(param, raw, TOKENS_MAX)
}

/// A whole number from 1 to `max`.
pub(super) fn whole(param: &'static str, raw: &RawValue, max: u64) -> Result<Option<u64>, BadRequest> {
    let value = raw.get();
    if value == "null" {
        return Ok(None);
    }
    if kind(value) != "an integer" {
        return Err(wrong_type(param, "an integer", value));
    }
    let bound = |code, side, sign, limit: u64| {
        let value = quote(value);
        let message = format!(
            "Invalid '{param}': integer {side} value. Expected a value {sign} {limit}, but got {value} instead."
        );
        Err(BadRequest { param: Some(param), message, code: Some(code) })
    };
    match value.parse::<u64>() {
        Ok(number) if number > max => bound("integer_above_max_value", "above maximum", "<=", max),
        Ok(0) => bound("integer_below_min_value", "below minimum", ">=", 1),
        Ok(number) => Ok(Some(number)),
        Err(_) if value.starts_with('-') => bound("integer_below_min_value", "below minimum", ">=", 1),
        Err(_) => bound("integer_above_max_value", "above maximum", "<=", max),
    }
}

/// What should be an object of options and is not.
pub(super) fn not_an_object(param: &'static str, raw: &RawValue) -> BadRequest {
    wrong_type(param, "an object", raw.get())
}

fn wrong_type(param: &'static str, expected: &str, value: &str) -> BadRequest {
    let found = kind(value);
    let message = format!("Invalid type for '{param}': expected {expected}, but got {found} instead.");
    BadRequest { param: Some(param), message, code: Some("invalid_type") }
}

fn kind(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ if value.contains(['.', 'e', 'E']) => "a decimal number",
        _ => "an integer",
    }
}

fn quote(value: &str) -> String {
    match value.get(..QUOTE_MAX) {
        Some(begin) if value.len() > QUOTE_MAX => format!("{begin}…"),
        _ => value.to_owned(),
    }
}
