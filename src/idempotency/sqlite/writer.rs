//! The thread: takes what waits, does it in one transaction, and answers once that is durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::connection::{self, Syncs};
use super::metrics;
use super::queue::{Queue, Work};
use super::table::Table;
use crate::idempotency::{Answer, AnswersError, Claimed, End, Ended, Interrupted};
use crate::telemetry::chain;
use crate::units::time::Clock;
use crate::units::{Span, Timestamp};

/// Pieces of work in one transaction.
const BATCH: usize = 256;
/// How often the thread looks for what is too old.
const SWEEP_EVERY: Span = Span::from_seconds(1);

pub(super) struct Writer {
    path: PathBuf,
    syncs: Syncs,
    clock: Clock,
    queue: Arc<Queue>,
    /// None after an error.
    connection: Option<Connection>,
    table: Table,
    /// Ends that could not be written, without their answers. As many as there are calls with a key, at most.
    pending: Vec<Ended>,
    swept_at: Timestamp,
    failing: bool,
}

/// What a transaction has found, to be told once it is durable.
enum Found {
    Claimed(Claimed),
    Answer(Option<Answer>),
    Interrupted(Vec<Interrupted>),
    Nothing,
}

impl Writer {
    pub(super) fn new(
        path: &Path,
        syncs: Syncs,
        clock: Clock,
        queue: Arc<Queue>,
        connection: Connection,
        table: Table,
    ) -> Self {
        Self {
            path: path.to_owned(),
            syncs,
            clock,
            queue,
            connection: Some(connection),
            table,
            pending: Vec::new(),
            swept_at: Timestamp::from_ms(0),
            failing: false,
        }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let pause = Duration::from_millis(SWEEP_EVERY.ms());
        let mut more_to_sweep = true;
        while let Some(batch) = self.queue.take(BATCH, if more_to_sweep { Duration::ZERO } else { pause }) {
            let now = self.clock.now();
            let sweeps = batch.is_empty() || more_to_sweep || now.since(self.swept_at) >= SWEEP_EVERY;
            more_to_sweep = self.carry_out(batch, sweeps.then_some(now));
        }
        if !self.pending.is_empty() {
            // What they stood for is found on the books at the next start.
            tracing::error!(keys = self.pending.len(), "ends of calls with idempotency keys are not written");
        }
    }

    /// Does a batch, and tells those who wait. Whether there is more to sweep.
    fn carry_out(&mut self, batch: Vec<Work>, sweeps: Option<Timestamp>) -> bool {
        match self.transact(&batch, sweeps) {
            Ok((found, more)) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the store of answers can be written again");
                }
                self.pending.clear();
                self.table.tell();
                tell(batch, found);
                more
            }
            Err(error) => {
                self.fail(batch, error);
                false
            }
        }
    }

    /// All of it or, on an error, none.
    fn transact(
        &mut self,
        batch: &[Work],
        sweeps: Option<Timestamp>,
    ) -> rusqlite::Result<(Vec<Found>, bool)> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            empty => empty.insert(connection::reopen(&self.path, self.syncs)?),
        };
        let mut table = self.table.clone();
        let within = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for ended in &self.pending {
            table.end(&within, ended)?;
        }
        let mut found = Vec::with_capacity(batch.len());
        for work in batch {
            found.push(match work {
                Work::Claim(claim, _) => Found::Claimed(table.claim(&within, claim)?),
                Work::Answer(key, decision, _) => Found::Answer(Table::answer(&within, *key, *decision)?),
                Work::End(ended) => {
                    table.end(&within, ended)?;
                    Found::Nothing
                }
                Work::Interrupted(_) => Found::Interrupted(Table::interrupted(&within)?),
            });
        }
        let more = match sweeps {
            Some(now) => {
                self.swept_at = now;
                table.sweep(&within, now)?
            }
            None => table.shrink(&within)?,
        };
        within.commit()?;
        self.table = table;
        Ok((found, more))
    }

    /// Refuses those who wait, and keeps the ends for later: they need no answer to say that the call is over.
    fn fail(&mut self, batch: Vec<Work>, error: rusqlite::Error) {
        metrics::failed();
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(error = %chain(&error), "the store of answers cannot be written");
        }
        self.connection = None;
        let error = AnswersError::Unavailable(Arc::new(error));
        // Nobody listens where the caller was cancelled.
        for work in batch {
            match work {
                Work::Claim(_, answer) => drop(answer.send(Err(error.clone()))),
                Work::Answer(.., answer) => drop(answer.send(Err(error.clone()))),
                Work::Interrupted(answer) => drop(answer.send(Err(error.clone()))),
                Work::End(mut ended) => {
                    if matches!(ended.end, End::Answered(_)) {
                        ended.end = End::NotKept;
                    }
                    self.pending.push(ended);
                }
            }
        }
    }
}

impl Drop for Writer {
    /// A panic must not leave anybody waiting.
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

/// Tells what was found. Nobody listens where the caller was cancelled.
fn tell(batch: Vec<Work>, found: Vec<Found>) {
    for (work, found) in batch.into_iter().zip(found) {
        match (work, found) {
            (Work::Claim(_, answer), Found::Claimed(claimed)) => drop(answer.send(Ok(claimed))),
            (Work::Answer(.., answer), Found::Answer(found)) => drop(answer.send(Ok(found))),
            (Work::Interrupted(answer), Found::Interrupted(found)) => drop(answer.send(Ok(found))),
            _ => {}
        }
    }
}
