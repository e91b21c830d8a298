//! The one place that prints.

use std::io::Write;

/// Prints a line for people, or a value for programs.
pub(super) fn say(text: &str) {
    // A reader that went away is not a failure of what was done.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints JSON.
pub(super) fn say_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    say(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints an error with its causes, for people.
pub(super) fn complain(error: &anyhow::Error) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "error: {error}");
    for cause in error.chain().skip(1) {
        let _ = writeln!(stderr, "  because: {cause}");
    }
}

/// Shows how far long work is, in one line of standard error that the next one overwrites.
pub(super) fn progress(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[K{text}");
    let _ = stderr.flush();
}
