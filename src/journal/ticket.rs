//! Waiting until a position is durable: one counter for all, and the wakers of those who wait, in order.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::{NotDurable, Shared, locked};

/// Resolves when a frame is durable. A frame is queued whether or not anybody waits: dropping the ticket, or a future
/// that awaits it, changes nothing.
#[derive(Debug)]
#[must_use = "a frame is durable only once its ticket says so"]
pub struct Ticket {
    position: u64,
    wish: Wish,
    /// None: there is nothing to wait for.
    shared: Option<Arc<Shared>>,
    /// Under which this ticket waits.
    key: Option<u64>,
}

/// What waiting for a position means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// It is on its way.
    Due,
    /// It may linger, and must not now that somebody waits.
    Hurry,
    /// Whenever it comes, through failures.
    Whenever,
}

/// What the writer has reached. All below `durable` is.
#[derive(Debug)]
pub(super) struct Progress {
    durable: AtomicU64,
    course: AtomicU8,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    wakers: BTreeMap<(u64, u64), Waker>,
    next_key: u64,
}

/// How the writer fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Course {
    Running,
    Failing,
    Stopped,
}

impl Ticket {
    /// Whether the frame is durable by now (relaxed durability: at once).
    pub fn is_durable(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.progress.durable() > self.position)
    }

    /// A ticket that asks for nothing.
    pub(super) fn done() -> Self {
        Self { position: 0, wish: Wish::Due, shared: None, key: None }
    }

    pub(super) fn new(position: u64, wish: Wish, shared: &Arc<Shared>) -> Self {
        Self { position, wish, shared: Some(Arc::clone(shared)), key: None }
    }
}

impl Future for Ticket {
    type Output = Result<(), NotDurable>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { position, wish, shared, key } = &mut *self;
        let Some(shared) = shared else { return Poll::Ready(Ok(())) };
        let first = key.is_none();
        let outcome = shared.progress.poll(*position, *wish, key, context.waker());
        if outcome.is_pending() && first && *wish == Wish::Hurry {
            shared.queue.hurry(*position);
        }
        outcome
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let (Some(shared), Some(key)) = (&self.shared, self.key) {
            shared.progress.forget(self.position, self.wish, key);
        }
    }
}

impl Progress {
    pub(super) fn new(durable: u64) -> Self {
        let course = AtomicU8::new(Course::Running as u8);
        Self { durable: AtomicU64::new(durable), course, waiting: Mutex::default() }
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The outcome, or the waker is kept under `key`, which is made if it is missing.
    fn poll(
        &self,
        position: u64,
        wish: Wish,
        key: &mut Option<u64>,
        waker: &Waker,
    ) -> Poll<Result<(), NotDurable>> {
        if let Poll::Ready(outcome) = self.outcome(position, wish) {
            return Poll::Ready(outcome);
        }
        let mut waiting = locked(&self.waiting);
        // The writer moves on first and takes the lock after: what it did meanwhile is seen here.
        if let Poll::Ready(outcome) = self.outcome(position, wish) {
            return Poll::Ready(outcome);
        }
        let key = *key.get_or_insert_with(|| {
            waiting.next_key += 1;
            waiting.next_key
        });
        waiting.wakers.insert((position, key), waker.clone());
        Poll::Pending
    }

    fn forget(&self, position: u64, wish: Wish, key: u64) {
        // Whoever has an outcome is no longer among those who wait.
        if self.outcome(position, wish).is_pending() {
            locked(&self.waiting).wakers.remove(&(position, key));
        }
    }

    fn outcome(&self, position: u64, wish: Wish) -> Poll<Result<(), NotDurable>> {
        if self.durable() > position {
            return Poll::Ready(Ok(()));
        }
        match self.course.load(Ordering::Acquire) {
            course if course == Course::Stopped as u8 => Poll::Ready(Err(NotDurable::Stopped)),
            course if course == Course::Failing as u8 && wish != Wish::Whenever => {
                Poll::Ready(Err(NotDurable::Failing))
            }
            _ => Poll::Pending,
        }
    }

    /// All below `durable` is so; wakes whoever waited for that.
    pub(super) fn advance(&self, durable: u64) {
        self.durable.store(durable, Ordering::Release);
        let woken = {
            let mut waiting = locked(&self.waiting);
            let later = waiting.wakers.split_off(&(durable, 0));
            std::mem::replace(&mut waiting.wakers, later)
        };
        woken.into_values().for_each(Waker::wake);
    }

    /// Tells all who wait how the writer fares; those whom it does not concern wait again.
    pub(super) fn fare(&self, course: Course) {
        if self.course.swap(course as u8, Ordering::AcqRel) != course as u8 && course != Course::Running {
            let woken = std::mem::take(&mut locked(&self.waiting).wakers);
            woken.into_values().for_each(Waker::wake);
        }
    }
}
