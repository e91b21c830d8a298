//! The statements, and how much there is of everything.

use bytes::Bytes;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::metrics;
use crate::idempotency::state::{self, Change, Entry, State, Verdict};
use crate::idempotency::{Answer, Claim, Claimed, End, Ended, Fingerprint, Interrupted, Limits, ScopedKey};
use crate::units::{AccountId, DecisionId, Timestamp};

/// Rows that go in one turn: so many take a few milliseconds, for which claims wait.
const SWEEP_ROWS: u32 = 500;
/// The oldest keys that have ended.
const ENDED: &str = "SELECT key FROM keys WHERE at <= ?1 AND state > 1 ORDER BY at LIMIT ?2";
/// The oldest keys whose answer is here.
const WITH_ANSWER: &str = "SELECT key FROM keys WHERE bytes > 0 AND at <= ?1 ORDER BY at LIMIT ?2";

/// What the rows add up to, and their bounds. Cloned before a transaction, so that its failure changes nothing.
#[derive(Clone, Debug)]
pub(super) struct Table {
    limits: Limits,
    keys: u64,
    bytes: u64,
}

impl Table {
    /// Looks at what is there. What was running was interrupted.
    pub(super) fn open(connection: &mut Connection, limits: Limits) -> rusqlite::Result<Self> {
        let transaction = connection.transaction()?;
        transaction.execute(
            "UPDATE keys SET state = ?2 WHERE state = ?1",
            params![State::Running, State::Interrupted],
        )?;
        let (keys, bytes) =
            transaction.query_row("SELECT count(*), coalesce(sum(bytes), 0) FROM keys", [], |row| {
                Ok((count(row, 0)?, count(row, 1)?))
            })?;
        transaction.commit()?;
        let table = Self { limits, keys, bytes };
        table.tell();
        Ok(table)
    }

    /// Tells how much there is.
    pub(super) fn tell(&self) {
        metrics::stand_at(self.keys, self.bytes);
    }

    /// Looks a key up, and takes it where it is free.
    pub(super) fn claim(&mut self, within: &Transaction<'_>, claim: &Claim) -> rusqlite::Result<Claimed> {
        let entry = entry(within, claim.key)?;
        let verdict = state::judge(entry.as_ref(), claim, self.limits.keep);
        match (verdict, entry) {
            (Verdict::Refuse(why), Some(entry)) => Ok(Claimed::Refused(entry.decision, why)),
            (Verdict::Replay, Some(entry)) => {
                Ok(Claimed::Answered(entry.decision, bytes_of(within, claim.key)?))
            }
            (_, expired) => {
                if expired.is_some() {
                    self.forget(within, claim.key)?;
                }
                self.take(within, claim)?;
                Ok(Claimed::Taken)
            }
        }
    }

    /// The answer of a decision, if it is here.
    pub(super) fn answer(
        within: &Transaction<'_>,
        key: ScopedKey,
        decision: DecisionId,
    ) -> rusqlite::Result<Option<Answer>> {
        let mut statement = within.prepare_cached(
            "SELECT status, head, body FROM answers JOIN keys USING (key) WHERE key = ?1 AND decision = ?2",
        )?;
        let answer = |row: &rusqlite::Row<'_>| {
            let body: Vec<u8> = row.get(2)?;
            Ok(Answer { status: row.get(0)?, head: row.get(1)?, body: Bytes::from(body), room: None })
        };
        statement.query_row(params![key.as_bytes(), decision.as_bytes()], answer).optional()
    }

    /// Ends a key.
    pub(super) fn end(&mut self, within: &Transaction<'_>, ended: &Ended) -> rusqlite::Result<()> {
        let Some(entry) = entry(within, ended.key)? else { return Ok(()) };
        match (state::ended(&entry, ended.decision, &ended.end), &ended.end) {
            (Change::Stay, _) => Ok(()),
            (Change::Forget, _) => self.forget(within, ended.key),
            (Change::Become(state), End::Answered(answer)) => self.keep(within, ended.key, state, answer),
            (Change::Become(state), _) => become_state(within, ended.key, state, 0),
        }
    }

    /// What was interrupted and is not ended yet.
    pub(super) fn interrupted(within: &Transaction<'_>) -> rusqlite::Result<Vec<Interrupted>> {
        let mut statement = within.prepare("SELECT key, decision, account FROM keys WHERE state = ?1")?;
        let rows = statement.query_map([State::Interrupted], |row| {
            Ok(Interrupted {
                key: ScopedKey(row.get(0)?),
                decision: DecisionId::from_bytes(row.get(1)?),
                account: AccountId::from_bytes(row.get(2)?),
            })
        })?;
        rows.collect()
    }

    /// Takes some of what is too old, or too much, away. Whether there is more.
    pub(super) fn sweep(&mut self, within: &Transaction<'_>, now: Timestamp) -> rusqlite::Result<bool> {
        let expired = now.ms().saturating_sub_unsigned(self.limits.keep.ms());
        let old = oldest(within, ENDED, expired)?;
        for key in &old {
            self.forget(within, *key)?;
        }
        Ok(self.shrink(within)? || old.len() == SWEEP_ROWS as usize)
    }

    /// Keeps within the bounds. Whether there is more to do.
    pub(super) fn shrink(&mut self, within: &Transaction<'_>) -> rusqlite::Result<bool> {
        if self.bytes > self.limits.total_bytes {
            self.drop_answers(within)?;
        }
        let forgotten = if self.keys > self.limits.keys_max() { self.forget_oldest(within)? } else { 0 };
        Ok(self.bytes > self.limits.total_bytes || (forgotten > 0 && self.keys > self.limits.keys_max()))
    }

    /// Forgets the oldest keys that have ended until the rest are few enough. How many.
    fn forget_oldest(&mut self, within: &Transaction<'_>) -> rusqlite::Result<u64> {
        let excess = self.keys.saturating_sub(self.limits.keys_max());
        let mut forgotten = 0;
        for key in oldest(within, ENDED, i64::MAX)? {
            if forgotten == excess {
                break;
            }
            self.forget(within, key)?;
            forgotten += 1;
        }
        metrics::forgotten_early(forgotten);
        Ok(forgotten)
    }

    /// Drops the oldest answers until the rest fits; their keys stay.
    fn drop_answers(&mut self, within: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut dropped = 0;
        for key in oldest(within, WITH_ANSWER, i64::MAX)? {
            if self.bytes <= self.limits.total_bytes {
                break;
            }
            self.remove_answer(within, key)?;
            become_state(within, key, State::NotKept, 0)?;
            dropped += 1;
        }
        metrics::answers_dropped(dropped);
        Ok(())
    }

    fn take(&mut self, within: &Transaction<'_>, claim: &Claim) -> rusqlite::Result<()> {
        let mut statement = within.prepare_cached(
            "INSERT INTO keys (key, fingerprint, decision, account, at, state, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
        )?;
        statement.execute(params![
            claim.key.as_bytes(),
            claim.fingerprint.as_bytes(),
            claim.decision.as_bytes(),
            claim.account.as_bytes(),
            claim.at.ms(),
            State::Running,
        ])?;
        self.keys += 1;
        Ok(())
    }

    fn keep(
        &mut self,
        within: &Transaction<'_>,
        key: ScopedKey,
        state: State,
        answer: &Answer,
    ) -> rusqlite::Result<()> {
        let mut statement =
            within.prepare_cached("INSERT INTO answers (key, status, head, body) VALUES (?1, ?2, ?3, ?4)")?;
        statement.execute(params![key.as_bytes(), answer.status, answer.head, &*answer.body])?;
        let bytes = (answer.head.len() + answer.body.len()) as u64;
        self.bytes += bytes;
        become_state(within, key, state, bytes)
    }

    fn forget(&mut self, within: &Transaction<'_>, key: ScopedKey) -> rusqlite::Result<()> {
        self.remove_answer(within, key)?;
        let gone = within.prepare_cached("DELETE FROM keys WHERE key = ?1")?.execute([key.as_bytes()])?;
        self.keys = self.keys.saturating_sub(gone as u64);
        Ok(())
    }

    fn remove_answer(&mut self, within: &Transaction<'_>, key: ScopedKey) -> rusqlite::Result<()> {
        let bytes = bytes_of(within, key)?;
        if bytes > 0 {
            within.prepare_cached("DELETE FROM answers WHERE key = ?1")?.execute([key.as_bytes()])?;
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        Ok(())
    }
}

/// A number of things, which is never negative.
fn count(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get(column).map(|count: i64| count.unsigned_abs())
}

fn become_state(within: &Transaction<'_>, key: ScopedKey, state: State, bytes: u64) -> rusqlite::Result<()> {
    let mut statement = within.prepare_cached("UPDATE keys SET state = ?2, bytes = ?3 WHERE key = ?1")?;
    statement.execute(params![key.as_bytes(), state, bytes.cast_signed()]).map(|_| ())
}

/// The oldest keys that `query` finds, up to its first parameter; so many at most.
fn oldest(within: &Transaction<'_>, query: &str, until_ms: i64) -> rusqlite::Result<Vec<ScopedKey>> {
    let mut statement = within.prepare_cached(query)?;
    let rows = statement.query_map(params![until_ms, SWEEP_ROWS], |row| row.get(0).map(ScopedKey))?;
    rows.collect()
}

fn entry(within: &Transaction<'_>, key: ScopedKey) -> rusqlite::Result<Option<Entry>> {
    let mut statement =
        within.prepare_cached("SELECT fingerprint, decision, at, state FROM keys WHERE key = ?1")?;
    let entry = |row: &rusqlite::Row<'_>| {
        Ok(Entry {
            fingerprint: Fingerprint(row.get(0)?),
            decision: DecisionId::from_bytes(row.get(1)?),
            at: Timestamp::from_ms(row.get(2)?),
            state: row.get(3)?,
        })
    };
    statement.query_row([key.as_bytes()], entry).optional()
}

/// What the answer of a key takes up.
fn bytes_of(within: &Transaction<'_>, key: ScopedKey) -> rusqlite::Result<u64> {
    let mut statement = within.prepare_cached("SELECT bytes FROM keys WHERE key = ?1")?;
    Ok(statement.query_row([key.as_bytes()], |row| count(row, 0)).optional()?.unwrap_or_default())
}

impl ToSql for State {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let number: i64 = match self {
            Self::Running => 0,
            Self::Interrupted => 1,
            Self::Answered => 2,
            Self::NotKept => 3,
            Self::Unanswered => 4,
        };
        Ok(number.into())
    }
}

impl FromSql for State {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let place = usize::try_from(value.as_i64()?).ok();
        place.and_then(|place| Self::ALL.get(place).copied()).ok_or(FromSqlError::InvalidType)
    }
}
