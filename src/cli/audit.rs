//! `overfall audit`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use super::books::OpenBooks;
use super::output::{say, say_json};
use super::{ConfigFile, Format, checkpoint};
use crate::audit::holds::{Ends, InFlight};
use crate::audit::{Progress, Scope, audit};
use crate::config::{Config, LedgerAt};
use crate::policy::load;
use crate::units::Timestamp;
use crate::units::time::Clock;

/// `overfall audit`
#[derive(Debug, Args)]
pub(super) struct Audit {
    /// The ledger, without what is in flight: a file, or the address of a PostgreSQL server. Where none is given, that of
    /// the deployment file, and all that its data folder holds
    #[arg(long, value_name = "LEDGER")]
    ledger: Option<LedgerAt>,
    /// Only what has happened since this instant (RFC 3339, or a day in UTC); what came before is believed
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    since: Option<Timestamp>,
    /// Only this account, by its id or name
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Hold the books against this checkpoint: nothing before it may have changed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "account"])]
    checkpoint: Option<PathBuf>,
    /// The public key that the checkpoint must be signed under; any where none is given
    #[arg(long, value_name = "KEY", requires = "checkpoint")]
    key: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    format: Format,
}

impl Audit {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let (ledger, data) = if let Some(ledger) = self.ledger {
            (ledger, None)
        } else {
            let config = Config::load(&self.config.config)?;
            (config.ledger_at()?, Some(config.data))
        };
        let shows_progress = std::io::stderr().is_terminal();
        let mut progress = |progress: Progress| {
            if shows_progress {
                let Progress { step, rows, of } = progress;
                super::output::progress(&format!("{rows} of {of} {step}"));
            }
        };
        let unread = || format!("{ledger} cannot be audited");
        let books = OpenBooks::whole(&ledger).with_context(unread)?;
        // After the books are opened, so that what is booked meanwhile is not found open.
        let in_flight = match &data {
            Some(data) => {
                let unread = || format!("{} cannot be looked at", data.display());
                let ends = if matches!(ledger, LedgerAt::Server(_)) { Ends::Anywhere } else { Ends::Here };
                Some(InFlight::look(data, ends, Clock::machine().now()).with_context(unread)?)
            }
            None => None,
        };
        let account = match &self.account {
            Some(wanted) => {
                let found = books.account(wanted).with_context(unread)?;
                Some(found.with_context(|| format!("there is no account {wanted}"))?)
            }
            None => None,
        };
        let signed = self.checkpoint.as_deref().map(checkpoint::read).transpose()?;
        let checkpoint = match &signed {
            Some(signed) => Some(signed.verify(self.key.as_deref())?),
            None => None,
        };
        let scope = Scope { since: self.since, account, checkpoint };
        let read_policy = |text: &str| load::parse("a policy in the books", text).ok().map(Arc::new);
        let mut report = audit(books.books(), &read_policy, scope, &mut progress).with_context(unread)?;
        if let Some(in_flight) = in_flight {
            in_flight.check(books.books(), account, &mut report).with_context(unread)?;
        }
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

/// An instant, or the beginning of a day in UTC.
pub(super) fn instant(text: &str) -> Result<Timestamp, String> {
    let instant = text.parse::<jiff::Timestamp>();
    let instant = instant.or_else(|_| format!("{text}T00:00:00Z").parse::<jiff::Timestamp>());
    let instant = instant.map_err(|_| "write it as 2026-11-22T15:04:05Z or 2026-11-22".to_owned())?;
    Ok(Timestamp::from_ms(instant.as_millisecond()))
}
