//! Books that were made in bulk: 100,000 usage events, or as many as `OVERFALL_AUDIT_EVENTS` asks for.

use super::super::life::fill;
use super::*;

/// What the audit of any number of events may take, with all that the test itself takes: 1,000 accounts are few.
const RSS_KIB_MAX: u64 = 256 * 1024;

#[tokio::test]
async fn books_made_in_bulk_hold_and_are_audited_in_bounded_memory() {
    let wanted = std::env::var("OVERFALL_AUDIT_EVENTS").ok().and_then(|text| text.parse().ok());
    let wanted = wanted.unwrap_or(100_000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    fill(&SqliteLedger::open(&path).unwrap(), 1_000, wanted).await.unwrap();
    let report = report(&path);
    assert!(report.holds(), "{report}");
    assert!(report.checked.usage_events >= wanted as u64, "{report}");
    assert!(report.checked.balance_updates > report.checked.usage_events / 10, "{report}");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < RSS_KIB_MAX, "{peak} KiB");
}
