//! The upstream's webhooks (Standard Webhooks): whether one is genuine, new, and about which job.
//!
//! A webhook carries no usage, so all that comes of it is a question to the upstream. Whoever could forge one could
//! cause no more than that. Signatures are compared in constant time; a webhook is old after [`TOLERANCE`], and so long
//! at least its id is remembered, the newest [`IDS_MAX`] of them: more in ten minutes would be answered again, which
//! asks a question too many.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use ring::hmac;
use serde::Deserialize;

use crate::config::Secret;
use crate::units::{Span, Timestamp};

/// The largest body that is read.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// How far a webhook's time may lie from now.
pub const TOLERANCE: Span = Span::from_seconds(300);
/// Ids that are remembered.
const IDS_MAX: usize = 16_384;
/// No id is longer.
const ID_BYTES_MAX: usize = 256;
/// What a secret begins with.
const SECRET_MARK: &str = "whsec_";

/// The secret is not one of webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret of the upstream's webhooks is not `whsec_` and base64")]
pub struct NoSecret;

/// The webhook is not the upstream's, or is too old. Why is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the webhook is not genuine")]
pub struct NotGenuine;

/// What a genuine webhook says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Something happened to this.
    About(String),
    /// It was here before, or says nothing of a job.
    Nothing,
}

/// Checks webhooks.
pub struct Verifier {
    /// One for each upstream that has a secret.
    keys: Vec<hmac::Key>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

#[derive(Deserialize)]
struct Event {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    id: String,
}

impl Verifier {
    /// A verifier of what is signed with one of these secrets; nothing where there is none.
    pub fn new(secrets: &[Secret]) -> Result<Option<Self>, NoSecret> {
        let keys = secrets.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        Ok((!keys.is_empty()).then(|| Self { keys, known: Mutex::default() }))
    }

    /// What a webhook says, if it is genuine.
    pub fn take(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<News, NotGenuine> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).ok_or(NotGenuine);
        let (id, at, signatures) =
            (text("webhook-id")?, text("webhook-timestamp")?, text("webhook-signature")?);
        let seconds: i64 = at.parse().map_err(|_| NotGenuine)?;
        let sent = Timestamp::from_ms(seconds.saturating_mul(1000));
        if now.since(sent) > TOLERANCE || sent.since(now) > TOLERANCE || id.len() > ID_BYTES_MAX {
            return Err(NotGenuine);
        }
        let signed = [id.as_bytes(), b".", at.as_bytes(), b".", body].concat();
        let fits = |signature: &str| {
            let tag = signature.strip_prefix("v1,").and_then(|tag| STANDARD.decode(tag).ok());
            tag.is_some_and(|tag| self.keys.iter().any(|key| hmac::verify(key, &signed, &tag).is_ok()))
        };
        if !signatures.split(' ').any(fits) {
            return Err(NotGenuine);
        }
        if !self.is_new(id) {
            return Ok(News::Nothing);
        }
        Ok(serde_json::from_slice::<Event>(body).map_or(News::Nothing, |event| News::About(event.data.id)))
    }

    fn is_new(&self, id: &str) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.ids.insert(id.to_owned()) {
            return false;
        }
        known.order.push_back(id.to_owned());
        if known.order.len() > IDS_MAX
            && let Some(oldest) = known.order.pop_front()
        {
            known.ids.remove(&oldest);
        }
        true
    }
}

fn key(secret: &Secret) -> Result<hmac::Key, NoSecret> {
    let encoded = secret.without_mark(SECRET_MARK).ok_or(NoSecret)?;
    let key = STANDARD.decode(encoded).map_err(|_| NoSecret)?;
    if key.is_empty() { Err(NoSecret) } else { Ok(hmac::Key::new(hmac::HMAC_SHA256, &key)) }
}

#[cfg(test)]
mod tests;
