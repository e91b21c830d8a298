//! The books on a server, read for the audit: one connection, one read transaction that sees them as of one instant,
//! pages in the order of booking.
//!
//! The audit is not asynchronous, so each question is waited for. A page that is asked for has the one behind it
//! asked for too.

use std::cell::{Cell as Slot, RefCell};

use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::columns::Id;
use super::connection::{OpenError, Server};
use super::history::ADJUSTMENTS;
use crate::ledger::LedgerError;
use crate::ledger::books::{
    BookedAdjustment, BookedCells, BookedEvent, BookedGrant, BookedHead, BookedRecord, BookedStanding,
    BookedUpdate, Books, Extent, Sizes, Stray,
};
use crate::ledger::fields::{Fields as _, Unreadable};
use crate::ledger::told::{self, booked};
use crate::units::{AccountId, DecisionId, GrantId, OrderId, PolicyVersion, Seq, Timestamp};

mod pages;
mod paths;
mod strays;

use pages::Pages;

/// Rows before an instant that are looked at once more, since accounts are not booked in the order of time together.
const EARLIER: i64 = 100_000;
/// Rows of a cursor that travel together.
const PORTION: i32 = 2_000;

type Parameter<'a> = &'a (dyn ToSql + Sync);

/// The books on one server.
pub struct PostgresBooks {
    /// Dropped first: it ends the connection that the runtime drives.
    client: Client,
    runtime: Runtime,
    pages: RefCell<Pages>,
    portals: Slot<u64>,
}

impl PostgresBooks {
    /// Connects for reading, as of now.
    pub fn open(address: &str) -> Result<Self, LedgerError> {
        let unavailable = |error: OpenError| LedgerError::Unavailable(Box::new(error));
        let server = Server::of(address).map_err(unavailable)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unavailable(OpenError::Thread(error)))?;
        let client = runtime.block_on(async {
            let client = server.reader().await?;
            client
                .batch_execute(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT count(*) FROM policies",
                )
                .await?;
            Ok::<_, tokio_postgres::Error>(client)
        })?;
        Ok(Self { client, runtime, pages: RefCell::default(), portals: Slot::new(0) })
    }

    /// The account of this id or name.
    pub fn account(&self, id_or_name: &str) -> Result<Option<AccountId>, LedgerError> {
        let id = Id::from(id_or_name.parse::<AccountId>().unwrap_or(AccountId::MIN));
        let row = self.one("SELECT id FROM accounts WHERE id = $1 OR name = $2", &[&id, &id_or_name])?;
        Ok(row.map(|row| row.read(0)).transpose()?)
    }

    /// All rows of a query.
    pub(super) fn all(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, LedgerError> {
        Ok(self.runtime.block_on(self.client.query(sql, parameters))?)
    }

    /// The row of a query, if it has one.
    fn one(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Option<Row>, LedgerError> {
        Ok(self.runtime.block_on(self.client.query_opt(sql, parameters))?)
    }

    /// Every row of a query, a portion at a time.
    pub(super) fn each(
        &self,
        sql: &str,
        mut visit: impl FnMut(&Row) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let cursor = self.cursor(sql)?;
        loop {
            let rows = self.fetch(&cursor)?;
            if rows.is_empty() {
                return Ok(());
            }
            for row in &rows {
                visit(row)?;
            }
        }
    }

    /// Opens a cursor and tells its name.
    pub(super) fn cursor(&self, sql: &str) -> Result<String, LedgerError> {
        let number = self.portals.get();
        self.portals.set(number + 1);
        let name = format!("cursor_{number}");
        let declare = format!("DECLARE {name} NO SCROLL CURSOR FOR {sql}");
        self.runtime.block_on(self.client.batch_execute(&declare))?;
        Ok(name)
    }

    /// The next rows of a cursor; none at its end.
    pub(super) fn fetch(&self, cursor: &str) -> Result<Vec<Row>, LedgerError> {
        self.all(&format!("FETCH {PORTION} FROM {cursor}"), &[])
    }

    fn number(&self, sql: &str) -> Result<i64, LedgerError> {
        let row = self.one(sql, &[])?;
        Ok(row.map(|row| row.read(0)).transpose()?.unwrap_or_default())
    }

    /// The place of the last row before the first that is no older than `since`, some rows earlier: places follow time
    /// but for moments.
    fn last_before(&self, table: &str, instant: &str, since: Timestamp) -> Result<i64, LedgerError> {
        let sql = format!("SELECT place, {instant} FROM {table} WHERE place > $1 ORDER BY place LIMIT 1");
        let (mut low, mut high) = (0, self.number(&format!("SELECT coalesce(max(place), 0) FROM {table}"))?);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.one(&sql, &[&middle])?;
            let found = found.map(|row| Ok::<_, Unreadable>((row.read(0)?, row.read::<Timestamp>(1)?)));
            match found.transpose()? {
                Some((place, at)) if at < since => low = place,
                _ => high = middle,
            }
        }
        Ok((low - EARLIER).max(0))
    }
}

impl Books for PostgresBooks {
    fn sizes(&self) -> Result<Sizes, LedgerError> {
        let count =
            |table: &str| self.number(&format!("SELECT count(*) FROM {table}")).map(i64::unsigned_abs);
        Ok(Sizes {
            accounts: count("accounts")?,
            usage_events: count("usage_events")?,
            monetization_events: count("monetization_events")?,
            balance_updates: count("balance_updates")?,
            balances: count("balances")?,
            grants: count("grants")?,
            remainders: count("remainders")?,
            adjustments: count("adjustments")?,
            records: count("records")?,
            policies: count("policies")?,
        })
    }

    fn extent(&self) -> Result<Extent, LedgerError> {
        let newest = |table: &str| self.number(&format!("SELECT coalesce(max(place), 0) FROM {table}"));
        Ok(Extent {
            events: newest("usage_events")?,
            records: newest("records")?,
            updates: newest("balance_updates")?,
        })
    }

    fn first_places(&self) -> Result<Option<Extent>, LedgerError> {
        Ok(None)
    }

    fn policies(&self, visit: &mut dyn FnMut(PolicyVersion, &str)) -> Result<(), LedgerError> {
        self.each("SELECT version, text FROM policies ORDER BY version", |row| {
            visit(row.read(0)?, row.words("text")?);
            Ok(())
        })
    }

    fn heads(&self, after: Option<AccountId>, limit: u32) -> Result<Vec<BookedHead>, LedgerError> {
        let rows = self.all(
            "SELECT account, seq, event, change, hash FROM heads WHERE $1::uuid IS NULL OR account > $1 \
             ORDER BY account LIMIT $2",
            &[&after.map(Id::from), &i64::from(limit)],
        )?;
        Ok(rows.iter().map(booked::head).collect::<Result<_, _>>()?)
    }

    fn balances(
        &self,
        after: Option<AccountId>,
        up_to: Option<AccountId>,
        visit: &mut dyn FnMut(BookedStanding),
    ) -> Result<(), LedgerError> {
        let rows = self.all(
            &format!(
                "{} WHERE ($1::uuid IS NULL OR account > $1) AND ($2::uuid IS NULL OR account <= $2) \
                 ORDER BY account, \"user\", name COLLATE \"C\"",
                pages::STANDING
            ),
            &[&after.map(Id::from), &up_to.map(Id::from)],
        )?;
        for row in &rows {
            visit(booked::standing(row)?);
        }
        Ok(())
    }

    fn standing(&self, balance: i64) -> Result<Option<BookedStanding>, LedgerError> {
        let row = self.one(&format!("{} WHERE id = $1", pages::STANDING), &[&balance])?;
        Ok(row.as_ref().map(booked::standing).transpose()?)
    }

    fn has_balance(&self, balance: i64) -> Result<bool, LedgerError> {
        Ok(self.one("SELECT 1::bigint FROM balances WHERE id = $1", &[&balance])?.is_some())
    }

    fn remainders(&self, visit: &mut dyn FnMut(i64, GrantId, i64)) -> Result<(), LedgerError> {
        self.each("SELECT balance, grant_id, remaining FROM remainders", |row| {
            visit(row.read(0)?, row.read(1)?, row.read(2)?);
            Ok(())
        })
    }

    fn events(&self, after: i64, limit: u32) -> Result<Vec<BookedEvent>, LedgerError> {
        self.pages.borrow_mut().events(self, after, limit)
    }

    fn updates(&self, after: i64, limit: u32) -> Result<Vec<BookedUpdate>, LedgerError> {
        Pages::updates(self, after, limit)
    }

    fn records(&self, after: i64, limit: u32) -> Result<Vec<BookedRecord>, LedgerError> {
        self.pages.borrow_mut().records(self, after, limit)
    }

    fn records_of(
        &self,
        account: AccountId,
        after: Seq,
        before: Seq,
    ) -> Result<Vec<BookedRecord>, LedgerError> {
        self.pages.borrow_mut().records_of(self, account, after, before)
    }

    fn cells(&self, decision: DecisionId) -> Result<Option<BookedCells>, LedgerError> {
        paths::cells(self, decision)
    }

    fn rows_after(&self, account: AccountId, seq: Seq) -> Result<Vec<[u8; 32]>, LedgerError> {
        paths::rows_after(self, account, seq)
    }

    fn updates_from(&self, account: AccountId, seq: Seq) -> Result<Vec<BookedUpdate>, LedgerError> {
        paths::updates_from(self, account, seq)
    }

    fn grant(&self, grant: GrantId) -> Result<Option<BookedGrant>, LedgerError> {
        let sql = "SELECT grants.id, balance, account, \"user\", name, seq, amount, repaid, priority, expires_at, \
             granted_at, decision, idempotency_key, note FROM grants JOIN balances ON balances.id = grants.balance \
             WHERE grants.id = $1";
        // What cannot be read is not what was granted.
        Ok(self.one(sql, &[&Id::from(grant)])?.and_then(|row| booked::booked_grant(&row).ok()))
    }

    fn revision_row(&self, account: AccountId, seq: Seq) -> Result<Option<[u8; 32]>, LedgerError> {
        paths::revision_row(self, account, seq)
    }

    fn adjustment(&self, order: OrderId) -> Result<Option<BookedAdjustment>, LedgerError> {
        let row = self.one(&format!("{ADJUSTMENTS} WHERE adjustments.id = $1"), &[&Id::from(order)])?;
        // What cannot be read is not what was ordered.
        Ok(row.and_then(|row| {
            let record = told::adjustment_record(&row).ok()?;
            Some(BookedAdjustment { record, balance: row.told("balance").ok()? })
        }))
    }

    fn before(&self, since: Timestamp) -> Result<Extent, LedgerError> {
        Ok(Extent {
            events: self.last_before("usage_events", "ended_at", since)?,
            records: 0,
            updates: self.last_before("balance_updates", "at", since)?,
        })
    }

    fn link_of(&self, account: AccountId, seq: Seq) -> Result<Option<[u8; 32]>, LedgerError> {
        paths::link_of(self, account, seq)
    }

    fn hash_of(&self, balance: i64, at_or_before: Option<i64>) -> Result<Option<[u8; 32]>, LedgerError> {
        paths::hash_of(self, balance, at_or_before)
    }

    fn strays(&self, lost: bool, limit: u32) -> Result<Vec<Stray>, LedgerError> {
        let mut found = Vec::new();
        let also = if lost { &strays::LOST[..] } else { &[] };
        for (what, sql) in strays::KINDS.iter().chain(also) {
            for row in self.all(&format!("{sql} LIMIT {limit}"), &[])? {
                found.push(Stray { what, id: row.read(0)? });
            }
        }
        Ok(found)
    }
}
