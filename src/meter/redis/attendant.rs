//! A node's part in the epochs of a store that it shares.
//!
//! A store that was emptied, was started again, or is another server than it was (a failover) may have lost what it
//! acknowledged. Whoever sees that begins a new epoch in the books, and all nodes that are alive go through it together
//! ([`Phase`]): none decides any more; what waits in queues is booked, and from then on nothing of before; one of them,
//! the builder, clears the store and builds it from the books; each fills balances again, of which the books do not know
//! yet; each has the store hold again what it has in flight, and does again what was lost on the way; then all go on. A
//! node that dies in the middle is waited for until it counts as dead, a builder that dies is followed by
//! another, who begins the phase anew. A node that was away meanwhile does its part when it is back.
//!
//! While this goes on requests are refused (503): nobody could tell them truly what is left.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::desk::Office;
use super::epochs::{Word, holding_word, open_word};
use super::kept::Kept;
use super::keys::Partition;
use super::sight::Watch;
use super::{RedisMeter, StoreError, Streams, rebuild};
use crate::journal::{AppendError, NotDurable, ReadError};
use crate::ledger::LedgerError;
use crate::ledger::shared::{Attendance, Epoch, Phase, SharedLedger};
use crate::meter::queue::{Queue, QueueError};
use crate::telemetry::chain;
use crate::units::Span;

/// How often a node says that it is there, and how long that counts.
const TURN_EVERY: Duration = Duration::from_millis(250);
const ALIVE: Span = Span::from_seconds(10);
/// How soon it looks again while an epoch is made.
const HURRY: Duration = Duration::from_millis(50);
/// How long what waits in queues may take to be booked before an epoch goes on without it. Its nodes do it again.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Turns in a row in which the store must not know the epoch before it counts as lost.
const LOSSES_MAX: u32 = 3;
/// Why a new epoch begins.
const LOST: &str = "redis does not know the epoch";
/// How long a node that starts tries again what a store that is slow or away did not do.
const JOIN_MAX: Duration = Duration::from_secs(10);
/// How often a node that waits says for what.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Takes part for a node.
pub struct Attendant {
    meter: Arc<RedisMeter>,
    ledger: Arc<dyn SharedLedger>,
    name: String,
    home: String,
    /// How far this node has come.
    reached: Epoch,
    /// Turns in a row in which the store did not know the epoch.
    losses: u32,
    watch: Watch,
}

/// Why a turn came to nothing; the next one tries again.
#[derive(Debug, thiserror::Error)]
pub enum AttendError {
    /// The books did not answer.
    #[error("the ledger does not tell the epoch")]
    Ledger(#[from] LedgerError),
    /// The store did not do it.
    #[error("redis did not do its part")]
    Store(#[from] StoreError),
    /// A queue could not be read.
    #[error("a queue could not be read")]
    Queue(#[from] QueueError),
    /// The node's journal could not be read.
    #[error("the journal cannot be read")]
    Journal(#[from] ReadError),
    /// The node's journal took no more.
    #[error("the journal takes nothing")]
    Full(#[from] AppendError),
    /// What was noted there did not become durable.
    #[error("the journal does not write")]
    NotDurable(#[source] NotDurable),
    /// A record of it could not be read.
    #[error("a record of the journal cannot be read")]
    Unreadable(#[source] postcard::Error),
    /// The journal's record of what was done again was refused.
    #[error("what was done again is not kept")]
    NotKept(#[from] crate::meter::MeterError),
}

impl Attendant {
    /// Takes part for a node of this name, which no other has; by the books they agree. `home` is what its data folder is
    /// called, also after a restart.
    pub fn new(name: String, home: String, meter: Arc<RedisMeter>, ledger: Arc<dyn SharedLedger>) -> Self {
        let watch = Watch::new(&meter.office.store);
        Self { meter, ledger, name, home, reached: Epoch::default(), losses: 0, watch }
    }

    /// Takes part until the epoch is open. Tells what the node's journal has.
    pub async fn join(&mut self) -> Result<Kept, AttendError> {
        let begun = Instant::now();
        let (mut said, mut kept) = (begun, None);
        loop {
            match self.turn().await {
                Ok(held) => kept = held.or(kept),
                Err(AttendError::Store(StoreError::Lost { .. } | StoreError::Between)) => {}
                // It answered when this node connected.
                Err(AttendError::Store(error)) if error.is_away() && begun.elapsed() < JOIN_MAX => {}
                Err(error) => return Err(error),
            }
            if self.reached.phase == Phase::Open
                && let Some(kept) = kept
            {
                return Ok(kept);
            }
            if said.elapsed() > SAY_EVERY {
                said = Instant::now();
                let Epoch { number, phase } = self.reached;
                tracing::info!(epoch.number = number, epoch.phase = ?phase, "waiting for the other nodes");
            }
            tokio::time::sleep(HURRY).await;
        }
    }

    /// Takes part until `shutdown` is true.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut fails = false;
        loop {
            let hurries = self.reached.phase != Phase::Open || !Watch::sees(&self.meter.office.store);
            tokio::select! {
                () = tokio::time::sleep(if hurries { HURRY } else { TURN_EVERY }) => {}
                () = self.watch.lost(&self.meter.office.store) => {}
                _ = shutdown.wait_for(|stop| *stop) => break,
            }
            match self.turn().await {
                Ok(_) => fails = false,
                Err(error) if !fails => {
                    tracing::error!(error = %chain(&error), "the epoch of live counts is not attended");
                    fails = true;
                }
                Err(_) => {}
            }
        }
        if let Err(error) = self.leave().await {
            tracing::warn!(error = %chain(&error), "the others wait for this node until it counts as dead");
        }
    }

    async fn leave(&self) -> Result<(), AttendError> {
        let degraded = &self.meter.office.degraded;
        if degraded.has_slot() && degraded.all().is_empty() {
            self.ledger.free_slot(&self.home).await?;
        }
        Ok(self.ledger.depart(&self.name).await?)
    }

    /// Says how far this node has come, and does its part of what is to be done next. Tells what its journal has, where it
    /// held that again.
    async fn turn(&mut self) -> Result<Option<Kept>, AttendError> {
        let office = Arc::clone(&self.meter.office);
        if !Watch::sees(&office.store) {
            // Before the books are asked, which may take longer.
            self.watch.look(&office.store).await;
        }
        let seen = match self.ledger.attend(&self.name, ALIVE, self.reached).await {
            Ok(seen) => seen,
            Err(error) => {
                self.watch.look(&office.store).await;
                return Err(error.into());
            }
        };
        let epoch = seen.epoch;
        let done = self.turn_in(seen).await;
        if !matches!(done, Err(AttendError::Store(StoreError::Lost { .. }))) {
            self.losses = 0;
            return done;
        }
        // Another node may have brought the epoch on in this very moment.
        self.losses += 1;
        if self.losses >= LOSSES_MAX {
            self.begin_next(epoch, LOST).await?;
        }
        done
    }

    async fn turn_in(&mut self, seen: Attendance) -> Result<Option<Kept>, AttendError> {
        let Office { epochs, store, .. } = &*Arc::clone(&self.meter.office);
        let epoch = seen.epoch;
        if epoch.number != self.reached.number {
            if self.reached.phase == Phase::Open {
                tracing::warn!(epoch.number, "live counts are built anew: requests are refused until then");
            }
            epochs.close();
            self.meter.began().end();
            self.reached = Epoch { number: epoch.number, phase: Phase::Closing };
            metrics::gauge!("overfall_epoch_open").set(0.0);
        }
        let mut kept = None;
        if epoch.phase >= Phase::Granting && !self.watch.is_on(store, &seen.store).await? {
            return self
                .begin_next(epoch, "redis was started again, or is another server")
                .await
                .map(|()| None);
        }
        match epoch.phase {
            Phase::Closing if seen.is_builder && seen.is_joined => self.end_closing(epoch).await?,
            Phase::Building if seen.is_builder => self.build(epoch).await?,
            Phase::Granting if self.reached < epoch => {
                self.begin_to_hold(holding_word(epoch.number)).await?;
                self.meter.grant_again(&*self.ledger, epoch.number).await?;
                self.reached = epoch;
            }
            Phase::Granting if seen.is_builder && seen.is_joined => {
                self.ledger.move_epoch(epoch, &seen.store).await?;
            }
            Phase::Holding if self.reached < epoch => {
                kept = Some(self.hold_again(holding_word(epoch.number), epoch).await?);
                self.reached = epoch;
            }
            Phase::Holding if seen.is_builder && seen.is_joined => {
                rebuild::rename_epoch(store, &open_word(epoch.number)).await?;
                self.ledger.move_epoch(epoch, &seen.store).await?;
            }
            Phase::Open if self.reached < epoch => {
                if self.reached.phase < Phase::Holding {
                    kept = Some(self.hold_again(open_word(epoch.number), epoch).await?);
                }
                epochs.open(epoch.number);
                self.reached = epoch;
                tracing::info!(epoch.number, "live counts are complete");
                metrics::gauge!("overfall_epoch_open").set(1.0);
            }
            Phase::Open if epochs.is_lost() => self.begin_next(epoch, LOST).await?,
            Phase::Open => {
                rebuild::know(store, Partition::any(), &open_word(epoch.number)).await?;
                self.meter.take_in().await?;
                self.take_slot().await?;
            }
            Phase::Closing | Phase::Building | Phase::Granting | Phase::Holding => {}
        }
        Ok(kept)
    }

    /// Takes a place among those who may give something while the store is away. Only while it is there: a place that is
    /// free then is one of whose node everything is counted.
    async fn take_slot(&self) -> Result<(), AttendError> {
        let degraded = &self.meter.office.degraded;
        if let (Some(allowance), false) = (degraded.allowance, degraded.has_slot()) {
            degraded.set_slot(self.ledger.take_slot(&self.home, allowance.max_nodes).await?);
            metrics::gauge!("overfall_degraded_slot").set(f64::from(u8::from(degraded.has_slot())));
            metrics::gauge!("overfall_degraded_limit_microcredits").set(allowance.most_micros());
        }
        Ok(())
    }

    async fn hold_again(&self, word: Word, epoch: Epoch) -> Result<Kept, AttendError> {
        self.begin_to_hold(word).await?;
        self.meter.hold_again(&*self.ledger, epoch.number).await
    }

    async fn begin_to_hold(&self, word: Word) -> Result<(), StoreError> {
        let Office { epochs, store, .. } = &*self.meter.office;
        rebuild::know_all(store, &word).await?;
        epochs.hold(word);
        Ok(())
    }

    async fn begin_next(&mut self, epoch: Epoch, why: &str) -> Result<(), AttendError> {
        self.losses = 0;
        tracing::warn!(epoch.number, why, "a new epoch of live counts begins");
        Ok(self.ledger.begin_epoch(epoch.number, why).await?)
    }

    /// Lets nobody step by the former epoch any more, and waits until what it left in the queues is booked.
    async fn end_closing(&self, epoch: Epoch) -> Result<(), AttendError> {
        rebuild::name_epoch(&self.meter.office.store, &holding_word(epoch.number)).await?;
        let (streams, begun) = (Streams::new(self.meter.office.store.clone()), Instant::now());
        while begun.elapsed() < DRAIN_MAX && self.is_queued(&streams).await? {
            self.ledger.attend(&self.name, ALIVE, self.reached).await?;
            tokio::time::sleep(HURRY).await;
        }
        // What is not booked by now is done again: nobody may find it here and book it all the same.
        rebuild::drop_queues(&self.meter.office.store).await?;
        self.ledger.move_epoch(epoch, "").await?;
        Ok(())
    }

    /// Whether something in a queue is not booked.
    async fn is_queued(&self, streams: &Streams) -> Result<bool, AttendError> {
        for (partition, place) in Partition::all().zip(self.ledger.places().await?) {
            if !streams.read(partition.number(), place, 1).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn build(&self, epoch: Epoch) -> Result<(), AttendError> {
        let (store, word) = (&self.meter.office.store, holding_word(epoch.number));
        let servers = store.servers().await?;
        store.clear().await?;
        rebuild::name_epoch(store, &word).await?;
        let building = rebuild::build(&self.meter.office, &word, &*self.ledger);
        let attending = async {
            loop {
                tokio::time::sleep(TURN_EVERY).await;
                if let Err(error) = self.ledger.attend(&self.name, ALIVE, self.reached).await {
                    return error;
                }
            }
        };
        tokio::select! {
            built = building => {
                let accounts = built?;
                tracing::info!(epoch.number = epoch.number, accounts, "live counts are built from the books");
            }
            error = attending => return Err(error.into()),
        }
        rebuild::know_all(store, &word).await?;
        self.ledger.move_epoch(epoch, &servers).await?;
        Ok(())
    }
}
