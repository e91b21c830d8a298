//! Spend caps once more: what was charged, and what open calls may come to.

use super::super::rules::{CAP_MS, DAY_MS, Feature, RULES};
use super::{Call, Id, Owner, State};

impl Call {
    /// Whose cap it is: the account's, or the user's.
    fn capped(&self) -> Owner {
        let user = (self.feature == Feature::Sora).then_some(self.user);
        Owner { account: self.account, user }
    }
}

impl State {
    /// When the present window of a call's cap began, and the sum of all that counts in it.
    pub(super) fn cap_window(&self, call: &Call, now: i64) -> (i64, u64) {
        let same = |other: &&Call| (other.feature, other.capped()) == (call.feature, call.capped());
        let spends = self.calls.values().filter(same).flat_map(|other| &other.spends);
        let counted: Vec<(i64, u64)> = spends.filter(|it| it.1 > 0).copied().collect();
        let start = match call.feature {
            Feature::Sora => now - now.rem_euclid(DAY_MS),
            Feature::Codex => {
                let present = counted.iter().map(|it| it.0).filter(|start| now < start + CAP_MS);
                present.max().unwrap_or(now)
            }
        };
        (start, counted.iter().filter(|it| it.0 == start).map(|it| it.1).sum())
    }

    /// What may still be spent.
    pub(in crate::simulation) fn cap_left(&self, call: &Call, now: i64) -> u64 {
        call.feature.cap(&RULES[call.rules]).saturating_sub(self.cap_window(call, now).1)
    }

    /// Whether a call was held in the newest window of its cap that anything counts in.
    pub(super) fn is_held_there(&self, call: &Call) -> bool {
        let same = |other: &&Call| (other.feature, other.capped()) == (call.feature, call.capped());
        let spends = self.calls.values().filter(same).flat_map(|other| &other.spends);
        let newest = spends.filter(|it| it.1 > 0).map(|it| it.0).max();
        newest.is_some_and(|start| start <= call.held_at)
    }

    /// A call that was not held there came to another charge: what it counts stays, and only more counts now.
    pub(super) fn spend_more(&mut self, before: &Call, now: i64) {
        let Some(mut call) = self.calls.get(&before.id).cloned() else { return };
        call.spends.clone_from(&before.spends);
        let more = call.money.charged.saturating_sub(before.money.charged);
        self.calls.insert(call.id, call.clone());
        call.spends.push((self.cap_window(&call, now).0, more));
        self.calls.insert(call.id, call);
    }

    /// A call came to `charged`: as far as it was reserved it counts where it was, and the rest now.
    pub(super) fn spend(&mut self, id: Id, charged: u64, now: i64) {
        let Some(mut call) = self.calls.get(&id).cloned() else { return };
        let mut rest = charged;
        for (_, amount) in &mut call.spends {
            *amount = rest.min(*amount);
            rest -= *amount;
        }
        self.calls.insert(id, call.clone());
        call.spends.push((self.cap_window(&call, now).0, rest));
        self.calls.insert(id, call);
    }
}
