//! Files of the journal, damaged: it opens with what was written, or it does not open.
//!
//! An input is a list of damages: where, what, how much, as four bytes each.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use overfall::journal::{Frame, Journal, Options, Tag};

use super::{Target, came_to};

const FRAMES: u8 = 12;
const HEADER_BYTES: usize = 32;
const SEGMENT_BYTES: u64 = 16 << 10;

#[test]
fn fuzz_files_of_the_journal() {
    let words = &["\0\0\x01\x7f", "\x10\0\0\x01", "\x20\x01\x02\0"];
    Target { name: "journal", rounds: 200, words, check }.run();
}

/// The files of a journal whose every frame was durable before the next one was written.
fn written() -> &'static [(String, Vec<u8>)] {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = open(folder.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for nth in 0..FRAMES {
            let payload = payload(nth);
            let tag = [Tag::Hold, Tag::End, Tag::Other][usize::from(nth % 3)];
            let ticket = journal.append(Frame { tag, id: [nth / 3; 16], payload: &payload }).unwrap();
            runtime.block_on(ticket).unwrap();
        }
        journal.close().unwrap();
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if name != "lock" {
                files.push((name, std::fs::read(entry.path()).unwrap()));
            }
        }
        files.sort();
        files
    })
}

fn payload(nth: u8) -> Vec<u8> {
    vec![nth; usize::from(nth) * 40]
}

type Found = Vec<(u64, Vec<u8>)>;

fn open(folder: &Path) -> Option<(Journal, Found)> {
    let options = Options { segment_bytes: SEGMENT_BYTES, bytes_max: 256 << 10, ..Options::default() };
    let mut found = Vec::new();
    let each = |position: overfall::journal::Position, frame: Frame<'_>| {
        found.push((position.value(), frame.payload.to_vec()));
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    let (journal, _) = Journal::open(folder, options, each).ok()?;
    Some((journal, found))
}

fn check(input: &[u8]) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let mut files = written().to_vec();
    for damage in input.chunks_exact(4).take(8) {
        let place = usize::from(damage[2]) % files.len();
        let bytes = &mut files[place].1;
        let at = usize::from(u16::from_le_bytes([damage[0], damage[1]])) % bytes.len().max(1);
        match damage[2] / 64 {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= damage[3];
                }
            }
            2 => {
                let end = (at + usize::from(damage[3])).min(bytes.len());
                bytes[at..end].fill(0);
            }
            _ => bytes.truncate(at),
        }
    }
    for (name, bytes) in &files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let Some((journal, found)) = open(folder.path()) else { return 1 };
    journal.close().unwrap();
    for (position, payload_found) in &found {
        let nth = u8::try_from(*position).unwrap();
        assert!(nth < FRAMES && *payload_found == payload(nth), "position {position} was invented");
    }
    assert!(found.windows(2).all(|two| two[0].0 + 1 == two[1].0), "a hole that nobody tells of");
    // Every write says that those before it were durable: a write that is whole lets nothing before it go unnoticed.
    for (whole, harmed) in written().iter().zip(&files) {
        for write in writes(&whole.1).into_iter().skip(found.len() + 1) {
            let same = harmed.1.get(write.clone()) == whole.1.get(write);
            assert!(!same, "{} frames are left before a whole write", found.len());
        }
    }
    came_to(&found.len())
}

/// Where each write stands in a segment: a batch and its frame.
fn writes(segment: &[u8]) -> Vec<Range<usize>> {
    let next = |at: usize| {
        let length =
            segment.get(at + 4..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        length.filter(|length| *length > 0).map(|length| at + 8 + length as usize)
    };
    let (mut at, mut writes) = (HEADER_BYTES, Vec::new());
    while let Some(end) = next(at).and_then(next) {
        writes.push(at..end);
        at = end;
    }
    writes
}
