//! The same books on a server: they hold there, say the same, and are found out where they do not.

use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;

use super::*;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::receipt::Receipt;
use crate::audit::replay::{replay, what_if};
use crate::ledger::postgres::server::PostgresServer;
use crate::ledger::postgres::{MoveError, PostgresBooks, PostgresLedger, take_over};
use crate::ledger::recorded::Recorded;

/// A server with the books of some lives, and a file with the same.
fn both(
    lives: std::ops::Range<u64>,
    steps: u64,
) -> (PostgresServer, PathBuf, TempDir, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, path, folder) = runtime.block_on(async {
        let server = PostgresServer::start().await;
        let ledger = PostgresLedger::open(&server.address()).await.unwrap();
        live(&ledger, lives.clone(), steps).await;
        let (path, folder) = books(lives, steps).await;
        (server, path, folder)
    });
    (server, path, folder, runtime)
}

fn report_there(server: &PostgresServer, scope: Scope<'_>) -> AuditReport {
    let books = PostgresBooks::open(&server.address()).unwrap();
    audit(&books, &read, scope, &mut |_| {}).unwrap()
}

/// I8, I11: what is booked on a server has the hashes that a file has, and every proof of it is the same.
#[test]
fn books_on_a_server_hold_and_are_those_of_a_file() {
    let (server, path, _folder, _runtime) = both(0..6, 120);
    let there = report_there(&server, Scope::default());
    assert!(there.holds(), "{there}");
    assert_eq!(there.to_string(), report(&path).to_string());
    let (books, file) = (PostgresBooks::open(&server.address()).unwrap(), SqliteBooks::open(&path).unwrap());
    let checkpoint = Checkpoint::take(&books, START).unwrap();
    assert_eq!(checkpoint.root, Checkpoint::take(&file, START).unwrap().root);
    let again = replay(&books, &read, &mut |_| {}).unwrap();
    assert!(again.is_same(), "{again}");
    assert_eq!(again.to_string(), replay(&file, &read, &mut |_| {}).unwrap().to_string());
    let policy = read(POLICY).unwrap();
    let what_if =
        |books: &dyn Recorded| what_if::what_if(books, &policy, None, &mut |_| {}).unwrap().to_string();
    assert_eq!(what_if(&books), what_if(&file));
    for hours in [0, 40, 1_000] {
        let since = Some(START.plus(Span::from_seconds(hours * 3600)));
        let report = report_there(&server, Scope { since, ..Scope::default() });
        assert!(report.holds(), "since hour {hours}: {report}");
    }
    let kept = report_there(&server, Scope { checkpoint: Some(&checkpoint), ..Scope::default() });
    assert!(kept.holds(), "{kept}");
}

/// A receipt that is made of a server's books says what one of a file's does.
#[test]
fn receipts_are_made_of_books_on_a_server() {
    let (server, path, _folder, _runtime) = both(0..2, 60);
    let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let key = Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap();
    let (books, file) = (PostgresBooks::open(&server.address()).unwrap(), SqliteBooks::open(&path).unwrap());
    let mut decisions = Vec::new();
    books.ended(Timestamp::from_ms(0), Timestamp::NEVER, &mut |row| decisions.push(row.decision)).unwrap();
    assert!(decisions.len() > 20, "{}", decisions.len());
    for decision in decisions {
        let receipt = Receipt::make(&books, decision, &key, START, true).unwrap();
        receipt.verify(None, &read).unwrap();
        let same = Receipt::make(&file, decision, &key, START, true).unwrap();
        assert_eq!(format!("{:?}", receipt.told), format!("{:?}", same.told));
        assert_eq!(receipt.signed.checkpoint.root, same.signed.checkpoint.root);
    }
}

/// Whoever owns the tables can change them; the audit tells.
#[test]
fn what_the_owner_changes_is_found() {
    let (server, _path, _folder, runtime) = both(0..3, 60);
    let loose = "ALTER TABLE usage_events DISABLE TRIGGER append_only; \
         ALTER TABLE balance_updates DISABLE TRIGGER append_only";
    runtime.block_on(server.run(loose)).unwrap();
    assert!(report_there(&server, Scope::default()).holds());
    for (change, back) in [
        (
            "UPDATE usage_events SET output_tokens = output_tokens + 1 WHERE place = 5",
            "UPDATE usage_events SET output_tokens = output_tokens - 1 WHERE place = 5",
        ),
        (
            "UPDATE balances SET standing = standing + 1 WHERE id = 1",
            "UPDATE balances SET standing = standing - 1 WHERE id = 1",
        ),
        (
            "UPDATE heads SET seq = seq + 1 WHERE account = (SELECT min(account::text)::uuid FROM heads)",
            "UPDATE heads SET seq = seq - 1 WHERE account = (SELECT min(account::text)::uuid FROM heads)",
        ),
    ] {
        runtime.block_on(server.run(change)).unwrap();
        assert!(!report_there(&server, Scope::default()).holds(), "{change}");
        runtime.block_on(server.run(back)).unwrap();
    }
    assert!(report_there(&server, Scope::default()).holds());
}

/// Books that are moved are the same on both sides, to the last hash, and go on from there.
#[test]
fn moved_books_prove_the_same_and_go_on() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, path, _folder) = runtime.block_on(async {
        let (path, folder) = books(0..5, 80).await;
        (PostgresServer::start().await, path, folder)
    });
    let file = SqliteBooks::open(&path).unwrap();
    let mut told = Vec::new();
    take_over(&server.address(), &file, &mut |table, rows| told.push((table, rows))).unwrap();
    assert!(told.iter().any(|(table, rows)| *table == "usage_events" && *rows > 100), "{told:?}");
    let there = report_there(&server, Scope::default());
    assert!(there.holds(), "{there}");
    assert_eq!(there.to_string(), report(&path).to_string());
    let root = |books: &dyn Books| Checkpoint::take(books, START).unwrap().root;
    assert_eq!(root(&PostgresBooks::open(&server.address()).unwrap()), root(&file));
    let again = take_over(&server.address(), &file, &mut |_, _| {});
    assert!(matches!(again, Err(MoveError::NotEmpty { .. })), "{again:?}");
    let state = runtime.block_on(async {
        let ledger = PostgresLedger::open(&server.address()).await.unwrap();
        let kept = SqliteLedger::open(&path).unwrap();
        let state = [state(&ledger).await, state(&kept).await];
        live(&ledger, 7..8, 40).await;
        state
    });
    assert!(state[0] == state[1], "a restart finds the same on both sides");
    let there = report_there(&server, Scope::default());
    assert!(there.holds(), "{there}");
}

/// All of a restore, in an order that is the same everywhere.
async fn state(ledger: &dyn Ledger) -> Vec<String> {
    let mut told = Vec::new();
    ledger.restore(&mut |restored| told.push(format!("{restored:?}"))).await.unwrap();
    told.sort_unstable();
    told
}

/// What ends in the middle has moved nothing.
#[test]
fn books_that_cannot_be_moved_whole_are_not_moved() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, path, _folder) = runtime.block_on(async {
        let (path, folder) = books(0..2, 40).await;
        (PostgresServer::start().await, path, folder)
    });
    forger(&path)
        .execute("UPDATE usage_events SET model = CAST(x'6100' AS TEXT) WHERE place = 9", [])
        .unwrap();
    let file = SqliteBooks::open(&path).unwrap();
    let failed = take_over(&server.address(), &file, &mut |_, _| {});
    assert!(matches!(failed, Err(MoveError::Failed(_))), "{failed:?}");
    let sizes = PostgresBooks::open(&server.address()).unwrap().sizes().unwrap();
    assert_eq!((sizes.accounts, sizes.records, sizes.usage_events), (0, 0, 0));
}
