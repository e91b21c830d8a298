//! Reading a request's body before anything is decided.
//!
//! Pingora hands a body on while it arrives, and replays what was read before the upstream was chosen only from a
//! buffer of 64 KiB, which empties itself when more comes. So this keeps a copy of its own, turns that buffer on for
//! the last 64 KiB alone, and the replayed tail is exchanged for the whole on its way out (`Gateway`'s
//! `request_body_filter`). A body of unknown length above 64 KiB cannot be read so, and is refused.
//!
//! Bounds: one body, as sent and as decoded; all bodies together; the time for a whole one. Room is taken as bytes
//! arrive, so a client that announces much and sends little holds little.

mod decode;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::proxy::Session;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use decode::Encoding;

/// The longest body of unstated length: what Pingora's replay buffer holds.
pub const UNSTATED_BYTES_MAX: usize = 64 << 10;
/// What room is counted in.
const ROOM_UNIT: usize = 1 << 10;

/// Bounds on bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest body, as sent and as decoded.
    pub bytes_max: usize,
    /// What all bodies in memory may take up together.
    pub buffered_bytes_max: usize,
    /// How long a whole body may take to arrive.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 32 << 20, buffered_bytes_max: 512 << 20, timeout: Duration::from_mins(1) }
    }
}

/// Reads bodies within bounds.
#[derive(Debug)]
pub struct Bodies {
    limits: Limits,
    room: Arc<Semaphore>,
    room_units: usize,
}

/// A body in memory, and the room it takes up.
#[derive(Debug)]
pub struct Body {
    bytes: Bytes,
    room: Room,
}

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Longer than the limit, as sent or decoded.
    #[error("the body is larger than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// Its length was not told, and it is longer than what can be read so.
    #[error("a body of more than {UNSTATED_BYTES_MAX} bytes came without a length")]
    LengthRequired,
    /// It did not arrive in time.
    #[error("the body did not arrive in time")]
    TimedOut,
    /// There is no room for it now.
    #[error("bodies in memory take up all room")]
    NoRoom,
    /// It ended before its end.
    #[error("the body was cut short")]
    Cut(#[source] Box<pingora::Error>),
    /// It is encoded in a way that is not known here.
    #[error("the body's encoding is not known")]
    UnknownEncoding,
    /// It is not what its encoding says.
    #[error("the body cannot be decoded")]
    Malformed(#[source] std::io::Error),
    /// It could not be kept for the upstream; never with this version of Pingora.
    #[error("the end of the body was not kept for the upstream")]
    NotKept,
}

#[derive(Debug, Default)]
struct Room(Option<OwnedSemaphorePermit>);

/// Bytes on their way out, which give back their room when they have left.
struct Leaving {
    bytes: Bytes,
    _room: Room,
}

impl Bodies {
    /// Bodies within `limits`.
    pub fn new(limits: Limits) -> Self {
        let room_units = (limits.buffered_bytes_max / ROOM_UNIT).clamp(1, Semaphore::MAX_PERMITS);
        Self { limits, room: Arc::new(Semaphore::new(room_units)), room_units }
    }

    /// How many bytes of bodies are in memory, to a KiB each.
    pub fn buffered_bytes(&self) -> usize {
        self.room_units.saturating_sub(self.room.available_permits()) * ROOM_UNIT
    }

    /// Reads the whole body of a request.
    pub async fn read(&self, session: &mut Session) -> Result<Body, BodyError> {
        if session.is_body_empty() {
            return Ok(Body { bytes: Bytes::new(), room: Room::default() });
        }
        let length = self.length(session)?;
        if session.req_header().headers.contains_key(EXPECT) {
            session.write_continue_response().await.map_err(BodyError::Cut)?;
        }
        let read = tokio::time::timeout(self.limits.timeout, self.read_all(session, length)).await;
        read.unwrap_or(Err(BodyError::TimedOut))
    }

    /// The longest body that is read whole, in bytes.
    pub fn bytes_max(&self) -> u64 {
        u64::try_from(self.limits.bytes_max).unwrap_or(u64::MAX)
    }

    /// Reads the beginning of a body that is longer than may be read whole: 64 KiB of it, or a little more. What comes
    /// behind is read from the session by whoever passes it on.
    pub async fn begin(&self, session: &mut Session) -> Result<Bytes, BodyError> {
        if session.req_header().headers.contains_key(EXPECT) {
            session.write_continue_response().await.map_err(BodyError::Cut)?;
        }
        let gather = async {
            let mut gathered = Gathered::default();
            while gathered.len() < UNSTATED_BYTES_MAX
                && let Some(chunk) = session.read_request_body().await.map_err(BodyError::Cut)?
            {
                gathered.push(chunk);
            }
            Ok(gathered.whole())
        };
        tokio::time::timeout(self.limits.timeout, gather).await.unwrap_or(Err(BodyError::TimedOut))
    }

    /// Reads the whole body of a request that goes nowhere from here, of at most `bytes_max`.
    pub async fn read_small(&self, session: &mut Session, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
        let read = async {
            if session.req_header().headers.contains_key(EXPECT) {
                session.write_continue_response().await.map_err(BodyError::Cut)?;
            }
            let mut whole = Vec::new();
            while let Some(chunk) = session.read_request_body().await.map_err(BodyError::Cut)? {
                if whole.len() + chunk.len() > bytes_max {
                    return Err(BodyError::TooLarge { bytes_max });
                }
                whole.extend_from_slice(&chunk);
            }
            Ok(whole)
        };
        tokio::time::timeout(self.limits.timeout, read).await.unwrap_or(Err(BodyError::TimedOut))
    }

    /// The length that was told, where one was.
    fn length(&self, session: &Session) -> Result<Option<usize>, BodyError> {
        let told = session.req_header().headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let length = told.and_then(|length| length.trim().parse().ok());
        if length.is_some_and(|length| length > self.limits.bytes_max) {
            return Err(self.too_large());
        }
        Ok(length)
    }

    async fn read_all(&self, session: &mut Session, length: Option<usize>) -> Result<Body, BodyError> {
        let mut gathered = Gathered::default();
        let mut room = Room::default();
        let mut kept = 0;
        loop {
            let replayed =
                length.is_none_or(|length| length.saturating_sub(gathered.len()) <= UNSTATED_BYTES_MAX);
            if replayed {
                session.enable_retry_buffering();
            }
            let Some(chunk) = session.read_request_body().await.map_err(BodyError::Cut)? else { break };
            kept += if replayed { chunk.len() } else { 0 };
            if length.is_none() && session.retry_buffer_truncated() {
                return Err(BodyError::LengthRequired);
            }
            if gathered.len() + chunk.len() > self.limits.bytes_max {
                return Err(self.too_large());
            }
            room.take(&self.room, gathered.len() + chunk.len())?;
            gathered.push(chunk);
        }
        let bytes = gathered.whole();
        if !bytes.is_empty() && (kept == 0 || session.retry_buffer_truncated()) {
            return Err(BodyError::NotKept);
        }
        Ok(Body { bytes, room })
    }

    /// What the body says once it is decoded: a body of its own, with room of its own.
    pub async fn decode(&self, body: &Body, encoding: Encoding) -> Result<Body, BodyError> {
        let (room, bytes_max) = (Arc::clone(&self.room), self.limits.bytes_max);
        let encoded = body.bytes.clone();
        if encoded.len() < UNSTATED_BYTES_MAX {
            return decode::decode(&encoded, encoding, bytes_max, &room);
        }
        // Megabytes take milliseconds, in which a thread would serve hundreds of others.
        let decoded =
            tokio::task::spawn_blocking(move || decode::decode(&encoded, encoding, bytes_max, &room)).await;
        decoded.unwrap_or_else(|_| Err(BodyError::Malformed(std::io::ErrorKind::Other.into())))
    }

    const fn too_large(&self) -> BodyError {
        BodyError::TooLarge { bytes_max: self.limits.bytes_max }
    }
}

impl From<Bytes> for Body {
    /// Bytes that take up no room of their own.
    fn from(bytes: Bytes) -> Self {
        Self { bytes, room: Room::default() }
    }
}

impl Body {
    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its bytes, which hold its room until the last of them is dropped.
    pub fn into_bytes(self) -> Bytes {
        if self.room.0.is_none() {
            return self.bytes;
        }
        Bytes::from_owner(Leaving { bytes: self.bytes, _room: self.room })
    }

    /// The same room for other bytes: a rewritten body, a little longer or shorter than this one.
    #[must_use]
    pub fn rewritten(self, bytes: Bytes) -> Self {
        Self { bytes, room: self.room }
    }
}

impl AsRef<[u8]> for Leaving {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Room {
    /// Takes room for `bytes` in all.
    fn take(&mut self, semaphore: &Arc<Semaphore>, bytes: usize) -> Result<(), BodyError> {
        let units = bytes.div_ceil(ROOM_UNIT);
        let more = units.saturating_sub(self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).map_err(|_| BodyError::NoRoom)?;
        let permit = Arc::clone(semaphore).try_acquire_many_owned(more).map_err(|_| BodyError::NoRoom)?;
        match &mut self.0 {
            Some(held) => held.merge(permit),
            None => self.0 = Some(permit),
        }
        Ok(())
    }
}

/// Chunks on their way to one: a body that came in one piece is not copied.
#[derive(Default)]
struct Gathered {
    only: Bytes,
    joined: BytesMut,
}

impl Gathered {
    fn len(&self) -> usize {
        self.only.len() + self.joined.len()
    }

    fn push(&mut self, chunk: Bytes) {
        if self.len() == 0 {
            self.only = chunk;
            return;
        }
        if self.joined.is_empty() {
            self.joined.extend_from_slice(&std::mem::take(&mut self.only));
        }
        self.joined.extend_from_slice(&chunk);
    }

    fn whole(self) -> Bytes {
        if self.joined.is_empty() { self.only } else { self.joined.freeze() }
    }
}
