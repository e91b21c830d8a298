//! A bounded map that forgets what was used longest ago.
//!
//! Two generations: entries live in the young one; when that has half of the room, it becomes the old one, and what
//! was old and has not been used since is forgotten. No list to keep in order, and every step is one or two look-ups.

use std::collections::HashMap;

/// See the module.
#[derive(Debug)]
pub(super) struct Recent<T> {
    young: HashMap<u64, Box<T>>,
    old: HashMap<u64, Box<T>>,
    half: usize,
}

impl<T: Default> Recent<T> {
    /// A map of at most `capacity` entries, at least two.
    pub(super) fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (capacity / 2).max(1) }
    }

    /// The entry of a key, new if there is none.
    pub(super) fn entry(&mut self, key: u64) -> &mut T {
        self.renew(key);
        self.young.entry(key).or_default()
    }

    /// The entry of a key.
    pub(super) fn find(&mut self, key: u64) -> Option<&T> {
        if self.old.contains_key(&key) {
            self.renew(key);
        }
        self.young.get(&key).map(|entry| &**entry)
    }

    fn renew(&mut self, key: u64) {
        if self.young.contains_key(&key) {
            return;
        }
        let entry = self.old.remove(&key);
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        if let Some(entry) = entry {
            self.young.insert(key, entry);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_no_more_than_its_room_and_keeps_what_is_used() {
        let mut recent = Recent::<u64>::new(8);
        *recent.entry(0) = 7;
        for key in 1..100 {
            *recent.entry(key) = key;
            assert_eq!(recent.find(0), Some(&7), "{key}");
            assert!(recent.len() <= 8, "{key}");
        }
        assert_eq!(recent.find(1), None);
        assert_eq!(recent.find(99), Some(&99));
    }
}
