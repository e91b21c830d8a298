//! I10: what was acknowledged survives a power cut at any operation, nothing is invented, and order is kept.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::disk::{Cut, Disk};
use super::*;

/// What the caller knows of a journal: what it appended, how much of that was acknowledged, and what it let go.
#[derive(Clone, Default)]
struct Caller {
    appended: Vec<Record>,
    acknowledged: usize,
    applied: usize,
}

impl Caller {
    /// Uses a journal until all is done or the disk fails for good.
    fn work(&mut self, disk: &Disk, options: Options, rounds: usize, random: &mut StdRng) {
        let Ok((journal, recovery, found)) = try_open(disk, options) else { return };
        self.check(&recovery, &found);
        for _ in 0..rounds {
            let mut tickets = Vec::new();
            for _ in 0..random.random_range(1..6) {
                let record = self.next(random);
                let Ok(ticket) = journal.append(record.frame()) else { break };
                self.appended.push(record);
                tickets.push(ticket);
            }
            if random.random() {
                tickets.push(journal.flush());
            }
            let outcomes: Vec<_> = tickets.into_iter().map(wait).collect();
            let durable = usize::try_from(journal.stats().durable.0).unwrap();
            self.acknowledged = self.acknowledged.max(durable);
            if outcomes.iter().any(Result::is_err) {
                break;
            }
            if random.random_ratio(1, 3) {
                self.applied = random.random_range(self.applied..=self.acknowledged);
                journal.applied(Position(self.applied as u64));
            }
        }
        let _lost = journal.close();
    }

    fn next(&self, random: &mut StdRng) -> Record {
        let open = self.open(self.appended.len());
        let id: Id = random.random();
        let payload = vec![random.random(); random.random_range(0..2000)];
        match random.random_range(0..3) {
            0 if !open.is_empty() => {
                let id = open[random.random_range(0..open.len())];
                Record { tag: Tag::End, id, payload }
            }
            1 => Record { tag: Tag::Other, id, payload },
            _ => Record { tag: Tag::Hold, id, payload },
        }
    }

    /// The holds that are open after so many frames.
    fn open(&self, frames: usize) -> Vec<Id> {
        let mut open = Vec::new();
        for record in &self.appended[..frames] {
            match record.tag {
                Tag::Hold => open.push(record.id),
                Tag::End => open.retain(|id| *id != record.id),
                Tag::Other => {}
            }
        }
        open
    }

    /// Compares what was found with what must be there; then goes on from what was found.
    fn check(&mut self, recovery: &Recovery, found: &[(u64, Record)]) {
        let next = usize::try_from(recovery.next.0).unwrap();
        assert!(next >= self.acknowledged, "{} were acknowledged, {next} found", self.acknowledged);
        assert!(next <= self.appended.len(), "invented");
        assert!(found.is_sorted_by_key(|(position, _)| *position));
        for (position, record) in found {
            assert_eq!(record, &self.appended[usize::try_from(*position).unwrap()], "at {position}");
        }
        let kept = |position: usize| found.iter().any(|(at, _)| *at == position as u64);
        assert!((self.applied..next).all(kept), "all that is not applied is there");
        let open = self.open(next);
        for (position, record) in self.appended[..next].iter().enumerate() {
            if record.tag == Tag::Hold && open.contains(&record.id) {
                assert!(kept(position), "an open hold is there");
            }
        }
        assert_eq!(recovery.open, open.into_iter().collect());
        self.appended.truncate(next);
        self.acknowledged = next;
    }
}

/// Works on a disk that stops at each operation in turn, cuts the power, and works on.
fn crash_everywhere(options: &Options, disturb: fn(&Disk)) {
    let operations = {
        let disk = Disk::default();
        disturb(&disk);
        Caller::default().work(&disk, options.clone(), 24, &mut StdRng::seed_from_u64(7));
        disk.operations()
    };
    assert!(operations > 40, "{operations} say little");
    for stop in 1..=operations {
        let cuts = [Cut::KeepsAll, Cut::LosesAll, Cut::Tears { seed: stop }, Cut::Tears { seed: stop << 32 }];
        for cut in cuts {
            let disk = Disk::default();
            disturb(&disk);
            disk.stop_at(stop);
            let mut caller = Caller::default();
            caller.work(&disk, options.clone(), 24, &mut StdRng::seed_from_u64(7));
            // Once more, stopping at another place, and then a last look.
            let disk = disk.after(cut);
            disk.stop_at(1 + stop * 7 % 40);
            caller.work(&disk, options.clone(), 12, &mut StdRng::seed_from_u64(stop));
            let disk = disk.after(cut);
            let (journal, recovery, found) = try_open(&disk, options.clone())
                .unwrap_or_else(|error| panic!("stopped at {stop}, {cut:?}: {error}"));
            caller.check(&recovery, &found);
            journal.close().unwrap();
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_operation() {
    crash_everywhere(&small(), |_| {});
}

#[test]
fn what_was_acknowledged_survives_failed_syncs_and_a_power_cut_at_any_operation() {
    crash_everywhere(&small(), |disk| disk.fail_syncs_every(17));
}

#[test]
fn what_was_synced_survives_when_durability_is_relaxed() {
    let durability = Durability::Relaxed { sync_every: Span::from_ms(2) };
    crash_everywhere(&Options { durability, ..small() }, |_| {});
}
