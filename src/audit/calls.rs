//! I6: a usage event has one live monetization event; its balance updates sum to −charged, exactly.

use super::invariant::Invariant;
use super::report::AuditReport;
use super::{Snapshots, Steps};
use crate::access::record::{DrawEntry, OriginEntry};
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedCall, BookedEvent, BookedMoney, Books};
use crate::units::Credits;

pub(super) fn check(
    books: &dyn Books,
    snapshots: &Snapshots,
    report: &mut AuditReport,
    steps: &mut Steps<'_>,
) -> Result<(), LedgerError> {
    books.calls(&mut |call| {
        steps.one();
        check_call(&call, snapshots, report);
    })
}

fn check_call(call: &BookedCall, snapshots: &Snapshots, report: &mut AuditReport) {
    let subject = || call.decision.to_string();
    let Some(event) = &call.event else {
        report.violated(Invariant::I6, subject, "usage event", "one", "none");
        return;
    };
    if snapshots.versions.binary_search(&event.policy).is_err() {
        report.violated(Invariant::Orphans, subject, "policy snapshot", event.policy, "none");
    }
    for (money, revision) in call.money.iter().zip(1..) {
        report.compare(Invariant::I6, subject, "revision", &revision, &money.revision);
        check_money(call, event, money, report);
    }
    let Some(live) = call.money.last() else {
        report.violated(Invariant::I6, subject, "live monetization event", "one", "none");
        return;
    };
    let moved = call.moved.map_or(0, |moves| moves.amount);
    let charged = live.charged.saturating_neg();
    report.compare(Invariant::I6, subject, "sum of its balance updates", &charged, &moved);
    if let Some(moves) = call.moved {
        let accounts = Some((event.account, event.account));
        report.compare(Invariant::I6, subject, "account of its balance updates", &accounts, &moves.accounts);
    }
    if call.money.len() == 1 {
        let drawn = event.draws.as_deref().map(drawn_from_balances);
        report.compare(Invariant::I6, subject, "sum of its draws from balances", &Some(live.charged), &drawn);
    }
}

fn check_money(call: &BookedCall, event: &BookedEvent, money: &BookedMoney, report: &mut AuditReport) {
    let subject = || format!("{} revision {}", call.decision, money.revision);
    let parts = [money.covered, money.forgiven, money.charged];
    let sum = parts.iter().fold(0i64, |sum, part| sum.saturating_add(*part));
    report.compare(Invariant::I6, subject, "covered + forgiven + charged", &money.gross, &sum);
    if parts.iter().any(|part| *part < 0) || !(0..=money.forgiven).contains(&money.excess) {
        let found = format!("{parts:?} with an excess of {}", money.excess);
        report.violated(Invariant::I6, subject, "money", "no part below zero, excess within forgiven", found);
    }
    // A price beyond all credits is charged as the largest amount.
    let gross = money.price.map(|price| price.ceil().unwrap_or(Credits::MAX).signed().micros());
    report.compare(Invariant::I6, subject, "price, rounded up", &Some(money.gross), &gross);
    report.compare(Invariant::I6, subject, "policy that priced", &event.policy, &money.policy);
}

fn drawn_from_balances(draws: &[DrawEntry]) -> i64 {
    let from_balances = draws.iter().filter(|draw| !matches!(draw.origin, OriginEntry::Windows(_)));
    from_balances.fold(0, |sum, draw| sum.saturating_add(draw.amount.get().cast_signed()))
}
