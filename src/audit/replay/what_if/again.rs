//! One account lives again, under another policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Side, Sides, Telling};
use crate::access::record::{Ending, Grade, GrantRecord, Outcome};
use crate::access::{Account, Ask, Demand, GrantOrder, Held, Reason, Terms};
use crate::ledger::recorded::Request;
use crate::ledger::rows::{BlockRow, DecisionRow};
use crate::policy::compiled::{CounterKey, Name, Policy};
use crate::policy::prices::Rates;
use crate::units::{AccountId, DecisionId, Quantities, Seq, Timestamp, UserId};

/// An account and its open calls.
pub(super) struct Again<'a> {
    policy: &'a Arc<Policy>,
    since: Option<Timestamp>,
    account: Account,
    /// By when they end; the recorded place tells the order of an instant.
    open: BTreeMap<(Timestamp, Seq, DecisionId), OpenCall>,
}

/// A call that was let through, until it ends.
struct OpenCall {
    plan: Name,
    terms: Terms,
    clamped_to: Option<u64>,
    used: Quantities,
    tier: Option<Arc<str>>,
    outcome: Outcome,
    grade: Grade,
    status: Option<u16>,
    is_counted: bool,
}

/// What is asked again.
struct Question<'q> {
    plan: &'q Name,
    feature: &'q Name,
    user: UserId,
    model: &'q Arc<str>,
    tier: Option<&'q Arc<str>>,
    size: Option<&'q Arc<str>>,
    estimate: &'q Quantities,
    decision: DecisionId,
    at: Timestamp,
}

impl<'a> Again<'a> {
    pub(super) fn new(account: AccountId, policy: &'a Arc<Policy>, since: Option<Timestamp>) -> Self {
        Self { policy, since, account: Account::new(account), open: BTreeMap::new() }
    }

    pub(super) const fn id(&self) -> AccountId {
        self.account.id
    }

    pub(super) fn request(&mut self, request: &Request, told: &mut Telling) {
        match request {
            Request::Grant(grant) => self.grant(grant, told),
            Request::Call(call) => self.call(call, told),
            Request::Block(block) => self.block(block, told),
        }
    }

    /// Lets every open call end.
    pub(super) fn end_all(&mut self, told: &mut Telling) {
        self.end_until(Timestamp::NEVER, told);
    }

    fn grant(&mut self, grant: &GrantRecord, told: &mut Telling) {
        self.end_until(grant.granted_at, told);
        self.account.expire_grants(grant.granted_at);
        let key = CounterKey::of_balance(&grant.balance);
        let order = GrantOrder {
            grant: grant.grant,
            user: grant.user,
            balance: grant.balance.clone(),
            key,
            amount: grant.amount,
            priority: grant.priority,
            expires_at: grant.expires_at,
            origin: grant.origin.clone(),
        };
        // Too much for any balance only where the account saved what it had spent: then it has enough.
        if let Ok(granted) = self.account.grant(order, grant.granted_at) {
            self.account.granted(&granted, key);
        }
    }

    fn call(&mut self, call: &DecisionRow, told: &mut Telling) {
        self.end_until(call.held_at, told);
        let asked = self.ask(&Question {
            plan: &call.plan,
            feature: &call.feature,
            user: call.user,
            model: &call.model,
            tier: call.tier.as_ref(),
            size: call.size.as_ref(),
            estimate: &call.estimate,
            decision: call.decision,
            at: call.held_at,
        });
        let is_counted = self.counts(call.held_at);
        if is_counted {
            let now: Side = asked.as_ref().map(|_| ()).map_err(|reason| *reason);
            told.count(&call.plan, &call.feature, call.user, &Sides { then: Ok(()), now, count: 1 });
            told.tally(&call.plan, &call.feature).then.settled(&call.draws, &call.charge);
        }
        if let Ok((terms, held)) = asked {
            let open = OpenCall {
                plan: call.plan.clone(),
                terms,
                clamped_to: held.clamped_to,
                used: call.used.clone(),
                tier: call.tier.clone(),
                outcome: call.outcome,
                grade: call.grade,
                status: call.status,
                is_counted,
            };
            self.open.insert((call.ended_at, call.seq, call.decision), open);
        }
    }

    /// Asks once for each request that a row stands for. What is blocked changes nothing (I2), so that the rest of them
    /// is blocked as well.
    fn block(&mut self, block: &BlockRow, told: &mut Telling) {
        self.end_until(block.at, told);
        told.logged(block.at);
        let Some(plan) = &block.plan else { return };
        let is_counted = self.counts(block.at);
        let then = Err(block.block.reason);
        let question = Question {
            plan,
            feature: &block.feature,
            user: block.user,
            model: &block.model,
            tier: block.tier.as_ref(),
            size: block.size.as_ref(),
            estimate: &block.estimate,
            decision: block.decision,
            at: block.at,
        };
        for nth in 0..block.count {
            match self.ask(&question) {
                Ok((terms, held)) => {
                    if is_counted {
                        let sides = Sides { then, now: Ok(()), count: 1 };
                        told.count(plan, &block.feature, block.user, &sides);
                    }
                    let open = OpenCall {
                        plan: plan.clone(),
                        terms,
                        clamped_to: held.clamped_to,
                        used: block.estimate.clone(),
                        tier: block.tier.clone(),
                        outcome: Outcome::Completed,
                        grade: Grade::Estimated,
                        status: None,
                        is_counted,
                    };
                    self.end(block.decision, &open, block.at, told);
                }
                Err(reason) => {
                    if is_counted {
                        let sides = Sides { then, now: Err(reason), count: block.count - nth };
                        told.count(plan, &block.feature, block.user, &sides);
                    }
                    break;
                }
            }
        }
    }

    fn counts(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= at)
    }

    /// Decides, and holds what is let through.
    fn ask(&mut self, question: &Question<'_>) -> Result<(Terms, Held), Reason> {
        let named = (self.policy.plan(question.plan), self.policy.feature(question.feature));
        let (Some(plan), Some(feature)) = named else { return Err(Reason::NotInPlan) };
        let terms = Terms {
            policy: Arc::clone(self.policy),
            plan,
            feature,
            model: Arc::clone(question.model),
            tier: question.tier.cloned(),
            size: question.size.cloned(),
        };
        let estimate = question.estimate.clone();
        let demand = match terms.row().map(|row| &row.rates) {
            _ if terms.waterfall().is_none() => return Err(Reason::NotInPlan),
            Some(Rates::Seconds(_)) if estimate.seconds > 0 => {
                terms.estimate(estimate).map_err(|_| Reason::NeverFits)?
            }
            // A video of a model that is priced by the token would be free.
            _ if estimate.seconds > 0 => return Err(Reason::UnpricedModel),
            _ => terms.demand_for_tokens(estimate)?,
        };
        let lifetime = terms.feature().deadlines.request;
        let (decision, user) = (question.decision, question.user);
        let ask = Ask { decision, user, terms: terms.clone(), demand, lifetime };
        let proposal = self.account.propose(ask, question.at).map_err(|block| block.reason)?;
        Ok((terms, self.account.accept(proposal, question.at)))
    }

    fn end_until(&mut self, until: Timestamp, told: &mut Telling) {
        while let Some(first) = self.open.first_entry()
            && first.key().0 <= until
        {
            let ((at, _, decision), open) = first.remove_entry();
            self.end(decision, &open, at, told);
        }
    }

    fn end(&mut self, decision: DecisionId, open: &OpenCall, at: Timestamp, told: &mut Telling) {
        let mut used = open.used.clone();
        if let Some(bound) = open.clamped_to {
            used.output_tokens = used.output_tokens.min(bound);
        }
        let held = self.account.hold_of(decision).map(|hold| hold.demand.clone());
        let used = match open.terms.priced(used.clone(), open.tier.as_deref()) {
            _ if open.outcome == Outcome::Refused => Demand { quantities: used, ..Demand::nothing() },
            Ok((demand, _)) => demand,
            Err(_) => held.unwrap_or_else(Demand::nothing),
        };
        let ending = Ending {
            outcome: open.outcome,
            grade: open.grade,
            reached_upstream: true,
            status: open.status,
            tier: open.tier.clone(),
            resource: None,
        };
        let ended = self.account.finish(decision, used, ending, at);
        if let (Ok(end), true) = (ended, open.is_counted) {
            told.tally(&open.plan, &end.feature).now.settled(&end.draws, &end.charge);
        }
    }
}
