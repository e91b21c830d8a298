//! Clients from the registries of their languages: installed once into the target folder, pinned, and again when what
//! they need has changed. And how they are run: with a time limit, a home of their own, and nothing of who runs the test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::workspace;

/// Longer than any client takes; one that hangs ends here, with all that it started.
const TIME_MAX_SECONDS: u64 = 300;

/// A virtual environment with the Python SDK: its interpreter.
pub(crate) fn python() -> PathBuf {
    pip("python").join("python")
}

/// What checks the files of `deploy/` by their schemas: the folder of its programs.
pub(crate) fn checkers() -> PathBuf {
    pip("deploy")
}

fn pip(name: &str) -> PathBuf {
    installed(name, &["requirements.txt"], |folder, sources| {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder));
        let requirements = sources.join("requirements.txt");
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "-r"]).arg(requirements));
    })
    .join("bin")
}

/// A folder with the Node SDK in `node_modules`, and the script that uses it.
pub(crate) fn node() -> PathBuf {
    npm("node", &["package.json", "package-lock.json", "sdk.mjs"])
}

/// A folder with `codex`.
pub(crate) fn codex() -> PathBuf {
    npm("codex", &["package.json", "package-lock.json"]).join("node_modules/.bin")
}

fn npm(name: &str, files: &[&str]) -> PathBuf {
    installed(name, files, |folder, sources| {
        std::fs::create_dir_all(folder).expect("a folder");
        for file in files {
            std::fs::copy(sources.join(file), folder.join(file)).expect("copied");
        }
        run(Command::new("npm")
            .args(["ci", "--loglevel=error", "--no-audit", "--no-fund"])
            .current_dir(folder));
    })
}

/// The folder of a client, once `install` has filled it from the sources that stand in `tests/clients`.
fn installed(name: &str, files: &[&str], install: impl FnOnce(&Path, &Path)) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let sources = workspace::root().join("tests/clients").join(name);
    let texts = files.iter().map(|file| std::fs::read_to_string(sources.join(file)).expect("a source"));
    let wanted = texts.collect::<Vec<_>>().concat();
    let done = folder.join("installed.txt");
    // Several tests may come here at once.
    let lock = std::fs::File::create(folder.with_extension("lock")).expect("a lock");
    lock.lock().expect("locked");
    if std::fs::read_to_string(&done).ok().as_ref() != Some(&wanted) {
        install(&folder, &sources);
        std::fs::write(&done, &wanted).expect("written");
    }
    folder
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    succeeded(&format!("{command:?}"), &output);
}

/// A client, to be run with a time limit in a home of its own.
pub(crate) fn client(program: impl AsRef<OsStr>, home: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", &TIME_MAX_SECONDS.to_string()]).arg(program).env_clear();
    command.env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(home);
    command.stdin(std::process::Stdio::null());
    command
}

/// Asserts that a client ended well, and shows what it said where not.
#[track_caller]
pub(crate) fn succeeded(what: &str, output: &Output) {
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{told}", output.status);
}
