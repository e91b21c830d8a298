//! The rows that a record adds to the books.

use rusqlite::{CachedStatement, Connection, OptionalExtension, ffi, params};

use super::cache::Head;
use super::columns::{Count, Owned};
use crate::access::record::{EndRecord, GrantOrigin, GrantRecord, Resource};
use crate::ledger::LedgerError;
use crate::ledger::posting::{BookedBalance, Numbered, Purses, Update};
use crate::ledger::text;
use crate::policy::compiled::Scope;

const KEY_TAKEN: [std::ffi::c_int; 3] =
    [ffi::SQLITE_CONSTRAINT_TRIGGER, ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_CONSTRAINT_PRIMARYKEY];

/// The statements, prepared once for a batch.
pub(super) struct Inserts<'c> {
    connection: &'c Connection,
    event: CachedStatement<'c>,
    money: CachedStatement<'c>,
    update: CachedStatement<'c>,
    grant: CachedStatement<'c>,
    record: CachedStatement<'c>,
    balance: CachedStatement<'c>,
    resource: CachedStatement<'c>,
    event_digest: CachedStatement<'c>,
    record_digest: CachedStatement<'c>,
}

impl<'c> Inserts<'c> {
    pub(super) fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            event: connection.prepare_cached(
                "INSERT INTO usage_events (decision, account, seq, previous, user, feature, plan, model, size, tier, \
                 policy, unit, held_at, ended_at, outcome, grade, status, input_tokens, cached_input_tokens, \
                 cache_write_tokens, output_tokens, seconds, tool_calls, estimate, held, draws, digest) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, \
                 ?21, ?22, ?23, ?24, ?25, ?26, ?27)",
            )?,
            money: connection.prepare_cached(
                "INSERT INTO monetization_events (decision, revision, policy, price, gross, covered, forgiven, \
                 excess, charged) VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?,
            update: connection.prepare_cached(
                "INSERT INTO balance_updates (balance, seq, previous, kind, cause_kind, cause, grant_id, amount, \
                 before, after, at, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?,
            grant: connection.prepare_cached(
                "INSERT INTO grants (id, balance, seq, amount, repaid, priority, expires_at, granted_at, decision, \
                 idempotency_key, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?,
            record: connection
                .prepare_cached("INSERT INTO records (account, seq, kind, digest) VALUES (?1, ?2, ?3, ?4)")?,
            balance: connection.prepare_cached(
                "INSERT INTO balances (account, user, name, standing, debt, hash) VALUES (?1, ?2, ?3, 0, 0, ?4)",
            )?,
            resource: connection.prepare_cached(
                "INSERT INTO resources (id, account, user, context_tokens, upstream) VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT DO UPDATE SET context_tokens = excluded.context_tokens, upstream = excluded.upstream \
                 WHERE account = excluded.account",
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

    /// Adds what a record says beside its balance updates. `false` where its decision or grant is booked already.
    pub(super) fn record(
        &mut self,
        record: &Numbered<'_>,
        digest: &[u8; 16],
        head: &mut Head,
        purses: &mut Purses<'_>,
    ) -> Result<bool, LedgerError> {
        let kind = match record {
            Numbered::End(end) if end.ending.reached_upstream => return self.call(end, digest, head),
            Numbered::End(_) => "void",
            Numbered::Grant(grant) => {
                if !self.grant(grant, purses)? {
                    return Ok(false);
                }
                "grant"
            }
            Numbered::Expiry(_) => "expiry",
        };
        self.record.execute(params![record.account(), record.seq(), kind, digest])?;
        Ok(true)
    }

    fn call(&mut self, end: &EndRecord, digest: &[u8; 16], head: &mut Head) -> Result<bool, LedgerError> {
        let used = &end.used.quantities;
        let calls = (!used.tool_calls.is_empty()).then(|| serde_json::to_string(&used.tool_calls));
        let added = self.event.execute(params![
            end.decision,
            end.account,
            end.seq,
            head.event,
            end.user,
            end.feature,
            end.plan,
            end.model,
            end.size,
            end.ending.tier,
            end.policy,
            end.unit.as_str(),
            end.held_at,
            end.ended_at,
            end.ending.outcome.as_str(),
            end.ending.grade.as_str(),
            end.ending.status,
            Count(used.input_tokens),
            Count(used.cached_input_tokens),
            Count(used.cache_write_tokens),
            Count(used.output_tokens),
            Count(used.seconds),
            calls.transpose().ok().flatten(),
            text::of_quantities(&end.estimate.quantities),
            text::of_draws(&end.held),
            text::of_draws(&end.draws),
            digest,
        ]);
        if !is_new(added)? {
            return Ok(false);
        }
        head.event = Some(self.connection.last_insert_rowid());
        let charge = &end.charge;
        self.money.execute(params![
            end.decision,
            end.policy,
            text::of_price(end.used.price),
            charge.gross,
            charge.covered,
            charge.forgiven,
            charge.excess,
            charge.charged,
        ])?;
        if let Some(Resource { id, upstream }) = &end.ending.resource {
            let tokens = Count(used.tokens());
            self.resource.execute(params![id, end.account, end.user, tokens, upstream])?;
        }
        Ok(true)
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
