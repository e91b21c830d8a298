//! The page of proof says what is there.

use std::collections::BTreeSet;
use std::path::Path;

/// The page.
pub(crate) const PAGE: &str = include_str!("../../docs/proof.md");

/// Every file, and every test `file::name`, that the page names in code type.
#[test]
fn every_path_and_test_on_the_page_of_proof_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = BTreeSet::new();
    let mut tests = 0;
    for named in PAGE.split('`').skip(1).step_by(2).filter(|named| is_path(named)) {
        let (path, test) = named.split_once("::").unwrap_or((named, ""));
        let there = root.join(path);
        if !there.exists() {
            missing.insert(named);
        } else if !test.is_empty() {
            tests += 1;
            let text = std::fs::read_to_string(&there).unwrap();
            if !text.contains(&format!("fn {test}(")) {
                missing.insert(named);
            }
        }
    }
    assert!(missing.is_empty(), "docs/proof.md names what is not there: {missing:#?}");
    assert!(tests > 30, "{tests} tests are named");
}

/// Every invariant has its row.
#[test]
fn every_invariant_has_its_row_on_the_page_of_proof() {
    for invariant in overfall::audit::Invariant::ALL {
        let row = format!("| {invariant} |");
        assert!(PAGE.contains(&row) || invariant.as_str() == "orphans", "{invariant}");
    }
}

/// A number as people write it.
pub(crate) fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

fn is_path(named: &str) -> bool {
    let first = named.split(['/', ':']).next().unwrap_or_default();
    named.contains('/')
        && ["src", "tests", "docs", "config", "benches"].contains(&first)
        && !named.contains(' ')
}
