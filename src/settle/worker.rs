//! A settlement worker of many: records of the queues that it has leased go to the books, in order.
//!
//! It may be killed at any time, and another goes on where the books are. One that has lost a lease without knowing is
//! told so by the books (`Fenced`) and looks again what it has. A ledger that does not answer stops settlement alone: the
//! queues grow, and are measured.
//!
//! Queues in which something has come lately are read again at once, others at growing intervals, so that 256 quiet
//! queues cost next to nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::settler::SettlerStats;
use crate::access::record::Record;
use crate::ledger::LedgerError;
use crate::ledger::shared::{Booking, Lease, SharedLedger, Taken};
use crate::meter::queue::{Backlog, Queue, QueueError};
use crate::units::Span;
use crate::units::time::Clock;

/// How long a worker counts as alive after it was last seen; another takes its queues then.
const ALIVE: Span = Span::from_seconds(10);
/// How often it is seen.
const SHARE_EVERY: Duration = Duration::from_secs(1);
/// How many records are booked together, and out of one queue.
const BATCH_RECORDS: usize = 1000;
const QUEUE_RECORDS: usize = 250;
/// How long records gather in a queue that has had some, and the longest that a quiet one is left alone.
const GATHER: Duration = Duration::from_millis(25);
const QUIET_MAX: Duration = Duration::from_millis(400);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Moves records from queues to the books.
pub struct Worker {
    /// Which worker this is; no two are called the same.
    pub name: String,
    /// Where records come from.
    pub queue: Arc<dyn Queue>,
    /// Where they go.
    pub ledger: Arc<dyn SharedLedger>,
    /// What it has done.
    pub stats: Arc<SettlerStats>,
    /// What lag is measured by.
    pub clock: Clock,
}

/// Why a turn came to nothing.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error("the ledger did not take a batch")]
    Ledger(#[from] LedgerError),
    #[error("a queue could not be read")]
    Queue(#[from] QueueError),
}

/// A leased queue, and when it is read next.
struct Held {
    lease: Lease,
    due: Instant,
    pause: Duration,
}

#[derive(Default)]
struct Queued {
    held: BTreeMap<u16, Held>,
    shared_at: Option<Instant>,
}

impl Worker {
    /// Settles until `shutdown` is true and what was queued by then is booked, then gives up its queues.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut queued = Queued::default();
        let mut pause = PAUSE_MIN;
        let mut stopping = false;
        loop {
            if !stopping && *shutdown.borrow() {
                stopping = true;
                // What others have left by now is settled too.
                queued.shared_at = None;
            }
            if stopping {
                queued.held.values_mut().for_each(Held::now);
            }
            let wait = match self.turn(&mut queued).await {
                Ok(0) if stopping => break,
                Ok(0) => queued.until_due().min(SHARE_EVERY),
                Ok(_) => {
                    pause = PAUSE_MIN;
                    continue;
                }
                Err(error) => {
                    self.stats.failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    metrics::counter!("overfall_settle_failures_total").increment(1);
                    tracing::error!(error = %crate::telemetry::chain(&error), "settlement failed, trying again");
                    if stopping {
                        break;
                    }
                    queued.shared_at = None;
                    pause = (pause * 2).min(PAUSE_MAX);
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = super::stopped(&mut shutdown) => {}
            }
        }
        if let Err(error) = self.ledger.leave(&self.name).await {
            tracing::warn!(error = %crate::telemetry::chain(&error), "queues are left to their leases");
        }
    }

    /// Takes part, reads what is due, and books it. Tells how many records that were.
    async fn turn(&self, queued: &mut Queued) -> Result<usize, TurnError> {
        if queued.shared_at.is_none_or(|at| at.elapsed() >= SHARE_EVERY) {
            match self.ledger.share(&self.name, ALIVE).await {
                Ok(leases) => queued.have(leases),
                Err(error) => {
                    // No queue is read while the books are away, so any of them may have grown.
                    self.measure(queued, |_| true).await?;
                    return Err(error.into());
                }
            }
            self.measure(queued, |held| held.pause < QUIET_MAX).await?;
        }
        let taken = self.take(queued).await?;
        if taken.is_empty() {
            return Ok(0);
        }
        let Booking::Done(applied) = self.ledger.apply_from(&taken).await? else {
            queued.shared_at = None;
            return Ok(0);
        };
        self.stats.tell(&applied);
        let mut settled = 0;
        for one in &taken {
            let reached = one.reached(&applied.waiting);
            let booked: Vec<Record> = one
                .records
                .iter()
                .filter(|queued| queued.place <= reached)
                .map(|queued| queued.record.clone())
                .collect();
            settled += booked.len();
            if let Some(held) = queued.held.get_mut(&one.lease.queue) {
                held.lease.booked = reached;
            }
            self.queue.booked(one.lease.queue, reached, &booked).await?;
        }
        Ok(settled)
    }

    async fn take(&self, queued: &mut Queued) -> Result<Vec<Taken>, TurnError> {
        let (mut taken, mut count, now) = (Vec::new(), 0, Instant::now());
        for held in queued.held.values_mut().filter(|held| held.due <= now) {
            if count >= BATCH_RECORDS {
                break;
            }
            let lease = held.lease;
            let records = self.queue.read(lease.queue, lease.booked, QUEUE_RECORDS).await?;
            held.again(now, records.len());
            count += records.len();
            if !records.is_empty() {
                taken.push(Taken { lease, records });
            }
        }
        Ok(taken)
    }

    /// Tells how much waits in the queues that may have something, and how long the oldest of it has.
    async fn measure(&self, queued: &Queued, may_have: impl Fn(&Held) -> bool) -> Result<(), TurnError> {
        let (mut records, mut age_ms) = (0, 0);
        for held in queued.held.values().filter(|held| may_have(held)) {
            let Backlog { records: waiting, since } = self.queue.backlog(held.lease.queue).await?;
            records += waiting;
            age_ms = since.map_or(0, |since| self.clock.now().since(since).ms()).max(age_ms);
        }
        super::gauges::backlog(queued.held.len() as u64, records, age_ms);
        Ok(())
    }
}

impl Queued {
    fn have(&mut self, leases: Vec<Lease>) {
        let mut held = BTreeMap::new();
        for lease in leases {
            let known = self.held.remove(&lease.queue).filter(|known| known.lease.fence == lease.fence);
            let fresh = Held { lease, due: Instant::now(), pause: GATHER };
            held.insert(lease.queue, known.unwrap_or(fresh));
        }
        self.held = held;
        self.shared_at = Some(Instant::now());
    }

    fn until_due(&self) -> Duration {
        let due = self.held.values().map(|held| held.due).min();
        due.map_or(SHARE_EVERY, |due| due.saturating_duration_since(Instant::now()))
    }
}

impl Held {
    fn now(&mut self) {
        self.due = Instant::now();
    }

    /// When it is read next, after so many were found.
    fn again(&mut self, now: Instant, found: usize) {
        self.pause = match found {
            0 => (self.pause * 2).min(QUIET_MAX),
            _ => GATHER,
        };
        let is_full = found >= QUEUE_RECORDS;
        self.due = if is_full { now } else { now + self.pause };
    }
}
