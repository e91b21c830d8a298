//! Queues as streams, one for each partition.
//!
//! What the books have leaves its stream. The rows by which a verb knows itself again stay an hour longer: longer than
//! a call that was given up may take to arrive, and than anybody works on what he has read of the books before.

use async_trait::async_trait;
use redis::{Pipeline, Value};

use super::keys::{Fixed, Partition, RowKey};
use super::store::Store;
use crate::access::record::{Record, RevisionOrder};
use crate::ledger::shared::{Place, Queued};
use crate::meter::queue::{Backlog, Queue, QueueError};
use crate::units::{Span, Timestamp};

/// How long rows stay whose records are booked.
const REMEMBERED: Span = Span::from_seconds(3600);

/// The streams of all partitions.
pub struct Streams {
    store: Store,
}

impl Streams {
    /// The streams of a store.
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    async fn range(&self, queue: u16, from: &str, most: usize) -> Result<Vec<(Place, Vec<u8>)>, QueueError> {
        let mut range = redis::cmd("XRANGE");
        range.arg(Partition::numbered(queue).key(Fixed::Queue)).arg(from).arg("+").arg("COUNT").arg(most);
        let Value::Array(entries) = self.store.call(&range).await.map_err(QueueError::Store)? else {
            return Err(QueueError::Unreadable { queue });
        };
        entries.into_iter().map(|value| entry(value).ok_or(QueueError::Unreadable { queue })).collect()
    }
}

#[async_trait]
impl Queue for Streams {
    async fn read(&self, queue: u16, after: Place, most: usize) -> Result<Vec<Queued>, QueueError> {
        let entries = self.range(queue, &format!("({after}"), most).await?;
        let queued = entries.into_iter().map(|(place, bytes)| {
            let record = postcard::from_bytes(&bytes).map_err(|_| QueueError::Unreadable { queue })?;
            Ok(Queued { place, record })
        });
        queued.collect()
    }

    async fn booked(&self, queue: u16, up_to: Place, records: &[Record]) -> Result<(), QueueError> {
        let partition = Partition::numbered(queue);
        let mut pipeline = Pipeline::new();
        let behind = Place { nth: up_to.nth.saturating_add(1), ..up_to };
        pipeline.cmd("XTRIM").arg(partition.key(Fixed::Queue)).arg("MINID").arg(behind.to_string());
        for record in records {
            for row in rows_of(record) {
                let key = partition.row(record.account(), row);
                pipeline.cmd("PEXPIRE").arg(key).arg(REMEMBERED.ms());
            }
        }
        self.store.call_all(&pipeline).await.map_err(QueueError::Store)
    }

    async fn backlog(&self, queue: u16) -> Result<Backlog, QueueError> {
        let mut length = redis::cmd("XLEN");
        length.arg(Partition::numbered(queue).key(Fixed::Queue));
        let Value::Int(records) = self.store.call(&length).await.map_err(QueueError::Store)? else {
            return Err(QueueError::Unreadable { queue });
        };
        let first = if records > 0 { self.range(queue, "-", 1).await? } else { Vec::new() };
        let since = first.first().map(|(place, _)| Timestamp::from_ms(place.ms.cast_signed()));
        Ok(Backlog { records: records.unsigned_abs(), since })
    }
}

/// The rows by which the verb that made a record knows itself again.
fn rows_of(record: &Record) -> Vec<RowKey> {
    match record {
        Record::End(end) => vec![RowKey::Hold(end.decision)],
        Record::Grant(grant) => vec![RowKey::Grant(grant.grant)],
        Record::Correction(correction) => vec![RowKey::Revision(correction.decision)],
        Record::Revision(revision) => {
            let row = RowKey::Revision(revision.correction.decision);
            match &revision.order {
                RevisionOrder::Refund { id, .. } => vec![row, RowKey::Order(*id)],
                RevisionOrder::Rerate { .. } => vec![row],
            }
        }
        Record::Adjustment(adjustment) => vec![RowKey::Order(adjustment.id)],
        Record::Hold(_) | Record::Expiry(_) | Record::Job(_) | Record::Made(_) => Vec::new(),
    }
}

/// An entry: its id, and its one field.
fn entry(value: Value) -> Option<(Place, Vec<u8>)> {
    let Value::Array(parts) = value else { return None };
    let mut parts = parts.into_iter();
    let id: String = redis::from_redis_value(parts.next()?).ok()?;
    let Value::Array(fields) = parts.next()? else { return None };
    let Some(Value::BulkString(bytes)) = fields.into_iter().nth(1) else { return None };
    Some((id.parse().ok()?, bytes))
}
