//! The money of calls: each revision regenerated from what its account stood at before it.

use super::super::invariant::Invariant;
use super::super::money::Case;
use super::super::regenerate::{Usage, Weighed};
use super::super::stream::Group;
use super::{Pending, Walk};
use crate::access::record::{Charge, Outcome};
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedEvent, BookedRecord};
use crate::ledger::rows::UpdateKind;
use crate::policy::compiled;
use crate::units::{AccountId, Quantities, Seq, Timestamp, Unit, UserId};

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
            usage,
            drawn_before: &[],
            charged_before: 0,
        };
        self.case(&case, event.account, event.user, event.seq, event.ended_at)
    }

    pub(super) fn later_revisions(&mut self, event: &mut BookedEvent) {
        let mut drawn = event.draws.take().unwrap_or_default();
        let (mut charged, mut forgiven, mut ended) = (0, 0, event.ended_at);
        for money in event.money.drain(..) {
            let (next_charged, next_forgiven) = (money.charged, money.forgiven.saturating_sub(money.excess));
            if let Some(correction) = &money.correction {
                let next_drawn = correction.draws.clone().unwrap_or_default();
                let corrected_at = correction.corrected_at;
                let pending = Pending {
                    seq: correction.seq,
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
                    drawn_before: std::mem::replace(&mut drawn, next_drawn),
                    charged_before: charged,
                    forgiven_before: forgiven,
                    ended_before: std::mem::replace(&mut ended, corrected_at),
                };
                if let Some(account) = self.accounts.get_mut(&event.account) {
                    account.pending.push(pending);
                }
            }
            (charged, forgiven) = (next_charged, next_forgiven);
        }
    }

    pub(super) fn correction(
        &mut self,
        id: AccountId,
        record: &BookedRecord,
        pending: &Pending,
    ) -> Result<(), LedgerError> {
        let Some(told) = &pending.money.correction else { return Ok(()) };
        let subject = || pending.decision.to_string();
        self.report.compare(Invariant::I7, subject, "account of its correction", &Some(id), &told.account);
        let digest = told.digest.as_deref().map(hex::encode);
        let found = Some(hex::encode(&record.digest));
        self.report.compare(Invariant::I7, subject, "digest of its correction", &digest, &found);
        self.unforgive(id, pending, told.corrected_at);
        let usage = told.outcome.zip(told.used.as_ref()).zip(told.draws.as_ref()).zip(pending.unit);
        let usage = usage.map(|(((outcome, quantities), draws), unit)| Usage {
            plan: &pending.plan,
            feature: &pending.feature,
            unit,
            model: &pending.model,
            size: pending.size.as_deref(),
            tier: told.tier.as_deref(),
            outcome,
            quantities,
            held_at: pending.held_at,
            ended_at: told.corrected_at,
            draws,
        });
        let case = Case {
            decision: pending.decision,
            money: &pending.money,
            version: pending.version,
            usage,
            drawn_before: &pending.drawn_before,
            charged_before: pending.charged_before,
        };
        self.case(&case, id, pending.user, record.seq, told.corrected_at)
    }

    /// What the end had forgiven in the present month is forgiven anew.
    pub(super) fn unforgive(&mut self, id: AccountId, pending: &Pending, now: Timestamp) {
        let month = Weighed::month(now);
        if month != Weighed::month(pending.ended_before) {
            return;
        }
        let policy = self.snapshots.policies.get(&pending.version).and_then(Option::as_deref);
        let feature = policy.and_then(|policy| Some(&policy[policy.feature(&pending.feature)?]));
        if let (Some(feature), Some(account)) = (feature, self.accounts.get_mut(&id)) {
            let forgiven = account.forgiven(feature.forgiven_key, month);
            *forgiven = forgiven.saturating_sub(pending.forgiven_before.unsigned_abs());
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
        let policy = self.snapshots.policies.get(&case.version);
        match policy {
            None => {
                let subject = || case.decision.to_string();
                self.report.violated(Invariant::Orphans, subject, "policy snapshot", case.version, "none");
            }
            Some(None) => {}
            Some(Some(policy)) => {
                if let Some(weighed) = case.weigh(policy, self.report) {
                    self.settle(case, weighed, (id, user, seq), group.as_ref(), at)?;
                }
            }
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
        let regenerated = weighed.settle(Case::before(*forgiven, debt));
        let Charge { forgiven: given, excess, .. } = regenerated.charge;
        *forgiven = forgiven.saturating_add(given.saturating_sub(excess).micros());
        case.compare(&regenerated, owed, self.report);
        Ok(())
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
