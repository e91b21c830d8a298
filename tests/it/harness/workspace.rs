//! A fresh copy of what a clone would hold, for tests that build it again.
//!
//! It stands where it stood before and keeps the files' times, so that cargo compiles only what has changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder that everything is built into.
pub(crate) fn target() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().expect("tmp lies in the target folder").to_owned()
}

/// Where the sources of this very test lie.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of the project: what git tracks, and what it would.
pub(crate) fn files() -> BTreeSet<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git");
    assert!(output.status.success(), "this is no clone: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("plain names");
    names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .filter(|file| root().join(file).is_file())
        .collect()
}

/// Brings a folder to hold these files of the project and nothing else.
pub(crate) fn copy(files: &BTreeSet<PathBuf>, into: &Path) {
    std::fs::create_dir_all(into).expect("a folder");
    remove_others(files, into, Path::new(""));
    for file in files {
        let (from, to) = (root().join(file), into.join(file));
        let source = std::fs::metadata(&from).expect("a file");
        let modified = source.modified().expect("a time");
        let same = std::fs::metadata(&to)
            .is_ok_and(|copy| copy.len() == source.len() && copy.modified().is_ok_and(|at| at == modified));
        if !same {
            std::fs::create_dir_all(to.parent().expect("a folder above")).expect("a folder");
            std::fs::copy(&from, &to).expect("copied");
            let copy = std::fs::File::options().write(true).open(&to).expect("the copy");
            copy.set_modified(modified).expect("its time");
        }
    }
}

fn remove_others(files: &BTreeSet<PathBuf>, into: &Path, folder: &Path) {
    for entry in std::fs::read_dir(into.join(folder)).expect("a folder") {
        let entry = entry.expect("an entry");
        let path = folder.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            remove_others(files, into, &path);
        } else if !files.contains(&path) {
            std::fs::remove_file(into.join(&path)).expect("removed");
        }
    }
}
