//! What was said of an account's balances and calls later, said again: adjustments, refunds, truths.
//!
//! Each is carried out by the verb that carried it out then, at its instant and in its place.
//!
//! | what is recorded | what is done |
//! |---|---|
//! | a truth that came late | it settles the call again, at the new policy's price |
//! | a refund of all that was charged | all is given back that the call is charged by then |
//! | a refund of a part | as much, and no more than the call is charged |
//! | a refund of a call that would have been blocked, or costs no credits | nothing |
//! | another price | nothing: the new policy's prices take its place |
//! | more of a grant, more debt | as much, and no more than the new policy lends |
//! | less of a grant, less debt | as much, and no more than is free or owed |
//! | an adjustment of what the new policy has not issued, or has no such balance for | nothing |

use std::sync::Arc;

use serde::Serialize;

use super::again::{Again, Truth};
use crate::access::record::AdjustmentRecord;
use crate::access::{
    Adjusted, AdjustmentOrder, Prior, RefundOrder, Revision, Unadjustable, Unrefundable, Unrevisable,
};
use crate::ledger::recorded::{RecordedEnd, RecordedRevision, RevisionKind};
use crate::policy::compiled::{CounterKey, Name, Scope};
use crate::units::{Credits, DecisionId, OrderId, SignedCredits, Timestamp};

/// What became of what operators ordered of balances and calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Orders {
    /// Carried out as they were ordered.
    pub whole: u64,
    /// Carried out as far as there was anything to give back or to take.
    pub in_part: u64,
    /// Not carried out.
    pub left_out: u64,
    /// Other prices of calls: those of the asked policy take their place.
    pub prices: u64,
}

/// A call that has ended, and of whose money more was said.
pub(super) struct Ended {
    pub(super) plan: Name,
    pub(super) feature: Name,
    pub(super) prior: Prior,
    pub(super) clamped_to: Option<u64>,
    pub(super) is_counted: bool,
}

/// How far an order was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Whole,
    Part,
    Nothing,
}

impl Orders {
    fn count(&mut self, extent: Extent) {
        let count = match extent {
            Extent::Whole => &mut self.whole,
            Extent::Part => &mut self.in_part,
            Extent::Nothing => &mut self.left_out,
        };
        *count += 1;
    }

    /// Whether anything was ordered.
    pub(super) fn is_any(&self) -> bool {
        *self != Self::default()
    }
}

impl Again<'_> {
    /// Changes a balance, as far as it can be changed so now.
    pub(super) fn adjustment(&mut self, record: &AdjustmentRecord, orders: &mut Orders) {
        let at = record.adjusted_at;
        self.account.expire_grants(at);
        let extent = self.adjusted(record).map_or(Extent::Nothing, |what| {
            let order = AdjustmentOrder {
                id: record.id,
                user: record.user,
                balance: Arc::clone(&record.balance),
                key: CounterKey::of_balance(&record.balance),
                what,
                amount: record.amount,
                idempotency_key: Arc::clone(&record.idempotency_key),
                reason: Arc::clone(&record.reason),
            };
            self.adjust(order, at)
        });
        orders.count(extent);
    }

    /// What of a balance is adjusted, where there is such a thing.
    fn adjusted(&self, record: &AdjustmentRecord) -> Option<Adjusted> {
        if let Some(grant) = record.grant {
            return self.grants.get(grant).map(|booked| Adjusted::Grant(booked.state));
        }
        let balance = &self.policy[self.policy.balance(&record.balance)?];
        let is_the_same = (balance.per == Scope::User) == record.user.is_some();
        is_the_same.then(|| Adjusted::Debt { most: self.policy.lent_on(&balance.name) })
    }

    fn adjust(&mut self, order: AdjustmentOrder, at: Timestamp) -> Extent {
        let lesser = match self.account.adjust(&order, at) {
            Ok(record) => {
                self.account.adjusted(&record, order.key);
                return Extent::Whole;
            }
            Err(Unadjustable::NotFree { free }) => negative(free),
            Err(Unadjustable::NotOwed { owed }) => owed.signed(),
            Err(Unadjustable::BeyondDebt { most, owed }) => negative(most.saturating_sub(owed)),
            Err(
                Unadjustable::Nothing
                | Unadjustable::Expired
                | Unadjustable::StillFree { .. }
                | Unadjustable::TooMuch,
            ) => SignedCredits::ZERO,
        };
        if lesser == SignedCredits::ZERO || lesser == order.amount {
            return Extent::Nothing;
        }
        match self.adjust(AdjustmentOrder { amount: lesser, ..order }, at) {
            Extent::Nothing => Extent::Nothing,
            Extent::Whole | Extent::Part => Extent::Part,
        }
    }

    /// Settles an ended call again. One that would have been blocked has no money to be another.
    pub(super) fn revision(&mut self, revision: &RecordedRevision, orders: &mut Orders) {
        match &revision.what {
            RevisionKind::Truth(end) => self.truth(revision.decision, end, revision.at),
            RevisionKind::Refund { amount, charged } => {
                // What left nothing was an order to give back all.
                let amount = (!charged.is_zero()).then_some(*amount);
                orders.count(self.refund(revision.decision, amount, revision.at));
            }
            RevisionKind::Price => orders.prices += 1,
        }
    }

    fn truth(&mut self, decision: DecisionId, end: &RecordedEnd, at: Timestamp) {
        let Some(ended) = self.ended.get(&decision) else { return };
        let terms = &ended.prior.terms;
        let (used, ending) = Truth { end, clamped_to: ended.clamped_to, status: ended.prior.ending.status }
            .priced(terms, || ended.prior.used.clone());
        // What cannot be settled again stays as it ended.
        let _stays = self.revise(decision, Revision::Truth { used, ending }, at);
    }

    /// Gives back so much of what a call is charged; all of it where nothing is said.
    fn refund(&mut self, decision: DecisionId, wanted: Option<Credits>, at: Timestamp) -> Extent {
        let Some(ended) = self.ended.get(&decision) else { return Extent::Nothing };
        let charged = ended.prior.charge.charged;
        let most = wanted.map_or(charged, |wanted| wanted.min(charged));
        let given = match self.give_back(decision, most, at) {
            // A part of it was owed, and has been repaid.
            Err(Unrevisable::Unrefundable(Unrefundable::Repaid { left })) => {
                self.give_back(decision, left, at).map(|()| left)
            }
            given => given.map(|()| most),
        };
        match given {
            Ok(given) if given >= wanted.unwrap_or(charged) => Extent::Whole,
            Ok(_) => Extent::Part,
            Err(_) => Extent::Nothing,
        }
    }

    fn give_back(&mut self, decision: DecisionId, amount: Credits, at: Timestamp) -> Result<(), Unrevisable> {
        let id = OrderId::derived(&[b"again", decision.as_bytes()]);
        let order =
            RefundOrder { id, amount: Some(amount), idempotency_key: Arc::from(""), reason: Arc::from("") };
        self.revise(decision, Revision::Refund(order), at)
    }

    fn revise(&mut self, decision: DecisionId, revision: Revision, at: Timestamp) -> Result<(), Unrevisable> {
        let Some(ended) = self.ended.get_mut(&decision) else { return Ok(()) };
        ended.prior.grants = self.grants.named(&ended.prior.draws);
        let record = self.account.revise(&ended.prior, revision, at)?;
        ended.prior.revised(&record);
        Ok(())
    }
}

fn negative(amount: Credits) -> SignedCredits {
    SignedCredits::ZERO.checked_sub(amount.signed()).unwrap_or_default()
}
