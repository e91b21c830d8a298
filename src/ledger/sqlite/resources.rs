//! Whose what was made upstream is.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::columns::Count;
use super::writer::Books;
use crate::access::record::{JobKind, JobRecord, MadeVideo, Resource};
use crate::ledger::LedgerError;
use crate::ledger::rows::{Owned, Owner, Page, VideosFrom};
use crate::units::{Timestamp, UserId};

pub(super) fn owner_of(connection: &Connection, resource: &str) -> Result<Option<Owner>, LedgerError> {
    let mut select = connection.prepare_cached(
        "SELECT account, user, made_at, kind, context_tokens, model, seconds, size, upstream FROM resources WHERE id = ?1",
    )?;
    let owner = select.query_row([resource], |row| {
        let Count(context_tokens) = row.get("context_tokens")?;
        let what = match row.get_ref("kind")?.as_str()? {
            "video" => {
                let Count(seconds) = row.get("seconds")?;
                Owned::Video(MadeVideo { model: row.get("model")?, seconds, size: row.get("size")? })
            }
            "character" => Owned::Character,
            _ => Owned::Response { context_tokens },
        };
        Ok(Owner {
            account: row.get("account")?,
            user: row.get("user")?,
            made_at: row.get("made_at")?,
            what,
            upstream: row.get("upstream")?,
        })
    });
    Ok(owner.optional()?)
}

pub(super) fn videos_of(
    connection: &Connection,
    user: UserId,
    from: &VideosFrom,
    page: Page,
) -> Result<Vec<(Arc<str>, Timestamp)>, LedgerError> {
    let mut select = connection.prepare_cached(if from.newest_first {
        "SELECT id, made_at FROM resources WHERE kind = 'video' AND user = ?1 AND (made_at, id) < (?2, ?3) \
         ORDER BY made_at DESC, id DESC LIMIT ?4"
    } else {
        "SELECT id, made_at FROM resources WHERE kind = 'video' AND user = ?1 AND (made_at, id) > (?2, ?3) \
         ORDER BY made_at, id LIMIT ?4"
    })?;
    let edge = if from.newest_first { i64::MAX } else { i64::MIN };
    let (at, id) = from.after.as_ref().map_or((edge, ""), |(at, id)| (at.ms(), id));
    let rows =
        select.query_map(params![user, at, id, page.0], |row| Ok((row.get("id")?, row.get("made_at")?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The innermost look-up is by the decision's own index, so what stays costs one look each: open jobs, which are few.
pub(super) fn forget_made(books: &mut Books, before: Timestamp, most: Page) -> Result<u64, LedgerError> {
    let mut delete = books.connection.prepare_cached(
        "DELETE FROM resources WHERE id IN (SELECT id FROM resources WHERE made_at < ?1 AND (decision IS NULL \
         OR EXISTS (SELECT 1 FROM usage_events WHERE usage_events.decision = resources.decision)) \
         ORDER BY made_at LIMIT ?2)",
    )?;
    Ok(delete.execute(params![before, most.0])? as u64)
}

pub(super) fn late_jobs(
    connection: &Connection,
    since: Timestamp,
    page: Page,
) -> Result<Vec<JobRecord>, LedgerError> {
    let mut select = connection.prepare_cached(
        "SELECT event.decision, event.account, event.user, kind, id, upstream, held_at, ended_at \
         FROM usage_events AS event JOIN resources ON resources.decision = event.decision \
         WHERE outcome = 'expired' AND ended_at >= ?1 AND kind <> 'character' \
         AND NOT EXISTS (SELECT 1 FROM monetization_events AS money \
         WHERE money.decision = event.decision AND (true_outcome <> 'expired' OR refunded > 0)) ORDER BY ended_at DESC LIMIT ?2",
    )?;
    let rows = select.query_map(params![since, page.0], |row| {
        let is_video = row.get_ref("kind")?.as_str()? == "video";
        Ok(JobRecord {
            decision: row.get("decision")?,
            account: row.get("account")?,
            user: row.get("user")?,
            kind: if is_video { JobKind::Video } else { JobKind::Response },
            resource: Resource { id: row.get("id")?, upstream: row.get("upstream")? },
            began_at: row.get("held_at")?,
            expires_at: row.get("ended_at")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn disown(books: &mut Books, resource: &str) -> Result<(), LedgerError> {
    books.connection.execute("DELETE FROM resources WHERE id = ?1", [resource])?;
    Ok(())
}
