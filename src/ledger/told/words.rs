//! Words that many rows share, kept once: features, plans, models, layers.

use std::collections::HashSet;

use crate::policy::compiled::Name;

/// Words that are kept at most; then all are forgotten, which costs only that they are made again.
const KEPT_MAX: usize = 4_096;

/// The words of the rows so far.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Words(HashSet<Name>);

impl Words {
    /// The word, shared with all that say the same.
    pub(in crate::ledger) fn shared(&mut self, word: &str) -> Name {
        if let Some(known) = self.0.get(word) {
            return Name::clone(known);
        }
        if self.0.len() == KEPT_MAX {
            self.0.clear();
        }
        let name = Name::from(word);
        self.0.insert(Name::clone(&name));
        name
    }
}
