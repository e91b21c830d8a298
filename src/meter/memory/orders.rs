//! What sets the books right: revisions of ended calls, and adjustments of balances.

use super::{MemoryMeter, lock};
use crate::access::record::{CorrectionRecord, Record, RevisionOrder};
use crate::access::{AdjustmentOrder, Prior, Revision, Unrevisable};
use crate::meter::{Adjusting, Booked, MeterError, Revised};
use crate::units::planted::{Bug, planted};
use crate::units::{AccountId, OrderId};

impl MemoryMeter {
    /// Forgets that something is on its way: the books have it.
    pub fn booked(&self, booked: Booked) {
        match booked {
            Booked::Grant(grant) => lock(&self.live.pending_grants).remove(&grant),
            Booked::Order(order) => lock(&self.live.pending_orders).remove(&order),
        };
    }

    pub(super) fn revise_now(
        &self,
        id: AccountId,
        prior: &Prior,
        revision: Revision,
    ) -> Result<Revised, MeterError> {
        let account = self.live.account(id);
        let mut account = lock(&account);
        let newest = lock(&self.live.revised).get(&prior.decision).copied();
        let behind = newest.is_some_and(|newest| newest > prior.revision) && !planted(Bug::RefundTwice);
        if behind || matches!(&revision, Revision::Refund(order) if self.is_pending(order.id)) {
            return Ok(Revised::Behind);
        }
        let record = match account.revise(prior, revision, self.live.clock.now()) {
            Ok(record) => record,
            Err(why) => return Ok(Revised::Not(why)),
        };
        self.live.revised(&record);
        self.live.watch_expiry(&account);
        let ticket = self.journal(&record).map_err(MeterError::Journal)?;
        Ok(match record {
            Record::Correction(correction) => Revised::Now(correction, ticket),
            Record::Revision(revision) => Revised::Now(Box::new(revision.correction), ticket),
            // Nothing else is a revision.
            _ => Revised::Behind,
        })
    }

    pub(super) fn rehearse_now(
        &self,
        id: AccountId,
        revisions: Vec<(Prior, Revision)>,
    ) -> Vec<Result<CorrectionRecord, Unrevisable>> {
        let mut account = lock(&self.live.account(id)).clone();
        let now = self.live.clock.now();
        let rehearsed = revisions.into_iter().map(|(prior, revision)| {
            let record = account.revise(&prior, revision, now)?;
            Ok(record.revision().cloned())
        });
        rehearsed.filter_map(Result::transpose).collect()
    }

    pub(super) fn adjust_now(&self, id: AccountId, order: &AdjustmentOrder) -> Result<Adjusting, MeterError> {
        let account = self.live.account(id);
        let mut account = lock(&account);
        if self.is_pending(order.id) {
            return Ok(Adjusting::Behind);
        }
        let adjustment = match account.adjust(order, self.live.clock.now()) {
            Ok(adjustment) => adjustment,
            Err(why) => return Ok(Adjusting::Not(why)),
        };
        // Queued before it is made: what cannot be kept is not done, and uses no number.
        let record = Record::Adjustment(adjustment.clone());
        let ticket = self.journal(&record).map_err(MeterError::Journal)?;
        lock(&self.live.pending_orders).insert(order.id);
        account.adjusted(&adjustment, order.key);
        self.live.watch_expiry(&account);
        Ok(Adjusting::Now(adjustment, ticket))
    }

    fn is_pending(&self, order: OrderId) -> bool {
        lock(&self.live.pending_orders).contains(&order) && !planted(Bug::AdjustedTwice)
    }
}

impl super::Live {
    /// Notes a revision that is on its way to the books, by its number and its order.
    pub(super) fn revised(&self, record: &Record) {
        let Some(correction) = record.revision() else { return };
        lock(&self.revised).insert(correction.decision, correction.revision);
        if let Record::Revision(revision) = record
            && let RevisionOrder::Refund { id, .. } = &revision.order
        {
            lock(&self.pending_orders).insert(*id);
        }
    }
}
