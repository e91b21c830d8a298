//! The journal on a disk that fails on demand, and on the real one.

mod behaviour;
mod crash;
pub(crate) mod disk;
mod reading;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use disk::Disk;

/// The smallest segments, and not many.
fn small() -> Options {
    Options { segment_bytes: 16 << 10, bytes_max: 256 << 10, ..Options::default() }
}

/// A frame as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    tag: Tag,
    id: Id,
    payload: Vec<u8>,
}

impl Record {
    fn new(tag: Tag, id: u8, bytes: usize) -> Self {
        Self { tag, id: [id; 16], payload: vec![id; bytes] }
    }

    fn frame(&self) -> Frame<'_> {
        Frame { tag: self.tag, id: self.id, payload: &self.payload }
    }
}

type Records = Vec<(u64, Record)>;

/// Opens the journal on a disk, and gives all that it holds.
fn try_open(disk: &Disk, options: Options) -> Result<(Journal, Recovery, Records), OpenError> {
    let mut found = Vec::new();
    let mut each = |position: Position, frame: Frame<'_>| {
        found.push((position.0, Record { tag: frame.tag, id: frame.id, payload: frame.payload.to_vec() }));
        Ok(())
    };
    let (journal, recovery) = Journal::open_in(Arc::new(disk.clone()), None, options, &mut each)?;
    Ok((journal, recovery, found))
}

/// Opens the journal on a disk in memory.
pub(crate) fn open_on<E>(disk: &Disk, options: Options, mut each: E) -> Result<(Journal, Recovery), OpenError>
where
    E: FnMut(Position, Frame<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
{
    Journal::open_in(Arc::new(disk.clone()), None, options, &mut each)
}

fn open(disk: &Disk, options: Options) -> (Journal, Recovery, Records) {
    try_open(disk, options).unwrap()
}

/// What a journal on this disk would be found to hold.
fn found(disk: &Disk) -> (Recovery, Records) {
    let (journal, recovery, found) = open(&disk.after(disk::Cut::KeepsAll), small());
    journal.close().unwrap();
    (recovery, found)
}

/// Waits for a ticket, not for ever.
fn wait(ticket: Ticket) -> Result<(), NotDurable> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(20), ticket).await })
        .expect("never resolved")
}

fn append(journal: &Journal, record: &Record) -> Result<(), NotDurable> {
    wait(journal.append(record.frame()).unwrap())
}

/// Waits until the journal is as told, not for ever.
fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never came true");
}
