//! A demo that has printed what it prints.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::gateway::BINARY;
use super::ports;
use super::process::Process;

/// `overfall demo`, which serves.
pub(crate) struct Demo {
    pub(crate) process: Process,
    /// What it printed.
    pub(crate) told: String,
    /// The base URL for clients.
    pub(crate) base: String,
    /// Where its state is, if nobody else keeps that.
    _data: Option<TempDir>,
}

impl Demo {
    /// Starts it on a folder of its own.
    pub(crate) fn start() -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let demo = Self::start_on(data.path());
        Self { _data: Some(data), ..demo }
    }

    /// Starts it on a folder.
    pub(crate) fn start_on(data: &Path) -> Self {
        let (port, admin_port) = (ports::free().port().to_string(), ports::free().port().to_string());
        let mut command = Command::new(BINARY);
        command.args(["demo", "--port", &port, "--admin-port", &admin_port, "--data"]).arg(data);
        let mut process = Process::start("the demo", &mut command);
        process.wait_for_line("Ctrl-C");
        let told = process.output();
        Self { process, told, base: format!("http://127.0.0.1:{port}/v1"), _data: None }
    }

    /// The three keys, in the order they are printed.
    pub(crate) fn keys(&self) -> [String; 3] {
        let mut keys: Vec<String> = Vec::new();
        for word in self.told.split([' ', '\n', '\'', '=']).filter(|word| word.starts_with("ofk_")) {
            if !keys.iter().any(|key| key == word) {
                keys.push(word.to_owned());
            }
        }
        keys.try_into().expect("three keys")
    }

    /// The lines to paste that call this program: each goes on where a line ends in a backslash.
    pub(crate) fn lines_with(&self, program: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let mut continues = false;
        for line in self.told.lines() {
            let is_first = line.trim_start().split(' ').find(|word| !word.contains('=')) == Some(program);
            if continues {
                let last = found.last_mut().expect("there is one");
                *last = format!("{last}\n{line}");
            } else if is_first {
                found.push(line.to_owned());
            }
            continues = (continues || is_first) && line.ends_with('\\');
        }
        found
    }

    /// The block that begins with a line and ends with an empty one.
    pub(crate) fn block(&self, first: &str) -> String {
        let lines = self.told.lines().skip_while(|line| *line != first);
        let block: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
        assert!(!block.is_empty(), "the demo prints no `{first}`: {}", self.told);
        block.join("\n")
    }
}
