//! What was under way when the gateway died: the books tell whether it was charged.
//!
//! A key without a hold on the books never left the gateway, and is free again; so is one whose call charged nothing.
//! All others are told the decision. Until the books are up to date the keys stay taken: "come back in a second".

use std::time::Duration;

use super::{Idempotency, Taken};
use crate::idempotency::{AnswersError, End, Ended, Interrupted};
use crate::ledger::{Ledger, LedgerError};
use crate::meter::{Meter, MeterError};
use crate::settle::Progress;
use crate::telemetry::chain;

/// Between two tries, where a store does not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why it is not known yet what was charged.
#[derive(Debug, thiserror::Error)]
enum ResolveError {
    #[error("the keys of interrupted calls cannot be read")]
    Answers(#[from] AnswersError),
    #[error("the meter does not tell which calls go on")]
    Meter(#[from] MeterError),
    #[error("the ledger does not tell how a call ended")]
    Ledger(#[from] LedgerError),
}

impl Idempotency {
    /// Ends the keys of the calls that were under way when the gateway died, however long the books take to tell.
    pub(in crate::proxy) async fn resolve(
        &self,
        meter: &dyn Meter,
        ledger: &dyn Ledger,
        progress: &Progress,
    ) {
        while let Err(error) = self.try_resolve(meter, ledger, progress).await {
            tracing::warn!(error = %chain(&error), "interrupted calls keep their idempotency keys for now");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn try_resolve(
        &self,
        meter: &dyn Meter,
        ledger: &dyn Ledger,
        progress: &Progress,
    ) -> Result<(), ResolveError> {
        let mut ended = Vec::new();
        for call in self.answers.interrupted().await? {
            // Its answer is lost, whatever it will come to.
            if meter.in_flight(call.account, call.decision).await?.is_some() {
                self.end(call, End::Unanswered);
            } else {
                ended.push(call);
            }
        }
        progress.caught_up().await;
        for call in ended {
            let booked = ledger.decision(call.decision).await?;
            let charged = booked.is_some_and(|row| !Taken::is_freed_by(row.outcome));
            self.end(call, if charged { End::Unanswered } else { End::Free });
        }
        Ok(())
    }

    fn end(&self, call: Interrupted, end: End) {
        self.answers.end(Ended { key: call.key, decision: call.decision, end, place: None });
    }
}
