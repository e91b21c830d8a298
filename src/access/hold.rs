//! Holds: taking what a decision proposed, all of it or none, and giving it back.

use super::account::Account;
use super::balance::issuable;
use super::counter::{Holds, Slot};
use super::decide::Draft;
use super::demand::Demand;
use super::draw::{Draw, Draws, GuardCharge, GuardCharges, Origin, Taken};
use super::reason::Block;
use super::record::{GrantOrigin, GrantRecord, HoldRecord, JobRecord};
use super::standing::Standing;
use super::terms::Terms;
use super::walk::{Reserved, place_of};
use crate::policy::compiled::{CounterKey, Guard, GuardRule, Layer, Scope, Source, WindowLayer};
use crate::units::planted::{Bug, planted};
use crate::units::{AccountId, Credits, DecisionId, Span, Timestamp, UserId};

/// A request for a hold.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The decision to be made; also what makes a repeated request the same.
    pub decision: DecisionId,
    /// Who calls.
    pub user: UserId,
    /// What it is decided by.
    pub terms: Terms,
    /// The estimate.
    pub demand: Demand,
    /// How long the hold lives unless it is renewed.
    pub lifetime: Span,
}

/// The draws of a request in flight.
#[derive(Clone, Debug)]
pub struct Hold {
    /// The decision.
    pub decision: DecisionId,
    /// Who calls.
    pub user: UserId,
    /// What it was decided by.
    pub terms: Terms,
    /// The estimate that is held.
    pub demand: Demand,
    /// Where it is drawn from.
    pub draws: Draws,
    /// What guards counted.
    pub charges: GuardCharges,
    /// When it was held.
    pub held_at: Timestamp,
    /// When it ends unless it is renewed.
    pub expires_at: Timestamp,
    /// Whether the request has left for the upstream.
    pub dispatched: bool,
    /// What it has become, where the answer was not the end of the call.
    pub job: Option<Box<JobRecord>>,
}

/// What a request would take.
#[derive(Debug)]
pub struct Proposal {
    hold: Hold,
    clamped_to: Option<u64>,
    issued: Vec<(CounterKey, GrantRecord)>,
}

/// What a caller learns of a hold that was taken.
#[derive(Debug)]
pub struct Held {
    /// The decision.
    pub decision: DecisionId,
    /// What is held: the estimate, or what a clamp left of it.
    pub demand: Demand,
    /// Where it is drawn from.
    pub draws: Draws,
    /// The output tokens that the request has been cut down to.
    pub clamped_to: Option<u64>,
    /// What is left everywhere, after it.
    pub standing: Standing,
    /// Whether it is held by nobody but its node: the store of live counts is away, and nothing is known of what is left.
    pub is_degraded: bool,
}

/// Why a verb found no hold to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no open hold has this id: it ended before, or never was")]
pub struct NoSuchHold;

impl Account {
    /// Decides, and says what would be taken: nothing is until [`Self::accept`], so that a decision whose record cannot
    /// be kept is not made. A block takes nothing (I2).
    pub fn propose(&self, ask: Ask, now: Timestamp) -> Result<Proposal, Block> {
        let draft = self.decide(&ask.terms, ask.user, &ask.demand, now)?;
        let issued = self.issues(&ask, &draft, now);
        let Draft { demand, walk, charges, clamped_to } = draft;
        let hold = Hold {
            decision: ask.decision,
            user: ask.user,
            terms: ask.terms,
            demand,
            draws: walk.draws,
            charges,
            held_at: now,
            expires_at: now.plus(ask.lifetime),
            dispatched: false,
            job: None,
        };
        Ok(Proposal { hold, clamped_to, issued })
    }

    /// Takes what was proposed, in the state and at the instant for which it was: this cannot fail.
    pub fn accept(&mut self, proposal: Proposal, now: Timestamp) -> Held {
        let Proposal { hold, clamped_to, issued } = proposal;
        for (key, grant) in &issued {
            self.granted(grant, *key);
        }
        self.take(&hold.terms, hold.user, &hold.draws, &hold.charges, now);
        let held = self.held(&hold, clamped_to, now);
        self.holds.put(Box::new(hold));
        held
    }

    /// The hold of a decision that is made already: asking twice takes once.
    pub fn held_already(&self, ask: &Ask, now: Timestamp) -> Option<Held> {
        let hold = self.holds.find(ask.decision)?;
        let held = hold.demand.quantities.output_tokens;
        let clamped_to = (held < ask.demand.quantities.output_tokens).then_some(held);
        Some(self.held(hold, clamped_to, now))
    }

    /// Moves the deadline of a hold.
    pub fn renew(&mut self, decision: DecisionId, expires_at: Timestamp) -> Result<(), NoSuchHold> {
        let hold = self.holds.find_mut(decision).ok_or(NoSuchHold)?;
        if !planted(Bug::RenewIgnored) {
            hold.expires_at = hold.expires_at.max(expires_at);
        }
        Ok(())
    }

    /// Notes that the request is about to leave: from here on its expiry is a charge, not a void.
    pub fn dispatch(&mut self, decision: DecisionId) -> Result<(), NoSuchHold> {
        self.holds.find_mut(decision).ok_or(NoSuchHold)?.dispatched = true;
        Ok(())
    }

    /// Makes a hold a job: it has left, and lives until the job's deadline, which may be earlier than the request's.
    pub fn begin_job(&mut self, job: JobRecord) -> Result<(), NoSuchHold> {
        let hold = self.holds.find_mut(job.decision).ok_or(NoSuchHold)?;
        hold.dispatched = true;
        hold.expires_at = job.expires_at;
        hold.job = Some(Box::new(job));
        Ok(())
    }

    /// Reserves what a larger estimate needs beyond what is held: all of it or none.
    ///
    /// Windows are asked for what is added, balances for what the whole then costs them beyond what is held of them. A
    /// request that a window of requests covers stays covered. Of the guards only `spend` is asked again: the others
    /// have counted the request, and count its truth when it finishes. Nothing is issued: that is for the first draw of
    /// a request. A smaller estimate changes nothing.
    pub fn extend(
        &mut self,
        decision: DecisionId,
        estimate: Demand,
        now: Timestamp,
    ) -> Result<Extended, NoSuchHold> {
        let mut hold = self.holds.take(decision).ok_or(NoSuchHold)?;
        let extended = self.extend_hold(&mut hold, estimate, now);
        self.holds.put(hold);
        Ok(extended)
    }

    fn extend_hold(&mut self, hold: &mut Hold, estimate: Demand, now: Timestamp) -> Extended {
        if estimate.whole < hold.demand.whole {
            return Extended::Held;
        }
        let reserved = hold.reserved(&estimate);
        let subject = self.subject(&hold.terms, hold.user);
        let Ok(walk) = subject.walk_beyond(&estimate, Some(reserved), now, Holds::Count) else {
            return Extended::Lacking;
        };
        let spends = |guard: &Guard| matches!(guard.rule, GuardRule::Spend { .. });
        let mut charges = GuardCharges::new();
        for (place, guard) in guards_of(&hold.terms).iter().enumerate().filter(|(_, guard)| spends(guard)) {
            match subject.guard(place, guard, &estimate, walk.cost, now) {
                Ok(taken) => charges.push(GuardCharge { guard: place_of(place), taken }),
                Err(_) => return Extended::Lacking,
            }
        }
        if !walk.is_covered() {
            return Extended::Lacking;
        }
        if !planted(Bug::ExtensionNotReserved) {
            self.take(&hold.terms, hold.user, &walk.draws, &charges, now);
        }
        hold.draws.extend(walk.draws);
        hold.charges.extend(charges);
        hold.demand = estimate;
        Extended::Held
    }

    /// Reserves draws and counts charges. After a decision this cannot fail.
    fn take(&mut self, terms: &Terms, user: UserId, draws: &[Draw], charges: &[GuardCharge], now: Timestamp) {
        for (draw, layer) in draws.iter().filter_map(|draw| Some((draw, layer_of(terms, draw.layer)?))) {
            match (&layer.source, &draw.origin) {
                (Source::Window(windows), Origin::Windows(starts)) => {
                    let counters = &mut self.purse_mut(windows.per, user).counters;
                    for (window, start) in windows.windows.iter().zip(starts) {
                        if let Some(slot) = counters.instance(window.key, *start) {
                            slot.held = slot.held.saturating_add(draw.amount.get());
                        }
                    }
                }
                (Source::Balance(index), Origin::Grant(grant)) => {
                    let balance = &terms.policy[*index];
                    let state = self.purse_mut(balance.per, user).balance_mut(balance.key);
                    if let Some(grant) = state.grant_mut(*grant) {
                        grant.held = grant.held.saturating_add(credits_of(draw));
                    }
                }
                _ => {}
            }
        }
        for charge in charges {
            if let Some(guard) = guards_of(terms).get(usize::from(charge.guard)) {
                self.charge(guard, user, charge.taken, now);
            }
        }
    }

    fn charge(&mut self, guard: &Guard, user: UserId, taken: Taken, now: Timestamp) {
        let counters = &mut self.purse_mut(guard.per, user).counters;
        match (&guard.rule, taken) {
            (GuardRule::Rate(rate), Taken::Bucket(amount)) => {
                let slot = counters.slot_mut(guard.key, now);
                // A hold that is taken up again may be older than the bucket's level, which may count it already: so
                // much of it at most is still in there. Too strict for a while, never too lax.
                let added = rate.undrained(amount, now, slot.at);
                let level = rate.level(Some(slot), now).0.saturating_add(added);
                *slot = Slot { at: slot.at.max(now), used: level, ..*slot };
            }
            (GuardRule::Concurrent { .. }, Taken::Place) => counters.slot_mut(guard.key, now).used += 1,
            (GuardRule::Spend { window }, Taken::Spend(amount, start)) if !amount.is_zero() => {
                if let Some(slot) = counters.instance(window.key, start) {
                    slot.held = slot.held.saturating_add(amount.get());
                }
            }
            _ => {}
        }
    }

    /// What policy issues with the first allowed draw, once for ever.
    fn issues(&self, ask: &Ask, draft: &Draft, now: Timestamp) -> Vec<(CounterKey, GrantRecord)> {
        let mut seq = self.seq;
        let mut issued = Vec::new();
        for balance in draft.walk.issues.iter().map(|index| &ask.terms.policy[*index]) {
            let owner = self.owner_bytes(balance.per, &ask.user);
            let state = self.purse(balance.per, ask.user).and_then(|purse| purse.balance(balance.key));
            let Some(grant) = issuable(balance, state, &owner, now) else { continue };
            seq = seq.next();
            let record = GrantRecord {
                seq,
                grant: grant.id,
                account: self.id,
                user: (balance.per == Scope::User).then_some(ask.user),
                balance: balance.name.clone(),
                amount: grant.remaining,
                repaid: Credits::ZERO,
                priority: grant.priority,
                expires_at: grant.expiry(),
                granted_at: now,
                origin: GrantOrigin::Issue { decision: ask.decision },
            };
            issued.push((balance.key, record));
        }
        issued
    }

    fn held(&self, hold: &Hold, clamped_to: Option<u64>, now: Timestamp) -> Held {
        let Terms { policy, plan, feature, .. } = &hold.terms;
        Held {
            decision: hold.decision,
            demand: hold.demand.clone(),
            draws: hold.draws.clone(),
            clamped_to,
            standing: self.standing(policy, *plan, *feature, hold.user, now),
            is_degraded: false,
        }
    }

    /// Takes a journalled hold up again after a restart: it reserves what it reserved then.
    pub fn take_up(&mut self, record: &HoldRecord, terms: Terms) {
        let hold = Hold::of_record(record, terms);
        self.take(&hold.terms, hold.user, &hold.draws, &hold.charges, hold.held_at);
        self.holds.put(Box::new(hold));
    }

    /// The same where live state was built without what was lost: nothing is reserved of a grant that is not there, and
    /// the end of the call finds it elsewhere.
    pub fn take_up_again(&mut self, mut record: HoldRecord, terms: Terms) {
        record.draws.retain(|draw| {
            match (&draw.origin, layer_of(&terms, draw.layer).map(|layer| &layer.source)) {
                (Origin::Grant(grant), Some(Source::Balance(index))) => {
                    let balance = &terms.policy[*index];
                    let purse = self.purse(balance.per, record.user);
                    purse.and_then(|purse| purse.balance(balance.key)).is_some_and(|state| state.has(*grant))
                }
                _ => true,
            }
        });
        self.take_up(&record, terms);
    }
}

impl Proposal {
    /// What the journal keeps of it.
    pub fn record(&self, account: AccountId) -> HoldRecord {
        let issued = self.issued.iter().map(|(_, grant)| grant.clone()).collect();
        HoldRecord { issued, ..self.hold.record(account) }
    }

    /// Whether policy issues a grant with it.
    pub fn issues(&self) -> bool {
        !self.issued.is_empty()
    }
}

impl Hold {
    /// What a store keeps of it, as it is now.
    pub fn record(&self, account: AccountId) -> HoldRecord {
        HoldRecord {
            decision: self.decision,
            account,
            user: self.user,
            held_at: self.held_at,
            expires_at: self.expires_at,
            policy: self.terms.policy.version,
            plan: self.terms.policy[self.terms.plan].name.clone(),
            feature: self.terms.feature().name.clone(),
            model: self.terms.model.clone(),
            tier: self.terms.tier.clone(),
            size: self.terms.size.clone(),
            demand: self.demand.clone(),
            draws: self.draws.clone(),
            charges: self.charges.clone(),
            issued: Vec::new(),
        }
    }

    /// The hold that a record tells of: it has left, and is no job.
    pub fn of_record(record: &HoldRecord, terms: Terms) -> Self {
        Self {
            decision: record.decision,
            user: record.user,
            terms,
            demand: record.demand.clone(),
            draws: record.draws.clone(),
            charges: record.charges.clone(),
            held_at: record.held_at,
            expires_at: record.expires_at,
            dispatched: true,
            job: None,
        }
    }

    /// What it has for a larger estimate.
    fn reserved(&self, estimate: &Demand) -> Reserved {
        let mut reserved = Reserved { whole: self.demand.whole, ..Reserved::default() };
        for draw in &self.draws {
            let of_requests = |windows: &WindowLayer| windows.unit != self.terms.feature().unit;
            match layer_of(&self.terms, draw.layer).map(|layer| &layer.source) {
                Some(Source::Window(windows)) if of_requests(windows) => reserved.covered = estimate.whole,
                Some(Source::Window(_)) => {
                    reserved.covered = reserved.covered.saturating_add(draw.covers);
                }
                Some(Source::Balance(_)) => {
                    reserved.paid = reserved.paid.saturating_add(credits_of(draw));
                }
                None => {}
            }
        }
        reserved
    }
}

/// What came of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// It is held.
    Held,
    /// Not all of it could be had, so nothing was taken.
    Lacking,
}

/// The guards of a call.
pub(super) fn guards_of(terms: &Terms) -> &[Guard] {
    terms.waterfall().map_or(&[], |waterfall| &waterfall.guards)
}

/// A layer of a call by its place.
pub(super) fn layer_of(terms: &Terms, place: u16) -> Option<&Layer> {
    terms.waterfall()?.layers.get(usize::from(place))
}

/// What a draw from a balance takes. An amount of credits, since every draw from a balance is made of one.
pub(super) fn credits_of(draw: &Draw) -> Credits {
    Credits::from_micros(draw.amount.get()).unwrap_or(Credits::MAX)
}
