//! The bounded queue between those who append and the one writer.
//!
//! An append copies its frame behind the others under a lock held for some tens of nanoseconds, so that the order of
//! calls is the order in the file, and a caller may append from inside its own lock. Bounds: see
//! [`Options::queue_bytes_max`](super::Options::queue_bytes_max). What has left the queue but is not durable yet counts
//! as queued, so the bound is one on all memory that waits for the disk.
//!
//! # When the writer takes
//!
//! A sync costs as much CPU as all the rest of a request, however much it syncs, so it is worth some waiting to share
//! one. Frames for which nobody waits (an end is sent off when its answer has long left) go along with the next hold,
//! or by themselves after [`LINGER`]. A hold goes at once where it is alone. The more callers waited for the last sync,
//! the longer the next one lets others join, up to [`GATHER_MAX`]: at a few hundred requests a second that never
//! happens, at ten thousand it makes one sync of ten.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{AppendError, Frame, Refusal, Tag, format, locked};

/// How long frames wait that nobody waits for.
pub(super) const LINGER: Duration = Duration::from_millis(5);
/// How long a sync lets others join for each caller, but one, that waited for the last.
const GATHER_EACH: Duration = Duration::from_micros(200);
pub(super) const GATHER_MAX: Duration = Duration::from_millis(1);

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
    /// How long frames wait that nobody waits for.
    pub(super) linger: Duration,
    /// The longest that a sync lets others join.
    pub(super) gather: Duration,
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
    /// The first position that the writer has not taken.
    taken: u64,
    /// How many callers wait for frames that the writer has not taken.
    awaited: usize,
    /// How many waited for what it took last.
    awaited_last: usize,
    heed: Heed,
    stir: Stir,
}

/// What wakes the writer, besides being stirred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Heed {
    Nothing,
    /// Frames that somebody waits for.
    Awaited,
    Frames,
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
            taken: next,
            awaited: 0,
            awaited_last: 0,
            heed: Heed::Nothing,
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
        self.admits(&state, frame.tag, bytes)?;
        format::encode(frame, &mut state.frames);
        state.queued_bytes += bytes;
        let position = state.next;
        state.next += 1;
        if frame.tag == Tag::Hold {
            state.holds_queued += 1;
            state.awaited += 1;
            self.wake(state, Heed::Awaited);
        } else {
            self.wake(state, Heed::Frames);
        }
        Ok(position)
    }

    /// Somebody waits for the frame at `position`, which may be one that would linger.
    pub(super) fn hurry(&self, position: u64) {
        let mut state = locked(&self.state);
        if position >= state.taken {
            state.awaited += 1;
            self.wake(state, Heed::Awaited);
        }
    }

    /// Wakes the writer if it heeds this, once.
    fn wake(&self, mut state: MutexGuard<'_, State>, event: Heed) {
        let wakes = state.heed >= event;
        if wakes {
            state.heed = Heed::Nothing;
        }
        drop(state);
        if wakes {
            self.stirred.notify_one();
        }
    }

    /// Ends and other frames always find room: there are no more ends than holds, and what is left out of an account's
    /// sequence would keep the rest of it from the books.
    fn admits(&self, state: &State, tag: Tag, bytes: usize) -> Result<(), AppendError> {
        if state.stir.closed {
            return Err(AppendError::Closed);
        }
        if tag != Tag::Hold {
            return Ok(());
        }
        match state.refusal {
            Some(Refusal::Failing) => return Err(AppendError::Failed),
            Some(Refusal::Closed) => return Err(AppendError::Closed),
            Some(Refusal::DiskFull | Refusal::BytesMax | Refusal::HoldsMax) => return Err(AppendError::Full),
            None if state.holds_open + state.holds_queued >= self.bounds.holds => {
                return Err(AppendError::Full);
            }
            None => {}
        }
        // One frame may always wait, however large, or it could never be written.
        if state.queued_bytes > 0 && state.queued_bytes + bytes > self.bounds.queue_bytes {
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
        if nap.heeds_frames {
            state = self.sleep(state, Heed::Frames, nap.longest, |state| !state.frames.is_empty());
            state = self.gather(state);
        } else {
            state = self.sleep(state, Heed::Nothing, nap.longest, |_| false);
        }
        state.taken = state.next;
        state.awaited_last = std::mem::take(&mut state.awaited);
        if pending.is_empty() {
            std::mem::swap(pending, &mut state.frames);
        } else {
            pending.append(&mut state.frames);
        }
        let stir = state.stir;
        state.stir = Stir { closed: stir.closed, ..Stir::default() };
        stir
    }

    /// Lets others join, where that is worth it.
    fn gather<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if !state.frames.is_empty() && state.awaited == 0 {
            state = self.sleep(state, Heed::Awaited, Some(self.bounds.linger), |state| state.awaited > 0);
        }
        let others = u32::try_from(state.awaited_last.saturating_sub(1)).unwrap_or(u32::MAX);
        let longest = GATHER_EACH.saturating_mul(others).min(self.bounds.gather);
        if state.awaited > 0 && !longest.is_zero() {
            state = self.sleep(state, Heed::Nothing, Some(longest), |_| false);
        }
        state
    }

    /// Sleeps until stirred, or until `done`; `heed` is what may have brought that about.
    fn sleep<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        heed: Heed,
        longest: Option<Duration>,
        done: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let asleep = |state: &mut State| {
            let asleep = !(state.stir.look || state.stir.flush || state.stir.closed || done(state));
            state.heed = if asleep { heed } else { Heed::Nothing };
            asleep
        };
        state = match longest {
            None => self.stirred.wait_while(state, asleep).unwrap_or_else(PoisonError::into_inner),
            Some(longest) => {
                let woken = self.stirred.wait_timeout_while(state, longest, asleep);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.heed = Heed::Nothing;
        state
    }

    /// Has the writer look for room.
    pub(super) fn look(&self) {
        locked(&self.state).stir.look = true;
        self.stirred.notify_one();
    }

    /// Has the writer make all durable, and tells the position behind the last frame.
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
        let closed = state.stir.closed.then_some(Refusal::Closed);
        let full = state.holds_open + state.holds_queued >= self.bounds.holds;
        Standing {
            next: state.next,
            queued_bytes: state.queued_bytes,
            holds_open: state.holds_open,
            refusal: closed.or(state.refusal).or(full.then_some(Refusal::HoldsMax)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Frame<'static> = Frame { tag: Tag::End, id: [0; 16], payload: &[] };

    /// Queues two ends, then does something, and tells how many frames the writer takes then.
    fn taken_after(hurry: impl FnOnce(&Queue)) -> usize {
        let bounds = Bounds {
            frame_bytes: 100,
            queue_bytes: 1000,
            holds: 10,
            linger: Duration::from_hours(1),
            gather: GATHER_MAX,
        };
        let nap = Nap { heeds_frames: true, longest: None };
        let queue = Queue::new(0, 0, bounds);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut pending = Vec::new();
                queue.take(&mut pending, Done::default(), nap);
                pending.len() / format::FRAME_BYTES
            });
            assert_eq!((queue.push(END), queue.push(END)), (Ok(0), Ok(1)));
            for _ in 0..5 {
                std::thread::yield_now();
                assert_eq!(locked(&queue.state).taken, 0);
            }
            hurry(&queue);
            writer.join().unwrap()
        })
    }

    #[test]
    fn frames_linger_until_somebody_waits_for_them() {
        assert_eq!(taken_after(|queue| queue.hurry(0)), 2);
        assert_eq!(taken_after(|queue| assert_eq!(queue.flush(), 2)), 2);
        let hold = Frame { tag: Tag::Hold, ..END };
        assert_eq!(taken_after(|queue| assert_eq!(queue.push(hold), Ok(2))), 3);
    }
}
