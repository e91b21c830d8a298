//! Adjustments: an operator changes what is left of a grant, or what a balance owes.
//!
//! | ordered | carried out where |
//! |---|---|
//! | more of a grant | the grant has not expired, and the balance stays an amount; what is owed is paid first |
//! | less of a grant | so much of it is free: what is held, and what is gone, stays |
//! | less debt | so much is owed |
//! | more debt | nothing is free, and the debt stays within what policy lends |

use std::sync::Arc;

use super::account::Account;
use super::balance::{BalanceState, GrantState};
use super::counter::Holds;
use super::ledgered::Gap;
use super::record::AdjustmentRecord;
use crate::policy::compiled::{CounterKey, Name, Scope};
use crate::units::planted::{Bug, planted};
use crate::units::{Credits, OrderId, SignedCredits, Timestamp, UserId};

/// An order to adjust a balance.
#[derive(Clone, Debug)]
pub struct AdjustmentOrder {
    /// The same for a repeated order.
    pub id: OrderId,
    /// The user whose balance it is; none where it is the account's.
    pub user: Option<UserId>,
    /// The balance's name.
    pub balance: Name,
    /// Its identity.
    pub key: CounterKey,
    /// What of it is adjusted.
    pub what: Adjusted,
    /// How much is added; below zero, how much is taken out.
    pub amount: SignedCredits,
    /// What the operator made the order the same by.
    pub idempotency_key: Arc<str>,
    /// What the operator wrote about it.
    pub reason: Arc<str>,
}

/// What of a balance is adjusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjusted {
    /// This grant, as the books know it; what remains of it is not looked at.
    Grant(GrantState),
    /// What the balance owes.
    Debt {
        /// The most that policy lends on it.
        most: Credits,
    },
}

/// Why an adjustment is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unadjustable {
    /// It is of nothing.
    #[error("it changes nothing")]
    Nothing,
    /// The grant is over.
    #[error("the grant has expired")]
    Expired,
    /// Less is free: the rest is held by requests in flight, or gone.
    #[error("no more than {free} credits of it are free")]
    NotFree {
        /// How much is.
        free: Credits,
    },
    /// Less is owed.
    #[error("no more than {owed} credits are owed")]
    NotOwed {
        /// How much is.
        owed: Credits,
    },
    /// A balance owes only once nothing of it is free.
    #[error("{free} credits of the balance are free: take those out of their grants first")]
    StillFree {
        /// How much is.
        free: Credits,
    },
    /// More would be owed than policy lends.
    #[error("policy lends no more than {most} credits on this balance, and {owed} are owed")]
    BeyondDebt {
        /// The most that may be owed.
        most: Credits,
        /// What is owed now.
        owed: Credits,
    },
    /// The balance would hold more than any amount may be.
    #[error("the balance would hold more than {} credits", Credits::MAX)]
    TooMuch,
}

impl Account {
    /// What an order changes, once [`Self::adjusted`] has it: then the very next request sees it.
    pub fn adjust(&self, order: &AdjustmentOrder, now: Timestamp) -> Result<AdjustmentRecord, Unadjustable> {
        let purse = match order.user {
            Some(user) => self.purse(Scope::User, user),
            None => self.purse(Scope::Account, UserId::MIN),
        };
        let state = purse.and_then(|purse| purse.balance(order.key));
        let debt = state.map_or(Credits::ZERO, |state| state.debt);
        if order.amount == SignedCredits::ZERO {
            return Err(Unadjustable::Nothing);
        }
        let (repaid, grant) = match order.what {
            Adjusted::Grant(grant) => (of_grant(state, &grant, order.amount, now)?, Some(grant)),
            Adjusted::Debt { most } => {
                of_debt(state, debt, most, order.amount, now)?;
                (Credits::ZERO, None)
            }
        };
        Ok(AdjustmentRecord {
            seq: self.seq.next(),
            id: order.id,
            account: self.id,
            user: order.user,
            balance: order.balance.clone(),
            grant: grant.map(|grant| grant.id),
            amount: order.amount,
            repaid,
            priority: grant.map_or(0, |grant| grant.priority),
            expires_at: grant.and_then(|grant| grant.expiry()),
            adjusted_at: now,
            idempotency_key: Arc::clone(&order.idempotency_key),
            reason: Arc::clone(&order.reason),
        })
    }

    /// Changes the balance. It is the account's newest record.
    pub fn adjusted(&mut self, record: &AdjustmentRecord, key: CounterKey) {
        self.seq = record.seq;
        let (more, less) = (record.amount.available(), record.amount.owed());
        let state = match record.user {
            Some(user) => self.purse_mut(Scope::User, user),
            None => self.purse_mut(Scope::Account, UserId::MIN),
        }
        .balance_mut(key);
        let Some(id) = record.grant else {
            state.debt = state.debt.saturating_sub(more).saturating_add(less);
            return;
        };
        state.debt = state.debt.saturating_sub(record.repaid);
        let change = |remaining: Credits| {
            remaining.saturating_add(more).saturating_sub(less).saturating_sub(record.repaid)
        };
        if let Some(grant) = state.grant_mut(id) {
            grant.remaining = change(grant.remaining);
        } else if !planted(Bug::SpentGrantLost) {
            let expires_at = record.expires_at.unwrap_or(Timestamp::NEVER);
            let (priority, remaining) = (record.priority, change(Credits::ZERO));
            state.insert(GrantState { id, priority, expires_at, remaining, held: Credits::ZERO });
        }
        state.prune();
    }

    /// Applies a journalled adjustment that the books may not have yet.
    pub fn replay_adjustment(&mut self, record: &AdjustmentRecord, key: CounterKey) -> Result<(), Gap> {
        if self.follows(record.seq)? {
            self.adjusted(record, key);
        }
        Ok(())
    }
}

/// Whether a grant may be changed so; how much of what is added pays a debt.
fn of_grant(
    state: Option<&BalanceState>,
    grant: &GrantState,
    amount: SignedCredits,
    now: Timestamp,
) -> Result<Credits, Unadjustable> {
    if grant.is_expired(now) {
        return Err(Unadjustable::Expired);
    }
    let (more, less) = (amount.available(), amount.owed());
    let live = state.and_then(|state| state.grants().iter().find(|other| other.id == grant.id));
    let free = live.map_or(Credits::ZERO, |grant| grant.remaining.saturating_sub(grant.held));
    if less > free && !planted(Bug::AdjustmentTakesHeld) {
        return Err(Unadjustable::NotFree { free });
    }
    let remaining = state.map_or(Some(Credits::ZERO), BalanceState::remaining);
    remaining.and_then(|remaining| remaining.checked_add(more)).ok_or(Unadjustable::TooMuch)?;
    Ok(state.map_or(Credits::ZERO, |state| state.debt).min(more))
}

fn of_debt(
    state: Option<&BalanceState>,
    owed: Credits,
    most: Credits,
    amount: SignedCredits,
    now: Timestamp,
) -> Result<(), Unadjustable> {
    let (more, less) = (amount.available(), amount.owed());
    if more > owed {
        return Err(Unadjustable::NotOwed { owed });
    }
    if less.is_zero() {
        return Ok(());
    }
    let free = state.map_or(Credits::ZERO, |state| state.available(now, Holds::Count));
    if !free.is_zero() {
        return Err(Unadjustable::StillFree { free });
    }
    if owed.saturating_add(less) > most {
        return Err(Unadjustable::BeyondDebt { most, owed });
    }
    Ok(())
}
