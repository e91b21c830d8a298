//! What is said of a call or a balance later: truths that come late, and what an operator sets right.

use overfall::access::balance::GrantState;
use overfall::access::ledgered::BookedGrant;
use overfall::access::record::{OriginEntry, Outcome, Record};
use overfall::access::{Adjusted, AdjustmentOrder, Prior, RefundOrder, Repriced, Revision};
use overfall::policy::compiled::CounterKey;
use overfall::units::{Credits, DecisionId, OrderId, SignedCredits};

use super::Protocol;
use super::bend::Bend;
use super::books::Books;
use super::scene::{SetRight, at, decision, demand, ending, grant, set_right, terms};
use super::state::State;

impl Protocol {
    pub(crate) fn tell_late(&self, state: &mut State, call: usize, first_up: usize) -> Option<()> {
        let id = decision(call);
        let expired = |prior: &Prior| {
            let end = state.books.end_of(prior.decision);
            end.is_some_and(|end| end.ending.outcome == Outcome::Expired)
        };
        let prior = self.prior(&state.books, id).filter(expired)?;
        if self.bend != Some(Bend::CorrectsTwice) && state.books.is_corrected(id) {
            return None;
        }
        let plan = &self.bounds.calls[call];
        let used = demand(&prior.terms, plan.estimate.0, plan.truth);
        let record =
            self.revised(state, &prior, Revision::Truth { used, ending: ending(Outcome::Completed) })?;
        self.keep(state, first_up, record);
        Some(())
    }

    /// An operator's order: once, whoever is asked for it and however often.
    pub(crate) fn set_right(&self, state: &mut State, nth: usize, first_up: usize) -> Option<()> {
        let id = set_right(nth);
        if state.meter.as_ref()?.ordered.contains(&id) || state.books.has_order(id) {
            state.left.repeats = state.left.repeats.checked_sub(1)?;
            if self.bend != Some(Bend::SetsRightTwice) {
                return None;
            }
        }
        let record = match self.bounds.set_right[nth] {
            SetRight::Refund { call, credits } => {
                let amount = credits.map(|credits| Credits::from_micros(credits * 1_000_000).unwrap());
                let (idempotency_key, reason) = ("model".into(), "model".into());
                let order = RefundOrder { id, amount, idempotency_key, reason };
                let prior = self.prior(&state.books, decision(call))?;
                self.revised(state, &prior, Revision::Refund(order))?
            }
            SetRight::Price { call, policy } => {
                let policy = self.scene.policy(policy);
                let prior = self.prior(&state.books, decision(call))?;
                if prior.priced_by == policy.version || prior.charge.gross.is_zero() {
                    return None;
                }
                let used = &prior.used.quantities;
                let used = demand(&terms(policy), used.input_tokens, used.output_tokens);
                let repriced = Repriced { used, policy: policy.version, reason: "model".into() };
                self.revised(state, &prior, Revision::Price(repriced))?
            }
            SetRight::Adjust { order, credits } => adjusted(state, id, order, credits)?,
        };
        self.keep(state, first_up, record);
        Some(())
    }

    /// The next revision of a call, unless one is on its way that the books do not have.
    fn revised(&self, state: &mut State, prior: &Prior, revision: Revision) -> Option<Record> {
        let newest = state.meter.as_ref()?.revised.get(&prior.decision);
        let is_behind = newest.is_some_and(|newest| *newest > prior.revision);
        if is_behind && !matches!(self.bend, Some(Bend::RevisesStale | Bend::CorrectsTwice)) {
            return None;
        }
        let (now, mut made) = (at(state.now), None);
        state.with_meter(|meter| {
            made = meter.account.revise(prior, revision, now).ok();
            if let Some(record) = &made {
                meter.note(record);
            }
        });
        made
    }

    /// What the books say of a call, as of its newest revision.
    fn prior(&self, books: &Books, id: DecisionId) -> Option<Prior> {
        let end = books.end_of(id)?;
        let mut prior = Prior::of(end, terms(self.scene.version(end.policy)), Vec::new());
        books.revisions(id).for_each(|record| prior.revised(record));
        let named = |grant| {
            let draws = prior.draws.iter();
            draws
                .into_iter()
                .any(|draw| matches!(draw.origin, OriginEntry::Grant { grant: id, .. } if id == grant))
        };
        let grants = books.grants().filter(|record| named(record.grant));
        prior.grants = grants.map(BookedGrant::as_granted).collect();
        Some(prior)
    }
}

/// More or less of a grant that the books have.
fn adjusted(state: &mut State, id: OrderId, order: usize, credits: i64) -> Option<Record> {
    let granted = state.books.grants().find(|record| record.grant == grant(order))?;
    let (booked, key) = (BookedGrant::as_granted(granted), CounterKey::of_balance("wallet"));
    let what = Adjusted::Grant(GrantState { remaining: Credits::ZERO, ..booked.state });
    let (amount, now) = (SignedCredits::from_micros(credits * 1_000_000).unwrap(), at(state.now));
    let (balance, idempotency_key, reason) = ("wallet".into(), "model".into(), "model".into());
    let order = AdjustmentOrder { id, user: None, balance, key, what, amount, idempotency_key, reason };
    let adjustment = state.meter.as_ref()?.account.adjust(&order, now).ok()?;
    let record = Record::Adjustment(adjustment.clone());
    state.with_meter(|meter| {
        meter.note(&record);
        meter.account.adjusted(&adjustment, key);
    });
    Some(record)
}
