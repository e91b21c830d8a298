//! The rows that a record adds to the books.

use rusqlite::{CachedStatement, Connection, OptionalExtension, ToSql, ffi, params};
use smallvec::SmallVec;

use super::columns::{Count, Owned};
use crate::access::record::{
    AdjustmentRecord, EndRecord, GrantOrigin, GrantRecord, JobRecord, MadeRecord, Resource,
};
use crate::ledger::booking::{Owner, UpdateRow};
use crate::ledger::chain::START;
use crate::ledger::chain::rows::{Cell, EVENT, MONEY, ORDER, RECORD};
use crate::ledger::posting::Numbered;
use crate::policy::compiled::Name;
use crate::units::{AccountId, Credits, DecisionId};

const KEY_TAKEN: [std::ffi::c_int; 3] =
    [ffi::SQLITE_CONSTRAINT_TRIGGER, ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_CONSTRAINT_PRIMARYKEY];

/// The statements, prepared once for a batch.
pub(super) struct Inserts<'c> {
    connection: &'c Connection,
    event: CachedStatement<'c>,
    money: CachedStatement<'c>,
    revision: CachedStatement<'c>,
    adjustment: CachedStatement<'c>,
    charged: CachedStatement<'c>,
    update: CachedStatement<'c>,
    grant: CachedStatement<'c>,
    record: CachedStatement<'c>,
    balance: CachedStatement<'c>,
    resource: CachedStatement<'c>,
    job: CachedStatement<'c>,
    made: CachedStatement<'c>,
    event_digest: CachedStatement<'c>,
    record_digest: CachedStatement<'c>,
}

impl<'c> Inserts<'c> {
    pub(super) fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            event: connection.prepare_cached(
                &insert("usage_events", EVENT.into_iter().chain(["previous", "hash"])),
            )?,
            money: connection.prepare_cached(&insert("monetization_events", MONEY.into_iter()))?,
            revision: connection
                .prepare_cached(&insert("monetization_events", MONEY.into_iter().chain(ORDER)))?,
            adjustment: connection.prepare_cached(
                "INSERT INTO adjustments (id, balance, seq, grant_id, amount, repaid, adjusted_at, idempotency_key, \
                 reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?,
            charged: connection.prepare_cached(
                "SELECT charged, coalesce(refunded, 0) FROM monetization_events JOIN usage_events USING (decision) \
                 WHERE decision = ?1 AND revision = ?2 AND usage_events.account = ?3",
            )?,
            update: connection.prepare_cached(
                "INSERT INTO balance_updates (balance, seq, previous, kind, cause_kind, cause, grant_id, amount, \
                 before, after, at, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?,
            grant: connection.prepare_cached(
                "INSERT INTO grants (id, balance, seq, amount, repaid, priority, expires_at, granted_at, decision, \
                 idempotency_key, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?,
            record: connection.prepare_cached(&insert("records", RECORD.into_iter().chain(["hash"])))?,
            balance: connection.prepare_cached(
                "INSERT INTO balances (account, user, name, standing, debt, hash) VALUES (?1, ?2, ?3, 0, 0, ?4)",
            )?,
            resource: connection.prepare_cached(
                "INSERT INTO resources (id, account, user, context_tokens, upstream, made_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                 ON CONFLICT DO UPDATE SET context_tokens = excluded.context_tokens, upstream = excluded.upstream \
                 WHERE account = excluded.account",
            )?,
            // A job that has ended says nothing new: what it made may be deleted by now.
            job: connection.prepare_cached(
                "INSERT INTO resources (id, account, user, context_tokens, decision, upstream, made_at) \
                 SELECT ?1, ?2, ?3, 0, ?4, ?5, ?6 \
                 WHERE NOT EXISTS (SELECT 1 FROM usage_events WHERE decision = ?4) \
                 ON CONFLICT DO UPDATE SET decision = excluded.decision WHERE account = excluded.account",
            )?,
            made: connection.prepare_cached(
                "INSERT INTO resources (id, account, user, context_tokens, kind, made_at, model, seconds, size, \
                 upstream) VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO UPDATE SET kind = excluded.kind, \
                 made_at = excluded.made_at, model = excluded.model, seconds = excluded.seconds, \
                 size = excluded.size, upstream = excluded.upstream WHERE account = excluded.account",
            )?,
            event_digest: connection.prepare_cached(
                "SELECT digest FROM usage_events WHERE decision = ?1 AND account = ?2 AND seq = ?3",
            )?,
            record_digest: connection
                .prepare_cached("SELECT digest FROM records WHERE account = ?1 AND seq = ?2")?,
        })
    }

    /// The digest of what is booked as this record, if it is.
    pub(super) fn booked_digest(&mut self, record: &Numbered<'_>) -> rusqlite::Result<Option<[u8; 16]>> {
        let (account, seq) = (record.account(), record.seq());
        match record {
            Numbered::End(end) if end.ending.reached_upstream => {
                let row = params![end.decision, account, seq];
                self.event_digest.query_row(row, |row| row.get(0)).optional()
            }
            _ => self.record_digest.query_row(params![account, seq], |row| row.get(0)).optional(),
        }
    }

    /// What a revision of an account's decision has charged, and what operators have given back by then.
    pub(super) fn charged(
        &mut self,
        decision: DecisionId,
        revision: u32,
        account: AccountId,
    ) -> rusqlite::Result<Option<(Credits, Credits)>> {
        let of = params![decision, revision, account];
        self.charged.query_row(of, |row| Ok((row.get(0)?, row.get(1)?))).optional()
    }

    /// Adds a usage event and tells its place; `None` where its decision is booked already.
    pub(super) fn event(
        &mut self,
        row: &[Cell<'_>; EVENT.len()],
        previous: Option<i64>,
        hash: &[u8; 32],
    ) -> rusqlite::Result<Option<i64>> {
        let added = self.event.execute(&with(row, &[&previous, hash])[..]);
        Ok(is_new(added)?.then(|| self.connection.last_insert_rowid()))
    }

    /// Adds a monetization event; `false` where its revision is booked already.
    pub(super) fn money(&mut self, row: &[Cell<'_>]) -> rusqlite::Result<bool> {
        let money = if row.len() == MONEY.len() { &mut self.money } else { &mut self.revision };
        is_new(money.execute(&with(row, &[])[..]))
    }

    /// Adds any other record.
    pub(super) fn record(&mut self, row: &[Cell<'_>; RECORD.len()], hash: &[u8; 32]) -> rusqlite::Result<()> {
        self.record.execute(&with(row, &[hash])[..])?;
        Ok(())
    }

    /// Notes whose a response is.
    pub(super) fn own(&mut self, resource: &Resource, end: &EndRecord) -> rusqlite::Result<()> {
        let Resource { id, upstream } = resource;
        let tokens = Count(end.used.quantities.tokens());
        self.resource.execute(params![id, end.account, end.user, tokens, upstream, end.ended_at])?;
        Ok(())
    }

    /// Books whose a job's resource is, before its end is known. Again is a no-op.
    pub(super) fn job(&mut self, job: &JobRecord) -> rusqlite::Result<()> {
        let Resource { id, upstream } = &job.resource;
        self.job.execute(params![id, job.account, job.user, job.decision, upstream, job.began_at])?;
        Ok(())
    }

    /// Notes whose a thing made upstream is.
    pub(super) fn made(&mut self, made: &MadeRecord) -> rusqlite::Result<()> {
        let video = made.video.as_ref();
        self.made.execute(params![
            made.resource.id,
            made.account,
            made.user,
            if video.is_some() { "video" } else { "character" },
            made.made_at,
            video.map(|video| &video.model),
            video.map(|video| Count(video.seconds)),
            video.and_then(|video| video.size.as_ref()),
            made.resource.upstream,
        ])?;
        Ok(())
    }

    /// Adds a grant of a balance; `false` where it is booked already.
    pub(super) fn grant(&mut self, record: &GrantRecord, balance: i64) -> rusqlite::Result<bool> {
        let (decision, key, note) = match &record.origin {
            GrantOrigin::Operator { idempotency_key, note } => (None, Some(idempotency_key), note.as_ref()),
            GrantOrigin::Issue { decision } => (Some(decision), None, None),
        };
        let added = self.grant.execute(params![
            record.grant,
            balance,
            record.seq,
            record.amount,
            record.repaid,
            record.priority,
            record.expires_at,
            record.granted_at,
            decision,
            key,
            note,
        ]);
        is_new(added)
    }

    /// Adds an adjustment of a balance; `false` where it is booked already.
    pub(super) fn adjustment(&mut self, record: &AdjustmentRecord, balance: i64) -> rusqlite::Result<bool> {
        let added = self.adjustment.execute(params![
            record.id,
            balance,
            record.seq,
            record.grant,
            record.amount,
            record.repaid,
            record.adjusted_at,
            record.idempotency_key,
            record.reason,
        ]);
        is_new(added)
    }

    /// Adds a balance update and tells its place.
    pub(super) fn update(&mut self, row: &UpdateRow<'_>) -> rusqlite::Result<i64> {
        let UpdateRow { balance, seq, previous, cause, at, update } = row;
        self.update.execute(params![
            balance,
            seq,
            previous,
            update.kind.as_str(),
            cause.kind(),
            cause.as_bytes(),
            update.grant,
            update.amount,
            update.before,
            update.after,
            at,
            update.hash,
        ])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Adds a balance at zero and tells its row.
    pub(super) fn balance(&mut self, (account, user): Owner, name: &Name) -> rusqlite::Result<i64> {
        self.balance.execute(params![account, Owned(user), name, START])?;
        Ok(self.connection.last_insert_rowid())
    }
}

/// A statement that adds a row of these columns.
fn insert<'a>(table: &str, columns: impl Iterator<Item = &'a str> + Clone) -> String {
    let places: Vec<String> = (1..=columns.clone().count()).map(|place| format!("?{place}")).collect();
    let columns: Vec<&str> = columns.collect();
    format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), places.join(", "))
}

/// The cells of a row with those that are not hashed behind them.
fn with<'a>(row: &'a [Cell<'a>], more: &[&'a dyn ToSql]) -> SmallVec<[&'a dyn ToSql; 32]> {
    row.iter().map(|cell| cell as &dyn ToSql).chain(more.iter().copied()).collect()
}

/// Whether a row was added; `false` where its key is taken, which is refused by a trigger or by the key itself.
fn is_new(added: rusqlite::Result<usize>) -> rusqlite::Result<bool> {
    match added {
        Ok(_) => Ok(true),
        Err(error) if error.sqlite_error().is_some_and(|error| KEY_TAKEN.contains(&error.extended_code)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
