//! The bounded queue between those who append and the one writer.
//!
//! An append copies its frame behind the others under a lock held for some tens of nanoseconds, so that the order of
//! calls is the order in the file, and a caller may append from inside its own lock. Bounds: see
//! [`Options::queue_bytes_max`](super::Options::queue_bytes_max). What has left the queue but is not durable yet counts
//! as queued, so the bound is one on all memory that waits for the disk.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::{AppendError, Frame, Refusal, Tag, format, locked};

/// Ends and other frames may fill the queue this many times further than holds.
const MUST_FACTOR: usize = 8;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Told when the writer has a reason to wake up.
    stirred: Condvar,
    bounds: Bounds,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The largest frame.
    pub(super) frame_bytes: usize,
    /// What may wait when a hold comes.
    pub(super) queue_bytes: usize,
    /// Open holds, counting those that wait.
    pub(super) holds: usize,
}

#[derive(Debug)]
struct State {
    /// Frames that the writer has not taken.
    frames: Vec<u8>,
    /// The position of the next frame.
    next: u64,
    /// All that is not durable, taken or not.
    queued_bytes: usize,
    /// Holds that are not durable.
    holds_queued: usize,
    /// Durable holds without a durable end.
    holds_open: usize,
    /// Why holds are refused.
    refusal: Option<Refusal>,
    /// The writer sleeps and wants to hear of frames.
    idle: bool,
    stir: Stir,
}

/// What the writer is asked for besides writing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stir {
    /// Something changed that may free room.
    pub(super) look: bool,
    /// All that is queued must become durable now.
    pub(super) flush: bool,
    /// No frame comes after those queued.
    pub(super) closed: bool,
}

/// What the writer tells when it comes back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    /// Bytes that have become durable since it told last.
    pub(super) bytes: usize,
    /// Holds among them.
    pub(super) holds: usize,
    /// Holds open now.
    pub(super) holds_open: usize,
    pub(super) refusal: Option<Refusal>,
}

/// How long the writer sleeps when nothing stirs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nap {
    /// Whether queued frames end it.
    pub(super) heeds_frames: bool,
    /// None: until stirred.
    pub(super) longest: Option<Duration>,
}

/// What a look into the queue shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) next: u64,
    pub(super) queued_bytes: usize,
    pub(super) holds_open: usize,
    pub(super) refusal: Option<Refusal>,
}

impl Queue {
    pub(super) fn new(next: u64, holds_open: usize, bounds: Bounds) -> Self {
        let state = State {
            frames: Vec::new(),
            next,
            queued_bytes: 0,
            holds_queued: 0,
            holds_open,
            refusal: None,
            idle: false,
            stir: Stir::default(),
        };
        Self { state: Mutex::new(state), stirred: Condvar::new(), bounds }
    }

    /// Queues the frame and tells its position. Never waits for the disk.
    pub(super) fn push(&self, frame: Frame<'_>) -> Result<u64, AppendError> {
        let bytes = format::FRAME_BYTES.saturating_add(frame.payload.len());
        if bytes > self.bounds.frame_bytes {
            return Err(AppendError::TooLarge { bytes: frame.payload.len() });
        }
        let mut state = locked(&self.state);
        self.admit(&state, frame.tag, bytes)?;
        format::encode(frame, &mut state.frames);
        state.queued_bytes += bytes;
        state.holds_queued += usize::from(frame.tag == Tag::Hold);
        let position = state.next;
        state.next += 1;
        let wake = std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.stirred.notify_one();
        }
        Ok(position)
    }

    fn admit(&self, state: &State, tag: Tag, bytes: usize) -> Result<(), AppendError> {
        if state.stir.closed {
            return Err(AppendError::Closed);
        }
        let mut queue_bytes = self.bounds.queue_bytes;
        if tag == Tag::Hold {
            match state.refusal {
                Some(Refusal::Failing) => return Err(AppendError::Failed),
                Some(Refusal::DiskFull | Refusal::BytesMax | Refusal::HoldsMax) => {
                    return Err(AppendError::Full);
                }
                None if state.holds_open + state.holds_queued >= self.bounds.holds => {
                    return Err(AppendError::Full);
                }
                None => {}
            }
        } else {
            queue_bytes = queue_bytes.saturating_mul(MUST_FACTOR);
        }
        // One frame may always wait, however large, or it could never be written.
        if state.queued_bytes > 0 && state.queued_bytes + bytes > queue_bytes {
            return Err(AppendError::Backlogged);
        }
        Ok(())
    }

    /// Sleeps as told, then adds all that is queued to `pending`.
    pub(super) fn take(&self, pending: &mut Vec<u8>, done: Done, nap: Nap) -> Stir {
        let mut state = locked(&self.state);
        state.queued_bytes = state.queued_bytes.saturating_sub(done.bytes);
        state.holds_queued = state.holds_queued.saturating_sub(done.holds);
        state.holds_open = done.holds_open;
        state.refusal = done.refusal;
        let asleep = |state: &mut State| {
            let stirred = state.stir.look || state.stir.flush || state.stir.closed;
            !stirred && (state.frames.is_empty() || !nap.heeds_frames)
        };
        if asleep(&mut state) {
            state.idle = nap.heeds_frames;
            state = match nap.longest {
                None => {
                    self.stirred.wait_while(state, asleep).unwrap_or_else(std::sync::PoisonError::into_inner)
                }
                Some(longest) => {
                    let woken = self.stirred.wait_timeout_while(state, longest, asleep);
                    woken.unwrap_or_else(std::sync::PoisonError::into_inner).0
                }
            };
            state.idle = false;
        }
        if pending.is_empty() {
            std::mem::swap(pending, &mut state.frames);
        } else {
            pending.append(&mut state.frames);
        }
        let stir = state.stir;
        state.stir = Stir { closed: stir.closed, ..Stir::default() };
        stir
    }

    /// Has the writer look for room.
    pub(super) fn look(&self) {
        locked(&self.state).stir.look = true;
        self.stirred.notify_one();
    }

    /// Has the writer make all durable, and tells the position after the last frame.
    pub(super) fn flush(&self) -> u64 {
        let mut state = locked(&self.state);
        state.stir.flush = true;
        self.stirred.notify_one();
        state.next
    }

    /// Takes no more frames, and has the writer finish.
    pub(super) fn close(&self) {
        locked(&self.state).stir.closed = true;
        self.stirred.notify_one();
    }

    pub(super) fn standing(&self) -> Standing {
        let state = locked(&self.state);
        let full = state.holds_open + state.holds_queued >= self.bounds.holds;
        Standing {
            next: state.next,
            queued_bytes: state.queued_bytes,
            holds_open: state.holds_open,
            refusal: state.refusal.or(full.then_some(Refusal::HoldsMax)),
        }
    }
}
