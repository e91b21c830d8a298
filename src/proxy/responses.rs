//! Whose a response is.
//!
//! One upstream key serves all accounts, so the upstream cannot tell them apart: the gateway does. A response belongs
//! to the account whose call made it, from the moment its id is seen; every other account is told that it does not
//! exist (I14). The books know for ever; the newest are kept in memory too, until the books have them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ledger::rows::Owner;
use crate::ledger::{Ledger, LedgerError};
use crate::units::AccountId;

/// How many are kept in memory. At a thousand calls a second, settlement may be a minute behind.
const KEPT: usize = 65_536;
/// No id of a response is longer.
const ID_BYTES_MAX: usize = 128;

/// Who made which response.
pub struct Owners {
    ledger: Arc<dyn Ledger>,
    newest: Mutex<Newest>,
}

#[derive(Default)]
struct Newest {
    owners: HashMap<Arc<str>, Owner>,
    order: VecDeque<Arc<str>>,
}

impl Owners {
    /// Owners by the books of `ledger`.
    pub fn new(ledger: Arc<dyn Ledger>) -> Arc<Self> {
        Arc::new(Self { ledger, newest: Mutex::default() })
    }

    /// Notes who made a response, where, and how long what continues it is.
    pub fn made(&self, id: &str, owner: Owner) {
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return;
        }
        let mut newest = self.newest();
        if let Some(known) = newest.owners.get_mut(id) {
            // The first who made it stays: an upstream that gives an id twice gives nothing away.
            if known.account == owner.account {
                *known = owner;
            }
            return;
        }
        let id: Arc<str> = Arc::from(id);
        newest.owners.insert(Arc::clone(&id), owner);
        newest.order.push_back(id);
        if newest.order.len() > KEPT
            && let Some(oldest) = newest.order.pop_front()
        {
            newest.owners.remove(&oldest);
        }
    }

    /// The response `id`, if it is this account's.
    pub async fn owned_by(&self, account: AccountId, id: &str) -> Result<Option<Owner>, LedgerError> {
        let known = self.newest().owners.get(id).cloned();
        let owner = match known {
            Some(owner) => Some(owner),
            None => self.ledger.owner_of(id).await?,
        };
        Ok(owner.filter(|owner| owner.account == account))
    }

    /// Forgets a response that was deleted upstream.
    pub async fn forget(&self, id: &str) -> Result<(), LedgerError> {
        self.newest().owners.remove(id);
        self.ledger.disown(id).await
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
