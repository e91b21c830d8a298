//! What of the present epoch a node knows, and whether it may decide by it.
//!
//! Every verb is of the epoch in which it was asked for, and tells the store its word: where that is not the store's, the
//! store does nothing. So nobody decides by counts of which a part is missing, however late he is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::StoreError;
use crate::meter::lock;

/// What an epoch is called in the store.
pub(super) type Word = Arc<str>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// No verb is carried out.
    Closed,
    /// Only what was in flight is held again.
    Holding(Word),
    /// All verbs are.
    Open(Word),
}

/// The epoch of a node.
pub(super) struct Epochs {
    state: Mutex<State>,
    lost: AtomicBool,
}

/// What the store calls an epoch in which holds are taken up again.
pub(super) fn holding_word(number: u64) -> Word {
    format!("{number}?").into()
}

/// What the store calls an epoch that is open.
pub(super) fn open_word(number: u64) -> Word {
    number.to_string().into()
}

impl Epochs {
    pub(super) const fn closed() -> Self {
        Self { state: Mutex::new(State::Closed), lost: AtomicBool::new(false) }
    }

    pub(super) fn close(&self) {
        *lock(&self.state) = State::Closed;
    }

    pub(super) fn hold(&self, word: Word) {
        *lock(&self.state) = State::Holding(word);
    }

    pub(super) fn open(&self, number: u64) {
        let mut state = lock(&self.state);
        self.lost.store(false, Ordering::Relaxed);
        *state = State::Open(open_word(number));
    }

    /// The word of verbs that anybody may ask for.
    pub(super) fn word(&self) -> Result<Word, StoreError> {
        match &*lock(&self.state) {
            State::Open(word) => Ok(Arc::clone(word)),
            State::Closed | State::Holding(_) => Err(StoreError::Between),
        }
    }

    /// The word of verbs that bring back what was there.
    pub(super) fn word_to_hold(&self) -> Result<Word, StoreError> {
        match &*lock(&self.state) {
            State::Open(word) | State::Holding(word) => Ok(Arc::clone(word)),
            State::Closed => Err(StoreError::Between),
        }
    }

    /// Notes that the store does not know an epoch.
    pub(super) fn lost(&self, word: &Word) {
        if *lock(&self.state) == State::Open(Arc::clone(word)) {
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the store did not know the epoch that is open.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I4: nothing is decided while holds are taken up again, and a loss of a former epoch is none of this one.
    #[test]
    fn verbs_are_of_an_open_epoch() {
        let epochs = Epochs::closed();
        assert!(epochs.word().is_err() && epochs.word_to_hold().is_err());
        epochs.hold(holding_word(3));
        assert!(epochs.word().is_err());
        assert_eq!(&*epochs.word_to_hold().unwrap(), "3?");
        epochs.open(3);
        assert_eq!((&*epochs.word().unwrap(), &*epochs.word_to_hold().unwrap()), ("3", "3"));
        epochs.lost(&open_word(2));
        epochs.lost(&holding_word(3));
        assert!(!epochs.is_lost());
        epochs.lost(&open_word(3));
        assert!(epochs.is_lost());
        epochs.close();
        assert!(epochs.word().is_err() && epochs.is_lost());
        epochs.open(4);
        assert!(!epochs.is_lost());
    }
}
