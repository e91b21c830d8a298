//! Booking a batch: what it needs is read in one round trip, under the heads of its accounts; what it adds is written
//! in another, which ends with the commit.
//!
//! Heads are held in the order of their accounts: batches of different accounts go side by side, those of one account
//! one after the other, and none wait for each other in a circle.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::Client;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::columns::Id;
use super::epochs;
use super::partitions::Partitions;
use super::queues::{self, Leases, Reached};
use super::shelf::{BookedCall, Desk, Known, Places};
use super::wanted::Wanted;
use super::write;
use crate::access::record::Record;
use crate::ledger::LedgerError;
use crate::ledger::booking::{self, Head, Owner};
use crate::ledger::fields::{Fields, Owned, Slots, Told};
use crate::ledger::posting::{BookedBalance, Purse, Remainder};
use crate::ledger::rows::Applied;
use crate::ledger::shared::{Booking, Taken};
use crate::units::{AccountId, GrantId, OrderId};

const HEADS: &str = "SELECT account, seq, event, change, hash FROM heads WHERE account = ANY($1) \
     ORDER BY account FOR UPDATE";
const BALANCES: &str = "SELECT id, account, \"user\", name, standing, debt, hash FROM \
     unnest($1::uuid[], $2::uuid[]) AS owners (account, \"user\") JOIN balances USING (account, \"user\") ORDER BY id";
const REMAINDERS: &str = "SELECT account, \"user\", balance, grant_id, remaining FROM \
     unnest($1::uuid[], $2::uuid[]) AS owners (account, \"user\") JOIN balances USING (account, \"user\") \
     JOIN remainders ON remainders.balance = balances.id";
const COUNTERS: &str = "SELECT account, \"user\", slots FROM unnest($1::uuid[], $2::uuid[]) \
     AS owners (account, \"user\") JOIN counters USING (account, \"user\")";
const CALLS: &str = "SELECT decision, account, seq, digest FROM usage_events WHERE decision = ANY($1) \
     AND decision BETWEEN $2 AND $3";
const CHARGED: &str = "SELECT decision, revision, charged, coalesce(refunded, 0) AS refunded FROM monetization_events WHERE decision = ANY($1)";
const GRANTS: &str = "SELECT id FROM grants WHERE id = ANY($1)";
const ORDERS: &str = "SELECT order_id FROM monetization_events WHERE order_id = ANY($1) \
     UNION ALL SELECT id FROM adjustments WHERE id = ANY($1)";
const RECORDS: &str = "SELECT account, seq, digest FROM unnest($1::uuid[], $2::bigint[]) AS wanted (account, seq) \
     JOIN records USING (account, seq)";
const PLACES: &str = "SELECT events, updates, others, new_balances FROM take_places($1, $2, $3, $4)";

/// Books all records of a batch, or none. After an error the connection is not to be used any more.
pub(super) async fn apply(
    client: &Client,
    partitions: &Partitions,
    batch: &[Record],
) -> Result<Applied, LedgerError> {
    let mut desk = begin(client, partitions, batch).await?;
    let applied = booking::book(&mut desk, batch)?;
    write::write(client, desk).await?;
    Ok(applied)
}

/// The same for what was taken out of queues, if their leases still hold: how far that brings them is part of it.
pub(super) async fn apply_from(
    client: &Client,
    partitions: &Partitions,
    taken: &[Taken],
) -> Result<Booking, LedgerError> {
    let batch: Vec<Record> =
        taken.iter().flat_map(|taken| &taken.records).map(|queued| queued.record.clone()).collect();
    let mut desk = begin(client, partitions, &batch).await?;
    let Leases { queues, fences } = Leases::of(taken);
    let hold = client.prepare_cached(queues::HOLD).await?;
    if client.query(&hold, &[&queues, &fences]).await?.len() < taken.len() {
        client.batch_execute("ROLLBACK").await?;
        return Ok(Booking::Fenced);
    }
    let applied = booking::book(&mut desk, &batch)?;
    let Reached { queues, ms, nth } = Reached::of(taken, &applied.waiting);
    let reach = client.prepare_cached(queues::REACH).await?;
    client.execute(&reach, &[&queues, &ms, &nth]).await?;
    write::write(client, desk).await?;
    Ok(Booking::Done(applied))
}

/// The same for records that did not come through a queue, while their epoch is open.
pub(super) async fn apply_in(
    client: &Client,
    partitions: &Partitions,
    epoch: u64,
    batch: &[Record],
) -> Result<Booking, LedgerError> {
    let mut desk = begin(client, partitions, batch).await?;
    let stay = client.prepare_cached(epochs::STAY).await?;
    if client.query_opt(&stay, &[&epoch.cast_signed()]).await?.is_none() {
        client.batch_execute("ROLLBACK").await?;
        return Ok(Booking::Fenced);
    }
    let applied = booking::book(&mut desk, batch)?;
    write::write(client, desk).await?;
    Ok(Booking::Done(applied))
}

/// Begins a transaction and reads what a batch needs.
async fn begin(client: &Client, partitions: &Partitions, batch: &[Record]) -> Result<Desk, LedgerError> {
    let wanted = Wanted::of(batch);
    partitions.make(client, &wanted.instants).await?;
    Ok(Desk::new(read(client, &wanted).await?))
}

/// Parameters of a statement.
type Parameters<'a, const N: usize> = [&'a (dyn ToSql + Sync); N];

/// Begins a transaction, takes hold of the accounts and reads. All of it is asked for at once, and done in this order.
async fn read(client: &Client, wanted: &Wanted) -> Result<Known, LedgerError> {
    let owners: Parameters<'_, 2> = [&wanted.owner_accounts, &wanted.owner_users];
    let least = wanted.decisions.first().copied().unwrap_or(Id([0; 16]));
    let most = wanted.decisions.last().copied().unwrap_or(Id([0; 16]));
    let statements = Statements::prepare(client).await?;
    let begin = async { client.batch_execute("BEGIN").await };
    let (accounts, corrected, granted): (Parameters<'_, 1>, Parameters<'_, 1>, Parameters<'_, 1>) =
        ([&wanted.accounts], [&wanted.corrected], [&wanted.grants]);
    let ordered: Parameters<'_, 1> = [&wanted.orders];
    let decisions: Parameters<'_, 3> = [&wanted.decisions, &least, &most];
    let numbered: Parameters<'_, 2> = [&wanted.record_accounts, &wanted.record_seqs];
    let counts: Parameters<'_, 4> = [&wanted.events, &wanted.updates, &wanted.records, &wanted.balances];
    let ((), heads, balances, remainders, counters, calls, charged, grants, orders, records, places) = tokio::try_join!(
        biased;
        begin,
        client.query(&statements.heads, &accounts),
        client.query(&statements.balances, &owners),
        client.query(&statements.remainders, &owners),
        client.query(&statements.counters, &owners),
        client.query(&statements.calls, &decisions),
        client.query(&statements.charged, &corrected),
        client.query(&statements.grants, &granted),
        client.query(&statements.orders, &ordered),
        client.query(&statements.records, &numbered),
        client.query_one(&statements.places, &counts),
    )?;
    Ok(Known {
        heads: heads.iter().map(head).collect::<Result<_, _>>()?,
        purses: purses(&balances, &remainders, &counters)?,
        calls: calls.iter().map(|row| Ok((row.told("decision")?, call(row)?))).collect::<Told<_>>()?,
        charged: charged
            .iter()
            .map(|row| {
                Ok((
                    (row.told("decision")?, row.told("revision")?),
                    (row.told("charged")?, row.told("refunded")?),
                ))
            })
            .collect::<Told<_>>()?,
        orders: orders.iter().map(|row| row.told("order_id")).collect::<Told<HashSet<OrderId>>>()?,
        grants: grants.iter().map(|row| row.told("id")).collect::<Told<HashSet<GrantId>>>()?,
        records: records
            .iter()
            .map(|row| Ok(((row.told("account")?, row.told("seq")?), row.told("digest")?)))
            .collect::<Told<_>>()?,
        places: Places {
            events: places.told("events")?,
            updates: places.told("updates")?,
            records: places.told("others")?,
            balances: places.told("new_balances")?,
        },
    })
}

/// The statements, prepared once for a connection.
struct Statements {
    heads: Statement,
    balances: Statement,
    remainders: Statement,
    counters: Statement,
    calls: Statement,
    charged: Statement,
    grants: Statement,
    orders: Statement,
    records: Statement,
    places: Statement,
}

impl Statements {
    async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            heads: client.prepare_cached(HEADS).await?,
            balances: client.prepare_cached(BALANCES).await?,
            remainders: client.prepare_cached(REMAINDERS).await?,
            counters: client.prepare_cached(COUNTERS).await?,
            calls: client.prepare_cached(CALLS).await?,
            charged: client.prepare_cached(CHARGED).await?,
            grants: client.prepare_cached(GRANTS).await?,
            orders: client.prepare_cached(ORDERS).await?,
            records: client.prepare_cached(RECORDS).await?,
            places: client.prepare_cached(PLACES).await?,
        })
    }
}

fn head(row: &Row) -> Told<(AccountId, Head)> {
    let head = Head {
        seq: row.told("seq")?,
        event: row.told("event")?,
        change: row.told("change")?,
        hash: row.told("hash")?,
        changed: false,
    };
    Ok((row.told("account")?, head))
}

fn call(row: &Row) -> Told<BookedCall> {
    Ok(BookedCall { account: row.told("account")?, seq: row.told("seq")?, digest: row.told("digest")? })
}

fn owner(row: &Row) -> Told<Owner> {
    let Owned(user) = row.told("user")?;
    Ok((row.told("account")?, user))
}

/// What owners have, put together.
fn purses(balances: &[Row], remainders: &[Row], counters: &[Row]) -> Told<HashMap<Owner, Purse>> {
    let mut purses: HashMap<Owner, Purse> = HashMap::new();
    for row in balances {
        purses.entry(owner(row)?).or_default().balances.push(BookedBalance {
            row: Some(row.told("id")?),
            name: row.told("name")?,
            standing: row.told("standing")?,
            debt: row.told("debt")?,
            hash: row.told("hash")?,
            remainders: Vec::new(),
            changed: false,
        });
    }
    for row in remainders {
        let balance = Some(row.told("balance")?);
        let purse = purses.entry(owner(row)?).or_default();
        if let Some(balance) = purse.balances.iter_mut().find(|known| known.row == balance) {
            let (grant, remaining) = (row.told("grant_id")?, row.told("remaining")?);
            balance.remainders.push(Remainder { grant, remaining, changed: false });
        }
    }
    for row in counters {
        let Slots(slots) = row.told("slots")?;
        purses.entry(owner(row)?).or_default().slots = slots;
    }
    Ok(purses)
}
