//! `Idempotency-Key` on metered routes: the same request again is answered again, and never charged again unheard.
//!
//! A key is taken, durably, before the hold of its call is made: so whatever a crash leaves on the books has a key that
//! leads there. It ends where the call ends (`settlement`): free where nothing was charged, with the answer where one
//! was given whole, and otherwise as a key whose retry is told which decision to look at. A request without a key costs
//! one look at its headers.
//!
//! # Failure
//!
//! Where the store of answers cannot be written, requests with a key get 503 before anything is held; requests without
//! one go on. An answer that could not be kept is told by the retry.
//!
//! # Bounds
//!
//! [`CALLS_MAX`] calls with a key at the same time, then 503. Answers are recorded in memory while they pass, up to the
//! limit of one and [`RECORDED_BYTES_MAX`] in all; what finds no room passes all the same, and is not kept.

mod fingerprint;
mod kept;
mod resolve;
mod taken;

use std::sync::Arc;

use pingora::proxy::Session;
use tokio::sync::Semaphore;

use super::metrics;
use super::refusal::{Code, Refusal};
use crate::idempotency::{Answer, Answers, AnswersError, Claim, Claimed, Limits, ScopedKey, Why};
use crate::ledger::directory::Caller;
use crate::telemetry::chain;
use crate::units::{DecisionId, Timestamp};

pub use fingerprint::Request;
pub use kept::Kept;
pub use taken::Taken;

/// How many calls may have a key at the same time.
pub const CALLS_MAX: usize = 65_536;
/// What answers may take up in memory while they are recorded, and while they are given again.
pub const RECORDED_BYTES_MAX: usize = 128 << 20;

/// The longest key.
const KEY_BYTES_MAX: usize = 255;
/// What memory is counted in.
const ROOM_UNIT: usize = 1 << 10;
const HEADER: &str = "idempotency-key";

/// Calls with keys.
pub struct Idempotency {
    answers: Arc<dyn Answers>,
    limits: Limits,
    places: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// How a request goes on.
pub enum Step {
    /// It has no key.
    Unkeyed,
    /// The key is its own.
    Go(Box<Taken>),
    /// It has been answered before.
    Replay(Kept),
}

impl Idempotency {
    /// Calls with keys, kept in `answers` within `limits`.
    pub fn new(answers: Arc<dyn Answers>, limits: Limits) -> Self {
        Self {
            answers,
            limits,
            places: Arc::new(Semaphore::new(CALLS_MAX)),
            room: Arc::new(Semaphore::new(RECORDED_BYTES_MAX / ROOM_UNIT)),
        }
    }

    /// Looks the request's key up, and takes it for `decision` where it is free.
    pub async fn step(
        &self,
        session: &Session,
        caller: &Caller,
        body: &bytes::Bytes,
        decision: DecisionId,
        now: Timestamp,
    ) -> Result<Step, Refusal> {
        let header = session.req_header();
        let Some(name) = key_of(&header.headers)? else { return Ok(Step::Unkeyed) };
        let key = ScopedKey::new(caller.user, name);
        let fingerprint = Request::of(header).fingerprint(body).await?;
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Refusal::Overloaded);
        };
        let claim = Claim { key, fingerprint, decision, account: caller.account, at: now };
        // From here on: dropped with this future, it frees the key again.
        let taken = Taken::new(Arc::clone(&self.answers), &claim, place, self.limits, &self.room);
        match self.answers.claim(claim).await {
            Ok(Claimed::Taken) => Ok(Step::Go(Box::new(taken))),
            Ok(Claimed::Answered(decision, bytes)) => {
                taken.not_ours();
                self.kept(key, decision, bytes).await.map(Step::Replay)
            }
            Ok(Claimed::Refused(decision, why)) => {
                taken.not_ours();
                Err(known(decision, why))
            }
            Err(error) => {
                taken.not_ours();
                Err(unavailable(&error))
            }
        }
    }

    /// An answer that is given again, once there is room for it.
    async fn kept(&self, key: ScopedKey, decision: DecisionId, bytes: u64) -> Result<Kept, Refusal> {
        let mut room = None;
        if !usize::try_from(bytes).is_ok_and(|bytes| taken::has_room(&mut room, &self.room, bytes)) {
            return Err(Refusal::Overloaded);
        }
        let answer = self.answers.answer(key, decision).await.map_err(|error| unavailable(&error))?;
        let answer = answer.ok_or_else(|| known(decision, Why::NotKept))?;
        metrics::replayed();
        Ok(Kept::new(decision, Answer { room, ..answer }))
    }
}

fn known(decision: DecisionId, why: Why) -> Refusal {
    metrics::key_refused(why);
    Refusal::KnownKey { decision, why }
}

fn unavailable(error: &AnswersError) -> Refusal {
    tracing::error!(error = %chain(error), "an idempotency key could not be looked up");
    Refusal::StoreUnavailable
}

/// The key that a request names, if it does.
fn key_of(headers: &http::HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    let mut keys = headers.get_all(HEADER).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = key.as_bytes().trim_ascii();
    if keys.next().is_some() || key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Refusal::BadRequest {
            param: None,
            message: "Idempotency-Key must be one value of 1 to 255 characters.".into(),
            code: Code::InvalidValue,
        });
    }
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_value_of_some_length() {
        let key = |values: &[&str]| {
            let mut headers = http::HeaderMap::new();
            for value in values {
                headers.append(HEADER, value.parse().expect("a header"));
            }
            key_of(&headers).map(|key| key.map(<[u8]>::to_vec)).map_err(|refusal| refusal.as_str())
        };
        let longest = "k".repeat(255);
        assert_eq!(key(&[]), Ok(None));
        assert_eq!(key(&["stainless-node-retry-1"]), Ok(Some(b"stainless-node-retry-1".to_vec())));
        assert_eq!(key(&[&longest]), Ok(Some(longest.clone().into_bytes())));
        for wrong in [&["a", "b"][..], &["a", "a"], &[""], &["  "], &[&format!("{longest}k")]] {
            assert_eq!(key(wrong), Err("bad-request"), "{wrong:?}");
        }
    }
}
