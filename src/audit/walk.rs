//! I6 and I7: usage events in the order of booking, and between them each account's other records: no number missing,
//! no link of the chain broken, each with the balance updates that it must have.

use super::checkpoint::Leaf;
use super::checkpoint::tree::Tree;
use super::invariant::Invariant;
use super::refund::Amounts;
use super::report::AuditReport;
use super::stream::Stream;
use super::{Scope, Snapshots, Steps};
use crate::access::record::{DrawEntry, Outcome};
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedEvent, BookedHead, BookedMoney, Books, Extent, Sizes};
use crate::ledger::chain::{self, rows::link};
use crate::policy::compiled::{CounterKey, Name};
use crate::units::{
    AccountId, DecisionId, IdMap, PolicyVersion, Price, Quantities, Seq, Timestamp, Unit, UserId,
};

mod calls;
mod groups;
mod others;
mod records;

use others::Others;

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
    /// How far the books went at the checkpoint that they are held against.
    pub(super) checkpoint: Option<Extent>,
}

/// What all portions have seen together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    events: u64,
    money: u64,
    updates: u64,
    records: u64,
    grants: u64,
    adjustments: u64,
}

impl Seen {
    /// Whether rows were not met that are there.
    pub(super) const fn differs_from(&self, sizes: &Sizes) -> bool {
        self.events != sizes.usage_events
            || self.money != sizes.monetization_events
            || self.updates != sizes.balance_updates
            || self.records != sizes.records
            || self.grants != sizes.grants
            || self.adjustments != sizes.adjustments
    }

    /// Every row belongs to something.
    pub(super) fn compare(&self, sizes: &Sizes, report: &mut AuditReport) {
        for (what, expected, found) in [
            ("usage events of accounts", self.events, sizes.usage_events),
            ("monetization events of usage events", self.money, sizes.monetization_events),
            ("balance updates of balances", self.updates, sizes.balance_updates),
            ("records of accounts", self.records, sizes.records),
            ("grants that were granted", self.grants, sizes.grants),
            ("adjustments that were made", self.adjustments, sizes.adjustments),
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
    /// Its newest usage event so far, once that is known: not before the first where the walk begins in the middle.
    event: Option<i64>,
    knows_event: bool,
    /// What was forgiven of each feature, in which month.
    forgiven: Vec<(CounterKey, Timestamp, u64)>,
    /// Corrections whose record is still to come.
    pending: Vec<Pending>,
    /// Its newest record before the checkpoint, and the link of it.
    checked: Option<(Seq, [u8; 32])>,
}

/// A later revision and what its money follows from.
struct Pending {
    seq: Seq,
    decision: DecisionId,
    user: UserId,
    version: PolicyVersion,
    feature: Name,
    plan: Name,
    model: Name,
    size: Option<Name>,
    unit: Option<Unit>,
    held_at: Timestamp,
    money: BookedMoney,
    before: Former,
}

/// What the revision before says.
#[derive(Clone)]
struct Former {
    policy: PolicyVersion,
    price: Option<Price>,
    amounts: Amounts,
    outcome: Option<Outcome>,
    tier: Option<Name>,
    used: Option<Quantities>,
    draws: Vec<DrawEntry>,
    /// When the call was settled; a refund settles nothing.
    settled_at: Timestamp,
}

struct Walk<'a> {
    books: &'a dyn Books,
    snapshots: &'a Snapshots,
    scope: Scope<'a>,
    range: Range,
    accounts: IdMap<AccountId, Account>,
    stream: Stream<'a>,
    others: Others<'a>,
    /// The records that are looked at now, each because of the one before it: what their accounts have booked behind
    /// them waits.
    present: Vec<(AccountId, Seq)>,
    report: &'a mut AuditReport,
    seen: &'a mut Seen,
}

/// Walks one portion of the accounts.
#[expect(clippy::too_many_arguments, reason = "what an audit is about, once")]
pub(super) fn walk(
    books: &dyn Books,
    snapshots: &Snapshots,
    scope: Scope<'_>,
    range: Range,
    heads: Vec<BookedHead>,
    report: &mut AuditReport,
    seen: &mut Seen,
    tree: &mut Tree,
    steps: &mut Steps<'_>,
) -> Result<(), LedgerError> {
    let mut stream = Stream::new(books, range, scope.since);
    stream.seeks_strays = range.after.is_none() && scope.account.is_none();
    books.balances(range.after, range.up_to, &mut |booked| {
        if scope.account.is_none_or(|only| only == booked.account) {
            stream.add(booked, snapshots);
        }
    })?;
    let accounts = heads.into_iter().map(|head| (head.account, Account::new(head, scope))).collect();
    // Of a part of the books few other records are wanted: those are looked up.
    let others = Others::new(books, scope.since.is_none() && scope.account.is_none());
    let mut walk =
        Walk { books, snapshots, scope, range, accounts, stream, others, present: Vec::new(), report, seen };
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
    walk.finish(tree)
}

impl Account {
    fn new(head: BookedHead, scope: Scope<'_>) -> Self {
        let whole = scope.since.is_none();
        let seq = whole.then_some(Seq(0));
        Self {
            head,
            began: Seq(0),
            seq,
            hash: None,
            event: None,
            knows_event: whole,
            forgiven: Vec::new(),
            pending: Vec::new(),
            checked: None,
        }
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
        self.present.push((id, seq));
        let before = self.range.checkpoint.is_some_and(|extent| event.place <= extent.events);
        self.number(id, seq, &event.row, event.hash, before);
        let Some(account) = self.accounts.get_mut(&id) else { return Ok(()) };
        let subject = || format!("{id} seq {}", seq.0);
        let before = account.event.replace(event.place);
        if std::mem::replace(&mut account.knows_event, true) {
            self.report.compare(Invariant::I7, subject, "usage event before it", &before, &event.previous);
        }
        self.first_revision(&event)?;
        self.later_revisions(&mut event);
        self.present.pop();
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
        while self.newest(id).unwrap_or_default().next() < seq && self.next_record()? {}
        let newest = self.newest(id).unwrap_or_default();
        if newest.next() >= seq && seq != END {
            return Ok(());
        }
        for record in self.books.records_of(id, newest, seq)? {
            self.record(&record)?;
        }
        Ok(())
    }

    /// The newest record of an account so far; none before its first.
    fn newest(&self, id: AccountId) -> Option<Seq> {
        self.accounts.get(&id)?.seq
    }

    /// The next number and link of an account.
    fn number(
        &mut self,
        id: AccountId,
        seq: Seq,
        row: &[u8; 32],
        hash: Option<[u8; 32]>,
        before_checkpoint: bool,
    ) {
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
                self.report.compare_hashes(Invariant::Chain, subject, "link", Some(&expected), Some(&found));
                account.hash = Some(found);
                if before_checkpoint {
                    account.checked = Some((seq, found));
                }
            }
        }
    }

    fn finish(mut self, tree: &mut Tree) -> Result<(), LedgerError> {
        while let Some(group) = self.stream.pull(self.report)? {
            self.place(group)?;
            if self.stream.is_full() {
                self.leftovers();
            }
        }
        while self.next_record()? {}
        let mut ids: Vec<_> = self.accounts.keys().copied().collect();
        ids.sort_unstable();
        for id in ids.iter().copied() {
            if self.accounts.get(&id).is_some_and(|account| account.seq.is_some()) {
                self.advance(id, END)?;
            }
            self.head(id);
        }
        self.leftovers();
        if self.range.checkpoint.is_some() {
            self.leaves(&ids, tree);
        }
        let (mut stream, report) = (self.stream, self.report);
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

    /// What the leaves of a checkpoint were then.
    fn leaves(&self, ids: &[AccountId], tree: &mut Tree) {
        let mut balances: Vec<_> = self.stream.checked().collect();
        balances.sort_unstable_by_key(|(balance, _)| (balance.account, balance.user, balance.name.clone()));
        let mut balances = balances.into_iter().peekable();
        for id in ids {
            if let Some((seq, link)) = self.accounts.get(id).and_then(|account| account.checked) {
                tree.push(Leaf::Account { account: *id, seq, link }.hash(), None);
            }
            while let Some((balance, hash)) = balances.next_if(|(balance, _)| balance.account <= *id) {
                let (account, user, name) = (balance.account, balance.user, &*balance.name);
                tree.push(Leaf::Balance { account, user, name, hash }.hash(), None);
            }
        }
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
        if account.knows_event {
            self.report.compare(Invariant::I7, subject, "newest usage event", &account.event, &head.event);
        }
        let (expected, found) = (account.hash.as_ref(), head.hash.as_ref());
        self.report.compare_hashes(Invariant::Chain, subject, "newest link", expected, found);
        let newest = match self.stream.newest_of(id) {
            Some(newest) => *newest,
            None if self.scope.since.is_some() => return,
            None => None,
        };
        self.report.compare(Invariant::I8, subject, "newest balance update", &newest, &head.change);
    }
}
