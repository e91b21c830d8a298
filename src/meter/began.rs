//! Where in a node's journal the present epoch of its store begins.

use std::sync::{Arc, Mutex};

use super::lock;
use crate::journal::Position;

/// It, as far as it is known. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Began(Arc<Mutex<Option<(u64, Position)>>>);

impl Began {
    /// Notes that an epoch began at a position, and that what was before has been done again in it.
    pub fn set(&self, epoch: u64, at: Position) {
        *lock(&self.0) = Some((epoch, at));
    }

    /// Notes that it is over, before any node makes a record of the next.
    pub fn end(&self) {
        *lock(&self.0) = None;
    }

    /// The epoch; none while nodes are between two.
    pub fn epoch(&self) -> Option<u64> {
        lock(&self.0).map(|(epoch, _)| epoch)
    }

    /// Whether what stands at a position is of an epoch before, so that nobody waits for it any more.
    pub fn is_after(&self, position: Position) -> bool {
        lock(&self.0).is_some_and(|(_, at)| position < at)
    }
}
