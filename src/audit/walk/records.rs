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
        let money = match &pending {
            _ if kind != "correction" => None,
            Some(pending) => Some(pending.money.row),
            // Its call came before the walk, and is believed.
            None if self.scope.since.is_some() => self.books.revision_row(id, seq)?,
            None => None,
        };
        let before = self.range.checkpoint.is_some_and(|extent| record.place <= extent.records);
        self.number(id, seq, &record.bytes.clone().hash(money.as_ref()), record.hash, before);
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
        // Where the walk begins in the middle it may belong to a correction of a call that came before.
        if self.scope.since.is_none() && !group.is_only(&[UpdateKind::Expiry, UpdateKind::Adjustment]) {
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
        } else {
            self.adjustment(id, record, &group)?;
        }
        Ok(())
    }

    /// I12 of an adjustment: what was ordered is what was booked, and what it paid of a debt was owed.
    fn adjustment(&mut self, id: AccountId, record: &BookedRecord, group: &Group) -> Result<(), LedgerError> {
        let subject = || format!("{id} seq {}", record.seq.0);
        let booked = match group.updates.first().and_then(|seen| seen.update.cause) {
            Some(Cause::Adjustment(order)) => self.books.adjustment(order)?,
            _ => None,
        };
        let Some(booked) = booked else {
            let what = "adjustment of the record";
            self.report.violated(Invariant::Orphans, subject, what, "one", "none");
            return Ok(());
        };
        self.seen.adjustments += 1;
        let told = &booked.record;
        let digest = Numbered::Adjustment(told).digest(&mut Vec::new());
        let (expected, found) = (hex::encode(digest), hex::encode(&record.digest));
        let named = || told.id.to_string();
        self.report.compare(Invariant::I7, named, "digest of its record", &expected, &found);
        let place = (id, record.seq);
        self.report.compare(Invariant::I7, named, "place of its record", &place, &(told.account, told.seq));
        let (amount, repaid) = (told.amount.micros(), told.repaid.signed().micros());
        let line = |grant, amount| (Some(UpdateKind::Adjustment), grant, amount);
        let mut expected: Vec<Line> =
            vec![line(told.grant, amount.saturating_sub(repaid)), line(None, repaid)];
        expected.retain(|(.., amount)| *amount != 0);
        let line = |seen: &SeenUpdate| (seen.update.kind, seen.update.grant, seen.update.amount);
        let found: Vec<Line> = group.updates.iter().map(line).collect();
        self.report.compare(Invariant::I12, named, "balance updates", &expected, &found);
        for seen in &group.updates {
            let cause = (Some(Cause::Adjustment(told.id)), told.adjusted_at, booked.balance);
            let found = (seen.update.cause, seen.update.at, seen.update.balance);
            self.report.compare(Invariant::I12, named, "cause, instant and balance", &cause, &found);
        }
        if let Some(end) = told.expires_at.filter(|end| *end <= told.adjusted_at) {
            let found = told.adjusted_at;
            self.report.violated(
                Invariant::I11,
                named,
                "grant that is adjusted",
                format!("before {end}"),
                found,
            );
        }
        if self.scope.since.is_some() {
            return Ok(());
        }
        let debt = group.updates.first().map_or(0, |seen| seen.debt_before);
        let owed = if told.grant.is_some() { debt.min(amount.max(0)) } else { 0 };
        self.report.compare(Invariant::I11, named, "repaid at once", &owed, &repaid);
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
