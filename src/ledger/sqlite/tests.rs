//! The suite of every ledger, and what only this one can do: refuse, fail and recover as a file does.

use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::ledger::conformance::conformance;

fn open() -> (Arc<dyn Ledger>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(&folder.path().join("ledger.db")).unwrap();
    (Arc::new(ledger), folder)
}

mod suite {
    super::conformance! { super::open }
}
