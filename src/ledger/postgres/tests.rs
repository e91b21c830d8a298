//! The suite of every ledger, and what only this one can do: refuse by trigger and by role, be shared by many, go away
//! and come back as a server does.

use super::server::PostgresServer;
use super::*;
use crate::ledger::conformance::conformance;
use crate::ledger::samples::{POLICY, Sample};

async fn open() -> (Arc<dyn Ledger>, PostgresServer) {
    let server = PostgresServer::start().await;
    let ledger = PostgresLedger::open(&server.address()).await.unwrap();
    (Arc::new(ledger), server)
}

mod suite {
    super::conformance! { super::open }
}

/// A ledger with one account that has lived.
async fn with_life() -> (PostgresLedger, Sample, PostgresServer) {
    let server = PostgresServer::start().await;
    let ledger = PostgresLedger::open(&server.address()).await.unwrap();
    let mut sample = with_account(&ledger, 1).await;
    assert_eq!(ledger.apply(sample.life()).await.unwrap().booked, 9);
    ledger.keep_policy(POLICY, "version: 1").await.unwrap();
    (ledger, sample, server)
}

async fn with_account(ledger: &PostgresLedger, n: u8) -> Sample {
    let sample = Sample::new(n);
    ledger.add_account(&sample.account).await.unwrap();
    ledger.add_user(&sample.user).await.unwrap();
    sample
}

async fn state(ledger: &PostgresLedger) -> String {
    let mut told = Vec::new();
    ledger.restore(&mut |restored| told.push(restored)).await.unwrap();
    format!("{told:#?}")
}

fn ends(sample: &mut Sample, count: usize) -> Vec<Record> {
    (0..count).map(|_| Record::End(Box::new(sample.end(&[], 1)))).collect()
}

/// Whether a statement was refused in these words.
fn is_refused(done: Result<(), tokio_postgres::Error>, words: &str) -> bool {
    done.is_err_and(|error| error.as_db_error().is_some_and(|error| error.message().contains(words)))
}

/// Design §4: tables are append-only, and the database itself refuses changes: of whoever owns the tables by trigger,
/// of the gateway by role, in partitions too.
#[tokio::test]
async fn the_database_refuses_to_change_what_is_booked() {
    let (_ledger, _sample, server) = with_life().await;
    server.run("CREATE ROLE gateway LOGIN; GRANT overfall_writer TO gateway").await.unwrap();
    for (table, column) in [
        ("usage_events", "model"),
        ("usage_events_1970_01", "model"),
        ("monetization_events", "price"),
        ("monetization_events_1970_01", "price"),
        ("balance_updates", "at"),
        ("balance_updates_1970_01", "at"),
        ("grants", "priority"),
        ("records", "kind"),
        ("policies", "text"),
    ] {
        for statement in [
            format!("UPDATE {table} SET {column} = {column}"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table} CASCADE"),
        ] {
            assert!(is_refused(server.run(&statement).await, "are append-only"), "{statement}");
            let done = server.run_as("gateway", &statement).await;
            assert!(is_refused(done, "permission denied"), "{statement}");
        }
    }
    let change = "ALTER TABLE usage_events DISABLE TRIGGER ALL";
    assert!(is_refused(server.run_as("gateway", change).await, "must be owner"));
}

/// A gateway that does not own the tables books all the same, makes partitions, and reads.
#[tokio::test]
async fn a_gateway_needs_no_more_than_its_roles() {
    let (_ledger, _sample, server) = with_life().await;
    server.run("CREATE ROLE gateway LOGIN; GRANT overfall_writer, overfall_reader TO gateway").await.unwrap();
    let ledger = PostgresLedger::open(&server.address_as("gateway")).await.unwrap();
    let mut sample = with_account(&ledger, 2).await;
    let mut call = sample.end(&[], 1);
    call.decision = DecisionId::new(Timestamp::from_ms(1_795_000_000_000), [7; 10]);
    let decision = call.decision;
    assert_eq!(ledger.apply(vec![Record::End(Box::new(call))]).await.unwrap().booked, 1);
    assert!(ledger.decision(decision).await.unwrap().is_some());
    server.run("SELECT 1 FROM usage_events_2026_11; SELECT 1 FROM usage_events_2026_12").await.unwrap();
    server.run("CREATE ROLE stranger LOGIN").await.unwrap();
    let refused = PostgresLedger::open(&server.address_as("stranger")).await;
    assert!(refused.is_err(), "who has neither role gets nowhere");
}

/// Atomic: after an error nothing of the batch is booked, and what comes again is booked whole.
#[tokio::test]
async fn a_failure_in_the_middle_of_a_batch_books_none_of_it() {
    let (ledger, mut sample, server) = with_life().await;
    let before = state(&ledger).await;
    server
        .run(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'injected'; END $$; \
             CREATE TRIGGER fault BEFORE INSERT ON records FOR EACH ROW EXECUTE FUNCTION fail()",
        )
        .await
        .unwrap();
    let mut more = ends(&mut sample, 3);
    more.push(Record::End(Box::new(sample.void())));
    let failed = ledger.apply(more.clone()).await;
    assert!(matches!(failed, Err(LedgerError::Unavailable(_))), "{failed:?}");
    assert_eq!(state(&ledger).await, before);
    server.run("DROP TRIGGER fault ON records").await.unwrap();
    assert_eq!(ledger.apply(more).await.unwrap().booked, 4);
}

/// I10: what was answered with `Ok` is there after a crash of the server; while it is away the ledger is unavailable,
/// and then it is there again by itself.
#[tokio::test]
async fn a_server_that_went_away_is_found_again() {
    let (ledger, mut sample, mut server) = with_life().await;
    let before = state(&ledger).await;
    server.stop();
    let more = ends(&mut sample, 2);
    for _ in 0..2 {
        let failed = ledger.apply(more.clone()).await;
        assert!(matches!(failed, Err(LedgerError::Unavailable(_))), "{failed:?}");
        let failed = ledger.grant(crate::ledger::samples::grant_id(1)).await;
        assert!(matches!(failed, Err(LedgerError::Unavailable(_))), "{failed:?}");
    }
    server.again().await;
    // The first to ask may find that its connection was the old one's.
    let mut applied = ledger.apply(more.clone()).await;
    while matches!(applied, Err(LedgerError::Unavailable(_))) {
        applied = ledger.apply(more.clone()).await;
    }
    assert_eq!(applied.unwrap().booked, 2);
    assert_ne!(state(&ledger).await, before);
}

/// I7, I8: gateways side by side book every record once, those of one account in its order, and none waits for ever.
#[tokio::test]
async fn gateways_side_by_side_book_every_record_once() {
    let (first, mut sample, server) = with_life().await;
    let second = PostgresLedger::open(&server.address()).await.unwrap();
    let mut other = with_account(&first, 2).await;
    let (mine, theirs) = (ends(&mut sample, 60), ends(&mut other, 60));
    // The same records in both, the accounts in another order.
    let apply = async |ledger: &PostgresLedger, one: &[Record], two: &[Record]| {
        let mut applied = Applied::default();
        for (one, two) in one.chunks(10).zip(two.chunks(10)) {
            let done = ledger.apply([one, two].concat()).await.unwrap();
            assert!(done.conflicts.is_empty(), "{done:?}");
            applied.booked += done.booked;
            applied.repeated += done.repeated;
            applied.waiting.extend(done.waiting);
        }
        applied
    };
    let (a, b) = tokio::join!(apply(&first, &mine, &theirs), apply(&second, &theirs, &mine));
    assert_eq!((a.booked + b.booked, a.repeated + b.repeated), (120, 120));
    assert!(a.waiting.is_empty() && b.waiting.is_empty());
    let address = server.address();
    let held = tokio::task::spawn_blocking(move || {
        let books = PostgresBooks::open(&address).unwrap();
        crate::audit::checkpoint::Checkpoint::take(&books, Timestamp::from_ms(1)).unwrap().leaves
    });
    assert!(held.await.unwrap() > 0);
    for (sample, seq) in [(&sample, 69), (&other, 60)] {
        let decisions = first.decisions(sample.account.id, None, Page(200)).await.unwrap();
        assert_eq!(decisions[0].seq.0, seq);
        assert!(decisions.is_sorted_by_key(|row| std::cmp::Reverse(row.seq)));
    }
}

/// The tables are made once, whoever comes first; a program that knows less leaves them alone.
#[tokio::test]
async fn tables_are_made_once_and_newer_ones_are_left_alone() {
    let server = PostgresServer::start().await;
    let address = server.address();
    let (first, second) = tokio::join!(PostgresLedger::open(&address), PostgresLedger::open(&address));
    drop((first.unwrap(), second.unwrap()));
    let newer = "INSERT INTO refinery_schema_history SELECT version + 1000, name, applied_on, checksum \
         FROM refinery_schema_history LIMIT 1";
    server.run(newer).await.unwrap();
    let refused = PostgresLedger::open(&address).await;
    assert!(matches!(refused, Err(OpenError::Newer { found: 1001, .. })));
}

/// A password in an address is in no error.
#[tokio::test]
async fn an_address_that_is_none_is_not_shown() {
    for address in ["postgres://", "mysql://ada:secret@host/db", "host= password=secret port=x"] {
        let Err(error) = PostgresLedger::open(address).await else { panic!("{address} is none") };
        let shown = format!("{error:?} {}", crate::telemetry::chain(&error));
        assert!(!shown.contains("secret"), "{shown}");
    }
}

/// What no text of PostgreSQL can hold does not keep the records behind it from being booked.
#[tokio::test]
async fn a_nul_in_a_text_ends_it() {
    let (ledger, mut sample, _server) = with_life().await;
    let mut call = sample.end(&[], 1);
    call.model = "gpt\0-5.5".into();
    let decision = call.decision;
    assert_eq!(ledger.apply(vec![Record::End(Box::new(call.clone()))]).await.unwrap().booked, 1);
    assert_eq!(&*ledger.decision(decision).await.unwrap().unwrap().model, "gpt");
    assert_eq!(ledger.apply(vec![Record::End(Box::new(call))]).await.unwrap().repeated, 1);
}
