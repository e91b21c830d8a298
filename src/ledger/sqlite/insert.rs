//! The rows that a record adds to the books.

use rusqlite::types::{Null, ToSqlOutput};
use rusqlite::{CachedStatement, Connection, OptionalExtension, ToSql, ffi, params};
use smallvec::SmallVec;

use super::cache::Head;
use super::columns::{Count, Owned, cell_of};
use crate::access::record::{
    AdjustmentRecord, CorrectionRecord, EndRecord, GrantOrigin, GrantRecord, JobRecord, MadeRecord, Resource,
    RevisionOrder, RevisionRecord,
};
use crate::ledger::LedgerError;
use crate::ledger::chain;
use crate::ledger::chain::rows::{EVENT, MONEY, ORDER, RECORD, RowBytes, RowKind};
use crate::ledger::posting::{BookedBalance, Numbered, Purses, Update};
use crate::ledger::text;
use crate::policy::compiled::Scope;
use crate::units::Credits;

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
    bytes: RowBytes,
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
            bytes: RowBytes::default(),
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

    /// Adds what a record says beside its balance updates. `false` where its decision or grant is booked already.
    pub(super) fn record(
        &mut self,
        record: &Numbered<'_>,
        digest: &[u8; 16],
        head: &mut Head,
        purses: &mut Purses<'_>,
    ) -> Result<bool, LedgerError> {
        let (kind, money) = match record {
            Numbered::End(end) if end.ending.reached_upstream => return self.call(end, digest, head),
            Numbered::Correction(correction) => match self.correction(correction, None, digest)? {
                Some(money) => ("correction", Some(money)),
                None => return Ok(false),
            },
            Numbered::Revision(revision) => {
                match self.correction(&revision.correction, Some(revision), digest)? {
                    Some(money) => ("correction", Some(money)),
                    None => return Ok(false),
                }
            }
            Numbered::Adjustment(adjustment) if self.adjustment(adjustment, purses)? => ("adjustment", None),
            Numbered::End(_) => ("void", None),
            Numbered::Grant(grant) if self.grant(grant, purses)? => ("grant", None),
            Numbered::Grant(_) | Numbered::Adjustment(_) => return Ok(false),
            Numbered::Expiry(_) => ("expiry", None),
        };
        let (account, seq) = (record.account(), record.seq());
        let row: [&dyn ToSql; RECORD.len()] = [&account, &seq, &kind, digest];
        let hash = linked(head, &hash_of(&mut self.bytes, RowKind::Record, &row, money.as_ref())?);
        self.record.execute(&with(&row, &[&hash])[..])?;
        Ok(true)
    }

    /// Books whose a job's resource is, before its end is known. Again is a no-op.
    pub(super) fn job(&mut self, job: &JobRecord) -> rusqlite::Result<()> {
        let Resource { id, upstream } = &job.resource;
        self.job.execute(params![id, job.account, job.user, job.decision, upstream, job.began_at])?;
        Ok(())
    }

    fn call(&mut self, end: &EndRecord, digest: &[u8; 16], head: &mut Head) -> Result<bool, LedgerError> {
        let used = &end.used.quantities;
        let calls = (!used.tool_calls.is_empty()).then(|| serde_json::to_string(&used.tool_calls));
        let (unit, price) = (end.unit.as_str(), text::of_price(end.used.price));
        let (outcome, grade) = (end.ending.outcome.as_str(), end.ending.grade.as_str());
        let row: [&dyn ToSql; EVENT.len()] = [
            &end.decision,
            &end.account,
            &end.seq,
            &end.user,
            &end.feature,
            &end.plan,
            &end.model,
            &end.size,
            &end.ending.tier,
            &end.policy,
            &unit,
            &end.held_at,
            &end.ended_at,
            &outcome,
            &grade,
            &end.ending.status,
            &Count(used.input_tokens),
            &Count(used.cached_input_tokens),
            &Count(used.cache_write_tokens),
            &Count(used.output_tokens),
            &Count(used.seconds),
            &calls.transpose().ok().flatten(),
            &text::of_quantities(&end.estimate.quantities),
            &text::of_draws(&end.held),
            &text::of_draws(&end.draws),
            digest,
        ];
        let no = &Null;
        let charge = &end.charge;
        let [gross, covered, forgiven] = [&charge.gross, &charge.covered, &charge.forgiven];
        let money: [&dyn ToSql; MONEY.len()] = [
            &end.decision,
            &1,
            &end.policy,
            &price,
            gross,
            covered,
            forgiven,
            &charge.excess,
            &charge.charged,
            no,
            no,
            no,
            no,
            no,
            no,
            no,
            no,
            no,
        ];
        let money_hash = hash_of(&mut self.bytes, RowKind::Money, &money, None)?;
        let row_hash = hash_of(&mut self.bytes, RowKind::Event, &row, Some(&money_hash))?;
        let mut linked_head = *head;
        let hash = linked(&mut linked_head, &row_hash);
        if !is_new(self.event.execute(&with(&row, &[&head.event, &hash])[..]))? {
            return Ok(false);
        }
        *head = Head { event: Some(self.connection.last_insert_rowid()), ..linked_head };
        self.money.execute(&money[..])?;
        if let Some(Resource { id, upstream }) = &end.ending.resource {
            let tokens = Count(used.tokens());
            self.resource.execute(params![id, end.account, end.user, tokens, upstream, end.ended_at])?;
        }
        Ok(true)
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

    /// Adds the next revision and tells its hash. `None` where the one before it is not there, or says something else
    /// was charged or given back.
    fn correction(
        &mut self,
        record: &CorrectionRecord,
        ordered: Option<&RevisionRecord>,
        digest: &[u8; 16],
    ) -> Result<Option<[u8; 32]>, LedgerError> {
        let before = params![record.decision, record.revision.saturating_sub(1), record.account];
        let before = self.charged.query_row(before, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let fits = |(charged, refunded): (Credits, Credits)| {
            charged == record.charged_before && is_given_back(refunded, record, ordered)
        };
        if !before.is_some_and(fits) {
            return Ok(None);
        }
        let refunded = ordered.map(|ordered| ordered.refunded);
        let order = ordered.map(|ordered| &ordered.order);
        let key = order.and_then(RevisionOrder::key);
        let charge = &record.charge;
        let row: [&dyn ToSql; MONEY.len() + ORDER.len()] = [
            &record.decision,
            &record.revision,
            &record.policy,
            &text::of_price(record.used.price),
            &charge.gross,
            &charge.covered,
            &charge.forgiven,
            &charge.excess,
            &charge.charged,
            &record.account,
            &record.seq,
            &record.corrected_at,
            &record.ending.outcome.as_str(),
            &record.ending.grade.as_str(),
            &record.ending.tier,
            &text::of_quantities(&record.used.quantities),
            &text::of_draws(&record.draws),
            digest,
            &refunded,
            &order.map(RevisionOrder::as_str),
            &key.map(|(id, _)| id),
            &key.map(|(_, key)| key),
            &order.map(RevisionOrder::reason),
        ];
        let hash = match ordered {
            Some(_) => hash_of(&mut self.bytes, RowKind::Ordered, &row, None)?,
            None => hash_of(&mut self.bytes, RowKind::Money, &row[..MONEY.len()], None)?,
        };
        Ok(is_new(self.revision.execute(&row[..]))?.then_some(hash))
    }

    fn adjustment(
        &mut self,
        record: &AdjustmentRecord,
        purses: &mut Purses<'_>,
    ) -> Result<bool, LedgerError> {
        let owner = Owned(record.user);
        let purse = if record.user.is_some() { &mut *purses.own } else { &mut *purses.shared };
        let balance = purse.balances.iter_mut().find(|balance| balance.name == record.balance);
        let Some(balance) = balance else { return Ok(false) };
        let row = self.balance_row(balance, record.account, owner)?;
        let added = self.adjustment.execute(params![
            record.id,
            row,
            record.seq,
            record.grant,
            record.amount,
            record.repaid,
            record.adjusted_at,
            record.idempotency_key,
            record.reason,
        ]);
        Ok(is_new(added)?)
    }

    fn grant(&mut self, record: &GrantRecord, purses: &mut Purses<'_>) -> Result<bool, LedgerError> {
        let owner = Owned(record.user);
        let purse = if record.user.is_some() { &mut *purses.own } else { &mut *purses.shared };
        let balance = purse.balances.iter_mut().find(|balance| balance.name == record.balance);
        let Some(balance) = balance else { return Ok(false) };
        let row = self.balance_row(balance, record.account, owner)?;
        let (decision, key, note) = match &record.origin {
            GrantOrigin::Operator { idempotency_key, note } => (None, Some(idempotency_key), note.as_ref()),
            GrantOrigin::Issue { decision } => (Some(decision), None, None),
        };
        let added = self.grant.execute(params![
            record.grant,
            row,
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
        Ok(is_new(added)?)
    }

    /// Adds a balance update behind the account's newest, and tells its place.
    pub(super) fn update(
        &mut self,
        record: &Numbered<'_>,
        update: &Update,
        previous: Option<i64>,
        purses: &mut Purses<'_>,
    ) -> Result<i64, LedgerError> {
        let (purse, owner) = match update.scope {
            Scope::Account => (&mut *purses.shared, Owned(None)),
            Scope::User => (&mut *purses.own, Owned(record.user())),
        };
        let row = self.balance_row(&mut purse.balances[update.balance], record.account(), owner)?;
        let cause = record.cause(update);
        self.update.execute(params![
            row,
            record.seq(),
            previous,
            update.kind.as_str(),
            cause.kind(),
            cause.as_bytes(),
            update.grant,
            update.amount,
            update.before,
            update.after,
            record.at(),
            update.hash,
        ])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// The row of a balance; a new one is added at zero, and gets its state at the end of the batch.
    fn balance_row(
        &mut self,
        balance: &mut BookedBalance,
        account: crate::units::AccountId,
        owner: Owned,
    ) -> rusqlite::Result<i64> {
        if let Some(row) = balance.row {
            return Ok(row);
        }
        self.balance.execute(params![account, owner, balance.name, crate::ledger::chain::START])?;
        let row = self.connection.last_insert_rowid();
        balance.row = Some(row);
        Ok(row)
    }
}

/// Whether what a revision says is given back follows from what was before.
fn is_given_back(before: Credits, record: &CorrectionRecord, ordered: Option<&RevisionRecord>) -> bool {
    let Some(RevisionRecord { refunded, order, .. }) = ordered else { return before.is_zero() };
    match order {
        RevisionOrder::Refund { .. } => {
            let back = record.charged_before.checked_sub(record.charge.charged);
            back.and_then(|back| before.checked_add(back)) == Some(*refunded)
        }
        RevisionOrder::Rerate { .. } => *refunded <= before,
    }
}

/// A statement that adds a row of these columns.
fn insert<'a>(table: &str, columns: impl Iterator<Item = &'a str> + Clone) -> String {
    let places: Vec<String> = (1..=columns.clone().count()).map(|place| format!("?{place}")).collect();
    let columns: Vec<&str> = columns.collect();
    format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), places.join(", "))
}

/// The cells of a row with those that are not hashed behind them.
fn with<'a>(row: &[&'a dyn ToSql], more: &[&'a dyn ToSql]) -> SmallVec<[&'a dyn ToSql; 32]> {
    row.iter().chain(more).copied().collect()
}

/// The hash of a row, of what is bound for it.
fn hash_of(
    bytes: &mut RowBytes,
    kind: RowKind,
    row: &[&dyn ToSql],
    money: Option<&[u8; 32]>,
) -> rusqlite::Result<[u8; 32]> {
    bytes.begin(kind);
    for cell in row {
        let bound = cell.to_sql()?;
        let value = match &bound {
            ToSqlOutput::Borrowed(value) => *value,
            ToSqlOutput::Owned(value) => value.into(),
            _ => return Err(rusqlite::Error::InvalidQuery),
        };
        bytes.put(cell_of(value)?);
    }
    Ok(bytes.hash(money))
}

/// Puts a row behind the account's newest record. A chain that had not begun begins here.
fn linked(head: &mut Head, row: &[u8; 32]) -> [u8; 32] {
    let hash = chain::rows::link(&head.hash.unwrap_or(chain::START), row);
    head.hash = Some(hash);
    hash
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
