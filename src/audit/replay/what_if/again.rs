//! One account lives again, under another policy.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::ordered::Ended;
use super::{Side, Sides, Telling};
use crate::access::ledgered::BookedGrant;
use crate::access::record::{DrawEntry, Ending, Grade, GrantRecord, OriginEntry, Outcome};
use crate::access::{Account, Ask, Demand, GrantOrder, Held, Prior, Reason, Terms};
use crate::ledger::recorded::{AskedCall, RecordedEnd, Request};
use crate::ledger::rows::BlockRow;
use crate::policy::compiled::{CounterKey, Name, Policy};
use crate::policy::prices::Rates;
use crate::units::{AccountId, DecisionId, GrantId, Quantities, Seq, Timestamp, UserId};

/// An account, its open calls, and those ended calls of which more is said.
pub(super) struct Again<'a> {
    pub(super) policy: &'a Arc<Policy>,
    since: Option<Timestamp>,
    pub(super) account: Account,
    pub(super) grants: Grants,
    /// By when they end; the recorded place tells the order of an instant.
    open: BTreeMap<(Timestamp, Seq, DecisionId), OpenCall>,
    pub(super) ended: HashMap<DecisionId, Ended>,
}

/// What the account was granted, by operators and by the policy.
#[derive(Default)]
pub(super) struct Grants(HashMap<GrantId, BookedGrant>);

/// A call that was let through, until it ends.
struct OpenCall {
    plan: Name,
    terms: Terms,
    clamped_to: Option<u64>,
    end: RecordedEnd,
    status: Option<u16>,
    is_counted: bool,
    /// Whether more is said of its money later.
    is_revised: bool,
}

/// How a call is recorded to have ended, to be priced by other terms.
pub(super) struct Truth<'e> {
    pub(super) end: &'e RecordedEnd,
    pub(super) clamped_to: Option<u64>,
    pub(super) status: Option<u16>,
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
        Self {
            policy,
            since,
            account: Account::new(account),
            grants: Grants::default(),
            open: BTreeMap::new(),
            ended: HashMap::new(),
        }
    }

    pub(super) const fn id(&self) -> AccountId {
        self.account.id
    }

    pub(super) fn request(&mut self, request: &Request, told: &mut Telling) {
        let (at, seq) = request.place();
        self.end_before(at, seq, told);
        match request {
            Request::Grant(grant) => self.grant(grant),
            Request::Adjustment(adjustment) => self.adjustment(adjustment, &mut told.orders),
            Request::Revision(revision) => self.revision(revision, &mut told.orders),
            Request::Call(call) => self.call(call, told),
            Request::Block(block) => self.block(block, told),
        }
    }

    /// Lets every open call end, and counts those of whose money more was said, as it is in the end.
    pub(super) fn close(&mut self, told: &mut Telling) {
        self.end_before(Timestamp::NEVER, Seq(u64::MAX), told);
        for (_, Ended { plan, feature, prior, is_counted, .. }) in self.ended.drain() {
            if is_counted {
                told.tally(&plan, &feature).now.settled(&prior.draws, &prior.charge);
            }
        }
    }

    fn grant(&mut self, grant: &GrantRecord) {
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
            self.grants.put(&granted);
        }
    }

    fn call(&mut self, AskedCall { settled: call, end }: &AskedCall, told: &mut Telling) {
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
                end: end.clone(),
                status: call.status,
                is_counted,
                is_revised: call.revision > 1,
            };
            self.open.insert((call.ended_at, call.seq, call.decision), open);
        }
    }

    /// Asks once for each request that a row stands for. What is blocked changes nothing (I2), so that the rest of them
    /// is blocked as well.
    fn block(&mut self, block: &BlockRow, told: &mut Telling) {
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
                        end: RecordedEnd {
                            outcome: Outcome::Completed,
                            grade: Grade::Estimated,
                            tier: block.tier.clone(),
                            used: block.estimate.clone(),
                        },
                        status: None,
                        is_counted,
                        is_revised: false,
                    };
                    self.end(block.decision, open, block.at, told);
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
        if proposal.issues() {
            proposal.record(self.account.id).issued.iter().for_each(|grant| self.grants.put(grant));
        }
        Ok((terms, self.account.accept(proposal, question.at)))
    }

    /// Lets end what ended before something else did.
    fn end_before(&mut self, at: Timestamp, seq: Seq, told: &mut Telling) {
        while let Some(first) = self.open.first_entry()
            && (first.key().0, first.key().1) < (at, seq)
        {
            let ((at, _, decision), open) = first.remove_entry();
            self.end(decision, open, at, told);
        }
    }

    fn end(&mut self, decision: DecisionId, open: OpenCall, at: Timestamp, told: &mut Telling) {
        let OpenCall { plan, terms, clamped_to, end, status, is_counted, is_revised } = open;
        let held = self.account.hold_of(decision).map(|hold| hold.demand.clone());
        let (used, ending) =
            Truth { end: &end, clamped_to, status }.priced(&terms, || held.unwrap_or_else(Demand::nothing));
        let Ok(end) = self.account.finish(decision, used, ending, at) else { return };
        if is_revised {
            let (feature, prior) = (Arc::clone(&end.feature), Prior::of(&end, terms, Vec::new()));
            self.ended.insert(decision, Ended { plan, feature, prior, clamped_to, is_counted });
        } else if is_counted {
            told.tally(&plan, &end.feature).now.settled(&end.draws, &end.charge);
        }
    }
}

impl Truth<'_> {
    /// What was used, at the price of the terms, and how it ended; what has no price costs what is told.
    pub(super) fn priced(&self, terms: &Terms, unpriced: impl FnOnce() -> Demand) -> (Demand, Ending) {
        let RecordedEnd { outcome, grade, tier, used } = self.end;
        let mut used = used.clone();
        if let Some(bound) = self.clamped_to {
            used.output_tokens = used.output_tokens.min(bound);
        }
        let used = match terms.priced(used.clone(), tier.as_deref()) {
            _ if *outcome == Outcome::Refused => Demand { quantities: used, ..Demand::nothing() },
            Ok((demand, _)) => demand,
            Err(_) => unpriced(),
        };
        let ending = Ending {
            outcome: *outcome,
            grade: *grade,
            reached_upstream: true,
            status: self.status,
            tier: tier.clone(),
            resource: None,
        };
        (used, ending)
    }
}

impl Grants {
    fn put(&mut self, grant: &GrantRecord) {
        self.0.insert(grant.grant, BookedGrant::as_granted(grant));
    }

    pub(super) fn get(&self, grant: GrantId) -> Option<&BookedGrant> {
        self.0.get(&grant)
    }

    /// Those that draws name.
    pub(super) fn named(&self, draws: &[DrawEntry]) -> Vec<BookedGrant> {
        let named = draws.iter().filter_map(|draw| match &draw.origin {
            OriginEntry::Grant { grant, .. } => self.0.get(grant).cloned(),
            OriginEntry::Windows(_) | OriginEntry::Debt { .. } => None,
        });
        named.collect()
    }
}
