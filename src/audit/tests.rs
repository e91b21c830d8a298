//! Books that hold, and each way in which one changed column breaks them.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::access::record::Record;
use crate::ledger::Ledger;
use crate::ledger::samples::{POLICY, Sample};
use crate::ledger::sqlite::{SqliteBooks, SqliteLedger};
use crate::policy::compiled::{
    Api, Balance, BalanceIndex, CounterKey, Deadlines, Feature, Layer, LayerKind, Overage, Plan, Scope,
    Waterfall, WhenExhausted,
};
use crate::policy::prices::PriceBook;
use crate::units::{Span, Unit};

const TEXT: &str = "the text of the sample policy";

/// Books with every kind of record of two accounts, and the folder that they live in.
async fn books() -> (PathBuf, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = SqliteLedger::open(&path).unwrap();
    ledger.keep_policy(PolicyVersion::of(TEXT), TEXT).await.unwrap();
    for n in [1, 2] {
        let mut sample = Sample::new(n);
        ledger.add_account(&sample.account).await.unwrap();
        ledger.add_user(&sample.user).await.unwrap();
        ledger.add_key(&sample.key(n)).await.unwrap();
        let mut records = sample.life();
        let mut owes = sample.end(&[(None, 25)], 0);
        owes.counters[1].slot.used = 25;
        records.push(Record::End(Box::new(owes)));
        for record in &mut records {
            if let Record::End(end) = record {
                end.policy = PolicyVersion::of(TEXT);
            }
        }
        assert_eq!(ledger.apply(records).await.unwrap().booked, 10);
    }
    (path, folder)
}

/// A policy that lets `wallet` owe `debt` micro-credits.
fn policy(debt: u64) -> Policy {
    let balance = Balance { name: "wallet".into(), key: CounterKey(77), per: Scope::Account, issue: None };
    let layer =
        Layer { name: "credits".into(), kind: LayerKind::Prepaid, source: Source::Balance(BalanceIndex(0)) };
    let span = Span::from_ms(1);
    let feature = Feature {
        name: "codex".into(),
        apis: vec![Api::Responses],
        unit: Unit::Credit,
        overage: Overage { forgive: Credits::ZERO, debt: Credits::from_micros(debt).unwrap() },
        forgiven_key: CounterKey(5),
        clamp: None,
        when_exhausted: WhenExhausted::Finish,
        deadlines: Deadlines { request: span, background: span, job: span },
    };
    let waterfall = Waterfall { guards: Vec::new(), layers: vec![layer] };
    Policy {
        version: PolicyVersion::of(TEXT),
        text: TEXT.into(),
        prices: PriceBook { rows: Vec::new() },
        balances: vec![balance],
        features: vec![feature],
        plans: vec![Plan { name: "plus".into(), waterfalls: vec![Some(waterfall)] }],
    }
}

fn report(path: &Path, debt: u64) -> AuditReport {
    let books = SqliteBooks::open(path).unwrap();
    audit(&books, &|text| (text == TEXT).then(|| policy(debt)), &mut |_| {}).unwrap()
}

/// Opens books as someone who would forge them: without triggers, checks and references.
fn forger(path: &Path) -> Connection {
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
    report(&copy, 300)
}

#[tokio::test]
async fn books_that_were_kept_hold() {
    let (path, _folder) = books().await;
    let report = report(&path, 300);
    assert!(report.holds(), "{report}");
    let checked = Checked {
        accounts: 2,
        usage_events: 8,
        monetization_events: 8,
        balance_updates: 30,
        balances: 2,
        grants: 6,
        policies: 1,
    };
    assert_eq!(report.checked, checked);
    assert!(report.to_string().contains("the books hold"));
}

#[tokio::test]
async fn empty_books_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    drop(SqliteLedger::open(&path).unwrap());
    assert!(report(&path, 0).holds());
}

/// I5: the floor is what some policy snapshot allows to be owed.
#[tokio::test]
async fn debt_beyond_every_policy_is_a_violation() {
    let (path, _folder) = books().await;
    // The wallet owed 300 at most; its standing never went below zero then, but its debt of 25 at the end did count.
    assert!(report(&path, 25).holds());
    let broken = report(&path, 24);
    assert!(broken.violations.iter().all(|violation| violation.invariant == Invariant::I5), "{broken}");
    assert_eq!(broken.violations_total, 2);
}

/// One changed column each. The first invariant that must be among the violations stands beside it.
#[tokio::test]
async fn every_change_of_one_column_is_found() {
    let (path, _folder) = books().await;
    let event = "UPDATE usage_events SET";
    let money = "UPDATE monetization_events SET";
    let update = "UPDATE balance_updates SET";
    let cases = [
        // I6: decisions, their money, their draws
        (event, "decision = zeroblob(16) WHERE place = 1", Invariant::I6),
        (event, "account = (SELECT max(id) FROM accounts) WHERE place = 1", Invariant::I6),
        (event, "draws = replace(draws, '400', '401') WHERE place = 1", Invariant::I6),
        (event, "draws = '[]' WHERE place = 1", Invariant::I6),
        (event, "policy = 5 WHERE place = 1", Invariant::I6),
        (money, "decision = randomblob(16) WHERE charged = 400", Invariant::I6),
        (money, "revision = 2 WHERE charged = 400", Invariant::I6),
        (money, "policy = 5 WHERE charged = 400", Invariant::I6),
        (money, "price = '1/1' WHERE charged = 400", Invariant::I6),
        (money, "gross = gross + 1 WHERE charged = 400", Invariant::I6),
        (money, "covered = covered + 1 WHERE charged = 400", Invariant::I6),
        (money, "forgiven = forgiven + 1 WHERE charged = 400", Invariant::I6),
        (money, "excess = 1 WHERE charged = 400", Invariant::I6),
        (money, "charged = charged + 1 WHERE charged = 400", Invariant::I6),
        (money, "covered = covered + 400, charged = 0 WHERE charged = 400", Invariant::I6),
        // I7: places
        (event, "seq = seq + 100 WHERE place = 1", Invariant::I7),
        (event, "previous = 7 WHERE place = 1", Invariant::I7),
        ("UPDATE records SET", "seq = seq + 100 WHERE kind = 'void'", Invariant::I7),
        ("UPDATE records SET", "digest = zeroblob(16) WHERE kind = 'grant'", Invariant::I7),
        ("UPDATE heads SET", "seq = seq + 1", Invariant::I7),
        ("UPDATE heads SET", "event = event + 1", Invariant::I7),
        ("UPDATE heads SET", "change = change - 1", Invariant::I8),
        // I8: balance updates and what they come to
        (update, "balance = 3 - balance WHERE place = 3", Invariant::I8),
        (update, "seq = seq + 1 WHERE place = 3", Invariant::I8),
        (update, "previous = 1 WHERE place = 3", Invariant::I8),
        (update, "kind = 'refund' WHERE place = 3", Invariant::I8),
        (update, "cause_kind = 'grant' WHERE place = 3", Invariant::I8),
        (update, "cause = zeroblob(16) WHERE place = 3", Invariant::I8),
        (update, "grant_id = (SELECT max(id) FROM grants) WHERE place = 3", Invariant::I8),
        (update, "grant_id = NULL WHERE place = 3", Invariant::I8),
        (update, "amount = amount + 1 WHERE place = 3", Invariant::I8),
        (update, "before = before + 1 WHERE place = 3", Invariant::I8),
        (update, "after = after + 1 WHERE place = 3", Invariant::I8),
        (update, "at = at + 1 WHERE place = 3", Invariant::I8),
        (update, "hash = zeroblob(32) WHERE place = 3", Invariant::I8),
        (update, "amount = amount + 1, after = after + 1 WHERE place = 14", Invariant::I8),
        ("UPDATE balances SET", "standing = standing + 1 WHERE id = 1", Invariant::I8),
        ("UPDATE balances SET", "debt = debt - 1 WHERE id = 1", Invariant::I8),
        ("UPDATE balances SET", "hash = zeroblob(32) WHERE id = 1", Invariant::I8),
        ("UPDATE balances SET", "name = 'purse' WHERE id = 1", Invariant::I8),
        ("UPDATE balances SET", "user = zeroblob(16) WHERE id = 1", Invariant::I8),
        ("UPDATE balances SET", "account = zeroblob(16) WHERE id = 1", Invariant::Orphans),
        // I12: grants
        ("UPDATE grants SET", "amount = amount + 1", Invariant::I12),
        ("UPDATE grants SET", "repaid = repaid + 1", Invariant::I12),
        ("UPDATE grants SET", "balance = 3 - balance", Invariant::I12),
        ("UPDATE grants SET", "seq = seq + 1", Invariant::I7),
        ("UPDATE grants SET", "priority = 1", Invariant::I7),
        ("UPDATE grants SET", "expires_at = expires_at + 1", Invariant::I7),
        ("UPDATE grants SET", "granted_at = granted_at + 1", Invariant::I7),
        ("UPDATE grants SET", "idempotency_key = 'again'", Invariant::I7),
        ("UPDATE grants SET", "note = 'again'", Invariant::I7),
        ("UPDATE grants SET", "id = randomblob(16)", Invariant::Orphans),
        ("UPDATE remainders SET", "remaining = remaining + 1", Invariant::I12),
        ("UPDATE remainders SET", "grant_id = randomblob(16)", Invariant::Orphans),
        ("UPDATE remainders SET", "balance = 3", Invariant::I12),
        // What rows name
        ("UPDATE policies SET", "text = text || ' '", Invariant::Orphans),
        ("UPDATE policies SET", "version = version + 1", Invariant::Orphans),
        ("UPDATE heads SET", "account = randomblob(16)", Invariant::Orphans),
        ("UPDATE accounts SET", "id = randomblob(16)", Invariant::Orphans),
        ("UPDATE users SET", "account = randomblob(16)", Invariant::Orphans),
        ("UPDATE keys SET", "user = randomblob(16)", Invariant::Orphans),
        ("UPDATE counters SET", "account = randomblob(16)", Invariant::Orphans),
    ];
    for (table, change, invariant) in cases {
        let statement = format!("{table} {change}");
        let report = forged(&path, &statement);
        let found = report.violations.iter().any(|violation| violation.invariant == invariant);
        assert!(found, "{statement} breaks no {}:\n{report}", invariant.as_str());
    }
}

#[tokio::test]
async fn every_row_that_is_missing_is_found() {
    let (path, _folder) = books().await;
    for (table, which, invariant) in [
        ("usage_events", "place = 3", Invariant::I6),
        ("monetization_events", "charged = 400", Invariant::I6),
        ("balance_updates", "place = 3", Invariant::I8),
        ("balance_updates", "place = (SELECT max(place) FROM balance_updates)", Invariant::I8),
        ("balances", "id = 1", Invariant::Orphans),
        ("grants", "repaid > 0", Invariant::Orphans),
        ("remainders", "true", Invariant::I12),
        ("records", "kind = 'expiry'", Invariant::I7),
        ("heads", "true", Invariant::I7),
        ("policies", "true", Invariant::Orphans),
        ("accounts", "true", Invariant::Orphans),
        ("users", "true", Invariant::Orphans),
    ] {
        let statement = format!("DELETE FROM {table} WHERE {which}");
        let report = forged(&path, &statement);
        let found = report.violations.iter().any(|violation| violation.invariant == invariant);
        assert!(found, "{statement} breaks no {}:\n{report}", invariant.as_str());
    }
}

#[tokio::test]
async fn one_broken_row_is_told_once_and_not_with_all_that_follow() {
    let (path, _folder) = books().await;
    let report = forged(&path, "UPDATE balance_updates SET at = at + 1 WHERE place = 3");
    assert_eq!(report.violations_total, 1, "{report}");
    let violation = &report.violations[0];
    assert_eq!((violation.invariant, violation.what), (Invariant::I8, "hash"));
    assert!(violation.subject.ends_with("wallet update 3"), "{violation}");
}

#[tokio::test]
async fn a_report_tells_a_bounded_number_and_counts_the_rest() {
    let (path, _folder) = books().await;
    let forger = forger(&path);
    for n in 0..200 {
        let insert = format!("INSERT INTO records VALUES (randomblob(16), {n}, 'void', zeroblob(16))");
        forger.execute(&insert, []).unwrap();
    }
    let report = report(&path, 300);
    assert_eq!(report.violations.len(), 100);
    assert!(report.violations_total > 200);
    assert!(report.to_string().contains("and "), "{report}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["violations"][0]["invariant"], "I7");
    assert_eq!(json["checked"]["accounts"], 2);
}

#[tokio::test]
async fn an_audit_sees_one_instant_while_the_gateway_writes() {
    let (path, _folder) = books().await;
    let books = SqliteBooks::open(&path).unwrap();
    let ledger = SqliteLedger::open(&path).unwrap();
    let mut third = Sample::new(3);
    ledger.add_account(&third.account).await.unwrap();
    ledger.apply(third.life()).await.unwrap();
    let read = |_: &str| Some(policy(300));
    let then = audit(&books, &read, &mut |_| {}).unwrap();
    assert_eq!(then.checked.accounts, 2);
    assert!(then.holds(), "{then}");
    drop(books);
    // The third account names a policy that was never kept.
    let now = report(&path, 300);
    assert_eq!(now.checked.accounts, 3);
    assert!(now.violations.iter().all(|violation| violation.what == "policy snapshot"), "{now}");
    assert_ne!(PolicyVersion::of(TEXT), POLICY);
}

#[tokio::test]
async fn progress_is_told_step_by_step() {
    let (path, _folder) = books().await;
    let mut told = Vec::new();
    let books = SqliteBooks::open(&path).unwrap();
    audit(&books, &|_| Some(policy(300)), &mut |progress| told.push(progress.step)).unwrap();
    assert_eq!(told, ["decisions", "records", "balance updates", "grants"]);
}
