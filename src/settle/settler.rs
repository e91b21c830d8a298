//! The settlement worker: frames of the journal, in order, to the books.
//!
//! It reads back what the journal has made durable, so that a ledger that is away for an hour costs disk and no
//! memory. The position it has reached is not stored: after a restart it reads what the journal still keeps, and the
//! books know by `seq` what they have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::access::record::Record;
use crate::journal::{Entry, Journal, Position, Reader};
use crate::ledger::rows::Applied;
use crate::ledger::{Ledger, LedgerError};
use crate::meter::Booked;
use crate::units::AccountId;
use crate::units::planted::{Bug, planted};

const BATCH_RECORDS: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long the worker lets records gather before it looks again: one transaction for many. What a commit costs, pages
/// that are written and a sync, hardly depends on how many records are in it.
const GATHER: Duration = Duration::from_millis(25);

/// Moves records from the journal to the ledger.
pub struct Settler {
    journal: Arc<Journal>,
    ledger: Arc<dyn Ledger>,
    booked: Box<dyn Fn(Booked) + Send + Sync>,
    stats: Arc<SettlerStats>,
    /// Behind the last record that was given to the ledger.
    settled: Position,
    /// Records of accounts in which an earlier one is missing, and the position of the first of them.
    waiting: BTreeMap<AccountId, Vec<Record>>,
    waiting_since: Option<Position>,
}

/// What settlement has done.
#[derive(Debug, Default)]
pub struct SettlerStats {
    /// Records booked since the start.
    pub booked: AtomicU64,
    /// Conflicts since the start: alarms.
    pub conflicts: AtomicU64,
    /// Records that wait for an earlier one now: an alarm.
    pub waiting: AtomicU64,
    /// Failed attempts since the start.
    pub failures: AtomicU64,
    /// How many frames of the journal have been given to the ledger.
    pub position: AtomicU64,
}

/// A batch was not settled, which has been told.
#[derive(Debug)]
pub(crate) struct Failed;

/// Why a batch was not settled.
#[derive(Debug, thiserror::Error)]
enum SettleError {
    /// The journal could not be read.
    #[error("the journal cannot be read")]
    Journal(#[source] crate::journal::ReadError),
    /// A frame is not a record.
    #[error("a record of the journal cannot be read")]
    Unreadable(#[source] postcard::Error),
    /// The ledger did not take it.
    #[error("the ledger did not take a batch")]
    Ledger(#[source] LedgerError),
}

impl Settler {
    /// A worker between a journal and a ledger; `booked` is told of every grant and order that the books have.
    pub fn new(
        journal: Arc<Journal>,
        ledger: Arc<dyn Ledger>,
        booked: impl Fn(Booked) + Send + Sync + 'static,
    ) -> Self {
        Self {
            journal,
            ledger,
            booked: Box::new(booked),
            stats: Arc::default(),
            settled: Position::START,
            waiting: BTreeMap::new(),
            waiting_since: None,
        }
    }

    /// What it has done, to be read while it runs.
    pub fn stats(&self) -> Arc<SettlerStats> {
        Arc::clone(&self.stats)
    }

    /// Settles until `shutdown` is true and everything journalled by then is booked, or the ledger fails after that.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut reader = self.journal.reader(Position::START);
        let mut pause = PAUSE_MIN;
        let mut stopping = false;
        loop {
            if !stopping && *shutdown.borrow() {
                stopping = true;
                // What is on its way to the journal is settled too. A disk that fails keeps it for the next start.
                let _durable = self.journal.flush().await.is_ok();
            }
            match self.turn(&mut reader).await {
                Ok(0) | Err(Failed) if stopping => return,
                Ok(0) => {
                    tokio::select! {
                        more = reader.more() => {
                            let pause = if more.is_ok() { GATHER } else { PAUSE_MAX };
                            tokio::time::sleep(pause).await;
                        }
                        () = super::stopped(&mut shutdown) => {}
                    }
                }
                Ok(settled) => {
                    pause = PAUSE_MIN;
                    if settled < BATCH_RECORDS && !stopping {
                        tokio::select! {
                            () = tokio::time::sleep(GATHER) => {}
                            () = super::stopped(&mut shutdown) => {}
                        }
                    }
                }
                Err(Failed) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Settles one batch, and tells how many frames were in it. After a failure `reader` stands before that batch again.
    pub(crate) async fn turn(&mut self, reader: &mut Reader) -> Result<usize, Failed> {
        let settled = self.settle_next(reader).await;
        settled.map_err(|error| {
            self.stats.failures.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("overfall_settle_failures_total").increment(1);
            tracing::error!(error = %crate::telemetry::chain(&error), "settlement failed, trying again");
            *reader = self.journal.reader(self.settled);
            Failed
        })
    }

    /// Settles one batch, and tells how many frames were in it.
    async fn settle_next(&mut self, reader: &mut Reader) -> Result<usize, SettleError> {
        // Read from the page cache as a rule, and bounded: not worth a hop to another thread.
        let batch = reader.next_batch(BATCH_RECORDS, BATCH_BYTES).map_err(SettleError::Journal)?;
        let Some(last) = batch.last() else { return Ok(0) };
        let end = last.position.next();
        let first = batch.first().map(|frame| frame.position);
        let mut records = decode(&batch)?;
        if planted(Bug::LostRecord) && records.len() > 1 {
            records.pop();
        }
        if planted(Bug::OrderSwapped) {
            records.reverse();
        }
        let ordered = ordered_in(&records);
        let earlier: Vec<Record> = self.waiting.values().flatten().cloned().collect();
        let candidates = earlier.iter().cloned().chain(records).collect();
        if planted(Bug::JournalTrimmedEarly) {
            self.journal.applied(end);
        }
        let applied = self.ledger.apply(candidates).await.map_err(SettleError::Ledger)?;
        self.tell(&applied);
        self.waiting.clear();
        if !applied.waiting.is_empty() {
            self.keep_waiting(earlier.into_iter().chain(decode(&batch)?), &applied);
        }
        self.waiting_since = if self.waiting.is_empty() { None } else { self.waiting_since.or(first) };
        for booked in ordered {
            (self.booked)(booked);
        }
        self.settled = end;
        self.stats.position.store(end.value(), Ordering::Release);
        self.journal.applied(self.waiting_since.unwrap_or(end));
        Ok(batch.len())
    }

    fn tell(&self, applied: &Applied) {
        self.stats.booked.fetch_add(applied.booked, Ordering::Relaxed);
        self.stats.waiting.store(applied.waiting.len() as u64, Ordering::Relaxed);
        metrics::counter!("overfall_settled_records_total").increment(applied.booked);
        for (account, seq) in &applied.conflicts {
            self.stats.conflicts.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("overfall_settle_conflicts_total").increment(1);
            tracing::error!(account.id = %account, seq = seq.0, "a record conflicts with the books and was left out");
        }
        for (account, seq) in &applied.waiting {
            metrics::counter!("overfall_settle_gaps_total").increment(1);
            tracing::error!(account.id = %account, seq = seq.0, "a record waits for an earlier one that is missing");
        }
    }

    fn keep_waiting(&mut self, candidates: impl Iterator<Item = Record>, applied: &Applied) {
        for record in candidates {
            let account = record.account();
            if applied.waiting.iter().any(|(id, seq)| *id == account && record.seq() == Some(*seq)) {
                self.waiting.entry(account).or_default().push(record);
            }
        }
    }
}

fn decode(batch: &[Entry]) -> Result<Vec<Record>, SettleError> {
    batch.iter().map(|frame| postcard::from_bytes(&frame.payload).map_err(SettleError::Unreadable)).collect()
}

/// What callers may ask about while it is on its way.
fn ordered_in(records: &[Record]) -> Vec<Booked> {
    let mut ordered = Vec::new();
    for record in records {
        match record {
            Record::Grant(grant) => ordered.push(Booked::Grant(grant.grant)),
            Record::Hold(hold) => {
                ordered.extend(hold.issued.iter().map(|grant| Booked::Grant(grant.grant)));
            }
            Record::Revision(revision) => {
                ordered.extend(revision.order.key().map(|(id, _)| Booked::Order(id)));
            }
            Record::Adjustment(adjustment) => ordered.push(Booked::Order(adjustment.id)),
            Record::End(_) | Record::Expiry(_) | Record::Job(_) | Record::Correction(_) | Record::Made(_) => {
            }
        }
    }
    ordered
}
