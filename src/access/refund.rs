//! Refunds: an operator gives back what a call was charged, or a part of it.
//!
//! Nothing is drawn anew: what balances gave becomes less by what is given back, from its end. So what the call still
//! owes goes first, then what its last grants gave. Its price stays, and what windows covered; what is charged less is
//! forgiven more, but counts in no month's overage.
//!
//! What goes back to a grant that has expired expires at once, and what a balance owes it pays first. A debt of the call
//! that has been repaid since is nobody's to give back.

use std::sync::Arc;

use super::account::Account;
use super::correct::{Prior, moves};
use super::counter::Slot;
use super::hold::guards_of;
use super::record::{
    Charge, CorrectionRecord, CounterEntry, DrawEntry, GrantEntry, OriginEntry, RevisionOrder, RevisionRecord,
};
use crate::policy::compiled::{CounterKey, GuardRule};
use crate::units::planted::{Bug, planted};
use crate::units::{Amount, Credits, OrderId, Timestamp};

/// An order to give back what a call was charged.
#[derive(Clone, Debug)]
pub struct RefundOrder {
    /// The same for a repeated order.
    pub id: OrderId,
    /// How much; all that is charged where none is said.
    pub amount: Option<Credits>,
    /// What the operator made the order the same by.
    pub idempotency_key: Arc<str>,
    /// What the operator wrote about it.
    pub reason: Arc<str>,
}

/// Why a refund is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrefundable {
    /// Nothing is to be given back.
    #[error("it gives back nothing")]
    Nothing,
    /// Less was charged.
    #[error("no more than {charged} credits are charged")]
    TooMuch {
        /// How much is.
        charged: Credits,
    },
    /// Less can be given back: it was owed, and the debt has been repaid since.
    #[error(
        "no more than {left} credits can be given back: the rest was owed and has been repaid; grant that instead"
    )]
    Repaid {
        /// How much can.
        left: Credits,
    },
}

impl Account {
    /// Gives back a part of what a call was charged. Nothing is changed by an error.
    pub fn refund(
        &mut self,
        prior: &Prior,
        order: &RefundOrder,
        now: Timestamp,
    ) -> Result<Box<RevisionRecord>, Unrefundable> {
        let charged = prior.charge.charged;
        let amount = order.amount.unwrap_or(charged);
        if amount.is_zero() {
            return Err(Unrefundable::Nothing);
        }
        if amount > charged && !planted(Bug::RefundBeyondCharge) {
            return Err(Unrefundable::TooMuch { charged });
        }
        let draws = self.drawn_less(prior, amount)?;
        let moves = moves(prior, &draws);
        let (mut expired, mut repaid) = (Vec::new(), Vec::new());
        // All of it first: what comes back to grants pays what is owed after that.
        for entry in &moves {
            self.move_back(entry, prior.user, CounterKey::of_balance(&entry.balance));
        }
        for entry in &moves {
            let (scope, balance) = (entry.scope, CounterKey::of_balance(&entry.balance));
            let state = self.purse_mut(scope, prior.user).balance_mut(balance);
            let part = |(grant, amount)| GrantEntry { scope, balance, grant, amount };
            expired.extend(state.expire(now).into_iter().map(part));
            repaid.extend(state.repay(now).into_iter().map(part));
            state.prune();
        }
        let counters = self.spent_less(prior, amount);
        let charge = Charge {
            forgiven: prior.charge.forgiven.saturating_add(amount),
            charged: charged.saturating_sub(amount),
            ..prior.charge
        };
        let correction = CorrectionRecord {
            seq: self.next_seq(),
            decision: prior.decision,
            account: self.id,
            user: prior.user,
            corrected_at: now,
            policy: prior.priced_by,
            revision: prior.revision.saturating_add(1),
            ending: prior.ending.clone(),
            used: prior.used.clone(),
            draws,
            charge,
            charged_before: charged,
            moves,
            repaid,
            expired,
            counters,
        };
        let refunded = prior.refunded.saturating_add(amount);
        let (id, idempotency_key) = (order.id, Arc::clone(&order.idempotency_key));
        let order = RevisionOrder::Refund { id, idempotency_key, reason: Arc::clone(&order.reason) };
        Ok(Box::new(RevisionRecord { correction, refunded, order }))
    }

    /// The draws of a call without the last `amount` of what balances gave: what is still owed of it first.
    fn drawn_less(&self, prior: &Prior, amount: Credits) -> Result<Vec<DrawEntry>, Unrefundable> {
        let mut draws = prior.draws.clone();
        let mut rest = amount;
        for draw in &mut draws {
            if let OriginEntry::Debt { balance } = &draw.origin {
                let purse = self.purse(draw.scope, prior.user);
                let state = purse.and_then(|purse| purse.balance(CounterKey::of_balance(balance)));
                let owed = state.map_or(Credits::ZERO, |state| state.debt);
                rest = rest.saturating_sub(take(draw, rest.min(owed)));
            }
        }
        for draw in draws.iter_mut().rev() {
            if matches!(draw.origin, OriginEntry::Grant { .. }) {
                rest = rest.saturating_sub(take(draw, rest));
            }
        }
        if !rest.is_zero() && !planted(Bug::RefundBeyondCharge) {
            return Err(Unrefundable::Repaid { left: amount.saturating_sub(rest) });
        }
        draws.retain(|draw| !draw.amount.is_zero());
        Ok(draws)
    }

    /// What caps on spending count less, in the instance that the call was held in, if none has begun since.
    fn spent_less(&mut self, prior: &Prior, amount: Credits) -> Vec<CounterEntry> {
        let mut entries = Vec::new();
        for guard in guards_of(&prior.terms) {
            let GuardRule::Spend { window } = &guard.rule else { continue };
            let counters = &mut self.purse_mut(guard.per, prior.user).counters;
            let slot = counters.slot(window.key).filter(|slot| slot.at <= prior.held_at);
            let Some(slot) = slot.copied() else { continue };
            let used = slot.used.saturating_sub(amount.micros());
            counters.set(Slot { used, ..slot });
            counters.close_if_empty(window.key);
            entries.push(CounterEntry { scope: guard.per, slot: Slot { used, held: 0, ..slot } });
        }
        entries
    }
}

/// Takes so much off a draw from a balance, and tells how much that was.
fn take(draw: &mut DrawEntry, most: Credits) -> Credits {
    let part = draw.amount.get().min(most.micros());
    let left = Amount::clamped(draw.amount.get().saturating_sub(part));
    (draw.amount, draw.covers) = (left, left);
    Credits::from_micros(part).unwrap_or(Credits::MAX)
}
