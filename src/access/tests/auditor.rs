//! A naive model beside the account: it keeps every fact and recomputes everything from the beginning, after each step.

use std::collections::BTreeMap;

use super::super::balance::GrantState;
use super::super::counter::{Holds, Slot};
use super::super::draw::Taken;
use super::*;
use crate::policy::compiled::{GuardRule, Period, Window};

type Owner = (Scope, Option<UserId>);

/// All that was seen.
#[derive(Default)]
pub(super) struct Auditor {
    /// `(user, when, estimate in tokens as counted, tokens in truth)`; the truth is none while it is open.
    admissions: Vec<(UserId, Timestamp, u64, Option<u64>)>,
    open: BTreeMap<DecisionId, usize>,
    ends: Vec<EndRecord>,
}

impl Auditor {
    /// A hold was taken: I3, and I4 for what it took.
    pub(super) fn held(&mut self, world: &World, held: &Held) {
        let hold = world.account.hold_of(held.decision).unwrap();
        let unit = hold.terms.feature().unit;
        let entries = hold.terms.entries(&hold.draws);
        let covered = covered(&entries);
        let paid = paid(&entries);
        let rest = hold.demand.whole.get() - covered;
        assert!(covered <= hold.demand.whole.get(), "I3");
        assert_eq!(paid, cost(&hold.demand, rest), "I3: balance draws are the cost ({unit:?})");
        Self::limits(world);
        let tokens = hold.demand.quantities.tokens();
        self.open.insert(hold.decision, self.admissions.len());
        self.admissions.push((hold.user, hold.held_at, tokens, None));
    }

    /// A hold ended: I6 and I9.
    pub(super) fn ended(&mut self, end: &EndRecord) {
        let place = self.open.remove(&end.decision).expect("I9: a hold ends once");
        self.admissions[place].3 = Some(end.used.quantities.tokens());
        let charge = end.charge;
        let sum = charge.covered.micros() + charge.forgiven.micros() + charge.charged.micros();
        assert_eq!(sum, charge.gross.micros(), "gross = covered + forgiven + charged");
        assert_eq!(charge.gross, end.used.price.ceil().unwrap());
        assert!(charge.excess <= charge.forgiven);
        assert_eq!(paid(&end.draws), charge.charged.micros(), "I6: draws from balances are what is charged");
        let rest = end.used.whole.get() - covered(&end.draws);
        assert_eq!(
            cost(&end.used, rest),
            charge.charged.micros() + charge.forgiven.micros(),
            "I3 of the truth"
        );
        self.ends.push(end.clone());
    }

    /// Everything that must hold after every step.
    pub(super) fn check(&self, world: &World) {
        self.windows(world);
        self.buckets(world);
        Self::money(world);
        self.forgiven();
        assert_eq!(self.open.len(), world.account.holds().count(), "I9");
        let numbers: Vec<_> = world.records.iter().flat_map(numbers).collect();
        let gapless: Vec<_> = (1..=numbers.len() as u64).map(Seq).collect();
        assert_eq!(numbers, gapless, "seq without gaps");
        assert_eq!(
            books(world, &world.account, self.open.is_empty()),
            books(world, &world.rebuilt(), self.open.is_empty())
        );
    }

    /// I4 at admission: no window, cap or number of places is passed by what was just held.
    fn limits(world: &World) {
        let mine = |owner: &Owner| owner.1.is_none_or(|owner| owner == world.user);
        for (owner, window) in windows(world).into_iter().filter(|(owner, _)| mine(owner)) {
            let Some(allow) = window.allow else { continue };
            let state = world.account.window(owner.0, owner.1.unwrap_or(UserId::MIN), window, world.now);
            let taken = state.used + state.held;
            // What the truth of others has brought above a limit lets nothing more in.
            let added = drawn_now(world, window);
            assert!(added == 0 || taken <= allow.get(), "I4: {taken} of {allow:?}");
        }
        let waterfall = world.terms("coin");
        for guard in &waterfall.waterfall().unwrap().guards {
            if let GuardRule::Concurrent { limit } = guard.rule {
                let places = world.account.holds().filter(|hold| hold.user == world.user).count() as u64;
                assert!(places <= limit, "I4: {places} in flight");
            }
        }
    }

    /// What a window stands at is the sum of the draws that name it.
    fn windows(&self, world: &World) {
        for (owner, window) in windows(world) {
            let user = owner.1.unwrap_or(UserId::MIN);
            let state = world.account.window(owner.0, user, window, world.now);
            if !state.is_open() {
                continue;
            }
            let named = |draws: &[DrawEntry]| {
                let amount = |draw: &DrawEntry| match &draw.origin {
                    OriginEntry::Windows(instances)
                        if instances.contains(&(window.key, state.instance.start)) =>
                    {
                        draw.amount.get()
                    }
                    _ => 0,
                };
                draws.iter().map(amount).sum::<u64>()
            };
            let of_owner = |user: UserId| owner.1.is_none_or(|owner| owner == user);
            let ends = self.ends.iter().filter(|end| of_owner(end.user));
            let holds = world.account.holds().filter(|hold| of_owner(hold.user));
            let used: u64 = ends.map(|end| named(&end.draws)).sum();
            let held: u64 = holds.map(|hold| named(&hold.terms.entries(&hold.draws))).sum();
            if is_layer(world, window) {
                assert_eq!((state.used, state.held), (used, held), "a window is the sum of its draws");
            }
        }
    }

    /// I4 in any interval T: admissions ≤ burst + rate × T, each at min(estimate, truth), open holds at their
    /// estimate, voids at 0; requests count whatever became of them.
    fn buckets(&self, world: &World) {
        for guard in &world.terms("coin").waterfall().unwrap().guards {
            let GuardRule::Rate(rate) = guard.rule else { continue };
            let count = |(_, _, estimate, truth): &(UserId, Timestamp, u64, Option<u64>)| match rate.unit {
                Unit::Request => 1,
                _ => truth.map_or(*estimate, |truth| truth.min(*estimate)).min(rate.burst),
            };
            let of_user = self.admissions.iter().filter(|(user, ..)| *user == world.user).collect::<Vec<_>>();
            for first in 0..of_user.len() {
                let mut sum = 0;
                for admission in &of_user[first..] {
                    sum += count(admission);
                    let time = admission.1.since(of_user[first].1).ms();
                    let bound = rate.scaled(rate.burst) + rate.amount * time;
                    assert!(rate.scaled(sum) <= bound, "I4: {sum} in {time} ms under {}", guard.name);
                }
            }
        }
    }

    /// I5, I12: a balance is what was granted less what was drawn and what expired, and holds what is reserved.
    fn money(world: &World) {
        let mut expected = granted_less_drawn(&world.records);
        for (user, purse) in world.account.purses() {
            for state in purse.balances() {
                let sum = expected.remove(&(user, state.key)).unwrap_or(0);
                assert_eq!(state.standing().micros(), sum, "I12");
                assert!(state.debt <= whole(MOST_DEBT), "I5");
                let free = |grant: &GrantState| !grant.available(world.now, Holds::Count).is_zero();
                assert!(state.debt.is_zero() || !state.grants().iter().any(free), "what is free pays a debt");
                assert!(
                    state.grants().iter().all(|grant| grant.held <= grant.remaining),
                    "a hold can be met"
                );
                assert!(
                    state.grants().iter().all(|grant| !grant.remaining.is_zero()),
                    "nothing empty is kept"
                );
                let order = |it: &GrantState| (it.priority, it.expires_at, it.id);
                assert!(state.grants().is_sorted_by_key(order));
                let held: u64 = state.grants().iter().map(|grant| grant.held.micros()).sum();
                assert_eq!(held, reserved(world, user, state.key));
            }
        }
        assert!(expected.values().all(|sum| *sum == 0), "every balance that was granted is there");
    }

    /// Forgiven up to `overage.forgive` in a UTC month; the sequences stay within one.
    fn forgiven(&self) {
        let forgiven: u64 =
            self.ends.iter().map(|end| end.charge.forgiven.micros() - end.charge.excess.micros()).sum();
        assert!(forgiven <= whole(MOST_FORGIVEN).micros());
    }
}

/// The largest bounds on overage of the policies in use.
pub(super) const MOST_DEBT: u64 = 15;
/// The largest bounds on overage of the policies in use.
pub(super) const MOST_FORGIVEN: u64 = 20;

/// What records say that each balance stands at, in micro-credits.
fn granted_less_drawn(records: &[Record]) -> BTreeMap<(Option<UserId>, CounterKey), i64> {
    let mut sums: BTreeMap<_, i64> = BTreeMap::new();
    let mut add = |user: Option<UserId>, key: CounterKey, credits: Credits, sign: i64| {
        *sums.entry((user, key)).or_default() += sign * i64::try_from(credits.micros()).unwrap();
    };
    for record in records {
        match record {
            Record::Hold(hold) => {
                for grant in &hold.issued {
                    add(grant.user, CounterKey::of_balance(&grant.balance), grant.amount, 1);
                }
            }
            Record::Adjustment(adjustment) => {
                let key = CounterKey::of_balance(&adjustment.balance);
                add(adjustment.user, key, adjustment.amount.available(), 1);
                add(adjustment.user, key, adjustment.amount.owed(), -1);
            }
            Record::Correction(_) | Record::Revision(_) => {
                let correction = record.revision().unwrap();
                let owner = |scope| (scope == Scope::User).then_some(correction.user);
                for entry in &correction.moves {
                    let key = CounterKey::of_balance(&entry.balance);
                    add(owner(entry.scope), key, entry.amount.available(), 1);
                    add(owner(entry.scope), key, entry.amount.owed(), -1);
                }
                for entry in &correction.expired {
                    add(owner(entry.scope), entry.balance, entry.amount, -1);
                }
            }
            Record::Grant(grant) => add(grant.user, CounterKey::of_balance(&grant.balance), grant.amount, 1),
            Record::Expiry(expiry) => {
                for entry in &expiry.grants {
                    add(expiry.user, entry.balance, entry.amount, -1);
                }
            }
            Record::End(end) => {
                let owner = |scope| (scope == Scope::User).then_some(end.user);
                for draw in &end.draws {
                    if let OriginEntry::Grant { balance, .. } | OriginEntry::Debt { balance } = &draw.origin {
                        add(owner(draw.scope), CounterKey::of_balance(balance), credits_of(draw), -1);
                    }
                }
                for entry in &end.expired {
                    add(owner(entry.scope), entry.balance, entry.amount, -1);
                }
            }
            Record::Job(_) | Record::Made(_) => {}
        }
    }
    sums
}

/// What open holds have reserved of a balance.
fn reserved(world: &World, user: Option<UserId>, key: CounterKey) -> u64 {
    let mut sum = 0;
    for hold in world.account.holds() {
        for draw in hold.terms.entries(&hold.draws) {
            let owner = (draw.scope == Scope::User).then_some(hold.user);
            match &draw.origin {
                OriginEntry::Grant { balance, .. }
                    if owner == user && CounterKey::of_balance(balance) == key =>
                {
                    sum += draw.amount.get();
                }
                _ => {}
            }
        }
    }
    sum
}

/// Numbers of the records in a record.
fn numbers(record: &Record) -> Vec<Seq> {
    match record {
        Record::Hold(hold) => hold.issued.iter().map(|grant| grant.seq).collect(),
        other => other.seq().into_iter().collect(),
    }
}

/// What windows cover, in the feature's unit.
fn covered(draws: &[DrawEntry]) -> u64 {
    let windows = draws.iter().filter(|draw| matches!(draw.origin, OriginEntry::Windows(_)));
    windows.map(|draw| draw.covers.get()).sum()
}

/// What balances give, debt included.
fn paid(draws: &[DrawEntry]) -> u64 {
    let balances = draws.iter().filter(|draw| !matches!(draw.origin, OriginEntry::Windows(_)));
    balances.map(|draw| draw.amount.get()).sum()
}

/// ceil(price × rest / whole)
fn cost(demand: &Demand, rest: u64) -> u64 {
    let (numerator, denominator) = demand.price.parts();
    let whole = u128::from(demand.whole.get().max(1));
    u64::try_from((numerator * u128::from(rest)).div_ceil(denominator * whole)).unwrap()
}

/// All windows of `codex` with their owners, caps included.
fn windows(world: &World) -> Vec<(Owner, &Window)> {
    let terms = world.policy.plan("plus").unwrap();
    let feature = world.policy.feature("codex").unwrap();
    let waterfall = world.policy[terms].waterfall(feature).unwrap();
    let layers = waterfall.layers.iter().filter_map(|layer| match &layer.source {
        Source::Window(windows) => Some(windows.windows.iter().map(|window| (windows.per, window))),
        Source::Balance(_) => None,
    });
    let caps = waterfall.guards.iter().filter_map(|guard| match &guard.rule {
        GuardRule::Spend { window } => Some((guard.per, window)),
        _ => None,
    });
    let owners = |scope| match scope {
        Scope::User => vec![(scope, Some(user(0))), (scope, Some(user(1)))],
        Scope::Account => vec![(scope, None)],
    };
    layers
        .flatten()
        .chain(caps)
        .flat_map(|(scope, window)| owners(scope).into_iter().map(move |owner| (owner, window)))
        .collect()
}

fn is_layer(world: &World, window: &Window) -> bool {
    let waterfall = world.terms("coin");
    let caps = |rule: &GuardRule| matches!(rule, GuardRule::Spend { window: cap } if cap.key == window.key);
    !waterfall.waterfall().unwrap().guards.iter().any(|guard| caps(&guard.rule))
}

/// What the newest hold took of the present instance of a window.
fn drawn_now(world: &World, window: &Window) -> u64 {
    let Some(Record::Hold(record)) = world.records.last() else { return 0 };
    let terms = world.terms("coin");
    let spent = record.charges.iter().filter_map(|charge| match charge.taken {
        Taken::Spend(amount, _) => {
            let guard = &terms.waterfall().unwrap().guards[usize::from(charge.guard)];
            matches!(&guard.rule, GuardRule::Spend { window: cap } if cap.key == window.key)
                .then_some(amount.get())
        }
        _ => None,
    });
    let drawn = terms.entries(&record.draws).into_iter().filter_map(|draw| match draw.origin {
        OriginEntry::Windows(instances) if instances.iter().any(|(key, _)| *key == window.key) => {
            Some(draw.amount.get())
        }
        _ => None,
    });
    spent.sum::<u64>() + drawn.sum::<u64>()
}

/// What books say of an account: windows as used, balances without holds, and – where nothing is open, since a bucket
/// does not tell apart what is – the levels of buckets.
fn books(world: &World, account: &Account, buckets: bool) -> String {
    let mut lines = vec![format!("{:?}", account.seq)];
    for (owner, window) in windows(world) {
        let state = account.window(owner.0, owner.1.unwrap_or(UserId::MIN), window, world.now);
        let start = if matches!(window.period, Period::FirstUse(_)) { state.instance.start.ms() } else { 0 };
        if state.used > 0 {
            lines.push(format!("{owner:?} {:?} {start} {}", window.key, state.used));
        }
    }
    let forgiven = world.policy[world.policy.feature("codex").unwrap()].forgiven_key;
    for (user, purse) in account.purses() {
        let mut slots: Vec<&Slot> = purse.counters.iter().collect();
        slots.sort_by_key(|slot| slot.key);
        for slot in
            slots.into_iter().filter(|slot| slot.key == forgiven || (buckets && is_bucket(world, slot)))
        {
            lines.push(format!("{user:?} {slot:?}"));
        }
        let mut balances: Vec<_> = purse.balances().iter().collect();
        balances.sort_by_key(|state| state.key);
        for state in balances.into_iter().filter(|state| state.issued || state.standing().micros() != 0) {
            let grants: Vec<_> =
                state.grants().iter().map(|it| (it.id, it.priority, it.expires_at, it.remaining)).collect();
            lines.push(format!("{user:?} {:?} {} {} {grants:?}", state.key, state.issued, state.debt));
        }
    }
    lines.join("\n")
}

fn is_bucket(world: &World, slot: &Slot) -> bool {
    let guards = &world.terms("coin").waterfall().unwrap().guards.len();
    let terms = world.terms("coin");
    let rated = |guard: &crate::policy::compiled::Guard| {
        guard.key == slot.key && matches!(guard.rule, GuardRule::Rate(_))
    };
    *guards > 0 && terms.waterfall().unwrap().guards.iter().any(rated)
}
