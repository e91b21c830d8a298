//! `overfall receipt`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::books::OpenBooks;
use super::checkpoint::Checkpoints;
use super::output::{say, say_json};
use super::{ConfigFile, Format};
use crate::audit::receipt::{Receipt, Told};
use crate::config::Config;
use crate::policy::load;
use crate::units::DecisionId;
use crate::units::time::Clock;

/// `overfall receipt`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct ReceiptOf {
    #[command(subcommand)]
    verb: Option<ReceiptVerb>,
    /// The decision, as `X-Access-Decision` names it
    #[arg(required = true)]
    decision: Option<DecisionId>,
    /// Where to write it; to standard output where none is given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Leave the text of the policy out: then nobody can price the call again
    #[arg(long)]
    without_policy: bool,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, Subcommand)]
enum ReceiptVerb {
    /// Check a receipt: needs no books, no gateway and no network
    Verify(Verify),
}

#[derive(Debug, Args)]
struct Verify {
    /// The receipt
    file: PathBuf,
    /// The public key that is trusted, as `overfall checkpoint key` shows it; whatever the receipt names where none is given
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    format: Format,
}

impl ReceiptOf {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(ReceiptVerb::Verify(verify)) = self.verb {
            return verify.run();
        }
        let decision = self.decision.context("which decision?")?;
        let config = Config::load(&self.config.config)?;
        let books = OpenBooks::at(&config.ledger_at()?).context("the books cannot be read")?;
        let (key, now) = (Checkpoints::of(&config).key()?, Clock::machine().now());
        let receipt = Receipt::make(books.books(), decision, &key, now, !self.without_policy)
            .with_context(|| format!("there is no receipt of {decision}"))?;
        match &self.output {
            None => say_json(&receipt)?,
            Some(file) => {
                let text = serde_json::to_string_pretty(&receipt)?;
                let unkept = || format!("{} cannot be written", file.display());
                std::fs::write(file, text + "\n").with_context(unkept)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Verify {
    fn run(self) -> anyhow::Result<ExitCode> {
        let unread = || format!("{} is not a receipt", self.file.display());
        let text = std::fs::read_to_string(&self.file).with_context(unread)?;
        let receipt: Receipt = serde_json::from_str(&text).with_context(unread)?;
        let read_policy = |text: &str| load::parse("the policy in the receipt", text).ok().map(Arc::new);
        let told = receipt.verify(self.key.as_deref(), &read_policy).context("the receipt proves nothing")?;
        if self.format.json {
            say_json(told)?;
        } else {
            let key = &receipt.signed.key;
            let priced = receipt
                .policy
                .as_ref()
                .map_or("not priced again: its policy is left out", |_| "priced again by its policy");
            say(&format!("{}\nproved under the key {key}; {priced}", shown(told)));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn shown(told: &Told) -> String {
    let Told {
        decision,
        account,
        user,
        what,
        ended_at,
        used,
        price,
        gross,
        covered,
        forgiven,
        charged,
        balances,
        corrections,
    } = told;
    let mut text = format!(
        "{decision} of {user} in {account}, ended {ended_at}\n{what}: {} input tokens, {} cached, {} output tokens, \
         {} seconds\nprice {price} micro-credits: {gross} credits = {covered} covered + {forgiven} forgiven + {charged} \
         charged",
        used.input_tokens, used.cached_input_tokens, used.output_tokens, used.seconds,
    );
    for balance in balances {
        text.push_str("\nbalance ");
        text.push_str(balance);
    }
    for correction in corrections {
        text.push_str("\ncorrected: ");
        text.push_str(correction);
    }
    text
}
