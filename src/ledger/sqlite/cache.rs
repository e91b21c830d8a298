//! What the writer remembers between transactions: the newest of accounts, and the purses of owners.
//!
//! Only the writer changes those rows, so what it remembers is what is stored. It is empty at the start and after any
//! error: the file is what counts. Bounded by generations: when the young one is full it becomes the old one, whose
//! entries come back when they are asked for, and the old one is forgotten.

use std::collections::HashMap;
use std::hash::Hash;

pub(super) use crate::ledger::booking::{Head, Owner};
use crate::ledger::posting::Purse;
use crate::units::AccountId;

/// Entries of a generation: about 10 MiB of purses in both together.
const GENERATION: usize = 12_288;

/// A purse, and whether the transaction at hand has it on its list.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// What the owner has.
    pub purse: Purse,
    /// Whether it is to be looked at before the commit.
    pub touched: bool,
}

/// All that is remembered.
#[derive(Default)]
pub(super) struct Cache {
    /// Accounts.
    pub heads: Generations<AccountId, Head>,
    /// Purses.
    pub purses: Generations<Owner, Kept>,
}

impl Cache {
    /// Forgets what has not been used for long. Only between transactions: nothing that is changed may be forgotten.
    pub(super) fn age(&mut self) {
        self.heads.age();
        self.purses.age();
    }
}

/// A bounded map.
pub(super) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Eq + Hash + Copy, V> Generations<K, V> {
    /// Whether the key is there; if so it is young again.
    pub(super) fn recall(&mut self, key: &K) -> bool {
        if self.young.contains_key(key) {
            return true;
        }
        match self.old.remove(key) {
            Some(value) => {
                self.young.insert(*key, value);
                true
            }
            None => false,
        }
    }

    /// What is young under a key.
    pub(super) fn young(&mut self, key: &K) -> Option<&mut V> {
        self.young.get_mut(key)
    }

    /// Puts a value there.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.young.insert(key, value);
    }

    fn age(&mut self) {
        if self.young.len() > GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_is_forgotten() {
        let mut map = Generations::<usize, usize>::default();
        for key in 0..=GENERATION {
            map.insert(key, key);
        }
        map.age();
        assert!(map.recall(&7));
        for key in GENERATION + 1..2 * GENERATION + 2 {
            map.insert(key, key);
        }
        map.age();
        assert!(map.recall(&7));
        assert!(!map.recall(&8));
        assert_eq!(map.young(&7), Some(&mut 7));
    }
}
