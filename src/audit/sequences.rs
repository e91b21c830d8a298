//! I7: the records of an account have no gap, and end where its head says.

use super::Steps;
use super::invariant::Invariant;
use super::report::AuditReport;
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedHead, Books, SequenceRow};
use crate::units::{AccountId, Seq};

/// One account as its records pass.
struct Sequence {
    account: AccountId,
    head: Option<BookedHead>,
    newest: Seq,
    newest_event: Option<i64>,
}

pub(super) fn check(
    books: &dyn Books,
    report: &mut AuditReport,
    steps: &mut Steps<'_>,
) -> Result<(), LedgerError> {
    let mut sequence: Option<Sequence> = None;
    books.sequences(&mut |row| match row {
        SequenceRow::Account { account, head } => {
            let next = Sequence { account, head, newest: Seq(0), newest_event: None };
            if let Some(ended) = sequence.replace(next) {
                ended.finish(report);
            }
        }
        SequenceRow::Record { seq, event } => {
            steps.one();
            if let Some(sequence) = &mut sequence {
                sequence.follow(seq, event, report);
            }
        }
    })?;
    if let Some(ended) = sequence {
        ended.finish(report);
    }
    Ok(())
}

impl Sequence {
    fn follow(&mut self, seq: Seq, event: Option<(i64, Option<i64>)>, report: &mut AuditReport) {
        let account = self.account;
        report.compare(Invariant::I7, || account.to_string(), "next record", &self.newest.next().0, &seq.0);
        self.newest = seq;
        if let Some((place, previous)) = event {
            let subject = || format!("{account} seq {}", seq.0);
            report.compare(Invariant::I7, subject, "usage event before it", &self.newest_event, &previous);
            self.newest_event = Some(place);
        }
    }

    fn finish(self, report: &mut AuditReport) {
        let subject = || self.account.to_string();
        let Some(head) = self.head else {
            report.violated(Invariant::I7, subject, "head", "one", "none");
            return;
        };
        report.compare(Invariant::I7, subject, "newest record", &self.newest.0, &head.seq.0);
        report.compare(Invariant::I7, subject, "newest usage event", &self.newest_event, &head.event);
    }
}
