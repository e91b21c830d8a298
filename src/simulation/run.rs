//! A run: the steps of a plan, each followed by the checks, and a quiet end.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use super::auditor::Violation;
use super::plan::Step;
use super::world::{Tally, World};
use crate::audit::Scope;
use crate::ledger::sqlite::SqliteBooks;

/// Steps of a run in the tests.
pub(super) const STEPS: usize = 160;
/// How often the writer may need to try.
const WRITES_MAX: usize = 50;

/// What a run found.
#[derive(Debug)]
pub(super) struct Found {
    /// What was wrong, at which step.
    pub(super) violation: Option<(usize, Violation)>,
    /// What it met.
    pub(super) tally: Tally,
    /// What it did.
    pub(super) log: Vec<String>,
}

/// Runs a plan to its end, or to the first violation. A panic of the real code is one.
pub(super) fn run(steps: &[Step]) -> Found {
    let folder = folder();
    let mut found = Found { violation: None, tally: Tally::default(), log: Vec::new() };
    let mut at = 0;
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut world = match World::new(folder.path()) {
            Ok(world) => world,
            Err(violation) => return Some(violation),
        };
        let mut outcome = Ok(());
        for (place, step) in steps.iter().enumerate() {
            at = place;
            outcome = world.act(*step).and_then(|()| world.check());
            if outcome.is_err() {
                break;
            }
        }
        if outcome.is_ok() {
            at = steps.len();
            outcome = world.rest();
        }
        found.tally = world.tally;
        found.log = std::mem::take(&mut world.log);
        outcome.err()
    }));
    let violation = ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Some(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
    });
    found.violation = violation.map(|violation| (at, violation));
    found
}

/// Memory is enough: what the machine does with files is not what is simulated.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.unwrap()
}

impl World {
    /// The disk is well again, everything is written and booked; then all ends.
    fn rest(&mut self) -> Result<(), Violation> {
        self.quiet()?;
        let far = self.now() + 10_000_000;
        self.pass(far)?;
        self.check()?;
        self.quiet()?;
        if self.open() != 0 {
            return Err(format!("I9: {} holds never end", self.open()));
        }
        self.audit()
    }

    fn quiet(&mut self) -> Result<(), Violation> {
        self.disk.limit(None);
        self.disk.fail_syncs(0);
        self.disk.fail_writes(0);
        let _nobody_waits = self.node.journal.flush();
        for _ in 0..WRITES_MAX {
            self.act_write()?;
            self.check()?;
        }
        let stats = self.node.journal.stats();
        if stats.durable != stats.next {
            return Err(format!("I10: {:?} of {:?} frames are durable", stats.durable, stats.next));
        }
        for _ in 0..WRITES_MAX {
            let _failed = super::node::at_once(self.node.settler.turn(&mut self.node.reader));
        }
        let heads = self.check_books()?;
        let known: Vec<u64> =
            (0..heads.len()).map(|at| self.auditor.state.seqs.get(&at).copied().unwrap_or(0)).collect();
        if heads == known { Ok(()) } else { Err(format!("I7: booked up to {heads:?}, known {known:?}")) }
    }

    /// The product's own audit has nothing to say.
    fn audit(&self) -> Result<(), Violation> {
        let books = SqliteBooks::open(&self.books).map_err(|error| format!("{error:?}"))?;
        let read = |text: &str| crate::policy::load::parse("books", text).ok().map(Arc::new);
        let report = crate::audit::audit(&books, &read, Scope::default(), &mut |_| {})
            .map_err(|error| format!("{error:?}"))?;
        if report.violations.is_empty() { Ok(()) } else { Err(format!("audit: {:?}", report.violations)) }
    }
}
