//! From the file as written to the policy: what belongs together, what refers to what, what could never matter.
//!
//! Every check reports and goes on with what it understood. A part that was left out by the decoder is not taken for
//! absent, so that one mistake is told once. What comes out is a policy only if nothing was reported. No check reads a
//! clock: a policy that is valid today is valid for ever.

mod features;
mod guards;
mod layers;
mod plans;
mod prices;
mod windows;

use std::sync::Arc;

use super::compiled::{Balance, Issue, Policy};
use super::decode::{At, Map, missing_key};
use super::keys::{Identity, Keys};
use super::prices::PriceBook;
use super::problem::{Place, Sink};
use super::raw::{self, Document};
use super::scalars::NameSpelling;
use crate::units::PolicyVersion;

/// The balances as written, by name.
type Balances = Map<NameSpelling, raw::Balance>;
/// The features as written, by name.
type Features = Map<NameSpelling, raw::Feature>;

/// The policy of a document.
pub(super) fn check(document: &Document, text: &str, problems: &mut Sink<'_>) -> Policy {
    check_head(document, problems);
    let mut keys = Keys::default();
    let no_balances = Balances::of(Vec::new(), problems);
    // A section that could not be read, or whose key is misspelt, is not an empty one.
    let balances = document.balances.as_ref().or_else(|| document.whole.then_some(&no_balances));
    let no_features = Features::of(Vec::new(), problems);
    let features = document.features.as_ref().unwrap_or(&no_features);
    let mut policy = Policy {
        version: PolicyVersion::of(text),
        text: Arc::from(text),
        prices: PriceBook { rows: Vec::new() },
        balances: compiled_balances(balances.unwrap_or(&no_balances), &mut keys, problems),
        features: features::check(features, problems),
        plans: Vec::new(),
    };
    if let Some(prices) = &document.prices {
        policy.prices.rows = prices::check(prices, features, problems);
    }
    if let Some(plans) = &document.plans {
        policy.plans = plans::check(plans, features, balances, &mut keys, problems);
    }
    policy
}

fn check_head(document: &Document, problems: &mut Sink<'_>) {
    let start = Place { line: 1, column: 1, length: 1, path: String::new() };
    match &document.version {
        Some(version) if version.value.0 != 1 => {
            problems.report(&version.at, format!("version {}", version.value.0), "version 1");
        }
        _ => {}
    }
    if document.whole {
        let there = [
            ("version", document.version.is_some()),
            ("prices", document.prices.is_some()),
            ("features", document.features.is_some()),
            ("plans", document.plans.is_some()),
        ];
        for (key, _) in there.into_iter().filter(|(_, there)| !there) {
            missing_key(&start, key, problems);
        }
    }
}

fn compiled_balances(balances: &Balances, keys: &mut Keys, problems: &mut Sink<'_>) -> Vec<Balance> {
    let mut compiled = Vec::new();
    for (name, balance) in balances.fitting() {
        compiled.push(Balance {
            name: Arc::from(name.value.as_str()),
            key: keys.give("balance", &Identity::balance(&name.value), &name.at, problems),
            per: balance.value.per,
            issue: balance.value.issue.as_ref().map(|issue| compiled_issue(issue, problems)),
        });
    }
    compiled
}

fn compiled_issue(issue: &raw::Issue, problems: &mut Sink<'_>) -> Issue {
    if let (Some(from), Some(until)) = (&issue.from, &issue.until)
        && from.value.0 >= until.value.0
    {
        let found = format!("an end at {} and a start at {}", until.value.0, from.value.0);
        problems.report(&until.at, found, "`until` after `from`");
    }
    let instant = |at: &Option<At<super::scalars::Instant>>| at.as_ref().map(|at| at.value.0);
    Issue {
        amount: issue.amount.0,
        from: instant(&issue.from),
        until: instant(&issue.until),
        expires_after: issue.expires_after.map(|length| length.0),
    }
}

/// A place in a list of the policy. The bound on the file's nodes keeps every list far below the index's range.
fn index(position: usize) -> u16 {
    u16::try_from(position).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
