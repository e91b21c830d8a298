//! `overfall account`, `user`, `key`, `grant`: the operator's API from the command line.

mod channel;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub(super) use channel::Channel;

use super::output::{say, say_json};
use super::{ConfigFile, Format};

#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) config: ConfigFile,
    #[command(flatten)]
    pub(super) format: Format,
}

/// `overfall account …`
#[derive(Debug, Subcommand)]
pub(super) enum AccountVerb {
    /// Add an account
    Create {
        /// Its name; unique
        name: String,
        /// A plan of the policy
        #[arg(long)]
        plan: String,
        #[command(flatten)]
        common: Common,
    },
    /// List accounts
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show an account and what its users have left
    Show {
        /// Its id or name
        account: String,
        #[command(flatten)]
        common: Common,
    },
    /// Change an account's plan or status
    Set {
        /// Its id or name
        account: String,
        /// Another plan of the policy
        #[arg(long)]
        plan: Option<String>,
        /// `active` or `suspended`
        #[arg(long)]
        status: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

/// `overfall user …`
#[derive(Debug, Subcommand)]
pub(super) enum UserVerb {
    /// Add a user to an account
    Create {
        /// The user's name; unique in the account
        name: String,
        /// The account's id or name
        #[arg(long)]
        account: String,
        #[command(flatten)]
        common: Common,
    },
    /// List the users of an account
    List {
        /// The account's id or name
        #[arg(long)]
        account: String,
        #[command(flatten)]
        common: Common,
    },
}

/// `overfall key …`
#[derive(Debug, Subcommand)]
pub(super) enum KeyVerb {
    /// Make a key for a user; it is shown once
    Create {
        /// The account's id or name
        #[arg(long)]
        account: String,
        /// The user's id or name
        #[arg(long)]
        user: String,
        /// When it expires, as in 2027-01-31T00:00:00Z
        #[arg(long)]
        expires_at: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// List the keys of an account
    List {
        /// The account's id or name
        #[arg(long)]
        account: String,
        #[command(flatten)]
        common: Common,
    },
    /// Revoke a key at once
    Revoke {
        /// The key's id, `key_…`
        key: String,
        #[command(flatten)]
        common: Common,
    },
}

/// `overfall grant …`
#[derive(Debug, Subcommand)]
pub(super) enum GrantVerb {
    /// Grant credits to an account or a user
    Create {
        /// The account's id or name
        #[arg(long)]
        account: String,
        /// A balance of the policy
        #[arg(long)]
        balance: String,
        /// How many credits, as in 12.5
        #[arg(long)]
        amount: String,
        /// The user's id or name, for a balance of users
        #[arg(long)]
        user: Option<String>,
        /// The same for a repeated order; a new one each time where none is given
        #[arg(long)]
        idempotency_key: Option<String>,
        /// When it expires, as in 2027-01-31T00:00:00Z
        #[arg(long)]
        expires_at: Option<String>,
        /// Lower is drawn first
        #[arg(long)]
        priority: Option<u16>,
        /// Kept in the books
        #[arg(long)]
        note: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// List the grants of an account, in the order they are drawn
    List {
        /// The account's id or name
        #[arg(long)]
        account: String,
        #[command(flatten)]
        common: Common,
    },
    /// Add credits to a grant or take some out, or change what a balance owes; never what requests in flight hold
    #[command(after_help = ADJUST_HELP)]
    Adjust {
        /// The account's id or name
        #[arg(long)]
        account: String,
        /// The grant, `grt_…`
        #[arg(long, required_unless_present = "debt_of", conflicts_with_all = ["debt_of", "user"])]
        grant: Option<String>,
        /// The balance whose debt is changed
        #[arg(long, value_name = "BALANCE")]
        debt_of: Option<String>,
        /// The user's id or name, for the debt of a balance of users
        #[arg(long)]
        user: Option<String>,
        /// How many credits are added, as in 2.5; with a minus, how many are taken out
        #[arg(long, allow_hyphen_values = true)]
        amount: String,
        /// Why; kept in the books
        #[arg(long)]
        reason: String,
        /// The same for a repeated order; a new one each time where none is given
        #[arg(long)]
        idempotency_key: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// List the adjustments of an account, in the order in which they were made
    Adjustments {
        /// The account's id or name
        #[arg(long)]
        account: String,
        #[command(flatten)]
        common: Common,
    },
}

const ADJUST_HELP: &str = "What is added to a grant pays what the balance owes first. A grant is not adjusted once it has \
expired: grant anew.\n\nExamples:\n  overfall grant adjust --account acme --grant grt_… --amount 5 --reason \"an outage\"\n  \
overfall grant adjust --account acme --debt-of wallet --amount 3 --reason \"their debt is ours\"";

const ACCOUNT: &[&str] = &["id", "name", "plan", "status"];
const USER: &[&str] = &["id", "name"];
const KEY: &[&str] = &["id", "user", "hint", "expires_at", "revoked_at"];
const GRANT: &[&str] = &["id", "balance", "user", "amount", "remaining", "expires_at"];
const ADJUSTMENT: &[&str] = &["id", "balance", "grant", "amount", "repaid", "at", "reason"];

impl AccountVerb {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create { name, plan, common } => {
                common.one("POST", "/accounts", Some(json!({"name": name, "plan": plan})), ACCOUNT)
            }
            Self::List { common } => common.list("/accounts", ACCOUNT),
            Self::Show { account, common } => common.show(&account),
            Self::Set { account, plan, status, common } => {
                let change = without_null(json!({"plan": plan, "status": status}));
                common.one("PATCH", &format!("/accounts/{}", escaped(&account)), Some(change), ACCOUNT)
            }
        }
    }
}

impl UserVerb {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create { name, account, common } => {
                let path = format!("/accounts/{}/users", escaped(&account));
                common.one("POST", &path, Some(json!({"name": name})), USER)
            }
            Self::List { account, common } => {
                common.list(&format!("/accounts/{}/users", escaped(&account)), USER)
            }
        }
    }
}

impl KeyVerb {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create { account, user, expires_at, common } => {
                let path = format!("/accounts/{}/users/{}/keys", escaped(&account), escaped(&user));
                let body = without_null(json!({"expires_at": expires_at}));
                let made = Channel::open(&common.config.config)?.call("POST", &path, Some(body))?;
                if common.format.json {
                    say_json(&made)?;
                } else {
                    say(made["key"].as_str().unwrap_or_default());
                }
                Ok(ExitCode::SUCCESS)
            }
            Self::List { account, common } => {
                common.list(&format!("/accounts/{}/keys", escaped(&account)), KEY)
            }
            Self::Revoke { key, common } => {
                let path = format!("/keys/{}/revoke", escaped(&key));
                Channel::open(&common.config.config)?.call("POST", &path, None)?;
                if !common.format.json {
                    say(&format!("{key} is revoked"));
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl GrantVerb {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create {
                account,
                balance,
                amount,
                user,
                idempotency_key,
                expires_at,
                priority,
                note,
                common,
            } => {
                let key = idempotency_key.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
                let order = without_null(json!({
                    "balance": balance, "amount": amount, "user": user, "idempotency_key": key,
                    "expires_at": expires_at, "priority": priority, "note": note,
                }));
                common.one("POST", &format!("/accounts/{}/grants", escaped(&account)), Some(order), GRANT)
            }
            Self::List { account, common } => {
                common.list(&format!("/accounts/{}/grants", escaped(&account)), GRANT)
            }
            Self::Adjust { account, grant, debt_of, user, amount, reason, idempotency_key, common } => {
                let key = idempotency_key.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
                let order = without_null(json!({
                    "grant": grant, "debt_of": debt_of, "user": user, "amount": amount, "reason": reason,
                    "idempotency_key": key,
                }));
                let path = format!("/accounts/{}/adjustments", escaped(&account));
                common.one("POST", &path, Some(order), ADJUSTMENT)
            }
            Self::Adjustments { account, common } => {
                common.list(&format!("/accounts/{}/adjustments", escaped(&account)), ADJUSTMENT)
            }
        }
    }
}

impl Common {
    /// One call that answers with one thing.
    pub(super) fn one(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        columns: &[&str],
    ) -> anyhow::Result<ExitCode> {
        let item = Channel::open(&self.config.config)?.call(method, path, body)?;
        if self.format.json {
            say_json(&item)?;
        } else {
            table(columns, &[item]);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A whole list, page by page.
    fn list(&self, path: &str, columns: &[&str]) -> anyhow::Result<ExitCode> {
        let mut channel = Channel::open(&self.config.config)?;
        let items = channel.list(path)?;
        if self.format.json {
            say_json(&items)?;
        } else {
            table(columns, &items);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn show(&self, account: &str) -> anyhow::Result<ExitCode> {
        let mut channel = Channel::open(&self.config.config)?;
        let path = format!("/accounts/{}", escaped(account));
        let shown = channel.call("GET", &path, None)?;
        let mut users = channel.list(&format!("{path}/users"))?;
        for user in &mut users {
            let id = user["id"].as_str().unwrap_or_default().to_owned();
            user["access"] = channel.call("GET", &format!("{path}/users/{id}/access"), None)?;
        }
        if self.format.json {
            say_json(&json!({"account": shown, "users": users}))?;
            return Ok(ExitCode::SUCCESS);
        }
        table(ACCOUNT, &[shown]);
        for user in &users {
            say(&format!("\n{} ({})", text(&user["name"]), text(&user["id"])));
            say(&serde_json::to_string_pretty(&user["access"]["features"])?);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Leaves out members that are null.
pub(super) fn without_null(mut value: Value) -> Value {
    if let Value::Object(members) = &mut value {
        members.retain(|_, member| !member.is_null());
    }
    value
}

/// A name as one part of a path.
pub(super) fn escaped(part: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte: u8| {
        if unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    part.bytes().map(escape).collect()
}

pub(super) fn table(columns: &[&str], items: &[Value]) {
    let rows: Vec<Vec<String>> =
        items.iter().map(|item| columns.iter().map(|column| text(&item[*column])).collect()).collect();
    let width = |place: usize| {
        let cells = rows.iter().map(|row| row[place].chars().count());
        cells.chain([columns[place].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    say(&line(&mut columns.iter().copied()));
    for row in &rows {
        say(&line(&mut row.iter().map(String::as_str)));
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
