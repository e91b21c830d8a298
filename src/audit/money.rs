//! I6 and I11 of one call: what its monetization event says, against its parts, its policy and its balance updates.

use smallvec::SmallVec;

use super::balances::Seen;
use super::invariant::Invariant;
use super::regenerate::{Before, Regenerated, Usage, Weighed, weigh};
use super::report::AuditReport;
use super::stream::Group;
use crate::access::record::{DrawEntry, OriginEntry};
use crate::ledger::books::BookedMoney;
use crate::ledger::rows::{Cause, UpdateKind};
use crate::policy::compiled::{Name, Policy, Scope};
use crate::units::{Amount, Credits, DecisionId, GrantId, PolicyVersion, Timestamp};

/// One monetization event under the audit.
pub(super) struct Case<'a> {
    pub(super) decision: DecisionId,
    pub(super) money: &'a BookedMoney,
    /// The policy that its usage event names.
    pub(super) version: PolicyVersion,
    /// The policy that must have priced it; none where an operator chose it.
    pub(super) priced_by: Option<PolicyVersion>,
    /// What it is regenerated from; `None` where a word of it cannot be read.
    pub(super) usage: Option<Usage<'a>>,
    /// Where the revision before it was drawn from; nothing before the first.
    pub(super) drawn_before: &'a [DrawEntry],
    /// What that charged, in micro-credits.
    pub(super) charged_before: i64,
    /// What operators had given back of that, in micro-credits.
    pub(super) refunded_before: i64,
    /// What else was forgiven, where it was priced anew, in micro-credits.
    pub(super) kept_forgiven: i64,
}

/// A change of a balance as it must be booked.
type Expected = (Option<UpdateKind>, Option<GrantId>, i64);

/// A change of a grant or debt of a balance.
type Line<'a> = (Scope, &'a Name, Option<GrantId>, i64);

impl Case<'_> {
    fn subject(&self) -> String {
        match self.money.revision {
            1 => self.decision.to_string(),
            revision => format!("{} revision {revision}", self.decision),
        }
    }

    /// Whether it takes from balances, or gives back to them.
    pub(super) fn moves_balances(&self) -> bool {
        !self.expected().is_empty()
    }

    /// Its amounts among themselves (I6).
    pub(super) fn check_amounts(&self, report: &mut AuditReport) {
        let (money, subject) = (self.money, || self.subject());
        let parts = [money.covered, money.forgiven, money.charged];
        let sum = parts.iter().fold(0i64, |sum, part| sum.saturating_add(*part));
        report.compare(Invariant::I6, subject, "covered + forgiven + charged", &money.gross, &sum);
        if parts.iter().any(|part| *part < 0) || !(0..=money.forgiven).contains(&money.excess) {
            let found = format!("{parts:?} with an excess of {}", money.excess);
            let expected = "no part below zero, excess within forgiven";
            report.violated(Invariant::I6, subject, "money", expected, found);
        }
        let priced_by = self.priced_by.unwrap_or(money.policy);
        report.compare(Invariant::I6, subject, "policy that priced", &priced_by, &money.policy);
        if !(0..=money.forgiven.saturating_sub(money.excess)).contains(&money.refunded) {
            let expected = "within what is forgiven and no excess";
            report.violated(Invariant::I6, subject, "given back", expected, money.refunded);
        }
        if self.usage.is_none() {
            report.violated(Invariant::I11, subject, "usage", "readable", "not readable");
        }
    }

    /// Prices it, and checks its draws (I11).
    pub(super) fn weigh<'p>(
        &self,
        policy: &'p Policy,
        prices: &Policy,
        report: &mut AuditReport,
    ) -> Option<Weighed<'p>> {
        match weigh(self.usage.as_ref()?, policy, prices) {
            Ok(weighed) => Some(weighed),
            Err(why) => {
                report.violated(Invariant::I11, || self.subject(), "draws and price", why, "otherwise");
                None
            }
        }
    }

    /// What was regenerated against what is booked (I11).
    pub(super) fn compare(&self, regenerated: &Regenerated, owed: Credits, report: &mut AuditReport) {
        let (money, charge, subject) = (self.money, &regenerated.charge, || self.subject());
        report.compare(Invariant::I11, subject, "price", &Some(regenerated.demand.price), &money.price);
        for (what, expected, found) in [
            ("gross", charge.gross, money.gross),
            ("covered", charge.covered, money.covered),
            ("forgiven", charge.forgiven, money.forgiven),
            ("excess", charge.excess, money.excess),
            ("charged", charge.charged, money.charged),
            ("given back", regenerated.refunded, money.refunded),
        ] {
            report.compare(Invariant::I11, subject, what, &expected.signed().micros(), &found);
        }
        report.compare(Invariant::I11, subject, "draw of debt", &regenerated.owed, &owed);
    }

    /// What must be so whatever the account stood at before, where that is not known.
    pub(super) fn compare_parts(&self, weighed: &Weighed<'_>, report: &mut AuditReport) {
        let (money, subject) = (self.money, || self.subject());
        let charged = weighed.granted.saturating_add(weighed.owed);
        report.compare(Invariant::I11, subject, "price", &Some(weighed.demand.price), &money.price);
        for (what, expected, found) in [
            ("gross", weighed.gross, money.gross),
            ("covered", weighed.covered, money.covered),
            ("charged", charged, money.charged),
        ] {
            report.compare(Invariant::I11, subject, what, &expected.signed().micros(), &found);
        }
    }

    /// Its balance updates (I6): of this call and instant, the debits and refunds that its draws and those before make,
    /// and what came back to grants in between.
    pub(super) fn check_moves(&self, group: Option<&Group>, at: Timestamp, report: &mut AuditReport) {
        let subject = || self.subject();
        let updates = group.map_or(&[][..], |group| &group.updates);
        let is_move = |seen: &&Seen| matches!(seen.update.kind, Some(UpdateKind::Debit | UpdateKind::Refund));
        let moved = updates.iter().filter(is_move);
        let found: SmallVec<[Expected; 4]> =
            moved.map(|seen| (seen.update.kind, seen.update.grant, seen.update.amount)).collect();
        if self.usage.is_some() {
            report.compare(Invariant::I6, subject, "balance updates", &self.expected(), &found);
        }
        let sum = found.iter().fold(0i64, |sum, (_, _, amount)| sum.saturating_add(*amount));
        let expected = self.charged_before.saturating_sub(self.money.charged);
        report.compare(Invariant::I6, subject, "sum of its balance updates", &expected, &sum);
        let held_at = self.usage.map(|usage| usage.held_at);
        for seen in updates {
            let update = &seen.update;
            let place = || format!("{} update {}", self.subject(), update.place);
            let cause = Some(Cause::Decision(self.decision));
            report.compare(Invariant::I6, place, "cause", &cause, &update.cause);
            report.compare(Invariant::I6, place, "instant", &at, &update.at);
            let late = seen.expires_at.zip(held_at).filter(|(end, held_at)| end <= held_at);
            if let (Some((end, held_at)), Some(UpdateKind::Debit)) = (late, update.kind)
                && self.money.revision == 1
            {
                let expected = format!("held before {end}");
                report.violated(Invariant::I11, place, "draw of an expired grant", expected, held_at);
            }
            if matches!(update.kind, Some(UpdateKind::Grant)) {
                report.violated(Invariant::I6, place, "kind", "none that grants", "grant");
            }
        }
        check_repaid(updates, subject, report);
    }

    /// The debits of a first revision as they are booked; of a later one what it moves.
    fn expected(&self) -> SmallVec<[Expected; 4]> {
        let draws = self.usage.map_or(&[][..], |usage| usage.draws);
        let mut lines: SmallVec<[Line<'_>; 4]> = SmallVec::new();
        for (draws, sign) in [(self.drawn_before, 1), (draws, -1)] {
            for draw in draws {
                let Some((balance, grant)) = balance_of(draw) else { continue };
                let amount = sign * amount_of(draw);
                let same = |line: &&mut Line<'_>| (line.0, line.1, line.2) == (draw.scope, balance, grant);
                match lines.iter_mut().find(same) {
                    Some(line) => line.3 = line.3.saturating_add(amount),
                    None => lines.push((draw.scope, balance, grant, amount)),
                }
            }
        }
        let moved = lines.into_iter().filter(|line| line.3 != 0);
        let kind = |amount| if amount > 0 { UpdateKind::Refund } else { UpdateKind::Debit };
        moved.map(|(_, _, grant, amount)| (Some(kind(amount)), grant, amount)).collect()
    }

    /// What the revision before owed: a correction takes that back before it owes anew.
    pub(super) fn owed_before(&self) -> i64 {
        let owed = self.drawn_before.iter().filter(|draw| matches!(draw.origin, OriginEntry::Debt { .. }));
        owed.fold(0i64, |sum, draw| sum.saturating_add(amount_of(draw)))
    }

    /// What the account must have stood at before, with what it owed then.
    pub(super) fn before(&self, forgiven: u64, debt: i64) -> Before {
        let credits = |micros| u64::try_from(micros).ok().and_then(Credits::from_micros).unwrap_or_default();
        Before {
            forgiven,
            debt: credits(debt),
            refunded: credits(self.refunded_before),
            kept_forgiven: credits(self.kept_forgiven),
            kept_charged: if self.priced_by.is_none() { credits(self.charged_before) } else { Credits::ZERO },
        }
    }
}

/// What repays a debt goes out of grants: together it is nothing.
pub(super) fn check_repaid(updates: &[Seen], subject: impl Fn() -> String, report: &mut AuditReport) {
    let repaid = updates.iter().filter(|seen| seen.update.kind == Some(UpdateKind::Adjustment));
    let sum = repaid.fold(0i64, |sum, seen| sum.saturating_add(seen.update.amount));
    report.compare(Invariant::I12, subject, "sum of its repayments", &0, &sum);
}

/// The balance and grant of a draw from one.
fn balance_of(draw: &DrawEntry) -> Option<(&Name, Option<GrantId>)> {
    match &draw.origin {
        OriginEntry::Windows(_) => None,
        OriginEntry::Grant { balance, grant } => Some((balance, Some(*grant))),
        OriginEntry::Debt { balance } => Some((balance, None)),
    }
}

fn amount_of(draw: &DrawEntry) -> i64 {
    // A text may say more than an amount can be.
    i64::try_from(draw.amount.min(Amount::MAX).get()).unwrap_or(i64::MAX)
}
