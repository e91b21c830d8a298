//! The audit: proves from the books alone that they hold (I5, I6, I7, I8, I11, I12), and that nobody has changed them.
//!
//! It reads one consistent state ([`Books`]) while a gateway may go on writing, computes everything anew, and believes
//! no row that says what others add up to. One pass in the order of booking does all of it:
//!
//! | file | what |
//! |---|---|
//! | `walk` | usage events and the records between them: no gap, no broken link, each with its balance updates (I7, I6) |
//! | `stream` | balance updates, grouped by the record that they belong to |
//! | `balances` | balances and grants, followed update by update (I5, I8, I12) |
//! | `regenerate`, `money`, `refund` | the money of each call, computed again from its policy snapshot (I11, I6) |
//! | `holds` | what is open in a node's journal, if it is at hand (I9, I10) |
//!
//! # Bounds
//!
//! Memory follows accounts and what is left of grants, never events: [`PORTION`] accounts are followed at a time, and
//! the books are read once for each portion. Updates that wait for their record are [`stream::PARKED_MAX`] groups at
//! most. Nothing is sorted.
//!
//! After a violation it goes on from what is booked, so that one broken row is told as few, not as all that follow it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ledger::LedgerError;
use crate::ledger::books::{Books, Extent, Sizes};
use crate::policy::compiled::{Name, Policy};
use crate::units::{AccountId, Credits, PolicyVersion, Timestamp};
use checkpoint::PolicyMark;
use checkpoint::tree::Tree;

mod balances;
pub mod checkpoint;
pub mod holds;
mod invariant;
mod money;
pub mod receipt;
pub mod reconcile;
mod refund;
pub mod regenerate;
pub mod replay;
mod report;
mod stream;
mod walk;

pub use checkpoint::Checkpoint;
pub use invariant::Invariant;
pub use report::{AuditReport, Checked, Violation};

/// Accounts that are followed at the same time: about 200 MiB with two balances each.
const PORTION: u32 = 250_000;
/// Rows between two notes of progress.
const NOTE_EVERY: u64 = 50_000;
/// Rows of each kind that name what is not there.
const STRAYS: u32 = 20;

/// What is audited.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// Only what has happened since; what was booked before is believed. All of it where none is given.
    pub since: Option<Timestamp>,
    /// Only this account.
    pub account: Option<AccountId>,
    /// A checkpoint that the books are held against; of whole books only.
    pub checkpoint: Option<&'a Checkpoint>,
}

/// How far an audit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is looked at now.
    pub step: &'static str,
    /// How many of them have been.
    pub rows: u64,
    /// How many there are in all.
    pub of: u64,
}

/// Reads the text of a policy snapshot; `None` where this program cannot.
pub type ReadPolicy<'a> = &'a dyn Fn(&str) -> Option<Arc<Policy>>;

/// Proves the books, and tells where they do not hold.
pub fn audit(
    books: &dyn Books,
    read_policy: ReadPolicy<'_>,
    scope: Scope<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<AuditReport, LedgerError> {
    let sizes = books.sizes()?;
    let mut report = AuditReport { checked: sizes.into(), ..AuditReport::default() };
    let snapshots = snapshots(books, read_policy, &mut report)?;
    let from = match scope.since {
        Some(since) => books.before(since)?,
        None => Extent::default(),
    };
    let mut seen = walk::Seen::default();
    let mut tree = Tree::default();
    let mut after = None;
    loop {
        let mut heads = books.heads(after, PORTION)?;
        let up_to = heads.last().filter(|_| heads.len() == PORTION as usize).map(|head| head.account);
        if let Some(only) = scope.account {
            heads.retain(|head| head.account == only);
        }
        if scope.account.is_none() || !heads.is_empty() {
            let checkpoint = scope.checkpoint.map(Checkpoint::extent);
            let range = walk::Range { after, up_to, from, checkpoint };
            let mut steps = Steps::new("usage events", sizes.usage_events, progress);
            walk::walk(
                books,
                &snapshots,
                scope,
                range,
                heads,
                &mut report,
                &mut seen,
                &mut tree,
                &mut steps,
            )?;
        }
        if up_to.is_none() {
            break;
        }
        after = up_to;
    }
    if let Some(checkpoint) = scope.checkpoint.filter(|_| scope.account.is_none() && scope.since.is_none()) {
        check(checkpoint, tree, &snapshots, &mut report);
    }
    places(books, &sizes, &mut report)?;
    if scope.account.is_none() {
        let whole = scope.since.is_none();
        let lost = whole && seen.differs_from(&sizes);
        for stray in books.strays(lost, STRAYS)? {
            report.violated(Invariant::Orphans, || stray.id, stray.what, "none", "one");
        }
        if whole {
            seen.compare(&sizes, &mut report);
        }
    }
    Ok(report)
}

/// What was booked before a checkpoint is what it was then.
fn check(checkpoint: &Checkpoint, tree: Tree, snapshots: &Snapshots, report: &mut AuditReport) {
    let subject = || format!("checkpoint of {}", checkpoint.at);
    report.compare(Invariant::Checkpoint, subject, "heads", &checkpoint.leaves, &tree.len());
    let root = hex::encode(tree.finish().root);
    report.compare(Invariant::Checkpoint, subject, "root over the heads", &checkpoint.root, &root);
    for policy in &checkpoint.policies {
        if !snapshots.marks.contains(policy) {
            let what = "policy snapshot";
            report.violated(Invariant::Checkpoint, subject, what, &policy.version, "none of this text");
        }
    }
    report.checkpoint = Some(checkpoint.at);
}

/// What is booked is never taken out, so places have no gap.
fn places(books: &dyn Books, sizes: &Sizes, report: &mut AuditReport) -> Result<(), LedgerError> {
    let (first, newest) = (books.first_places()?, books.extent()?);
    for (what, first, newest, count) in [
        ("places of usage events", first.events, newest.events, sizes.usage_events),
        ("places of records", first.records, newest.records, sizes.records),
        ("places of balance updates", first.updates, newest.updates, sizes.balance_updates),
    ] {
        let subject = || "all rows".to_owned();
        let expected = (1, i64::try_from(count).unwrap_or(i64::MAX));
        report.compare(Invariant::Orphans, subject, what, &expected, &(first, newest));
    }
    Ok(())
}

/// What the policy snapshots say.
#[derive(Debug, Default)]
struct Snapshots {
    policies: HashMap<PolicyVersion, Option<Arc<Policy>>>,
    debt_limits: HashMap<Name, Credits>,
    marks: Vec<PolicyMark>,
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
        let subject = || format!("policy {version}");
        let found = PolicyVersion::of(text);
        report.compare(Invariant::I11, subject, "hash of the snapshot", &version, &found);
        let policy = read_policy(text);
        match &policy {
            Some(policy) => debt_limits(policy, &mut snapshots.debt_limits),
            None => report.violated(Invariant::I11, subject, "snapshot", "a policy", "not readable"),
        }
        snapshots.marks.push(checkpoint::mark(version, text));
        snapshots.policies.insert(version, policy);
    })?;
    Ok(snapshots)
}

/// The most that any policy lends on each balance.
fn debt_limits(policy: &Policy, limits: &mut HashMap<Name, Credits>) {
    for balance in &policy.balances {
        let limit = limits.entry(balance.name.clone()).or_default();
        *limit = (*limit).max(policy.lent_on(&balance.name));
    }
}

/// Counts rows and notes progress.
struct Steps<'a> {
    step: &'static str,
    rows: u64,
    of: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Steps<'a> {
    fn new(step: &'static str, of: u64, progress: &'a mut dyn FnMut(Progress)) -> Self {
        progress(Progress { step, rows: 0, of });
        Self { step, rows: 0, of, progress }
    }

    fn one(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(NOTE_EVERY) {
            (self.progress)(Progress { step: self.step, rows: self.rows, of: self.of });
        }
    }
}

#[cfg(test)]
#[path = "../benches/support/life.rs"]
mod life;
#[cfg(test)]
mod tests;
