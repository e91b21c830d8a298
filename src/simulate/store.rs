//! The responses the upstream made and can still show: a bounded number and a bounded size of them, oldest out first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::value::RawValue;

use super::responses::Answer;
use crate::units::Timestamp;

/// The bytes that all stored responses may take.
const BYTES_MAX: usize = 64 << 20;

/// A response that was made.
#[derive(Clone)]
pub(super) struct Stored {
    /// The object as it is retrieved.
    pub object: Bytes,
    /// What a background response is besides; a synchronous one is nothing more.
    pub background: Option<Background>,
    /// `input` as it was sent.
    pub input: Box<RawValue>,
    /// Tokens that it adds to the input of a call that builds on it.
    pub context_tokens: u64,
}

/// A response that is made in the background.
#[derive(Clone)]
pub(super) struct Background {
    /// The object until then.
    pub running: Bytes,
    /// When it ends.
    pub ends_at: Timestamp,
    /// The object once it is cancelled.
    pub cancelled: Bytes,
    /// What it is streamed from again.
    pub answer: Answer,
}

/// The responses by id.
pub(super) struct Store {
    count_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_id: HashMap<String, Stored>,
    /// Ids in order of arrival; those of deleted responses stay until their turn.
    order: VecDeque<String>,
    bytes: usize,
}

impl Stored {
    fn bytes(&self) -> usize {
        let background = |background: &Background| background.running.len() + background.cancelled.len();
        self.object.len() + self.background.as_ref().map_or(0, background) + self.input.get().len()
    }
}

impl Stored {
    /// The object as it is shown at `now`.
    pub(super) fn shown(&self, now: Timestamp) -> Bytes {
        let running = self.background.as_ref().filter(|background| now < background.ends_at);
        running.map_or_else(|| self.object.clone(), |background| background.running.clone())
    }
}

impl Store {
    /// Keeps at most `count_max` responses; 0 keeps none.
    pub(super) fn new(count_max: usize) -> Self {
        Self { count_max, inner: Mutex::default() }
    }

    /// Whether anything is kept at all.
    pub(super) fn is_on(&self) -> bool {
        self.count_max > 0
    }

    /// Keeps a response, and lets the oldest go where there is no room; one that is too large by itself is not kept.
    pub(super) fn keep(&self, id: String, stored: Stored) {
        let bytes = stored.bytes();
        if self.count_max == 0 || bytes > BYTES_MAX {
            return;
        }
        let mut inner = self.lock();
        while inner.order.len() >= self.count_max || inner.bytes + bytes > BYTES_MAX {
            let Some(oldest) = inner.order.pop_front() else { break };
            inner.remove(&oldest);
        }
        inner.bytes += bytes;
        inner.order.push_back(id.clone());
        inner.by_id.insert(id, stored);
    }

    /// The response with this id.
    pub(super) fn find(&self, id: &str) -> Option<Stored> {
        self.lock().by_id.get(id).cloned()
    }

    /// Removes the response; whether there was one.
    pub(super) fn delete(&self, id: &str) -> bool {
        self.lock().remove(id)
    }

    /// Makes a background response that is in progress end as cancelled.
    pub(super) fn cancel(&self, id: &str, now: Timestamp) {
        let mut inner = self.lock();
        let Some(stored) = inner.by_id.get_mut(id) else { return };
        let before = stored.bytes();
        if let Some(background) = stored.background.as_mut().filter(|background| now < background.ends_at) {
            background.ends_at = now;
            stored.object = background.cancelled.clone();
        }
        let after = stored.bytes();
        inner.bytes = inner.bytes.saturating_sub(before).saturating_add(after);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn remove(&mut self, id: &str) -> bool {
        let Some(stored) = self.by_id.remove(id) else { return false };
        self.bytes = self.bytes.saturating_sub(stored.bytes());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(bytes: usize) -> Stored {
        Stored {
            object: Bytes::from(vec![b'x'; bytes]),
            background: None,
            input: RawValue::from_string("null".to_owned()).expect("JSON"),
            context_tokens: 0,
        }
    }

    #[test]
    fn the_oldest_go_when_the_count_or_the_bytes_are_used_up() {
        let store = Store::new(2);
        for id in ["a", "b", "c"] {
            store.keep(id.to_owned(), stored(10));
        }
        let left = ["a", "b", "c"].map(|id| store.find(id).is_some());
        assert_eq!(left, [false, true, true]);
        store.keep("d".to_owned(), stored(BYTES_MAX - 4));
        let left = ["b", "c", "d"].map(|id| store.find(id).is_some());
        assert_eq!(left, [false, false, true]);
        store.keep("e".to_owned(), stored(BYTES_MAX));
        assert!(store.find("e").is_none() && store.find("d").is_some());
    }

    #[test]
    fn deleted_responses_leave_room() {
        let store = Store::new(1000);
        for _ in 0..3 {
            store.keep("a".to_owned(), stored(BYTES_MAX - 4));
            assert!(store.delete("a"));
        }
        assert!(!store.delete("a"));
        assert_eq!(store.lock().bytes, 0);
    }

    #[test]
    fn a_store_without_room_keeps_nothing() {
        let store = Store::new(0);
        store.keep("a".to_owned(), stored(1));
        assert!(store.find("a").is_none() && !store.is_on());
    }
}
