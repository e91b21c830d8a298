//! Segment files: their names, and how one is made ready.
//!
//! A segment is made under another name and gets its own only when it is whole and durable, so that every file with
//! a segment's name has a good header, whenever the power goes.

use std::io;
use std::sync::Arc;

use super::format::{BadHeader, HEADER_BYTES, Header};
use super::storage::{Storage, StoredFile};

/// The name of a segment in the making.
pub(super) const DRAFT: &str = "draft";

/// A segment that is ready to be opened for frames.
pub(super) struct Spare {
    pub(super) header: Header,
    pub(super) file: Arc<dyn StoredFile>,
    pub(super) bytes: u64,
}

/// Where a new segment's bytes come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// A file that did not exist.
    New {
        /// Anything.
        salt: u32,
    },
    /// A segment whose frames nobody needs: its room is sure, and writing to it costs no metadata.
    Used(Header),
}

/// The file name of segment `number`.
pub(super) fn name(number: u64) -> String {
    format!("{number:020}.journal")
}

/// The number in a segment's file name.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".journal")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// Makes segment `number` of `bytes` bytes, allocated and durable.
pub(super) fn prepare(storage: &dyn Storage, number: u64, bytes: u64, origin: Origin) -> io::Result<Spare> {
    let made = match origin {
        Origin::New { .. } => storage.create(DRAFT),
        // Its old name must be gone for certain before its content is touched, or a power cut in between could leave
        // a segment with a header half old, half new.
        Origin::Used(used) => storage
            .rename(&name(used.number), DRAFT)
            .and_then(|()| storage.sync())
            .and_then(|()| storage.open(DRAFT)),
    };
    let salt = match origin {
        Origin::New { salt } => salt,
        // Never the salt of what the file still contains, through 2^32 uses.
        Origin::Used(used) => used.salt.wrapping_add(1),
    };
    let header = Header { number, salt };
    let ready = made.and_then(|file| {
        file.allocate(bytes)?;
        file.write_at(&header.encode(), 0)?;
        file.sync()?;
        storage.rename(DRAFT, &name(number))?;
        storage.sync()?;
        Ok(Spare { header, file, bytes })
    });
    if ready.is_err() {
        // Room that a half-made file takes is room others lack; whatever stays is removed when the journal opens.
        for left in [DRAFT, &name(number)] {
            let _gone = storage.remove(left);
        }
    }
    ready
}

/// Reads the header of a segment file.
pub(super) fn header(file: &dyn StoredFile) -> io::Result<Result<Header, BadHeader>> {
    let mut bytes = [0; HEADER_BYTES];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(if read == bytes.len() { Header::decode(&bytes) } else { Err(BadHeader::Damaged) })
}
