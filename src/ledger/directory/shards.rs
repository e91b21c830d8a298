//! Many short sorted lists, each behind its own lock: a set for millions of small entries without spare room.
//!
//! A hash table doubles, and stands half empty for most of its life; a tree's nodes do too. A list of a few hundred
//! entries that grows by an eighth wastes little, and an insertion moves a few kilobytes. What entries are ordered by
//! is evenly spread, so where one stands can be told almost exactly: a search begins there and takes a few steps.

use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// So that a million entries are lists of 244.
const SHARDS: u16 = 4096;
const GROWTH_DIVISOR: usize = 8;
const LEAST_GROWTH: usize = 2;

/// Something with a unique identity.
pub(super) trait Entry {
    /// A part of its identity, evenly spread over all numbers. Others may have the same.
    fn spread(&self) -> u64;

    /// Whether the other has the same identity.
    fn is_same(&self, other: &Self) -> bool;
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
    /// What `look` makes of the entry that it recognizes among those of this spread.
    pub(super) fn find<R>(&self, spread: u64, look: impl Fn(&T) -> Option<R>) -> Option<R> {
        let entries = read(self.shard(spread));
        alike(&entries, spread).find_map(|place| look(&entries[place]))
    }

    /// Adds an entry, or lets `merge` change the one of the same identity. Says whether it was added.
    pub(super) fn put(&self, entry: T, merge: impl FnOnce(&mut T, T)) -> bool {
        let mut entries = write(self.shard(entry.spread()));
        let mut alike = alike(&entries, entry.spread());
        let from = alike.start;
        if let Some(place) = alike.find(|place| entries[*place].is_same(&entry)) {
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

    /// Changes the entry of this spread that `change` recognizes, by saying so.
    pub(super) fn change(&self, spread: u64, change: impl Fn(&mut T) -> bool) {
        let mut entries = write(self.shard(spread));
        let mut alike = alike(&entries, spread);
        alike.any(|place| change(&mut entries[place]));
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

    /// Looks at every entry, one list at a time.
    pub(super) fn each(&self, mut look: impl FnMut(&T)) {
        self.0.iter().for_each(|shard| read(shard).iter().for_each(&mut look));
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|shard| read(shard).len()).sum()
    }

    /// By bits from the middle; the high ones order the list, and the lowest of an id are always the same.
    fn shard(&self, spread: u64) -> &RwLock<Vec<T>> {
        let place = usize::try_from((spread >> 8) % u64::from(SHARDS)).unwrap_or_default();
        &self.0[place]
    }
}

/// Where the entries of a spread stand; empty, at their place, if there are none.
fn alike<T: Entry>(entries: &[T], spread: u64) -> Range<usize> {
    let share = u128::try_from(entries.len()).unwrap_or_default() * u128::from(spread);
    let mut from = usize::try_from(share >> u64::BITS).unwrap_or_default();
    while from > 0 && entries[from - 1].spread() >= spread {
        from -= 1;
    }
    from += entries[from..].iter().take_while(|entry| entry.spread() < spread).count();
    let count = entries[from..].iter().take_while(|entry| entry.spread() == spread).count();
    from..from + count
}

/// An entry is changed in one step, so a list is whole even if a thread died holding its lock.
fn read<T>(shard: &RwLock<Vec<T>>) -> RwLockReadGuard<'_, Vec<T>> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(shard: &RwLock<Vec<T>>) -> RwLockWriteGuard<'_, Vec<T>> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}
