//! Holds in a journal, judged against books.

use std::path::PathBuf;

use tempfile::TempDir;

use super::super::life::{Life, POLICY, START};
use super::super::tests::{books, read};
use super::super::{Scope, audit};
use super::*;
use crate::access::record::{HoldRecord, JobKind, JobRecord, Resource};
use crate::journal::{Journal, Options, Tag};
use crate::ledger::sqlite::SqliteBooks;

/// A data folder with books of one life, and a hold of another.
struct World {
    data: PathBuf,
    books: PathBuf,
    hold: Box<HoldRecord>,
    booked: Box<HoldRecord>,
    _folder: TempDir,
}

async fn world() -> World {
    let (books, folder) = books(0..1, 60).await;
    let policy = read(POLICY).unwrap();
    let mut records = Vec::new();
    let mut life = Life::new(0, &policy, true);
    for hour in 0..60 {
        life.step(START.plus(Span::from_seconds(hour * 3_600)), &mut records);
    }
    let ended = records.iter().find_map(|record| match record {
        Record::End(end) if end.ending.reached_upstream => Some(end.decision),
        _ => None,
    });
    let mut holds = records.into_iter().filter_map(|record| match record {
        Record::Hold(hold) => Some(hold),
        _ => None,
    });
    let booked = holds.find(|hold| Some(hold.decision) == ended).unwrap();
    let mut hold = booked.clone();
    hold.decision = DecisionId::new(START, [7; 10]);
    World { data: folder.path().to_owned(), books, hold, booked, _folder: folder }
}

impl World {
    /// Writes records to the journal, which stays open for as long as what is returned.
    async fn journal(&self, records: &[Record]) -> Journal {
        let options = Options { segment_bytes: 64 << 10, bytes_max: 1 << 20, ..Options::default() };
        let (journal, _) = Journal::open(&self.data.join("journal"), options, |_, _| Ok(())).unwrap();
        for record in records {
            let (tag, id) = match record {
                Record::Hold(hold) => (Tag::Hold, hold.decision),
                Record::End(end) => (Tag::End, end.decision),
                Record::Job(job) => (Tag::Other, job.decision),
                _ => unreachable!("not written here"),
            };
            let payload = postcard::to_stdvec(record).unwrap();
            let frame = Frame { tag, id: *id.as_bytes(), payload: &payload };
            journal.append(frame).unwrap().await.unwrap();
        }
        journal
    }

    /// What an audit says so long after the hold's deadline.
    fn report(&self, after_deadline: Span) -> AuditReport {
        self.report_where(Ends::Here, after_deadline)
    }

    fn report_where(&self, ends: Ends, after_deadline: Span) -> AuditReport {
        let books = SqliteBooks::open(&self.books).unwrap();
        let in_flight = InFlight::look(&self.data, ends, self.hold.expires_at.plus(after_deadline)).unwrap();
        let mut report = audit(&books, &read, Scope::default(), &mut |_| {}).unwrap();
        assert!(report.holds(), "{report}");
        in_flight.check(&books, None, &mut report).unwrap();
        report
    }

    /// As a running gateway has the folder.
    fn lock(&self) -> File {
        let file = File::options().create(true).truncate(false).write(true).open(self.data.join("lock"));
        let file = file.unwrap();
        file.try_lock().unwrap();
        file
    }
}

fn late() -> Span {
    Span::from_ms(GRACE.ms() + 1)
}

fn job(hold: &HoldRecord, lifetime: Span) -> Record {
    Record::Job(JobRecord {
        decision: hold.decision,
        account: hold.account,
        user: hold.user,
        kind: JobKind::Response,
        resource: Resource { id: "resp_1".into(), upstream: None },
        began_at: hold.held_at,
        expires_at: hold.held_at.plus(lifetime),
    })
}

/// I9: where no gateway runs, nothing renews a hold.
#[tokio::test]
async fn a_hold_past_its_deadline_is_told() {
    let world = world().await;
    world.journal(&[Record::Hold(world.hold.clone())]).await.close().unwrap();
    let in_time = world.report(GRACE);
    assert!(in_time.holds(), "{in_time}");
    assert_eq!(in_time.open_holds, OpenHolds::Yes { open: 1, renewed: 0, ended_elsewhere: 0 });
    let report = world.report(late());
    assert_eq!(report.violations_total, 1, "{report}");
    let violation = &report.violations[0];
    assert_eq!(violation.invariant, Invariant::I9);
    assert!(violation.subject.contains(&world.hold.decision.to_string()), "{report}");
    assert!(violation.subject.contains(&world.hold.account.to_string()), "{report}");
    assert!(violation.expected.contains(&world.hold.expires_at.to_string()), "{report}");
    assert_eq!(violation.found, "open 60 s after it");
}

/// I9: a running gateway renews what it has in flight in its memory, and jobs it ends at the deadline of their own.
#[tokio::test]
async fn beside_a_running_gateway_only_jobs_are_held_to_the_journal() {
    let world = world().await;
    let _lock = world.lock();
    let journal = world.journal(&[Record::Hold(world.hold.clone())]).await;
    let report = world.report(late());
    assert!(report.holds(), "{report}");
    assert_eq!(report.open_holds, OpenHolds::Yes { open: 1, renewed: 1, ended_elsewhere: 0 });
    assert!(report.to_string().contains("1 of them renewed by the running gateway"), "{report}");
    journal.close().unwrap();
    let lifetime = world.hold.expires_at.since(world.hold.held_at);
    let longer = Span::from_ms(lifetime.ms() + 1_000);
    world.journal(&[job(&world.hold, longer)]).await.close().unwrap();
    assert!(world.report(late()).holds());
    let report = world.report(Span::from_ms(late().ms() + 1_000));
    assert_eq!(report.violations_total, 1, "{report}");
    assert_eq!(report.violations[0].invariant, Invariant::I9);
}

/// I9: what is booked has ended.
#[tokio::test]
async fn a_hold_whose_call_is_booked_is_told() {
    let world = world().await;
    let _lock = world.lock();
    world.journal(&[Record::Hold(world.booked.clone())]).await.close().unwrap();
    let report = world.report(Span::from_ms(0));
    assert_eq!(report.violations_total, 1, "{report}");
    assert_eq!(report.violations[0].invariant, Invariant::I9);
    assert!(report.violations[0].subject.contains(&world.booked.decision.to_string()), "{report}");
    let books = SqliteBooks::open(&world.books).unwrap();
    let other = Some(AccountId::derived(&[b"nobody"]));
    let mut of_other = AuditReport::default();
    InFlight::look(&world.data, Ends::Here, START).unwrap().check(&books, other, &mut of_other).unwrap();
    assert!(of_other.holds(), "{of_other}");
    assert_eq!(of_other.open_holds, OpenHolds::Yes { open: 0, renewed: 0, ended_elsewhere: 0 });
}

/// I9: any node may end a hold that nodes share, and the journal of the one that took it hears later.
#[tokio::test]
async fn a_hold_that_another_node_has_ended_is_counted() {
    let world = world().await;
    let holds = [world.booked.clone(), world.hold.clone()].map(Record::Hold);
    world.journal(&holds).await.close().unwrap();
    let report = world.report_where(Ends::Anywhere, Span::from_ms(0));
    assert!(report.holds(), "{report}");
    assert_eq!(report.open_holds, OpenHolds::Yes { open: 1, renewed: 0, ended_elsewhere: 1 });
    assert!(report.to_string().contains("open holds: 1; 1 more were ended by other nodes"), "{report}");
    let late = world.report_where(Ends::Anywhere, late());
    assert_eq!(late.violations_total, 1, "{late}");
    assert!(late.violations[0].subject.contains(&world.hold.decision.to_string()), "{late}");
}

#[tokio::test]
async fn what_has_ended_is_not_open() {
    let world = world().await;
    let policy = read(POLICY).unwrap();
    let mut records = Vec::new();
    let mut life = Life::new(3, &policy, true);
    for hour in 0..20 {
        life.step(START.plus(Span::from_seconds(hour * 3_600)), &mut records);
    }
    life.close(&mut records);
    let of_holds = |record: &Record| matches!(record, Record::Hold(_) | Record::End(_));
    let records: Vec<_> = records.into_iter().filter(of_holds).collect();
    assert!(records.len() > 4);
    world.journal(&records).await.close().unwrap();
    let report = world.report(late());
    assert!(report.holds(), "{report}");
    assert_eq!(report.open_holds, OpenHolds::Yes { open: 0, renewed: 0, ended_elsewhere: 0 });
}

/// I10: a journal that cannot be read is told, and looking changes nothing in it.
#[tokio::test]
async fn a_journal_that_is_not_there_or_is_damaged_is_told() {
    let world = world().await;
    let report = world.report(late());
    assert!(report.holds(), "{report}");
    assert_eq!(report.open_holds, OpenHolds::NoJournal);
    assert!(report.to_string().contains("open holds: there is no journal"), "{report}");
    world
        .journal(&[Record::Hold(world.hold.clone()), Record::Hold(world.booked.clone())])
        .await
        .close()
        .unwrap();
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(world.data.join("journal"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = files();
    assert!(!world.report(late()).holds());
    assert_eq!(files(), before);
    let newest = before
        .iter()
        .filter(|(path, _)| path.extension().is_some())
        .max_by_key(|(_, bytes)| bytes.iter().filter(|byte| **byte != 0).count());
    let (path, bytes) = newest.unwrap();
    let mut damaged = bytes.clone();
    damaged[0] ^= 1;
    std::fs::write(path, damaged).unwrap();
    let report = world.report(late());
    assert_eq!(report.open_holds, OpenHolds::Unreadable);
    assert_eq!(report.violations[0].invariant, Invariant::I10);
}

#[test]
fn books_by_themselves_do_not_tell_what_is_in_flight() {
    let report = AuditReport::default();
    assert!(report.to_string().contains("open holds: not looked at"), "{report}");
    assert_eq!(serde_json::to_value(&report).unwrap()["open_holds"]["looked_at"], "no");
}
