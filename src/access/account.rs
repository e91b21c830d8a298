//! The live state of one account: counters, balances and open holds. The meter keeps one behind one lock.

use serde::{Deserialize, Serialize};

use super::balance::BalanceState;
use super::counter::Counters;
use super::hold::Hold;
use crate::policy::compiled::{CounterKey, Scope};
use crate::units::{AccountId, DecisionId, IdMap, Seq, UserId};

/// So that room for users that may come takes an eighth of what there are.
const USERS_GROWTH_DIVISOR: usize = 8;

/// One account: what it shares, what each of its users has, and what is in flight.
#[derive(Clone, Debug)]
pub struct Account {
    /// Who this is.
    pub id: AccountId,
    /// The seq of the newest record.
    pub seq: Seq,
    shared: Purse,
    users: Vec<(UserId, Purse)>,
    pub(super) holds: OpenHolds,
}

/// The open holds of an account: no more than a pointer while there is none, as in most accounts at most times.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenHolds(Option<Box<IdMap<DecisionId, Box<Hold>>>>);

/// The counters and balances of one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purse {
    /// Windows and guards.
    pub counters: Counters,
    balances: Vec<BalanceState>,
}

impl Account {
    /// An account without any state.
    pub fn new(id: AccountId) -> Self {
        Self {
            id,
            seq: Seq::default(),
            shared: Purse::default(),
            users: Vec::new(),
            holds: OpenHolds::default(),
        }
    }

    /// The purse of a scope, if anything is in it.
    pub fn purse(&self, scope: Scope, user: UserId) -> Option<&Purse> {
        match scope {
            Scope::Account => Some(&self.shared),
            Scope::User => {
                let place = self.users.binary_search_by_key(&user, |(id, _)| *id).ok()?;
                self.users.get(place).map(|(_, purse)| purse)
            }
        }
    }

    /// The purse of a scope.
    pub fn purse_mut(&mut self, scope: Scope, user: UserId) -> &mut Purse {
        match scope {
            Scope::Account => &mut self.shared,
            Scope::User => {
                let place = self.users.binary_search_by_key(&user, |(id, _)| *id).unwrap_or_else(|place| {
                    if self.users.len() == self.users.capacity() {
                        // Most accounts have one user, and a million of them no room for others.
                        self.users.reserve_exact((self.users.len() / USERS_GROWTH_DIVISOR).max(1));
                    }
                    self.users.insert(place, (user, Purse::default()));
                    place
                });
                &mut self.users[place].1
            }
        }
    }

    /// All purses with their owners; `None` is the account itself.
    pub fn purses(&self) -> impl Iterator<Item = (Option<UserId>, &Purse)> {
        std::iter::once((None, &self.shared)).chain(self.users.iter().map(|(id, purse)| (Some(*id), purse)))
    }

    /// Replaces what the account shares.
    pub(super) fn share(&mut self, purse: Purse) {
        self.shared = purse;
    }

    pub(super) fn purses_mut(&mut self) -> impl Iterator<Item = (Option<UserId>, &mut Purse)> {
        let users = self.users.iter_mut().map(|(id, purse)| (Some(*id), purse));
        std::iter::once((None, &mut self.shared)).chain(users)
    }

    /// The open holds.
    pub fn holds(&self) -> impl Iterator<Item = &Hold> {
        self.holds.iter()
    }

    /// One open hold.
    pub fn hold_of(&self, decision: DecisionId) -> Option<&Hold> {
        self.holds.find(decision)
    }

    /// Numbers the next record.
    pub(super) fn next_seq(&mut self) -> Seq {
        self.seq = self.seq.next();
        self.seq
    }

    /// The bytes that name the owner of a scope.
    pub(super) fn owner_bytes(&self, scope: Scope, user: &UserId) -> [u8; 16] {
        match scope {
            Scope::Account => *self.id.as_bytes(),
            Scope::User => *user.as_bytes(),
        }
    }
}

impl OpenHolds {
    pub(super) fn find(&self, decision: DecisionId) -> Option<&Hold> {
        self.0.as_ref()?.get(&decision).map(AsRef::as_ref)
    }

    pub(super) fn find_mut(&mut self, decision: DecisionId) -> Option<&mut Hold> {
        self.0.as_mut()?.get_mut(&decision).map(AsMut::as_mut)
    }

    pub(super) fn put(&mut self, hold: Box<Hold>) {
        self.0.get_or_insert_default().insert(hold.decision, hold);
    }

    pub(super) fn take(&mut self, decision: DecisionId) -> Option<Box<Hold>> {
        let holds = self.0.as_mut()?;
        let taken = holds.remove(&decision);
        if holds.is_empty() {
            self.0 = None;
        }
        taken
    }

    fn iter(&self) -> impl Iterator<Item = &Hold> {
        self.0.iter().flat_map(|holds| holds.values().map(AsRef::as_ref))
    }
}

impl Purse {
    /// What the owner has of a balance, if anything was ever granted.
    pub fn balance(&self, key: CounterKey) -> Option<&BalanceState> {
        self.balances.iter().find(|balance| balance.key == key)
    }

    /// What the owner has of a balance.
    pub fn balance_mut(&mut self, key: CounterKey) -> &mut BalanceState {
        let place = self.balances.iter().position(|balance| balance.key == key).unwrap_or_else(|| {
            self.balances.reserve_exact(1);
            self.balances.push(BalanceState::new(key));
            self.balances.len() - 1
        });
        &mut self.balances[place]
    }

    /// All balances.
    pub fn balances(&self) -> &[BalanceState] {
        &self.balances
    }

    pub(super) fn balances_mut(&mut self) -> &mut [BalanceState] {
        &mut self.balances
    }
}
