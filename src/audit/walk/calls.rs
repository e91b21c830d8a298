//! The money of calls: each revision regenerated from what its account stood at before it.

use std::sync::LazyLock;

use super::super::invariant::Invariant;
use super::super::money::Case;
use super::super::refund::{Amounts, given_back, is_same_use};
use super::super::regenerate::{Usage, Weighed};
use super::super::stream::Group;
use super::{Former, Pending, Walk};
use crate::access::record::{Charge, Outcome};
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedEvent, BookedMoney, BookedRecord};
use crate::ledger::rows::{RevisedBy, UpdateKind};
use crate::policy::compiled;
use crate::units::{AccountId, Quantities, Seq, Timestamp, Unit, UserId};

/// Stands where the caller says what was used.
static NOTHING: LazyLock<Quantities> = LazyLock::new(Quantities::default);

impl Walk<'_> {
    pub(super) fn first_revision(&mut self, event: &BookedEvent) -> Result<(), LedgerError> {
        let subject = || event.decision.to_string();
        for (money, revision) in event.money.iter().zip(1..) {
            self.report.compare(Invariant::I6, subject, "revision", &revision, &money.revision);
        }
        let Some(money) = event.money.first() else {
            self.report.violated(Invariant::I6, subject, "monetization event", "one", "none");
            let group = self.stream.parked(event.account, event.seq);
            self.came_back(&subject(), group.as_ref());
            return Ok(());
        };
        let usage = usage_of(event);
        let case = Case {
            decision: event.decision,
            money,
            version: event.policy,
            priced_by: Some(event.policy),
            usage,
            drawn_before: &[],
            charged_before: 0,
            refunded_before: 0,
            kept_forgiven: 0,
        };
        self.case(&case, event.account, event.user, event.seq, event.ended_at)
    }

    pub(super) fn later_revisions(&mut self, event: &mut BookedEvent) {
        let mut former: Option<Former> = None;
        for money in event.money.drain(..) {
            let next = match (&money.correction, &former) {
                (Some(told), Some(former)) => Former {
                    outcome: told.outcome,
                    tier: told.tier.clone(),
                    used: told.used.clone(),
                    draws: told.draws.clone().unwrap_or_default(),
                    settled_at: match told.by {
                        Some(RevisedBy::Refund) => former.settled_at,
                        _ => told.corrected_at,
                    },
                    ..Former::of(&money)
                },
                _ => Former {
                    outcome: event.outcome,
                    tier: event.tier.clone(),
                    used: event.used.clone(),
                    draws: event.draws.clone().unwrap_or_default(),
                    settled_at: event.ended_at,
                    ..Former::of(&money)
                },
            };
            let before = former.replace(next);
            if let (Some(told), Some(before)) = (&money.correction, before)
                && let Some(account) = self.accounts.get_mut(&event.account)
            {
                account.pending.push(Pending {
                    seq: told.seq,
                    decision: event.decision,
                    user: event.user,
                    version: event.policy,
                    feature: event.feature.clone(),
                    plan: event.plan.clone(),
                    model: event.model.clone(),
                    size: event.size.clone(),
                    unit: event.unit,
                    held_at: event.held_at,
                    money,
                    before,
                });
            }
        }
    }

    pub(super) fn correction(
        &mut self,
        id: AccountId,
        record: &BookedRecord,
        pending: &Pending,
    ) -> Result<(), LedgerError> {
        let Some(told) = &pending.money.correction else { return Ok(()) };
        let (before, subject) = (&pending.before, || pending.decision.to_string());
        self.report.compare(Invariant::I7, subject, "account of its correction", &Some(id), &told.account);
        let digest = told.digest.as_deref().map(hex::encode);
        let found = Some(hex::encode(&record.digest));
        self.report.compare(Invariant::I7, subject, "digest of its correction", &digest, &found);
        if told.by.is_none() {
            self.report.violated(Invariant::I11, subject, "who revised it", "readable", "not readable");
        }
        let usage = told.outcome.zip(told.used.as_ref()).zip(told.draws.as_ref()).zip(pending.unit);
        let usage = usage.map(|(((outcome, quantities), draws), unit)| Usage {
            tier: told.tier.as_deref(),
            outcome,
            quantities,
            ended_at: told.corrected_at,
            draws,
            ..pending.usage(unit)
        });
        let case = Case {
            decision: pending.decision,
            money: &pending.money,
            version: pending.version,
            priced_by: (told.by != Some(RevisedBy::Rerate)).then_some(before.policy),
            usage,
            drawn_before: &before.draws,
            charged_before: before.amounts.charged,
            refunded_before: before.amounts.refunded,
            kept_forgiven: match told.by {
                Some(RevisedBy::Rerate) => before.amounts.forgiven.saturating_sub(before.amounts.refunded),
                _ => 0,
            },
        };
        let was = before.usage(pending);
        if told.by != Some(RevisedBy::Truth)
            && let (Some(was), Some(now)) = (&was, &case.usage)
            && !is_same_use(was, now)
        {
            let what = "use of a call that an operator corrected";
            self.report.violated(Invariant::I11, subject, what, "as before", "another");
        }
        if told.by == Some(RevisedBy::Refund) {
            return self.refund(&case, before, (id, record.seq), told.corrected_at);
        }
        if told.by == Some(RevisedBy::Truth) {
            let what = "given back before a late truth";
            self.report.compare(Invariant::I11, subject, what, &0, &before.amounts.refunded);
        }
        self.unforgive(id, pending, told.corrected_at);
        self.case(&case, id, pending.user, record.seq, told.corrected_at)
    }

    /// A refund: what was given back, and nothing else.
    fn refund(
        &mut self,
        case: &Case<'_>,
        before: &Former,
        (id, seq): (AccountId, Seq),
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        case.check_amounts(self.report);
        let group = self.take(id, seq)?;
        let (subject, money) = (|| case.decision.to_string(), case.money);
        self.report.compare(Invariant::I11, subject, "price", &before.price, &money.price);
        let back = case.usage.and_then(|usage| given_back(case.drawn_before, usage.draws));
        match back {
            Some(back) if back > 0 => {
                let (expected, found) = (before.amounts.less(back), Amounts::of(money));
                self.report.compare(Invariant::I11, subject, "money of a refund", &expected, &found);
            }
            _ => {
                let expected = "those before, less from their end";
                self.report.violated(Invariant::I11, subject, "draws of a refund", expected, "others");
            }
        }
        case.check_moves(group.as_ref(), at, self.report);
        Ok(())
    }

    /// What the end had forgiven in the present month is forgiven anew.
    pub(super) fn unforgive(&mut self, id: AccountId, pending: &Pending, now: Timestamp) {
        let month = Weighed::month(now);
        if month != Weighed::month(pending.before.settled_at) {
            return;
        }
        let policy = self.snapshots.policies.get(&pending.version).and_then(Option::as_deref);
        let feature = policy.and_then(|policy| Some(&policy[policy.feature(&pending.feature)?]));
        let Amounts { forgiven: before, excess, refunded, .. } = pending.before.amounts;
        if let (Some(feature), Some(account)) = (feature, self.accounts.get_mut(&id)) {
            let forgiven = account.forgiven(feature.forgiven_key, month);
            let before = before.saturating_sub(excess).saturating_sub(refunded);
            *forgiven = forgiven.saturating_sub(before.unsigned_abs());
        }
    }

    /// One monetization event: its parts, its policy, its balance updates.
    pub(super) fn case(
        &mut self,
        case: &Case<'_>,
        id: AccountId,
        user: UserId,
        seq: Seq,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        case.check_amounts(self.report);
        let group = if case.moves_balances() { self.take(id, seq)? } else { self.stream.parked(id, seq) };
        let policies = &self.snapshots.policies;
        for version in [case.version, case.money.policy] {
            if !policies.contains_key(&version) {
                let subject = || case.decision.to_string();
                self.report.violated(Invariant::Orphans, subject, "policy snapshot", version, "none");
            }
        }
        let known = |version| policies.get(&version).and_then(Option::as_deref);
        if let (Some(policy), Some(prices)) = (known(case.version), known(case.money.policy))
            && let Some(weighed) = case.weigh(policy, prices, self.report)
        {
            self.settle(case, weighed, (id, user, seq), group.as_ref(), at)?;
        }
        case.check_moves(group.as_ref(), at, self.report);
        Ok(())
    }

    pub(super) fn settle(
        &mut self,
        case: &Case<'_>,
        weighed: Weighed<'_>,
        (id, user, seq): (AccountId, UserId, Seq),
        group: Option<&Group>,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let owes_on = weighed.owes_on.map(|(scope, name)| {
            let owner = (scope == compiled::Scope::User).then_some(user);
            (owner, name.clone())
        });
        let mut debt = 0;
        if let Some((owner, name)) = owes_on.filter(|_| !weighed.shortage.is_zero()) {
            if weighed.owed.is_zero() {
                self.catch_up(id, seq)?;
            }
            if let Some(balance) = self.stream.named(id, owner, &name) {
                if !balance.is_whole() {
                    case.compare_parts(&weighed, self.report);
                    return Ok(());
                }
                let row = balance.booked.balance;
                let of_group = group.and_then(|group| {
                    let mut touching = group.updates.iter().filter(|seen| seen.update.balance == row);
                    touching.next().map(|seen| seen.debt_before)
                });
                debt = of_group.unwrap_or_else(|| self.stream.debt_before(balance, seq));
                debt = debt.saturating_sub(repaid_first(case, group, row));
            }
        } else if self.scope.since.is_some() && !weighed.shortage.is_zero() {
            case.compare_parts(&weighed, self.report);
            return Ok(());
        }
        let Some(account) = self.accounts.get_mut(&id) else { return Ok(()) };
        let forgiven = account.forgiven(weighed.forgiven_key(), Weighed::month(at));
        let owed = weighed.owed;
        let regenerated = weighed.settle(case.before(*forgiven, debt));
        let Charge { forgiven: given, excess, .. } = regenerated.charge;
        let within = given.saturating_sub(excess).saturating_sub(regenerated.refunded);
        *forgiven = forgiven.saturating_add(within.micros());
        case.compare(&regenerated, owed, self.report);
        Ok(())
    }
}

impl Former {
    /// The money of a revision; what else it says is the caller's to add.
    fn of(money: &BookedMoney) -> Self {
        Self {
            policy: money.policy,
            price: money.price,
            amounts: Amounts::of(money),
            outcome: None,
            tier: None,
            used: None,
            draws: Vec::new(),
            settled_at: Timestamp::NEVER,
        }
    }

    fn usage<'a>(&'a self, pending: &'a Pending) -> Option<Usage<'a>> {
        Some(Usage {
            tier: self.tier.as_deref(),
            outcome: self.outcome?,
            quantities: self.used.as_ref()?,
            draws: &self.draws,
            ..pending.usage(pending.unit?)
        })
    }
}

impl Amounts {
    fn of(money: &BookedMoney) -> Self {
        Self {
            gross: money.gross,
            covered: money.covered,
            forgiven: money.forgiven,
            excess: money.excess,
            charged: money.charged,
            refunded: money.refunded,
        }
    }
}

impl Pending {
    /// What all revisions of the call have in common.
    fn usage(&self, unit: Unit) -> Usage<'_> {
        Usage {
            plan: &self.plan,
            feature: &self.feature,
            unit,
            model: &self.model,
            size: self.size.as_deref(),
            tier: None,
            outcome: Outcome::Completed,
            quantities: &NOTHING,
            held_at: self.held_at,
            ended_at: self.held_at,
            draws: &[],
        }
    }
}

/// What of a debt was repaid by the record itself before it owed anew: of a correction, what it takes back.
fn repaid_first(case: &Case<'_>, group: Option<&Group>, balance: i64) -> i64 {
    let updates = group.map_or(&[][..], |group| &group.updates);
    let of_debt = updates.iter().map(|seen| &seen.update);
    let of_debt = of_debt.filter(|update| update.balance == balance && update.grant.is_none());
    let repaid = of_debt.filter(|update| update.kind == Some(UpdateKind::Adjustment));
    let repaid = repaid.fold(0i64, |sum, update| sum.saturating_add(update.amount));
    repaid.saturating_add(case.owed_before())
}

/// What a usage event's money follows from; `None` where a word of it cannot be read.
fn usage_of(event: &BookedEvent) -> Option<Usage<'_>> {
    let (unit, outcome): (Unit, Outcome) = event.unit.zip(event.outcome)?;
    let quantities: &Quantities = event.used.as_ref()?;
    Some(Usage {
        plan: &event.plan,
        feature: &event.feature,
        unit,
        model: &event.model,
        size: event.size.as_deref(),
        tier: event.tier.as_deref(),
        outcome,
        quantities,
        held_at: event.held_at,
        ended_at: event.ended_at,
        draws: event.draws.as_deref()?,
    })
}
