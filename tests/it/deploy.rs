//! What `deploy/` has is right as far as a machine can tell that runs none of it: by the schemas and linters of those who
//! read it, by what the files say of each other, and by the gateway and the worker that they start.

mod compose;
mod fleet;
mod kubernetes;
mod monitoring;
mod systemd;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::{packages, workspace};

/// A file of `deploy/`.
fn path(name: &str) -> PathBuf {
    workspace::root().join("deploy").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("deploy/{name}: {error}"))
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&text(name)).unwrap_or_else(|error| panic!("deploy/{name}: {error}"))
}

/// The texts of a list.
fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap_or_else(|| panic!("a list: {list}"));
    list.iter().map(|item| item.as_str().expect("a text")).collect()
}

/// The names that a file of `NAME=value` lines sets, without values: an example gives away nothing, and no default.
fn names_to_fill_in(name: &str) -> Vec<String> {
    let text = text(name);
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            line.strip_suffix('=').unwrap_or_else(|| panic!("deploy/{name}: {line}: no value")).to_owned()
        })
        .collect()
}

/// A number of seconds, as in `60s`, `2m` and `1min`.
fn seconds(time: &str) -> u64 {
    let digits = time.trim_end_matches(char::is_alphabetic);
    let unit = match &time[digits.len()..] {
        "s" => 1,
        "m" | "min" => 60,
        other => panic!("{other} of {time}"),
    };
    digits.parse::<u64>().expect("a number") * unit
}

/// How long a gateway may take to end: requests in flight, the tasks beside them, and half a minute for the books.
fn gateway_ends_within() -> u64 {
    seconds(yaml("fleet/overfall.yaml")["limits"]["shutdown_grace"].as_str().expect("a time")) + 10 + 30
}

/// Runs a program that judges files, and asserts that it is content.
#[track_caller]
fn content(command: &mut Command) {
    // Servers stand where only root's PATH leads.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}: `make tools` installs it"));
    packages::succeeded(&format!("{command:?}"), &output);
}
