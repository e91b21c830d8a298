//! Replay: makes the books anew from what went into them, and compares bit for bit (I11).
//!
//! What goes in: usage events with their recorded draws, grants, expiries and other entries, and the policy snapshots.
//! What must come out: every price, monetization event and balance update, with what the balance stood at before and
//! after it and with its hash. Prices and money come from `regenerate`, which shares nothing with settlement but the
//! price rows; the chain of each balance is followed from its first update on.
//!
//! After a difference it goes on from what is booked, so that one wrong row is told as one.
//!
//! Bounds: one account's balances and grants, all policy snapshots, [`TOLD`] differences.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::ReadPolicy;
use crate::ledger::LedgerError;
use crate::ledger::recorded::{Entry, Recorded};
use crate::policy::compiled::Policy;
use crate::units::{AccountId, PolicyVersion};

mod account;
mod entry;
pub mod what_if;

use account::AccountBooks;

/// Differences that a report tells one by one; the rest is counted.
const TOLD: usize = 100;
/// Entries between two notes of progress.
const NOTE_EVERY: u64 = 50_000;

/// Something booked that is not what follows from what went in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where: the account and its place, and the decision or grant where there is one.
    pub subject: String,
    /// What was compared.
    pub what: &'static str,
    /// What follows.
    pub regenerated: String,
    /// What is booked.
    pub booked: String,
}

/// What a replay compared, and what differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// Accounts.
    pub accounts: u64,
    /// Monetization events made anew, corrections among them.
    pub monetization_events: u64,
    /// Balance updates made anew.
    pub balance_updates: u64,
    /// Policy snapshots.
    pub policies: u64,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// How many there are in all.
    pub differences_total: u64,
}

impl ReplayReport {
    /// Whether everything is as it was booked.
    pub const fn is_same(&self) -> bool {
        self.differences_total == 0
    }

    fn differs(
        &mut self,
        subject: impl FnOnce() -> String,
        what: &'static str,
        regenerated: impl fmt::Display,
        booked: impl fmt::Display,
    ) {
        self.differences_total += 1;
        if self.differences.len() < TOLD {
            let (regenerated, booked) = (regenerated.to_string(), booked.to_string());
            self.differences.push(Difference { subject: subject(), what, regenerated, booked });
        }
    }

    fn compare<T: PartialEq + fmt::Display>(
        &mut self,
        subject: impl FnOnce() -> String,
        what: &'static str,
        regenerated: &T,
        booked: &T,
    ) {
        if regenerated != booked {
            self.differs(subject, what, regenerated, booked);
        }
    }
}

/// Makes everything anew, and tells what differs. `progress` hears of the entries that have been.
pub fn replay(
    books: &dyn Recorded,
    read_policy: ReadPolicy<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<ReplayReport, LedgerError> {
    let mut report = ReplayReport::default();
    let mut policies = HashMap::new();
    books.policies(&mut |version, text| {
        report.policies += 1;
        match read_policy(text) {
            Some(policy) => drop(policies.insert(version, policy)),
            None => report.differs(|| format!("policy {version}"), "snapshot", "a policy", "not readable"),
        }
    })?;
    let mut replaying = Replaying { policies: &policies, account: None, report: &mut report };
    let mut entries = 0u64;
    books.entries(&mut |entry| {
        entries += 1;
        if entries.is_multiple_of(NOTE_EVERY) {
            progress(entries);
        }
        replaying.entry(&entry);
    })?;
    // What no entry led to stands in the books by itself.
    let sizes = books.sizes()?;
    let all = || "all accounts".to_owned();
    let (money, updates) = (report.monetization_events, report.balance_updates);
    report.compare(all, "monetization events", &money, &sizes.monetization_events);
    report.compare(all, "balance updates", &updates, &sizes.balance_updates);
    Ok(report)
}

type Policies = HashMap<PolicyVersion, Arc<Policy>>;

struct Replaying<'a> {
    policies: &'a Policies,
    account: Option<(AccountId, AccountBooks)>,
    report: &'a mut ReplayReport,
}

impl Replaying<'_> {
    fn entry(&mut self, entry: &Entry) {
        if self.account.as_ref().is_none_or(|(account, _)| *account != entry.account) {
            self.report.accounts += 1;
            self.account = Some((entry.account, AccountBooks::new(entry.account)));
        }
        if let Some((_, books)) = &mut self.account {
            entry::Regenerating { policies: self.policies, books, entry, report: self.report }.run();
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, what, regenerated, booked } = self;
        write!(f, "{subject}: {what} is booked as {booked}, but follows as {regenerated}")
    }
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} accounts, {} policies: {} monetization events and {} balance updates made anew",
            self.accounts, self.policies, self.monetization_events, self.balance_updates
        )?;
        if self.is_same() {
            return writeln!(f, "all are what is booked, bit for bit (I11)");
        }
        writeln!(f, "the books are not what follows from them: {} differences", self.differences_total)?;
        for difference in &self.differences {
            writeln!(f, "{difference}")?;
        }
        let untold = self.differences_total.saturating_sub(self.differences.len() as u64);
        if untold > 0 {
            writeln!(f, "and {untold} more")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
