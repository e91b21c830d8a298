//! Books that hold, and each way in which they can be made not to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tempfile::TempDir;

use super::life::{Life, POLICY, START};
use super::*;
use crate::access::record::Record;
use crate::ledger::Ledger;
use crate::ledger::sqlite::{SqliteBooks, SqliteLedger};
use crate::policy::load;
use crate::units::Span;

mod bulk;
mod postgres;
mod tampering;

pub(super) fn read(text: &str) -> Option<Arc<Policy>> {
    load::parse("books", text).ok().map(Arc::new)
}

/// Books of some lives of so many steps each, step by step in turns.
pub(super) async fn books(lives: std::ops::Range<u64>, steps: u64) -> (PathBuf, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = SqliteLedger::open(&path).unwrap();
    live(&ledger, lives, steps).await;
    (path, folder)
}

pub(super) async fn live(ledger: &dyn Ledger, lives: std::ops::Range<u64>, steps: u64) {
    let [policy, corrected] = policies();
    for policy in [&policy, &corrected] {
        ledger.keep_policy(policy.version, &policy.text).await.unwrap();
    }
    let mut lives: Vec<_> = lives.map(|nth| set_right(nth, &policy, &corrected)).collect();
    for life in &lives {
        ledger.add_account(&life.account).await.unwrap();
        for user in &life.users {
            ledger.add_user(user).await.unwrap();
        }
    }
    for batch in lived(&mut lives, steps).chunks(100) {
        let applied = ledger.apply(batch.to_vec()).await.unwrap();
        assert!(applied.conflicts.is_empty() && applied.waiting.is_empty(), "{applied:?}");
    }
}

/// What lives are decided by, and what an operator prices them by afterwards.
fn policies() -> [Arc<Policy>; 2] {
    [read(POLICY).unwrap(), read(&repriced()).unwrap()]
}

/// The policy of all lives at other prices: what an operator corrects a wrong price by.
pub(super) fn repriced() -> String {
    POLICY
        .replace("input: 43.75, cached_input: 4.375, output: 350", "input: 60, cached_input: 3, output: 250")
}

/// A life in which an operator sets things right.
pub(super) fn set_right(nth: u64, policy: &Arc<Policy>, corrected: &Arc<Policy>) -> Life {
    let mut life = Life::new(nth, policy, true);
    life.repriced = Some(Arc::clone(corrected));
    life
}

/// What lives do, in turns, in so many hours.
fn lived(lives: &mut [Life], hours: u64) -> Vec<Record> {
    let mut records = Vec::new();
    for hour in 0..hours {
        for life in &mut *lives {
            life.step(START.plus(Span::from_seconds(hour * 3_600)), &mut records);
        }
    }
    for life in lives {
        life.close(&mut records);
    }
    records
}

pub(super) fn report_of(path: &Path, scope: Scope<'_>) -> AuditReport {
    let books = SqliteBooks::open_ahead(path).unwrap();
    audit(&books, &read, scope, &mut |_| {}).unwrap()
}

pub(super) fn report(path: &Path) -> AuditReport {
    report_of(path, Scope::default())
}

/// Opens books as someone who would forge them: without triggers, checks and references.
pub(super) fn forger(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    let mut triggers = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'").unwrap();
    let names: Vec<String> =
        triggers.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    for name in names {
        connection.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
    let loose = "PRAGMA ignore_check_constraints = 1; PRAGMA foreign_keys = 0; PRAGMA synchronous = 0";
    connection.execute_batch(loose).unwrap();
    drop(triggers);
    connection
}

/// What the report says of a copy of the books after one statement of a forger.
fn forged(path: &Path, statement: &str) -> AuditReport {
    let copy = path.with_file_name("copy.db");
    std::fs::copy(path, &copy).unwrap();
    let changed = forger(&copy).execute(statement, []).unwrap();
    assert!(changed > 0, "{statement} changes nothing");
    report(&copy)
}

#[tokio::test]
async fn books_that_were_kept_hold() {
    let (path, _folder) = books(0..12, 150).await;
    let report = report(&path);
    assert!(report.holds(), "{report}");
    assert_eq!(report.checked.accounts, 12);
    assert!(report.checked.usage_events > 500, "{report}");
    assert_eq!(report.unchained, 0);
    assert!(report.to_string().contains("the books hold"));
}

#[tokio::test]
async fn empty_books_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    drop(SqliteLedger::open(&path).unwrap());
    assert!(report(&path).holds());
}

#[tokio::test]
async fn a_part_of_the_books_holds_by_itself() {
    let (path, _folder) = books(0..6, 150).await;
    for hours in [0, 1, 40, 75, 149, 1_000] {
        let since = Some(START.plus(Span::from_seconds(hours * 3600)));
        let report = report_of(&path, Scope { since, ..Scope::default() });
        assert!(report.holds(), "since hour {hours}: {report}");
    }
    let account = Some(SqliteBooks::open(&path).unwrap().account("account 3").unwrap().unwrap());
    let of_account = report_of(&path, Scope { account, ..Scope::default() });
    assert!(of_account.holds(), "{of_account}");
    // What is broken elsewhere is no matter of this account's.
    let copy = path.with_file_name("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    let other = "SELECT id FROM accounts WHERE name = 'account 4'";
    forger(&copy)
        .execute(&format!("UPDATE usage_events SET model = 'x' WHERE account = ({other})"), [])
        .unwrap();
    assert!(report_of(&copy, Scope { account, ..Scope::default() }).holds());
    assert!(!report(&copy).holds());
}

/// What nobody asks for anew is found all the same: whole rows that are gone.
#[tokio::test]
async fn every_row_that_is_missing_is_found() {
    let (path, _folder) = books(0..3, 60).await;
    let connection = Connection::open(&path).unwrap();
    for table in [
        "usage_events",
        "monetization_events",
        "balance_updates",
        "balances",
        "grants",
        "remainders",
        "records",
        "heads",
        "policies",
        "accounts",
        "users",
    ] {
        let key = match table {
            "usage_events" | "balance_updates" | "records" => "place",
            "monetization_events" => "decision || revision",
            "heads" => "account",
            "policies" => "version",
            "remainders" => "balance || hex(grant_id)",
            _ => "id",
        };
        let count: i64 =
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert!(count > 0, "{table}");
        // The first, one in the middle, the last.
        for offset in [0, count / 2, count - 1] {
            let which = format!("{key} = (SELECT {key} FROM {table} ORDER BY {key} LIMIT 1 OFFSET {offset})");
            let report = forged(&path, &format!("DELETE FROM {table} WHERE {which}"));
            // A user of the directory who has no balance leaves nothing behind.
            assert!(!report.holds() || table == "users", "row {offset} of {count} of {table} is not missed");
        }
    }
}

#[tokio::test]
async fn rows_that_were_put_in_are_found() {
    let (path, _folder) = books(0..3, 60).await;
    for statement in [
        "INSERT INTO usage_events SELECT place + 1000000, randomblob(16), account, seq, previous, user, feature, plan, \
         model, size, tier, policy, unit, held_at, ended_at, outcome, grade, status, input_tokens, cached_input_tokens, \
         cache_write_tokens, output_tokens, seconds, tool_calls, estimate, held, draws, digest, hash FROM usage_events \
         WHERE place = 7",
        "INSERT INTO monetization_events (decision, revision, policy, price, gross, covered, forgiven, excess, charged) \
         VALUES (randomblob(16), 1, 1, '0/1', 0, 0, 0, 0, 0)",
        "INSERT INTO balance_updates SELECT place + 1000000, balance, seq, previous, kind, cause_kind, cause, grant_id, \
         amount, before, after, at, hash FROM balance_updates WHERE place = 7",
        "INSERT INTO records SELECT place + 1000000, randomblob(16), seq, kind, digest, hash FROM records WHERE place = 7",
        "INSERT INTO remainders VALUES (1, randomblob(16), 1)",
        "INSERT INTO grants SELECT randomblob(16), balance, seq, amount, repaid, priority, expires_at, granted_at, \
         decision, idempotency_key, note FROM grants LIMIT 1",
        "INSERT INTO heads VALUES (randomblob(16), 0, NULL, NULL, NULL)",
    ] {
        assert!(!forged(&path, statement).holds(), "{statement}");
    }
}

#[tokio::test]
async fn one_broken_row_is_told_once_and_not_with_all_that_follow() {
    let (path, _folder) = books(0..3, 60).await;
    let report = forged(&path, "UPDATE balance_updates SET hash = zeroblob(32) WHERE place = 3");
    assert!(report.violations_total <= 2, "{report}");
    assert_eq!(report.violations[0].invariant, Invariant::I8);
    let report = forged(&path, "UPDATE usage_events SET status = 201 WHERE place = 9");
    assert_eq!(report.violations_total, 1, "{report}");
    assert_eq!(report.violations[0].invariant, Invariant::Chain);
    let report =
        forged(&path, "UPDATE usage_events SET output_tokens = output_tokens + 1000 WHERE place = 9");
    assert!(report.violations.iter().any(|violation| violation.invariant == Invariant::I11), "{report}");
}

#[tokio::test]
async fn a_report_tells_a_bounded_number_and_counts_the_rest() {
    let (path, _folder) = books(0..3, 250).await;
    let report = forged(&path, "UPDATE usage_events SET status = 201");
    assert_eq!(report.violations.len(), 100);
    assert!(report.violations_total > 200, "{report}");
    assert!(report.to_string().contains("and "), "{report}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["violations"][0]["invariant"], "Chain");
    assert_eq!(json["checked"]["accounts"], 3);
}

#[tokio::test]
async fn an_audit_sees_one_instant_while_the_gateway_writes() {
    let (path, _folder) = books(0..2, 40).await;
    let books = SqliteBooks::open(&path).unwrap();
    let ledger = SqliteLedger::open(&path).unwrap();
    live(&ledger, 2..3, 40).await;
    let then = audit(&books, &read, Scope::default(), &mut |_| {}).unwrap();
    assert_eq!(then.checked.accounts, 2);
    assert!(then.holds(), "{then}");
    drop(books);
    let now = report(&path);
    assert_eq!(now.checked.accounts, 3);
    assert!(now.holds(), "{now}");
}

#[tokio::test]
async fn progress_is_told() {
    let (path, _folder) = books(0..2, 40).await;
    let mut told = Vec::new();
    let books = SqliteBooks::open(&path).unwrap();
    audit(&books, &read, Scope::default(), &mut |progress| told.push(progress.step)).unwrap();
    assert_eq!(told, ["usage events"]);
}
