//! The kernel against the access core: what it decides is what is regenerated, and nothing else is.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::access::record::{CorrectionRecord, EndRecord, Record};
use crate::audit::life::{Life, POLICY, START};
use crate::policy::load;
use crate::units::Span;

fn policy() -> Arc<Policy> {
    Arc::new(load::parse("lives", POLICY).unwrap_or_else(|problems| panic!("{problems}")))
}

/// The records of one life.
fn lived(nth: u64, steps: u64) -> Vec<Record> {
    let policy = policy();
    let mut life = Life::new(nth, &policy, true);
    let mut records = Vec::new();
    for step in 0..steps {
        life.step(START.plus(Span::from_ms(step * 3_600_000)), &mut records);
    }
    life.close(&mut records);
    records
}

fn usage_of(end: &EndRecord) -> Usage<'_> {
    Usage {
        plan: &end.plan,
        feature: &end.feature,
        unit: end.unit,
        model: &end.model,
        size: end.size.as_deref(),
        tier: end.ending.tier.as_deref(),
        outcome: end.ending.outcome,
        quantities: &end.used.quantities,
        held_at: end.held_at,
        ended_at: end.ended_at,
        draws: &end.draws,
    }
}

/// What overage is judged by, followed from the records alone.
#[derive(Default)]
struct Followed {
    forgiven: HashMap<(CounterKey, Timestamp), u64>,
    debt: HashMap<(Scope, Name), Credits>,
    ends: HashMap<crate::units::DecisionId, (EndRecord, CounterKey)>,
}

impl Followed {
    fn before(&self, weighed: &Weighed<'_>, at: Timestamp) -> Before {
        let owes_on = weighed.owes_on.map(|(scope, name)| (scope, Arc::clone(name)));
        Before {
            forgiven: *self.forgiven.get(&(weighed.forgiven_key(), Weighed::month(at))).unwrap_or(&0),
            debt: owes_on.and_then(|key| self.debt.get(&key).copied()).unwrap_or_default(),
            ..Before::default()
        }
    }

    fn repaid(&mut self, entries: &[crate::access::record::GrantEntry]) {
        for entry in entries {
            let named = |(scope, name): &&(Scope, Name)| {
                *scope == entry.scope && CounterKey::of_balance(name) == entry.balance
            };
            let key = self.debt.keys().find(named).cloned().unwrap();
            let debt = self.debt.get_mut(&key).unwrap();
            *debt = debt.checked_sub(entry.amount).unwrap();
        }
    }

    fn end(&mut self, end: &EndRecord, policy: &Policy) {
        self.repaid(&end.repaid);
        if !end.ending.reached_upstream {
            return;
        }
        let usage = usage_of(end);
        let weighed = weigh(&usage, policy, policy).unwrap_or_else(|why| panic!("{why}: {end:?}"));
        let key = weighed.forgiven_key();
        let before = self.before(&weighed, end.ended_at);
        let owed = weighed.owed;
        let regenerated = weighed.settle(before);
        assert_eq!(regenerated.charge, end.charge, "{before:?} {end:?}");
        assert_eq!(regenerated.demand, end.used);
        assert_eq!(regenerated.owed, owed);
        self.count(key, end.ended_at, end.charge);
        self.owe(&end.draws);
        self.ends.insert(end.decision, (end.clone(), key));
    }

    fn correction(&mut self, correction: &CorrectionRecord, policy: &Policy) {
        let (end, key) = self.ends.get(&correction.decision).cloned().unwrap();
        let month = Weighed::month(end.ended_at);
        if month == Weighed::month(correction.corrected_at) {
            *self.forgiven.entry((key, month)).or_default() -=
                (end.charge.forgiven.micros()) - end.charge.excess.micros();
        }
        for draw in &end.draws {
            if let OriginEntry::Debt { balance } = &draw.origin {
                let debt = self.debt.get_mut(&(draw.scope, Arc::clone(balance))).unwrap();
                *debt = debt.checked_sub(Credits::from_micros(draw.amount.get()).unwrap()).unwrap();
            }
        }
        self.repaid(&correction.repaid);
        let usage = Usage {
            tier: correction.ending.tier.as_deref(),
            outcome: correction.ending.outcome,
            quantities: &correction.used.quantities,
            ended_at: correction.corrected_at,
            draws: &correction.draws,
            ..usage_of(&end)
        };
        let weighed = weigh(&usage, policy, policy).unwrap_or_else(|why| panic!("{why}: {correction:?}"));
        let before = self.before(&weighed, correction.corrected_at);
        assert_eq!(weighed.settle(before).charge, correction.charge, "{correction:?}");
        self.count(key, correction.corrected_at, correction.charge);
        self.owe(&correction.draws);
    }

    fn count(&mut self, key: CounterKey, at: Timestamp, charge: Charge) {
        *self.forgiven.entry((key, Weighed::month(at))).or_default() +=
            charge.forgiven.micros() - charge.excess.micros();
    }

    fn owe(&mut self, draws: &[DrawEntry]) {
        for draw in draws {
            if let OriginEntry::Debt { balance } = &draw.origin {
                let debt = self.debt.entry((draw.scope, Arc::clone(balance))).or_default();
                *debt = debt.checked_add(Credits::from_micros(draw.amount.get()).unwrap()).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// I11: whatever an account lives through, its records regenerate its money.
    #[test]
    fn the_money_of_every_call_follows_from_its_usage_event(nth in any::<u64>()) {
        let policy = policy();
        let mut followed = Followed::default();
        for record in lived(nth, 120) {
            match &record {
                Record::End(end) => followed.end(end, &policy),
                Record::Correction(correction) => followed.correction(correction, &policy),
                Record::Grant(grant) if !grant.repaid.is_zero() => {
                    let debt = followed.debt.get_mut(&(Scope::Account, grant.balance.clone())).unwrap();
                    *debt = debt.checked_sub(grant.repaid).unwrap();
                }
                _ => {}
            }
        }
    }
}

/// What is there to be changed in a life that has all kinds of it.
#[test]
fn lives_have_all_kinds_of_money() {
    let mut kinds = HashMap::<&str, u64>::new();
    for nth in 0..20 {
        for record in lived(nth, 120) {
            if let Record::End(end) = &record {
                let charge = end.charge;
                for (kind, amount) in [
                    ("covered", charge.covered),
                    ("charged", charge.charged),
                    ("forgiven", charge.forgiven.saturating_sub(charge.excess)),
                    ("excess", charge.excess),
                ] {
                    *kinds.entry(kind).or_default() += u64::from(!amount.is_zero());
                }
                let owes = end.draws.iter().any(|draw| matches!(draw.origin, OriginEntry::Debt { .. }));
                *kinds.entry("owed").or_default() += u64::from(owes);
                *kinds.entry("repaid").or_default() += u64::from(!end.repaid.is_empty());
            }
            *kinds.entry("corrected").or_default() += u64::from(matches!(record, Record::Correction(_)));
            *kinds.entry("expired").or_default() += u64::from(matches!(record, Record::Expiry(_)));
        }
    }
    for kind in ["covered", "charged", "forgiven", "excess", "owed", "corrected", "expired"] {
        assert!(kinds.get(kind).is_some_and(|count| *count > 0), "no {kind} in {kinds:?}");
    }
}

type Change = fn(&mut Vec<DrawEntry>);

/// Each way in which draws cannot have come about.
#[test]
fn draws_that_cannot_have_been_are_told_apart() {
    let policy = policy();
    let records = lived(7, 300);
    let ends = records.iter().filter_map(|record| match record {
        Record::End(end) if end.draws.len() >= 3 && &*end.feature == "codex" => Some(end),
        _ => None,
    });
    let end = ends.into_iter().next().expect("a call of three draws");
    let changes: [(Change, Inadmissible); 8] = [
        (|draws| draws[0].layer = "gift".into(), Inadmissible::Layer),
        (|draws| draws.reverse(), Inadmissible::Order),
        (|draws| draws[0].scope = Scope::Account, Inadmissible::Owner),
        (|draws| draws[0].unit = Unit::Token, Inadmissible::Owner),
        (|draws| draws[0].amount = Amount::ZERO, Inadmissible::Amount),
        (|draws| draws[0].amount = Amount::MAX, Inadmissible::Amount),
        (|draws| draws[0].origin = OriginEntry::Windows(Vec::new()), Inadmissible::Instance),
        (
            |draws| {
                if let Some(last) = draws.last_mut() {
                    (last.amount, last.covers) = (Amount::MAX, Amount::MAX);
                }
            },
            Inadmissible::TooMuch,
        ),
    ];
    for (change, why) in changes {
        let mut draws = end.draws.clone();
        change(&mut draws);
        let usage = Usage { draws: &draws, ..usage_of(end) };
        assert_eq!(weigh(&usage, &policy, &policy).map(|_| ()), Err(why), "{draws:?}");
    }
    let usage = |change: fn(&mut Usage<'_>)| {
        let mut usage = usage_of(end);
        change(&mut usage);
        weigh(&usage, &policy, &policy).map(|_| ())
    };
    assert_eq!(usage(|usage| usage.plan = "none"), Err(Inadmissible::NoWaterfall));
    assert_eq!(usage(|usage| usage.unit = Unit::Second), Err(Inadmissible::Unit));
    assert_eq!(usage(|usage| usage.model = "gpt"), Err(Inadmissible::Unpriced));
}
