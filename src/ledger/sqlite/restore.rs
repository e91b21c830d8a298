//! Telling all that live state is made of.
//!
//! One read transaction, so that all of it is of one instant, table after table in the order of their keys. Rows go to
//! the caller in bounded portions: a million users never stand in memory twice.

use rusqlite::{Connection, Row};
use tokio::sync::mpsc;

use super::columns::{Owned, Slots};
use super::history::GRANTS;
use crate::access::record::CounterEntry;
use crate::ledger::LedgerError;
use crate::ledger::rows::Restored;
use crate::ledger::told;
use crate::policy::compiled::Scope;
use crate::units::{AccountId, SignedCredits, UserId};

/// Rows that travel together.
const PORTION: usize = 512;

/// The way to the caller.
pub(super) struct Teller {
    portions: mpsc::Sender<Vec<Restored>>,
    portion: Vec<Restored>,
}

impl Teller {
    /// A way through this channel.
    pub(super) const fn new(portions: mpsc::Sender<Vec<Restored>>) -> Self {
        Self { portions, portion: Vec::new() }
    }

    /// `false` once nobody listens any more.
    fn tell(&mut self, restored: Restored) -> bool {
        self.portion.push(restored);
        self.portion.len() < PORTION || self.send()
    }

    fn send(&mut self) -> bool {
        self.portions.blocking_send(std::mem::take(&mut self.portion)).is_ok()
    }
}

pub(super) fn restore(connection: &Connection, mut teller: Teller) -> Result<(), LedgerError> {
    let transaction = connection.unchecked_transaction()?;
    let accounts =
        "SELECT id, name, plan, status, created_at, seq FROM accounts JOIN heads ON heads.account = id";
    let grants = format!("{GRANTS} WHERE remaining <> 0 OR decision IS NOT NULL ORDER BY grants.id");
    let steps: [(&str, Tell); 6] = [
        (accounts, |row, tell| Ok(tell(Restored::Account(told::account(row)?, row.get("seq")?)))),
        ("SELECT * FROM users", |row, tell| Ok(tell(Restored::User(told::user(row)?)))),
        ("SELECT * FROM keys WHERE revoked_at IS NULL", |row, tell| Ok(tell(Restored::Key(told::key(row)?)))),
        ("SELECT account, user, slots FROM counters", counters),
        (&grants, |row, tell| Ok(tell(Restored::Grant(told::grant_row(row)?)))),
        ("SELECT account, user, name, debt FROM balances WHERE debt > 0", debt),
    ];
    for (sql, step) in steps {
        let mut select = transaction.prepare(sql)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            if !step(row, &mut |restored| teller.tell(restored))? {
                return Ok(());
            }
        }
    }
    teller.send();
    Ok(())
}

/// Tells what a row says; `false` once nobody listens any more.
type Tell = fn(&Row<'_>, &mut dyn FnMut(Restored) -> bool) -> rusqlite::Result<bool>;

fn counters(row: &Row<'_>, tell: &mut dyn FnMut(Restored) -> bool) -> rusqlite::Result<bool> {
    let account: AccountId = row.get("account")?;
    let Owned(user) = row.get("user")?;
    let scope = if user.is_some() { Scope::User } else { Scope::Account };
    let Slots(slots) = row.get("slots")?;
    let entry = |slot| Restored::Counter(account, user.unwrap_or(UserId::MIN), CounterEntry { scope, slot });
    Ok(slots.into_iter().all(|slot| tell(entry(slot))))
}

fn debt(row: &Row<'_>, tell: &mut dyn FnMut(Restored) -> bool) -> rusqlite::Result<bool> {
    let Owned(user) = row.get("user")?;
    let debt: SignedCredits = row.get("debt")?;
    Ok(tell(Restored::Debt(row.get("account")?, user, row.get("name")?, debt.available())))
}
