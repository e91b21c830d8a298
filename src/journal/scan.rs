//! Reading the frames of one segment in order, through a buffer.

use std::io;
use std::sync::Arc;

use super::format::{self, BATCH_BYTES, Batch, Part};
use super::storage::StoredFile;

/// How much is read at once, unless one frame is larger.
const CHUNK_BYTES: usize = 256 * 1024;

/// A place in a segment, before a frame.
pub(super) struct Scan {
    file: Arc<dyn StoredFile>,
    salt: u32,
    /// Where the next frame begins.
    offset: u64,
    /// Nothing from here on is looked at.
    limit: u64,
    /// What was read from the file, up to the limit of that time.
    buffer: Vec<u8>,
    /// Where in it the next frame begins.
    start: usize,
}

impl Scan {
    pub(super) fn new(file: Arc<dyn StoredFile>, salt: u32, offset: u64, limit: u64) -> Self {
        Self { file, salt, offset, limit, buffer: Vec::new(), start: 0 }
    }

    /// Where the next frame begins, or the bad one that stopped the scan.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Lets the scan go on up to `limit`, which lies no earlier than before.
    pub(super) fn extend(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// The next frame; none where no good frame stands.
    pub(super) fn next(&mut self) -> io::Result<Option<Part<'_>>> {
        self.fill(8)?;
        let Some(bytes) = format::claimed_bytes(&self.buffer[self.start..]) else { return Ok(None) };
        if bytes as u64 > self.limit.saturating_sub(self.offset) {
            return Ok(None);
        }
        self.fill(bytes)?;
        let Some(frame) = self.buffer.get(self.start..self.start + bytes) else { return Ok(None) };
        if !format::is_sealed(frame, self.salt) {
            return Ok(None);
        }
        let part = format::decode(frame);
        if part.is_some() {
            self.start += bytes;
            self.offset += bytes as u64;
        }
        Ok(part)
    }

    /// Reads until `bytes` bytes are there, or the limit or the file ends.
    fn fill(&mut self, bytes: usize) -> io::Result<()> {
        let there = self.buffer.len() - self.start;
        if there >= bytes {
            return Ok(());
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let ahead = self.limit.saturating_sub(self.offset + there as u64);
        let more = usize::try_from(ahead).unwrap_or(usize::MAX).min(CHUNK_BYTES.max(bytes - there));
        self.buffer.resize(there + more, 0);
        let read = self.file.read_at(&mut self.buffer[there..], self.offset + there as u64);
        self.buffer.truncate(there + read.as_ref().copied().unwrap_or(0));
        read.map(|_| ())
    }
}

/// A batch that stands beyond the first bad frame of a segment.
pub(super) struct Stray {
    /// Where it begins.
    pub(super) offset: u64,
    pub(super) batch: Batch,
}

/// All batches at or behind `from`, at any byte, in order; `each` gets them.
pub(super) fn strays(
    file: &dyn StoredFile,
    salt: u32,
    from: u64,
    mut each: impl FnMut(&Stray),
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut offset = from;
    loop {
        let read = file.read_at(&mut buffer, offset)?;
        for at in format::batch_candidates(&buffer[..read]) {
            let Some(frame) = buffer[..read].get(at..at + BATCH_BYTES) else { continue };
            if format::is_sealed(frame, salt)
                && let Some(Part::Batch(batch)) = format::decode(frame)
            {
                each(&Stray { offset: offset + at as u64, batch });
            }
        }
        if read < buffer.len() {
            return Ok(());
        }
        // One that reaches over the end of this chunk begins in the next.
        offset += (read - (BATCH_BYTES - 1)) as u64;
    }
}
