//! `overfall policy check|schema|explain`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use serde_json::{Value, json};

use super::operate::{Channel, escaped};
use super::output::{say, say_json};
use super::{ConfigFile, Format};
use crate::policy::load;

/// `overfall policy …`
#[derive(Debug, Subcommand)]
pub(super) enum PolicyVerb {
    /// Check a policy file: every problem at once, exit 1 if there is one
    Check {
        /// The file
        #[arg(default_value = "config/policy.yaml")]
        file: PathBuf,
        #[command(flatten)]
        format: Format,
    },
    /// Print the JSON Schema of policy files, for editors
    Schema,
    /// What would happen to a user's next request, and why
    Explain {
        /// The account's id or name
        #[arg(long)]
        account: String,
        /// The user's id or name
        #[arg(long)]
        user: String,
        /// The model
        #[arg(long)]
        model: String,
        /// `responses` or `chat`
        #[arg(long, default_value = "responses")]
        api: String,
        /// The prompt's length
        #[arg(long, default_value_t = 1000)]
        input_tokens: u64,
        /// The answer's length, or the bound on it
        #[arg(long, default_value_t = 1000)]
        output_tokens: u64,
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        format: Format,
    },
}

impl PolicyVerb {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Check { file, format } => check(&file, format),
            Self::Schema => say_json(&load::schema()).map(|()| ExitCode::SUCCESS),
            Self::Explain { account, user, model, api, input_tokens, output_tokens, config, format } => {
                let path = format!("/accounts/{}/users/{}/explain", escaped(&account), escaped(&user));
                let question = json!({
                    "api": api, "model": model, "input_tokens": input_tokens, "output_tokens": output_tokens,
                });
                let explanation = Channel::open(&config.config)?.call("POST", &path, Some(question))?;
                if format.json {
                    say_json(&explanation)?;
                } else {
                    say(&told(&explanation));
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn check(file: &Path, format: Format) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    match load::parse(&file.display().to_string(), &text) {
        Ok(policy) if format.json => {
            say_json(&json!({"version": policy.version.to_string(), "problems": []}))?;
        }
        Ok(policy) => say(&format!("{}: good, version {}", file.display(), policy.version)),
        Err(problems) => {
            if format.json {
                say_json(&problems)?;
            } else {
                say(problems.to_string().trim_end());
            }
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An explanation for people.
fn told(explanation: &Value) -> String {
    let text = |member: &str| explanation[member].as_str().unwrap_or("-").to_owned();
    let mut lines = vec![format!("{} (plan {}, policy {})", text("decision"), text("plan"), text("policy"))];
    let mut line = |label: &str, member: &str| {
        if !explanation[member].is_null() {
            let value = &explanation[member];
            lines.push(format!(
                "  {label}: {}",
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            ));
        }
    };
    line("price in credits", "price");
    line("because", "reason");
    line("binding", "binding");
    line("passes at", "next");
    line("credits needed", "need");
    line("credits there", "have");
    line("cut down to output tokens", "max_output_tokens");
    for source in explanation["sources"].as_array().into_iter().flatten() {
        let part = |member: &str| source[member].as_str().unwrap_or("-");
        lines.push(format!("  from {}: {} {}", part("layer"), part("amount"), part("unit")));
    }
    lines.join("\n")
}
