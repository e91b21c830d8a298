//! The sweeper's part of the embedded meter: deadlines of holds, expiry of grants.

use std::cmp::Reverse;

use super::{MemoryMeter, lock};
use crate::access::record::{Ending, Grade, JobKind, Outcome, Record};
use crate::access::{Account, Demand, Hold};
use crate::meter::{MeterError, Swept};
use crate::units::{DecisionId, Timestamp};
use crate::units::planted::{Bug, planted};

impl MemoryMeter {
    pub(super) fn sweep_now(&self) -> Result<Swept, MeterError> {
        let now = self.live.clock.now();
        let mut swept = Swept::default();
        for (decision, account) in self.open() {
            self.expire_hold(&mut lock(&account), decision, now, &mut swept)?;
        }
        self.expire_grants(now, &mut swept)?;
        Ok(swept)
    }

    /// Past its deadline a hold that never left is given back, and so is a video's: nobody pays for one that is not
    /// known to be whole. Any other that left is charged at its floor.
    fn expire_hold(
        &self,
        account: &mut Account,
        decision: DecisionId,
        now: Timestamp,
        swept: &mut Swept,
    ) -> Result<(), MeterError> {
        let Some(hold) = account.hold_of(decision).filter(|hold| hold.expires_at <= now) else {
            return Ok(());
        };
        let video = hold.job.as_ref().is_some_and(|job| job.kind == JobKind::Video);
        let (used, ending) = match hold.dispatched && !planted(Bug::SweepVoidsWhatLeft) {
            true if video => (Demand::nothing(), at_floor(hold, Outcome::Expired).1),
            true => at_floor(hold, Outcome::Expired),
            false => (Demand::nothing(), Ending::not_sent()),
        };
        if hold.dispatched && !video {
            swept.floored += 1;
        } else {
            swept.voided += 1;
        }
        let _unawaited = self.end(account, decision, used, ending, now)?;
        Ok(())
    }

    fn expire_grants(&self, now: Timestamp, swept: &mut Swept) -> Result<(), MeterError> {
        while let Some(id) = self.due_expiry(now) {
            let account = self.live.account(id);
            let mut account = lock(&account);
            for record in account.expire_grants(now) {
                swept.expired += record.grants.len() as u64;
                let _unawaited = self.journal(&Record::Expiry(record)).map_err(MeterError::Journal)?;
            }
            self.live.watch_expiry(&account);
        }
        Ok(())
    }

    fn due_expiry(&self, now: Timestamp) -> Option<crate::units::AccountId> {
        let mut expiries = lock(&self.live.expiries);
        let due = expiries.peek().is_some_and(|Reverse((at, _))| *at <= now);
        if due { expiries.pop().map(|Reverse((_, id))| id) } else { None }
    }
}

/// The floor of a hold that nobody told the end of: its input estimate.
pub(super) fn at_floor(hold: &Hold, outcome: Outcome) -> (Demand, Ending) {
    let mut quantities = hold.demand.quantities.clone();
    quantities.output_tokens = 0;
    if planted(Bug::FloorForgetsInput) {
        quantities.input_tokens = 0;
    }
    // What was priced once is priced again; a floor that could not be is charged as it was held.
    let used = hold.terms.estimate(quantities).unwrap_or_else(|_| hold.demand.clone());
    let ending = Ending {
        outcome,
        grade: Grade::Floor,
        reached_upstream: true,
        status: None,
        tier: hold.terms.tier.clone(),
        resource: hold.job.as_ref().map(|job| job.resource.clone()),
    };
    (used, ending)
}
