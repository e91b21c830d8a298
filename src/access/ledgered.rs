//! Grants, expiry, and the way back from the books: what changes an account beside requests.

use super::account::{Account, Purse};
use super::balance::{BalanceState, GrantState};
use super::counter::Slot;
use super::record::{
    CorrectionRecord, CounterEntry, EndRecord, ExpiryRecord, GrantEntry, GrantOrigin, GrantRecord,
    OriginEntry,
};
use crate::policy::compiled::{CounterKey, Name, Scope};
use crate::units::planted::{Bug, planted};
use crate::units::{Credits, GrantId, Seq, Timestamp, UserId};

/// An order to grant credits.
#[derive(Clone, Debug)]
pub struct GrantOrder {
    /// The same for a repeated order.
    pub grant: GrantId,
    /// The user whose balance is filled; `None` fills one of the account.
    pub user: Option<UserId>,
    /// The balance's name.
    pub balance: Name,
    /// Its identity.
    pub key: CounterKey,
    /// How much.
    pub amount: Credits,
    /// Lower is drawn first.
    pub priority: u16,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Who ordered it.
    pub origin: GrantOrigin,
}

/// Why an order is not carried out: the balance would hold more than any amount may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the balance would hold more than {} credits", Credits::MAX)]
pub struct TooMuch;

/// A record that does not follow the account's newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {found:?} follows record {newest:?}: records between them are missing")]
pub struct Gap {
    /// The account's newest.
    pub newest: Seq,
    /// The one at hand.
    pub found: Seq,
}

/// What one grant looks like in the books.
#[derive(Clone, Debug)]
pub struct BookedGrant {
    /// Whose.
    pub user: Option<UserId>,
    /// Of which balance.
    pub balance: CounterKey,
    /// What is left of it.
    pub state: GrantState,
    /// Whether policy issued it.
    pub issued: bool,
}

impl BookedGrant {
    /// A grant that nothing has been drawn of.
    pub fn as_granted(grant: &GrantRecord) -> Self {
        Self {
            user: grant.user,
            balance: CounterKey::of_balance(&grant.balance),
            state: grant.state(),
            issued: matches!(grant.origin, GrantOrigin::Issue { .. }),
        }
    }
}

impl GrantRecord {
    fn state(&self) -> GrantState {
        GrantState {
            id: self.grant,
            priority: self.priority,
            expires_at: self.expires_at.unwrap_or(Timestamp::NEVER),
            remaining: self.amount.saturating_sub(self.repaid),
            held: Credits::ZERO,
        }
    }
}

impl Account {
    /// What an order grants, once [`Self::granted`] has it: then the very next request sees it. A debt is paid first.
    pub fn grant(&self, order: GrantOrder, now: Timestamp) -> Result<GrantRecord, TooMuch> {
        let purse = match order.user {
            Some(user) => self.purse(Scope::User, user),
            None => self.purse(Scope::Account, UserId::MIN),
        };
        let state = purse.and_then(|purse| purse.balance(order.key));
        let remaining = state.map_or(Some(Credits::ZERO), BalanceState::remaining);
        remaining.and_then(|remaining| remaining.checked_add(order.amount)).ok_or(TooMuch)?;
        let debt = state.map_or(Credits::ZERO, |state| state.debt);
        Ok(GrantRecord {
            seq: self.seq.next(),
            grant: order.grant,
            account: self.id,
            user: order.user,
            balance: order.balance,
            amount: order.amount,
            repaid: if planted(Bug::GrantIgnoresDebt) { Credits::ZERO } else { debt.min(order.amount) },
            priority: order.priority,
            expires_at: order.expires_at,
            granted_at: now,
            origin: order.origin,
        })
    }

    /// Puts a grant into its balance. It is the account's newest record.
    pub fn granted(&mut self, grant: &GrantRecord, key: CounterKey) {
        self.seq = grant.seq;
        let state = self.owner_mut(grant.user).balance_mut(key);
        state.issued |= matches!(grant.origin, GrantOrigin::Issue { .. });
        state.debt = state.debt.saturating_sub(grant.repaid);
        state.insert(grant.state());
    }

    /// Takes out what has expired and is not held: one record for each owner.
    pub fn expire_grants(&mut self, now: Timestamp) -> Vec<ExpiryRecord> {
        let mut found = Vec::new();
        for (user, purse) in self.purses_mut() {
            let scope = if user.is_some() { Scope::User } else { Scope::Account };
            let mut grants = Vec::new();
            for state in purse.balances_mut() {
                let balance = state.key;
                let expired = state.expire(now).into_iter();
                grants.extend(expired.map(|(grant, amount)| GrantEntry { scope, balance, grant, amount }));
                state.prune();
            }
            if !grants.is_empty() {
                found.push((user, grants));
            }
        }
        let records = found.into_iter().map(|(user, grants)| ExpiryRecord {
            seq: if planted(Bug::SeqReused) { self.seq } else { self.next_seq() },
            account: self.id,
            user,
            expired_at: now,
            grants,
        });
        records.collect()
    }

    /// The first instant at which a grant of any purse expires; see [`Purse::next_expiry`].
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        self.purses().filter_map(|(_, purse)| purse.next_expiry(now)).min()
    }

    /// Sets a counter to what the books say.
    pub fn restore_counter(&mut self, user: UserId, entry: &CounterEntry) {
        let counters = &mut self.purse_mut(entry.scope, user).counters;
        counters.set(entry.slot);
        counters.close_if_empty(entry.slot.key);
    }

    /// Sets a grant to what the books say.
    pub fn restore_grant(&mut self, booked: &BookedGrant) {
        let state = self.owner_mut(booked.user).balance_mut(booked.balance);
        state.issued |= booked.issued;
        state.insert(booked.state);
    }

    /// Sets a debt to what the books say.
    pub fn restore_debt(&mut self, user: Option<UserId>, balance: CounterKey, debt: Credits) {
        self.owner_mut(user).balance_mut(balance).debt = debt;
    }

    /// Applies a journalled end that the books may not have yet. What is applied already changes nothing.
    pub fn replay_end(&mut self, end: &EndRecord, key_of: impl Fn(&str) -> CounterKey) -> Result<(), Gap> {
        if !self.follows(end.seq)? {
            return Ok(());
        }
        for entry in &end.counters {
            self.restore_counter(end.user, entry);
        }
        for draw in &end.draws {
            let amount = Credits::from_micros(draw.amount.get()).unwrap_or(Credits::MAX);
            match &draw.origin {
                OriginEntry::Windows(_) => {}
                OriginEntry::Grant { balance, grant } => {
                    let balance = key_of(balance);
                    self.take_from(
                        &GrantEntry { scope: draw.scope, balance, grant: *grant, amount },
                        end.user,
                    );
                }
                OriginEntry::Debt { balance } => {
                    let state = self.purse_mut(draw.scope, end.user).balance_mut(key_of(balance));
                    state.debt = state.debt.saturating_add(amount);
                }
            }
        }
        self.replay_returns(&end.expired, &end.repaid, end.user);
        Ok(())
    }

    /// Applies a journalled correction that the books may not have yet.
    pub fn replay_correction(
        &mut self,
        correction: &CorrectionRecord,
        key_of: impl Fn(&str) -> CounterKey,
    ) -> Result<(), Gap> {
        if !self.follows(correction.seq)? {
            return Ok(());
        }
        let user = correction.user;
        for entry in &correction.counters {
            self.restore_counter(user, entry);
        }
        for entry in &correction.moves {
            let key = key_of(&entry.balance);
            self.move_back(entry, user, key);
            self.purse_mut(entry.scope, user).balance_mut(key).prune();
        }
        self.replay_returns(&correction.expired, &correction.repaid, user);
        Ok(())
    }

    /// What came back expired, or has paid a debt.
    fn replay_returns(&mut self, expired: &[GrantEntry], repaid: &[GrantEntry], user: UserId) {
        for entry in expired {
            self.take_from(entry, user);
        }
        for entry in repaid {
            self.take_from(entry, user);
            let state = self.purse_mut(entry.scope, user).balance_mut(entry.balance);
            state.debt = state.debt.saturating_sub(entry.amount);
        }
    }

    /// Applies a journalled grant that the books may not have yet.
    pub fn replay_grant(&mut self, grant: &GrantRecord, key: CounterKey) -> Result<(), Gap> {
        if self.follows(grant.seq)? {
            self.granted(grant, key);
        }
        Ok(())
    }

    /// Applies a journalled expiry that the books may not have yet.
    pub fn replay_expiry(&mut self, expiry: &ExpiryRecord) -> Result<(), Gap> {
        if self.follows(expiry.seq)? {
            let user = expiry.user.unwrap_or(UserId::MIN);
            for entry in &expiry.grants {
                self.take_from(entry, user);
            }
        }
        Ok(())
    }

    /// Whether a record is the next one; `false` for one that is applied already.
    pub(super) fn follows(&mut self, seq: Seq) -> Result<bool, Gap> {
        if seq <= self.seq {
            return Ok(seq == self.seq && planted(Bug::ReplayAppliesTwice));
        }
        if seq != self.seq.next() {
            return Err(Gap { newest: self.seq, found: seq });
        }
        self.seq = seq;
        Ok(true)
    }

    fn take_from(&mut self, entry: &GrantEntry, user: UserId) {
        let state = self.purse_mut(entry.scope, user).balance_mut(entry.balance);
        if let Some(grant) = state.grant_mut(entry.grant) {
            grant.remaining = grant.remaining.saturating_sub(entry.amount);
        }
        state.prune();
    }

    fn owner_mut(&mut self, user: Option<UserId>) -> &mut Purse {
        match user {
            Some(user) => self.purse_mut(Scope::User, user),
            None => self.purse_mut(Scope::Account, UserId::MIN),
        }
    }
}

impl Purse {
    /// The first instant at which a grant expires that has anything to take out by then: what is held now may have come
    /// back. Of one that has expired already, what is held goes with its hold.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let grants = self.balances().iter().flat_map(BalanceState::grants);
        let takes = |grant: &&GrantState| {
            grant.remaining > grant.held || !grant.is_expired(now) && !planted(Bug::ExpiryUnwatched)
        };
        grants.filter(takes).filter_map(GrantState::expiry).min()
    }
}

impl Slot {
    /// Whether it says anything that a missing slot does not.
    pub const fn is_empty(&self) -> bool {
        self.used == 0 && self.held == 0
    }
}
