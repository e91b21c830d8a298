//! A key that a call has taken, and what its answer has been so far.
//!
//! Whatever becomes of the call drops this, and dropping it ends the key: free before there is a hold or where the call's
//! end says that nothing was charged; with the answer, where that had passed whole; else without one. So no key outlives
//! its call in this process.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue};
use pingora::http::ResponseHeader;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ROOM_UNIT;
use crate::access::record::Outcome;
use crate::idempotency::{Answer, Answers, Claim, End, Ended, Limits, ScopedKey};
use crate::units::DecisionId;

/// A key that is a call's.
pub struct Taken {
    answers: Arc<dyn Answers>,
    key: ScopedKey,
    decision: DecisionId,
    limits: Limits,
    fate: Fate,
    recording: Recording,
    place: Option<OwnedSemaphorePermit>,
}

/// What becomes of the key when its call is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It has another call's.
    NotOurs,
    /// Nothing was charged.
    Free,
    /// Something may have been: what was answered decides.
    Held,
}

/// An answer while it passes.
struct Recording {
    status: u16,
    head: Vec<u8>,
    /// None: it is not going to be kept.
    body: Option<Vec<u8>>,
    room: Option<OwnedSemaphorePermit>,
    all_room: Arc<Semaphore>,
    whole: bool,
}

impl Taken {
    pub(super) fn new(
        answers: Arc<dyn Answers>,
        claim: &Claim,
        place: OwnedSemaphorePermit,
        limits: Limits,
        room: &Arc<Semaphore>,
    ) -> Self {
        Self {
            answers,
            key: claim.key,
            decision: claim.decision,
            limits,
            fate: Fate::Free,
            recording: Recording {
                status: 0,
                head: Vec::new(),
                body: Some(Vec::new()),
                room: None,
                all_room: Arc::clone(room),
                whole: false,
            },
            place: Some(place),
        }
    }

    /// The key is another call's, or nobody's.
    pub(super) fn not_ours(mut self) {
        self.fate = Fate::NotOurs;
    }

    /// The call is held: from now on only its end tells that it charged nothing.
    pub fn held(&mut self) {
        self.fate = Fate::Held;
    }

    /// Begins to record an answer, whose header is as the client gets it. Gives what the client is told about that.
    pub fn headed(&mut self, header: &ResponseHeader) -> Option<HeaderValue> {
        let recording = &mut self.recording;
        recording.status = header.status.as_u16();
        for (name, value) in header.headers.iter().filter(|(name, _)| !of_the_connection(name)) {
            recording.head.extend_from_slice(name.as_str().as_bytes());
            recording.head.extend_from_slice(b": ");
            recording.head.extend_from_slice(value.as_bytes());
            recording.head.push(b'\n');
        }
        let length =
            header.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > self.limits.answer_bytes) {
            recording.give_up();
        }
        let word = if recording.body.is_some() { "kept" } else { "not-kept" };
        let told = format!(
            "{word};id=\"{}\";max-bytes={};seconds={}",
            self.decision,
            self.limits.answer_bytes,
            self.limits.keep.ms() / 1000
        );
        HeaderValue::from_str(&told).ok()
    }

    /// Records the next bytes that the client gets.
    pub fn pass(&mut self, chunk: &[u8]) {
        self.recording.add(chunk, self.limits.answer_bytes);
    }

    /// The answer has ended as it should.
    pub fn whole(&mut self) {
        self.recording.whole = true;
    }

    /// Whether a call that ended so has charged nothing.
    pub fn is_freed_by(outcome: Outcome) -> bool {
        matches!(outcome, Outcome::Refused | Outcome::NotSent)
    }

    /// The call has ended, and charged nothing: the key is free once this is dropped.
    pub fn free(&mut self) {
        self.fate = Fate::Free;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let end = match self.fate {
            Fate::NotOurs => return,
            Fate::Free => End::Free,
            Fate::Held if self.recording.whole => self.recording.take(),
            Fate::Held => End::Unanswered,
        };
        self.answers.end(Ended { key: self.key, decision: self.decision, end, place: self.place.take() });
    }
}

impl Recording {
    fn add(&mut self, chunk: &[u8], bytes_max: u64) {
        let Some(body) = &mut self.body else { return };
        let length = body.len() + chunk.len();
        let capacity =
            if length > body.capacity() { length.max(body.capacity() * 2) } else { body.capacity() };
        if length as u64 > bytes_max || !has_room(&mut self.room, &self.all_room, capacity) {
            self.give_up();
            return;
        }
        body.reserve_exact(capacity - body.len());
        body.extend_from_slice(chunk);
    }

    fn give_up(&mut self) {
        self.body = None;
        self.room = None;
    }

    fn take(&mut self) -> End {
        let Some(body) = self.body.take() else { return End::NotKept };
        End::Answered(Answer {
            status: self.status,
            head: std::mem::take(&mut self.head),
            body: Bytes::from(body),
            room: self.room.take(),
        })
    }
}

/// Takes room for `bytes` in all, if there is some.
pub(super) fn has_room(held: &mut Option<OwnedSemaphorePermit>, all: &Arc<Semaphore>, bytes: usize) -> bool {
    let units = bytes.div_ceil(ROOM_UNIT);
    let more = units.saturating_sub(held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
    if more == 0 {
        return true;
    }
    let more = u32::try_from(more).ok().and_then(|more| Arc::clone(all).try_acquire_many_owned(more).ok());
    match (more, held) {
        (Some(more), Some(held)) => held.merge(more),
        (Some(more), none) => *none = Some(more),
        (None, _) => return false,
    }
    true
}

/// Whether a header is about how and when an answer is carried, and not about what it says.
fn of_the_connection(name: &HeaderName) -> bool {
    [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING].contains(name) || name.as_str() == "keep-alive"
}
