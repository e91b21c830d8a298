//! Readers, and how long segments stay.

use super::disk::Cut;
use super::*;

fn read(reader: &mut Reader) -> Vec<u64> {
    reader.next_batch(1000, 1 << 20).unwrap().into_iter().map(|entry| entry.position.0).collect()
}

/// Appends frames that nobody needs once they are applied, until so many segments hold frames.
fn fill(journal: &Journal, segments: usize) {
    while journal.stats().segments < segments {
        append(journal, &Record::new(Tag::Other, 0, 3000)).unwrap();
    }
}

fn apply_all(journal: &Journal) {
    journal.applied(journal.stats().durable);
    wait(journal.flush()).unwrap();
}

#[test]
fn a_reader_gets_durable_frames_only_and_waits_for_more() {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, small());
    let mut reader = journal.reader(Position::START);
    assert!(read(&mut reader).is_empty());
    let record = Record::new(Tag::Other, 1, 10);
    append(&journal, &record).unwrap();
    let entry =
        Entry { position: Position::START, tag: record.tag, id: record.id, payload: record.payload.clone() };
    assert_eq!(reader.next_batch(10, 1000).unwrap(), [entry]);
    disk.pause(true);
    let ticket = journal.append(record.frame()).unwrap();
    assert!(!reader.wait(Duration::from_millis(1)));
    assert!(read(&mut reader).is_empty());
    disk.pause(false);
    wait(reader.more()).unwrap();
    assert!(reader.wait(Duration::ZERO));
    assert_eq!(read(&mut reader), [1]);
    wait(ticket).unwrap();
    journal.close().unwrap();
    assert_eq!(wait(reader.more()), Err(NotDurable::Stopped));
}

#[test]
fn a_batch_is_bounded_by_frames_and_by_bytes_and_may_begin_anywhere() {
    let (journal, ..) = open(&Disk::default(), small());
    for id in 0..30 {
        append(&journal, &Record::new(Tag::Other, id, 1000)).unwrap();
    }
    assert!(journal.stats().segments > 1);
    let mut reader = journal.reader(Position::new(7));
    for (frames_max, bytes_max, expected) in [(3, 1 << 20, 7..10), (100, 2500, 10..13), (100, 1, 13..14)] {
        let batch = reader.next_batch(frames_max, bytes_max).unwrap();
        assert!(batch.iter().map(|entry| entry.position.0).eq(expected));
    }
    assert_eq!(read(&mut reader), (14..30).collect::<Vec<_>>());
}

#[test]
fn segments_go_when_they_are_applied_and_their_files_are_used_again() {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, small());
    let mut reader = journal.reader(Position::START);
    for _ in 0..20 {
        fill(&journal, 3);
        read(&mut reader);
        journal.applied(reader.position());
        until(|| journal.stats().segments == 1);
    }
    assert!(disk.used_bytes() <= 4 * (16 << 10), "{:?}", disk.names());
    // A reader that lags goes on behind what has gone.
    let mut late = journal.reader(Position::START);
    assert!(read(&mut late)[0] > 80);
    assert_eq!(late.position(), reader.position());
}

#[test]
fn a_long_hold_keeps_its_own_segment_and_no_other() {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, small());
    fill(&journal, 1);
    append(&journal, &Record::new(Tag::Hold, 1, 10)).unwrap();
    fill(&journal, 3);
    append(&journal, &Record::new(Tag::Hold, 2, 10)).unwrap();
    fill(&journal, 8);
    apply_all(&journal);
    until(|| journal.stats().segments == 3);
    let (recovery, holds) = found(&disk);
    let holds: Vec<_> =
        holds.into_iter().filter(|(_, record)| record.tag == Tag::Hold).map(|(_, hold)| hold.id).collect();
    assert_eq!(holds, [[1; 16], [2; 16]]);
    assert_eq!(recovery.open, HashSet::from([[1; 16], [2; 16]]));
    append(&journal, &Record::new(Tag::End, 1, 10)).unwrap();
    append(&journal, &Record::new(Tag::End, 2, 10)).unwrap();
    until(|| journal.stats().segments == 1);
}

#[test]
fn a_hold_is_not_found_open_again_when_the_segment_with_its_end_has_gone() {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, small());
    append(&journal, &Record::new(Tag::Hold, 1, 10)).unwrap();
    append(&journal, &Record::new(Tag::Hold, 2, 10)).unwrap();
    fill(&journal, 2);
    append(&journal, &Record::new(Tag::End, 2, 10)).unwrap();
    fill(&journal, 4);
    apply_all(&journal);
    until(|| journal.stats().segments == 2);
    journal.close().unwrap();
    let (journal, recovery, found) = open(&disk, small());
    assert!(found.iter().any(|(_, record)| *record == Record::new(Tag::Hold, 2, 10)));
    assert!(found.iter().all(|(_, record)| record.tag != Tag::End));
    assert_eq!(recovery.open, HashSet::from([[1; 16]]));
    assert_eq!(journal.stats().holds_open, 1);
    append(&journal, &Record::new(Tag::End, 1, 10)).unwrap();
    apply_all(&journal);
    until(|| journal.stats().segments == 1);
}

#[test]
fn a_hold_that_is_appended_again_keeps_both_frames() {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, small());
    append(&journal, &Record::new(Tag::Hold, 1, 10)).unwrap();
    fill(&journal, 3);
    append(&journal, &Record::new(Tag::Hold, 1, 20)).unwrap();
    fill(&journal, 6);
    apply_all(&journal);
    until(|| journal.stats().segments == 3);
    let holds = found(&disk).1.into_iter().filter(|(_, record)| record.tag == Tag::Hold).count();
    assert_eq!((holds, journal.stats().holds_open), (2, 1));
    append(&journal, &Record::new(Tag::End, 1, 10)).unwrap();
    apply_all(&journal);
    until(|| journal.stats().segments == 1);
    assert_eq!(journal.stats().holds_open, 0);
}

#[test]
fn bytes_of_an_earlier_use_of_a_file_are_never_taken_for_frames() {
    let disk = Disk::default();
    let mut begun = 0;
    // All frames are of one length, so that old ones stand exactly where new ones end.
    for _ in 0..12 {
        let (journal, recovery, found) = open(&disk, small());
        assert_eq!(recovery.next.0, begun);
        assert!(found.iter().all(|(_, record)| record.payload.len() == 500));
        while journal.stats().segments < 3 {
            append(&journal, &Record::new(Tag::Other, 9, 500)).unwrap();
        }
        apply_all(&journal);
        append(&journal, &Record::new(Tag::Other, 9, 500)).unwrap();
        begun = journal.stats().next.0;
        journal.close().unwrap();
    }
}

/// A segment whose first write was torn has no frames. Once those before it were gone, a reader that came from the
/// beginning stood before it for ever, and so did settlement, through every restart.
#[test]
fn a_reader_from_the_start_passes_a_segment_whose_first_write_was_torn() {
    let by_hand = |disk: &Disk| {
        let opened =
            Journal::open_by_hand(disk, small(), &mut |_, _| Ok(()), crate::journal::writer::monotonic);
        let (journal, _, writer) = opened.unwrap();
        (journal, writer)
    };
    let put = |journal: &Journal| drop(journal.append(Record::new(Tag::Other, 1, 1000).frame()).unwrap());
    // A first segment, and a second whose first write has its head only.
    let disk = Disk::default();
    let (journal, mut writer) = by_hand(&disk);
    put(&journal);
    writer.step();
    let disk = disk.after(Cut::KeepsAll);
    let (journal, mut writer) = by_hand(&disk);
    put(&journal);
    disk.fail_writes(1);
    disk.stop_at(disk.operations() + 1);
    writer.step();
    // A third; then the first goes, and the machine before the second can.
    let disk = disk.after(Cut::KeepsAll);
    let (journal, mut writer) = by_hand(&disk);
    put(&journal);
    writer.step();
    journal.applied(Position(1));
    disk.stop_at(disk.operations() + 2);
    writer.step();
    let disk = disk.after(Cut::KeepsAll);
    assert_eq!(disk.names().len(), 3, "the second, the third and the spare");
    let (journal, _writer) = by_hand(&disk);
    let read = journal.reader(Position::START).next_batch(10, 10_000).unwrap();
    assert_eq!(read.iter().map(|entry| entry.position).collect::<Vec<_>>(), [Position(1)]);
}
