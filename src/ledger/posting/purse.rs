//! What owners have in the books, as posting reads and changes it.

use super::Contradiction;
use crate::access::counter::Slot;
use crate::access::record::CounterEntry;
use crate::ledger::chain;
use crate::policy::compiled::{Name, Scope};
use crate::units::{GrantId, SignedCredits};

/// What one owner has in the books.
#[derive(Clone, Debug, Default)]
pub struct Purse {
    /// Its balances, in the order in which they were first booked.
    pub balances: Vec<BookedBalance>,
    /// What its windows and guards stand at, in the order of their keys.
    pub slots: Vec<Slot>,
    /// Whether `slots` differs from what is stored.
    pub slots_changed: bool,
}

/// One balance in the books.
#[derive(Clone, Debug)]
pub struct BookedBalance {
    /// Its row, once it is stored.
    pub row: Option<i64>,
    /// Its name.
    pub name: Name,
    /// What remains of all grants, less the debt.
    pub standing: SignedCredits,
    /// What is owed.
    pub debt: SignedCredits,
    /// The hash of its newest update.
    pub hash: [u8; 32],
    /// Grants with something left in them.
    pub remainders: Vec<Remainder>,
    /// Whether it differs from what is stored.
    pub changed: bool,
}

/// What is left of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remainder {
    /// Which.
    pub grant: GrantId,
    /// How much; below zero only where more was drawn than there was.
    pub remaining: SignedCredits,
    /// Whether it differs from what is stored.
    pub changed: bool,
}

/// The owners that a record can touch.
#[derive(Debug)]
pub struct Purses<'a> {
    /// The account's own.
    pub shared: &'a mut Purse,
    /// The user's; empty where the record has no user.
    pub own: &'a mut Purse,
}

impl Purses<'_> {
    pub(in crate::ledger) fn of(&mut self, scope: Scope) -> &mut Purse {
        match scope {
            Scope::Account => self.shared,
            Scope::User => self.own,
        }
    }
}

impl Purse {
    /// The place of a balance, which is made where it has never been booked.
    pub(super) fn place_of(&mut self, name: &Name) -> usize {
        self.balances.iter().position(|balance| balance.name == *name).unwrap_or_else(|| {
            self.balances.push(BookedBalance::new(name.clone()));
            self.balances.len() - 1
        })
    }

    /// The place of the balance that a grant fills.
    pub(super) fn holder_of(&self, grant: GrantId) -> Result<usize, Contradiction> {
        let holds = |balance: &BookedBalance| balance.remainders.iter().any(|other| other.grant == grant);
        self.balances.iter().position(holds).ok_or(Contradiction::NoGrant(grant))
    }

    /// Sets a counter. One that counts nothing says nothing, and is forgotten.
    pub(super) fn set(&mut self, entry: &CounterEntry) {
        let slot = entry.slot;
        match (self.slots.binary_search_by_key(&slot.key, |slot| slot.key), slot.used) {
            (Ok(place), 0) => drop(self.slots.remove(place)),
            (Ok(place), _) => self.slots[place] = slot,
            (Err(_), 0) => return,
            (Err(place), _) => self.slots.insert(place, slot),
        }
        self.slots_changed = true;
    }
}

impl BookedBalance {
    fn new(name: Name) -> Self {
        Self {
            row: None,
            name,
            standing: SignedCredits::ZERO,
            debt: SignedCredits::ZERO,
            hash: chain::START,
            remainders: Vec::new(),
            changed: false,
        }
    }

    pub(super) fn change(&mut self, grant: GrantId, amount: SignedCredits) {
        match self.remainders.iter_mut().find(|remainder| remainder.grant == grant) {
            Some(remainder) => {
                remainder.remaining = remainder.remaining.checked_add(amount).unwrap_or_default();
                remainder.changed = true;
            }
            None => self.remainders.push(Remainder { grant, remaining: amount, changed: true }),
        }
    }
}
