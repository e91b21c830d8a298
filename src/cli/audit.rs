//! `overfall audit`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::output::{say, say_json};
use super::{ConfigFile, Format};
use crate::config::Config;

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
        let progress = |progress: &crate::audit::Progress| {
            if shows_progress {
                super::output::progress(&progress.to_string());
            }
        };
        let report = crate::audit::audit(&ledger, progress)
            .with_context(|| format!("{} cannot be audited", ledger.display()))?;
        if shows_progress {
            super::output::progress("");
        }
        if self.format.json {
            say_json(&report)?
        } else {
            say(&report.to_string())
        }
        Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
