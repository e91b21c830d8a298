//! What reaches the books, and how often.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::super::auditor::Violation;
use super::super::node::{account_id, at_once};
use super::super::world::World;
use super::pick;
use crate::access::record::Record;
use crate::journal::Position;
use crate::ledger::Ledger;

impl World {
    pub(in crate::simulation) fn act_settle(&mut self) -> Result<(), Violation> {
        let _failed = at_once(self.node.settler.turn(&mut self.node.reader));
        self.check_books().map(drop)
    }

    /// What the journal still has, and the ledger may have.
    fn durable(&self) -> Result<Vec<Record>, Violation> {
        let batch = self.node.journal.reader(Position::START).next_batch(10_000, usize::MAX);
        let batch = batch.map_err(|error| format!("I10: {error:?}"))?;
        let read = |entry: &crate::journal::Entry| postcard::from_bytes(&entry.payload);
        batch.iter().map(read).collect::<Result<_, _>>().map_err(|error| format!("I10: {error}"))
    }

    /// I7: in any order, as often as may be.
    pub(in crate::simulation) fn act_redeliver(&mut self, a: u32, b: u32) -> Result<(), Violation> {
        let mut records = self.durable()?;
        let mut random = StdRng::seed_from_u64(u64::from(b));
        records.shuffle(&mut random);
        records.truncate(random.random_range(0..=records.len().min(a as usize % 40)));
        self.tally.fault("redelivery");
        self.tell(&format!("{} records are brought again", records.len()));
        match at_once(self.node.ledger.apply(records)) {
            Ok(applied) if !applied.conflicts.is_empty() => Err(format!("I7: {applied:?}")),
            _ => self.check_books().map(drop),
        }
    }

    /// I7: other content in a place that is taken changes nothing.
    pub(in crate::simulation) fn act_contradict(&mut self, a: u32) -> Result<(), Violation> {
        let heads = self.check_books()?;
        let booked = self.durable()?.into_iter().filter_map(|record| match record {
            Record::End(end) => Some(end),
            _ => None,
        });
        let is_booked = |end: &crate::access::record::EndRecord| {
            (0..).zip(&heads).any(|(account, head)| end.account == account_id(account) && end.seq.0 <= *head)
        };
        let booked: Vec<_> = booked.filter(|end| is_booked(end)).collect();
        let Some(mut end) = pick(&booked, a).cloned() else { return Ok(()) };
        end.model = "another".into();
        self.fault("contradicting record");
        match at_once(self.node.ledger.apply(vec![Record::End(end)])) {
            Ok(applied) if applied.conflicts.len() == 1 => self.check_books().map(drop),
            Ok(applied) => Err(format!("I7: other content is {applied:?}")),
            Err(_) => Ok(()),
        }
    }
}
