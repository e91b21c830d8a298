//! The present epoch, and the nodes that count by it. What is decided about it is decided there (`attend`, `move_epoch`).

use deadpool_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::ledger::LedgerError;
use crate::ledger::shared::{Attendance, Epoch, Phase};
use crate::units::Span;

const ATTEND: &str = "SELECT number, phase, store, is_builder, is_joined FROM attend($1, $2, $3, $4)";
const DEPART: &str = "DELETE FROM nodes WHERE name = $1";
const BEGIN: &str = "UPDATE epoch SET number = number + 1, phase = 0, why = $2, begun_at = clock_timestamp(), \
     builder = NULL, builder_until = NULL WHERE number = $1";
const MOVE: &str = "SELECT move_epoch($1, $2, $3)";
const TAKE_SLOT: &str = "SELECT take_slot($1, $2)";
const FREE_SLOT: &str = "DELETE FROM slots WHERE home = $1";
/// The epoch, which cannot move until the transaction ends.
pub(super) const STAY: &str = "SELECT 1 FROM epoch WHERE number = $1 AND phase = 4 FOR SHARE";

pub(super) async fn attend(
    client: &Client,
    node: &str,
    alive: Span,
    reached: Epoch,
) -> Result<Attendance, LedgerError> {
    let (number, phase) = columns(reached);
    let values: [&(dyn ToSql + Sync); 4] = [&node, &alive.ms().cast_signed(), &number, &phase];
    let types = [Type::TEXT, Type::INT8, Type::INT8, Type::INT2];
    let attend = client.prepare_typed_cached(ATTEND, &types).await?;
    let row = client.query_one(&attend, &values).await?;
    let phase = usize::try_from(row.try_get::<_, i16>("phase")?).ok().and_then(|phase| Phase::ALL.get(phase));
    let number = row.try_get::<_, i64>("number")?.cast_unsigned();
    let phase = phase.ok_or_else(|| LedgerError::Corrupt { what: format!("the phase of epoch {number}") })?;
    Ok(Attendance {
        epoch: Epoch { number, phase: *phase },
        store: row.try_get("store")?,
        is_builder: row.try_get("is_builder")?,
        is_joined: row.try_get("is_joined")?,
    })
}

pub(super) async fn depart(client: &Client, node: &str) -> Result<(), LedgerError> {
    client.execute(DEPART, &[&node]).await?;
    Ok(())
}

pub(super) async fn begin(client: &Client, after: u64, why: &str) -> Result<(), LedgerError> {
    client.execute(BEGIN, &[&after.cast_signed(), &why]).await?;
    Ok(())
}

pub(super) async fn move_on(client: &Client, from: Epoch, store: &str) -> Result<bool, LedgerError> {
    let (number, phase) = columns(from);
    let values: [&(dyn ToSql + Sync); 3] = [&number, &phase, &store];
    let move_on = client.prepare_typed_cached(MOVE, &[Type::INT8, Type::INT2, Type::TEXT]).await?;
    Ok(client.query_one(&move_on, &values).await?.try_get(0)?)
}

pub(super) async fn take_slot(client: &Client, home: &str, most: u64) -> Result<bool, LedgerError> {
    let take = client.prepare_cached(TAKE_SLOT).await?;
    Ok(client.query_one(&take, &[&home, &i64::try_from(most).unwrap_or(i64::MAX)]).await?.try_get(0)?)
}

pub(super) async fn free_slot(client: &Client, home: &str) -> Result<(), LedgerError> {
    client.execute(FREE_SLOT, &[&home]).await?;
    Ok(())
}

fn columns(epoch: Epoch) -> (i64, i16) {
    (epoch.number.cast_signed(), epoch.phase as i16)
}
