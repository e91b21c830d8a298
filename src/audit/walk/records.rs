//! The numbered records that are no usage event: what they granted, expired and gave back.

use super::super::balances::Seen as SeenUpdate;
use super::super::invariant::Invariant;
use super::super::money::check_repaid;
use super::super::stream::Group;
use super::Walk;
use crate::ledger::LedgerError;
use crate::ledger::books::BookedRecord;
use crate::ledger::posting::Numbered;
use crate::ledger::rows::{Cause, UpdateKind};
use crate::units::{AccountId, GrantId};

/// A balance update by what it does.
type Line = (Option<UpdateKind>, Option<GrantId>, i64);

impl Walk<'_> {
    pub(super) fn record(&mut self, record: &BookedRecord) -> Result<(), LedgerError> {
        self.present.push((record.account, record.seq));
        let done = self.present_record(record);
        self.present.pop();
        done
    }

    fn present_record(&mut self, record: &BookedRecord) -> Result<(), LedgerError> {
        self.seen.records += 1;
        let (id, seq, kind) = (record.account, record.seq, &*record.kind);
        let pending = self.accounts.get_mut(&id).and_then(|account| {
            let place = account.pending.iter().position(|pending| pending.seq == seq)?;
            Some(account.pending.swap_remove(place))
        });
        let subject = || format!("{id} seq {}", seq.0);
        let money = pending.as_ref().filter(|_| kind == "correction").map(|pending| &pending.money.row);
        let before = self.range.checkpoint.is_some_and(|extent| record.place <= extent.records);
        self.number(id, seq, &record.bytes.clone().hash(money), record.hash, before);
        match (kind, pending) {
            ("correction", Some(pending)) => return self.correction(id, record, &pending),
            ("correction", None) if self.scope.since.is_none() => {
                let what = "monetization event of a correction";
                self.report.violated(Invariant::Orphans, subject, what, "one", "none");
            }
            ("correction", None) | ("void", _) => {}
            ("grant" | "expiry" | "adjustment", _) => {
                let group = self.take(id, seq)?;
                return self.of_grants(id, record, group);
            }
            _ => {
                let kinds = "void, grant, expiry, correction or adjustment";
                self.report.violated(Invariant::I7, subject, "kind", kinds, kind);
            }
        }
        let group = self.stream.parked(id, seq);
        self.came_back(&subject(), group.as_ref());
        Ok(())
    }

    /// Updates of a record that draws nothing: what came back expired, or repaid a debt.
    pub(super) fn came_back(&mut self, subject: &str, group: Option<&Group>) {
        let Some(group) = group else { return };
        if !group.is_only(&[UpdateKind::Expiry, UpdateKind::Adjustment]) {
            let what = "kinds of its balance updates";
            let found = "others";
            self.report.violated(Invariant::I6, || subject.to_owned(), what, "expiry or adjustment", found);
        }
        check_repaid(&group.updates, || subject.to_owned(), self.report);
    }

    /// What granted, expired or adjusted.
    pub(super) fn of_grants(
        &mut self,
        id: AccountId,
        record: &BookedRecord,
        group: Option<Group>,
    ) -> Result<(), LedgerError> {
        let subject = || format!("{id} seq {}", record.seq.0);
        let Some(group) = group else {
            self.report.violated(
                Invariant::Orphans,
                subject,
                "balance updates of the record",
                "some",
                "none",
            );
            return Ok(());
        };
        if &*record.kind == "expiry" {
            let is_right = |seen: &SeenUpdate| {
                seen.update.kind == Some(UpdateKind::Expiry)
                    && seen.update.grant.is_some_and(|grant| seen.update.cause == Some(Cause::Grant(grant)))
            };
            if !group.updates.iter().all(is_right) {
                let expected = "expiries caused by their grants";
                self.report.violated(Invariant::I12, subject, "balance updates", expected, "others");
            }
        } else if &*record.kind == "grant" {
            self.grant(id, record, group)?;
        }
        Ok(())
    }

    /// I12 of a grant: what its record says is what was booked.
    pub(super) fn grant(
        &mut self,
        id: AccountId,
        record: &BookedRecord,
        mut group: Group,
    ) -> Result<(), LedgerError> {
        let subject = || format!("{id} seq {}", record.seq.0);
        let caused = group.updates.first().and_then(|seen| seen.update.grant);
        let known = group.granted.take().filter(|granted| Some(granted.record.grant) == caused);
        let booked = match (known, caused) {
            (None, Some(grant)) => self.books.grant(grant)?,
            (known, _) => known,
        };
        let Some(booked) = booked else {
            self.report.violated(Invariant::Orphans, subject, "grant of the record", "one", "none");
            return Ok(());
        };
        let grant = &booked.record;
        let digest = Numbered::Grant(grant).digest(&mut Vec::new());
        let (expected, found) = (hex::encode(digest), hex::encode(&record.digest));
        let named = || grant.grant.to_string();
        self.report.compare(Invariant::I7, named, "digest of its record", &expected, &found);
        let place = (id, record.seq);
        self.report.compare(Invariant::I7, named, "place of its record", &place, &(grant.account, grant.seq));
        let (amount, repaid) = (grant.amount.signed().micros(), grant.repaid.signed().micros());
        let mut expected: Vec<Line> = vec![(Some(UpdateKind::Grant), Some(grant.grant), amount)];
        if repaid != 0 {
            expected.push((Some(UpdateKind::Adjustment), None, repaid));
            expected.push((Some(UpdateKind::Adjustment), Some(grant.grant), -repaid));
        }
        let line = |seen: &SeenUpdate| (seen.update.kind, seen.update.grant, seen.update.amount);
        let found: Vec<Line> = group.updates.iter().map(line).collect();
        self.report.compare(Invariant::I12, named, "balance updates", &expected, &found);
        for seen in &group.updates {
            let cause = (Some(Cause::Grant(grant.grant)), grant.granted_at);
            let told = (seen.update.cause, seen.update.at);
            self.report.compare(Invariant::I12, named, "cause and instant", &cause, &told);
        }
        Ok(())
    }
}
