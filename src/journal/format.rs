//! How bytes stand in a segment. All integers are little endian.
//!
//! ```text
//! segment  header, batch, frame …, batch, frame …, then zeros or bytes of an earlier use
//! header   magic [8] | version u32 | crc u32 | number u64 | salt u32 | 0 u32            crc over the rest
//! frame    crc u32 | length u32 | tag u8 | id [16] | payload              length of tag, id and payload
//! batch    a frame of tag 0; payload: position u64 | synced u64 | bytes u32, and in a segment's first:
//!          segments u32 | (number u64 | end u64) … | open ids [16] …
//! ```
//!
//! A frame's CRC32C covers length, tag, id and payload, and starts from the segment's salt. A CRC with another start
//! differs for the same bytes, and a file used again gets another salt, so that what an earlier use left behind can
//! never pass for a frame.

use super::{Frame, Id, Tag};
use crate::units::planted::{Bug, planted};

/// What stands before the payload of a frame.
pub(super) const FRAME_BYTES: usize = 25;
/// A batch that does not open its segment.
pub(super) const BATCH_BYTES: usize = FRAME_BYTES + BATCH_PAYLOAD_BYTES;
/// What stands before the first batch of a segment.
pub(super) const HEADER_BYTES: usize = 32;

const BATCH_PAYLOAD_BYTES: usize = 20;
/// The length field of a batch that does not open its segment.
const BATCH_LENGTH: u32 = 37;
const _: () = assert!(BATCH_LENGTH as usize + 8 == BATCH_BYTES, "the length covers all but CRC and itself");
const BATCH_TAG: u8 = 0;
/// Tag and id: what every length covers at least.
const LENGTH_MIN: usize = FRAME_BYTES - 8;
const MAGIC: [u8; 8] = *b"OFJOURNL";
const VERSION: u32 = 1;

/// What identifies a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) salt: u32,
}

/// Why the beginning of a file is not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Written by another version of the format.
    Version(u32),
    /// Not a header, or a damaged one.
    Damaged,
}

/// What one write begins with: where it stands, and what was durable when it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// The position of the first frame after it.
    pub(super) position: u64,
    /// All before this position was durable before this batch was written. A hole that lies at or after every later
    /// batch's `synced` is a torn write; one before it is damage.
    pub(super) synced: u64,
    /// How many bytes of frames follow in the same write.
    pub(super) bytes: u32,
    /// Stands in the first batch of a segment.
    pub(super) opening: Option<Opening>,
}

/// What the journal was when a segment was opened. The newest one says where every older segment ends and which of
/// their holds are open, so that segments between a pinned one and the newest can go, and a failed one be left as is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Opening {
    /// Number and end position of every older segment.
    pub(super) segments: Vec<(u64, u64)>,
    /// Every open hold.
    pub(super) open: Vec<Id>,
}

/// One frame of either sort.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Batch(Batch),
    Frame(Frame<'a>),
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.salt.to_le_bytes());
        let crc = Self::crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, BadHeader> {
        let version = u32_at(bytes, 8);
        if bytes[..8] != MAGIC || Self::crc(bytes) != u32_at(bytes, 12) {
            return Err(BadHeader::Damaged);
        }
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        Ok(Self { number: u64_at(bytes, 16), salt: u32_at(bytes, 24) })
    }

    fn crc(bytes: &[u8; HEADER_BYTES]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
    }
}

impl Opening {
    fn bytes(&self) -> usize {
        4 + 16 * (self.segments.len() + self.open.len())
    }
}

impl Batch {
    /// The bytes of the whole frame.
    pub(super) fn frame_bytes(&self) -> usize {
        BATCH_BYTES + self.opening.as_ref().map_or(0, Opening::bytes)
    }

    /// Appends the frame to `out`, unsealed.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        head(BATCH_TAG, &[0; 16], self.frame_bytes() - FRAME_BYTES, out);
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&self.synced.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        if let Some(opening) = &self.opening {
            out.extend_from_slice(&saturating_u32(opening.segments.len()).to_le_bytes());
            for (number, end) in &opening.segments {
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&end.to_le_bytes());
            }
            for id in &opening.open {
                out.extend_from_slice(id);
            }
        }
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        let (fixed, rest) = payload.split_at_checked(BATCH_PAYLOAD_BYTES)?;
        let opening = if rest.is_empty() { None } else { Some(Opening::decode(rest)?) };
        Some(Self { position: u64_at(fixed, 0), synced: u64_at(fixed, 8), bytes: u32_at(fixed, 16), opening })
    }
}

impl Opening {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_at_checked(4)?;
        let segments_bytes = 16usize.checked_mul(usize::try_from(u32_at(count, 0)).ok()?)?;
        let (segments, open) = rest.split_at_checked(segments_bytes)?;
        let (segments, _) = segments.as_chunks::<16>();
        let (open, odd) = open.as_chunks::<16>();
        odd.is_empty().then(|| Self {
            segments: segments.iter().map(|entry| (u64_at(entry, 0), u64_at(entry, 8))).collect(),
            open: open.to_vec(),
        })
    }
}

/// Appends a frame to `out`, unsealed.
pub(super) fn encode(frame: Frame<'_>, out: &mut Vec<u8>) {
    let tag = match frame.tag {
        Tag::Hold => 1,
        Tag::End => 2,
        Tag::Other => 3,
    };
    head(tag, &frame.id, frame.payload.len(), out);
    out.extend_from_slice(frame.payload);
}

/// Gives every frame in `frames` the CRC that it has under this salt.
pub(super) fn seal(frames: &mut [u8], salt: u32) {
    let mut rest = frames;
    while let Some(bytes) = next_frame_bytes(rest) {
        let (frame, after) = rest.split_at_mut(bytes);
        let crc = crc32c::crc32c_append(salt, &frame[4..]);
        frame[..4].copy_from_slice(&crc.to_le_bytes());
        rest = after;
    }
}

/// The frames of a run that was made by [`encode`].
pub(super) fn frames(mut run: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let (frame, rest) = run.split_at_checked(next_frame_bytes(run)?)?;
        run = rest;
        match decode(frame)? {
            Part::Frame(frame) => Some(frame),
            Part::Batch(_) => None,
        }
    })
}

/// How many whole frames at the beginning of `run` fit into `room` bytes, and their bytes.
pub(super) fn fitting(run: &[u8], room: usize) -> (u64, usize) {
    let (mut count, mut bytes) = (0, 0);
    while let Some(next) = next_frame_bytes(&run[bytes..]).filter(|next| bytes + next <= room) {
        (count, bytes) = (count + 1, bytes + next);
    }
    (count, bytes)
}

/// The whole length of the frame at the beginning of `bytes`, by its length field; none where that cannot be one or
/// is not there yet.
pub(super) fn claimed_bytes(bytes: &[u8]) -> Option<usize> {
    let length = usize::try_from(u32_at(bytes.get(..8)?, 4)).ok()?;
    (length >= LENGTH_MIN).then_some(length + 8)
}

/// Whether the CRC of this whole frame is right.
pub(super) fn is_sealed(frame: &[u8], salt: u32) -> bool {
    frame.len() >= FRAME_BYTES && planted(Bug::TornFrameAccepted)
        || frame.len() >= FRAME_BYTES && u32_at(frame, 0) == crc32c::crc32c_append(salt, &frame[4..])
}

/// Reads a whole frame, trusting its CRC to have been checked.
pub(super) fn decode(frame: &[u8]) -> Option<Part<'_>> {
    let (head, payload) = frame.split_at_checked(FRAME_BYTES)?;
    let tag = match head[8] {
        BATCH_TAG => return Batch::decode(payload).map(Part::Batch),
        1 => Tag::Hold,
        2 => Tag::End,
        3 => Tag::Other,
        _ => return None,
    };
    let id = *head[9..].first_chunk()?;
    Some(Part::Frame(Frame { tag, id, payload }))
}

/// Where in `bytes` batches may begin that do not open a segment.
pub(super) fn batch_candidates(bytes: &[u8]) -> impl Iterator<Item = usize> {
    // The length field has one value only, and stands behind the four bytes of the CRC.
    const LENGTH: &[u8; 4] = &BATCH_LENGTH.to_le_bytes();
    memchr::memmem::find_iter(bytes, LENGTH).filter_map(|at| at.checked_sub(4))
}

fn next_frame_bytes(run: &[u8]) -> Option<usize> {
    claimed_bytes(run).filter(|bytes| *bytes <= run.len())
}

fn head(tag: u8, id: &Id, payload_bytes: usize, out: &mut Vec<u8>) {
    out.reserve(FRAME_BYTES + payload_bytes);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&saturating_u32(LENGTH_MIN + payload_bytes).to_le_bytes());
    out.push(tag);
    out.extend_from_slice(id);
}

/// Lengths are at most a segment's, and those fit.
fn saturating_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The integer at `at`; 0 beyond the end.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |field| u32::from_le_bytes(*field))
}

/// The integer at `at`; 0 beyond the end.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |field| u64::from_le_bytes(*field))
}
