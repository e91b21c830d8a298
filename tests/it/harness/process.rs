//! A process that a test started: its output kept, its end certain.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::until;

/// Lines of output printed when a test fails.
const SHOWN: usize = 200;

/// A running process. Killed when it is dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    quiet: bool,
}

impl Process {
    /// Starts it with no standard input, and keeps what it prints.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![
            keep(child.stdout.take().expect("piped"), Arc::clone(&output)),
            keep(child.stderr.take().expect("piped"), Arc::clone(&output)),
        ];
        Self { name: name.to_owned(), child, output, readers, quiet: false }
    }

    /// Its id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything printed so far, both streams, line by line.
    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap().join("\n")
    }

    /// Waits for a line that has `text` in it, and gives it.
    pub(crate) fn wait_for_line(&mut self, text: &str) -> String {
        let what = format!("{} prints `{text}`", self.name);
        until(&what, || {
            let found = self.output.lock().unwrap().iter().find(|line| line.contains(text)).cloned();
            if found.is_none()
                && let Some(status) = self.ended()
            {
                panic!("{} ended ({status}) before it printed `{text}`", self.name);
            }
            found
        })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child's state")
    }

    /// Sends a signal to this very process.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for its end, and gives the code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let what = format!("{} ends", self.name);
        let status = until(&what, || self.ended());
        for reader in self.readers.drain(..) {
            reader.join().expect("reads to the end");
        }
        status.code()
    }

    /// Kills it as a power cut would: no handler runs.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_none() {
            self.child.kill().expect("it runs");
        }
        self.child.wait().expect("a child's end");
    }

    /// Prints nothing when the test fails: its end is what the test is about, many times over.
    pub(crate) fn quiet(&mut self) {
        self.quiet = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() && !self.quiet {
            let output = self.output.lock().unwrap();
            let skipped = output.len().saturating_sub(SHOWN);
            eprintln!("--- {} printed ({skipped} lines before left out):", self.name);
            for line in &output[skipped..] {
                eprintln!("{line}");
            }
        }
    }
}

fn keep(stream: impl Read + Send + 'static, into: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { return };
            into.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
        }
    })
}
