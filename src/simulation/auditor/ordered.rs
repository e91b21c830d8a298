//! What operators order, once more: what was charged is given back, calls are priced anew, balances adjusted.

use super::super::rules::{Balance, Layer};
use super::walk::Kept;
use super::{Auditor, Change, Id, Money, Owner, Source, State, What};

/// What of a balance an operator adjusts.
#[derive(Clone, Copy, Debug)]
pub(in crate::simulation) enum Of {
    /// What is left of a grant.
    Grant(Id),
    /// What an account owes, and the most that it may.
    Debt(usize, u64),
}

impl Auditor {
    /// Gives back a part of what a call was charged; nothing where that much cannot be.
    pub(in crate::simulation) fn refunded(
        &mut self,
        id: Id,
        order: Id,
        amount: u64,
        now: i64,
    ) -> Option<Money> {
        let money = self.state.refund(id, amount, now)?;
        self.state.ordered.push(order);
        self.framed();
        Some(money)
    }

    /// Prices a call by other rules; nothing where its debt has been repaid since.
    pub(in crate::simulation) fn repriced(&mut self, id: Id, rules: usize, now: i64) -> Option<Money> {
        let call = self.state.calls.get_mut(&id)?;
        let was = std::mem::replace(&mut call.priced, rules);
        let Money { forgiven, charged, .. } = call.money;
        let (used, refunded) = (call.used, call.refunded);
        let kept = Kept { refunded, forgiven: forgiven - refunded, charged };
        let money = self.state.again(id, used, kept, now);
        match money {
            Some(_) => self.framed(),
            None => self.state.calls.get_mut(&id)?.priced = was,
        }
        money
    }

    /// Adjusts a balance; nothing where that is not to be. Tells what was paid of a debt.
    pub(in crate::simulation) fn adjusted(
        &mut self,
        of: Of,
        order: Id,
        amount: i64,
        now: i64,
    ) -> Option<u64> {
        let repaid = self.state.adjust(of, order, amount, now)?;
        self.state.ordered.push(order);
        self.framed();
        Some(repaid)
    }
}

impl State {
    fn refund(&mut self, id: Id, amount: u64, now: i64) -> Option<Money> {
        let before = self.calls[&id].clone();
        if amount == 0 || amount > before.money.charged {
            return None;
        }
        let wallet = (Owner { account: before.account, user: None }, Balance::Wallet);
        let (mut after, mut rest) = (before.clone(), amount);
        let mut owed = self.debt(wallet.0, wallet.1);
        for take in after.takes.iter_mut().filter(|take| take.source == Source::Debt) {
            let part = take.amount.min(rest).min(owed);
            (take.amount, rest, owed) = (take.amount - part, rest - part, owed - part);
        }
        for take in after.takes.iter_mut().rev().filter(|take| matches!(take.source, Source::Grant(_))) {
            let part = take.amount.min(rest);
            (take.amount, rest) = (take.amount - part, rest - part);
        }
        if rest > 0 {
            return None;
        }
        after.takes.retain(|take| take.amount > 0);
        if self.is_held_there(&before) {
            let mut less = amount;
            for (_, counted) in &mut after.spends {
                let part = less.min(*counted);
                (*counted, less) = (*counted - part, less - part);
            }
        }
        after.money.charged -= amount;
        after.money.forgiven += amount;
        after.refunded += amount;
        after.revision += 1;
        let (money, outcome, revision, tier) = (after.money, after.outcome, after.revision, after.used.tier);
        self.calls.insert(id, after);
        let mut changes = self.moves(&before, id);
        self.give_back(&mut changes, now);
        self.book(before.account, now, What::Call { id, outcome, tier, money, revision }, changes);
        Some(money)
    }

    /// Carries moves out, and tells too what expired of them and what they repaid.
    fn give_back(&mut self, changes: &mut Vec<Change>, now: i64) {
        for change in changes.iter() {
            let amount = change.amount.unsigned_abs();
            match change.grant {
                None => *self.debts.entry((change.owner, change.balance)).or_default() -= amount,
                Some(grant) => {
                    if let Some(it) = self.grants.iter_mut().find(|it| it.id == grant) {
                        it.left += amount;
                    }
                }
            }
        }
        let mut touched: Vec<_> = changes.iter().map(|change| (change.owner, change.balance)).collect();
        touched.dedup();
        for (owner, balance) in touched {
            changes.extend(self.expire(owner, balance, now));
            changes.extend(self.repay(owner, balance, now));
        }
    }

    fn adjust(&mut self, of: Of, order: Id, amount: i64, now: i64) -> Option<u64> {
        let (more, less) = (amount.max(0).unsigned_abs(), amount.min(0).unsigned_abs());
        let wallet = |account| (Owner { account, user: None }, Balance::Wallet);
        if amount == 0 {
            return None;
        }
        let (owner, balance, grant, repaid) = match of {
            Of::Grant(id) => {
                let it = self.grants.iter().find(|it| it.id == id)?;
                if it.expires <= now || less > it.left - self.reserved(id) {
                    return None;
                }
                (it.owner, it.balance, Some(id), self.debt(it.owner, it.balance).min(more))
            }
            Of::Debt(account, most) => {
                let (owner, balance) = wallet(account);
                let owed = self.debt(owner, balance);
                let free = self.available(owner, balance, now);
                if more > owed || less > 0 && (free > 0 || owed + less > most) {
                    return None;
                }
                (owner, balance, None, 0)
            }
        };
        let change = |grant, amount| Change { owner, balance, kind: "adjustment", grant, amount };
        let mut changes =
            vec![change(grant, amount - repaid.cast_signed()), change(None, repaid.cast_signed())];
        changes.retain(|change| change.amount != 0);
        let debt = self.debts.entry((owner, balance)).or_default();
        match grant.and_then(|id| self.grants.iter_mut().find(|it| it.id == id)) {
            Some(it) => {
                *debt -= repaid;
                it.left = it.left + more - less - repaid;
            }
            None => *debt = *debt + less - more,
        }
        self.book(owner.account, now, What::Adjustment { id: order, amount }, changes);
        Some(repaid)
    }

    /// The balance of a grant, for whoever orders something of it.
    pub(in crate::simulation) fn balance_of(&self, grant: Id) -> Option<(Owner, Balance, u16, i64)> {
        let it = self.grants.iter().find(|it| it.id == grant)?;
        Some((it.owner, it.balance, it.priority, it.expires))
    }

    /// Whether a layer of a call is a balance that it drew from.
    pub(in crate::simulation) fn drew(&self, id: Id) -> bool {
        let call = &self.calls[&id];
        let layers = call.feature.layers();
        call.takes.iter().any(|take| matches!(layers[take.layer], Layer::Balance(_)))
    }
}
