//! The keeper of a node's journal, where queues carry its records: it gives the journal its space back once the books
//! have what stands there, and sends again what did not arrive.
//!
//! A queue is kept by a store that may lose what it had (a failover, a disk). The journal has what this node made. What
//! the books do not have after a while is given to them directly: a record that is there already changes nothing (I7), one
//! whose predecessor is missing waits. Ownership of what was made upstream goes to the books this way at once: it has
//! no number, and nobody waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::settler::SettlerStats;
use crate::access::record::{Entry, Record};
use crate::journal::{self, Journal, Position, ReadError, Reader};
use crate::ledger::LedgerError;
use crate::ledger::posting::numbered;
use crate::ledger::shared::{Booking, SharedLedger};
use crate::meter::began::Began;
use crate::units::{AccountId, Seq};

const BATCH_RECORDS: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;
/// How often the books are asked for what is not there yet.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long records may take through the queue before they are sent again.
const RESEND_AFTER: Duration = Duration::from_secs(20);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Keeps a journal until the books have it.
pub struct Keeper {
    /// The node's own.
    pub journal: Arc<Journal>,
    /// The books.
    pub ledger: Arc<dyn SharedLedger>,
    /// Since where it is of the present epoch. What is of one before has been done again in it.
    pub began: Began,
    /// How far it has come.
    pub stats: Arc<SettlerStats>,
}

/// Why nothing is known of a batch.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("the journal cannot be read")]
    Journal(#[from] ReadError),
    #[error("a record of the journal cannot be read")]
    Unreadable(#[from] postcard::Error),
    #[error("the ledger does not tell what it has")]
    Ledger(#[from] LedgerError),
}

impl Keeper {
    /// Keeps until `shutdown` is true. What is not in the books by then stays for the next start.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut kept_to = Position::START;
        let mut reader = self.journal.reader(kept_to);
        let mut pause = LOOK_EVERY;
        while !*shutdown.borrow() {
            let wait = match self.turn(&mut reader, &shutdown).await {
                Ok(true) => {
                    (kept_to, pause) = (reader.position(), LOOK_EVERY);
                    continue;
                }
                Ok(false) => LOOK_EVERY,
                Err(error) => {
                    reader = self.journal.reader(kept_to);
                    self.stats.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(error = %crate::telemetry::chain(&error), "the journal is kept longer");
                    pause = (pause * 2).min(PAUSE_MAX);
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = super::stopped(&mut shutdown) => {}
            }
        }
    }

    /// Sees a batch into the books; `false`: there is none.
    async fn turn(&self, reader: &mut Reader, shutdown: &watch::Receiver<bool>) -> Result<bool, KeepError> {
        let batch = reader.next_batch(BATCH_RECORDS, BATCH_BYTES)?;
        let Some(last) = batch.last() else { return Ok(false) };
        let end = last.position.next();
        let mut records = decode(&batch)?;
        let made = records.iter().filter(|(_, record)| matches!(record, Record::Made(_)));
        let made: Vec<_> = made.map(|(_, record)| record.clone()).collect();
        if !made.is_empty() {
            self.ledger.apply(made).await?;
        }
        let since = Instant::now();
        let mut resent = false;
        loop {
            // Between epochs numbers tell nothing: the next one may give them to others.
            if self.began.epoch().is_some() {
                records.retain(|(position, _)| !self.began.is_after(*position));
                if self.has(&records).await? {
                    break;
                }
            }
            if *shutdown.borrow() {
                return Ok(false);
            }
            if !resent && since.elapsed() > RESEND_AFTER {
                let count = records.len();
                tracing::warn!(records = count, "records did not arrive in the books, and are sent again");
                resent = self.send_again(records.iter().map(|(_, record)| record.clone()).collect()).await?;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.stats.position.store(end.value(), Ordering::Release);
        self.journal.applied(end);
        Ok(true)
    }

    /// Gives the books records of the present epoch, if it is open.
    async fn send_again(&self, records: Vec<Record>) -> Result<bool, KeepError> {
        let (count, Some(epoch)) = (records.len() as u64, self.began.epoch()) else { return Ok(false) };
        let Booking::Done(applied) = self.ledger.apply_in(epoch, records).await? else { return Ok(false) };
        metrics::counter!("overfall_records_resent_total").increment(count);
        self.stats.tell(&applied);
        Ok(true)
    }

    /// Whether the books have all of these.
    async fn has(&self, records: &[(Position, Record)]) -> Result<bool, KeepError> {
        let mut newest: BTreeMap<AccountId, Seq> = BTreeMap::new();
        for record in records.iter().flat_map(|(_, record)| numbered(record)) {
            let seq = newest.entry(record.account()).or_default();
            *seq = (*seq).max(record.seq());
        }
        let accounts: Vec<_> = newest.keys().copied().collect();
        if accounts.is_empty() {
            return Ok(true);
        }
        let heads: BTreeMap<_, _> = self.ledger.heads(&accounts).await?.into_iter().collect();
        Ok(newest.iter().all(|(account, seq)| heads.get(account).is_some_and(|head| head >= seq)))
    }
}

fn decode(batch: &[journal::Entry]) -> Result<Vec<(Position, Record)>, KeepError> {
    let mut records = Vec::with_capacity(batch.len());
    for frame in batch {
        records
            .extend(Entry::read(frame.id, &frame.payload)?.record().map(|record| (frame.position, record)));
    }
    Ok(records)
}
