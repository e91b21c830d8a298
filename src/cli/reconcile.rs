//! `overfall reconcile`.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::books::OpenBooks;
use super::output::{say, say_json};
use super::{Format, LedgerFile};
use crate::audit::reconcile::{Export, reconcile};

/// `overfall reconcile`
#[derive(Debug, Args)]
pub(super) struct Reconcile {
    /// The provider's usage export: pages of the organisation usage endpoint as JSON, or CSV
    #[arg(value_name = "FILE")]
    export: PathBuf,
    #[command(flatten)]
    ledger: LedgerFile,
    #[command(flatten)]
    format: Format,
}

impl Reconcile {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let unread = || format!("{} cannot be reconciled", self.export.display());
        let export = BufReader::new(File::open(&self.export).with_context(unread)?);
        let export = Export::read(export).with_context(unread)?;
        let ledger = self.ledger.clone().at()?;
        let books = OpenBooks::at(&ledger).with_context(|| format!("{ledger} cannot be read"))?;
        let told = reconcile(&export, books.recorded()).with_context(unread)?;
        if self.format.json {
            say_json(&told)?;
        } else {
            say(told.to_string().trim_end());
        }
        Ok(if told.agrees() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
