//! The sweeper's part of the embedded meter: deadlines of holds, expiry of grants.

use std::cmp::Reverse;

use super::{MemoryMeter, lock};
use crate::access::Account;
use crate::access::record::Record;
use crate::meter::{MeterError, Swept};
use crate::units::{DecisionId, Timestamp};

impl MemoryMeter {
    pub(super) fn sweep_now(&self) -> Result<Swept, MeterError> {
        let now = self.live.clock.now();
        let mut swept = Swept::default();
        // The oldest first, so that the same holds always end in the same order.
        let mut open = self.open();
        open.sort_unstable_by_key(|(decision, _)| *decision);
        for (decision, account) in open {
            self.expire_hold(&mut lock(&account), decision, now, &mut swept)?;
        }
        self.expire_grants(now, &mut swept)?;
        Ok(swept)
    }

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
        let (used, ending) = hold.at_deadline();
        if hold.dispatched && !hold.makes_video() {
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
