//! Places in queues of records.

use std::fmt;
use std::str::FromStr;

use crate::access::record::Record;

/// How many queues there are.
pub const QUEUES: u16 = 256;

/// Behind an entry of a queue. Ordered as the entries are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// When it was put there, by the store's clock, in ms.
    pub ms: u64,
    /// Which of those of that millisecond it was.
    pub nth: u64,
}

/// A record in a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Queued {
    /// Where it stands.
    pub place: Place,
    /// What it says.
    pub record: Record,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.nth)
    }
}

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (ms, nth) = text.split_once('-').ok_or(NoPlace)?;
        Ok(Self { ms: ms.parse().map_err(|_| NoPlace)?, nth: nth.parse().map_err(|_| NoPlace)? })
    }
}

/// Text that is no place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no place in a queue")]
pub struct NoPlace;
