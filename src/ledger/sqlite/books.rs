//! The books in the file, read for the audit: one connection, one read transaction, pages in the order of booking.
//!
//! Nothing is sorted, and what is looked up was booked at about the same time as what stands beside it, so a pass over
//! large books reads each page of the file about once. While the transaction is open the WAL cannot be reset, so it
//! grows by what is written meanwhile.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::connection;
use super::history::{ADJUSTMENTS, adjustment_record};
use crate::ledger::LedgerError;
use crate::ledger::books::{
    BookedAdjustment, BookedCells, BookedEvent, BookedGrant, BookedHead, BookedRecord, BookedStanding,
    BookedUpdate, Books, Extent, Sizes, Stray,
};
use crate::units::{AccountId, DecisionId, GrantId, OrderId, PolicyVersion, Seq, Timestamp};

mod ahead;
mod pages;
mod paths;
mod rows;
mod strays;
mod words;

use ahead::Ahead;
use pages::{Pages, extent, newest};
use rows::{booked_grant, seq, standing};

/// Memory for pages.
const CACHE_KIB: i64 = 32 * 1024;
/// How many updates of an account are walked back to find the one before on the same balance.
const WALK_BACK: usize = 100_000;
/// How often two connections begin until they see the same books: a commit comes between them now and then.
const BEGIN_TRIES: usize = 100;

/// The books in one file.
pub struct SqliteBooks {
    pub(super) connection: Rc<Connection>,
    pages: RefCell<Pages>,
    /// Reads pages ahead, where someone wants all of them.
    ahead: Option<RefCell<Ahead>>,
}

impl SqliteBooks {
    /// Opens the file for reading, as of now.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        Self::of(connection::reader(path)?)
    }

    /// Opens the file for reading all of it: a second thread reads ahead.
    pub fn open_ahead(path: &Path) -> Result<Self, LedgerError> {
        for _ in 0..BEGIN_TRIES {
            let books = Self::open(path)?;
            if let Some(ahead) = Ahead::open(path, books.extent()?)? {
                return Ok(Self { ahead: Some(RefCell::new(ahead)), ..books });
            }
        }
        Self::open(path)
    }

    /// The file in the hands of someone who would forge it: nothing refuses a change, and no change is kept.
    #[cfg(test)]
    pub(crate) fn forged(path: &Path) -> (Self, Rc<Connection>) {
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(
                "PRAGMA ignore_check_constraints = 1; PRAGMA foreign_keys = 0; PRAGMA temp_store = MEMORY",
            )
            .unwrap();
        let books = Self::of(connection).unwrap();
        let connection = Rc::clone(&books.connection);
        let triggers = "SELECT 'DROP TRIGGER ' || name FROM sqlite_schema WHERE type = 'trigger'";
        let drops: Vec<String> = connection
            .prepare(triggers)
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        for drop in &drops {
            connection.execute_batch(drop).unwrap();
        }
        (books, connection)
    }

    fn of(connection: Connection) -> Result<Self, LedgerError> {
        begin(&connection)?;
        Ok(Self { connection: Rc::new(connection), pages: RefCell::new(Pages::new()), ahead: None })
    }

    /// The account of this id or name.
    pub fn account(&self, id_or_name: &str) -> Result<Option<AccountId>, LedgerError> {
        let found = super::directory::find_account(&self.connection, id_or_name)?;
        Ok(found.map(|account| account.id))
    }

    fn each(
        &self,
        sql: &str,
        mut visit: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), LedgerError> {
        let mut select = self.connection.prepare_cached(sql)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            visit(row)?;
        }
        Ok(())
    }

    /// The last place before the first row that is no older than `since`, by halving: places follow time but for
    /// moments, so some more are taken.
    fn last_before(&self, table: &str, instant: &str, since: Timestamp) -> Result<i64, LedgerError> {
        let sql = format!("SELECT place, {instant} FROM {table} WHERE place > ?1 ORDER BY place LIMIT 1");
        let mut select = self.connection.prepare(&sql)?;
        let (mut low, mut high) = (0, newest(&self.connection, table)?);
        while low < high {
            let middle = low + (high - low) / 2;
            let found: Option<(i64, Timestamp)> =
                select.query_row([middle], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            match found {
                Some((place, at)) if at < since => low = place,
                _ => high = middle,
            }
        }
        Ok((low - EARLIER).max(0))
    }
}

/// Begins to see the books as they are now.
fn begin(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch("BEGIN; SELECT count(*) FROM policies;")
}

/// Rows before an instant that are looked at once more, since accounts are not booked in the order of time together.
const EARLIER: i64 = 100_000;

impl Books for SqliteBooks {
    fn sizes(&self) -> Result<Sizes, LedgerError> {
        let count = |table: &str| {
            let sql = format!("SELECT count(*) FROM {table}");
            self.connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
        };
        Ok(Sizes {
            accounts: count("accounts")?,
            usage_events: count("usage_events")?,
            monetization_events: count("monetization_events")?,
            balance_updates: count("balance_updates")?,
            balances: count("balances")?,
            grants: count("grants")?,
            adjustments: count("adjustments")?,
            remainders: count("remainders")?,
            records: count("records")?,
            policies: count("policies")?,
        })
    }

    fn extent(&self) -> Result<Extent, LedgerError> {
        extent(&self.connection)
    }

    fn first_places(&self) -> Result<Extent, LedgerError> {
        let first = |table: &str| {
            let sql = format!("SELECT coalesce(min(place), 1) FROM {table}");
            self.connection.query_row(&sql, [], |row| row.get(0))
        };
        Ok(Extent {
            events: first("usage_events")?,
            records: first("records")?,
            updates: first("balance_updates")?,
        })
    }

    fn policies(&self, visit: &mut dyn FnMut(PolicyVersion, &str)) -> Result<(), LedgerError> {
        self.each("SELECT version, text FROM policies ORDER BY version", |row| {
            visit(row.get(0)?, &String::from_utf8_lossy(row.get_ref(1)?.as_bytes()?));
            Ok(())
        })
    }

    fn heads(&self, after: Option<AccountId>, limit: u32) -> Result<Vec<BookedHead>, LedgerError> {
        let mut select = self.connection.prepare_cached(
            "SELECT account, seq, event, change, hash FROM heads WHERE ?1 IS NULL OR account > ?1 \
             ORDER BY account LIMIT ?2",
        )?;
        let rows = select.query_map(params![after, limit], |row| {
            let (event, change) = (row.get(2)?, row.get(3)?);
            Ok(BookedHead { account: row.get(0)?, seq: seq(row, 1)?, event, change, hash: row.get(4)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn balances(
        &self,
        after: Option<AccountId>,
        up_to: Option<AccountId>,
        visit: &mut dyn FnMut(BookedStanding),
    ) -> Result<(), LedgerError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, account, user, name, standing, debt, hash FROM balances \
             WHERE (?1 IS NULL OR account > ?1) AND (?2 IS NULL OR account <= ?2) ORDER BY account, user, name",
        )?;
        let mut rows = select.query(params![after, up_to])?;
        while let Some(row) = rows.next()? {
            visit(standing(row)?);
        }
        Ok(())
    }

    fn standing(&self, balance: i64) -> Result<Option<BookedStanding>, LedgerError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, account, user, name, standing, debt, hash FROM balances WHERE id = ?1",
        )?;
        Ok(select.query_row([balance], standing).optional()?)
    }

    fn has_balance(&self, balance: i64) -> Result<bool, LedgerError> {
        Ok(self.connection.prepare_cached("SELECT 1 FROM balances WHERE id = ?1")?.exists([balance])?)
    }

    fn remainders(&self, visit: &mut dyn FnMut(i64, GrantId, i64)) -> Result<(), LedgerError> {
        self.each("SELECT balance, grant_id, remaining FROM remainders", |row| {
            visit(row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(())
        })
    }

    fn events(&self, after: i64, limit: u32) -> Result<Vec<BookedEvent>, LedgerError> {
        match &self.ahead {
            Some(ahead) => ahead.borrow_mut().events(after, limit),
            None => self.pages.borrow_mut().events(&self.connection, after, limit),
        }
    }

    fn updates(&self, after: i64, limit: u32) -> Result<Vec<BookedUpdate>, LedgerError> {
        match &self.ahead {
            Some(ahead) => ahead.borrow_mut().updates(after, limit),
            None => Pages::updates(&self.connection, after, limit),
        }
    }

    fn records(&self, after: i64, limit: u32) -> Result<Vec<BookedRecord>, LedgerError> {
        match &self.ahead {
            Some(ahead) => ahead.borrow_mut().records(after, limit),
            None => self.pages.borrow_mut().records(&self.connection, after, limit),
        }
    }

    fn records_of(
        &self,
        account: AccountId,
        after: Seq,
        before: Seq,
    ) -> Result<Vec<BookedRecord>, LedgerError> {
        self.pages.borrow_mut().records_of(&self.connection, account, after, before)
    }

    fn cells(&self, decision: DecisionId) -> Result<Option<BookedCells>, LedgerError> {
        paths::cells(&self.connection, decision)
    }

    fn rows_after(&self, account: AccountId, seq: Seq) -> Result<Vec<[u8; 32]>, LedgerError> {
        paths::rows_after(self, account, seq)
    }

    fn updates_from(&self, account: AccountId, seq: Seq) -> Result<Vec<BookedUpdate>, LedgerError> {
        paths::updates_from(self, account, seq)
    }

    fn grant(&self, grant: GrantId) -> Result<Option<BookedGrant>, LedgerError> {
        let mut select = self.connection.prepare_cached(
            "SELECT grants.id, balance, account, user, name, seq, amount, repaid, priority, expires_at, granted_at, \
             decision, idempotency_key, note FROM grants JOIN balances ON balances.id = balance WHERE grants.id = ?1",
        )?;
        match select.query_row([grant], booked_grant).optional() {
            // What cannot be read is not what was granted.
            Err(
                rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::IntegralValueOutOfRange(..),
            ) => Ok(None),
            found => Ok(found?),
        }
    }

    fn revision_row(&self, account: AccountId, seq: Seq) -> Result<Option<[u8; 32]>, LedgerError> {
        paths::revision_row(self, account, seq)
    }

    fn adjustment(&self, order: OrderId) -> Result<Option<BookedAdjustment>, LedgerError> {
        let mut select =
            self.connection.prepare_cached(&format!("{ADJUSTMENTS} WHERE adjustments.id = ?1"))?;
        let found = select.query_row([order], |row| {
            Ok(BookedAdjustment { record: adjustment_record(row)?, balance: row.get("balance")? })
        });
        match found.optional() {
            // What cannot be read is not what was ordered.
            Err(
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..),
            ) => Ok(None),
            found => Ok(found?),
        }
    }

    fn before(&self, since: Timestamp) -> Result<Extent, LedgerError> {
        Ok(Extent {
            events: self.last_before("usage_events", "ended_at", since)?,
            records: 0,
            updates: self.last_before("balance_updates", "at", since)?,
        })
    }

    fn link_of(&self, account: AccountId, seq: Seq) -> Result<Option<[u8; 32]>, LedgerError> {
        let mut select =
            self.connection.prepare_cached("SELECT hash FROM records WHERE account = ?1 AND seq = ?2")?;
        let at = params![account, seq.0.cast_signed()];
        if let Some(hash) = select.query_row(at, |row| row.get(0)).optional()? {
            return Ok(hash);
        }
        // Events have no index by account: from the newest on, each names the one before it.
        let mut next: Option<i64> = self
            .connection
            .query_row("SELECT event FROM heads WHERE account = ?1", [account], |row| row.get(0))
            .optional()?
            .flatten();
        let mut select = self.connection.prepare_cached(
            "SELECT seq, previous, hash FROM usage_events WHERE place = ?1 AND account = ?2",
        )?;
        while let Some(place) = next {
            let found: Option<Linked> = select
                .query_row(params![place, account], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            match found {
                Some((found, _, hash)) if found == seq.0.cast_signed() => return Ok(hash),
                Some((_, previous, _)) => next = previous.filter(|previous| *previous < place),
                None => next = None,
            }
        }
        Ok(None)
    }

    fn hash_of(&self, balance: i64, at_or_before: Option<i64>) -> Result<Option<[u8; 32]>, LedgerError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT balance, previous, hash FROM balance_updates WHERE place = ?1")?;
        let mut next = at_or_before;
        for _ in 0..WALK_BACK {
            let Some(place) = next else { return Ok(None) };
            let found: Option<(i64, Option<i64>, [u8; 32])> =
                select.query_row([place], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
            match found {
                Some((found, _, hash)) if found == balance => return Ok(Some(hash)),
                Some((_, previous, _)) => next = previous.filter(|previous| *previous < place),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    fn strays(&self, lost: bool, limit: u32) -> Result<Vec<Stray>, LedgerError> {
        let mut found = Vec::new();
        let also = if lost { &strays::LOST[..] } else { &[] };
        for (what, sql) in strays::KINDS.iter().chain(also) {
            self.each(&format!("{sql} LIMIT {limit}"), |row| {
                found.push(Stray { what, id: row.get(0)? });
                Ok(())
            })?;
        }
        Ok(found)
    }
}

/// An event's seq, the event before it, and its link.
type Linked = (i64, Option<i64>, Option<[u8; 32]>);
