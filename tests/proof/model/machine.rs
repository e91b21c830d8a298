//! What disks, streams and workers do to a state.

use std::sync::Arc;

use overfall::access::record::Record;

use super::Protocol;
use super::bend::Bend;
use super::books::{Applied, Kept, order_of};
use super::scene::Topology;
use super::state::{Call, Frame, Gateway, State};

impl Protocol {
    /// Puts a record where its verb puts it: into a gateway's journal, and on the stream if there is one.
    pub(crate) fn keep(&self, state: &mut State, gateway: usize, record: Record) {
        let kept = Kept::new(record);
        state.gateways[gateway].append(&kept);
        if let Some(seq) = kept.seq {
            state.log.push(kept);
            if self.bounds.topology == Topology::Shared {
                state.stream.insert(seq);
            }
        }
    }

    pub(crate) fn book(&self, state: &mut State, worker: usize) {
        let Some(kept) = state.workers[worker].take() else { return };
        match state.books.apply(&kept, self.bend) {
            Applied::Waits => return,
            Applied::Repeated => {}
            Applied::Booked(books) => state.books = Arc::new(books),
        }
        // The stream's position commits with the books, and the meter is told of grants and orders that they have.
        if let Some(seq) = kept.seq {
            state.stream.remove(&seq);
        }
        let granted: Vec<_> = kept.grants().iter().map(|grant| grant.grant).collect();
        if !granted.is_empty() {
            state.with_meter(|meter| meter.pending.retain(|grant| !granted.contains(grant)));
        }
        if let Some(order) = order_of(&kept.record) {
            state.with_meter(|meter| meter.ordered.retain(|known| *known != order));
        }
    }

    /// Lets go of what lies wholly before what is not booked, but for open holds and those beside them.
    pub(crate) fn trim(&self, state: &mut State, gateway: usize) {
        let booked = if self.bend == Some(Bend::ForgetsTooEarly) { u64::MAX } else { state.books.seq };
        let gateway = &mut state.gateways[gateway];
        let unbooked = |frame: &Frame| frame.kept.seq.is_some_and(|seq| seq > booked);
        let upto = gateway.durable().iter().position(unbooked).unwrap_or(gateway.durable);
        let is_open = |frame: &Frame| {
            frame.opens().is_some_and(|id| !frame.closed && !Gateway::has_end(gateway.durable(), id))
        };
        let shared = gateway.journal[..upto].iter().rposition(is_open).map_or(0, |place| place + 1);
        let mut rest = Vec::new();
        for (place, frame) in gateway.journal.iter().enumerate() {
            let opens = frame.opens().filter(|_| place < shared);
            if place >= upto {
                rest.push(frame.clone());
            } else if let Some(id) = opens {
                let ended = Gateway::has_end(&gateway.journal[..upto], id);
                rest.push(Frame { closed: frame.closed || ended, ..frame.clone() });
            }
        }
        gateway.durable -= gateway.journal.len() - rest.len();
        gateway.journal = rest;
    }

    pub(crate) fn crash(&self, state: &mut State, place: usize, found: usize) {
        state.left.crashes -= 1;
        let gateway = &mut state.gateways[place];
        gateway.up = false;
        gateway.journal.truncate(found);
        gateway.durable = found;
        for (call, plan) in state.calls.iter_mut().zip(self.bounds.calls) {
            if plan.gateway == place {
                *call = match *call {
                    Call::Held => Call::Unsent,
                    Call::Sent | Call::Refused => Call::Orphaned,
                    other => other,
                };
            }
        }
        if self.bounds.topology == Topology::OneNode {
            let newest = state.gateways[0].journal.iter().filter_map(|frame| frame.kept.seq).max();
            let newest = newest.unwrap_or(0).max(state.books.seq);
            state.log.retain(|kept| kept.seq.is_some_and(|seq| seq <= newest));
            state.meter = None;
            state.workers.fill(None);
        }
    }
}

pub(crate) fn take(state: &mut State, worker: usize, seq: u64) -> Option<()> {
    if seq <= state.books.seq {
        state.left.repeats = state.left.repeats.checked_sub(1)?;
    }
    let found = state.log.iter().find(|kept| kept.seq == Some(seq)).map(Arc::clone);
    state.workers[worker] = Some(found?);
    Some(())
}
