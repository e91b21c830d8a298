//! `overfall replay`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use super::audit::instant;
use super::books::OpenBooks;
use super::output::{say, say_json};
use super::{Format, LedgerFile};
use crate::audit::replay::{replay, what_if};
use crate::policy::load;
use crate::units::Timestamp;

/// `overfall replay`
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Tell what this policy would have done to the recorded calls and blocks
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Count only requests from this instant on (RFC 3339, or a day in UTC); earlier ones make the accounts what they were
    #[arg(long, value_name = "INSTANT", requires = "policy", value_parser = instant)]
    since: Option<Timestamp>,
    #[command(flatten)]
    ledger: LedgerFile,
    #[command(flatten)]
    format: Format,
}

impl Replay {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let ledger = self.ledger.at()?;
        let shows_progress = !self.format.json && std::io::stderr().is_terminal();
        let mut progress = |rows: u64| {
            if shows_progress {
                super::output::progress(&format!("replayed: {rows}"));
            }
        };
        let unread = || format!("{ledger} cannot be replayed");
        let books = OpenBooks::at(&ledger).with_context(unread)?;
        let (text, json, is_same) = if let Some(file) = &self.policy {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(file).with_context(|| format!("{name} cannot be read"))?;
            let policy = match load::parse(&name, &text) {
                Ok(policy) => Arc::new(policy),
                Err(problems) => anyhow::bail!("{name} is no policy\n{}", problems.to_string().trim_end()),
            };
            let told = what_if::what_if(books.recorded(), &policy, self.since, &mut progress)
                .with_context(unread)?;
            (told.to_string(), serde_json::to_value(&told)?, true)
        } else {
            let read_policy = |text: &str| load::parse("a policy in the books", text).ok().map(Arc::new);
            let report = replay(books.recorded(), &read_policy, &mut progress).with_context(unread)?;
            (report.to_string(), serde_json::to_value(&report)?, report.is_same())
        };
        if shows_progress {
            super::output::progress("");
        }
        if self.format.json {
            say_json(&json)?;
        } else {
            say(text.trim_end());
        }
        Ok(if is_same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
