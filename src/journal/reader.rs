//! Reading what is durable, for settlement.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use super::format::{HEADER_BYTES, Part};
use super::scan::Scan;
use super::storage::Storage;
use super::ticket::{Ticket, Wish};
use super::{Frame, Id, Position, ReadError, Shared, Tag, locked, segment};

/// One frame as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// What it does to a hold.
    pub tag: Tag,
    /// Of which hold.
    pub id: Id,
    /// What the caller meant.
    pub payload: Vec<u8>,
}

/// Reads frames in order, durable ones only, from files. Several may read at a time. A reader that lags behind
/// [`Journal::applied`](super::Journal::applied) may find segments gone, and goes on behind them: all of their frames
/// were applied.
pub struct Reader {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    position: u64,
    at: Option<Place>,
}

/// A place in an open segment.
struct Place {
    number: u64,
    scan: Scan,
    /// The position of the frame or batch before which the scan stands.
    position: u64,
    /// Where the part ends that the scan may read.
    end: u64,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, storage: Arc<dyn Storage>, from: Position) -> Self {
        Self { shared, storage, position: from.0, at: None }
    }

    /// The position of the next frame to be read.
    pub fn position(&self) -> Position {
        Position(self.position)
    }

    /// The next frames: at most `frames_max`, and no further one once their payloads reach `bytes_max`. Empty: no more
    /// are durable yet. Reads files, so it is not for async code.
    pub fn next_batch(&mut self, frames_max: usize, bytes_max: usize) -> Result<Vec<Entry>, ReadError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < frames_max && bytes < bytes_max {
            match self.next() {
                Ok(Some(entry)) => {
                    bytes += entry.payload.len();
                    batch.push(entry);
                }
                Err(error) if batch.is_empty() => return Err(error),
                // An error will be met again by the next call, which has nothing else to tell.
                Ok(None) | Err(_) => break,
            }
        }
        Ok(batch)
    }

    /// Resolves once the frame at [`Self::position`] is durable, or the journal has stopped.
    pub fn more(&self) -> Ticket {
        Ticket::new(self.position, Wish::Whenever, &self.shared)
    }

    /// Blocks the thread until the frame at [`Self::position`] is durable, at most for `timeout`, perhaps for less.
    /// Tells whether it is.
    pub fn wait(&self, timeout: Duration) -> bool {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut more = std::pin::pin!(self.more());
        match more.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => outcome.is_ok(),
            Poll::Pending => {
                std::thread::park_timeout(timeout);
                more.is_durable()
            }
        }
    }

    fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            if !self.find()? {
                return Ok(None);
            }
            let Some(Place { number, scan, position, .. }) = &mut self.at else { return Ok(None) };
            let (number, offset) = (*number, scan.offset());
            let error = match scan.next() {
                Ok(Some(Part::Frame(frame))) => {
                    let here = *position;
                    *position += 1;
                    if here < self.position {
                        continue;
                    }
                    self.position = here + 1;
                    let Frame { tag, id, payload } = frame;
                    return Ok(Some(Entry { position: Position(here), tag, id, payload: payload.to_vec() }));
                }
                Ok(Some(Part::Batch(batch))) => {
                    *position = batch.position;
                    continue;
                }
                Ok(None) => ReadError::Damaged { file: segment::name(number), offset },
                Err(source) => ReadError::Io { file: segment::name(number), source },
            };
            self.give_up(number, error)?;
        }
    }

    /// Has [`Self::at`] stand where there is something durable to read; false where there is nothing.
    fn find(&mut self) -> Result<bool, ReadError> {
        if self.at.as_ref().is_some_and(|place| place.position < place.end) {
            return Ok(true);
        }
        loop {
            let found = locked(&self.shared.catalog).segment_at(self.position);
            let Some(found) = found else { return Ok(false) };
            if let Some(place) = self.at.as_mut().filter(|place| place.number == found.number) {
                place.scan.extend(found.end_bytes);
                place.end = found.end;
                return Ok(true);
            }
            match self.storage.open(&segment::name(found.number)) {
                Ok(file) => {
                    let scan = Scan::new(file, found.salt, HEADER_BYTES as u64, found.end_bytes);
                    self.at =
                        Some(Place { number: found.number, scan, position: found.first, end: found.end });
                    return Ok(true);
                }
                Err(source) => {
                    let error = ReadError::Io { file: segment::name(found.number), source };
                    self.give_up(found.number, error)?;
                }
            }
        }
    }

    /// Leaves a segment that cannot be read. No error if it was let go meanwhile: its file may be anything by now.
    fn give_up(&mut self, number: u64, error: ReadError) -> Result<(), ReadError> {
        self.at = None;
        if locked(&self.shared.catalog).contains(number) { Err(error) } else { Ok(()) }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("position", &self.position).finish_non_exhaustive()
    }
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
