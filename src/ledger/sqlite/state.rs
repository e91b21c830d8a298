//! What the books add up to: read when an owner is first touched, written once at the end of a batch.

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::apply::Touched;
use super::cache::{Cache, Head, Kept, Owner};
use super::columns::{Owned, Slots};
use crate::ledger::posting::{BookedBalance, Purse, Remainder};
use crate::ledger::{LedgerError, slots};
use crate::units::{AccountId, SignedCredits};

/// The statements, prepared once for a batch.
pub(super) struct States<'c> {
    head: CachedStatement<'c>,
    slots: CachedStatement<'c>,
    balances: CachedStatement<'c>,
    remainders: CachedStatement<'c>,
    set_head: CachedStatement<'c>,
    set_slots: CachedStatement<'c>,
    set_balance: CachedStatement<'c>,
    set_remainder: CachedStatement<'c>,
    drop_remainder: CachedStatement<'c>,
}

impl<'c> States<'c> {
    pub(super) fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        let prepare = |sql| connection.prepare_cached(sql);
        Ok(Self {
            head: prepare("SELECT seq, event, change, hash FROM heads WHERE account = ?1")?,
            slots: prepare("SELECT slots FROM counters WHERE account = ?1 AND user = ?2")?,
            balances: prepare(
                "SELECT id, name, standing, debt, hash FROM balances WHERE account = ?1 AND user = ?2 ORDER BY id",
            )?,
            remainders: prepare("SELECT grant_id, remaining FROM remainders WHERE balance = ?1")?,
            set_head: prepare(
                "UPDATE heads SET seq = ?2, event = ?3, change = ?4, hash = ?5 WHERE account = ?1",
            )?,
            set_slots: prepare(
                "INSERT INTO counters (account, user, slots) VALUES (?1, ?2, ?3) \
                 ON CONFLICT DO UPDATE SET slots = excluded.slots",
            )?,
            set_balance: prepare("UPDATE balances SET standing = ?2, debt = ?3, hash = ?4 WHERE id = ?1")?,
            set_remainder: prepare(
                "INSERT INTO remainders (balance, grant_id, remaining) VALUES (?1, ?2, ?3) \
                 ON CONFLICT DO UPDATE SET remaining = excluded.remaining",
            )?,
            drop_remainder: prepare("DELETE FROM remainders WHERE balance = ?1 AND grant_id = ?2")?,
        })
    }

    /// Makes sure that an account's head is at hand. `false` where there is no such account.
    pub(super) fn recall_head(&mut self, cache: &mut Cache, account: AccountId) -> Result<bool, LedgerError> {
        if cache.heads.recall(&account) {
            return Ok(true);
        }
        let head = self.head.query_row([account], |row| {
            Ok(Head {
                seq: row.get(0)?,
                event: row.get(1)?,
                change: row.get(2)?,
                hash: row.get(3)?,
                changed: false,
            })
        });
        let Some(head) = head.optional()? else { return Ok(false) };
        cache.heads.insert(account, head);
        Ok(true)
    }

    /// Makes sure that an owner's purse is at hand.
    pub(super) fn recall_purse(&mut self, cache: &mut Cache, owner: Owner) -> Result<(), LedgerError> {
        if !cache.purses.recall(&owner) {
            let purse = self.purse(owner)?;
            cache.purses.insert(owner, Kept { purse, touched: false });
        }
        Ok(())
    }

    fn purse(&mut self, (account, user): Owner) -> Result<Purse, LedgerError> {
        let owner = params![account, Owned(user)];
        let slots = self.slots.query_row(owner, |row| row.get(0).map(|Slots(slots)| slots));
        let balances = self.balances.query_map(owner, |row| {
            Ok(BookedBalance {
                row: row.get(0)?,
                name: row.get(1)?,
                standing: row.get(2)?,
                debt: row.get(3)?,
                hash: row.get(4)?,
                remainders: Vec::new(),
                changed: false,
            })
        })?;
        let slots = slots.optional()?.unwrap_or_default();
        let mut purse = Purse { slots, slots_changed: false, balances: balances.collect::<Result<_, _>>()? };
        for balance in &mut purse.balances {
            let remainders = self.remainders.query_map([balance.row], |row| {
                Ok(Remainder { grant: row.get(0)?, remaining: row.get(1)?, changed: false })
            })?;
            balance.remainders = remainders.collect::<Result<_, _>>()?;
        }
        Ok(purse)
    }

    /// Writes what was touched, in the order of its keys: neighbours share pages.
    pub(super) fn write(&mut self, cache: &mut Cache, touched: &mut Touched) -> Result<(), LedgerError> {
        touched.accounts.sort_unstable();
        for account in &touched.accounts {
            if let Some(head) = cache.heads.young(account) {
                head.changed = false;
                self.set_head.execute(params![account, head.seq, head.event, head.change, head.hash])?;
            }
        }
        touched.owners.sort_unstable();
        for owner in &touched.owners {
            if let Some(kept) = cache.purses.young(owner) {
                kept.touched = false;
                self.write_purse(*owner, &mut kept.purse)?;
            }
        }
        Ok(())
    }

    fn write_purse(&mut self, (account, user): Owner, purse: &mut Purse) -> Result<(), LedgerError> {
        if std::mem::take(&mut purse.slots_changed) {
            self.set_slots.execute(params![account, Owned(user), slots::pack(&purse.slots)])?;
        }
        for balance in purse.balances.iter_mut().filter(|balance| balance.changed) {
            balance.changed = false;
            self.set_balance.execute(params![balance.row, balance.standing, balance.debt, balance.hash])?;
            for remainder in balance.remainders.iter_mut().filter(|remainder| remainder.changed) {
                remainder.changed = false;
                if remainder.remaining == SignedCredits::ZERO {
                    self.drop_remainder.execute(params![balance.row, remainder.grant])?;
                } else {
                    self.set_remainder.execute(params![balance.row, remainder.grant, remainder.remaining])?;
                }
            }
            balance.remainders.retain(|remainder| remainder.remaining != SignedCredits::ZERO);
        }
        Ok(())
    }
}
