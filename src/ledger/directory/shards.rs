//! Many short sorted lists, each behind its own lock: a set for millions of small entries without spare room.
//!
//! A hash table doubles, and stands half empty for most of its life; a tree's nodes do too. A list of a few hundred
//! entries that grows by an eighth wastes little, a search takes eight steps, and an insertion moves a few kilobytes.

use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// So that a million entries are lists of 244.
const SHARDS: u16 = 4096;
const GROWTH_DIVISOR: usize = 8;
const LEAST_GROWTH: usize = 2;

/// Something with a unique identity of at least eight bytes, whose last two are evenly spread.
pub(super) trait Entry {
    /// The identity.
    fn identity(&self) -> &[u8];
}

/// The set.
#[derive(Debug)]
pub(super) struct Shards<T>(Box<[RwLock<Vec<T>>]>);

impl<T> Default for Shards<T> {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| RwLock::default()).collect())
    }
}

impl<T: Entry> Shards<T> {
    /// What `look` makes of the entry that it recognizes among those whose identity begins as `identity` does.
    pub(super) fn find<R>(&self, identity: &[u8], look: impl Fn(&T) -> Option<R>) -> Option<R> {
        let entries = read(self.shard(identity));
        alike(&entries, identity).find_map(|place| look(&entries[place]))
    }

    /// Adds an entry, or lets `merge` change the one of the same identity. Says whether it was added.
    pub(super) fn put(&self, entry: T, merge: impl FnOnce(&mut T, T)) -> bool {
        let mut entries = write(self.shard(entry.identity()));
        let mut alike = alike(&entries, entry.identity());
        let from = alike.start;
        if let Some(place) = alike.find(|place| entries[*place].identity() == entry.identity()) {
            merge(&mut entries[place], entry);
            return false;
        }
        if entries.len() == entries.capacity() {
            let growth = (entries.len() / GROWTH_DIVISOR).max(LEAST_GROWTH);
            entries.reserve_exact(growth);
        }
        entries.insert(from, entry);
        true
    }

    /// Changes the entry of this identity, if there is one.
    pub(super) fn change(&self, identity: &[u8], change: impl FnOnce(&mut T)) {
        let mut entries = write(self.shard(identity));
        if let Some(place) = alike(&entries, identity).find(|place| entries[*place].identity() == identity) {
            change(&mut entries[place]);
        }
    }

    /// Takes out the first entry that `wanted` holds for. Looks through all of them, one list at a time.
    pub(super) fn remove_where(&self, wanted: impl Fn(&T) -> bool) -> bool {
        self.0.iter().any(|shard| {
            // Most lists do not have it, and need not keep readers waiting.
            let is_here = read(shard).iter().any(&wanted);
            is_here && {
                let mut entries = write(shard);
                let place = entries.iter().position(&wanted);
                place.map(|place| entries.remove(place)).is_some()
            }
        })
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|shard| read(shard).len()).sum()
    }

    fn shard(&self, identity: &[u8]) -> &RwLock<Vec<T>> {
        let spread = identity.last_chunk().map_or(0, |last| u16::from_le_bytes(*last));
        &self.0[usize::from(spread % SHARDS)]
    }
}

/// Where the entries stand whose identity begins with the same eight bytes; empty, at their place, if there are none.
fn alike<T: Entry>(entries: &[T], identity: &[u8]) -> Range<usize> {
    let wanted = prefix(identity);
    let from = entries.partition_point(|entry| prefix(entry.identity()) < wanted);
    let count = entries[from..].iter().take_while(|entry| prefix(entry.identity()) == wanted).count();
    from..from + count
}

fn prefix(identity: &[u8]) -> u64 {
    identity.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// An entry is changed in one step, so a list is whole even if a thread died holding its lock.
fn read<T>(shard: &RwLock<Vec<T>>) -> RwLockReadGuard<'_, Vec<T>> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(shard: &RwLock<Vec<T>>) -> RwLockWriteGuard<'_, Vec<T>> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}
