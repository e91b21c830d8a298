//! The end of a hold: estimate becomes truth.
//!
//! The walk is done again with what was really used, layer by layer in policy order, where each layer can give its own
//! hold plus what it has now. What it cannot give is forgiven, owed, or – beyond both – forgiven with an alarm. A void
//! is the same with nothing used. The whole is one step under the account's lock.

use super::account::Account;
use super::balance::{BalanceState, GrantState};
use super::counter::{Holds, Slot};
use super::demand::Demand;
use super::draw::{Draw, Draws, Origin, Taken};
use super::hold::{Hold, NoSuchHold, credits_of, guards_of};
use super::record::{Charge, EndRecord, Ending, GrantEntry};
use super::walk::{place_of, share};
use crate::policy::compiled::{
    BalanceIndex, CalendarUnit, Feature, Guard, GuardRule, Period, Scope, Source, Window, WindowLayer,
};
use crate::units::planted::{Bug, planted};
use crate::units::{Amount, Credits, DecisionId, GrantId, Timestamp, UserId};

/// The draws of the truth, as they are found.
struct Settling<'a> {
    account: &'a mut Account,
    hold: &'a Hold,
    kept: Kept,
    now: Timestamp,
    draws: Draws,
    charge: Charge,
    repaid: Vec<GrantEntry>,
    expired: Vec<GrantEntry>,
    refunded: Credits,
    owed_most: Credits,
}

/// What a call that is priced anew keeps of its money. Nothing of a call that ends, or whose truth is told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    /// What operators have given back: that much is not drawn again.
    pub(super) refunded: Credits,
    /// What else was forgiven: balances give and owe for it only what they did before.
    pub(super) forgiven: Credits,
    /// What they gave before.
    pub(super) charged: Credits,
}

/// What the truth draws, and what that did.
pub(super) struct Settled {
    pub(super) draws: Draws,
    pub(super) charge: Charge,
    pub(super) repaid: Vec<GrantEntry>,
    pub(super) expired: Vec<GrantEntry>,
    /// What stays given back.
    pub(super) refunded: Credits,
}

impl Account {
    /// Ends a hold with what was really used. The first end wins; a later one finds no hold.
    pub fn finish(
        &mut self,
        decision: DecisionId,
        used: Demand,
        ending: Ending,
        now: Timestamp,
    ) -> Result<Box<EndRecord>, NoSuchHold> {
        let hold = self.holds.take(decision).ok_or(NoSuchHold)?;
        let settled = self.settle(&hold, &used, Kept::default(), now);
        let Settled { draws, charge, repaid, expired, .. } = settled;
        let seq = self.next_seq();
        let counters = super::entries::counters(self, &hold, &draws, now);
        let names = super::entries::Names::of(&hold.terms);
        let record = EndRecord {
            seq,
            decision,
            account: self.id,
            user: hold.user,
            held_at: hold.held_at,
            ended_at: now,
            policy: hold.terms.policy.version,
            plan: hold.terms.policy[hold.terms.plan].name.clone(),
            feature: hold.terms.feature().name.clone(),
            unit: hold.terms.feature().unit,
            model: hold.terms.model.clone(),
            size: hold.terms.size.clone(),
            ending,
            held: names.draws(&hold.draws),
            draws: names.draws(&draws),
            estimate: hold.demand,
            used,
            charge,
            repaid,
            expired,
            counters,
        };
        Ok(Box::new(record))
    }
}

impl Account {
    /// Turns what a hold reserves into what was really used. The hold is over after it.
    pub(super) fn settle(&mut self, hold: &Hold, used: &Demand, kept: Kept, now: Timestamp) -> Settled {
        let mut settling = Settling {
            account: self,
            hold,
            kept,
            now,
            draws: Draws::new(),
            charge: Charge::default(),
            repaid: Vec::new(),
            expired: Vec::new(),
            refunded: Credits::ZERO,
            owed_most: Credits::ZERO,
        };
        settling.layers(used);
        settling.guards(used);
        let Settling { draws, charge, repaid, expired, refunded, .. } = settling;
        Settled { draws, charge, repaid, expired, refunded }
    }
}

impl Kept {
    /// The most that balances give and owe for a cost.
    fn most(&self, cost: Credits) -> Credits {
        cost.saturating_sub(self.forgiven).max(self.charged).min(cost)
    }
}

impl Settling<'_> {
    fn layers(&mut self, used: &Demand) {
        let terms = &self.hold.terms;
        let layers = terms.waterfall().map_or(&[][..], |waterfall| &waterfall.layers);
        self.charge.gross = used.price.ceil().unwrap_or(Credits::MAX);
        let mut rest = used.whole;
        for (place, layer) in layers.iter().enumerate() {
            if let Source::Window(windows) = &layer.source {
                rest = rest.saturating_sub(self.windows(place, windows, rest));
            }
        }
        let cost = if rest.is_zero() {
            Credits::ZERO
        } else {
            used.price.ceil_share(rest, used.whole).unwrap_or(self.charge.gross)
        };
        self.charge.covered = self.charge.gross.saturating_sub(cost);
        self.refunded = cost.min(self.kept.refunded);
        let cost = cost.saturating_sub(self.refunded);
        let most = self.kept.most(cost);
        let mut rest = most;
        let mut shortage = cost.saturating_sub(rest);
        for (place, layer) in layers.iter().enumerate() {
            if let Source::Balance(index) = layer.source {
                let given = self.balance(place, index, rest);
                self.charge.charged = self.charge.charged.saturating_add(given);
                rest = rest.saturating_sub(given);
            }
        }
        shortage = shortage.saturating_add(rest);
        self.owed_most = most.saturating_sub(self.charge.charged);
        self.overage(shortage);
        self.charge.forgiven = self.charge.forgiven.saturating_add(self.refunded);
    }

    /// Gives `rest` out of a layer's own hold first, then out of what its windows have now. Says how much it covered.
    fn windows(&mut self, place: usize, layer: &WindowLayer, rest: Amount) -> Amount {
        let (hold, now) = (self.hold, self.now);
        let unit = hold.terms.feature().unit;
        let mut covered = Amount::ZERO;
        for own in hold.draws.iter().filter(|draw| usize::from(draw.layer) == place) {
            let Origin::Windows(starts) = &own.origin else { continue };
            let (kept, covers) = share(layer, unit, rest.saturating_sub(covered), own.amount);
            let counters = &mut self.account.purse_mut(layer.per, hold.user).counters;
            for (window, start) in layer.windows.iter().zip(starts) {
                if kept.is_zero() && planted(Bug::VoidForgetsWindow) {
                    continue;
                }
                counters.settle_window(window.key, *start, own.amount, kept);
            }
            covered = covered.saturating_add(covers);
            self.draw(place, kept, covers, Origin::Windows(starts.clone()));
        }
        let subject = self.account.subject(&hold.terms, hold.user);
        let more = subject.windows_draw(place, layer, rest.saturating_sub(covered), now, Holds::Count);
        covered = covered.saturating_add(more.covers);
        if let (Origin::Windows(starts), false) = (&more.origin, more.amount.is_zero()) {
            let counters = &mut self.account.purse_mut(layer.per, hold.user).counters;
            for (window, start) in layer.windows.iter().zip(starts) {
                if let Some(slot) = counters.instance(window.key, *start) {
                    slot.used = slot.used.saturating_add(more.amount.get());
                }
            }
            self.draws.push(more);
        }
        covered
    }

    /// Gives `cost` out of a balance's own hold and what it has now. Says how much it gave. What policy has not issued
    /// yet is not had: only a hold issues.
    fn balance(&mut self, place: usize, index: BalanceIndex, cost: Credits) -> Credits {
        let (hold, now) = (self.hold, self.now);
        let balance = &hold.terms.policy[index];
        let own = reserved(hold, place);
        let purse = self.account.purse(balance.per, hold.user);
        if own.is_empty() && purse.and_then(|purse| purse.balance(balance.key)).is_none() {
            return Credits::ZERO;
        }
        let state = self.account.purse_mut(balance.per, hold.user).balance_mut(balance.key);
        let entry = |(grant, amount)| GrantEntry { scope: balance.per, balance: balance.key, grant, amount };
        let taken = draw_grants(state, &own, cost, now);
        self.expired.extend(came_back_expired(state, &own, now).into_iter().map(entry));
        self.repaid.extend(state.repay(now).into_iter().map(entry));
        state.prune();
        let mut given = Credits::ZERO;
        for (grant, amount) in taken {
            given = given.saturating_add(amount);
            let amount = Amount::clamped(amount.micros());
            self.draw(place, amount, amount, Origin::Grant(grant));
        }
        given
    }

    /// What no layer could give: forgiven within policy, then owed within policy, then forgiven with an alarm. It is
    /// counted in the month in which it is found, that of the end.
    fn overage(&mut self, shortage: Credits) {
        if shortage.is_zero() {
            return;
        }
        let hold = self.hold;
        let forgiven = forgive(self.account, hold.terms.feature(), hold.user, shortage, self.now);
        let owed = self.owe(shortage.saturating_sub(forgiven).min(self.owed_most));
        let excess = shortage.saturating_sub(forgiven).saturating_sub(owed);
        self.charge.charged = self.charge.charged.saturating_add(owed);
        self.charge.forgiven = forgiven.saturating_add(excess);
        self.charge.excess = excess;
    }

    fn owe(&mut self, shortage: Credits) -> Credits {
        let hold = self.hold;
        let layers = hold.terms.waterfall().map_or(&[][..], |waterfall| &waterfall.layers);
        let last = layers.iter().enumerate().rev().find_map(|(place, layer)| match layer.source {
            Source::Balance(index) => Some((place, index)),
            Source::Window(_) => None,
        });
        let Some((place, index)) = last else { return Credits::ZERO };
        let (balance, limit) = (&hold.terms.policy[index], hold.terms.feature().overage.debt);
        if limit.is_zero() || shortage.is_zero() {
            return Credits::ZERO;
        }
        let state = self.account.purse_mut(balance.per, hold.user).balance_mut(balance.key);
        let bound = if planted(Bug::DebtUnbounded) { limit } else { limit.saturating_sub(state.debt) };
        let owed = shortage.min(bound);
        if !planted(Bug::FinishIgnoresDebt) {
            state.debt = state.debt.saturating_add(owed);
        }
        let amount = Amount::clamped(owed.micros());
        self.draw(place, amount, amount, Origin::Debt);
        owed
    }

    /// Guards count the truth, always. A void gives back everything but the count of requests: it was one all the same.
    fn guards(&mut self, used: &Demand) {
        let (hold, now) = (self.hold, self.now);
        for charge in &hold.charges {
            let Some(guard) = guards_of(&hold.terms).get(usize::from(charge.guard)) else { continue };
            let counters = &mut self.account.purse_mut(guard.per, hold.user).counters;
            match (&guard.rule, charge.taken) {
                (GuardRule::Rate(rate), Taken::Bucket(counted)) => {
                    let truth = used.counted_in(rate.unit);
                    let slot = counters.slot_mut(guard.key, now);
                    let level = rate.level(Some(slot), now).0;
                    let back = rate.undrained(counted.saturating_sub(truth), hold.held_at, now);
                    let more = rate.scaled(truth.saturating_sub(counted));
                    let level = level.saturating_sub(back).saturating_add(more);
                    *slot = Slot { at: slot.at.max(now), used: level, ..*slot };
                    counters.close_if_empty(guard.key);
                }
                (GuardRule::Concurrent { .. }, Taken::Place) if !planted(Bug::PlaceLeaked) => {
                    let slot = counters.slot_mut(guard.key, now);
                    slot.used = slot.used.saturating_sub(1);
                    counters.close_if_empty(guard.key);
                }
                _ => {}
            }
        }
        for (place, guard) in guards_of(&hold.terms).iter().enumerate() {
            if let GuardRule::Spend { window } = &guard.rule {
                self.spent(place, guard, window);
            }
        }
    }

    /// Counts what was charged, debt included: as far as it was held in the instance that held it, and dropped with it
    /// if that has ended; the rest in the present one.
    fn spent(&mut self, place: usize, guard: &Guard, window: &Window) {
        let (hold, now) = (self.hold, self.now);
        let mut rest = Amount::clamped(self.charge.charged.micros());
        let counters = &mut self.account.purse_mut(guard.per, hold.user).counters;
        for charge in hold.charges.iter().filter(|charge| usize::from(charge.guard) == place) {
            if let Taken::Spend(held, start) = charge.taken {
                let kept = if planted(Bug::CapKeepsReserved) { held } else { rest.min(held) };
                counters.settle_window(window.key, start, held, kept);
                rest = rest.saturating_sub(kept);
            }
        }
        if !rest.is_zero() && !planted(Bug::CapForgetsRest) {
            let start = counters.window(window, now).instance.start;
            if let Some(slot) = counters.instance(window.key, start) {
                slot.used = slot.used.saturating_add(rest.get());
            }
        }
    }

    fn draw(&mut self, place: usize, amount: Amount, covers: Amount, origin: Origin) {
        if !amount.is_zero() {
            self.draws.push(Draw { layer: place_of(place), amount, covers, origin });
        }
    }
}

/// Takes `cost` out of grants in their order: what the hold has reserved of each, and what is free of it. Ends the
/// hold's reservations. Nothing is free of a balance in debt: what comes back has paid the debt.
fn draw_grants(
    state: &mut BalanceState,
    own: &[(GrantId, Credits)],
    cost: Credits,
    now: Timestamp,
) -> Vec<(GrantId, Credits)> {
    let mut rest = cost;
    let mut taken = Vec::new();
    for grant in state.grants_mut() {
        let reserved = own_of(own, grant);
        let part = rest.min(reserved.saturating_add(grant.available(now, Holds::Count)));
        if !(cost.is_zero() && planted(Bug::LeakedHold)) {
            grant.held = grant.held.saturating_sub(reserved);
        }
        grant.remaining = grant.remaining.saturating_sub(part);
        rest = rest.saturating_sub(part);
        if !part.is_zero() {
            taken.push((grant.id, part));
        }
    }
    taken
}

/// Takes out what the hold had reserved of expired grants and did not use.
fn came_back_expired(
    state: &mut BalanceState,
    own: &[(GrantId, Credits)],
    now: Timestamp,
) -> Vec<(GrantId, Credits)> {
    if own.is_empty() { Vec::new() } else { state.expire(now) }
}

/// What a hold has reserved of each grant of a layer.
fn reserved(hold: &Hold, place: usize) -> Vec<(GrantId, Credits)> {
    let own = hold.draws.iter().filter(|draw| usize::from(draw.layer) == place);
    own.filter_map(|draw| match draw.origin {
        Origin::Grant(grant) => Some((grant, credits_of(draw))),
        Origin::Windows(_) | Origin::Debt => None,
    })
    .collect()
}

fn own_of(own: &[(GrantId, Credits)], grant: &GrantState) -> Credits {
    own.iter()
        .filter(|(id, _)| *id == grant.id)
        .fold(Credits::ZERO, |sum, (_, amount)| sum.saturating_add(*amount))
}

/// Forgives as much of `shortage` as policy still does in this UTC month.
fn forgive(
    account: &mut Account,
    feature: &Feature,
    user: UserId,
    shortage: Credits,
    now: Timestamp,
) -> Credits {
    let limit = feature.overage.forgive;
    if limit.is_zero() {
        return Credits::ZERO;
    }
    let month = Period::Calendar(CalendarUnit::Month, jiff::tz::TimeZone::UTC).instance_at(now);
    let counters = &mut account.purse_mut(Scope::Account, user).counters;
    let Some(slot) = counters.instance(feature.forgiven_key, month.start) else { return Credits::ZERO };
    let part =
        shortage.min(Credits::from_micros(limit.micros().saturating_sub(slot.used)).unwrap_or(Credits::ZERO));
    slot.used = slot.used.saturating_add(part.micros());
    if planted(Bug::OverageCountedTwice) {
        slot.used = slot.used.saturating_add(part.micros());
    }
    counters.close_if_empty(feature.forgiven_key);
    part
}
