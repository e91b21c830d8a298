//! The suite of every ledger, and what only this one can do: refuse, fail and recover as a file does.

use std::sync::Arc;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::ledger::conformance::conformance;
use crate::ledger::samples::Sample;

#[expect(clippy::unused_async, reason = "other stores are opened over a network")]
async fn open() -> (Arc<dyn Ledger>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(&folder.path().join("ledger.db")).unwrap();
    (Arc::new(ledger), folder)
}

mod suite {
    super::conformance! { super::open }
}

/// A ledger with one account, and its file.
async fn with_account() -> (SqliteLedger, Sample, PathBuf, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = SqliteLedger::open(&path).unwrap();
    let sample = Sample::new(1);
    ledger.add_account(&sample.account).await.unwrap();
    (ledger, sample, path, folder)
}

async fn state(ledger: &SqliteLedger) -> String {
    let mut told = Vec::new();
    ledger.restore(&mut |restored| told.push(restored)).await.unwrap();
    format!("{told:#?}")
}

fn rows(path: &Path, table: &str) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// Design §4: tables are append-only, and the database itself refuses updates and deletes.
#[tokio::test]
async fn the_database_refuses_to_change_what_is_booked() {
    let (ledger, mut sample, path, _folder) = with_account().await;
    ledger.apply(sample.life()).await.unwrap();
    ledger.keep_policy(PolicyVersion(1), "version: 1").await.unwrap();
    let shell = Connection::open(&path).unwrap();
    for (table, column) in [
        ("usage_events", "model"),
        ("monetization_events", "price"),
        ("balance_updates", "at"),
        ("grants", "priority"),
        ("records", "kind"),
        ("policies", "text"),
    ] {
        let before = rows(&path, table);
        assert!(before > 0, "{table}");
        for statement in [
            format!("UPDATE {table} SET {column} = {column}"),
            format!("DELETE FROM {table}"),
            format!("INSERT OR REPLACE INTO {table} SELECT * FROM {table}"),
        ] {
            let refused = shell.execute(&statement, []).unwrap_err().to_string();
            assert!(refused.contains("append-only"), "{statement}: {refused}");
        }
        assert_eq!(rows(&path, table), before);
    }
}

/// Atomic: after an error nothing of the batch is booked, and what the writer remembers is what is stored.
#[tokio::test]
async fn a_failure_in_the_middle_of_a_batch_books_none_of_it() {
    let (ledger, mut sample, path, _folder) = with_account().await;
    let life = sample.life();
    ledger.apply(life[..3].to_vec()).await.unwrap();
    let before = state(&ledger).await;
    let shell = Connection::open(&path).unwrap();
    shell
        .execute_batch(
            "CREATE TRIGGER fault BEFORE INSERT ON balance_updates WHEN NEW.kind = 'expiry' \
             BEGIN SELECT RAISE(ABORT, 'injected'); END",
        )
        .unwrap();
    let failed = ledger.apply(life[3..].to_vec()).await;
    assert!(matches!(failed, Err(LedgerError::Corrupt { .. })), "{failed:?}");
    assert_eq!(state(&ledger).await, before);
    shell.execute_batch("DROP TRIGGER fault").unwrap();
    assert_eq!(ledger.apply(life).await.unwrap(), Applied { booked: 6, repeated: 3, ..Applied::default() });
}

#[tokio::test]
async fn a_full_disk_makes_it_unavailable_and_it_recovers_by_itself() {
    let (ledger, mut sample, path, _folder) = with_account().await;
    let full: i64 = ledger
        .writer
        .run(|books| {
            let pages: i64 = books.connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            Ok(books
                .connection
                .query_row(&format!("PRAGMA max_page_count = {}", pages + 2), [], |row| row.get(0))?)
        })
        .await
        .unwrap();
    assert!(full > 0);
    let before = state(&ledger).await;
    let calls: Vec<_> = (0..100).map(|_| Record::End(Box::new(sample.end(&[], 1)))).collect();
    let failed = ledger.apply(calls.clone()).await;
    let Err(LedgerError::Unavailable(cause)) = failed else { panic!("{failed:?}") };
    assert!(cause.to_string().contains("full"), "{cause}");
    assert_eq!(state(&ledger).await, before);
    // The limit was the connection's, and went with it.
    assert_eq!(ledger.apply(calls).await.unwrap().booked, 100);
    assert_eq!(rows(&path, "usage_events"), 100);
}

#[tokio::test]
async fn a_lock_of_another_process_makes_it_unavailable_for_as_long_as_it_lasts() {
    let (ledger, mut sample, path, _folder) = with_account().await;
    ledger
        .writer
        .run(|books| Ok(books.connection.busy_timeout(std::time::Duration::from_millis(10))?))
        .await
        .unwrap();
    let shell = Connection::open(&path).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let life = sample.life();
    let failed = ledger.apply(life.clone()).await;
    assert!(matches!(failed, Err(LedgerError::Unavailable(_))), "{failed:?}");
    shell.execute_batch("ROLLBACK").unwrap();
    assert_eq!(ledger.apply(life).await.unwrap().booked, 9);
}

#[tokio::test]
async fn a_connection_that_may_only_read_makes_it_unavailable_until_it_is_opened_again() {
    let (ledger, mut sample, _path, _folder) = with_account().await;
    ledger.writer.run(|books| Ok(books.connection.pragma_update(None, "query_only", true)?)).await.unwrap();
    let life = sample.life();
    let failed = ledger.apply(life.clone()).await;
    let Err(LedgerError::Unavailable(cause)) = failed else { panic!("{failed:?}") };
    assert!(cause.to_string().contains("readonly"), "{cause}");
    assert_eq!(ledger.apply(life).await.unwrap().booked, 9);
}

/// A ledger that has gone is not an empty one.
#[tokio::test]
async fn a_file_that_has_gone_is_not_made_anew() {
    let (ledger, mut sample, path, folder) = with_account().await;
    ledger.writer.run(|books| Ok(books.connection.pragma_update(None, "query_only", true)?)).await.unwrap();
    let life = sample.life();
    ledger.apply(life.clone()).await.unwrap_err();
    let aside = folder.path().join("aside.db");
    move_all(&path, &aside);
    let failed = ledger.apply(life.clone()).await;
    assert!(matches!(failed, Err(LedgerError::Unavailable(_))), "{failed:?}");
    assert!(!path.exists());
    move_all(&aside, &path);
    assert_eq!(ledger.apply(life).await.unwrap().booked, 9);
}

fn move_all(from: &Path, to: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let part = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        if part(from).exists() {
            std::fs::rename(part(from), part(to)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_panic_in_the_writer_costs_one_piece_of_work() {
    let (ledger, mut sample, _path, _folder) = with_account().await;
    let failed = ledger.writer.run(|_| -> Result<(), LedgerError> { panic!("injected") }).await;
    assert!(matches!(failed, Err(LedgerError::Unavailable(_))), "{failed:?}");
    assert_eq!(ledger.apply(sample.life()).await.unwrap().booked, 9);
}

/// I10: what was answered is there after the file was closed and opened again, also beyond what the writer remembers.
#[tokio::test]
async fn a_ledger_that_is_opened_again_goes_on_where_it_was() {
    let (ledger, mut sample, path, _folder) = with_account().await;
    let life = sample.life();
    ledger.apply(life[..5].to_vec()).await.unwrap();
    let before = state(&ledger).await;
    drop(ledger);
    let ledger = SqliteLedger::open(&path).unwrap();
    assert_eq!(state(&ledger).await, before);
    assert_eq!(ledger.apply(life).await.unwrap(), Applied { booked: 4, repeated: 5, ..Applied::default() });
    let grants = ledger.grants(sample.account.id).await.unwrap();
    let left: u64 = grants.iter().map(|grant| grant.remaining.micros()).sum();
    assert_eq!(left, 840);
}

#[tokio::test]
async fn work_that_nobody_waits_for_any_more_is_done_all_the_same() {
    let (ledger, mut sample, path, _folder) = with_account().await;
    let mut dropped = Box::pin(ledger.apply(sample.life()));
    // Handed over by the first poll; whether the writer has finished by then is its own affair.
    let _done_or_not = futures_poll_once(dropped.as_mut());
    drop(dropped);
    drop(ledger);
    assert_eq!(rows(&path, "balance_updates"), 14);
}

fn futures_poll_once<F: Future + ?Sized>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

#[test]
fn a_file_that_is_no_ledger_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    std::fs::write(&path, "not a database, but long enough to be taken for one".repeat(100)).unwrap();
    assert!(matches!(SqliteLedger::open(&path), Err(OpenError::File(_))));
    assert!(matches!(SqliteLedger::open(folder.path()), Err(OpenError::File(_))));
}

/// Rows that say what cannot be are damage, never a panic and never a guess.
#[tokio::test]
async fn a_row_that_cannot_be_read_is_damage() {
    let (ledger, mut sample, path, _folder) = with_account().await;
    ledger.apply(sample.life()).await.unwrap();
    let shell = Connection::open(&path).unwrap();
    shell.execute_batch("DROP TRIGGER usage_events_no_update").unwrap();
    shell.execute_batch("UPDATE usage_events SET outcome = 'unheard-of', previous = place").unwrap();
    let read = ledger.decisions(sample.account.id, None, Page(9)).await;
    assert!(matches!(read, Err(LedgerError::Corrupt { .. })), "{read:?}");
    shell.execute_batch("UPDATE usage_events SET outcome = 'completed'").unwrap();
    let read = ledger.decisions(sample.account.id, None, Page(9)).await;
    assert!(matches!(read, Err(LedgerError::Corrupt { .. })), "{read:?}");
    shell
        .execute_batch("UPDATE heads SET account = zeroblob(3); UPDATE accounts SET id = zeroblob(3)")
        .unwrap();
    let restored = ledger.restore(&mut |_| {}).await;
    assert!(matches!(restored, Err(LedgerError::Corrupt { .. })), "{restored:?}");
}
