//! The money of an ended call, done again: for a truth that comes after its deadline, or for another price.
//!
//! What the call drew is reopened, as if it were still held, and settled anew: by the same walk, through the waterfall
//! that decided. So a draw that stays is no change, what is not needed goes back to where it came from, and what is
//! needed beyond is drawn from what there is now. What it had forgiven in the present month is forgiven anew.
//!
//! The money follows from three things: what was used, the policy that prices it, what operators have given back
//! (`refund`). A revision changes one of them, and the others stay. So another price charges nobody for what was
//! forgiven or given back before. Once something was given back, no later truth changes the call's money.
//!
//! What goes back to a window instance that has ended is dropped, as ever; what goes back to a grant that has expired
//! expires at once. A debt that has been repaid since is nobody's to give back: such a call is not corrected
//! ([`Uncorrectable`]).

use std::sync::Arc;

use super::account::Account;
use super::demand::Demand;
use super::draw::{Draw, Draws, GuardCharge, GuardCharges, Origin, Starts, Taken};
use super::finish::{Kept, Settled};
use super::hold::{Hold, guards_of};
use super::ledgered::BookedGrant;
use super::record::{
    Charge, CorrectionRecord, DrawEntry, Ending, GrantEntry, MoveEntry, OriginEntry, RevisionOrder,
    RevisionRecord,
};
use super::terms::Terms;
use super::walk::place_of;
use crate::policy::compiled::{CalendarUnit, CounterKey, GuardRule, Name, Period, Scope, Source};
use crate::units::planted::{Bug, planted};
use crate::units::{Amount, Credits, DecisionId, GrantId, PolicyVersion, SignedCredits, Timestamp, UserId};

/// What a call ended with, as the books have it.
#[derive(Clone, Debug)]
pub struct Prior {
    /// The decision.
    pub decision: DecisionId,
    /// Who called.
    pub user: UserId,
    /// What it was decided by.
    pub terms: Terms,
    /// When it was held.
    pub held_at: Timestamp,
    /// The newest revision of its money; that of the end is 1. What follows is as of it.
    pub revision: u32,
    /// The policy that priced it.
    pub priced_by: PolicyVersion,
    /// When it was settled: at its end, by a truth or a price; a refund settles nothing.
    pub ended_at: Timestamp,
    /// How it is said to have ended.
    pub ending: Ending,
    /// What it is said to have used.
    pub used: Demand,
    /// Where that was drawn from.
    pub draws: Vec<DrawEntry>,
    /// The money of it.
    pub charge: Charge,
    /// The part of what it forgives that operators have given back.
    pub refunded: Credits,
    /// The grants that its draws name; what remains of them is not looked at.
    pub grants: Vec<BookedGrant>,
}

/// Another price of a call.
#[derive(Clone, Debug)]
pub struct Repriced {
    /// What was used, priced anew.
    pub used: Demand,
    /// The policy that prices it.
    pub policy: PolicyVersion,
    /// What the operator wrote about it.
    pub reason: Arc<str>,
}

/// Why the money of a call stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Uncorrectable {
    /// It was owed, and the debt has been repaid since.
    #[error("what it owed has been repaid since")]
    Repaid,
    /// A truth came after an operator had given something back.
    #[error("an operator has given back a part of it")]
    Refunded,
    /// It names a layer or a grant that is not told.
    #[error("it names what is not known")]
    Unknown,
}

impl Account {
    /// Settles an ended call again, with the truth. Nothing is changed by an error.
    pub fn correct(
        &mut self,
        prior: &Prior,
        used: Demand,
        ending: Ending,
        now: Timestamp,
    ) -> Result<Box<CorrectionRecord>, Uncorrectable> {
        if !prior.refunded.is_zero() {
            return Err(Uncorrectable::Refunded);
        }
        let (correction, _) = self.settle_again(prior, used, prior.priced_by, Kept::default(), now)?;
        Ok(Box::new(CorrectionRecord { ending, ..correction }))
    }

    /// Settles an ended call again, at another price. Nothing is changed by an error.
    pub fn reprice(
        &mut self,
        prior: &Prior,
        repriced: Repriced,
        now: Timestamp,
    ) -> Result<Box<RevisionRecord>, Uncorrectable> {
        let Repriced { used, policy, reason } = repriced;
        let forgets = planted(Bug::RerateChargesRefunded);
        let kept = Kept {
            refunded: if forgets { Credits::ZERO } else { prior.refunded },
            forgiven: prior.charge.forgiven.saturating_sub(prior.refunded),
            charged: prior.charge.charged,
        };
        let (correction, refunded) = self.settle_again(prior, used, policy, kept, now)?;
        Ok(Box::new(RevisionRecord { correction, refunded, order: RevisionOrder::Rerate { reason } }))
    }

    /// Settles what was drawn anew, and tells how much of what was given back stays so.
    fn settle_again(
        &mut self,
        prior: &Prior,
        used: Demand,
        policy: PolicyVersion,
        kept: Kept,
        now: Timestamp,
    ) -> Result<(CorrectionRecord, Credits), Uncorrectable> {
        let hold = self.reopened(prior)?;
        self.reopen(prior, &hold, now);
        let Settled { draws, charge, repaid, expired, refunded } = self.settle(&hold, &used, kept, now);
        let draws_named = super::entries::Names::of(&hold.terms).draws(&draws);
        let counters = super::entries::counters(self, &hold, &draws, now);
        // Told first: what is forgotten is not told.
        let forgiven = hold.terms.feature().forgiven_key;
        self.purse_mut(Scope::Account, prior.user).counters.close_if_empty(forgiven);
        let correction = CorrectionRecord {
            seq: self.next_seq(),
            decision: prior.decision,
            account: self.id,
            user: prior.user,
            corrected_at: now,
            policy,
            revision: prior.revision.saturating_add(1),
            ending: prior.ending.clone(),
            used,
            moves: moves(prior, &draws_named),
            counters,
            draws: draws_named,
            charge,
            charged_before: prior.charge.charged,
            repaid,
            expired,
        };
        Ok((correction, refunded))
    }

    /// Gives back to a grant or debt what a revision moves, or takes it.
    pub(super) fn move_back(&mut self, entry: &MoveEntry, user: UserId, key: CounterKey) {
        let (back, taken) = (entry.amount.available(), entry.amount.owed());
        let state = self.purse_mut(entry.scope, user).balance_mut(key);
        match entry.grant {
            None => state.debt = state.debt.saturating_sub(back).saturating_add(taken),
            Some(id) => match state.grant_mut(id) {
                Some(grant) => {
                    grant.remaining = grant.remaining.saturating_add(back).saturating_sub(taken);
                }
                None if planted(Bug::SpentGrantLost) => {}
                None => state.insert(super::balance::GrantState {
                    id,
                    priority: entry.priority,
                    expires_at: entry.expires_at.unwrap_or(Timestamp::NEVER),
                    remaining: back,
                    held: Credits::ZERO,
                }),
            },
        }
    }

    /// The end's draws as a hold. Debts are no part of it: they are taken back, and owed anew where need be.
    fn reopened(&self, prior: &Prior) -> Result<Hold, Uncorrectable> {
        let waterfall = prior.terms.waterfall().ok_or(Uncorrectable::Unknown)?;
        let mut draws = Draws::new();
        for entry in &prior.draws {
            let place = waterfall.layers.iter().position(|layer| layer.name == entry.layer);
            let place = place.ok_or(Uncorrectable::Unknown)?;
            let origin = match &entry.origin {
                OriginEntry::Windows(instances) => {
                    Origin::Windows(instances.iter().map(|(_, start)| *start).collect::<Starts>())
                }
                OriginEntry::Grant { grant, .. } if prior.booked(*grant).is_some() => Origin::Grant(*grant),
                OriginEntry::Grant { .. } => return Err(Uncorrectable::Unknown),
                OriginEntry::Debt { balance } => {
                    let purse = self.purse(entry.scope, prior.user);
                    let state = purse.and_then(|purse| purse.balance(CounterKey::of_balance(balance)));
                    let owed = state.map_or(Credits::ZERO, |state| state.debt);
                    if owed.micros() < entry.amount.get() {
                        return Err(Uncorrectable::Repaid);
                    }
                    continue;
                }
            };
            draws.push(Draw { layer: place_of(place), amount: entry.amount, covers: entry.covers, origin });
        }
        Ok(Hold {
            decision: prior.decision,
            user: prior.user,
            terms: prior.terms.clone(),
            demand: prior.used.clone(),
            draws,
            charges: self.counted(prior),
            held_at: prior.ended_at,
            expires_at: prior.ended_at,
            dispatched: true,
            job: None,
        })
    }

    /// What guards count of the end: buckets the truth of then, a spend window what was charged, where it was held in the
    /// instance that is counted. Its place in those of places was given back.
    fn counted(&self, prior: &Prior) -> GuardCharges {
        let mut charges = GuardCharges::new();
        for (place, guard) in guards_of(&prior.terms).iter().enumerate() {
            let taken = match &guard.rule {
                GuardRule::Rate(rate) => Taken::Bucket(prior.used.counted_in(rate.unit)),
                GuardRule::Concurrent { .. } => continue,
                GuardRule::Spend { window } => {
                    let purse = self.purse(guard.per, prior.user);
                    let began = purse.and_then(|purse| purse.counters.slot(window.key)).map(|slot| slot.at);
                    // Of one that was held before, some counts in an instance that has ended, and how much is not known:
                    // it counts where it does, and only what it costs more counts now.
                    let began = began.filter(|began| *began <= prior.held_at).unwrap_or(Timestamp::NEVER);
                    Taken::Spend(Amount::clamped(prior.charge.charged.micros()), began)
                }
            };
            charges.push(GuardCharge { guard: place_of(place), taken });
        }
        charges
    }

    /// Makes what the end used reserved again, and what it forgave or owed undone.
    fn reopen(&mut self, prior: &Prior, hold: &Hold, now: Timestamp) {
        let terms = &hold.terms;
        let layers = terms.waterfall().map_or(&[][..], |waterfall| &waterfall.layers);
        for draw in &hold.draws {
            let Some(layer) = layers.get(usize::from(draw.layer)) else { continue };
            match (&layer.source, &draw.origin) {
                (Source::Window(windows), Origin::Windows(starts)) => {
                    for (window, start) in windows.windows.iter().zip(starts) {
                        self.hold_again(windows.per, prior.user, window.key, *start, draw.amount.get());
                    }
                }
                (Source::Balance(index), Origin::Grant(grant)) => {
                    let balance = &terms.policy[*index];
                    let amount = super::hold::credits_of(draw);
                    let state = self.purse_mut(balance.per, prior.user).balance_mut(balance.key);
                    if state.grant_mut(*grant).is_none()
                        && let Some(booked) = prior.booked(*grant)
                    {
                        state.insert(super::balance::GrantState {
                            remaining: amount,
                            held: amount,
                            ..booked.state
                        });
                    } else if let Some(grant) = state.grant_mut(*grant) {
                        grant.remaining = grant.remaining.saturating_add(amount);
                        grant.held = grant.held.saturating_add(amount);
                    }
                }
                _ => {}
            }
        }
        for charge in &hold.charges {
            if let (Some(guard), Taken::Spend(amount, start)) =
                (guards_of(terms).get(usize::from(charge.guard)), charge.taken)
                && let GuardRule::Spend { window } = &guard.rule
            {
                self.hold_again(guard.per, prior.user, window.key, start, amount.get());
            }
        }
        for (scope, balance, amount) in debts(&prior.draws) {
            let state = self.purse_mut(scope, prior.user).balance_mut(CounterKey::of_balance(balance));
            state.debt = state.debt.saturating_sub(amount);
        }
        self.unforgive(prior, now);
    }

    /// Use of an instance that goes on becomes a reservation of it; one that has ended is past.
    fn hold_again(&mut self, scope: Scope, user: UserId, key: CounterKey, start: Timestamp, amount: u64) {
        let counters = &mut self.purse_mut(scope, user).counters;
        if counters.slot(key).is_some_and(|slot| slot.at == start) {
            let slot = counters.slot_mut(key, start);
            slot.used = slot.used.saturating_sub(amount);
            slot.held = slot.held.saturating_add(amount);
        }
    }

    fn unforgive(&mut self, prior: &Prior, now: Timestamp) {
        let forgiven = prior.charge.forgiven.saturating_sub(prior.charge.excess);
        let forgiven = forgiven.saturating_sub(prior.refunded);
        let month = Period::Calendar(CalendarUnit::Month, jiff::tz::TimeZone::UTC);
        let then = month.instance_at(prior.ended_at).start;
        if forgiven.is_zero() || month.instance_at(now).start != then {
            return;
        }
        let key = prior.terms.feature().forgiven_key;
        let counters = &mut self.purse_mut(Scope::Account, prior.user).counters;
        if let Some(slot) = counters.instance(key, then) {
            slot.used = slot.used.saturating_sub(forgiven.micros());
        }
    }
}

impl Prior {
    fn booked(&self, grant: GrantId) -> Option<&BookedGrant> {
        self.grants.iter().find(|booked| booked.state.id == grant)
    }
}

fn debts(draws: &[DrawEntry]) -> impl Iterator<Item = (Scope, &Name, Credits)> {
    draws.iter().filter_map(|entry| match &entry.origin {
        OriginEntry::Debt { balance } => Some((entry.scope, balance, credits_in(entry))),
        OriginEntry::Windows(_) | OriginEntry::Grant { .. } => None,
    })
}

fn credits_in(entry: &DrawEntry) -> Credits {
    Credits::from_micros(entry.amount.get()).unwrap_or(Credits::MAX)
}

/// By grant or debt: what was drawn before, less what is drawn now.
pub(super) fn moves(prior: &Prior, now: &[DrawEntry]) -> Vec<MoveEntry> {
    let mut moves: Vec<MoveEntry> = Vec::new();
    for (entries, sign) in [(&prior.draws[..], 1), (now, -1)] {
        for entry in entries {
            let (balance, grant) = match &entry.origin {
                OriginEntry::Windows(_) => continue,
                OriginEntry::Grant { balance, grant } => (balance, Some(*grant)),
                OriginEntry::Debt { balance } => (balance, None),
            };
            let amount = SignedCredits::from_micros(sign * credits_in(entry).signed().micros());
            let amount = amount.unwrap_or_default();
            let same = |other: &&mut MoveEntry| {
                (other.scope, &other.balance, other.grant) == (entry.scope, balance, grant)
            };
            if let Some(known) = moves.iter_mut().find(same) {
                known.amount = known.amount.checked_add(amount).unwrap_or_default();
                continue;
            }
            let booked = grant.and_then(|grant| prior.booked(grant));
            moves.push(MoveEntry {
                scope: entry.scope,
                balance: balance.clone(),
                grant,
                amount,
                priority: booked.map_or(0, |booked| booked.state.priority),
                expires_at: booked.and_then(|booked| booked.state.expiry()),
            });
        }
    }
    moves.retain(|entry| entry.amount != SignedCredits::ZERO);
    moves
}

impl CorrectionRecord {
    /// The balance that a part of a grant belongs to, where the correction moves anything of that grant.
    pub fn balance_of(&self, entry: &GrantEntry) -> Option<&Name> {
        self.moves.iter().find(|other| other.grant == Some(entry.grant)).map(|other| &other.balance)
    }
}
