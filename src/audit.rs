//! The audit: proves from the books alone that they hold (I5, I6, I7, I8, I12).
//!
//! It reads one consistent state ([`Books`]) while a gateway may go on writing, sums everything anew, and believes no
//! row that says what others add up to. Its memory is bounded: rows come in orders that need only the last one, and
//! balances are taken in portions of [`PORTION`], the updates read once for each.
//!
//! After a violation it goes on from what is booked, so that one broken row is told as one, not as all that follow it.

use std::collections::HashMap;

use crate::ledger::LedgerError;
use crate::ledger::books::Books;
use crate::policy::compiled::{Name, Policy, Source};
use crate::units::{Credits, PolicyVersion};

mod balances;
mod calls;
mod grants;
pub mod reconcile;
pub mod regenerate;
pub mod replay;
mod report;
mod sequences;

pub use report::{AuditReport, Checked, Invariant, Violation};

/// Balances that are followed at the same time: about 20 MiB.
const PORTION: u32 = 100_000;
/// Rows between two notes of progress.
const NOTE_EVERY: u64 = 50_000;
/// Rows of each kind that name what is not there.
const STRAYS: u32 = 20;

/// How far an audit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is looked at now.
    pub step: &'static str,
    /// How many of them have been.
    pub rows: u64,
}

/// Reads the text of a policy snapshot; `None` where this program cannot.
pub type ReadPolicy<'a> = &'a dyn Fn(&str) -> Option<Policy>;

/// Proves the books, and tells where they do not hold.
pub fn audit(
    books: &dyn Books,
    read_policy: ReadPolicy<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<AuditReport, LedgerError> {
    let mut report = AuditReport { checked: books.sizes()?.into(), ..AuditReport::default() };
    let snapshots = snapshots(books, read_policy, &mut report)?;
    calls::check(books, &snapshots, &mut report, &mut Steps::new("decisions", progress))?;
    sequences::check(books, &mut report, &mut Steps::new("records", progress))?;
    balances::check(books, &snapshots, &mut report, &mut Steps::new("balance updates", progress))?;
    grants::check(books, &mut report, &mut Steps::new("grants", progress))?;
    for stray in books.strays(STRAYS)? {
        report.violated(Invariant::Orphans, || stray.id, stray.what, "none", "one");
    }
    Ok(report)
}

/// What the policy snapshots say that the books depend on.
#[derive(Debug, Default)]
struct Snapshots {
    versions: Vec<PolicyVersion>,
    debt_limits: HashMap<Name, Credits>,
}

impl Snapshots {
    /// The lowest that a balance may stand, in micro-credits: the largest debt that any policy has allowed on it.
    fn floor(&self, balance: &Name) -> i64 {
        -self.debt_limits.get(balance).copied().unwrap_or(Credits::ZERO).signed().micros()
    }
}

fn snapshots(
    books: &dyn Books,
    read_policy: ReadPolicy<'_>,
    report: &mut AuditReport,
) -> Result<Snapshots, LedgerError> {
    let mut snapshots = Snapshots::default();
    books.policies(&mut |version, text| {
        snapshots.versions.push(version);
        let subject = || format!("policy {version}");
        report.compare(
            Invariant::Orphans,
            subject,
            "hash of the snapshot",
            &version,
            &PolicyVersion::of(text),
        );
        match read_policy(text) {
            Some(policy) => debt_limits(&policy, &mut snapshots.debt_limits),
            None => report.violated(Invariant::I5, subject, "snapshot", "a policy", "not readable"),
        }
    })?;
    snapshots.versions.sort_unstable();
    Ok(snapshots)
}

/// Debt stands on the last balance layer of a waterfall, up to what the feature's overage allows.
fn debt_limits(policy: &Policy, limits: &mut HashMap<Name, Credits>) {
    for plan in &policy.plans {
        for (feature, waterfall) in policy.features.iter().zip(&plan.waterfalls) {
            let layers = waterfall.iter().flat_map(|waterfall| waterfall.layers.iter().rev());
            let last = layers.filter_map(|layer| match layer.source {
                Source::Balance(index) => Some(&policy[index]),
                Source::Window(_) => None,
            });
            if let Some(balance) = last.into_iter().next() {
                let limit = limits.entry(balance.name.clone()).or_default();
                *limit = (*limit).max(feature.overage.debt);
            }
        }
    }
}

/// Counts rows and notes progress.
struct Steps<'a> {
    step: &'static str,
    rows: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Steps<'a> {
    fn new(step: &'static str, progress: &'a mut dyn FnMut(Progress)) -> Self {
        progress(Progress { step, rows: 0 });
        Self { step, rows: 0, progress }
    }

    fn one(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(NOTE_EVERY) {
            (self.progress)(Progress { step: self.step, rows: self.rows });
        }
    }
}

#[cfg(test)]
#[path = "../benches/support/life.rs"]
mod life;
#[cfg(test)]
mod tests;
