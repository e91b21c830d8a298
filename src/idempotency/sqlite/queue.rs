//! What waits for the thread: all of it is taken at once, and shares one transaction.
//!
//! Its bound is its callers': each call with a key has a permit, and at most a claim and an end here.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::idempotency::{Answer, AnswersError, Claim, Claimed, Ended, Interrupted, ScopedKey};
use crate::units::DecisionId;

/// A piece of work, and where its outcome is told.
#[derive(Debug)]
pub(super) enum Work {
    Claim(Claim, oneshot::Sender<Result<Claimed, AnswersError>>),
    Answer(ScopedKey, DecisionId, oneshot::Sender<Result<Option<Answer>, AnswersError>>),
    End(Ended),
    Interrupted(oneshot::Sender<Result<Vec<Interrupted>, AnswersError>>),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    work: VecDeque<Work>,
    closed: bool,
}

impl Queue {
    /// Adds a piece of work. After the end it is dropped, and who waits for it hears of that.
    pub(super) fn push(&self, work: Work) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.closed {
            waiting.work.push_back(work);
            self.more.notify_one();
        }
    }

    /// No more work comes.
    pub(super) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.more.notify_one();
    }

    /// Nobody works any more: who waits hears of it.
    pub(super) fn abandon(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.closed = true;
        waiting.work.clear();
    }

    /// Up to `count` pieces, as soon as there is one, and none after `patience`. `None`: it is closed and empty.
    pub(super) fn take(&self, count: usize, patience: Duration) -> Option<Vec<Work>> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |waiting: &mut Waiting| waiting.work.is_empty() && !waiting.closed;
        let waited = self.more.wait_timeout_while(waiting, patience, idle);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if waiting.closed && waiting.work.is_empty() {
            return None;
        }
        let count = count.min(waiting.work.len());
        Some(waiting.work.drain(..count).collect())
    }
}
