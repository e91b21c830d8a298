//! Which segments there are, which holds are open in them, and which can go.
//!
//! A segment goes when all of it is applied and none of its holds is open. An end may lie in a later segment than its
//! hold, and that one may go first: so every newly opened segment lists the holds that are open (see
//! [`Opening`]), and the newest segment never goes. A hold that was ended is therefore never found open again.

use std::collections::{BTreeMap, HashMap};

use smallvec::SmallVec;

use super::format::{self, Opening};
use super::{Id, Tag};
use crate::units::planted::{Bug, planted};

/// Bounded by the room that a segment sets aside for its opening: see [`limits`].
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// By number. Their ranges of positions ascend and do not overlap; between them lies what has gone.
    segments: BTreeMap<u64, Segment>,
    /// The segments that hold each open id; more than one where a hold was appended again.
    open: HashMap<Id, SmallVec<[u64; 2]>>,
    /// All below this position is in the ledger.
    applied: u64,
}

/// The durable part of one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) salt: u32,
    /// The position of its first frame.
    pub(super) first: u64,
    /// The position after its last frame.
    pub(super) end: u64,
    /// Where that frame ends in the file.
    pub(super) end_bytes: u64,
    /// What the file takes up.
    pub(super) file_bytes: u64,
    /// Open holds that stand in it.
    pub(super) open: usize,
}

/// How many segments and open holds there may be, so that an opening fits the bytes set aside for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) segments: usize,
    pub(super) holds: usize,
    /// The largest frame that always fits behind an opening.
    pub(super) frame_bytes: usize,
}

/// An eighth of a segment is set aside for header and opening, and shared by segments and holds.
pub(super) fn limits(segment_bytes: u64) -> Limits {
    let segment_bytes = usize::try_from(segment_bytes).unwrap_or(usize::MAX);
    let aside = segment_bytes / 8;
    let entries = aside.saturating_sub(format::HEADER_BYTES + 2 * format::BATCH_BYTES) / 16;
    Limits { segments: entries / 4, holds: entries - entries / 4, frame_bytes: segment_bytes - aside }
}

impl Catalog {
    /// Takes in a segment, or where the newest one ends by now.
    pub(super) fn place(&mut self, segment: Segment) {
        let known = self.segments.entry(segment.number).or_insert(segment);
        known.end = segment.end;
        known.end_bytes = segment.end_bytes;
        known.file_bytes = segment.file_bytes;
    }

    /// Notes what a frame in segment `number` does to holds.
    pub(super) fn note(&mut self, number: u64, tag: Tag, id: &Id) {
        match tag {
            Tag::Hold => {
                let numbers = self.open.entry(*id).or_default();
                if !numbers.contains(&number) {
                    numbers.push(number);
                    if let Some(segment) = self.segments.get_mut(&number) {
                        segment.open += 1;
                    }
                }
            }
            Tag::End => {
                for number in self.open.remove(id).into_iter().flatten() {
                    if let Some(segment) = self.segments.get_mut(&number) {
                        segment.open = segment.open.saturating_sub(1);
                    }
                }
            }
            Tag::Other => {}
        }
    }

    /// Moves the applied position on, never back. True where a segment can go now.
    pub(super) fn apply(&mut self, up_to: u64) -> bool {
        self.applied = self.applied.max(up_to);
        self.releasable().is_some()
    }

    /// Forgets the oldest segment that can go. The newest stays: it knows what the others no longer tell.
    pub(super) fn release(&mut self) -> Option<Segment> {
        self.segments.remove(&self.releasable()?)
    }

    fn releasable(&self) -> Option<u64> {
        let (newest, _) = self.segments.last_key_value()?;
        let gone = |segment: &&Segment| {
            (segment.open == 0 || planted(Bug::OpenHoldTrimmed))
                && segment.end <= self.applied
                && segment.number < *newest
        };
        self.segments.values().find(gone).map(|segment| segment.number)
    }

    /// What a segment that is opened now has to say.
    pub(super) fn opening(&self) -> Opening {
        Opening {
            segments: self.segments.values().map(|segment| (segment.number, segment.end)).collect(),
            open: self.open.keys().copied().collect(),
        }
    }

    /// The segment in which reading goes on at `position`: the first with frames that ends behind it. One without any,
    /// whose first write was torn, has no end that a reader could come to.
    pub(super) fn segment_at(&self, position: u64) -> Option<Segment> {
        self.segments.values().find(|segment| segment.end > position.max(segment.first)).copied()
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.segments.contains_key(&number)
    }

    pub(super) fn open_ids(&self) -> impl Iterator<Item = &Id> {
        self.open.keys()
    }

    pub(super) fn holds_open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.file_bytes).sum()
    }
}
