//! The books in the file, read whole for the audit: one connection, one read transaction, sorted runs merged.
//!
//! What has to be sorted is sorted by SQLite, which spills to temporary files. While the transaction is open the WAL
//! cannot be reset, so it grows by what is written meanwhile.

use std::path::Path;

use rusqlite::{Connection, Row, params};

use super::columns::{Owned, word};
use super::connection;
use super::history::{cause, origin};
use super::merge::Peeked;
use crate::access::record::GrantRecord;
use crate::ledger::books::{
    BookedCall, BookedEvent, BookedGrantSums, BookedHead, BookedMoney, BookedMoves, BookedStanding,
    BookedUpdate, Books, GrantSums, SequenceRow, Sizes, Stray,
};
use crate::ledger::{LedgerError, text};
use crate::units::{AccountId, DecisionId, GrantId, PolicyVersion, Seq};

/// Memory for pages and for sorting.
const CACHE_KIB: i64 = 8 * 1024;

/// The books in one file.
pub struct SqliteBooks {
    pub(super) connection: Connection,
}

impl SqliteBooks {
    /// Opens the file for reading, as of now.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let connection = connection::reader(path)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.execute_batch("BEGIN; SELECT count(*) FROM policies;")?;
        Ok(Self { connection })
    }

    fn each(
        &self,
        sql: &str,
        mut visit: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), LedgerError> {
        let mut select = self.connection.prepare(sql)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            visit(row)?;
        }
        Ok(())
    }
}

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
            policies: count("policies")?,
        })
    }

    fn policies(&self, visit: &mut dyn FnMut(PolicyVersion, &str)) -> Result<(), LedgerError> {
        self.each("SELECT version, text FROM policies ORDER BY version", |row| {
            visit(row.get(0)?, row.get_ref(1)?.as_str()?);
            Ok(())
        })
    }

    fn calls(&self, visit: &mut dyn FnMut(BookedCall)) -> Result<(), LedgerError> {
        let mut events = self
            .connection
            .prepare("SELECT decision, account, policy, draws FROM usage_events ORDER BY decision")?;
        let mut money = self.connection.prepare(
            "SELECT decision, revision, policy, price, gross, covered, forgiven, excess, charged \
             FROM monetization_events ORDER BY decision, revision",
        )?;
        let mut moves = self.connection.prepare(
            "SELECT cause, sum(amount), min(account), max(account), count(*) = count(account) \
             FROM balance_updates LEFT JOIN balances ON balances.id = balance \
             WHERE cause_kind = 'decision' AND kind IN ('debit', 'refund') GROUP BY cause ORDER BY cause",
        )?;
        let mut events = Peeked::new(events.query_map([], |row| Ok((row.get(0)?, event(row)?)))?)?;
        let mut money =
            Peeked::new(money.query_map([], |row| Ok((row.get(0)?, money_event(row, "policy")?)))?)?;
        let mut moves = Peeked::new(moves.query_map([], |row| Ok((row.get(0)?, moved(row)?)))?)?;
        while let Some(decision) =
            [events.key(), money.key(), moves.key()].into_iter().flatten().min().copied()
        {
            let decision: DecisionId = decision;
            let event = events.take(&decision)?;
            let mut revisions = Vec::new();
            while let Some(revision) = money.take(&decision)? {
                revisions.push(revision);
            }
            visit(BookedCall { decision, event, money: revisions, moved: moves.take(&decision)? });
        }
        Ok(())
    }

    fn sequences(&self, visit: &mut dyn FnMut(SequenceRow)) -> Result<(), LedgerError> {
        let mut heads =
            self.connection.prepare("SELECT account, seq, event, change FROM heads ORDER BY account")?;
        let mut records = self.connection.prepare(
            "SELECT account, seq, place, previous FROM usage_events UNION ALL \
             SELECT account, seq, NULL, NULL FROM records UNION ALL \
             SELECT account, seq, NULL, NULL FROM monetization_events WHERE seq IS NOT NULL ORDER BY 1, 2",
        )?;
        let mut heads = Peeked::new(heads.query_map([], |row| {
            let head = BookedHead { seq: row.get(1)?, event: row.get(2)?, change: row.get(3)? };
            Ok((row.get(0)?, head))
        })?)?;
        let mut records = Peeked::new(records.query_map([], |row| {
            let (seq, place): (Seq, Option<i64>) = (row.get(1)?, row.get(2)?);
            let previous: Option<i64> = row.get(3)?;
            Ok((row.get(0)?, (seq, place.map(|place| (place, previous)))))
        })?)?;
        while let Some(account) = [heads.key(), records.key()].into_iter().flatten().min().copied() {
            let account: AccountId = account;
            visit(SequenceRow::Account { account, head: heads.take(&account)? });
            while let Some((seq, event)) = records.take(&account)? {
                visit(SequenceRow::Record { seq, event });
            }
        }
        Ok(())
    }

    fn standings(&self, after: Option<AccountId>, about: u32) -> Result<Vec<BookedStanding>, LedgerError> {
        let mut select = self.connection.prepare(
            "SELECT id, account, user, name, standing, debt, hash FROM balances \
             WHERE ?1 IS NULL OR account > ?1 ORDER BY account, user, name",
        )?;
        let mut rows = select.query(params![after])?;
        let mut standings: Vec<BookedStanding> = Vec::new();
        while let Some(row) = rows.next()? {
            let standing = standing(row)?;
            let full = u32::try_from(standings.len()).is_ok_and(|count| count >= about);
            if full && standings.last().is_some_and(|last| last.account != standing.account) {
                break;
            }
            standings.push(standing);
        }
        Ok(standings)
    }

    fn updates(&self, visit: &mut dyn FnMut(BookedUpdate)) -> Result<(), LedgerError> {
        let select = "SELECT place, balance, previous, seq, kind, cause_kind, cause, grant_id, amount, before, after, \
             at, hash FROM balance_updates ORDER BY place";
        self.each(select, |row| {
            visit(update(row)?);
            Ok(())
        })
    }

    fn grants(&self, visit: &mut dyn FnMut(BookedGrantSums)) -> Result<(), LedgerError> {
        let mut grants = self.connection.prepare(
            "SELECT grants.id, grants.balance, account, user, name, grants.seq, amount, repaid, priority, expires_at, \
             granted_at, decision, idempotency_key, note, coalesce(remaining, 0) AS remaining, \
             (SELECT digest FROM records WHERE records.account = balances.account AND records.seq = grants.seq \
             AND kind = 'grant') AS digest FROM grants JOIN balances ON balances.id = grants.balance \
             LEFT JOIN remainders ON remainders.balance = grants.balance AND grant_id = grants.id ORDER BY grants.id",
        )?;
        let mut sums = self.connection.prepare(
            "SELECT grant_id, count(*) FILTER (WHERE kind = 'grant'), \
             coalesce(sum(amount) FILTER (WHERE kind = 'grant'), 0), \
             coalesce(-sum(amount) FILTER (WHERE kind = 'adjustment' AND cause_kind = 'grant'), 0), \
             sum(amount), min(balance), max(balance) \
             FROM balance_updates WHERE grant_id IS NOT NULL GROUP BY grant_id ORDER BY grant_id",
        )?;
        let mut grants = Peeked::new(grants.query_map([], |row| Ok((row.get("id")?, grant(row)?)))?)?;
        let mut sums = Peeked::new(sums.query_map([], |row| Ok((row.get(0)?, grant_sums(row)?)))?)?;
        while let Some(grant) = [grants.key(), sums.key()].into_iter().flatten().min().copied() {
            let grant: GrantId = grant;
            let (record, remaining) = grants.take(&grant)?.unzip();
            let sums = sums.take(&grant)?.unwrap_or_default();
            visit(BookedGrantSums { grant, record, sums, remaining: remaining.unwrap_or_default() });
        }
        Ok(())
    }

    fn strays(&self, limit: u32) -> Result<Vec<Stray>, LedgerError> {
        let kinds = [
            (
                "account without a head",
                "SELECT CAST(hex(id) AS TEXT) FROM accounts WHERE id NOT IN (SELECT account FROM heads)",
            ),
            (
                "head without an account",
                "SELECT CAST(hex(account) AS TEXT) FROM heads WHERE account NOT IN (SELECT id FROM accounts)",
            ),
            (
                "balance without an account",
                "SELECT CAST(id AS TEXT) FROM balances WHERE account NOT IN (SELECT id FROM accounts)",
            ),
            (
                "balance update without a balance",
                "SELECT CAST(place AS TEXT) FROM balance_updates WHERE balance NOT IN (SELECT id FROM balances)",
            ),
            (
                "grant without a balance",
                "SELECT CAST(hex(id) AS TEXT) FROM grants WHERE balance NOT IN (SELECT id FROM balances)",
            ),
            (
                "remainder without a grant of its balance",
                "SELECT CAST(hex(grant_id) AS TEXT) FROM remainders WHERE NOT EXISTS (SELECT 1 FROM grants \
                 WHERE grants.id = grant_id AND grants.balance = remainders.balance)",
            ),
            (
                "record of a grant without the grant",
                "SELECT CAST(hex(account) || ' seq ' || seq AS TEXT) FROM records WHERE kind = 'grant' AND (account, seq) NOT IN \
                 (SELECT account, grants.seq FROM grants JOIN balances ON balances.id = balance)",
            ),
            (
                "user without an account",
                "SELECT CAST(hex(id) AS TEXT) FROM users WHERE account NOT IN (SELECT id FROM accounts)",
            ),
            (
                "key without a user of its account",
                "SELECT CAST(hex(id) AS TEXT) FROM keys WHERE (account, user) NOT IN (SELECT account, id FROM users)",
            ),
            (
                "counters without an account",
                "SELECT CAST(hex(account) AS TEXT) FROM counters WHERE account NOT IN (SELECT id FROM accounts)",
            ),
        ];
        let mut strays = Vec::new();
        for (what, sql) in kinds {
            self.each(&format!("{sql} LIMIT {limit}"), |row| {
                strays.push(Stray { what, id: row.get(0)? });
                Ok(())
            })?;
        }
        Ok(strays)
    }
}

fn event(row: &Row<'_>) -> rusqlite::Result<BookedEvent> {
    let draws = text::to_draws(row.get_ref("draws")?.as_str()?);
    Ok(BookedEvent { account: row.get("account")?, policy: row.get("policy")?, draws })
}

/// A monetization event; the column of its policy is named, since usage events have one too.
pub(super) fn money_event(row: &Row<'_>, policy: &str) -> rusqlite::Result<BookedMoney> {
    Ok(BookedMoney {
        revision: row.get("revision")?,
        policy: row.get(policy)?,
        price: text::to_price(row.get_ref("price")?.as_str()?),
        gross: row.get("gross")?,
        covered: row.get("covered")?,
        forgiven: row.get("forgiven")?,
        excess: row.get("excess")?,
        charged: row.get("charged")?,
    })
}

fn moved(row: &Row<'_>) -> rusqlite::Result<BookedMoves> {
    let all_known: bool = row.get(4)?;
    let accounts = if all_known { Some((row.get(2)?, row.get(3)?)) } else { None };
    Ok(BookedMoves { amount: row.get(1)?, accounts })
}

fn standing(row: &Row<'_>) -> rusqlite::Result<BookedStanding> {
    let Owned(user) = row.get("user")?;
    Ok(BookedStanding {
        balance: row.get("id")?,
        account: row.get("account")?,
        user,
        name: row.get("name")?,
        standing: row.get("standing")?,
        debt: row.get("debt")?,
        hash: row.get("hash")?,
    })
}

fn update(row: &Row<'_>) -> rusqlite::Result<BookedUpdate> {
    Ok(BookedUpdate {
        place: row.get("place")?,
        balance: row.get("balance")?,
        previous: row.get("previous")?,
        seq: row.get("seq")?,
        kind: word(row, "kind")?,
        cause: cause(row)?,
        grant: row.get("grant_id")?,
        amount: row.get("amount")?,
        before: row.get("before")?,
        after: row.get("after")?,
        at: row.get("at")?,
        hash: row.get("hash")?,
    })
}

type BookedRecord = (GrantRecord, i64, Option<[u8; 16]>);

fn grant(row: &Row<'_>) -> rusqlite::Result<(BookedRecord, i64)> {
    Ok(((grant_record(row)?, row.get("balance")?, row.get("digest")?), row.get("remaining")?))
}

/// A grant as it was granted.
pub(super) fn grant_record(row: &Row<'_>) -> rusqlite::Result<GrantRecord> {
    let Owned(user) = row.get("user")?;
    Ok(GrantRecord {
        seq: row.get("seq")?,
        grant: row.get("id")?,
        account: row.get("account")?,
        user,
        balance: row.get("name")?,
        amount: row.get("amount")?,
        repaid: row.get("repaid")?,
        priority: row.get("priority")?,
        expires_at: row.get("expires_at")?,
        granted_at: row.get("granted_at")?,
        origin: origin(row)?,
    })
}

fn grant_sums(row: &Row<'_>) -> rusqlite::Result<GrantSums> {
    Ok(GrantSums {
        grants: row.get(1)?,
        granted: row.get(2)?,
        repaid: row.get(3)?,
        total: row.get(4)?,
        balances: Some((row.get(5)?, row.get(6)?)),
    })
}
