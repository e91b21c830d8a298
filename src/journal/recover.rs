//! Finding out, at start, what a journal holds.
//!
//! A write that was under way when the process or the machine stopped may have left any part of itself: that is a torn
//! tail, was never acknowledged, and is cut off. Damage to what was acknowledged is another thing, and nothing that
//! this code may decide on: it refuses, and says where. A batch tells what was durable when it was written, so the two
//! cannot be taken for each other.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;

use super::catalog::{Catalog, Segment};
use super::format::{BATCH_BYTES, BadHeader, Batch, HEADER_BYTES, Header, Part};
use super::scan::{Scan, strays};
use super::segment::{self, DRAFT};
use super::storage::{Storage, StoredFile};
use super::{Frame, Id, OpenError, Position};
use crate::units::planted::{Bug, planted};

/// What was found.
pub(super) struct Recovered {
    pub(super) catalog: Catalog,
    /// The position after the last frame.
    pub(super) next: u64,
    /// No segment has this number or a higher one.
    pub(super) next_number: u64,
    /// A segment without frames, to make the next one of.
    pub(super) used: Option<Header>,
    pub(super) frames: u64,
    pub(super) torn_bytes: u64,
}

/// Who is given each frame.
pub(super) type Each<'a> =
    &'a mut dyn FnMut(Position, Frame<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

struct Found {
    header: Header,
    file: Arc<dyn StoredFile>,
    bytes: u64,
    /// Its first batch, if that was written whole.
    opening: Option<Batch>,
}

/// Gives every frame to `each`, in order, and makes sure that all of them are durable.
pub(super) fn recover(storage: &dyn Storage, each: Each<'_>) -> Result<Recovered, OpenError> {
    let mut found = inventory(storage)?;
    let next_number = found.last().map_or(1, |last| last.header.number + 1);
    let opened = found.iter().rposition(|segment| segment.opening.is_some());
    let unopened = found.split_off(opened.map_or(0, |newest| newest + 1));
    let mut replay = Replay { catalog: Catalog::default(), position: 0, frames: 0, torn_bytes: 0, each };
    if let Some(newest) = found.pop() {
        replay.older(storage, &found, &newest)?;
        replay.newest(&newest)?;
    }
    let mut used = None;
    for segment in unopened {
        // Its first batch was torn, unless a later one knows of its end.
        let mut known = 0;
        let salt = segment.header.salt;
        strays(&*segment.file, salt, HEADER_BYTES as u64, |stray| known = known.max(stray.batch.synced))
            .map_err(reading)?;
        if known > replay.position {
            return Err(segment.damaged(HEADER_BYTES as u64));
        }
        match used {
            None => used = Some(segment.header),
            Some(_) => discard(storage, &segment::name(segment.header.number)),
        }
    }
    let Replay { catalog, position: next, frames, torn_bytes, .. } = replay;
    Ok(Recovered { catalog, next, next_number, used, frames, torn_bytes })
}

/// The segments in order, each with a good header.
fn inventory(storage: &dyn Storage) -> Result<Vec<Found>, OpenError> {
    let mut numbers = Vec::new();
    for name in storage.list().map_err(reading)? {
        if name == DRAFT {
            discard(storage, DRAFT);
        }
        numbers.extend(segment::number(&name));
    }
    numbers.sort_unstable();
    numbers.into_iter().map(|number| Found::look(storage, number)).collect()
}

impl Found {
    fn look(storage: &dyn Storage, number: u64) -> Result<Self, OpenError> {
        let name = segment::name(number);
        let file = storage.open(&name).map_err(reading)?;
        let header = match segment::header(&*file).map_err(reading)? {
            Ok(header) if header.number == number => header,
            Ok(_) | Err(BadHeader::Damaged) => return Err(OpenError::Damaged { file: name, offset: 0 }),
            Err(BadHeader::Version(version)) => return Err(OpenError::Version { file: name, version }),
        };
        let bytes = file.bytes().map_err(reading)?;
        let opening = match Scan::new(Arc::clone(&file), header.salt, HEADER_BYTES as u64, bytes).next() {
            Ok(Some(Part::Batch(batch))) => batch.opening.is_some().then_some(batch),
            Ok(_) => None,
            Err(error) => return Err(reading(error)),
        };
        Ok(Self { header, file, bytes, opening })
    }

    fn damaged(&self, offset: u64) -> OpenError {
        OpenError::Damaged { file: segment::name(self.header.number), offset }
    }

    fn scan(&self) -> Scan {
        Scan::new(Arc::clone(&self.file), self.header.salt, HEADER_BYTES as u64, self.bytes)
    }

    fn segment(&self, first: u64, end: u64, end_bytes: u64) -> Segment {
        let Header { number, salt } = self.header;
        Segment { number, salt, first, end, end_bytes, file_bytes: self.bytes, open: 0 }
    }
}

struct Replay<'a> {
    catalog: Catalog,
    /// Of the next frame.
    position: u64,
    frames: u64,
    torn_bytes: u64,
    each: Each<'a>,
}

impl Replay<'_> {
    /// Reads the segments before the newest, which says where they end. One that it does not list failed before
    /// anything in it was durable, or had been let go.
    fn older(&mut self, storage: &dyn Storage, older: &[Found], newest: &Found) -> Result<(), OpenError> {
        let Some(opening) = newest.opening.as_ref().and_then(|batch| batch.opening.as_ref()) else {
            return Ok(());
        };
        let open: HashSet<Id> = opening.open.iter().copied().collect();
        for found in older {
            match opening.segments.iter().find(|(number, _)| *number == found.header.number) {
                Some((_, end)) => self.closed(found, *end, &open)?,
                None => discard(storage, &segment::name(found.header.number)),
            }
        }
        Ok(())
    }

    fn closed(&mut self, found: &Found, end: u64, open: &HashSet<Id>) -> Result<(), OpenError> {
        let Some(batch) = &found.opening else { return Err(found.damaged(HEADER_BYTES as u64)) };
        let number = found.header.number;
        self.position = batch.position;
        self.catalog.place(found.segment(batch.position, batch.position, HEADER_BYTES as u64));
        let mut scan = found.scan();
        while self.position < end {
            let offset = scan.offset();
            match scan.next().map_err(reading)? {
                Some(Part::Batch(batch)) if batch.position == self.position => {}
                Some(Part::Frame(frame)) => {
                    // The newest segment knows which holds are open, even where their ends are gone.
                    if open.contains(&frame.id) {
                        self.catalog.note(number, frame.tag, &frame.id);
                    }
                    self.give(frame)?;
                }
                _ => return Err(found.damaged(offset)),
            }
        }
        self.catalog.place(found.segment(batch.position, end, scan.offset()));
        Ok(())
    }

    fn newest(&mut self, found: &Found) -> Result<(), OpenError> {
        let Some(first) = found.opening.as_ref().map(|batch| batch.position) else { return Ok(()) };
        let number = found.header.number;
        self.position = first;
        self.catalog.place(found.segment(first, first, HEADER_BYTES as u64));
        let mut scan = found.scan();
        // The batches that may not be durable: position and offset of each.
        let mut unsure = VecDeque::new();
        let mut torn_end = 0;
        loop {
            let offset = scan.offset();
            match scan.next().map_err(reading)? {
                Some(Part::Batch(batch)) if batch.position > first && planted(Bug::RecoveryStopsShort) => {
                    break;
                }
                Some(Part::Batch(batch)) if batch.position == self.position => {
                    while unsure.pop_front_if(|(position, _)| *position < batch.synced).is_some() {}
                    unsure.push_back((batch.position, offset));
                    torn_end = scan.offset() + u64::from(batch.bytes);
                }
                Some(Part::Frame(frame)) => {
                    self.catalog.note(number, frame.tag, &frame.id);
                    self.give(frame)?;
                }
                _ => break,
            }
        }
        let end = scan.offset();
        let mut known = 0;
        strays(&*found.file, found.header.salt, end, |stray| {
            known = known.max(stray.batch.synced);
            torn_end = torn_end.max(stray.offset + BATCH_BYTES as u64 + u64::from(stray.batch.bytes));
        })
        .map_err(reading)?;
        if known > self.position {
            return Err(found.damaged(end));
        }
        self.torn_bytes = torn_end.saturating_sub(end);
        let unsure_offset = unsure.front().map_or(end, |(_, offset)| *offset);
        make_sure(&*found.file, unsure_offset, end)
            .map_err(|source| OpenError::Io { doing: "make the end of the journal durable", source })?;
        self.catalog.place(Segment { file_bytes: end, ..found.segment(first, self.position, end) });
        Ok(())
    }

    fn give(&mut self, frame: Frame<'_>) -> Result<(), OpenError> {
        let position = Position(self.position);
        (self.each)(position, frame).map_err(|source| OpenError::Rejected { position, source })?;
        self.position += 1;
        self.frames += 1;
        Ok(())
    }
}

/// Writes the bytes from `from` to `end` again and cuts off what follows. They may stand in memory only, and count as
/// written there if a sync failed before the process ended; a page that is written again will be synced again.
fn make_sure(file: &dyn StoredFile, from: u64, end: u64) -> io::Result<()> {
    let mut chunk = vec![0; 1024 * 1024];
    let mut offset = from;
    while offset < end {
        let bytes = usize::try_from(end - offset).unwrap_or(usize::MAX).min(chunk.len());
        let read = file.read_at(&mut chunk[..bytes], offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(&chunk[..read], offset)?;
        offset += read as u64;
    }
    file.cut(end)?;
    file.sync()
}

/// Removes a file that nobody needs. If that fails, the next start tries again.
fn discard(storage: &dyn Storage, name: &str) {
    if let Err(error) = storage.remove(name) {
        tracing::warn!(file = name, error = &error as &dyn std::error::Error, "journal file was not removed");
    }
}

fn reading(source: io::Error) -> OpenError {
    OpenError::Io { doing: "read the journal", source }
}
