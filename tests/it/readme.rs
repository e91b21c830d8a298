//! The README is true: every `console` block is carried out in its order, in a fresh copy of the project, and prints
//! what it says.
//!
//! `$ ` begins a command, a backslash continues it, the lines below are its output. `…` in a line of output stands for
//! anything, a line of its own for any number of lines. In a command, each `ofk_…` is the next key that the demo printed,
//! and `/tmp/…` its folder.
//! A command that serves runs on beside the ones after it. All run in one shell, in a network of its own where this
//! machine allows that: the README's ports may be taken.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::until;
use crate::harness::workspace;

/// A command and what it prints.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    output: Vec<String>,
}

#[test]
fn every_console_block_of_the_readme_does_what_it_says() {
    let text = std::fs::read_to_string(workspace::root().join("README.md")).expect("a README");
    let demo = include_str!("../../config/demo.yaml");
    for policy in blocks(&text, "yaml") {
        assert!(demo.contains(&policy), "the demo's policy is another one than\n{policy}");
    }
    let steps = steps(&text);
    assert!(steps.len() >= 5, "a README has commands to paste: {steps:#?}");
    let clone = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clone");
    workspace::copy(&workspace::files(), &clone);
    let target = clone.join("target");
    std::os::unix::fs::symlink(workspace::target(), &target).expect("a link");
    // Compiled in the network that there is; what runs below may have none.
    let built = Command::new("cargo")
        .args(["build", "--release", "--locked", "--quiet"])
        .env_remove("CARGO_TARGET_DIR")
        .current_dir(&clone)
        .status();
    assert!(built.expect("cargo").success(), "a fresh copy builds");
    let mut shell = Shell::start(&clone);
    for step in &steps {
        let command = shell.filled_in(&step.command);
        let found = if serves(&command) { shell.serve(&command, &step.output) } else { shell.run(&command) };
        assert!(
            is_like(&step.output, &found),
            "`{}` prints\n\n{}\n\nbut the README says\n\n{}\n",
            step.command,
            found.join("\n"),
            step.output.join("\n")
        );
    }
    shell.end();
}

fn serves(command: &str) -> bool {
    command.contains("-- demo") || command.contains("overfall serve")
}

/// The blocks of a kind.
fn blocks(text: &str, kind: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut is_inside = false;
    let mut is_wanted = false;
    for line in text.lines() {
        if let Some(named) = line.strip_prefix("```") {
            is_inside = !is_inside;
            is_wanted = is_inside && named == kind;
            if is_wanted {
                blocks.push(String::new());
            }
        } else if is_wanted && let Some(block) = blocks.last_mut() {
            block.push_str(line);
            block.push('\n');
        }
    }
    blocks
}

/// The commands of all `console` blocks.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in blocks(text, "console") {
        let mut continues = false;
        for line in block.lines() {
            let is_command = line.starts_with("$ ");
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step { command: command.to_owned(), output: Vec::new() }),
                (None, Some(step)) if continues => step.command = format!("{}\n{line}", step.command),
                (None, Some(step)) => step.output.push(line.to_owned()),
                (None, None) => panic!("a block begins with a command: {line}"),
            }
            continues = (continues || is_command) && line.ends_with('\\');
        }
    }
    steps
}

/// Whether `found` is what `expected` describes.
fn is_like(expected: &[String], found: &[String]) -> bool {
    match expected.split_first() {
        None => found.is_empty(),
        Some((first, rest)) if first.trim() == "…" => {
            (0..=found.len()).any(|skipped| is_like(rest, &found[skipped..]))
        }
        Some((first, rest)) => {
            found.split_first().is_some_and(|(line, others)| is_line(first, line) && is_like(rest, others))
        }
    }
}

fn is_line(expected: &str, found: &str) -> bool {
    let (expected, found) = (expected.trim_end(), found.trim_end());
    let Some((begin, rest)) = expected.split_once('…') else { return expected == found };
    let Some(mut left) = found.strip_prefix(begin) else { return false };
    let parts: Vec<&str> = rest.split('…').collect();
    let (last, between) = parts.split_last().expect("at least what stands behind the sign");
    for part in between {
        match left.find(part) {
            Some(place) => left = &left[place + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

/// One shell for all commands.
struct Shell {
    child: std::process::Child,
    folder: tempfile::TempDir,
    keys: Vec<String>,
    /// Where what serves keeps its state.
    state: String,
    commands: usize,
}

impl Shell {
    fn start(clone: &Path) -> Self {
        let own_network = Command::new("unshare").args(["-n", "ip", "link", "set", "lo", "up"]).output();
        let own_network = own_network.is_ok_and(|output| output.status.success());
        let mut command = if own_network {
            let mut command = Command::new("unshare");
            command.args(["-n", "bash"]);
            command
        } else {
            Command::new("bash")
        };
        command
            .current_dir(clone)
            .env("CARGO_TARGET_DIR", workspace::target())
            .env("CARGO_TERM_COLOR", "never");
        let child = command.stdin(Stdio::piped()).spawn().expect("a shell");
        let folder = tempfile::tempdir().expect("a folder");
        let mut shell = Self { child, folder, keys: Vec::new(), state: String::new(), commands: 0 };
        if own_network {
            shell.run("ip link set lo up");
        } else {
            for port in [8080, 8081] {
                let free = std::net::TcpListener::bind(("127.0.0.1", port));
                assert!(
                    free.is_ok(),
                    "port {port} of the README is taken, and a network of its own is not allowed here"
                );
            }
        }
        shell
    }

    /// Puts in what the demo printed.
    fn filled_in(&mut self, command: &str) -> String {
        let mut parts = command.split("ofk_…");
        let mut told = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            assert!(!self.keys.is_empty(), "the demo has printed no further key for: {command}");
            told.push_str(&self.keys.remove(0));
            told.push_str(part);
        }
        told.replace("/tmp/…", &self.state)
    }

    /// Runs a command to its end, and gives what it printed.
    fn run(&mut self, command: &str) -> Vec<String> {
        let (output, done) = self.files();
        self.say(&format!("{{ {command}\n}} >{output} 2>&1; echo $? >{done}"));
        until(&format!("`{command}` ends"), || {
            std::fs::read_to_string(&done).ok().filter(|code| code.ends_with('\n'))
        });
        lines_of(&output)
    }

    /// Starts a command that serves, and gives what it printed once it is like `expected`.
    fn serve(&mut self, command: &str, expected: &[String]) -> Vec<String> {
        let (output, _) = self.files();
        self.say(&format!("{{ exec {command}\n}} >{output} 2>&1 &"));
        until(&format!("`{command}` prints what the README says: {expected:#?}"), || {
            is_like(expected, &lines_of(&output)).then_some(())
        });
        let found = lines_of(&output);
        let words = found.iter().flat_map(|line| line.split([' ', '\'']));
        let mut keys: Vec<String> = Vec::new();
        for word in words.filter(|word| word.starts_with("ofk_")) {
            if !keys.iter().any(|key| key == word) {
                keys.push(word.to_owned());
            }
        }
        self.keys = keys;
        let state = found.iter().find_map(|line| line.split_once("in /tmp/"));
        self.state = format!("/tmp/{}", state.expect("it says where its state is").1.trim_end_matches('.'));
        found
    }

    /// Ends what serves, which has to end well, and the shell.
    fn end(mut self) {
        let told = self
            .run("for job in $(jobs -p); do kill -INT $job; wait $job || echo \"it ended with $?\"; done");
        assert_eq!(told, Vec::<String>::new(), "what serves ends when it is told to");
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("its end").success());
    }

    fn files(&mut self) -> (String, String) {
        self.commands += 1;
        let path =
            |what: &str| self.folder.path().join(format!("{}.{what}", self.commands)).display().to_string();
        (path("output"), path("done"))
    }

    fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{line}").expect("the shell runs");
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Only where a test has failed is anything still running.
        if let Some(mut stdin) = self.child.stdin.take() {
            let _gone = writeln!(stdin, "for job in $(jobs -p); do kill $job; done; exit");
        }
        let _ended = self.child.wait();
    }
}

fn lines_of(path: &str) -> Vec<String> {
    let text =
        std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    text.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect()
}

#[test]
fn blocks_are_read_as_people_read_them() {
    let text = "# X\n```yaml\n$ no\n```\n```console\n$ one \\\n  -x\nout\n$ two\n```\ntext\n```console\n$ three\n…\nend\n```\n";
    let step = |command: &str, output: &[&str]| Step {
        command: command.to_owned(),
        output: output.iter().map(|line| (*line).to_owned()).collect(),
    };
    assert_eq!(steps(text), [step("one \\\n  -x", &["out"]), step("two", &[]), step("three", &["…", "end"])]);
    let like = |expected: &[&str], found: &[&str]| {
        let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        is_like(&own(expected), &own(found))
    };
    assert!(
        like(&["a…c", "…", "z"], &["abc", "x", "y", "z"])
            && like(&["…"], &[])
            && like(&["id=…;x"], &["id=1;x"])
    );
    assert!(
        !like(&["a"], &["a", "b"])
            && !like(&["a…c"], &["abd"])
            && !like(&["a", "…"], &["b"])
            && !like(&[], &["a"])
    );
}
