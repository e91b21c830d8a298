//! `overfall refund` and `overfall rerate`: what a call was charged, set right.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use super::audit::instant;
use super::operate::{Channel, Common, escaped, table, without_null};
use super::output::{say, say_json};
use crate::units::{Credits, SignedCredits, Timestamp};

const REFUND: &[&str] = &["id", "decision", "revision", "amount", "charged", "reason"];
const CHANGE: &[&str] =
    &["decision", "model", "ended_at", "gross_before", "gross", "charged_before", "charged", "stays"];
const SUM: &[&str] =
    &["account", "model", "calls", "gross_before", "gross", "charged_before", "charged", "stay"];
/// Calls that are shown one by one; all are summed.
const SHOWN: usize = 20;

/// `overfall refund`
#[derive(Debug, Args)]
#[command(
    after_help = "It becomes the next revision of the call's money: what the call still owes goes first, then what \
its last grants gave. What goes back to a grant that has expired expires at once.\n\nExample:\n  overfall refund dec_… \
--amount 1.5 --reason \"an outage\""
)]
pub(super) struct Refund {
    /// The call: its decision, `dec_…`
    decision: String,
    /// How many credits, as in 1.5; all that is charged where none is said
    #[arg(long)]
    amount: Option<String>,
    /// Why; kept in the books
    #[arg(long)]
    reason: String,
    /// The same for a repeated order; a new one each time where none is given
    #[arg(long)]
    idempotency_key: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// `overfall rerate`
#[derive(Debug, Args)]
#[command(
    after_help = "Without --apply nothing is changed: read what would change first. The corrected policy gives the \
prices; limits and plans stay those that decided. A call that it has priced already is passed over, so that doing it \
again does it once.\n\nExample:\n  overfall rerate --since 2026-11-01 --until 2026-11-03 --policy corrected.yaml\n  \
overfall rerate --since 2026-11-01 --until 2026-11-03 --policy corrected.yaml --apply --reason \"output was priced ten \
times too high\""
)]
pub(super) struct Rerate {
    /// Calls that ended from this instant on (RFC 3339, or a day in UTC)…
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    since: Timestamp,
    /// … and before this one
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    until: Timestamp,
    /// The corrected policy
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Only this account, by id or name
    #[arg(long)]
    account: Option<String>,
    /// Only this model; with a star behind it, all that begin so
    #[arg(long)]
    model: Option<String>,
    /// Make the revisions
    #[arg(long, requires = "reason")]
    apply: bool,
    /// Why; kept in the books
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Refund {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let key = self.idempotency_key.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let order =
            without_null(json!({"amount": self.amount, "reason": self.reason, "idempotency_key": key}));
        let path = format!("/decisions/{}/refunds", escaped(&self.decision));
        self.common.one("POST", &path, Some(order), REFUND)
    }
}

/// What calls of one account and model come to.
#[derive(Default)]
struct Sum {
    calls: u64,
    stay: u64,
    gross_before: Credits,
    gross: Credits,
    charged_before: Credits,
    charged: Credits,
}

/// All that is told.
#[derive(Default)]
struct Told {
    looked_at: u64,
    already: u64,
    shown: Vec<Value>,
    items: Vec<Value>,
    sums: BTreeMap<(String, String), Sum>,
}

impl Rerate {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let file = self.policy.display();
        let policy =
            std::fs::read_to_string(&self.policy).with_context(|| format!("{file} cannot be read"))?;
        let mut channel = Channel::open(&self.common.config.config)?;
        let accounts = match &self.account {
            Some(account) => vec![channel.call("GET", &format!("/accounts/{}", escaped(account)), None)?],
            None => channel.list("/accounts")?,
        };
        let shows_progress = !self.common.format.json && std::io::stderr().is_terminal();
        let mut told = Told::default();
        for (nth, account) in accounts.iter().enumerate() {
            self.account(&mut channel, account, &policy, &mut told, |looked_at| {
                if shows_progress {
                    let accounts = accounts.len();
                    super::output::progress(&format!("{looked_at} calls, account {} of {accounts}", nth + 1));
                }
            })?;
        }
        if shows_progress {
            super::output::progress("");
        }
        if self.common.format.json {
            say_json(&told.json(self.apply))?;
        } else {
            told.say(self.apply);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn account(
        &self,
        channel: &mut Channel,
        account: &Value,
        policy: &str,
        told: &mut Told,
        progress: impl Fn(u64),
    ) -> anyhow::Result<()> {
        let path = format!("/accounts/{}/rerate", text(account, "id"));
        let mut before = Value::Null;
        loop {
            let asked = without_null(json!({
                "policy": policy, "since": self.since.to_string(), "until": self.until.to_string(),
                "model": self.model, "before": before, "apply": self.apply, "reason": self.reason,
            }));
            let mut page = channel.call("POST", &path, Some(asked))?;
            told.looked_at += page["looked_at"].as_u64().unwrap_or(0);
            told.already += page["already"].as_u64().unwrap_or(0);
            if let Value::Array(items) = page["items"].take() {
                for item in items {
                    told.add(account, item, self.common.format.json)?;
                }
            }
            progress(told.looked_at);
            before = page["before"].take();
            if before.is_null() {
                return Ok(());
            }
        }
    }
}

impl Told {
    fn add(&mut self, account: &Value, item: Value, keeps_all: bool) -> anyhow::Result<()> {
        let amount = |name: &str| text(&item, name).parse::<Credits>();
        let key = (text(account, "name").to_owned(), text(&item, "model").to_owned());
        let sum = self.sums.entry(key).or_default();
        sum.calls += 1;
        sum.stay += u64::from(!item["stays"].is_null());
        for (into, name) in [
            (&mut sum.gross_before, "gross_before"),
            (&mut sum.gross, "gross"),
            (&mut sum.charged_before, "charged_before"),
            (&mut sum.charged, "charged"),
        ] {
            *into = into.saturating_add(amount(name)?);
        }
        if keeps_all {
            self.items.push(item);
        } else if self.shown.len() < SHOWN {
            self.shown.push(item);
        }
        Ok(())
    }

    fn sums(&self) -> Vec<Value> {
        let sums = self.sums.iter().map(|((account, model), sum)| {
            json!({
                "account": account, "model": model, "calls": sum.calls, "stay": sum.stay,
                "gross_before": sum.gross_before.to_string(), "gross": sum.gross.to_string(),
                "charged_before": sum.charged_before.to_string(), "charged": sum.charged.to_string(),
            })
        });
        sums.collect()
    }

    fn json(&self, applied: bool) -> Value {
        json!({
            "applied": applied, "looked_at": self.looked_at, "already": self.already, "items": self.items,
            "sums": self.sums(),
        })
    }

    fn say(&self, applied: bool) {
        let calls: u64 = self.sums.values().map(|sum| sum.calls).sum();
        if calls == 0 {
            say(&format!("no call is priced otherwise; {} were priced so already", self.already));
            return;
        }
        table(CHANGE, &self.shown);
        let more = calls.saturating_sub(self.shown.len() as u64);
        if more > 0 {
            say(&format!("… and {more} more; --json tells all"));
        }
        say("");
        table(SUM, &self.sums());
        let charged = self.sums.values().fold(SignedCredits::ZERO, |all, sum| {
            let change = sum.charged.signed().checked_sub(sum.charged_before.signed()).unwrap_or_default();
            all.checked_add(change).unwrap_or_default()
        });
        let done = if applied { "are corrected" } else { "would be corrected" };
        say(&format!("\n{calls} calls {done}; what is charged changes by {charged} credits"));
        if !applied {
            say("nothing is changed without --apply");
        }
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}
