//! Reading several sorted queries side by side.

/// A sorted query with its next row at hand.
pub(super) struct Peeked<K, V, I> {
    rows: I,
    next: Option<(K, V)>,
}

impl<K: Eq, V, I: Iterator<Item = rusqlite::Result<(K, V)>>> Peeked<K, V, I> {
    /// At its first row.
    pub(super) fn new(mut rows: I) -> rusqlite::Result<Self> {
        let next = rows.next().transpose()?;
        Ok(Self { rows, next })
    }

    /// The key of the row at hand.
    pub(super) fn key(&self) -> Option<&K> {
        self.next.as_ref().map(|(key, _)| key)
    }

    /// Takes the row at hand if it has this key, and goes on to the next.
    pub(super) fn take(&mut self, key: &K) -> rusqlite::Result<Option<V>> {
        match self.next.take_if(|(next, _)| next == key) {
            None => Ok(None),
            Some((_, value)) => {
                self.next = self.rows.next().transpose()?;
                Ok(Some(value))
            }
        }
    }
}
