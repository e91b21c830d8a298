//! The invariants, each of a state: told anew from the records, without the code that made them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use overfall::access::Hold;
use overfall::access::balance::GrantState;
use overfall::access::draw::{Origin, Taken};
use overfall::access::record::{Charge, DrawEntry, Ending, OriginEntry, Outcome, Record};
use overfall::audit::Invariant;
use overfall::ledger::chain::{self, Link};
use overfall::ledger::rows::{Cause, UpdateKind};
use overfall::policy::compiled::{CounterKey, GuardRule, Policy, Scope, Source, Window};
use overfall::units::{DecisionId, Quantities, Timestamp, UserId};
use stateright::Property;

use super::Protocol;
use super::books::{BookedUpdate, Kept, order_of};
use super::scene::{DEBT_MOST, TICK, at, decision};
use super::state::{Call, Gateway, State};

type Check = fn(&Protocol, &State) -> bool;
type Owner = (Option<UserId>, CounterKey);

const INVARIANTS: [(Invariant, Check); 10] = [
    (Invariant::I2, |_, state| state.broken != Some(Invariant::I2)),
    (Invariant::I3, |_, state| {
        state.meter.as_ref().is_none_or(|meter| meter.account.holds().all(is_covered))
    }),
    (Invariant::I4, |_, state| state.broken != Some(Invariant::I4)),
    (Invariant::I5, no_balance_is_too_low),
    (Invariant::I6, money_is_that_of_the_usage),
    (Invariant::I7, books_are_the_log),
    (Invariant::I8, |_, state| chains_hold(&state.books.updates)),
    (Invariant::I9, holds_end_once_and_in_time),
    (Invariant::I10, what_was_promised_is_there),
    (Invariant::I12, nothing_is_made_or_lost),
];

/// What must be reached at some time, or the model proves nothing about it.
const REACHES: &[(&str, Check)] = &[
    ("a request is blocked", |_, state| state.calls.contains(&Call::Blocked)),
    ("a call is charged at its floor after a crash", |_, state| ended_as(state, Outcome::Crashed)),
    ("a call is ended by its deadline", |_, state| ended_as(state, Outcome::Expired)),
    ("a hold that never left is given back", |_, state| ended_as(state, Outcome::NotSent)),
    ("a refusal is told", |_, state| state.calls.contains(&Call::Told)),
    ("a record comes before its turn", |_, state| taken(state).any(|seq| seq > state.books.seq + 1)),
    ("a record comes again", |_, state| taken(state).any(|seq| seq <= state.books.seq)),
    ("two workers have the same record", |_, state| {
        taken(state).count() > taken(state).collect::<BTreeSet<_>>().len()
    }),
    ("a late truth is booked", |_, state| state.books.applied.iter().any(|kept| kept.corrects().is_some())),
    ("a refund is booked", |_, state| state.books.applied.iter().any(|kept| is_by(kept, "refund"))),
    ("another price is booked", |_, state| state.books.applied.iter().any(|kept| is_by(kept, "rerate"))),
    ("a call is refunded and priced anew", |_, state| {
        ["refund", "rerate"].iter().all(|by| state.log.iter().any(|kept| is_by(kept, by)))
    }),
    ("a call is refunded before a late truth", |_, state| {
        let truth = state.calls.contains(&Call::Job) && ended_as(state, Outcome::Expired);
        truth && state.log.iter().any(|kept| is_by(kept, "refund"))
    }),
    ("a balance is adjusted while a call holds of it", |_, state| {
        let adjusts = |kept: &Arc<Kept>| matches!(kept.record, Record::Adjustment(_));
        state.log.last().is_some_and(adjusts) && state.calls.contains(&Call::Sent)
    }),
    ("an adjustment is booked", |_, state| {
        state.books.applied.iter().any(|kept| matches!(kept.record, Record::Adjustment(_)))
    }),
    ("an order is known after a crash, and not booked", |model, state| {
        let ordered = state.meter.iter().any(|meter| !meter.ordered.is_empty());
        ordered && state.left.crashes < model.bounds.crashes
    }),
    ("a grant expires", |_, state| state.log.iter().any(|kept| matches!(kept.record, Record::Expiry(_)))),
    ("a grant expires while it is held", |_, state| ends(state).any(|end| !end.expired.is_empty())),
    ("a running request is given more", |model, state| {
        state.meter.as_ref().is_some_and(|meter| meter.account.holds().any(|hold| is_grown(model, hold)))
    }),
    ("a running request is given no more", |model, state| {
        let asked = state.left.extensions < model.bounds.extensions;
        let holds = || state.meter.iter().flat_map(|meter| meter.account.holds());
        let grown = |hold: &Hold| is_grown(model, hold);
        asked && state.calls.contains(&Call::Sent) && holds().count() == 1 && !holds().any(grown)
    }),
    ("a job is ended by another gateway than began it", |model, state| {
        (0..).zip(model.bounds.calls).filter(|(_, plan)| plan.job).any(|(place, plan)| {
            let others = (0..).zip(&state.gateways).filter(|(at, _)| *at != plan.gateway);
            others.map(|(_, other)| other).any(|other| Gateway::has_end(&other.journal, decision(place)))
        })
    }),
    ("policy issues a grant", |_, state| state.log.iter().any(|kept| matches!(kept.record, Record::Hold(_)))),
    ("a debt is owed", |_, state| {
        ends(state).any(|end| end.draws.iter().any(|draw| matches!(draw.origin, OriginEntry::Debt { .. })))
    }),
    ("a call ends under a policy that is no more", |model, state| {
        ends(state).any(|end| end.policy != model.scene.policy(state.policy).version)
    }),
    ("a journal keeps a hold whose end it let go of", |_, state| {
        state.gateways.iter().any(|gateway| gateway.journal.iter().any(|frame| frame.closed))
    }),
    ("everything is booked", |_, state| {
        let calm = !state.calls.iter().any(|call| matches!(call, Call::Idle | Call::Held | Call::Sent));
        calm && !state.log.is_empty() && state.books.seq == state.log.len() as u64
    }),
];

/// The properties of a model within bounds.
pub(crate) fn all(model: &Protocol) -> Vec<Property<Protocol>> {
    let always = INVARIANTS.iter().map(|(invariant, check)| Property::always(invariant.as_str(), *check));
    let wanted = REACHES.iter().filter(|(name, _)| model.bounds.reaches.contains(name));
    always.chain(wanted.map(|(name, check)| Property::sometimes(name, *check))).collect()
}

/// Whether such a state is known.
pub(crate) fn is_known(reach: &str) -> bool {
    REACHES.iter().any(|(name, _)| *name == reach)
}

fn taken(state: &State) -> impl Iterator<Item = u64> {
    state.workers.iter().flatten().filter_map(|kept| kept.seq)
}

fn ends(state: &State) -> impl Iterator<Item = &overfall::access::record::EndRecord> {
    state.log.iter().filter_map(|kept| kept.end())
}

/// Whether a record is a revision that an operator ordered so.
fn is_by(kept: &Kept, by: &str) -> bool {
    matches!(&kept.record, Record::Revision(told) if told.order.as_str() == by)
}

fn ended_as(state: &State, outcome: Outcome) -> bool {
    ends(state).any(|end| end.ending.outcome == outcome)
}

/// Whether a hold is for more than its request asked for.
fn is_grown(model: &Protocol, hold: &Hold) -> bool {
    let asked = model.bounds.calls.iter().zip(0..).find(|(_, place)| decision(*place) == hold.decision);
    asked.is_some_and(|(plan, _)| hold.demand.quantities.output_tokens > plan.estimate.1)
}

/// I3: what windows cover and balances give is what was asked for.
fn is_covered(hold: &Hold) -> bool {
    let (windows, balances): (Vec<_>, Vec<_>) =
        hold.draws.iter().partition(|draw| matches!(draw.origin, Origin::Windows(_)));
    let covered: u64 = windows.iter().map(|draw| draw.covers.get()).sum();
    let paid: u64 = balances.iter().map(|draw| draw.amount.get()).sum();
    let whole = hold.demand.whole.get();
    covered <= whole && paid == share(hold.demand.price.parts(), whole - covered, whole)
}

/// ceil(price × rest / whole)
fn share((numerator, denominator): (u128, u128), rest: u64, whole: u64) -> u64 {
    let all = numerator * u128::from(rest);
    u64::try_from(all.div_ceil(denominator * u128::from(whole.max(1)))).unwrap()
}

/// I4, where a hold has just been taken or extended: nothing that it took of is past its limit.
pub(crate) fn is_within_limits(state: &State, id: DecisionId) -> bool {
    let Some(meter) = &state.meter else { return true };
    let Some(hold) = meter.account.hold_of(id) else { return true };
    let policy = &hold.terms.policy;
    let beside: Vec<&Hold> = meter.account.holds().filter(|other| other.user == hold.user).collect();
    let places = guards(policy).all(|(_, rule)| match rule {
        GuardRule::Concurrent { limit } => beside.len() as u64 <= *limit,
        _ => true,
    });
    places
        && windows(policy).iter().all(|window| {
            let named = |draws: &[DrawEntry], start: Option<Timestamp>| -> u64 {
                let of_window = |draw: &&DrawEntry| match &draw.origin {
                    OriginEntry::Windows(instances) => instances
                        .iter()
                        .any(|(key, at)| *key == window.key && start.is_none_or(|start| *at == start)),
                    _ => false,
                };
                draws.iter().filter(of_window).map(|draw| draw.amount.get()).sum()
            };
            let mine = hold.terms.entries(&hold.draws);
            let start = mine.iter().find_map(|draw| match &draw.origin {
                OriginEntry::Windows(instances) => {
                    instances.iter().find(|(key, _)| *key == window.key).map(|it| it.1)
                }
                _ => None,
            });
            let Some(start) = start else { return true };
            let held: u64 =
                meter.account.holds().map(|hold| named(&hold.terms.entries(&hold.draws), Some(start))).sum();
            let used: u64 = live_draws(state).iter().map(|draws| named(draws, Some(start))).sum();
            window.allow.is_none_or(|allow| used + held <= allow.get())
        })
        && is_within_caps(state, policy, hold)
}

/// Spend caps: what was charged in the window, and what open holds may be.
fn is_within_caps(state: &State, policy: &Policy, hold: &Hold) -> bool {
    let Some(meter) = &state.meter else { return true };
    guards(policy).all(|(place, rule)| {
        let GuardRule::Spend { window } = rule else { return true };
        let start = hold.charges.iter().find_map(|charge| match charge.taken {
            Taken::Spend(amount, start) if usize::from(charge.guard) == place && !amount.is_zero() => {
                Some(start)
            }
            _ => None,
        });
        let Some(start) = start else { return true };
        let held: u64 = meter
            .account
            .holds()
            .flat_map(|hold| &hold.charges)
            .map(|charge| match charge.taken {
                Taken::Spend(amount, at) if at == start => amount.get(),
                _ => 0,
            })
            .sum();
        window.allow.is_none_or(|allow| held <= allow.get())
    })
}

fn guards(policy: &Policy) -> impl Iterator<Item = (usize, &GuardRule)> {
    let waterfall = policy[policy.plan("plus").unwrap()].waterfall(policy.feature("codex").unwrap());
    waterfall.into_iter().flat_map(|waterfall| waterfall.guards.iter().map(|guard| &guard.rule).enumerate())
}

fn windows(policy: &Policy) -> Vec<&Window> {
    let waterfall = policy[policy.plan("plus").unwrap()].waterfall(policy.feature("codex").unwrap());
    let layers = waterfall.into_iter().flat_map(|waterfall| &waterfall.layers);
    layers
        .filter_map(|layer| match &layer.source {
            Source::Window(layer) => Some(&layer.windows),
            Source::Balance(_) => None,
        })
        .flatten()
        .collect()
}

/// The draws of every ended call, as of its newest revision.
fn live_draws(state: &State) -> Vec<&[DrawEntry]> {
    let mut draws: BTreeMap<DecisionId, &[DrawEntry]> = BTreeMap::new();
    for kept in &state.log {
        match &kept.record {
            Record::End(end) => drop(draws.insert(end.decision, &end.draws)),
            record => {
                if let Some(revision) = record.revision() {
                    draws.insert(revision.decision, &revision.draws);
                }
            }
        }
    }
    draws.into_values().collect()
}

/// I5
fn no_balance_is_too_low(_: &Protocol, state: &State) -> bool {
    let booked = state.books.updates.iter().all(|it| it.update.after.micros() >= -DEBT_MOST);
    let live = state.meter.as_ref().is_none_or(|meter| {
        let balances = meter.account.purses().flat_map(|(_, purse)| purse.balances());
        balances.into_iter().all(|balance| balance.standing().micros() >= -DEBT_MOST)
    });
    booked && live
}

/// I6: by the price of the policy that decided, and the balance updates that its decision caused.
fn money_is_that_of_the_usage(model: &Protocol, state: &State) -> bool {
    state.books.applied.iter().filter_map(|kept| kept.end()).all(|end| {
        let revisions = || state.books.revisions(end.decision).filter_map(Record::revision);
        let in_turn = revisions().zip(2..).all(|(it, next)| it.revision == next);
        let first = (&end.charge, &end.used, &end.ending, end.policy);
        let (charge, used, ending, policy) =
            revisions().last().map_or(first, |it| (&it.charge, &it.used, &it.ending, it.policy));
        let caused = |it: &&BookedUpdate| {
            let by_use = matches!(it.update.kind, UpdateKind::Debit | UpdateKind::Refund);
            it.cause == Cause::Decision(end.decision) && by_use
        };
        let moved: i64 = state.books.updates.iter().filter(caused).map(|it| it.update.amount.micros()).sum();
        let gross = gross(model, policy, &used.quantities, ending);
        in_turn
            && adds_up(charge)
            && charge.gross.micros() == gross
            && moved == -charge.charged.signed().micros()
    })
}

fn adds_up(charge: &Charge) -> bool {
    charge.gross.micros() == charge.covered.micros() + charge.forgiven.micros() + charge.charged.micros()
}

fn gross(
    model: &Protocol,
    policy: overfall::units::PolicyVersion,
    used: &Quantities,
    ending: &Ending,
) -> u64 {
    let free = !ending.reached_upstream || ending.outcome == Outcome::Refused;
    let rate = if policy == model.scene.policy(0).version { 1_000_000 } else { 2_000_000 };
    if free { 0 } else { used.tokens() * rate }
}

/// I7: the books are what one application of the log in its order gives, and an order is in it once.
fn books_are_the_log(_: &Protocol, state: &State) -> bool {
    let (applied, mut orders) = (&state.books.applied, BTreeSet::new());
    let once = state.log.iter().filter_map(|kept| order_of(&kept.record)).all(|order| orders.insert(order));
    once && state.broken != Some(Invariant::I7)
        && state.books.conflicts == 0
        && state.books.seq == applied.len() as u64
        && applied.len() <= state.log.len()
        && applied.iter().zip(&state.log).all(|(booked, made)| booked == made)
}

/// I8: every update begins where the one before it on the same balance ended, and its hash follows from that one's.
fn chains_hold(updates: &[BookedUpdate]) -> bool {
    let mut heads = BTreeMap::new();
    updates.iter().all(|it| {
        let head = heads.entry((it.owner, &*it.balance)).or_insert((0i64, chain::START));
        let link = Link {
            account: super::scene::account(),
            user: it.owner,
            balance: &it.balance,
            seq: it.seq,
            kind: it.update.kind,
            cause: it.cause,
            grant: it.update.grant,
            amount: it.update.amount,
            before: it.update.before,
            after: it.update.after,
            at: it.at,
        };
        let follows = it.update.before.micros() == head.0
            && it.update.after.micros() == head.0 + it.update.amount.micros()
            && it.update.hash == link.hash(&head.1);
        *head = (it.update.after.micros(), it.update.hash);
        follows
    })
}

/// I9
fn holds_end_once_and_in_time(_: &Protocol, state: &State) -> bool {
    let mut ended = BTreeSet::new();
    let once = ends(state).all(|end| ended.insert(end.decision));
    let open = |hold: &Hold| !ended.contains(&hold.decision) && hold.expires_at <= at(state.now).plus(TICK);
    once && state.broken != Some(Invariant::I9)
        && state.meter.as_ref().is_none_or(|meter| meter.account.holds().all(open))
}

/// I10: what has reached the upstream is on record, what a client was told stands, and what is durable comes to the
/// books.
fn what_was_promised_is_there(_: &Protocol, state: &State) -> bool {
    let is_held = |id| match &state.meter {
        Some(meter) => meter.account.hold_of(id).is_some(),
        None => state.gateways.iter().any(|gateway| gateway.has_hold(id)),
    };
    let calls = state.calls.iter().enumerate().all(|(place, call)| {
        let id = decision(place);
        let end = ends(state).find(|end| end.decision == id);
        match call {
            Call::Told => end.is_some_and(|end| end.charge.gross.is_zero()),
            call if call.was_sent() => match end {
                Some(end) => end.ending.reached_upstream,
                None => is_held(id),
            },
            _ => true,
        }
    });
    let waits = |kept: &Kept| match kept.seq {
        Some(seq) if seq > state.books.seq => {
            state.stream.contains(&seq)
                || state
                    .gateways
                    .iter()
                    .any(|gateway| gateway.journal.iter().any(|frame| frame.kept.seq == Some(seq)))
        }
        _ => true,
    };
    calls && state.log.iter().all(|kept| waits(kept))
}

/// I12: the books by the kinds of their updates, the meter by the records, a grant once.
fn nothing_is_made_or_lost(_: &Protocol, state: &State) -> bool {
    let mut grants = BTreeSet::new();
    let once = state.log.iter().flat_map(|kept| kept.grants()).all(|grant| grants.insert(grant.grant));
    once && books_balance(state) && meter_balances(state)
}

fn books_balance(state: &State) -> bool {
    let expected = moved(state.books.applied.iter().map(|kept| &**kept));
    state.books.purses().all(|(owner, purse)| {
        purse.balances.iter().all(|balance| {
            let of_balance = |it: &&BookedUpdate| it.owner == owner && it.balance == balance.name;
            let updates = state.books.updates.iter().filter(of_balance);
            let sum: i64 = updates.map(|it| it.update.amount.micros()).sum();
            let by_records =
                expected.get(&(owner, CounterKey::of_balance(&balance.name))).copied().unwrap_or(0);
            balance.standing.micros() == sum && sum == by_records
        })
    })
}

fn meter_balances(state: &State) -> bool {
    let Some(meter) = &state.meter else { return true };
    let mut expected = moved(state.log.iter().map(|kept| &**kept));
    let account = &meter.account;
    let all = account.purses().all(|(owner, purse)| {
        purse.balances().iter().all(|balance| {
            let sum = expected.remove(&(owner, balance.key)).unwrap_or(0);
            let held: u64 = balance.grants().iter().map(|grant| grant.held.micros()).sum();
            let can_be_met = |grant: &GrantState| grant.held <= grant.remaining;
            balance.standing().micros() == sum
                && held == reserved(account.holds(), owner, balance.key)
                && balance.grants().iter().all(can_be_met)
        })
    });
    all && expected.values().all(|sum| *sum == 0)
}

/// What open holds have reserved of a balance.
fn reserved<'a>(holds: impl Iterator<Item = &'a Hold>, owner: Option<UserId>, key: CounterKey) -> u64 {
    let mut sum = 0;
    for hold in holds {
        for draw in hold.terms.entries(&hold.draws) {
            let whose = (draw.scope == Scope::User).then_some(hold.user);
            if let OriginEntry::Grant { balance, .. } = &draw.origin
                && whose == owner
                && CounterKey::of_balance(balance) == key
            {
                sum += draw.amount.get();
            }
        }
    }
    sum
}

/// What records say that each balance stands at.
fn moved<'a>(records: impl Iterator<Item = &'a Kept>) -> BTreeMap<Owner, i64> {
    let mut sums: BTreeMap<Owner, i64> = BTreeMap::new();
    let mut add = |owner, key, micros: i64| *sums.entry((owner, key)).or_default() += micros;
    for kept in records {
        for grant in kept.grants() {
            add(grant.user, CounterKey::of_balance(&grant.balance), grant.amount.signed().micros());
        }
        match &kept.record {
            Record::End(end) => {
                let owner = |scope| (scope == Scope::User).then_some(end.user);
                for draw in &end.draws {
                    if let OriginEntry::Grant { balance, .. } | OriginEntry::Debt { balance } = &draw.origin {
                        let amount = draw.amount.get().cast_signed();
                        add(owner(draw.scope), CounterKey::of_balance(balance), -amount);
                    }
                }
                for entry in &end.expired {
                    add(owner(entry.scope), entry.balance, -entry.amount.signed().micros());
                }
            }
            Record::Adjustment(told) => {
                add(told.user, CounterKey::of_balance(&told.balance), told.amount.micros());
            }
            Record::Expiry(expiry) => {
                for entry in &expiry.grants {
                    add(expiry.user, entry.balance, -entry.amount.signed().micros());
                }
            }
            _ => {}
        }
        if let Some(revision) = kept.record.revision() {
            let owner = |scope| (scope == Scope::User).then_some(revision.user);
            for entry in &revision.moves {
                add(owner(entry.scope), CounterKey::of_balance(&entry.balance), entry.amount.micros());
            }
            for entry in &revision.expired {
                add(owner(entry.scope), entry.balance, -entry.amount.signed().micros());
            }
        }
    }
    sums
}
