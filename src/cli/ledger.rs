//! `overfall ledger`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::books::OpenBooks;
use super::node::FolderLock;
use super::output::say;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::{Scope, audit};
use crate::config::LedgerAt;
use crate::ledger::postgres::take_over;
use crate::ledger::sqlite::SqliteBooks;
use crate::policy::load;
use crate::units::time::Clock;

/// `overfall ledger`
#[derive(Debug, Subcommand)]
pub(super) enum LedgerVerb {
    /// Move the books of a file to a PostgreSQL server, and prove that both sides are equal
    Move(Move),
}

/// From where, and to where.
#[derive(Debug, Args)]
pub(super) struct Move {
    /// The ledger file of a gateway that does not run
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The address of the PostgreSQL server, `postgres://user:password@host:port/database`; its ledger has to be empty
    #[arg(long, value_name = "ADDRESS", env = "OVERFALL_LEDGER_URL", hide_env_values = true)]
    to: LedgerAt,
}

impl LedgerVerb {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Move(this) => this.run(),
        }
    }
}

impl Move {
    fn run(self) -> anyhow::Result<ExitCode> {
        let LedgerAt::Server(address) = &self.to else {
            bail!(
                "{} is no address of a PostgreSQL server: postgres://user:password@host:port/database",
                self.to
            )
        };
        let folder = self.from.parent().filter(|folder| !folder.as_os_str().is_empty());
        // A gateway would go on booking into the file.
        let _lock = FolderLock::take(folder.unwrap_or(Path::new(".")))?;
        let unread = || format!("{} cannot be read", self.from.display());
        let from = SqliteBooks::open(&self.from).with_context(unread)?;
        let shows_progress = std::io::stderr().is_terminal();
        take_over(address.as_address(), &from, &mut |table, rows| {
            if shows_progress {
                super::output::progress(&format!("{rows} rows of {table}"));
            }
        })?;
        if shows_progress {
            super::output::progress("");
        }
        let file = Proof::of(&LedgerAt::File(self.from.clone()))?;
        let there = Proof::of(&self.to)?;
        if file != there {
            bail!("the two sides are not equal:\n{}\n{}", file.text, there.text);
        }
        say(&format!(
            "moved to {}; both sides hold, and their heads are equal: {}\n{}",
            self.to, there.root, there.text
        ));
        Ok(ExitCode::SUCCESS)
    }
}

/// What the audit says of one side, and the root over its heads.
#[derive(PartialEq, Eq)]
struct Proof {
    root: String,
    text: String,
}

impl Proof {
    fn of(ledger: &LedgerAt) -> anyhow::Result<Self> {
        let unread = || format!("{ledger} cannot be audited");
        let books = OpenBooks::whole(ledger).with_context(unread)?;
        let read_policy = |text: &str| load::parse("a policy in the books", text).ok().map(Arc::new);
        let report =
            audit(books.books(), &read_policy, Scope::default(), &mut |_| {}).with_context(unread)?;
        let text = report.to_string().trim_end().to_owned();
        if !report.holds() {
            bail!("{ledger} does not hold:\n{text}");
        }
        let checkpoint = Checkpoint::take(books.books(), Clock::machine().now()).with_context(unread)?;
        Ok(Self { root: checkpoint.root.clone(), text })
    }
}
