//! What operators order: refunds, other prices, adjustments; each by the way of the operator's API.

use super::super::auditor::{Id, Of, Owner, Violation};
use super::super::node::{account_id, at_once, user_id};
use super::super::rules::{Balance, CREDIT, RULES};
use super::super::world::{World, charge_is};
use super::pick;
use crate::access::balance::GrantState;
use crate::access::{Adjusted, AdjustmentOrder, RefundOrder, Repriced, Revision};
use crate::ledger::Ledger;
use crate::meter::{Adjusting, Meter, Revised};
use crate::policy::compiled::CounterKey;
use crate::settle::truths::repriced;
use crate::units::{Credits, DecisionId, GrantId, OrderId, SignedCredits, Timestamp};

/// An order that may be given again.
#[derive(Clone, Copy, Debug)]
pub(in crate::simulation) enum Order {
    /// So much of a call.
    Refund(Id, Id, u64),
    /// So much more or less of a balance.
    Adjustment(Id, Of, i64),
}

impl World {
    /// An operator gives back a part of what some call was charged.
    pub(in crate::simulation) fn act_refund(&mut self, a: u32, b: u32) -> Result<(), Violation> {
        let Some(call) = self.ended(a) else { return Ok(()) };
        let charged = self.auditor.state.calls[&call].money.charged;
        // All, a part, or more than there is.
        let amount = match b % 4 {
            0 => charged,
            1 => charged + u64::from(b % 3),
            _ => u64::from(b) % (charged + 1),
        };
        let order = Order::Refund(self.name(), call, amount);
        self.ordered.push(order);
        self.order_again(order)
    }

    /// An operator sends an order again.
    pub(in crate::simulation) fn act_order_again(&mut self, a: u32) -> Result<(), Violation> {
        let Some(order) = pick(&self.ordered, a).copied() else { return Ok(()) };
        self.order_again(order)
    }

    fn order_again(&mut self, order: Order) -> Result<(), Violation> {
        match order {
            Order::Refund(id, call, amount) => self.refund(id, call, amount),
            Order::Adjustment(id, of, amount) => self.adjust(id, of, amount),
        }
    }

    /// A call that has ended and was booked, or may be on its way.
    fn ended(&self, a: u32) -> Option<Id> {
        let calls = self.auditor.state.calls.values().filter(|call| !call.open && call.revision > 0);
        let calls: Vec<Id> = calls.map(|call| call.id).filter(|id| self.auditor.state.drew(*id)).collect();
        pick(&calls, a).copied()
    }

    fn refund(&mut self, order: Id, call: Id, amount: u64) -> Result<(), Violation> {
        let failed = |error: &dyn std::fmt::Debug| format!("{error:?}");
        let id = OrderId::from_bytes(order);
        if at_once(self.node.ledger.refund(id)).map_err(|error| failed(&error))?.is_some() {
            let is_known = self.auditor.state.ordered.contains(&order);
            return if is_known {
                Ok(())
            } else {
                Err("I10: the books have a refund that is lost".to_owned())
            };
        }
        let order_of = RefundOrder {
            id,
            amount: Credits::from_micros(amount),
            idempotency_key: hex::encode(order).into(),
            reason: "an outage".into(),
        };
        let Some((revised, is_behind)) = self.revise(call, order, |_| Some(Revision::Refund(order_of)))?
        else {
            return Ok(());
        };
        let expected = if is_behind { None } else { self.auditor.refunded(call, order, amount, self.now()) };
        self.tell(&format!("{amount} of {} are given back: {expected:?}", hex::encode(&call[12..])));
        self.tally.count("refunds asked");
        self.compare(revised, is_behind, expected)
    }

    /// An operator prices a call by the other rules.
    pub(in crate::simulation) fn act_rerate(&mut self, a: u32, b: u32) -> Result<(), Violation> {
        let given_back = self.auditor.state.calls.values().filter(|call| call.refunded > 0);
        let given_back: Vec<Id> = given_back.map(|call| call.id).collect();
        let given_back = pick(&given_back, a).copied().filter(|_| b.is_multiple_of(2));
        let Some(call) = given_back.or_else(|| self.ended(a)) else { return Ok(()) };
        let rules = 1 - self.auditor.state.calls[&call].priced;
        let policy = std::sync::Arc::clone(&self.policies[rules]);
        let version = policy.version;
        let price = |row: &crate::ledger::rows::DecisionRow| {
            let used = repriced(row, &policy).filter(|_| row.priced_by != version)?;
            Some(Revision::Price(Repriced { used, policy: version, reason: "a wrong price".into() }))
        };
        let Some((revised, is_behind)) = self.revise(call, [0; 16], price)? else { return Ok(()) };
        let expected = if is_behind { None } else { self.auditor.repriced(call, rules, self.now()) };
        self.tell(&format!("{} is priced by {rules}: {expected:?}", hex::encode(&call[12..])));
        self.tally.count("prices asked");
        self.compare(revised, is_behind, expected)
    }

    /// Asks for the next revision of a booked call, and tells whether the books are behind.
    fn revise(
        &mut self,
        call: Id,
        order: Id,
        revision: impl FnOnce(&crate::ledger::rows::DecisionRow) -> Option<Revision>,
    ) -> Result<Option<(Revised, bool)>, Violation> {
        let failed = |error: &dyn std::fmt::Debug| format!("{error:?}");
        let decision = DecisionId::from_bytes(call);
        let row = at_once(self.node.ledger.decision(decision)).map_err(|error| failed(&error))?;
        let Some(row) = row else { return Ok(None) };
        let granted = at_once(self.node.ledger.grants(row.account)).map_err(|error| failed(&error))?;
        let prior = at_once(self.node.truths.prior(&row, &granted)).map_err(|error| failed(&error))?;
        let prior = prior.ok_or("I11: the books do not have the policy of a call")?;
        let known = &self.auditor.state.calls[&call];
        let is_behind = known.revision > row.revision || self.auditor.state.ordered.contains(&order);
        let Some(revision) = revision(&row) else { return Ok(None) };
        let revised = at_once(self.node.meter.revise(account_id(known.account), prior, revision));
        Ok(Some((revised.map_err(|error| failed(&error))?, is_behind)))
    }

    fn compare(
        &mut self,
        revised: Revised,
        is_behind: bool,
        expected: Option<super::super::auditor::Money>,
    ) -> Result<(), Violation> {
        match (revised, expected) {
            (Revised::Now(told, ticket), Some(money)) if charge_is(&told.charge, money) => {
                self.awaited.push((self.auditor.frames(), ticket));
                self.tally.count("revisions");
                Ok(())
            }
            (Revised::Behind, None) if is_behind => Ok(()),
            (Revised::Not(_), None) if !is_behind => Ok(()),
            (revised, expected) => Err(format!("I6, I7: {revised:?} and not {expected:?}")),
        }
    }

    /// An operator adjusts what is left of a grant, or what an account owes.
    pub(in crate::simulation) fn act_adjust(&mut self, a: u32, b: u32, c: u32) -> Result<(), Violation> {
        let grants: Vec<Id> = self.auditor.state.grants.iter().map(|it| it.id).collect();
        let of = match pick(&grants, a) {
            Some(grant) if !c.is_multiple_of(4) => Of::Grant(*grant),
            _ => Of::Debt(a as usize % super::super::node::ACCOUNTS, RULES[self.in_force].debt),
        };
        let amount = i64::from(b % 20_000_000) - 10 * CREDIT.cast_signed();
        let order = Order::Adjustment(self.name(), of, amount);
        self.ordered.push(order);
        self.order_again(order)
    }

    fn adjust(&mut self, order: Id, of: Of, amount: i64) -> Result<(), Violation> {
        let failed = |error: &dyn std::fmt::Debug| format!("{error:?}");
        let id = OrderId::from_bytes(order);
        let is_known = self.auditor.state.ordered.contains(&order);
        if at_once(self.node.ledger.adjustment(id)).map_err(|error| failed(&error))?.is_some() {
            return if is_known {
                Ok(())
            } else {
                Err("I10: the books have an adjustment that is lost".to_owned())
            };
        }
        let (owner, balance, what) = match of {
            Of::Grant(grant) => {
                let Some((owner, balance, priority, expires)) = self.auditor.state.balance_of(grant) else {
                    return Ok(());
                };
                let (id, remaining, held) = (GrantId::from_bytes(grant), Credits::ZERO, Credits::ZERO);
                let expires_at = Timestamp::from_ms(expires);
                (owner, balance, Adjusted::Grant(GrantState { id, priority, expires_at, remaining, held }))
            }
            Of::Debt(account, most) => {
                let most = Credits::from_micros(most).unwrap();
                (Owner { account, user: None }, Balance::Wallet, Adjusted::Debt { most })
            }
        };
        let order_of = AdjustmentOrder {
            id,
            user: owner.user.map(user_id),
            balance: balance.name().into(),
            key: CounterKey::of_balance(balance.name()),
            what,
            amount: SignedCredits::from_micros(amount).unwrap(),
            idempotency_key: hex::encode(order).into(),
            reason: "a complaint".into(),
        };
        let adjusting = at_once(self.node.meter.adjust(account_id(owner.account), order_of));
        let adjusting = adjusting.map_err(|error| failed(&error))?;
        let expected = if is_known { None } else { self.auditor.adjusted(of, order, amount, self.now()) };
        self.tell(&format!("{of:?} is adjusted by {amount}: {expected:?}"));
        self.tally.count("adjustments asked");
        match (adjusting, expected) {
            (Adjusting::Now(told, ticket), Some(repaid)) if told.repaid.micros() == repaid => {
                self.awaited.push((self.auditor.frames(), ticket));
                self.tally.count("adjustments");
                Ok(())
            }
            (Adjusting::Behind, None) if is_known => Ok(()),
            (Adjusting::Not(_), None) if !is_known => Ok(()),
            (adjusting, expected) => Err(format!("I7, I12: {adjusting:?} and not {expected:?}")),
        }
    }
}
