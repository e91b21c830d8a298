//! What a caller can rely on while the disk works.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::disk::Cut;
use super::*;

fn records() -> impl Strategy<Value = Vec<Record>> {
    let largest = (64 << 10) - (8 << 10) - 25;
    let bytes = prop_oneof![Just(0), 0..300usize, 0..5000usize, Just(largest - 1), Just(largest)];
    // What the format allows at most, and one byte less, among small ones.
    let tag = prop_oneof![Just(Tag::Hold), Just(Tag::End), Just(Tag::Other)];
    let record = (tag, 0..20u8, bytes).prop_map(|(tag, id, bytes)| Record::new(tag, id, bytes));
    proptest::collection::vec(record, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_of_any_size_are_found_again_in_order(records in records(), restarts in 1..4usize) {
        let disk = Disk::default();
        let options = Options { segment_bytes: 64 << 10, bytes_max: 4 << 20, ..small() };
        let mut all: Vec<(u64, Record)> = Vec::new();
        for part in records.chunks(records.len().div_ceil(restarts).max(1)) {
            let (journal, recovery, found) = open(&disk, options.clone());
            prop_assert!(found == all);
            prop_assert_eq!(recovery.torn_bytes, 0);
            for record in part {
                drop(journal.append(record.frame()).unwrap());
                all.push((all.len() as u64, record.clone()));
            }
            journal.close().unwrap();
        }
        prop_assert!(open(&disk, options).2 == all);
    }
}

#[test]
fn a_payload_that_fits_no_segment_is_refused() {
    let (journal, ..) = open(&Disk::default(), small());
    let record = Record::new(Tag::Other, 1, journal.payload_bytes_max() + 1);
    let refused = journal.append(record.frame()).unwrap_err();
    assert_eq!(refused, AppendError::TooLarge { bytes: record.payload.len() });
}

#[test]
fn frames_are_found_again_in_a_real_folder_and_numbers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3u64 {
        let mut count = 0;
        let each = |_: Position, _: Frame<'_>| {
            count += 1;
            Ok(())
        };
        let (journal, recovery) = Journal::open(&folder.path().join("a/b"), small(), each).unwrap();
        assert_eq!((count, recovery.frames, recovery.next.0), (round * 40, round * 40, round * 40));
        for id in 0..40 {
            append(&journal, &Record::new(Tag::Other, id, 1000)).unwrap();
        }
        journal.close().unwrap();
    }
}

#[test]
fn a_second_process_is_refused_and_told_whose_the_folder_is() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path(), small(), |_, _| Ok(())).unwrap();
    let error = Journal::open(folder.path(), small(), |_, _| Ok(())).unwrap_err();
    assert!(matches!(error, OpenError::Locked { pid, .. } if pid == Some(std::process::id())));
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())));
    journal.close().unwrap();
    Journal::open(folder.path(), small(), |_, _| Ok(())).unwrap().0.close().unwrap();
}

#[test]
fn impossible_options_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for options in [
        Options { segment_bytes: 1 << 10, ..small() },
        Options { segment_bytes: 2 << 30, bytes_max: 8 << 30, ..small() },
        Options { bytes_max: 31 << 10, ..small() },
        Options { bytes_max: 1 << 30, ..small() },
    ] {
        let error = Journal::open(folder.path(), options, |_, _| Ok(())).unwrap_err();
        assert!(matches!(error, OpenError::Options(_)), "{error}");
    }
}

#[test]
fn what_the_caller_does_not_understand_is_not_opened() {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, small());
    append(&journal, &Record::new(Tag::Other, 1, 1)).unwrap();
    journal.close().unwrap();
    let mut each = |_: Position, _: Frame<'_>| Err("no such record".into());
    let error = Journal::open_in(Arc::new(disk), None, small(), &mut each).unwrap_err();
    assert!(matches!(error, OpenError::Rejected { position: Position::START, .. }));
}

#[test]
fn sixty_four_threads_append_and_each_keeps_its_order() {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, Options { segment_bytes: 64 << 10, bytes_max: 8 << 20, ..small() });
    std::thread::scope(|scope| {
        for thread in 0..64u8 {
            let journal = &journal;
            scope.spawn(move || {
                for count in 0..50u8 {
                    append(journal, &Record { tag: Tag::Other, id: [thread; 16], payload: vec![count; 100] })
                        .unwrap();
                }
            });
        }
    });
    assert!(journal.stats().syncs < 64 * 50 / 4, "appends share syncs");
    journal.close().unwrap();
    let mut seen: BTreeMap<Id, Vec<u8>> = BTreeMap::new();
    for (_, record) in found(&disk).1 {
        seen.entry(record.id).or_default().push(record.payload[0]);
    }
    assert_eq!(seen.len(), 64);
    assert!(seen.values().all(|counts| counts.iter().copied().eq(0..50)));
}

#[test]
fn a_frame_is_written_whether_or_not_anybody_waits() {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, small());
    disk.pause(true);
    let record = Record::new(Tag::Hold, 1, 10);
    let mut ticket = journal.append(record.frame()).unwrap();
    let waker = std::task::Waker::noop();
    for _ in 0..3 {
        assert!(
            std::pin::Pin::new(&mut ticket).poll(&mut std::task::Context::from_waker(waker)).is_pending()
        );
    }
    assert!(!ticket.is_durable());
    drop(ticket);
    disk.pause(false);
    wait(journal.flush()).unwrap();
    assert_eq!(found(&disk).1, [(0, record)]);
}

#[test]
fn an_end_that_nobody_waits_for_is_written_by_itself() {
    let (journal, ..) = open(&Disk::default(), small());
    drop(journal.append(Record::new(Tag::End, 1, 10).frame()).unwrap());
    until(|| journal.stats().durable == Position::new(1));
}

#[test]
fn an_end_that_somebody_waits_for_does_not_linger() {
    let (journal, ..) = open(&Disk::default(), small());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    // One of many is enough: on a busy machine most may take longer, while none that lingers could be faster.
    let fast = (0..100).any(|_| {
        wait(journal.flush()).unwrap();
        let ticket = journal.append(Record::new(Tag::End, 1, 10).frame()).unwrap();
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = tokio::time::sleep(queue::LINGER / 2) => false,
                outcome = ticket => outcome.is_ok(),
            }
        })
    });
    assert!(fast);
}

#[test]
fn relaxed_tickets_are_good_at_once_and_a_flush_makes_them_durable() {
    let disk = Disk::default();
    let durability = Durability::Relaxed { sync_every: Span::from_seconds(3600) };
    let (journal, ..) = open(&disk, Options { durability, ..small() });
    let record = Record::new(Tag::Hold, 1, 10);
    let ticket = journal.append(record.frame()).unwrap();
    assert!(ticket.is_durable());
    wait(ticket).unwrap();
    // The process may die as soon as it is written; power may go once it is flushed.
    until(|| found(&disk).1 == [(0, record.clone())]);
    assert_eq!(found(&disk.after(Cut::LosesAll)).1, []);
    wait(journal.flush()).unwrap();
    assert_eq!(found(&disk.after(Cut::LosesAll)).1, [(0, record)]);
}

#[test]
fn relaxed_frames_are_synced_in_time() {
    let disk = Disk::default();
    let durability = Durability::Relaxed { sync_every: Span::from_ms(10) };
    let (journal, ..) = open(&disk, Options { durability, ..small() });
    drop(journal.append(Record::new(Tag::Hold, 1, 10).frame()).unwrap());
    until(|| journal.stats().durable == Position::new(1));
}

#[test]
fn a_closed_journal_takes_nothing() {
    let (journal, ..) = open(&Disk::default(), small());
    journal.close().unwrap();
    journal.close().unwrap();
    assert_eq!(journal.append(Record::new(Tag::End, 1, 0).frame()).unwrap_err(), AppendError::Closed);
    assert_eq!(journal.health(), Health::Refusing { reason: Refusal::Closed });
    wait(journal.flush()).unwrap();
}
