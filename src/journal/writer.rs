//! The one thread that writes.
//!
//! It takes all that is queued, writes it behind one batch head, syncs once, and wakes all who wait: the slower the
//! disk, the larger the groups. It keeps every frame in memory until a sync has succeeded.
//!
//! # After a failed write or sync
//!
//! A kernel may drop the pages of a failed sync and call them clean, so that the next sync succeeds and the bytes are
//! lost (known from `PostgreSQL` as the fsync gate). So the segment is left for good, and all that is not known to be
//! durable is written again, into a fresh one. That one's first batch says at which position it begins, which makes
//! whatever the old one holds from there on void. Writing is tried again for as long as the journal is open.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::catalog::{Limits, Segment};
use super::format::{self, BATCH_BYTES, Batch, HEADER_BYTES, Header};
use super::queue::{Done, Nap, Stir};
use super::segment::{self, Origin, Spare};
use super::storage::{Lock, Storage, StoredFile};
use super::ticket::Course;
use super::{Durability, Options, Refusal, Shared, Tag, locked};
use crate::units::planted::{Bug, planted};

/// What one write takes, unless one frame is larger.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How much may wait for a sync when durability is relaxed.
const UNSYNCED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Memory that is kept for the next batch.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// The pauses between tries double from the first to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LAST: Duration = Duration::from_secs(5);
/// How many tries a closed journal makes before it gives up.
const LAST_TRIES: u32 = 3;

pub(super) struct Writer {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    options: Options,
    limits: Limits,
    next_number: u64,
    /// A file that can become the spare.
    used: Option<Header>,
    spare: Option<Spare>,
    active: Option<Active>,
    /// Frames that are not durable; the first has the durable position.
    pending: Vec<u8>,
    /// How many of them, and of their bytes, stand in the active segment.
    written: (u64, usize),
    /// What the next write is made of.
    scratch: Vec<u8>,
    /// When unsynced bytes were first written.
    unsynced_since: Option<Instant>,
    done: Done,
    /// Tries that failed since writing last worked.
    failures: u32,
    /// Tries that failed since there last was a spare.
    spare_failures: u32,
    /// What paces its syncs.
    time: Monotonic,
    /// Kept for as long as this thread may write.
    _lock: Option<Lock>,
}

/// The segment being written.
struct Active {
    header: Header,
    file: Arc<dyn StoredFile>,
    /// The position of its first frame.
    first: u64,
    /// Where the next write goes.
    offset: u64,
    bytes: u64,
}

/// What a writer begins with.
pub(super) struct Start {
    pub(super) options: Options,
    pub(super) limits: Limits,
    pub(super) next_number: u64,
    pub(super) used: Option<Header>,
    pub(super) lock: Option<Lock>,
    pub(super) time: Monotonic,
}

/// A time that never runs backwards.
pub(super) type Monotonic = Box<dyn Fn() -> Instant + Send>;

impl Writer {
    /// A writer with a spare segment, if one can be made.
    pub(super) fn new(shared: Arc<Shared>, storage: Arc<dyn Storage>, start: Start) -> Self {
        let Start { options, limits, next_number, used, lock, time } = start;
        let mut writer = Self {
            shared,
            storage,
            options,
            limits,
            next_number,
            used,
            spare: None,
            active: None,
            pending: Vec::new(),
            written: (0, 0),
            scratch: Vec::new(),
            unsynced_since: None,
            done: Done::default(),
            failures: 0,
            spare_failures: 0,
            time,
            _lock: lock,
        };
        writer.provide_spare();
        let nap = Nap { heeds_frames: true, longest: Some(Duration::ZERO) };
        let _nothing = writer.take(nap);
        writer
    }

    /// Writes until the journal is closed and all is durable, or cannot become so.
    pub(super) fn run(mut self) {
        // Also when this thread panics: nobody may wait for ever.
        let _stop = Stop(Arc::clone(&self.shared));
        while self.step(self.nap()) {}
        if let Some(active) = &self.active {
            // What was never written need not be searched for frames at the next start.
            let _tidy = active.file.cut(active.offset);
        }
    }

    /// Sleeps as told, takes what is queued, and makes it durable, or tries to. False where nothing more comes of it.
    fn step(&mut self, nap: Nap) -> bool {
        let stir = self.take(nap);
        if self.failures > 0 {
            // What failed may have failed for want of room.
            self.release();
        }
        match self.write_all(stir) {
            Ok(()) => self.recovered(),
            Err(error) => self.failed(&error),
        }
        if self.failures == 0 {
            self.provide_spare();
        }
        !(stir.closed && (self.pending.is_empty() || self.failures >= LAST_TRIES))
    }

    /// One step without any sleep, for whoever runs the writer by hand.
    #[cfg(test)]
    pub(super) fn step_now(&mut self) {
        let nap = Nap { longest: Some(Duration::ZERO), ..self.nap() };
        let _more = self.step(nap);
    }

    fn take(&mut self, nap: Nap) -> Stir {
        self.done.holds_open = locked(&self.shared.catalog).holds_open();
        let done = std::mem::take(&mut self.done);
        self.done.refusal = done.refusal;
        self.shared.queue.take(&mut self.pending, done, nap)
    }

    fn nap(&self) -> Nap {
        if self.failures > 0 {
            // The first time at once: a fresh segment may well work.
            return Nap { heeds_frames: false, longest: Some(pause(self.failures - 1)) };
        }
        let mut longest = (self.spare_failures > 0).then(|| pause(self.spare_failures));
        if let (Some(since), Durability::Relaxed { sync_every }) =
            (self.unsynced_since, self.options.durability)
        {
            let left = Duration::from_millis(sync_every.ms()).saturating_sub(self.waited(since));
            longest = Some(longest.map_or(left, |longest| longest.min(left)));
        }
        Nap { heeds_frames: true, longest }
    }

    fn write_all(&mut self, stir: Stir) -> io::Result<()> {
        let relaxed = match self.options.durability {
            Durability::Strict => None,
            Durability::Relaxed { sync_every } => Some(Duration::from_millis(sync_every.ms())),
        };
        while self.written.1 < self.pending.len() {
            self.write()?;
            if relaxed.is_none() || self.written.1 >= UNSYNCED_BYTES_MAX {
                self.sync()?;
            }
        }
        let due = self.unsynced_since.zip(relaxed).is_some_and(|(since, every)| self.waited(since) >= every)
            && !planted(Bug::RelaxedWindowIgnored);
        if self.written.1 > 0 && (due || stir.flush || stir.closed) {
            self.sync()?;
        }
        Ok(())
    }

    fn waited(&self, since: Instant) -> Duration {
        (self.time)().saturating_duration_since(since)
    }

    /// Writes as many frames as fit, in one go.
    fn write(&mut self) -> io::Result<()> {
        let first_bytes = format::claimed_bytes(&self.pending[self.written.1..]).unwrap_or_default();
        if self.active.as_ref().is_none_or(|active| active.room() < BATCH_BYTES + first_bytes) {
            if self.written.1 > 0 {
                self.sync()?;
            }
            self.active = None;
            self.active = Some(self.open_segment()?);
        }
        let Some(active) = &mut self.active else { return Ok(()) };
        let durable = self.shared.progress.durable();
        let position = durable + self.written.0;
        let opening = (active.offset == HEADER_BYTES as u64).then(|| locked(&self.shared.catalog).opening());
        let mut batch = Batch { position, synced: durable, bytes: 0, opening };
        let room = active.room().saturating_sub(batch.frame_bytes());
        let run = &self.pending[self.written.1..];
        let (count, bytes) = format::fitting(run, room.min(BATCH_BYTES_MAX.max(first_bytes)));
        if count == 0 {
            return Err(io::Error::other("a frame does not fit an empty segment"));
        }
        batch.bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.scratch.clear();
        batch.encode(&mut self.scratch);
        self.scratch.extend_from_slice(&run[..bytes]);
        format::seal(&mut self.scratch, active.header.salt);
        active.file.write_at(&self.scratch, active.offset)?;
        active.offset += self.scratch.len() as u64;
        self.written = (self.written.0 + count, self.written.1 + bytes);
        if self.unsynced_since.is_none() {
            self.unsynced_since = Some((self.time)());
        }
        Ok(())
    }

    /// Makes what was written durable, and tells everybody.
    fn sync(&mut self) -> io::Result<()> {
        let Some(active) = &self.active else { return Ok(()) };
        let relaxed = matches!(self.options.durability, Durability::Relaxed { .. });
        if !(planted(Bug::PromisedUnsynced) || relaxed && planted(Bug::RelaxedUnsynced)) {
            let synced = active.file.sync();
            if !planted(Bug::FailedSyncTrusted) {
                synced?;
            }
        }
        let (count, bytes) = std::mem::take(&mut self.written);
        let durable = self.shared.progress.durable() + count;
        {
            let mut catalog = locked(&self.shared.catalog);
            catalog.place(Segment {
                number: active.header.number,
                salt: active.header.salt,
                first: active.first,
                end: durable,
                end_bytes: active.offset,
                file_bytes: active.bytes,
                open: 0,
            });
            for frame in format::frames(&self.pending[..bytes]) {
                catalog.note(active.header.number, frame.tag, &frame.id);
                self.done.holds += usize::from(frame.tag == Tag::Hold);
            }
        }
        self.shared.progress.advance(durable);
        self.done.bytes += bytes;
        self.shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.unsynced_since = None;
        self.pending.drain(..bytes);
        if self.pending.is_empty() && self.pending.capacity() > KEPT_BYTES_MAX {
            self.pending = Vec::new();
        }
        if self.scratch.capacity() > KEPT_BYTES_MAX {
            self.scratch = Vec::new();
        }
        Ok(())
    }

    /// The spare; or a new segment, past `bytes_max` if need be, which is a bound for holds only.
    fn open_segment(&mut self) -> io::Result<Active> {
        let spare = match self.spare.take() {
            Some(spare) => spare,
            None => self.prepare()?,
        };
        let Spare { header, file, bytes } = spare;
        let first = self.shared.progress.durable();
        Ok(Active { header, file, first, offset: HEADER_BYTES as u64, bytes })
    }

    fn prepare(&mut self) -> io::Result<Spare> {
        if locked(&self.shared.catalog).segments() >= self.limits.segments {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the journal has too many segments"));
        }
        let origin = self.used.take().map_or_else(|| Origin::New { salt: rand::random() }, Origin::Used);
        let number = self.next_number;
        self.next_number += 1;
        segment::prepare(&*self.storage, number, self.options.segment_bytes, origin)
    }

    /// Lets go what is no longer needed.
    fn release(&mut self) {
        loop {
            let Some(released) = locked(&self.shared.catalog).release() else { break };
            let header = Header { number: released.number, salt: released.salt };
            if self.spare.is_none() && self.used.is_none() {
                self.used = Some(header);
            } else if let Err(error) = self.storage.remove(&segment::name(header.number)) {
                tracing::warn!(error = &error as &dyn std::error::Error, "journal segment was not removed");
            }
        }
    }

    /// Has a spare segment ready, so that the ends of all holds find room.
    fn provide_spare(&mut self) {
        self.release();
        let files_bytes = {
            let catalog = locked(&self.shared.catalog);
            let fresh = self.active.as_ref().filter(|active| !catalog.contains(active.header.number));
            catalog.file_bytes() + fresh.map_or(0, |active| active.bytes)
        };
        let mut refusal = None;
        if self.spare.is_none() {
            if files_bytes + self.options.segment_bytes > self.options.bytes_max {
                refusal = Some(Refusal::BytesMax);
                self.spare_failures = 0;
            } else {
                match self.prepare() {
                    Ok(spare) => self.spare = Some(spare),
                    Err(error) => {
                        self.spare_failures += 1;
                        refusal = Some(refusal_of(&error));
                    }
                }
            }
        }
        if self.spare.is_some() {
            self.spare_failures = 0;
        }
        self.refuse(refusal);
        let spare_bytes = self.spare.as_ref().map_or(0, |spare| spare.bytes);
        self.shared.counters.file_bytes.store(files_bytes + spare_bytes, Ordering::Relaxed);
    }

    fn failed(&mut self, error: &io::Error) {
        self.failures = self.failures.saturating_add(1);
        self.shared.counters.failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            error = error as &dyn std::error::Error,
            tries = self.failures,
            "journal write failed"
        );
        self.refuse(Some(refusal_of(error)));
        self.written = (0, 0);
        self.unsynced_since = None;
        if let Some(left) = self.active.take()
            && !locked(&self.shared.catalog).contains(left.header.number)
        {
            // Nothing in it is durable, so nobody misses it; a file that stays is removed at the next start.
            let _gone = self.storage.remove(&segment::name(left.header.number));
        }
        if self.failures > 1 {
            self.shared.progress.fare(Course::Failing);
        }
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!("journal is written again");
            self.shared.progress.fare(Course::Running);
        }
    }

    fn refuse(&mut self, refusal: Option<Refusal>) {
        if refusal != self.done.refusal {
            if let Some(reason) = refusal {
                tracing::warn!(reason = reason.as_str(), "journal refuses holds");
            } else {
                tracing::info!("journal takes holds again");
            }
        }
        self.done.refusal = refusal;
    }
}

impl Active {
    fn room(&self) -> usize {
        usize::try_from(self.bytes.saturating_sub(self.offset)).unwrap_or(usize::MAX)
    }
}

/// Tells all who wait that the writer is gone.
struct Stop(Arc<Shared>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.queue.close();
        self.0.progress.fare(Course::Stopped);
    }
}

fn refusal_of(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Refusal::DiskFull,
        _ => Refusal::Failing,
    }
}

/// The pause after so many failed tries; none after none.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        more => PAUSE_FIRST.saturating_mul(1 << (more - 1).min(16)).min(PAUSE_LAST),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "paces the writer's own syncs; nothing is decided or recorded by it"
)]
pub(super) fn monotonic() -> Instant {
    Instant::now()
}
