//! Ends that the store has not taken: they are tried again until it does.
//!
//! A call that has ended is not forgotten because the store is away: its truth waits here, in memory, and its hold stays
//! in the journal. The verb keeps its id, so an end that was carried out without an answer is found to be its own. What
//! still waits when the process ends is charged at its floor by the next start. No more can wait than were in flight,
//! since nothing new is let through while the store is away.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::desk::{Desk, Office};
use super::keys::RowKey;
use super::log::Log;
use super::sheet::Sheet;
use super::verbs::finish;
use super::{RedisMeter, StoreError};
use crate::access::Demand;
use crate::access::record::{EndRecord, Ending, Record};
use crate::journal::Ticket;
use crate::meter::MeterError;
use crate::telemetry::chain;
use crate::units::{AccountId, DecisionId};

const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What ends a hold.
#[derive(Clone)]
pub(super) struct End {
    pub(super) decision: DecisionId,
    /// The verb, which knows its own work by this.
    pub(super) by: u64,
    pub(super) used: Demand,
    pub(super) ending: Ending,
}

/// Ends that wait for the store. Clones are one.
#[derive(Clone, Default)]
pub struct Owed(TaskTracker);

impl Owed {
    /// How many wait.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Waits until none does, at most so long. Tells how many are left.
    pub async fn settle(&self, longest: Duration) -> usize {
        self.0.close();
        let _late = tokio::time::timeout(longest, self.0.wait()).await;
        self.0.len()
    }
}

impl End {
    /// Has the store end it, and the journal keep that.
    pub(super) async fn carry_out(
        &self,
        desk: &Arc<Desk>,
        office: &Arc<Office>,
        log: &Log,
    ) -> Result<(Box<EndRecord>, Ticket), MeterError> {
        let Self { decision, by, used, ending } = self.clone();
        let lent = office.degraded.lent(decision);
        let user = lent.iter().map(|lent| RowKey::User(lent.hold.user));
        let rows: Vec<_> = user.chain([RowKey::Hold(decision)]).collect();
        let end = move |sheet: &mut Sheet| {
            if let Some(lent) = &lent
                && sheet.account.hold_of(decision).is_none()
                && !sheet.has_ended(decision)
            {
                sheet.account.take_up_again(lent.hold.clone(), lent.terms.clone());
            }
            finish(sheet, by, decision, used.clone(), ending.clone())
        };
        let ended = match office.epochs.word() {
            Ok(epoch) => desk.ask(office, epoch, &rows, end).await,
            Err(between) => Err(between),
        };
        let ended = ended.map_err(MeterError::Store)?;
        office.degraded.taken_in(decision);
        log.closed();
        let Ok(end) = ended else {
            log.is_over(decision);
            return Err(MeterError::NoSuchHold);
        };
        let ticket = log.append(&Record::End(end.clone()))?;
        Ok((end, ticket))
    }
}

impl RedisMeter {
    /// Ends a hold; where the store does not do it, now or later. It is done whether or not anybody waits for it.
    pub(super) async fn end(
        &self,
        account: AccountId,
        end: End,
    ) -> Result<(Box<EndRecord>, Ticket), MeterError> {
        let (desk, office, log) = (self.desk(account), Arc::clone(&self.office), Arc::clone(&self.log));
        let (reply, answer) = oneshot::channel();
        let ending = async move {
            let ended = end.carry_out(&desk, &office, &log).await;
            let waits = matches!(&ended, Err(error) if is_passing(error));
            let _gone = reply.send(ended);
            if waits {
                end.carry_out_at_last(&desk, &office, &log).await;
            }
        };
        self.owed.0.spawn_on(ending, &self.office.runtime);
        answer.await.unwrap_or(Err(MeterError::Store(StoreError::LeftAlone)))
    }
}

impl End {
    async fn carry_out_at_last(&self, desk: &Arc<Desk>, office: &Arc<Office>, log: &Log) {
        let mut pause = PAUSE_MIN;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            match self.carry_out(desk, office, log).await {
                Ok(_) => return,
                Err(MeterError::NoSuchHold) => {
                    tracing::warn!(decision.id = %self.decision, "a call was ended before its end could be told");
                    return;
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    let error = chain(&error);
                    tracing::error!(decision.id = %self.decision, %error, "the end of a call is not kept");
                    return;
                }
            }
        }
    }
}

/// Whether the store may do it another time.
const fn is_passing(error: &MeterError) -> bool {
    match error {
        MeterError::Store(error) => !matches!(error, StoreError::Unreadable { .. }),
        _ => false,
    }
}
