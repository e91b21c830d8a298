//! What an audit found, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::holds::OpenHolds;
use super::invariant::Invariant;
use crate::ledger::books::Sizes;
use crate::units::Timestamp;

/// Violations that a report tells one by one; the rest is counted.
const TOLD: usize = 100;

/// One thing in the books that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// What it breaks.
    pub invariant: Invariant,
    /// Where: the ids of the rows.
    pub subject: String,
    /// What was looked at.
    pub what: &'static str,
    /// What it must be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Accounts.
    pub accounts: u64,
    /// Usage events.
    pub usage_events: u64,
    /// Monetization events.
    pub monetization_events: u64,
    /// Balance updates.
    pub balance_updates: u64,
    /// Balances.
    pub balances: u64,
    /// Grants.
    pub grants: u64,
    /// Policy snapshots.
    pub policies: u64,
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// How much was looked at.
    pub checked: Checked,
    /// Records that were booked before there was a chain of them.
    pub unchained: u64,
    /// The instant of the checkpoint that they were held against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Timestamp>,
    /// What is in flight.
    pub open_holds: OpenHolds,
    /// The first violations.
    pub violations: Vec<Violation>,
    /// How many there are in all.
    pub violations_total: u64,
}

impl AuditReport {
    /// Whether the books hold.
    pub const fn holds(&self) -> bool {
        self.violations_total == 0
    }

    pub(super) fn violated(
        &mut self,
        invariant: Invariant,
        subject: impl FnOnce() -> String,
        what: &'static str,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        self.violations_total += 1;
        if self.violations.len() < TOLD {
            let (subject, expected, found) = (subject(), expected.to_string(), found.to_string());
            self.violations.push(Violation { invariant, subject, what, expected, found });
        }
    }

    /// Reports a value that is not what it must be.
    pub(super) fn compare<T: PartialEq + fmt::Debug>(
        &mut self,
        invariant: Invariant,
        subject: impl FnOnce() -> String,
        what: &'static str,
        expected: &T,
        found: &T,
    ) {
        if expected != found {
            self.violated(invariant, subject, what, format_args!("{expected:?}"), format_args!("{found:?}"));
        }
    }
}

impl AuditReport {
    /// Reports a hash that is not what it must be.
    pub(super) fn compare_hashes(
        &mut self,
        invariant: Invariant,
        subject: impl FnOnce() -> String,
        what: &'static str,
        expected: Option<&[u8; 32]>,
        found: Option<&[u8; 32]>,
    ) {
        if expected != found {
            let told = |hash: Option<&[u8; 32]>| hash.map_or_else(|| "none".to_owned(), hex::encode);
            self.violated(invariant, subject, what, told(expected), told(found));
        }
    }
}

impl From<Sizes> for Checked {
    fn from(sizes: Sizes) -> Self {
        Self {
            accounts: sizes.accounts,
            usage_events: sizes.usage_events,
            monetization_events: sizes.monetization_events,
            balance_updates: sizes.balance_updates,
            balances: sizes.balances,
            grants: sizes.grants,
            policies: sizes.policies,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, subject, what, expected, found } = self;
        write!(f, "{:<11}{subject}: {what} is {found}, expected {expected}", invariant.as_str())
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checked = &self.checked;
        writeln!(
            f,
            "{} accounts, {} usage events, {} monetization events, {} balance updates on {} balances, {} grants, {} policies",
            checked.accounts,
            checked.usage_events,
            checked.monetization_events,
            checked.balance_updates,
            checked.balances,
            checked.grants,
            checked.policies,
        )?;
        if self.unchained > 0 {
            writeln!(f, "{} records were booked before there was a chain", self.unchained)?;
        }
        if let Some(at) = self.checkpoint {
            writeln!(f, "held against the checkpoint of {at}")?;
        }
        match self.open_holds {
            OpenHolds::No => writeln!(f, "open holds: not looked at")?,
            OpenHolds::NoJournal => writeln!(f, "open holds: there is no journal")?,
            OpenHolds::Unreadable => writeln!(f, "open holds: the journal cannot be read")?,
            OpenHolds::Yes { open, renewed, ended_elsewhere } => {
                write!(f, "open holds: {open}")?;
                if renewed > 0 {
                    write!(f, ", {renewed} of them renewed by the running gateway")?;
                }
                if ended_elsewhere > 0 {
                    write!(f, "; {ended_elsewhere} more were ended by other nodes")?;
                }
                writeln!(f)?;
            }
        }
        if self.holds() {
            return writeln!(f, "the books hold: I5, I6, I7, I8, I11, I12, chain");
        }
        writeln!(f, "the books do not hold: {} violations", self.violations_total)?;
        for violation in &self.violations {
            writeln!(f, "{violation}")?;
        }
        let untold = self.violations_total.saturating_sub(self.violations.len() as u64);
        if untold > 0 {
            writeln!(f, "and {untold} more")?;
        }
        Ok(())
    }
}
