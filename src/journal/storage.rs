//! The files of a journal: a seam narrow enough that tests can put a failing disk behind it.
//!
//! What is written is certain to outlive a power cut only after [`StoredFile::sync`], what is created, renamed or
//! removed only after [`Storage::sync`]. After a failed sync the kernel may call pages clean that never reached the
//! disk, so that a later sync proves nothing about what was written before the failed one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;

use super::OpenError;

/// One flat folder.
pub(super) trait Storage: Send + Sync {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new, empty file; an old one of that name is emptied.
    fn create(&self, name: &str) -> io::Result<Arc<dyn StoredFile>>;
    /// A file that is there.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>>;
    /// Gives a file another name, replacing what has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync(&self) -> io::Result<()>;
}

/// One file, shared by those who hold it.
pub(super) trait StoredFile: Send + Sync {
    /// Its length.
    fn bytes(&self) -> io::Result<u64>;
    /// Reads up to `into.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `from`; after an error any part of it may stand there.
    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file this long, with room on the disk for every byte of it.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Cuts the file off.
    fn cut(&self, bytes: u64) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

/// The right to be the one process that writes to a folder; given up when dropped, or when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Folder {
    /// Takes possession of the folder, making it if need be.
    pub(super) fn lock(path: &Path) -> Result<(Self, Lock), OpenError> {
        let failed = |doing, source| OpenError::Io { doing, source };
        make_folder(path).map_err(|source| failed("make the journal's folder", source))?;
        let mut options = OpenOptions::new();
        // Emptied only once it is ours: until then it tells whose it is.
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(|source| failed("open the journal's lock file", source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(OpenError::Locked { folder: path.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock the journal's folder", source)),
        }
        let write_pid = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        // A full disk must not keep a node from draining its journal, and the lock holds without the number.
        if let Err(error) = write_pid(&mut file) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "journal lock file does not name its process"
            );
        }
        Ok((Self { path: path.to_owned() }, Lock { _file: file }))
    }
}

impl Storage for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(self.path.join(name))?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl StoredFile for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match FileExt::read_at(self, &mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, from, offset)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => fill_to(self, bytes),
            Err(error) => Err(error.into()),
        }
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Makes a folder and those above it, durably: what a folder holds is lost with its name.
fn make_folder(path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    std::fs::create_dir_all(path)?;
    for folder in missing {
        let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
        File::open(above.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// What `fallocate` does, for file systems that lack it.
fn fill_to(file: &File, bytes: u64) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; 64 * 1024];
    let mut end = file.metadata()?.len();
    while end < bytes {
        let chunk = usize::try_from(bytes - end).unwrap_or(usize::MAX).min(ZEROS.len());
        FileExt::write_all_at(file, &ZEROS[..chunk], end)?;
        end += chunk as u64;
    }
    Ok(())
}
