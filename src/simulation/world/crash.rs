//! What a crash may take: nothing that was promised.

use super::World;
use crate::journal::tests::disk::Cut;
use crate::simulation::auditor::Violation;
use crate::simulation::node::{Node, SYNC_EVERY};

impl World {
    /// The writer came by. Relaxed: what a well disk was given survives the process from then on, and the machine once
    /// the writer comes by [`SYNC_EVERY`] later. A disk that fails begins anew.
    pub(in crate::simulation) fn wrote(&mut self, well: bool) {
        if !self.relaxed {
            return;
        }
        if !well {
            self.written.clear();
            self.spared = self.promised;
            return;
        }
        let (now, frames) = (self.now(), self.auditor.frames());
        self.spared = frames;
        self.written.push((now, frames));
        let synced = now - SYNC_EVERY.ms().cast_signed();
        let due = self.written.iter().filter(|(at, _)| *at <= synced).map(|(_, frames)| *frames);
        self.promised = self.promised.max(due.max().unwrap_or(0));
        self.written.retain(|(at, _)| *at > synced);
    }

    /// Everything but the disk and the books is gone.
    pub(in crate::simulation) fn crash(&mut self, cut: Cut, relaxed: bool) -> Result<(), Violation> {
        self.tally.fault(match cut {
            Cut::KeepsAll => "kill",
            Cut::LosesAll => "power cut",
            Cut::Tears { .. } => "torn power cut",
        });
        let promised =
            if matches!(cut, Cut::KeepsAll) { self.promised.max(self.spared) } else { self.promised };
        self.calls.clear();
        self.awaited.clear();
        self.disk = self.disk.after(cut);
        let (node, frames, recovered) =
            Node::open(&self.disk, &self.books, &self.clock, &self.policies, relaxed)?;
        self.node = node;
        let known = self.auditor.frames();
        self.tell(&format!(
            "the process dies, {cut:?}: {frames} of {known} frames, {promised} promised; then relaxed: {relaxed}"
        ));
        if frames < promised || frames > known {
            return Err(format!("I10: {frames} frames are there; promised {promised}, given {known}"));
        }
        let now = self.now();
        let floored = self.auditor.crashed(frames);
        let jobs = self.open() - floored.len() as u64;
        if (recovered.floored, recovered.jobs) != (floored.len() as u64, jobs) {
            return Err(format!("I9, I10: {recovered:?}, and not {} and {jobs}", floored.len()));
        }
        self.auditor.floored(&floored, now);
        // What recovery found is durable.
        (self.promised, self.spared, self.relaxed) = (frames, frames, relaxed);
        self.written.clear();
        self.check_books().map(drop)
    }
}
