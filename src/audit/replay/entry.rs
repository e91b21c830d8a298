//! One entry, made anew: its money, then its balance updates.

use std::fmt;

use super::account::{AccountBooks, Line, Placed};
use super::{Policies, ReplayReport};
use crate::access::balance::DEFAULT_PRIORITY;
use crate::access::record::{AdjustmentRecord, DrawEntry, GrantOrigin, GrantRecord, OriginEntry};
use crate::audit::refund::given_back;
use crate::audit::regenerate::{Before, Regenerated, Usage, weigh};
use crate::ledger::recorded::{Entry, EntryKind, RecordedCall, RecordedMoney, RecordedUpdate, Replaced};
use crate::ledger::rows::{Cause, RevisedBy, UpdateKind};
use crate::policy::compiled::{Balance, Name, Scope};
use crate::units::{Credits, GrantId, Timestamp, UserId};

/// One entry and all that it depends on.
pub(super) struct Regenerating<'a> {
    pub(super) policies: &'a Policies,
    pub(super) books: &'a mut AccountBooks,
    pub(super) entry: &'a Entry,
    pub(super) report: &'a mut ReplayReport,
}

impl Regenerating<'_> {
    /// Compares the entry's money and updates, and goes on from what is booked.
    pub(super) fn run(mut self) {
        let entry = self.entry;
        let (lines, placed) = match &entry.what {
            EntryKind::Call(call) => self.call(call, None),
            EntryKind::Correction(call, replaced) => self.call(call, Some(replaced)),
            EntryKind::Grant(grant) => self.grant(grant),
            EntryKind::Adjustment(adjustment) => self.adjustment(adjustment),
            EntryKind::Other(kind) => self.other(kind),
            EntryKind::Nothing => {
                self.differs("record of its balance updates", "one", "none");
                (self.as_booked(|_| true), self.place(None, None))
            }
        };
        self.updates(&lines, placed);
    }

    fn differs(&mut self, what: &'static str, regenerated: impl fmt::Display, booked: impl fmt::Display) {
        let entry = self.entry;
        self.report.differs(|| subject_of(entry), what, regenerated, booked);
    }

    fn compare<T: PartialEq + fmt::Display>(&mut self, what: &'static str, regenerated: &T, booked: &T) {
        if regenerated != booked {
            self.differs(what, regenerated, booked);
        }
    }

    /// The cause and instant of updates; those of the first booked one where the entry does not say them.
    fn place(&self, cause: Option<Cause>, at: Option<Timestamp>) -> Placed {
        let first = self.entry.updates.first();
        let cause = cause.or(first.map(|update| update.cause)).unwrap_or(Cause::Grant(GrantId::MIN));
        let at = at.or(first.map(|update| update.at)).unwrap_or_default();
        Placed { seq: self.entry.seq, cause, at }
    }

    /// The booked lines of some kinds: entries, which are given and not made.
    fn as_booked(&self, is_entry: impl Fn(&RecordedUpdate) -> bool) -> Vec<Line> {
        let updates = self.entry.updates.iter().filter(|update| is_entry(update));
        updates.map(|update| Line::of(update, update.amount)).collect()
    }

    fn call(&mut self, call: &RecordedCall, replaced: Option<&Replaced>) -> (Vec<Line>, Placed) {
        let placed = self.place(Some(Cause::Decision(call.decision)), Some(call.ended_at));
        let Some(money) = &call.money else {
            self.differs("monetization event", "one", "none");
            return (self.as_booked(|_| true), placed);
        };
        self.report.monetization_events += 1;
        let mut lines = match replaced {
            Some(replaced) if replaced.by == RevisedBy::Refund => {
                self.refund(call, money, replaced);
                moved(&replaced.draws, &call.draws, call.user)
            }
            _ => match (self.money(call, money, replaced), replaced) {
                (None, _) => return (self.as_booked(|_| true), placed),
                (Some(regenerated), None) => debits(&regenerated, call.user),
                (Some(_), Some(replaced)) => moved(&replaced.draws, &call.draws, call.user),
            },
        };
        lines.extend(self.returned());
        (lines, placed)
    }

    /// The money of a refund: that before it, less what the draws became less.
    fn refund(&mut self, call: &RecordedCall, money: &RecordedMoney, replaced: &Replaced) {
        let Some(back) = given_back(&replaced.draws, &call.draws) else {
            return self.differs("draws of a refund", "those before, less from their end", "others");
        };
        let before = &replaced.money;
        for (what, amount, booked) in [
            ("gross", before.gross, money.gross),
            ("covered", before.covered, money.covered),
            ("forgiven", before.forgiven.saturating_add(back), money.forgiven),
            ("excess", before.excess, money.excess),
            ("charged", before.charged.saturating_sub(back), money.charged),
            ("given back", before.refunded.saturating_add(back), money.refunded),
        ] {
            self.compare(what, &amount, &booked);
        }
    }

    /// Makes the money of a call anew and compares it. `None` where the call cannot have come about.
    fn money(
        &mut self,
        call: &RecordedCall,
        money: &RecordedMoney,
        replaced: Option<&Replaced>,
    ) -> Option<Regenerated> {
        let (decided, priced) = (self.policies.get(&call.decided_by), self.policies.get(&money.policy));
        let (Some(policy), Some(prices)) = (decided, priced) else {
            self.differs("policy snapshot", money.policy, "none");
            return None;
        };
        let weighed = match weigh(&usage(call), policy, prices) {
            Ok(weighed) => weighed,
            Err(why) => {
                self.differs("usage event", why, "other");
                return None;
            }
        };
        let (feature, recorded_debt) = (weighed.forgiven_key(), weighed.owed);
        let mut debt = Credits::ZERO;
        if let Some((scope, name)) = weighed.owes_on {
            let user = owner(scope, call.user);
            let back = replaced.map_or(0, |replaced| owed_in(&replaced.draws, scope, name));
            let debt_then = self.books.debt(user, name).micros().saturating_sub(back);
            let repaid = self.repaid(user, name);
            debt = Credits::from_micros(debt_then.saturating_sub(repaid)).unwrap_or(Credits::MAX);
        }
        if let Some(replaced) = replaced {
            let within = within_policy(&replaced.money);
            self.books.unforgive(feature, replaced.at, call.ended_at, within);
        }
        let refunded = replaced.map_or(0, |replaced| replaced.money.refunded.max(0).unsigned_abs());
        let refunded = Credits::from_micros(refunded).unwrap_or(Credits::MAX);
        let credits =
            |micros: i64| Credits::from_micros(micros.max(0).unsigned_abs()).unwrap_or(Credits::MAX);
        let repriced = replaced.filter(|replaced| replaced.by == RevisedBy::Rerate).map(|it| &it.money);
        let before = Before {
            forgiven: self.books.forgiven(feature, call.ended_at),
            debt,
            refunded,
            kept_forgiven: repriced
                .map_or(Credits::ZERO, |it| credits(it.forgiven.saturating_sub(it.refunded))),
            kept_charged: repriced.map_or(Credits::ZERO, |it| credits(it.charged)),
        };
        let regenerated = weighed.settle(before);
        let charge = regenerated.charge;
        let price = |price: crate::units::Price| {
            let (numerator, denominator) = price.parts();
            format!("{numerator}/{denominator} micro-credits")
        };
        let booked_price = money.price.map_or_else(|| "not readable".to_owned(), price);
        self.compare("price", &price(regenerated.demand.price), &booked_price);
        for (what, amount, booked) in [
            ("gross", charge.gross, money.gross),
            ("covered", charge.covered, money.covered),
            ("forgiven", charge.forgiven, money.forgiven),
            ("excess", charge.excess, money.excess),
            ("charged", charge.charged, money.charged),
            ("given back", regenerated.refunded, money.refunded),
        ] {
            self.compare(what, &amount.signed().micros(), &booked);
        }
        self.compare("draw of debt", &regenerated.owed, &recorded_debt);
        self.books.forgive(feature, call.ended_at, within_policy(money));
        Some(regenerated)
    }

    /// What this entry has paid of a debt, in micro-credits.
    fn repaid(&self, user: Option<UserId>, name: &Name) -> u64 {
        let pays = |update: &&RecordedUpdate| {
            update.kind == UpdateKind::Adjustment
                && update.grant.is_none()
                && (update.user, &update.balance) == (user, name)
        };
        let paid = self.entry.updates.iter().filter(pays).map(|update| update.amount.max(0).unsigned_abs());
        paid.fold(0, u64::saturating_add)
    }

    /// What came back with an end and expired, then what it paid of debts: first into the debt, then out of the grant.
    fn returned(&mut self) -> Vec<Line> {
        let at = self.place(None, None).at;
        let mut lines = self.as_booked(|update| update.kind == UpdateKind::Expiry);
        for line in &lines {
            if !self.books.had_expired(line.grant, at) {
                self.differs("expiry of a grant", "of one that had expired", "of another");
            }
        }
        let from_grants =
            |update: &RecordedUpdate| update.kind == UpdateKind::Adjustment && update.grant.is_some();
        for out in self.as_booked(from_grants) {
            let into = Line { grant: None, amount: out.amount.saturating_neg(), ..out.clone() };
            join(&mut lines, into);
            join(&mut lines, out);
        }
        lines
    }

    fn grant(&mut self, grant: &GrantRecord) -> (Vec<Line>, Placed) {
        self.books.grant(grant.grant, grant.expires_at);
        if matches!(grant.origin, GrantOrigin::Issue { .. }) && !self.is_issued(grant) {
            self.differs("issued grant", "what a policy issues", "other");
        }
        let repaid = self.books.debt(grant.user, &grant.balance).min(grant.amount);
        self.compare("repaid at once", &repaid, &grant.repaid);
        let line = |kind, of, amount| Line {
            user: grant.user,
            balance: grant.balance.clone(),
            kind,
            grant: of,
            amount,
        };
        let mut lines = vec![line(UpdateKind::Grant, Some(grant.grant), grant.amount.signed().micros())];
        if !repaid.is_zero() {
            let micros = repaid.signed().micros();
            lines.push(line(UpdateKind::Adjustment, None, micros));
            lines.push(line(UpdateKind::Adjustment, Some(grant.grant), micros.saturating_neg()));
        }
        (lines, self.place(Some(Cause::Grant(grant.grant)), Some(grant.granted_at)))
    }

    fn adjustment(&mut self, told: &AdjustmentRecord) -> (Vec<Line>, Placed) {
        let owed = match told.grant {
            Some(_) => self.books.debt(told.user, &told.balance).min(told.amount.available()),
            None => Credits::ZERO,
        };
        self.compare("repaid at once", &owed, &told.repaid);
        let repaid = owed.signed().micros();
        let line = |grant, amount| Line {
            user: told.user,
            balance: told.balance.clone(),
            kind: UpdateKind::Adjustment,
            grant,
            amount,
        };
        let rest = told.amount.micros().saturating_sub(repaid);
        let mut lines = vec![line(told.grant, rest), line(None, repaid)];
        lines.retain(|line| line.amount != 0);
        (lines, self.place(Some(Cause::Adjustment(told.id)), Some(told.adjusted_at)))
    }

    /// Whether some policy snapshot issues such a grant.
    fn is_issued(&self, grant: &GrantRecord) -> bool {
        let owner = grant.user.map_or(*grant.account.as_bytes(), |user| *user.as_bytes());
        let id = GrantId::derived(&[b"issue", &owner, grant.balance.as_bytes()]);
        let issues = |balance: &Balance| {
            balance.name == grant.balance
                && balance.issue.is_some_and(|issue| {
                    let expires_at = issue.expires_after.map(|span| grant.granted_at.plus(span));
                    issue.is_open(grant.granted_at)
                        && (issue.amount, expires_at) == (grant.amount, grant.expires_at)
                })
        };
        let is_by_policy = |grant: &GrantRecord| (grant.grant, grant.priority) == (id, DEFAULT_PRIORITY);
        is_by_policy(grant) && self.policies.values().any(|policy| policy.balances.iter().any(issues))
    }

    /// A record of which the books keep the updates alone: those are the entry.
    fn other(&mut self, kind: &str) -> (Vec<Line>, Placed) {
        let placed = self.place(None, None);
        let fits = |update: &RecordedUpdate| match kind {
            "void" => matches!(update.kind, UpdateKind::Expiry | UpdateKind::Adjustment),
            "expiry" => update.kind == UpdateKind::Expiry,
            _ => !matches!(update.kind, UpdateKind::Grant | UpdateKind::Debit),
        };
        let entry = self.entry;
        for update in entry.updates.iter().filter(|update| !fits(update)) {
            self.differs("balance update", format_args!("none of a {kind}"), update.kind.as_str());
        }
        if kind == "adjustment" {
            self.differs("adjustment of the record", "one", "none");
        }
        if kind == "void" {
            return (self.returned(), placed);
        }
        for update in &entry.updates {
            if update.kind == UpdateKind::Expiry && !self.books.had_expired(update.grant, update.at) {
                self.differs("expiry of a grant", "of one that had expired", "of another");
            }
        }
        (self.as_booked(|_| true), placed)
    }

    /// Compares the updates that lines make with those that are booked, one behind the other.
    fn updates(&mut self, lines: &[Line], placed: Placed) {
        let entry = self.entry;
        if lines.len() != entry.updates.len() {
            let (made, booked) = (lines.len(), entry.updates.len());
            self.compare("number of balance updates", &made, &booked);
        }
        for (nth, booked) in entry.updates.iter().enumerate() {
            self.report.balance_updates += 1;
            if let Some(line) = lines.get(nth) {
                // Each expired grant of a sweep is its own cause.
                let cause = match (&entry.what, line.grant) {
                    (EntryKind::Other(kind), Some(grant)) if kind == "expiry" => Cause::Grant(grant),
                    _ => placed.cause,
                };
                let made = self.books.update(line, Placed { cause, ..placed });
                if let Some((what, made, booked)) = first_difference(&made, booked) {
                    let entry = self.entry;
                    let subject = || format!("{} update {}", subject_of(entry), nth + 1);
                    self.report.differs(subject, what, made, booked);
                }
            }
            self.books.apply(booked);
        }
    }
}

impl Line {
    fn of(update: &RecordedUpdate, amount: i64) -> Self {
        let (balance, kind) = (update.balance.clone(), update.kind);
        Self { user: update.user, balance, kind, grant: update.grant, amount }
    }
}

/// The place of an entry, and what it is.
fn subject_of(entry: &Entry) -> String {
    let (account, seq) = (entry.account, entry.seq.0);
    match &entry.what {
        EntryKind::Call(call) => format!("{account} seq {seq} {}", call.decision),
        EntryKind::Correction(call, _) => format!("{account} seq {seq} correction of {}", call.decision),
        EntryKind::Grant(grant) => format!("{account} seq {seq} {}", grant.grant),
        EntryKind::Adjustment(adjustment) => format!("{account} seq {seq} {}", adjustment.id),
        EntryKind::Other(kind) => format!("{account} seq {seq} {kind}"),
        EntryKind::Nothing => format!("{account} seq {seq}"),
    }
}

fn usage(call: &RecordedCall) -> Usage<'_> {
    Usage {
        plan: &call.plan,
        feature: &call.feature,
        unit: call.unit,
        model: &call.model,
        size: call.size.as_deref(),
        tier: call.tier.as_deref(),
        outcome: call.outcome,
        quantities: &call.used,
        held_at: call.held_at,
        ended_at: call.ended_at,
        draws: &call.draws,
    }
}

fn owner(scope: Scope, user: UserId) -> Option<UserId> {
    (scope == Scope::User).then_some(user)
}

/// What a monetization event forgives within policy, in micro-credits.
fn within_policy(money: &RecordedMoney) -> u64 {
    let within = money.forgiven.saturating_sub(money.excess).saturating_sub(money.refunded);
    u64::try_from(within).unwrap_or(0)
}

/// What draws owe on a balance, in micro-credits.
fn owed_in(draws: &[DrawEntry], scope: Scope, name: &Name) -> u64 {
    let owed = draws.iter().filter(|draw| {
        draw.scope == scope && matches!(&draw.origin, OriginEntry::Debt { balance } if balance == name)
    });
    owed.fold(0, |sum, draw| sum.saturating_add(draw.amount.get()))
}

/// The debits of a call.
fn debits(regenerated: &Regenerated, user: UserId) -> Vec<Line> {
    let debit = |entry: &crate::audit::regenerate::Move| Line {
        user: owner(entry.scope, user),
        balance: entry.balance.clone(),
        kind: UpdateKind::Debit,
        grant: entry.grant,
        amount: entry.amount.signed().micros().saturating_neg(),
    };
    regenerated.moves.iter().map(debit).collect()
}

/// What a correction moves: what was drawn before less what is drawn now, back as refunds and beyond as debits.
fn moved(old: &[DrawEntry], new: &[DrawEntry], user: UserId) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (draws, sign) in [(old, 1), (new, -1)] {
        for draw in draws {
            let (balance, grant) = match &draw.origin {
                OriginEntry::Windows(_) => continue,
                OriginEntry::Grant { balance, grant } => (balance, Some(*grant)),
                OriginEntry::Debt { balance } => (balance, None),
            };
            let (user, kind) = (owner(draw.scope, user), UpdateKind::Refund);
            let amount = draw.amount.get().cast_signed().saturating_mul(sign);
            join(&mut lines, Line { user, balance: balance.clone(), kind, grant, amount });
        }
    }
    lines.retain(|line| line.amount != 0);
    for line in lines.iter_mut().filter(|line| line.amount < 0) {
        line.kind = UpdateKind::Debit;
    }
    lines
}

/// Adds a line, or adds it to one of the same kind, balance and grant.
fn join(lines: &mut Vec<Line>, line: Line) {
    let same = |other: &&mut Line| {
        (other.kind, other.user, &other.balance, other.grant)
            == (line.kind, line.user, &line.balance, line.grant)
    };
    match lines.iter_mut().find(same) {
        Some(known) => known.amount = known.amount.saturating_add(line.amount),
        None => lines.push(line),
    }
}

/// The first part in which two updates differ, and both.
fn first_difference(
    made: &RecordedUpdate,
    booked: &RecordedUpdate,
) -> Option<(&'static str, String, String)> {
    if made == booked {
        return None;
    }
    let parts = parts(made).into_iter().zip(parts(booked));
    let mut texts = parts.map(|((what, made), (_, booked))| (what, made, booked));
    texts.find(|(_, made, booked)| made != booked)
}

/// What an update says, for people.
fn parts(update: &RecordedUpdate) -> [(&'static str, String); 9] {
    let whose = update.user.map_or_else(String::new, |user| format!(" of {user}"));
    [
        ("balance", format!("{}{whose}", update.balance)),
        ("grant", update.grant.map_or_else(|| "debt".to_owned(), |grant| grant.to_string())),
        ("kind", update.kind.as_str().to_owned()),
        ("cause", update.cause.to_string()),
        ("amount", update.amount.to_string()),
        ("standing before", update.before.to_string()),
        ("standing after", update.after.to_string()),
        ("instant", update.at.to_string()),
        ("hash", hex::encode(update.hash)),
    ]
}
