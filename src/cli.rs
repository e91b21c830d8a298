//! The command line: `overfall demo`, `serve`, `policy`, `account`, `user`, `key`, `grant`, `refund`, `rerate`, `audit`,
//! `checkpoint`, `receipt`, `replay`, `reconcile`.
//!
//! Output is for people by default and for programs with `--json`; what went wrong goes to standard error with the way
//! out, and the exit code says it too: 0 done, 1 it did not go as asked, 2 the words of the command were wrong.

mod audit;
mod checkpoint;
mod correct;
mod demo;
mod node;
mod operate;
mod output;
mod policy;
mod receipt;
mod reconcile;
mod reload;
mod replay;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use node::{Node, OpenError, Stores};

/// Decides for every request to a model API how much is allowed, and from where, and keeps the books of it.
#[derive(Debug, Parser)]
#[command(name = "overfall", version, about, after_help = "Try `overfall demo` first: it needs nothing.")]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run everything on this machine: a simulated model API, the gateway before it, seeded accounts, lines to paste
    Demo(demo::Demo),
    /// Run the gateway
    Serve(serve::Serve),
    /// Check a policy file, print its schema, or explain a user's next request
    #[command(subcommand)]
    Policy(policy::PolicyVerb),
    /// Add, show and change accounts
    #[command(subcommand)]
    Account(operate::AccountVerb),
    /// Add and show the users of an account
    #[command(subcommand)]
    User(operate::UserVerb),
    /// Make, show and revoke the API keys of an account's users
    #[command(subcommand)]
    Key(operate::KeyVerb),
    /// Grant credits, adjust and show grants
    #[command(subcommand)]
    Grant(operate::GrantVerb),
    /// Give back what a call was charged, or a part of it
    Refund(correct::Refund),
    /// Price booked calls anew by a corrected policy: show what would change, or change it
    Rerate(correct::Rerate),
    /// Prove the books; exit with 1 and a list where they do not hold
    Audit(audit::Audit),
    /// Sign what the books say now, for others to keep; show the newest, and the key
    #[command(subcommand)]
    Checkpoint(checkpoint::CheckpointVerb),
    /// Prove one call's charge to somebody else: a file that is checked without the books
    Receipt(receipt::ReceiptOf),
    /// Make the books anew and compare, or tell what another policy would have done; exit with 1 where they differ
    Replay(replay::Replay),
    /// Compare a provider's usage export with the books; exit with 1 and a list where they differ
    Reconcile(reconcile::Reconcile),
}

/// Where the deployment file is.
#[derive(Clone, Debug, Args)]
struct ConfigFile {
    /// The deployment file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "config/overfall.yaml")]
    config: PathBuf,
}

/// Which books are read.
#[derive(Clone, Debug, Args)]
struct LedgerFile {
    /// The ledger file; the deployment file's where none is given
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

impl LedgerFile {
    /// The file.
    fn path(self) -> anyhow::Result<PathBuf> {
        match self.ledger {
            Some(ledger) => Ok(ledger),
            None => Ok(crate::config::Config::load(&self.config.config)?.ledger_path()),
        }
    }
}

/// How the answer is printed.
#[derive(Clone, Copy, Debug, Args)]
struct Format {
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Carries out a command.
pub fn run(command: Command) -> ExitCode {
    let done = match command.verb {
        Verb::Demo(demo) => demo.run(),
        Verb::Serve(serve) => serve.run(),
        Verb::Policy(verb) => verb.run(),
        Verb::Account(verb) => verb.run(),
        Verb::User(verb) => verb.run(),
        Verb::Key(verb) => verb.run(),
        Verb::Grant(verb) => verb.run(),
        Verb::Refund(refund) => refund.run(),
        Verb::Rerate(rerate) => rerate.run(),
        Verb::Audit(audit) => audit.run(),
        Verb::Checkpoint(verb) => verb.run(),
        Verb::Receipt(receipt) => receipt.run(),
        Verb::Replay(replay) => replay.run(),
        Verb::Reconcile(reconcile) => reconcile.run(),
    };
    done.unwrap_or_else(|error| {
        output::complain(&error);
        ExitCode::FAILURE
    })
}
