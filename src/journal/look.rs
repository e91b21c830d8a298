//! Looking at a journal without touching it, while its owner may be writing.
//!
//! It is read as at a start, from files that let nothing be written. Files may come, grow and go meanwhile, which looks
//! like damage: so what cannot be read is read anew, and is damaged if it is so each time in the same place.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::recover::{Recovered, recover};
use super::storage::{Storage, StoredFile};
use super::{Frame, OpenError, Position, Recovery};

/// How often a journal is read until it can be.
const TRIES: usize = 10;

/// What was found by looking.
#[derive(Debug)]
pub struct Look<T> {
    /// What the frames came to.
    pub found: T,
    /// As at a start; nothing was cut off.
    pub recovery: Recovery,
}

/// Gives every frame in the journal of a folder to `each`, in order, together with what those before it came to. The
/// journal is left as it is, and may be in use.
pub fn look<T: Default>(
    folder: &Path,
    mut each: impl FnMut(&mut T, Frame<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
) -> Result<Look<T>, OpenError> {
    let storage = Onlooker { path: folder.to_owned() };
    let mut tries = 0;
    loop {
        let mut found = T::default();
        tries += 1;
        match recover(&storage, &mut |_, frame| each(&mut found, frame)) {
            Ok(Recovered { catalog, next, frames, torn_bytes, .. }) => {
                let open = catalog.open_ids().copied().collect();
                let recovery = Recovery { next: Position(next), frames, torn_bytes, open };
                return Ok(Look { found, recovery });
            }
            Err(error) if tries == TRIES || is_certain(&error) || !folder.exists() => return Err(error),
            Err(_) => {}
        }
    }
}

/// Whether an error would come again.
const fn is_certain(error: &OpenError) -> bool {
    matches!(error, OpenError::Rejected { .. } | OpenError::Version { .. })
}

/// A folder in which nothing is changed.
struct Onlooker {
    path: PathBuf,
}

/// A file that is not written to.
struct Looked(File);

impl Storage for Onlooker {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, _: &str) -> io::Result<Arc<dyn StoredFile>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        Ok(Arc::new(Looked(File::open(self.path.join(name))?)))
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    /// What is not needed any more stays, for its owner to remove.
    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// What a start writes again and cuts off is left as it is: it stands there already, or is not read.
impl StoredFile for Looked {
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        StoredFile::read_at(&self.0, into, offset)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn cut(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
