//! `overfall audit`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::output::{say, say_json};
use super::{ConfigFile, Format};
use crate::audit::{Progress, audit};
use crate::config::Config;
use crate::ledger::sqlite::SqliteBooks;
use crate::policy::load;

/// `overfall audit`
#[derive(Debug, Args)]
pub(super) struct Audit {
    /// The ledger file; the deployment file's where none is given
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    format: Format,
}

impl Audit {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let ledger = match self.ledger {
            Some(ledger) => ledger,
            None => Config::load(&self.config.config)?.ledger_path(),
        };
        let shows_progress = !self.format.json && std::io::stderr().is_terminal();
        let mut progress = |progress: Progress| {
            if shows_progress {
                super::output::progress(&format!("{}: {}", progress.step, progress.rows));
            }
        };
        let unread = || format!("{} cannot be audited", ledger.display());
        let books = SqliteBooks::open(&ledger).with_context(unread)?;
        let read_policy = |text: &str| load::parse("a policy in the books", text).ok();
        let report = audit(&books, &read_policy, &mut progress).with_context(unread)?;
        if shows_progress {
            super::output::progress("");
        }
        if self.format.json {
            say_json(&report)?;
        } else {
            say(report.to_string().trim_end());
        }
        Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
