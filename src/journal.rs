//! The node's own durable, append-only file: the settlement queue of one machine, and the re-send buffer of many.
//!
//! It knows nothing of what records mean. A [`Frame`] is opaque bytes with a [`Tag`], which says only what it does to
//! a hold: opens it, closes it, or neither. From that the journal knows which segments are still needed.
//!
//! # Life of a frame
//!
//! [`Journal::append`] copies it into a bounded queue and returns a [`Ticket`]. One thread takes all that is queued,
//! writes it with one write, syncs once, and resolves the tickets. A [`Reader`] hands it to settlement, which tells by
//! [`Journal::applied`] how far the ledger has come. A segment goes when it lies wholly before that and none of its
//! holds is open. A hold that outlives many segments keeps only its own.
//!
//! # Positions
//!
//! A [`Position`] counts frames, through the whole life of a journal's folder. It does not depend on where a frame
//! stands, so that a frame which must be written a second time, into another segment, keeps it, and recovery gives
//! every frame once.
//!
//! # How it fails
//!
//! - *No room* (disk full, or `bytes_max` reached): a spare segment is always allocated ahead. When none can be made,
//!   holds are refused, while ends and other frames still go into the segment in use, and past `bytes_max` if need be.
//! - *A write or sync fails*: holds are refused. All that is not known to be durable is written again, into a fresh
//!   segment, with growing pauses, until that works. Tickets tell of it from the second failure on.
//! - *Power cut, `kill -9`*: what a ticket said is durable is found by [`Journal::open`]. A torn tail is cut off.
//! - *Damage* to what was durable: opening refuses, and says where it lies.
//!
//! It assumes that writing a part of a disk sector anew does not harm the rest of it, as every log does that does not
//! pad its writes.
//!
//! # Bounds
//!
//! Memory: the queue ([`Options::queue_bytes_max`]), 16 bytes and a map entry for each open hold. Disk:
//! [`Options::bytes_max`]. An eighth of a segment is set aside for what it says about the others, which bounds open
//! holds (393,000 with segments of 64 MiB) and segments (131,000). Where long holds begin all the time, every segment
//! has one: `bytes_max` must then cover what is written while the longest is open.

mod catalog;
mod error;
mod format;
mod look;
mod queue;
mod reader;
mod recover;
mod scan;
mod segment;
mod storage;
#[cfg(test)]
pub(crate) mod tests;
mod ticket;
mod writer;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
#[cfg(test)]
use std::time::Instant;

use crate::units::Span;

pub use error::{AppendError, NotDurable, OpenError, ReadError};
pub use look::{Look, look};
pub use reader::{Entry, Reader};
pub use ticket::Ticket;

use catalog::Catalog;
use queue::{Bounds, Queue};
use recover::Recovered;
use storage::{Folder, Lock, Storage};
use ticket::{Progress, Wish};
use writer::{Monotonic, Start, Writer};

/// Names a hold.
pub type Id = [u8; 16];

/// Where a frame stands: how many came before it since the journal's folder was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

/// What a frame does to the hold that its id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// Opens it. A second one with the same id is kept with the first for as long as the hold is open.
    Hold,
    /// Closes it, for ever: no hold of this id comes after.
    End,
    /// Nothing: it needs only be applied.
    Other,
}

/// What is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it does to a hold.
    pub tag: Tag,
    /// To which.
    pub id: Id,
    /// Anything.
    pub payload: &'a [u8],
}

/// When a frame counts as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once it is synced to the disk.
    Strict,
    /// At once. It is written within moments, which a crash of the process spares, and synced within `sync_every`,
    /// which is what a power cut may cost.
    Relaxed {
        /// The longest that a written frame waits for a sync.
        sync_every: Span,
    },
}

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The size of a segment, 16 KiB to 1 GiB. Segments of another size that are there already stay.
    pub segment_bytes: u64,
    /// What all files may take up when a hold comes; at least two segments.
    pub bytes_max: u64,
    /// When a frame counts as durable.
    pub durability: Durability,
    /// What may wait in memory for the disk when a hold comes. Ends and other frames always find room.
    pub queue_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            bytes_max: 4 << 30,
            durability: Durability::Strict,
            queue_bytes_max: 8 << 20,
        }
    }
}

/// What was found when a journal was opened.
#[derive(Debug)]
pub struct Recovery {
    /// The position of the next frame.
    pub next: Position,
    /// How many frames were found.
    pub frames: u64,
    /// How many bytes of an unfinished write were cut off. None of their frames was acknowledged.
    pub torn_bytes: u64,
    /// The holds that are open. A hold that was found and is not among these has ended, even where its end was not
    /// found: it lay in a segment that was no longer needed.
    pub open: HashSet<Id>,
}

/// Why holds are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// No spare segment fits the disk.
    DiskFull,
    /// A write or sync failed.
    Failing,
    /// The files have reached `bytes_max`: the ledger is too far behind.
    BytesMax,
    /// As many holds are open as an opening segment can list.
    HoldsMax,
    /// The journal was closed, or its writer has died. This does not mend itself.
    Closed,
}

impl Refusal {
    /// A stable name, for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DiskFull => "disk-full",
            Self::Failing => "failing",
            Self::BytesMax => "bytes-max",
            Self::HoldsMax => "holds-max",
            Self::Closed => "closed",
        }
    }
}

/// Whether holds are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// They are.
    Good,
    /// They are not.
    Refusing {
        /// Why.
        reason: Refusal,
    },
}

/// Numbers for metrics, each true at some moment during the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// All frames before this position are durable (strict sense).
    pub durable: Position,
    /// The position of the next frame.
    pub next: Position,
    /// Bytes in memory that wait to be durable.
    pub queued_bytes: usize,
    /// What the files take up, the spare included.
    pub file_bytes: u64,
    /// Segments that hold frames.
    pub segments: usize,
    /// Durable holds without a durable end.
    pub holds_open: usize,
    /// Successful syncs of frames since the journal was opened.
    pub syncs: u64,
    /// Failed writes and syncs since the journal was opened.
    pub failures: u64,
}

/// A durable, append-only queue of frames. See the module's documentation.
pub struct Journal {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    options: Options,
    payload_bytes_max: usize,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// The writer of a journal that has no thread of its own.
#[cfg(test)]
pub(crate) struct ByHand(Writer);

#[cfg(test)]
impl ByHand {
    /// Has the writer do what its thread would do next.
    pub(crate) fn step(&mut self) {
        self.0.step_now();
    }
}

/// What the writer shares with everybody else. Of two locks, `catalog` is taken first; no lock is held during I/O.
#[derive(Debug)]
struct Shared {
    queue: Queue,
    progress: Progress,
    catalog: Mutex<Catalog>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    syncs: AtomicU64,
    failures: AtomicU64,
    file_bytes: AtomicU64,
}

impl Journal {
    /// Opens the journal in `folder`, which is made if it is missing, and locks it until the journal is closed or the
    /// process dies. `each` is given every frame that is there, in order; all of them are durable when this returns.
    /// What it says no to, with an error, cannot be opened. Blocks: it reads all files.
    pub fn open<E>(folder: &Path, options: Options, mut each: E) -> Result<(Self, Recovery), OpenError>
    where
        E: FnMut(Position, Frame<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    {
        check(&options)?;
        let (storage, lock) = Folder::lock(folder)?;
        Self::open_in(Arc::new(storage), Some(lock), options, &mut each)
    }

    fn open_in(
        storage: Arc<dyn Storage>,
        lock: Option<Lock>,
        options: Options,
        each: recover::Each<'_>,
    ) -> Result<(Self, Recovery), OpenError> {
        let (shared, writer, recovery) = Self::prepare(
            &storage,
            lock,
            &options,
            each,
            (queue::LINGER, queue::GATHER_MAX, Box::new(writer::monotonic)),
        )?;
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run());
        let thread =
            thread.map_err(|source| OpenError::Io { doing: "start the journal's thread", source })?;
        Ok((Self::of(shared, storage, options, Some(thread)), recovery))
    }

    /// A journal whose writer moves only when it is told to, never sleeps, and paces its syncs by `time`.
    #[cfg(test)]
    pub(crate) fn open_by_hand(
        storage: &tests::disk::Disk,
        options: Options,
        each: recover::Each<'_>,
        time: impl Fn() -> Instant + Send + 'static,
    ) -> Result<(Self, Recovery, ByHand), OpenError> {
        let storage: Arc<dyn Storage> = Arc::new(storage.clone());
        let (shared, writer, recovery) =
            Self::prepare(&storage, None, &options, each, (Duration::ZERO, Duration::ZERO, Box::new(time)))?;
        Ok((Self::of(shared, storage, options, None), recovery, ByHand(writer)))
    }

    /// Recovers what there is, and makes the writer that goes on from there. For what `linger` and
    /// `gather` are, see [`Bounds`]; `time` paces syncs.
    fn prepare(
        storage: &Arc<dyn Storage>,
        lock: Option<Lock>,
        options: &Options,
        each: recover::Each<'_>,
        (linger, gather, time): (Duration, Duration, Monotonic),
    ) -> Result<(Arc<Shared>, Writer, Recovery), OpenError> {
        let Recovered { catalog, next, next_number, used, frames, torn_bytes } =
            recover::recover(&**storage, each)?;
        let open = catalog.open_ids().copied().collect();
        let recovery = Recovery { next: Position(next), frames, torn_bytes, open };
        let limits = catalog::limits(options.segment_bytes);
        if catalog.holds_open() > limits.holds || catalog.segments() >= limits.segments {
            return Err(OpenError::Options(
                "segments are too small to list the holds and segments that there are",
            ));
        }
        let bounds = Bounds {
            frame_bytes: limits.frame_bytes,
            queue_bytes: options.queue_bytes_max,
            holds: limits.holds,
            linger,
            gather,
        };
        let shared = Arc::new(Shared {
            queue: Queue::new(next, catalog.holds_open(), bounds),
            progress: Progress::new(next),
            catalog: Mutex::new(catalog),
            counters: Counters::default(),
        });
        let start = Start { options: options.clone(), limits, next_number, used, lock, time };
        let writer = Writer::new(Arc::clone(&shared), Arc::clone(storage), start);
        Ok((shared, writer, recovery))
    }

    fn of(
        shared: Arc<Shared>,
        storage: Arc<dyn Storage>,
        options: Options,
        thread: Option<JoinHandle<()>>,
    ) -> Self {
        let payload_bytes_max = catalog::limits(options.segment_bytes).frame_bytes - format::FRAME_BYTES;
        Self { shared, storage, options, payload_bytes_max, writer: Mutex::new(thread) }
    }

    /// Queues a frame. Never waits for the disk, so it may be called from async code and from inside a lock; the order
    /// of calls is the order in the journal. The payload is copied.
    ///
    /// A hold is refused whenever its end might not find room. Ends and other frames are taken even then: they are
    /// kept in memory and tried again until they are written or the journal is closed.
    pub fn append(&self, frame: Frame<'_>) -> Result<Ticket, AppendError> {
        let position = self.shared.queue.push(frame)?;
        Ok(match (self.options.durability, frame.tag) {
            (Durability::Strict, Tag::Hold) => Ticket::new(position, Wish::Due, &self.shared),
            (Durability::Strict, Tag::End | Tag::Other) => Ticket::new(position, Wish::Hurry, &self.shared),
            (Durability::Relaxed { .. }, _) => Ticket::done(),
        })
    }

    /// Resolves when all that was appended before is durable (synced, also when durability is relaxed).
    pub fn flush(&self) -> Ticket {
        if self.shared.queue.standing().next <= self.shared.progress.durable() {
            return Ticket::done();
        }
        Ticket::new(self.shared.queue.flush() - 1, Wish::Due, &self.shared)
    }

    /// The largest payload that [`Self::append`] takes, in bytes.
    pub const fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    /// A reader that begins at `from`, or behind what has gone there.
    pub fn reader(&self, from: Position) -> Reader {
        Reader::new(Arc::clone(&self.shared), Arc::clone(&self.storage), from)
    }

    /// Says that every frame before `up_to` is in the ledger, durably. Idempotent; never goes back. Not remembered
    /// over a restart: settlement then reads from the oldest frame there is, which the ledger already knows.
    pub fn applied(&self, up_to: Position) {
        let up_to = up_to.0.min(self.shared.progress.durable());
        let releases = locked(&self.shared.catalog).apply(up_to);
        if releases {
            self.shared.queue.look();
        }
    }

    /// Whether holds are taken.
    pub fn health(&self) -> Health {
        match self.shared.queue.standing().refusal {
            Some(reason) => Health::Refusing { reason },
            None => Health::Good,
        }
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> Stats {
        let standing = self.shared.queue.standing();
        let counters = &self.shared.counters;
        Stats {
            durable: Position(self.shared.progress.durable()),
            next: Position(standing.next),
            queued_bytes: standing.queued_bytes,
            file_bytes: counters.file_bytes.load(Ordering::Relaxed),
            segments: locked(&self.shared.catalog).segments(),
            holds_open: standing.holds_open,
            syncs: counters.syncs.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
        }
    }

    /// Takes no more frames, makes what is queued durable, and gives the folder free. Blocks. An error: the disk
    /// failed to the end, and what was not durable is lost, as after a crash.
    pub fn close(&self) -> Result<(), NotDurable> {
        self.shared.queue.close();
        if let Some(writer) = locked(&self.writer).take() {
            // A writer that panicked has left frames behind, which is what the numbers below tell.
            let _ended = writer.join();
        }
        if self.shared.progress.durable() == self.shared.queue.standing().next {
            Ok(())
        } else {
            Err(NotDurable::Stopped)
        }
    }
}

impl Drop for Journal {
    /// Has the writer finish, without waiting for it: [`Journal::close`] waits.
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("options", &self.options)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Position {
    /// Before every frame.
    pub const START: Self = Self(0);

    /// The position with this many frames before it.
    pub const fn new(frames: u64) -> Self {
        Self(frames)
    }

    /// How many frames came before.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The position behind this frame.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn check(options: &Options) -> Result<(), OpenError> {
    if !(16 << 10..=1 << 30).contains(&options.segment_bytes) {
        return Err(OpenError::Options("a segment has 16 KiB to 1 GiB"));
    }
    if options.bytes_max / 2 < options.segment_bytes {
        return Err(OpenError::Options("there must be room for two segments"));
    }
    if options.bytes_max / options.segment_bytes > catalog::limits(options.segment_bytes).segments as u64 {
        return Err(OpenError::Options("too many segments; make them larger"));
    }
    Ok(())
}

/// What a panic left behind a lock is whole: no code between two changes of it can panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
