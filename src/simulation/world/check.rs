//! What must hold.

use super::World;
use crate::access::standing::GuardStanding;
use crate::meter::Meter;
use crate::simulation::auditor::{Call, Owner, Use, Violation};
use crate::simulation::node::{USERS, account_id, account_of, at_once, user_id};
use crate::simulation::rules::{Balance, Feature, RULES};

impl World {
    /// What must hold after every step.
    pub(in crate::simulation) fn check(&self) -> Result<(), Violation> {
        let (next, frames) = (self.node.journal.stats().next.value(), self.auditor.frames());
        if next != frames {
            return Err(format!("I10: the journal was given {next} frames and not {frames}"));
        }
        let (holds, open) = (self.node.meter.stats().holds, self.open());
        if holds != open {
            return Err(format!("I9: {holds} holds are open and not {open}"));
        }
        for user in 0..USERS {
            for feature in [Feature::Codex, Feature::Sora] {
                self.check_standing(user, feature)?;
            }
        }
        Ok(())
    }

    pub(in crate::simulation) fn open(&self) -> u64 {
        self.auditor.state.calls.values().filter(|call| call.open).count() as u64
    }

    /// I2, I4, I5: what is left everywhere is what the facts leave.
    fn check_standing(&self, user: usize, feature: Feature) -> Result<(), Violation> {
        let (policy, now) = (&self.policies[self.in_force], self.now());
        let (plan, index) = (policy.plan("plus").unwrap(), policy.feature(feature.name()).unwrap());
        let account = account_of(user);
        let standing =
            at_once(self.node.meter.standing(account_id(account), user_id(user), policy, plan, index));
        let standing = standing.map_err(|error| format!("{error:?}"))?;
        let windows: Vec<u64> = standing.windows.iter().map(|window| window.left.get()).collect();
        let call = self.blank(user, feature, Use::default(), [0; 16]);
        let left = self.auditor.state.left(&call, now);
        if windows != left {
            return Err(format!("I2, I4: windows of user {user} have {windows:?} left and not {left:?}"));
        }
        self.check_cap(&call, &standing.guards, now)?;
        let wallet = Owner { account, user: None };
        for found in standing.balances {
            let name = &policy[found.balance].name;
            let launch = &**name == "launch";
            let (owner, balance) = if launch {
                (Owner { account, user: Some(user) }, Balance::Launch)
            } else {
                (wallet, Balance::Wallet)
            };
            let state = &self.auditor.state;
            let issued = state.grants.iter().any(|grant| grant.issued && grant.owner == owner);
            let offer = if launch && !issued { RULES[self.in_force].launch } else { 0 };
            let expected = (state.available(owner, balance, now) + offer, state.debt(owner, balance));
            let found = (found.available.micros(), found.debt.micros());
            if found != expected {
                return Err(format!("I5, I12: {name} of user {user} has {found:?} and not {expected:?}"));
            }
        }
        Ok(())
    }

    /// Compares the books with what they must say.
    pub(in crate::simulation) fn check_books(&mut self) -> Result<Vec<u64>, Violation> {
        let heads = crate::simulation::books::check(&self.connection, &self.auditor.state)?;
        self.tally.met.insert("booked", heads.iter().sum());
        Ok(heads)
    }

    /// I4: what may be spent is what calls have left of it.
    fn check_cap(&self, call: &Call, guards: &[GuardStanding], now: i64) -> Result<(), Violation> {
        let left = self.auditor.state.cap_left(call, now);
        let found = guards.last().map(|guard| guard.left);
        if found == Some(left) {
            return Ok(());
        }
        Err(format!("I4: user {} may spend {found:?} on {:?} and not {left}", call.user, call.feature))
    }
}
