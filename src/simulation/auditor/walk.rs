//! The waterfall once more, as naively as it can be said.

use super::super::rules::{Balance, DAY_MS, Feature, Layer, RULES};
use super::verdict::Walked;
use super::{Call, Change, Grant, Id, Money, Owner, Source, State, Take, Use, What};

/// 2026-12-01 and 2027-01-01, UTC: between them lies a month, and no run is longer.
const MONTHS: [i64; 2] = [1_796_083_200_000, 1_798_761_600_000];

fn month(at: i64) -> usize {
    MONTHS.iter().filter(|began| **began <= at).count()
}

/// What a call that is priced anew keeps of its money.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    pub(super) refunded: u64,
    pub(super) forgiven: u64,
    pub(super) charged: u64,
}

impl Call {
    fn gross(&self, used: Use) -> u64 {
        u64::try_from(RULES[self.priced].thousandths(used).div_ceil(1000)).unwrap()
    }

    /// All of a use in the feature's unit.
    pub(super) fn whole(&self, used: Use) -> u64 {
        let gross = self.gross(used);
        let whole = if self.feature == Feature::Codex { gross } else { used.seconds };
        whole.max(u64::from(gross > 0))
    }

    /// What the part `rest` of a use costs.
    fn share(&self, used: Use, rest: u64) -> u64 {
        let whole = u128::from(self.whole(used).max(1));
        let thousandths = RULES[self.priced].thousandths(used) * u128::from(rest);
        u64::try_from(thousandths.div_ceil(1000 * whole)).unwrap()
    }

    /// Whose windows or balance a layer is.
    pub(super) fn owner(&self, layer: Layer) -> Owner {
        let shared = match layer {
            Layer::Window => self.feature == Feature::Sora,
            Layer::Balance(balance) => balance == Balance::Wallet,
        };
        Owner { account: self.account, user: (!shared).then_some(self.user) }
    }
}

impl State {
    /// What open calls have reserved of a grant.
    pub(super) fn reserved(&self, grant: Id) -> u64 {
        let open = self.calls.values().filter(|call| call.open);
        let takes = open.flat_map(|call| &call.takes);
        takes.filter(|take| take.source == Source::Grant(grant)).map(|take| take.amount).sum()
    }

    /// What can be had of a grant.
    fn free(&self, grant: &Grant, now: i64) -> u64 {
        if grant.expires <= now { 0 } else { grant.left - self.reserved(grant.id) }
    }

    /// When the present instance of a window began, and the sum of all that names it.
    fn window(&self, call: &Call, place: usize, length: i64, now: i64) -> (i64, u64) {
        let owner = call.owner(Layer::Window);
        let same = |other: &&Call| other.feature == call.feature && other.owner(Layer::Window) == owner;
        let takes = self.calls.values().filter(same).flat_map(|call| &call.takes);
        let named: Vec<(i64, u64)> = takes
            .filter(|take| take.amount > 0)
            .filter_map(|take| match &take.source {
                Source::Windows(starts) => Some((starts[place], take.amount)),
                Source::Grant(_) | Source::Debt => None,
            })
            .collect();
        let start = if call.feature == Feature::Sora {
            now - now.rem_euclid(DAY_MS)
        } else {
            let present = named.iter().map(|it| it.0).filter(|start| now < start + length);
            present.max().unwrap_or(now)
        };
        (start, named.iter().filter(|it| it.0 == start).map(|it| it.1).sum())
    }

    /// What is left of each window.
    pub(in crate::simulation) fn left(&self, call: &Call, now: i64) -> Vec<u64> {
        let windows = call.feature.windows(&RULES[call.rules]);
        let left = windows
            .iter()
            .enumerate()
            .map(|(place, (allow, length))| allow.saturating_sub(self.window(call, place, *length, now).1));
        left.collect()
    }

    /// What new holds can take of a balance.
    pub(in crate::simulation) fn available(&self, owner: Owner, balance: Balance, now: i64) -> u64 {
        if self.debt(owner, balance) > 0 {
            return 0;
        }
        let mine = self.grants.iter().filter(|it| (it.owner, it.balance) == (owner, balance));
        mine.map(|it| self.free(it, now)).sum()
    }

    /// What the windows give of `rest`.
    fn windows_give(&self, call: &Call, rest: u64, now: i64) -> Take {
        let left = self.left(call, now).into_iter().min().unwrap_or(0);
        let windows = call.feature.windows(&RULES[call.rules]);
        let starts = windows.iter().enumerate().map(|(place, it)| self.window(call, place, it.1, now).0);
        Take { layer: 0, amount: rest.min(left), source: Source::Windows(starts.collect()) }
    }

    /// What an estimate takes, beyond what is held for less of it.
    pub(super) fn walk(
        &self,
        call: &Call,
        held: Option<(u64, Vec<Take>)>,
        offer: Option<&Grant>,
        now: i64,
    ) -> Walked {
        let whole = call.whole(call.estimate);
        let (before, held) = held.unwrap_or_default();
        let sum = |windows: bool| {
            let of = |take: &&Take| matches!(take.source, Source::Windows(_)) == windows;
            held.iter().filter(of).map(|take| take.amount).sum::<u64>()
        };
        let mut takes = Vec::new();
        let more = self.windows_give(call, whole - before, now);
        let rest = whole - sum(true) - more.amount;
        takes.extend((more.amount > 0).then_some(more));
        let cost = if rest == 0 { 0 } else { call.share(call.estimate, rest).saturating_sub(sum(false)) };
        let mut lacking = cost;
        for (layer, kind) in call.feature.layers().iter().enumerate() {
            let Layer::Balance(balance) = *kind else { continue };
            let owner = call.owner(*kind);
            let in_debt = self.debt(owner, balance) > 0;
            let mine = |it: &&Grant| !in_debt && (it.owner, it.balance) == (owner, balance);
            let had = self.grants.iter().filter(mine).map(|it| (it, self.free(it, now)));
            let offered = offer.filter(|it| it.balance == balance).map(|it| (it, it.left));
            let mut grants: Vec<(&Grant, u64)> = had.chain(offered).collect();
            grants.sort_by_key(|(it, _)| (it.priority, it.expires, it.id));
            for (grant, free) in grants {
                let amount = lacking.min(free);
                lacking -= amount;
                let source = Source::Grant(grant.id);
                takes.extend((amount > 0).then_some(Take { layer, amount, source }));
            }
        }
        Walked { takes, cost, lacking }
    }

    /// Ends an open call.
    pub(super) fn end(&mut self, id: Id, used: Option<Use>, outcome: &'static str, now: i64) -> Money {
        let (money, changes) = self.settle(id, used.unwrap_or_default(), Kept::default(), now);
        let call = self.calls.get_mut(&id).unwrap();
        (call.ended_at, call.outcome, call.money) = (now, outcome, money);
        (call.used, call.settled_at) = (used.unwrap_or_default(), now);
        call.revision = u32::from(used.is_some());
        let account = call.account;
        let what = match used {
            Some(Use { tier, .. }) => What::Call { id, outcome, tier, money, revision: 1 },
            None => What::Void { id },
        };
        self.book(account, now, what, changes);
        money
    }

    /// The walk with the truth: each layer gives what was held of it first, then what it has.
    fn settle(&mut self, id: Id, used: Use, kept: Kept, now: i64) -> (Money, Vec<Change>) {
        let mut call = self.calls[&id].clone();
        let held = std::mem::take(&mut call.takes);
        call.open = false;
        let gross = call.gross(used);
        let whole = call.whole(used);
        let rest = whole - self.settle_windows(&mut call, &held, whole, now);
        let cost = if rest == 0 { 0 } else { call.share(used, rest) };
        let mut money = Money { gross, covered: gross - cost, ..Money::default() };
        call.refunded = cost.min(kept.refunded);
        let cost = cost - call.refunded;
        let most = cost.saturating_sub(kept.forgiven).max(kept.charged).min(cost);
        let (mut debits, mut after, mut lacking) = (Vec::new(), Vec::new(), most);
        for (layer, kind) in call.feature.layers().iter().enumerate() {
            let Layer::Balance(balance) = *kind else { continue };
            let owner = call.owner(*kind);
            let own: Vec<&Take> = held.iter().filter(|take| take.layer == layer).collect();
            for place in 0..self.grants.len() {
                let it = &self.grants[place];
                if (it.owner, it.balance) != (owner, balance) {
                    continue;
                }
                let reserved = own.iter().filter(|take| take.source == Source::Grant(it.id));
                let reserved = reserved.map(|take| take.amount).sum::<u64>();
                let gives = if it.expires <= now { reserved } else { self.free(it, now) };
                let amount = lacking.min(gives);
                if amount > 0 {
                    lacking -= amount;
                    money.charged += amount;
                    let grant = it.id;
                    self.grants[place].left -= amount;
                    call.takes.push(Take { layer, amount, source: Source::Grant(grant) });
                    let amount = -amount.cast_signed();
                    debits.push(Change { owner, balance, kind: "debit", grant: Some(grant), amount });
                }
            }
            if !own.is_empty() {
                after.extend(self.expire(owner, balance, now));
            }
            after.extend(self.repay(owner, balance, now));
        }
        let lendable = most - money.charged;
        self.overage(&mut call, (lacking + cost - most, lendable), &mut money, &mut debits, now);
        money.forgiven += call.refunded;
        self.calls.insert(id, call);
        self.spend(id, money.charged, now);
        debits.extend(after);
        (money, debits)
    }

    /// Tells how much the windows have covered.
    fn settle_windows(&mut self, call: &mut Call, held: &[Take], whole: u64, now: i64) -> u64 {
        let mut covered = 0;
        for own in held.iter().filter(|take| take.layer == 0) {
            let amount = own.amount.min(whole - covered);
            covered += amount;
            if amount > 0 {
                call.takes.push(Take { amount, ..own.clone() });
            }
        }
        self.calls.insert(call.id, call.clone());
        let more = self.windows_give(call, whole - covered, now);
        covered += more.amount;
        if more.amount > 0 {
            call.takes.push(more);
        }
        self.calls.insert(call.id, call.clone());
        covered
    }

    /// What nothing could give: forgiven, then owed, then forgiven with an alarm.
    fn overage(
        &mut self,
        call: &mut Call,
        (shortage, lendable): (u64, u64),
        money: &mut Money,
        debits: &mut Vec<Change>,
        now: i64,
    ) {
        let rules = &RULES[call.rules];
        // Only codex forgives and lends.
        let codex = call.feature == Feature::Codex;
        let (forgive, lend) = if codex { (rules.forgive, rules.debt) } else { (0, 0) };
        let used = self.forgiven.entry((call.account, month(now))).or_default();
        let forgiven = shortage.min(forgive.saturating_sub(*used));
        *used += forgiven;
        let (owner, balance) = (Owner { account: call.account, user: None }, Balance::Wallet);
        let debt = self.debts.entry((owner, balance)).or_default();
        let owed = (shortage - forgiven).min(lend.saturating_sub(*debt)).min(lendable);
        *debt += owed;
        if owed > 0 {
            let layer = call.feature.layers().len() - 1;
            call.takes.push(Take { layer, amount: owed, source: Source::Debt });
            let amount = -owed.cast_signed();
            debits.push(Change { owner, balance, kind: "debit", grant: None, amount });
        }
        money.charged += owed;
        money.excess = shortage - forgiven - owed;
        money.forgiven = forgiven + money.excess;
    }

    /// Takes out what has expired and is not held.
    pub(super) fn expire(&mut self, owner: Owner, balance: Balance, now: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        for place in 0..self.grants.len() {
            let it = &self.grants[place];
            if (it.owner, it.balance) != (owner, balance) || it.expires > now {
                continue;
            }
            let free = it.left - self.reserved(it.id);
            if free > 0 {
                let (grant, amount) = (Some(it.id), -free.cast_signed());
                changes.push(Change { owner, balance, kind: "expiry", grant, amount });
                self.grants[place].left -= free;
            }
        }
        changes
    }

    /// Pays what is owed out of what is free.
    pub(super) fn repay(&mut self, owner: Owner, balance: Balance, now: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        for place in 0..self.grants.len() {
            let it = &self.grants[place];
            if (it.owner, it.balance) != (owner, balance) {
                continue;
            }
            let part = self.debt(owner, balance).min(self.free(it, now));
            if part > 0 {
                let change = |grant, amount| Change { owner, balance, kind: "adjustment", grant, amount };
                changes.push(change(None, part.cast_signed()));
                changes.push(change(Some(it.id), -part.cast_signed()));
                self.grants[place].left -= part;
                *self.debts.entry((owner, balance)).or_default() -= part;
            }
        }
        changes
    }

    /// Settles a call again that its deadline had ended. Nothing where its debt has been repaid since.
    pub(super) fn correct(&mut self, id: Id, used: Use, now: i64) -> Option<Money> {
        self.again(id, used, Kept::default(), now)?;
        let live = self.calls.get_mut(&id)?;
        live.corrected = true;
        Some(live.money)
    }

    /// Settles an ended call again, by what prices it now.
    pub(super) fn again(&mut self, id: Id, used: Use, kept: Kept, now: i64) -> Option<Money> {
        let before = self.calls[&id].clone();
        let wallet = Owner { account: before.account, user: None };
        let of_debt = |take: &&Take| take.source == Source::Debt;
        let owed: u64 = before.takes.iter().filter(of_debt).map(|take| take.amount).sum();
        if self.debt(wallet, Balance::Wallet) < owed {
            return None;
        }
        *self.debts.entry((wallet, Balance::Wallet)).or_default() -= owed;
        for take in &before.takes {
            if let Source::Grant(grant) = take.source {
                self.grants.iter_mut().find(|it| it.id == grant)?.left += take.amount;
            }
        }
        if month(before.settled_at) == month(now) {
            let forgiven = self.forgiven.entry((before.account, month(now))).or_default();
            *forgiven -= before.money.forgiven - before.money.excess - before.refunded;
        }
        let mut held = before.clone();
        held.takes.retain(|take| take.source != Source::Debt);
        held.open = true;
        let is_held_there = self.is_held_there(&before);
        self.calls.insert(id, held);
        let (money, settled) = self.settle(id, used, kept, now);
        let mut changes = self.moves(&before, id);
        changes.extend(settled.into_iter().filter(|change| change.kind != "debit"));
        let live = self.calls.get_mut(&id)?;
        (live.money, live.used, live.settled_at) = (money, used, now);
        live.revision += 1;
        let (outcome, tier, revision) = (live.outcome, used.tier, live.revision);
        let what = What::Call { id, outcome, tier, money, revision };
        self.book(before.account, now, what, changes);
        if !is_held_there {
            self.spend_more(&before, now);
        }
        Some(money)
    }

    /// What was taken before, less what is taken now, by grant.
    pub(super) fn moves(&self, before: &Call, id: Id) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        for (takes, sign) in [(&before.takes, 1), (&self.calls[&id].takes, -1)] {
            for take in takes {
                let grant = match take.source {
                    Source::Windows(_) => continue,
                    Source::Grant(grant) => Some(grant),
                    Source::Debt => None,
                };
                let kind = before.feature.layers()[take.layer];
                let Layer::Balance(balance) = kind else { continue };
                let (owner, amount) = (before.owner(kind), sign * take.amount.cast_signed());
                let same = |it: &&mut Change| (it.owner, it.balance, it.grant) == (owner, balance, grant);
                match changes.iter_mut().find(same) {
                    Some(known) => known.amount += amount,
                    None => changes.push(Change { owner, balance, kind: "", grant, amount }),
                }
            }
        }
        changes.retain(|change| change.amount != 0);
        for change in &mut changes {
            change.kind = if change.amount > 0 { "refund" } else { "debit" };
        }
        changes
    }
}
