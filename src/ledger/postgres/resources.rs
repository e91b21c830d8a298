//! Whose what was made upstream is.

use std::sync::Arc;

use deadpool_postgres::Client;

use super::columns::Id;
use super::directory::limit;
use crate::access::record::JobRecord;
use crate::ledger::fields::Fields as _;
use crate::ledger::rows::{Owner, Page, VideosFrom};
use crate::ledger::{LedgerError, told};
use crate::units::{Timestamp, UserId};

pub(super) async fn owner_of(client: &Client, resource: &str) -> Result<Option<Owner>, LedgerError> {
    let select = "SELECT account, \"user\", made_at, kind, context_tokens, model, seconds, size, upstream \
         FROM resources WHERE id = $1";
    let select = client.prepare_cached(select).await?;
    let row = client.query_opt(&select, &[&resource]).await?;
    Ok(row.as_ref().map(told::owner).transpose()?)
}

pub(super) async fn videos_of(
    client: &Client,
    user: UserId,
    from: &VideosFrom,
    page: Page,
) -> Result<Vec<(Arc<str>, Timestamp)>, LedgerError> {
    let select = client.prepare_cached(if from.newest_first {
        "SELECT id, made_at FROM resources WHERE kind = 'video' AND \"user\" = $1 AND (made_at, id) < ($2, $3) \
         ORDER BY made_at DESC, id DESC LIMIT $4"
    } else {
        "SELECT id, made_at FROM resources WHERE kind = 'video' AND \"user\" = $1 AND (made_at, id) > ($2, $3) \
         ORDER BY made_at, id LIMIT $4"
    });
    let edge = if from.newest_first { i64::MAX } else { i64::MIN };
    let (at, id) = from.after.as_ref().map_or((edge, ""), |(at, id)| (at.ms(), id));
    let rows = client.query(&select.await?, &[&Id::from(user), &at, &id, &limit(page)]).await?;
    let videos = rows.iter().map(|row| Ok((row.told("id")?, row.told("made_at")?)));
    videos.collect::<Result<_, LedgerError>>()
}

pub(super) async fn forget_made(client: &Client, before: Timestamp, most: Page) -> Result<u64, LedgerError> {
    let delete = "DELETE FROM resources WHERE id IN (SELECT id FROM resources WHERE made_at < $1 AND (decision IS NULL \
         OR EXISTS (SELECT 1 FROM usage_events WHERE usage_events.decision = resources.decision)) \
         ORDER BY made_at LIMIT $2)";
    let delete = client.prepare_cached(delete).await?;
    Ok(client.execute(&delete, &[&before.ms(), &limit(most)]).await?)
}

pub(super) async fn late_jobs(
    client: &Client,
    since: Timestamp,
    page: Page,
) -> Result<Vec<JobRecord>, LedgerError> {
    let select = "SELECT event.decision, event.account, event.\"user\", kind, id, upstream, held_at, ended_at \
         FROM usage_events AS event JOIN resources ON resources.decision = event.decision \
         WHERE outcome = 'expired' AND ended_at >= $1 AND kind <> 'character' \
         AND NOT EXISTS (SELECT 1 FROM monetization_events AS money \
         WHERE money.decision = event.decision AND (true_outcome <> 'expired' OR refunded > 0)) ORDER BY ended_at DESC LIMIT $2";
    let select = client.prepare_cached(select).await?;
    let rows = client.query(&select, &[&since.ms(), &limit(page)]).await?;
    Ok(rows.iter().map(told::late_job).collect::<Result<_, _>>()?)
}

pub(super) async fn disown(client: &Client, resource: &str) -> Result<(), LedgerError> {
    client.execute("DELETE FROM resources WHERE id = $1", &[&resource]).await?;
    Ok(())
}
