//! Who has which queue, and how far each is booked.
//!
//! Workers share under one lock, each for a moment a second, so that every one sees what the others have. A queue that is
//! taken over gets the next fence. Whoever books out of a queue holds its row until the commit: it cannot be taken over
//! meanwhile, and one that was is found so before anything is written.

use deadpool_postgres::Client;

use super::columns::Id;
use crate::ledger::LedgerError;
use crate::ledger::fields::Fields as _;
use crate::ledger::shared::{Lease, Place, QUEUES, Taken};
use crate::units::{AccountId, Seq, Span};

/// Held while a worker shares.
const SHARE_LOCK: i64 = 7_379;
/// The workers that take part, this one among them.
const TAKE_PART: &str = "INSERT INTO workers (name, alive_until) \
     VALUES ($1, clock_timestamp() + $2::bigint * interval '1 millisecond') \
     ON CONFLICT (name) DO UPDATE SET alive_until = excluded.alive_until";
const FORGET_DEAD: &str = "DELETE FROM workers WHERE alive_until < clock_timestamp()";
/// Queues of workers that are gone are nobody's.
const FREE_DEAD: &str =
    "UPDATE queues SET worker = NULL WHERE worker IS NOT NULL AND worker NOT IN (SELECT name FROM workers)";
/// More than a worker's share goes back.
const GIVE_BACK: &str = "UPDATE queues SET worker = NULL WHERE queue IN \
     (SELECT queue FROM queues WHERE worker = $1 ORDER BY queue OFFSET $2)";
/// Less is made up for by what nobody has.
const TAKE_UP: &str = "UPDATE queues SET worker = $1, fence = fence + 1 WHERE queue IN \
     (SELECT queue FROM queues WHERE worker IS NULL ORDER BY queue LIMIT $2)";
const HAVE: &str = "SELECT queue, fence, ms, nth FROM queues WHERE worker = $1 ORDER BY queue";
const PLACES: &str = "SELECT ms, nth FROM queues ORDER BY queue";
const LEAVE: &str = "WITH gone AS (DELETE FROM workers WHERE name = $1) \
     UPDATE queues SET worker = NULL WHERE worker = $1";
const HEADS: &str = "SELECT account, seq FROM heads WHERE account = ANY($1)";
/// The rows of leases that still hold; held themselves until the transaction ends.
pub(super) const HOLD: &str = "SELECT queues.queue FROM queues \
     JOIN unnest($1::smallint[], $2::bigint[]) AS given (queue, fence) USING (queue, fence) \
     ORDER BY queues.queue FOR UPDATE OF queues";
pub(super) const REACH: &str = "UPDATE queues SET ms = given.ms, nth = given.nth \
     FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS given (queue, ms, nth) \
     WHERE queues.queue = given.queue";

pub(super) async fn share(client: &mut Client, worker: &str, alive: Span) -> Result<Vec<Lease>, LedgerError> {
    let sharing = client.transaction().await?;
    sharing.execute("SELECT pg_advisory_xact_lock($1)", &[&SHARE_LOCK]).await?;
    sharing.execute(TAKE_PART, &[&worker, &alive.ms().cast_signed()]).await?;
    sharing.execute(FORGET_DEAD, &[]).await?;
    sharing.execute(FREE_DEAD, &[]).await?;
    let workers: i64 = sharing.query_one("SELECT count(*) FROM workers", &[]).await?.get(0);
    let fair = u64::from(QUEUES).div_ceil(workers.max(1).unsigned_abs()).cast_signed();
    sharing.execute(GIVE_BACK, &[&worker, &fair]).await?;
    let has: i64 =
        sharing.query_one("SELECT count(*) FROM queues WHERE worker = $1", &[&worker]).await?.get(0);
    sharing.execute(TAKE_UP, &[&worker, &(fair - has).max(0)]).await?;
    let rows = sharing.query(HAVE, &[&worker]).await?;
    sharing.commit().await?;
    let leases = rows.iter().map(|row| {
        let (queue, fence, ms, nth): (i16, i64, i64, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        Ok(Lease { queue: queue.cast_unsigned(), fence: fence.cast_unsigned(), booked: place(ms, nth) })
    });
    leases.collect()
}

pub(super) async fn leave(client: &Client, worker: &str) -> Result<(), LedgerError> {
    client.execute(LEAVE, &[&worker]).await?;
    Ok(())
}

pub(super) async fn places(client: &Client) -> Result<Vec<Place>, LedgerError> {
    let rows = client.query(PLACES, &[]).await?;
    rows.iter().map(|row| Ok(place(row.try_get("ms")?, row.try_get("nth")?))).collect()
}

const fn place(ms: i64, nth: i64) -> Place {
    Place { ms: ms.cast_unsigned(), nth: nth.cast_unsigned() }
}

pub(super) async fn heads(
    client: &Client,
    accounts: &[AccountId],
) -> Result<Vec<(AccountId, Seq)>, LedgerError> {
    let accounts: Vec<Id> = accounts.iter().copied().map(Id::from).collect();
    let select = client.prepare_cached(HEADS).await?;
    let rows = client.query(&select, &[&accounts]).await?;
    let heads = rows.iter().map(|row| Ok((row.told("account")?, row.told("seq")?)));
    heads.collect::<Result<_, LedgerError>>()
}

/// Leases as columns.
pub(super) struct Leases {
    pub(super) queues: Vec<i16>,
    pub(super) fences: Vec<i64>,
}

impl Leases {
    pub(super) fn of(taken: &[Taken]) -> Self {
        Self {
            queues: taken.iter().map(|taken| taken.lease.queue.cast_signed()).collect(),
            fences: taken.iter().map(|taken| taken.lease.fence.cast_signed()).collect(),
        }
    }
}

/// How far queues are booked, as columns.
pub(super) struct Reached {
    pub(super) queues: Vec<i16>,
    pub(super) ms: Vec<i64>,
    pub(super) nth: Vec<i64>,
}

impl Reached {
    pub(super) fn of(taken: &[Taken], waiting: &[(AccountId, Seq)]) -> Self {
        let places: Vec<Place> = taken.iter().map(|taken| taken.reached(waiting)).collect();
        Self {
            queues: taken.iter().map(|taken| taken.lease.queue.cast_signed()).collect(),
            ms: places.iter().map(|place| place.ms.cast_signed()).collect(),
            nth: places.iter().map(|place| place.nth.cast_signed()).collect(),
        }
    }
}
