//! I5 and I12 of grants: what is left of a grant is what its updates come to, and not below zero.

use super::Steps;
use super::invariant::Invariant;
use super::report::AuditReport;
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedGrantSums, Books};
use crate::ledger::posting::Numbered;

pub(super) fn check(
    books: &dyn Books,
    report: &mut AuditReport,
    steps: &mut Steps<'_>,
) -> Result<(), LedgerError> {
    let mut scratch = Vec::new();
    books.grants(&mut |grant| {
        steps.one();
        check_grant(&grant, report, &mut scratch);
    })
}

fn check_grant(grant: &BookedGrantSums, report: &mut AuditReport, scratch: &mut Vec<u8>) {
    let subject = || grant.grant.to_string();
    let Some((record, balance, digest)) = &grant.record else {
        report.violated(Invariant::Orphans, subject, "grant that balance updates name", "one", "none");
        return;
    };
    let sums = &grant.sums;
    report.compare(Invariant::I12, subject, "updates that grant it", &1, &sums.grants);
    report.compare(Invariant::I12, subject, "granted", &record.amount.signed().micros(), &sums.granted);
    report.compare(Invariant::I12, subject, "repaid at once", &record.repaid.signed().micros(), &sums.repaid);
    report.compare(Invariant::I12, subject, "what is left of it", &sums.total, &grant.remaining);
    let balances = Some((*balance, *balance));
    report.compare(Invariant::I12, subject, "balance of its updates", &balances, &sums.balances);
    if sums.total < 0 {
        report.violated(Invariant::I5, subject, "what is left of it", "at least 0", sums.total);
    }
    let expected = Some(Numbered::Grant(record).digest(scratch));
    report.compare(
        Invariant::I7,
        subject,
        "digest of its record",
        &expected.map(hex::encode),
        &digest.map(hex::encode),
    );
}
