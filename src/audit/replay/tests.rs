//! Books that lives have made are made anew as they are, and every changed word of them is found.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::audit::life::{POLICY, START};
use crate::audit::tests::{repriced, set_right};
use crate::ledger::Ledger;
use crate::ledger::sqlite::{SqliteBooks, SqliteLedger};
use crate::policy::load;
use crate::units::Span;

/// The books of some lives, and the folder that they are in.
fn lived(first: u64, lives: u64, steps: u64) -> (PathBuf, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let policy = Arc::new(load::parse("lives", POLICY).unwrap());
    let corrected = Arc::new(load::parse("lives", &repriced()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ledger = SqliteLedger::open(&path).unwrap();
        ledger.keep_policy(policy.version, &policy.text).await.unwrap();
        ledger.keep_policy(corrected.version, &corrected.text).await.unwrap();
        // Numbers of neighbours give lives that share decisions.
        for nth in (0..lives).map(|life| first + life * 1_000_003) {
            let mut life = set_right(nth, &policy, &corrected);
            ledger.add_account(&life.account).await.unwrap();
            let mut records = Vec::new();
            for step in 0..steps {
                life.step(START.plus(Span::from_ms(step * 600_000)), &mut records);
            }
            life.close(&mut records);
            let applied = ledger.apply(records).await.unwrap();
            assert_eq!((&applied.conflicts[..], &applied.waiting[..]), (&[][..], &[][..]));
        }
    });
    (path, folder)
}

fn replayed(path: &Path) -> ReplayReport {
    let books = SqliteBooks::open(path).unwrap();
    replay(&books, &|text| load::parse("snapshot", text).ok().map(Arc::new), &mut |_| {}).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// I11: whatever accounts live through, their books follow from what went in.
    #[test]
    fn the_books_of_every_life_are_made_anew_bit_for_bit(first in any::<u32>()) {
        let (path, _folder) = lived(u64::from(first), 2, 300);
        let report = replayed(&path);
        prop_assert!(report.is_same(), "{report}");
    }
}

#[test]
fn books_with_nothing_in_them_are_the_same() {
    let (path, _folder) = lived(1, 0, 0);
    assert!(replayed(&path).is_same());
}

/// Opens books as someone who would forge them: without triggers, checks and references.
fn forger(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    let mut triggers = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'").unwrap();
    let names = triggers.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let names: Vec<String> = names.collect::<Result<_, _>>().unwrap();
    drop(triggers);
    for name in names {
        connection.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
    let loose = "PRAGMA ignore_check_constraints = 1; PRAGMA foreign_keys = 0; PRAGMA synchronous = 0";
    connection.execute_batch(loose).unwrap();
    connection
}

/// What a replay says of a copy of the books after one statement of a forger.
fn forged(path: &Path, statement: &str) -> ReplayReport {
    let copy = path.with_file_name("copy.db");
    std::fs::copy(path, &copy).unwrap();
    let changed = forger(&copy).execute(statement, []).unwrap();
    assert!(changed > 0, "{statement} changes nothing");
    replayed(&copy)
}

/// I11: each word that money depends on, changed in one row.
#[test]
fn every_changed_word_is_found() {
    let (path, _folder) = lived(3, 3, 600);
    let priced = "place = (SELECT min(place) FROM usage_events WHERE input_tokens > 100 AND feature = 'codex' \
                  AND outcome = 'completed' AND tier IS NULL)";
    let drawn = "place = (SELECT min(place) FROM usage_events WHERE draws LIKE '%wallet%grant%')";
    let debit = "place = (SELECT max(place) FROM balance_updates WHERE kind = 'debit')";
    let money = "charged > 0 AND revision = 1";
    let cases = [
        format!("UPDATE usage_events SET input_tokens = input_tokens + 1000 WHERE {priced}"),
        format!("UPDATE usage_events SET output_tokens = output_tokens + 1000 WHERE {priced}"),
        format!("UPDATE usage_events SET tier = 'priority' WHERE {priced}"),
        format!("UPDATE usage_events SET tier = 'flex' WHERE {priced}"),
        format!("UPDATE usage_events SET model = 'unknown' WHERE {priced}"),
        format!("UPDATE usage_events SET plan = 'none' WHERE {priced}"),
        format!("UPDATE usage_events SET draws = '[]' WHERE {drawn}"),
        format!("UPDATE usage_events SET draws = replace(draws, 'wallet', 'launch') WHERE {drawn}"),
        format!("UPDATE usage_events SET decision = randomblob(16) WHERE {priced}"),
        format!("UPDATE usage_events SET ended_at = ended_at + 1 WHERE {drawn}"),
        format!("DELETE FROM usage_events WHERE {priced}"),
        format!("UPDATE monetization_events SET price = '1/1' WHERE {money}"),
        format!("UPDATE monetization_events SET covered = covered + 1, charged = charged - 1 WHERE {money}"),
        format!("UPDATE monetization_events SET forgiven = forgiven + charged, charged = 0 WHERE {money}"),
        format!("UPDATE monetization_events SET policy = 5 WHERE {money}"),
        format!("DELETE FROM monetization_events WHERE {money}"),
        "UPDATE monetization_events SET charged = charged + 1, gross = gross + 1 WHERE revision = 2 AND ordered IS NULL"
            .to_owned(),
        "UPDATE monetization_events SET true_used = '{}' WHERE true_used LIKE '%input%'".to_owned(),
        format!("UPDATE balance_updates SET amount = amount - 1, after = after - 1 WHERE {debit}"),
        format!("UPDATE balance_updates SET kind = 'refund' WHERE {debit}"),
        format!("UPDATE balance_updates SET at = at + 1 WHERE {debit}"),
        format!("UPDATE balance_updates SET cause = zeroblob(16) WHERE {debit}"),
        format!("UPDATE balance_updates SET hash = zeroblob(32) WHERE {debit}"),
        format!("UPDATE balance_updates SET seq = seq + 100000 WHERE {debit}"),
        format!("UPDATE balance_updates SET balance = 99999 WHERE {debit}"),
        format!("DELETE FROM balance_updates WHERE {debit}"),
        "UPDATE monetization_events SET policy = 5 WHERE ordered = 'rerate'".to_owned(),
        "UPDATE monetization_events SET refunded = refunded + 1 WHERE ordered = 'refund'".to_owned(),
        "UPDATE monetization_events SET ordered = 'rerate' WHERE ordered = 'refund'".to_owned(),
        "UPDATE monetization_events SET ordered = NULL, refunded = NULL WHERE ordered = 'refund'".to_owned(),
        "UPDATE monetization_events SET charged = charged + 1, forgiven = forgiven - 1 WHERE ordered = 'refund'"
            .to_owned(),
        "UPDATE monetization_events SET gross = gross + 1, covered = covered + 1 WHERE ordered = 'rerate'".to_owned(),
        "UPDATE adjustments SET amount = amount + 1".to_owned(),
        "UPDATE adjustments SET repaid = repaid + 1 WHERE repaid > 0".to_owned(),
        "UPDATE adjustments SET adjusted_at = adjusted_at + 1".to_owned(),
        "UPDATE adjustments SET id = randomblob(16) WHERE seq = (SELECT max(seq) FROM adjustments)".to_owned(),
        "DELETE FROM adjustments".to_owned(),
        "UPDATE grants SET amount = amount + 1".to_owned(),
        "UPDATE grants SET granted_at = granted_at + 1".to_owned(),
        "UPDATE grants SET expires_at = expires_at + 1 WHERE decision IS NOT NULL".to_owned(),
        "UPDATE grants SET priority = 1 WHERE decision IS NOT NULL".to_owned(),
        "UPDATE grants SET expires_at = expires_at + 9000000000".to_owned(),
        "UPDATE policies SET text = replace(text, '43.75', '43.76')".to_owned(),
        "UPDATE policies SET text = 'version: 1'".to_owned(),
    ];
    assert!(replayed(&path).is_same());
    let missed: Vec<_> = cases.iter().filter(|statement| forged(&path, statement).is_same()).collect();
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

#[test]
fn one_changed_row_is_told_as_one() {
    let (path, _folder) = lived(3, 1, 100);
    let statement = "UPDATE balance_updates SET at = at + 1 WHERE place = (SELECT max(place) FROM balance_updates WHERE kind = 'debit')";
    let report = forged(&path, statement);
    assert_eq!(report.differences_total, 1, "{report}");
    assert_eq!(report.differences[0].what, "instant");
    let text = report.to_string();
    assert!(text.contains("the books are not what follows from them: 1 differences"), "{text}");
    assert_eq!(serde_json::to_value(&report).unwrap()["differences"][0]["what"], "instant");
}
