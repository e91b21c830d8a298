//! What can go wrong with a journal, by operation.

use std::io;
use std::path::PathBuf;

use super::{Position, Refusal};

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error("the journal in {} is in use by {}", folder.display(), owner(*pid))]
    Locked {
        /// The journal's folder.
        folder: PathBuf,
        /// The process, where the lock file tells.
        pid: Option<u32>,
    },
    /// An option that cannot be.
    #[error("journal: {0}")]
    Options(&'static str),
    /// The disk said no.
    #[error("failed to {doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the disk said.
        source: io::Error,
    },
    /// Written by another version of this program.
    #[error("the journal's file {file} has format {version}, which this version does not read")]
    Version {
        /// The file's name.
        file: String,
        /// The version of its format.
        version: u32,
    },
    /// Something that was durable is damaged or gone.
    #[error(
        "the journal's file {file} is damaged at byte {offset}, before frames that are good: restore the folder from a \
         copy, or move it away and start with an empty one, which loses every record that the ledger has not applied"
    )]
    Damaged {
        /// The file's name.
        file: String,
        /// Where the bad frame begins.
        offset: u64,
    },
    /// The caller cannot make sense of a frame.
    #[error("the frame at {position} of the journal was not understood")]
    Rejected {
        /// Of the frame.
        position: Position,
        /// What the caller said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a frame was not taken. It is not in the journal, and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// There is no room for more holds: on the disk, in `bytes_max`, or among the open ones.
    #[error("the journal has no room for a hold")]
    Full,
    /// Writing fails at present; told to holds only.
    #[error("the journal cannot be written at present")]
    Failed,
    /// Too much waits for the disk; told to holds only.
    #[error("too much waits to be written to the journal")]
    Backlogged,
    /// Larger than [`Journal::payload_bytes_max`](super::Journal::payload_bytes_max).
    #[error("a payload of {bytes} bytes does not fit the journal's segments")]
    TooLarge {
        /// Of the payload.
        bytes: usize,
    },
    /// The journal was closed, or its writer has died.
    #[error("the journal is closed")]
    Closed,
}

impl From<Refusal> for AppendError {
    /// What a hold is told.
    fn from(reason: Refusal) -> Self {
        match reason {
            Refusal::DiskFull | Refusal::BytesMax | Refusal::HoldsMax => Self::Full,
            Refusal::Failing => Self::Failed,
            Refusal::Closed => Self::Closed,
        }
    }
}

/// Why a frame is not known to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDurable {
    /// A write or sync failed more than once. The frame is kept and will be written when that works again, so it may
    /// be durable later: whoever gave up a hold for it ends that hold.
    #[error("the journal cannot be written at present")]
    Failing,
    /// The journal has stopped. Whether the frame is in it shows when it is opened again.
    #[error("the journal has stopped")]
    Stopped,
}

/// Why a batch could not be read. The reader stays where it was; reading may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk said no.
    #[error("the journal's file {file} cannot be read")]
    Io {
        /// The file's name.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
    /// What was durable is not there any more.
    #[error("the journal's file {file} is damaged at byte {offset}")]
    Damaged {
        /// The file's name.
        file: String,
        /// Where the bad frame begins.
        offset: u64,
    },
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
