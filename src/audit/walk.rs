//! I6 and I7: usage events in the order of booking, and between them each account's other records: no number missing,
//! no link of the chain broken, each with the balance updates that it must have.

use super::balances::Seen as SeenUpdate;
use super::money::{Case, check_repaid};
use super::regenerate::{Usage, Weighed};
use super::report::{AuditReport, Invariant};
use super::stream::{Group, Stream};
use super::{Scope, Snapshots, Steps};
use crate::access::record::{Charge, DrawEntry, Outcome};
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedEvent, BookedHead, BookedMoney, BookedRecord, Books, Extent, Sizes};
use crate::ledger::chain::{self, rows::link};
use crate::ledger::posting::Numbered;
use crate::ledger::rows::{Cause, UpdateKind};
use crate::policy::compiled::{self, CounterKey};
use crate::units::{
    AccountId, DecisionId, GrantId, IdMap, PolicyVersion, Quantities, Seq, Timestamp, Unit, UserId,
};

/// Events that are read together.
const PAGE: u32 = 512;
/// The longest stretch of other records that is read at once.
const END: Seq = Seq(i64::MAX.unsigned_abs());

/// Which part of the books is walked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    /// The account after which the portion begins.
    pub(super) after: Option<AccountId>,
    /// Its last one; none where it goes to the end.
    pub(super) up_to: Option<AccountId>,
    /// Where the walk begins.
    pub(super) from: Extent,
}

/// What all portions have seen together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    events: u64,
    money: u64,
    updates: u64,
    records: u64,
    grants: u64,
}

impl Seen {
    /// Whether rows were not met that are there.
    pub(super) const fn differs_from(&self, sizes: &Sizes) -> bool {
        self.events != sizes.usage_events
            || self.money != sizes.monetization_events
            || self.updates != sizes.balance_updates
            || self.records != sizes.records
            || self.grants != sizes.grants
    }

    /// Every row belongs to something.
    pub(super) fn compare(&self, sizes: &Sizes, report: &mut AuditReport) {
        for (what, expected, found) in [
            ("usage events of accounts", self.events, sizes.usage_events),
            ("monetization events of usage events", self.money, sizes.monetization_events),
            ("balance updates of balances", self.updates, sizes.balance_updates),
            ("records of accounts", self.records, sizes.records),
            ("grants that were granted", self.grants, sizes.grants),
        ] {
            report.compare(Invariant::Orphans, || "all rows".to_owned(), what, &expected, &found);
        }
    }
}

/// An account as its records pass.
struct Account {
    head: BookedHead,
    /// The record behind which the walk begins.
    began: Seq,
    /// Its newest record so far; none where the walk begins in the middle and has not met one.
    seq: Option<Seq>,
    hash: Option<[u8; 32]>,
    /// Its newest usage event so far; not known where the walk begins in the middle.
    event: Option<Option<i64>>,
    /// What was forgiven of each feature, in which month.
    forgiven: Vec<(CounterKey, Timestamp, u64)>,
    /// Corrections whose record is still to come.
    pending: Vec<Pending>,
}

/// A later revision and what its money follows from.
struct Pending {
    seq: Seq,
    decision: DecisionId,
    user: UserId,
    version: PolicyVersion,
    feature: String,
    plan: String,
    model: String,
    size: Option<String>,
    unit: Option<Unit>,
    held_at: Timestamp,
    money: BookedMoney,
    /// The revision before it: its draws, its charge, and when it ended.
    drawn_before: Vec<DrawEntry>,
    charged_before: i64,
    forgiven_before: i64,
    ended_before: Timestamp,
}

struct Walk<'a> {
    books: &'a dyn Books,
    snapshots: &'a Snapshots,
    scope: Scope,
    range: Range,
    accounts: IdMap<AccountId, Account>,
    stream: Stream<'a>,
    report: &'a mut AuditReport,
    seen: &'a mut Seen,
}

/// Walks one portion of the accounts.
#[expect(clippy::too_many_arguments, reason = "what an audit is about, once")]
pub(super) fn walk(
    books: &dyn Books,
    snapshots: &Snapshots,
    scope: Scope,
    range: Range,
    heads: Vec<BookedHead>,
    report: &mut AuditReport,
    seen: &mut Seen,
    steps: &mut Steps<'_>,
) -> Result<(), LedgerError> {
    let mut stream = Stream::new(books, range.from.updates, scope.since);
    stream.seeks_strays = range.after.is_none() && scope.account.is_none();
    books.balances(range.after, range.up_to, &mut |booked| {
        if scope.account.is_none_or(|only| only == booked.account) {
            stream.add(booked, snapshots);
        }
    })?;
    let accounts = heads.into_iter().map(|head| (head.account, Account::new(head, scope))).collect();
    let mut walk = Walk { books, snapshots, scope, range, accounts, stream, report, seen };
    let mut after = range.from.events;
    loop {
        let events = books.events(after, PAGE)?;
        let Some(last) = events.last() else { break };
        after = last.place;
        for event in events {
            steps.one();
            if walk.is_walked(&event) {
                walk.event(event)?;
            }
        }
    }
    walk.finish()
}

impl Account {
    fn new(head: BookedHead, scope: Scope) -> Self {
        let (seq, event) = if scope.since.is_some() { (None, None) } else { (Some(Seq(0)), Some(None)) };
        Self { head, began: Seq(0), seq, hash: None, event, forgiven: Vec::new(), pending: Vec::new() }
    }

    fn forgiven(&mut self, key: CounterKey, month: Timestamp) -> &mut u64 {
        let place = self.forgiven.iter().position(|(known, ..)| *known == key).unwrap_or_else(|| {
            self.forgiven.push((key, month, 0));
            self.forgiven.len() - 1
        });
        let entry = &mut self.forgiven[place];
        if entry.1 < month {
            *entry = (key, month, 0);
        }
        &mut entry.2
    }
}

impl Walk<'_> {
    fn is_walked(&mut self, event: &BookedEvent) -> bool {
        if self.scope.since.is_some_and(|since| event.ended_at < since) {
            return false;
        }
        if self.accounts.contains_key(&event.account) {
            return true;
        }
        let is_ours = self.range.after.is_none_or(|after| event.account > after)
            && self.range.up_to.is_none_or(|up_to| event.account <= up_to);
        if is_ours && self.scope.account.is_none() {
            let subject = || event.decision.to_string();
            self.report.violated(Invariant::Orphans, subject, "account", event.account, "none");
        }
        false
    }

    fn event(&mut self, mut event: BookedEvent) -> Result<(), LedgerError> {
        let (id, seq) = (event.account, event.seq);
        self.seen.events += 1;
        self.seen.money += event.money.len() as u64;
        self.begin(id, seq)?;
        self.advance(id, seq)?;
        self.number(id, seq, &event.row, event.hash);
        let Some(account) = self.accounts.get_mut(&id) else { return Ok(()) };
        let subject = || format!("{id} seq {}", seq.0);
        if let Some(before) = account.event.replace(Some(event.place)) {
            self.report.compare(Invariant::I7, subject, "usage event before it", &before, &event.previous);
        }
        self.first_revision(&event)?;
        self.later_revisions(&mut event);
        Ok(())
    }

    /// Begins an account in the middle of its books: what was before is believed.
    fn begin(&mut self, id: AccountId, seq: Seq) -> Result<(), LedgerError> {
        let Some(account) = self.accounts.get_mut(&id) else { return Ok(()) };
        if account.seq.is_none() {
            let before = Seq(seq.0.saturating_sub(1));
            (account.began, account.seq) = (before, Some(before));
            account.hash = self.books.link_of(id, before)?;
        }
        Ok(())
    }

    /// Goes through an account's other records up to the one before `seq`.
    fn advance(&mut self, id: AccountId, seq: Seq) -> Result<(), LedgerError> {
        let newest = self.accounts.get(&id).and_then(|account| account.seq).unwrap_or_default();
        if newest.next() >= seq && seq != END {
            return Ok(());
        }
        for record in self.books.records(id, newest, seq)? {
            self.record(id, &record)?;
        }
        Ok(())
    }

    /// The next number and link of an account.
    fn number(&mut self, id: AccountId, seq: Seq, row: &[u8; 32], hash: Option<[u8; 32]>) {
        let Some(account) = self.accounts.get_mut(&id) else { return };
        let subject = || format!("{id} seq {}", seq.0);
        let expected = account.seq.unwrap_or_default().next();
        self.report.compare(Invariant::I7, || id.to_string(), "next record", &expected.0, &seq.0);
        account.seq = Some(seq);
        match (hash, account.hash) {
            (None, None) => self.report.unchained += 1,
            (None, Some(_)) => {
                self.report.violated(
                    Invariant::Chain,
                    subject,
                    "link",
                    "one, as the record before it",
                    "none",
                );
            }
            (Some(found), previous) => {
                let expected = link(&previous.unwrap_or(chain::START), row);
                let (expected, told) = (hex::encode(expected), hex::encode(found));
                self.report.compare(Invariant::Chain, subject, "link", &expected, &told);
                account.hash = Some(found);
            }
        }
    }

    fn record(&mut self, id: AccountId, record: &BookedRecord) -> Result<(), LedgerError> {
        self.seen.records += 1;
        let (seq, kind) = (record.seq, &*record.kind);
        let pending = self.accounts.get_mut(&id).and_then(|account| {
            let place = account.pending.iter().position(|pending| pending.seq == seq)?;
            Some(account.pending.swap_remove(place))
        });
        let subject = || format!("{id} seq {}", seq.0);
        let money = pending.as_ref().filter(|_| kind == "correction").map(|pending| &pending.money.row);
        self.number(id, seq, &record.bytes.clone().hash(money), record.hash);
        match (kind, pending) {
            ("correction", Some(pending)) => return self.correction(id, record, pending),
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
    fn came_back(&mut self, subject: &str, group: Option<&Group>) {
        let Some(group) = group else { return };
        if !group.is_only(&[UpdateKind::Expiry, UpdateKind::Adjustment]) {
            let what = "kinds of its balance updates";
            let found = "others";
            self.report.violated(Invariant::I6, || subject.to_owned(), what, "expiry or adjustment", found);
        }
        check_repaid(&group.updates, || subject.to_owned(), self.report);
    }

    /// What granted, expired or adjusted.
    fn of_grants(
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
        if record.kind == "expiry" {
            let is_right = |seen: &SeenUpdate| {
                seen.update.kind == Some(UpdateKind::Expiry)
                    && seen.update.grant.is_some_and(|grant| seen.update.cause == Some(Cause::Grant(grant)))
            };
            if !group.updates.iter().all(is_right) {
                let expected = "expiries caused by their grants";
                self.report.violated(Invariant::I12, subject, "balance updates", expected, "others");
            }
        } else if record.kind == "grant" {
            self.grant(id, record, &group)?;
        }
        Ok(())
    }

    /// I12 of a grant: what its record says is what was booked.
    fn grant(&mut self, id: AccountId, record: &BookedRecord, group: &Group) -> Result<(), LedgerError> {
        let subject = || format!("{id} seq {}", record.seq.0);
        let caused = group.updates.first().and_then(|seen| seen.update.grant);
        let booked = match caused {
            Some(grant) => self.books.grant(grant)?,
            None => None,
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
        type Line = (Option<UpdateKind>, Option<GrantId>, i64);
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

    fn first_revision(&mut self, event: &BookedEvent) -> Result<(), LedgerError> {
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
        self.case(&case, event.account, event.user, event.seq, event.place, event.ended_at)
    }

    fn later_revisions(&mut self, event: &mut BookedEvent) {
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

    fn correction(
        &mut self,
        id: AccountId,
        record: &BookedRecord,
        pending: Pending,
    ) -> Result<(), LedgerError> {
        let Some(told) = &pending.money.correction else { return Ok(()) };
        let subject = || pending.decision.to_string();
        self.report.compare(Invariant::I7, subject, "account of its correction", &Some(id), &told.account);
        let digest = told.digest.as_deref().map(hex::encode);
        let found = Some(hex::encode(&record.digest));
        self.report.compare(Invariant::I7, subject, "digest of its correction", &digest, &found);
        self.unforgive(id, &pending, told.corrected_at);
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
        self.case(&case, id, pending.user, record.seq, i64::MAX, told.corrected_at)
    }

    /// What the end had forgiven in the present month is forgiven anew.
    fn unforgive(&mut self, id: AccountId, pending: &Pending, now: Timestamp) {
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
    fn case(
        &mut self,
        case: &Case<'_>,
        id: AccountId,
        user: UserId,
        seq: Seq,
        place: i64,
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
                    self.settle(case, weighed, (id, user, seq), group.as_ref(), place, at)?;
                }
            }
        }
        case.check_moves(group.as_ref(), at, self.report);
        Ok(())
    }

    fn settle(
        &mut self,
        case: &Case<'_>,
        weighed: Weighed<'_>,
        (id, user, seq): (AccountId, UserId, Seq),
        group: Option<&Group>,
        place: i64,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let owes_on = weighed.owes_on.map(|(scope, name)| {
            let owner = (scope == compiled::Scope::User).then_some(user);
            (owner, name.clone())
        });
        let mut debt = 0;
        if let Some((owner, name)) = owes_on.filter(|_| !weighed.shortage.is_zero()) {
            if weighed.owed.is_zero() {
                self.catch_up(id, seq, place)?;
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

    /// The group of a record that must have one.
    fn take(&mut self, id: AccountId, seq: Seq) -> Result<Option<Group>, LedgerError> {
        if let Some(group) = self.stream.parked(id, seq) {
            return Ok(Some(group));
        }
        while self.has_room() {
            let Some(group) = self.stream.pull(self.report)? else { return Ok(None) };
            if (group.account, group.seq) == (id, seq) {
                return Ok(Some(group));
            }
            self.place(group)?;
        }
        Ok(None)
    }

    /// Pulls until all is followed that was booked before the usage event of this place.
    fn catch_up(&mut self, id: AccountId, seq: Seq, place: i64) -> Result<(), LedgerError> {
        while self.has_room() {
            let Some(group) = self.stream.pull(self.report)? else { return Ok(()) };
            let later = self.event_of(&group)?.is_some_and(|found| found > place);
            if group.account == id && group.seq > seq {
                self.stream.park(group);
            } else {
                self.place(group)?;
            }
            if later {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether another group may be parked.
    fn has_room(&mut self) -> bool {
        if self.stream.is_full() && self.scope.since.is_some() {
            for group in self.stream.leftovers() {
                if !self.is_believed(&group) {
                    self.stream.park(group);
                }
            }
        }
        !self.stream.is_full()
    }

    /// Whether a group belongs to what came before the walk: of a record before the account's first usage event in it.
    fn is_believed(&self, group: &Group) -> bool {
        let account = self.accounts.get(&group.account);
        let began = account.filter(|account| account.seq.is_some()).map(|account| account.began);
        began.map_or(self.scope.since.is_some(), |began| group.seq <= began)
    }

    /// The place of the usage event that a group belongs to, if it does to one.
    fn event_of(&self, group: &Group) -> Result<Option<i64>, LedgerError> {
        let Some(decision) = group.decision() else { return Ok(None) };
        let found = self.books.event_of(decision)?;
        Ok(found
            .filter(|(_, account, seq)| (*account, *seq) == (group.account, group.seq))
            .map(|(place, ..)| place))
    }

    /// Finds the record of a group that nobody waits for: one that has passed, one that can be reached, or one that is
    /// still to come.
    fn place(&mut self, group: Group) -> Result<(), LedgerError> {
        let (id, seq) = (group.account, group.seq);
        let Some(newest) = self.accounts.get(&id).and_then(|account| account.seq) else {
            self.stream.park(group);
            return Ok(());
        };
        if self.is_believed(&group) {
            return Ok(());
        }
        if seq <= newest {
            self.came_back(&format!("{id} seq {}", seq.0), Some(&group));
            return Ok(());
        }
        let is_event = self.event_of(&group)?.is_some();
        self.stream.park(group);
        if is_event {
            return Ok(());
        }
        let records = self.books.records(id, newest, seq.next())?;
        let reaches = records.iter().zip(newest.0 + 1..).all(|(record, next)| record.seq.0 == next)
            && records.last().is_some_and(|last| last.seq == seq);
        if reaches {
            for record in records {
                self.record(id, &record)?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), LedgerError> {
        while let Some(group) = self.stream.pull(self.report)? {
            self.place(group)?;
            if self.stream.is_full() {
                self.leftovers();
            }
        }
        let mut ids: Vec<_> = self.accounts.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            if self.accounts.get(&id).is_some_and(|account| account.seq.is_some()) {
                self.advance(id, END)?;
            }
            self.head(id);
        }
        self.leftovers();
        let (stream, report) = (self.stream, self.report);
        let mut stream = stream;
        self.seen.updates += stream.followed;
        self.seen.grants += stream.grants;
        self.books.remainders(&mut |balance, grant, remaining| {
            if let Some(followed) = stream.balance(balance) {
                followed.remainder(grant, remaining, report);
            }
        })?;
        for balance in stream.into_balances() {
            balance.finish(report);
        }
        Ok(())
    }

    /// The head of an account against its newest rows.
    fn head(&mut self, id: AccountId) {
        let Some(account) = self.accounts.get_mut(&id) else { return };
        let subject = || id.to_string();
        for pending in &account.pending {
            let what = "record of its correction";
            self.report.violated(Invariant::I7, || pending.decision.to_string(), what, "one", "none");
        }
        let Some(seq) = account.seq else { return };
        let head = &account.head;
        self.report.compare(Invariant::I7, subject, "newest record", &seq.0, &head.seq.0);
        if let Some(newest) = account.event {
            self.report.compare(Invariant::I7, subject, "newest usage event", &newest, &head.event);
        }
        let (expected, found) = (account.hash.map(hex::encode), head.hash.map(hex::encode));
        self.report.compare(Invariant::Chain, subject, "newest link", &expected, &found);
        let newest = match self.stream.newest_of(id) {
            Some(newest) => newest,
            None if self.scope.since.is_some() => return,
            None => None,
        };
        self.report.compare(Invariant::I8, subject, "newest balance update", &newest, &head.change);
    }

    /// Updates that belong to no record.
    fn leftovers(&mut self) {
        for group in self.stream.leftovers() {
            if self.is_believed(&group) {
                continue;
            }
            let subject = || format!("{} seq {}", group.account, group.seq.0);
            let found = group.updates.len();
            let what = "balance updates without a record";
            self.report.violated(Invariant::Orphans, subject, what, 0, found);
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
