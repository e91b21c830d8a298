//! Full disks, failing disks, damaged files.

use proptest::prelude::*;

use super::disk::Cut;
use super::*;

const SEGMENT: usize = 16 << 10;

fn refusing(reason: Refusal) -> Health {
    Health::Refusing { reason }
}

fn hold(journal: &Journal) -> Result<(), AppendError> {
    journal.append(Record::new(Tag::Hold, 7, 100).frame()).map(drop)
}

#[test]
fn a_full_disk_refuses_holds_takes_ends_and_recovers_by_itself() {
    let disk = Disk::default();
    disk.limit(Some(3 * SEGMENT as u64 + 100));
    let (journal, ..) = open(&disk, small());
    while hold(&journal).is_ok() {
        wait(journal.flush()).unwrap();
    }
    assert_eq!(journal.health(), refusing(Refusal::DiskFull));
    assert_eq!(hold(&journal), Err(AppendError::Full));
    // The segment in use has room for ends.
    for _ in 0..5 {
        append(&journal, &Record::new(Tag::End, 7, 1000)).unwrap();
    }
    disk.limit(None);
    until(|| journal.health() == Health::Good);
    hold(&journal).unwrap();
    journal.close().unwrap();
}

#[test]
fn ends_wait_in_memory_when_not_even_they_find_room() {
    let disk = Disk::default();
    disk.limit(Some(2 * SEGMENT as u64 + 100));
    let (journal, ..) = open(&disk, small());
    let end = Record::new(Tag::End, 1, 5000);
    let tickets: Vec<_> = (0..10).map(|_| journal.append(end.frame()).unwrap()).collect();
    assert!(tickets.into_iter().map(wait).any(|outcome| outcome == Err(NotDurable::Failing)));
    assert_eq!(journal.health(), refusing(Refusal::DiskFull));
    disk.limit(None);
    until(|| journal.stats().durable.0 == 10);
    until(|| journal.health() == Health::Good);
    assert_eq!(found(&disk).1.len(), 10);
}

#[test]
fn room_that_the_ledger_frees_is_found_while_writing_fails_for_want_of_it() {
    let disk = Disk::default();
    disk.limit(Some(3 * SEGMENT as u64 + 100));
    let (journal, ..) = open(&disk, small());
    let mut taken = 0;
    while journal.stats().failures < 2 {
        drop(journal.append(Record::new(Tag::Other, 1, 5000).frame()).unwrap());
        taken += 1;
        until(|| journal.stats().failures > 1 || journal.stats().durable.0 == taken);
    }
    assert!(journal.stats().segments > 2);
    journal.applied(journal.stats().durable);
    until(|| journal.stats().durable.0 == taken);
    until(|| journal.health() == Health::Good);
}

#[test]
fn segments_must_be_able_to_list_the_holds_that_are_open() {
    let disk = Disk::default();
    let large = Options { segment_bytes: 1 << 20, bytes_max: 4 << 20, ..small() };
    let (journal, ..) = open(&disk, large.clone());
    for id in 0..200 {
        drop(journal.append(Record::new(Tag::Hold, id, 1).frame()).unwrap());
    }
    journal.close().unwrap();
    assert!(matches!(try_open(&disk, small()).unwrap_err(), OpenError::Options(_)));
    open(&disk, large).0.close().unwrap();
}

#[test]
fn too_much_that_is_not_applied_refuses_holds_until_the_ledger_catches_up() {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, Options { bytes_max: 4 * SEGMENT as u64, ..small() });
    while hold(&journal).is_ok() {
        wait(journal.flush()).unwrap();
    }
    assert_eq!(journal.health(), refusing(Refusal::BytesMax));
    assert!(disk.used_bytes() <= 4 * SEGMENT as u64);
    // The bound is one for holds: what is owed to the books goes in.
    for _ in 0..20 {
        append(&journal, &Record::new(Tag::End, 7, 2000)).unwrap();
    }
    assert!(disk.used_bytes() > 4 * SEGMENT as u64);
    journal.applied(journal.stats().durable);
    until(|| journal.health() == Health::Good);
    hold(&journal).unwrap();
}

#[test]
fn as_many_holds_as_a_segment_can_list_may_be_open() {
    let (journal, ..) = open(&Disk::default(), small());
    let mut opened = 0u64;
    let refused = loop {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&opened.to_le_bytes());
        match journal.append(Frame { tag: Tag::Hold, id, payload: &[] }) {
            Ok(_) => opened += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((refused, journal.health()), (AppendError::Full, refusing(Refusal::HoldsMax)));
    assert!(opened > 80);
    append(&journal, &Record { tag: Tag::End, id: [0; 16], payload: Vec::new() }).unwrap();
    wait(journal.flush()).unwrap();
    until(|| hold(&journal).is_ok());
}

#[test]
fn what_a_failed_sync_lost_is_written_again_elsewhere() {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, small());
    append(&journal, &Record::new(Tag::Hold, 1, 10)).unwrap();
    // The next sync is then none of a spare segment.
    until(|| journal.stats().file_bytes == 2 * SEGMENT as u64);
    disk.fail_syncs(1);
    // The disk drops these bytes and calls them clean. They are durable all the same.
    append(&journal, &Record::new(Tag::Hold, 2, 10)).unwrap();
    until(|| journal.health() == Health::Good);
    append(&journal, &Record::new(Tag::Hold, 3, 10)).unwrap();
    assert_eq!(journal.stats().failures, 1);
    let all = found(&disk.after(Cut::LosesAll)).1;
    assert!(all.iter().map(|(position, record)| (*position, record.id[0])).eq([(0, 1), (1, 2), (2, 3)]));
    // Also where the process goes on after a restart, and the power goes then.
    disk.fail_syncs(1000);
    drop(journal.append(Record::new(Tag::Hold, 4, 10).frame()).unwrap());
    journal.close().unwrap_err();
    disk.fail_syncs(0);
    let (journal, recovery, all) = open(&disk, small());
    journal.close().unwrap();
    let after = found(&disk.after(Cut::LosesAll));
    assert_eq!((after.0.next, after.1), (recovery.next, all));
}

#[test]
fn frames_of_several_writes_that_one_failed_sync_lost_are_durable_once_found() {
    let disk = Disk::default();
    let durability = Durability::Relaxed { sync_every: Span::from_seconds(3600) };
    let (journal, ..) = open(&disk, Options { durability, ..small() });
    drop(journal.append(Record::new(Tag::Hold, 0, 10).frame()).unwrap());
    wait(journal.flush()).unwrap();
    for id in 1..4 {
        drop(journal.append(Record::new(Tag::Hold, id, 10).frame()).unwrap());
        until(|| found(&disk).1.len() == 1 + usize::from(id));
    }
    disk.fail_syncs(1000);
    journal.close().unwrap_err();
    disk.fail_syncs(0);
    let (journal, _, all) = open(&disk, small());
    assert_eq!(all.len(), 4);
    assert_eq!(found(&disk.after(Cut::LosesAll)).1, all);
    drop(journal);
}

#[test]
fn room_behind_the_last_frame_is_given_back_at_the_next_start() {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, small());
    append(&journal, &Record::new(Tag::Other, 1, 1000)).unwrap();
    let crashed = disk.after(Cut::KeepsAll);
    for _ in 0..3 {
        // Many starts in a row do not pile up segments either.
        let (journal, ..) = open(&crashed, small());
        assert!(crashed.used_bytes() < SEGMENT as u64 + 1200);
        assert_eq!(journal.stats().file_bytes, crashed.used_bytes());
        journal.close().unwrap();
    }
}

#[test]
fn a_failing_disk_refuses_holds_and_keeps_ends() {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, small());
    append(&journal, &Record::new(Tag::Hold, 1, 10)).unwrap();
    until(|| journal.stats().file_bytes == 2 * SEGMENT as u64);
    disk.fail_writes(4);
    let end = Record::new(Tag::End, 1, 10);
    assert_eq!(append(&journal, &end), Err(NotDurable::Failing));
    assert_eq!(journal.health(), refusing(Refusal::Failing));
    assert_eq!(hold(&journal), Err(AppendError::Failed));
    until(|| journal.health() == Health::Good);
    hold(&journal).unwrap();
    journal.close().unwrap();
    assert_eq!(found(&disk).1[1], (1, end));
}

#[test]
fn the_queue_has_a_bound_for_holds_and_none_for_ends() {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, Options { queue_bytes_max: 4000, ..small() });
    disk.pause(true);
    let append = |tag| journal.append(Record::new(tag, 1, 975).frame()).map(drop);
    let holds = (0..100).take_while(|_| append(Tag::Hold) != Err(AppendError::Backlogged)).count();
    assert_eq!(holds, 4);
    for tag in [Tag::End, Tag::Other].into_iter().cycle().take(28) {
        append(tag).unwrap();
    }
    assert_eq!(append(Tag::Hold), Err(AppendError::Backlogged));
    // Closing does not wait where dropping would, and a reader does not wait for what cannot come.
    disk.pause(false);
    journal.close().unwrap();
    assert_eq!(found(&disk).1.len(), 32);
}

#[test]
fn a_disk_that_fails_for_good_keeps_nobody_waiting() {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, small());
    disk.stop_at(0);
    let ticket = journal.append(Record::new(Tag::End, 1, 10).frame()).unwrap();
    let flushed = journal.flush();
    assert_eq!(journal.close(), Err(NotDurable::Stopped));
    assert!(wait(ticket).is_err());
    assert_eq!(wait(flushed), Err(NotDurable::Stopped));
    // Nor does dropping one.
    let disk = Disk::default();
    let (journal, ..) = open(&disk, small());
    disk.pause(true);
    let ticket = journal.append(Record::new(Tag::End, 1, 10).frame()).unwrap();
    drop(journal);
    disk.pause(false);
    wait(ticket).unwrap();
}

/// A journal of several segments with frames of 1000 bytes, closed.
fn several_segments() -> Disk {
    let disk = Disk::default();
    let (journal, ..) = open(&disk, small());
    for id in 0..40 {
        append(&journal, &Record::new(Tag::Other, id, 1000)).unwrap();
    }
    assert!(journal.stats().segments > 2);
    journal.close().unwrap();
    disk
}

fn damaged(disk: &Disk, name: &str, offset: usize) -> Option<(String, u64)> {
    let disk = disk.after(Cut::KeepsAll);
    let old = disk.content(name)[offset];
    disk.overwrite(name, offset, &[old ^ 1]);
    match try_open(&disk, small()) {
        Err(OpenError::Damaged { file, offset }) => Some((file, offset)),
        Err(error) => panic!("{error}"),
        Ok(_) => None,
    }
}

#[test]
fn damage_before_good_frames_is_refused_and_located() {
    let disk = several_segments();
    let names = disk.names();
    let newest = names.iter().rfind(|name| disk.content(name)[32..64] != [0; 32]).unwrap();
    let batch_bytes = 25 + 1000 + 45;
    for name in &names {
        let newest_bytes = if name == newest { disk.content(name).len() } else { SEGMENT };
        if name > newest {
            continue;
        }
        assert_eq!(damaged(&disk, name, 20), Some((name.clone(), 0)), "header");
        assert!(damaged(&disk, name, 40).is_some(), "opening");
        for offset in (200..newest_bytes - 2 * batch_bytes).step_by(300) {
            let (file, at) = damaged(&disk, name, offset).unwrap_or_else(|| panic!("{name} at {offset}"));
            assert_eq!(&file, name);
            assert!(at <= offset as u64 && offset as u64 - at < 1100, "{offset} told as {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damage_anywhere_never_invents_a_frame(
        file in 0..9usize,
        offset in 0..SEGMENT - 64,
        with in proptest::collection::vec(any::<u8>(), 1..64),
    ) {
        let disk = several_segments();
        let (_, _, all) = open(&disk.after(Cut::KeepsAll), small());
        let names = disk.names();
        let name = &names[file % names.len()];
        let offset = offset % disk.content(name).len().saturating_sub(with.len()).max(1);
        disk.overwrite(name, offset, &with);
        match try_open(&disk, small()) {
            Ok((_, _, found)) => prop_assert!(all.starts_with(&found)),
            Err(OpenError::Damaged { .. }) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_measured() {
    let disk = several_segments();
    let names = disk.names();
    let newest = names.iter().rfind(|name| disk.content(name)[32..64] != [0; 32]).unwrap();
    let end = disk.content(newest).len();
    disk.overwrite(newest, end - 400, &[0; 400]);
    let (journal, recovery, found) = open(&disk, small());
    assert_eq!((recovery.frames, recovery.torn_bytes), (39, 1025));
    assert_eq!(found.len(), 39);
    append(&journal, &Record::new(Tag::Other, 99, 10)).unwrap();
    journal.close().unwrap();
    let (recovery, all) = super::found(&disk);
    assert_eq!((recovery.torn_bytes, all[39].1.id), (0, [99; 16]));
}

#[test]
fn another_format_is_told_from_damage() {
    let disk = several_segments();
    let name = &disk.names()[0];
    let mut header = disk.content(name)[..32].to_vec();
    header[8] = 9;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..]);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    disk.overwrite(name, 0, &header);
    let error = try_open(&disk, small()).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Version { version: 9, .. }), "{error}");
}
