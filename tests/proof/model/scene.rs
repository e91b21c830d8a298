//! Who calls, under which policies, and the bounds within which everything that can happen does.

use std::sync::Arc;

use overfall::access::record::{Ending, Grade, GrantOrigin, Outcome};
use overfall::access::{Ask, Demand, GrantOrder, Terms};
use overfall::policy::compiled::{CounterKey, Policy};
use overfall::units::{
    AccountId, Credits, DecisionId, GrantId, OrderId, PolicyVersion, Quantities, Span, Timestamp, UserId,
};

/// Midnight of a Monday.
const START: Timestamp = Timestamp::from_ms(1_793_577_600_000);
/// How far the clock moves at a time, which is also how long a hold lives.
pub(crate) const TICK: Span = Span::from_seconds(60);
/// How far any policy lets a balance go below zero, in micro-credits.
pub(crate) const DEBT_MOST: i64 = 2_000_000;

/// Two texts of a policy: the second has a higher price and a lower limit of the same window.
const POLICIES: [(&str, &str); 2] = [("1000000", "3"), ("2000000", "2")];

/// How the parts stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// Gateway, meter, journal and worker are one process, and die together.
    OneNode,
    /// Gateways share a meter, whose verbs put what is numbered on a stream; workers read that.
    Shared,
}

/// One request: what it is estimated at, and what it then uses, in tokens of one credit each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallPlan {
    /// Which user.
    pub user: u8,
    /// Which gateway it comes to.
    pub gateway: usize,
    /// Input, and output as estimated.
    pub estimate: (u64, u64),
    /// Output as it turns out.
    pub truth: u64,
    /// The output of a larger estimate, made while it runs.
    pub extended: Option<u64>,
    /// Whether it goes on in the background after its answer.
    pub job: bool,
}

/// One order of credits for the wallet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderPlan {
    /// How many.
    pub credits: u64,
    /// After how many ticks they expire.
    pub expires: Option<u8>,
}

/// One order of an operator to set right what is booked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SetRight {
    /// So many credits of a call are given back; all that is charged where none are said.
    Refund {
        /// Of which call.
        call: usize,
        /// How many.
        credits: Option<u64>,
    },
    /// A call is priced anew.
    Price {
        /// Which call.
        call: usize,
        /// By which policy.
        policy: u8,
    },
    /// There is so much more of what an order of credits granted; below zero, so much less.
    Adjust {
        /// Of which order.
        order: usize,
        /// How many credits.
        credits: i64,
    },
}

/// How much can happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// For people.
    pub name: &'static str,
    /// How the parts stand to each other.
    pub topology: Topology,
    /// Gateways; one node has one.
    pub gateways: usize,
    /// Workers that book.
    pub workers: usize,
    /// The requests.
    pub calls: &'static [CallPlan],
    /// The orders.
    pub orders: &'static [OrderPlan],
    /// What operators set right.
    pub set_right: &'static [SetRight],
    /// How often the clock moves.
    pub ticks: u8,
    /// How often a gateway is killed, at any instruction.
    pub crashes: u8,
    /// How often something comes again or gets lost on its way: an order, an end, a record.
    pub repeats: u8,
    /// How often the policy changes.
    pub reloads: u8,
    /// How often a running request's deadline is moved.
    pub renewals: u8,
    /// How often a running request asks for more.
    pub extensions: u8,
    /// Whether upstreams refuse and clients go away.
    pub refusals: bool,
    /// States that must be reached, so that nothing is proved of nothing.
    pub reaches: &'static [&'static str],
}

/// The fixed names behind the numbers.
#[derive(Debug)]
pub(crate) struct Scene {
    policies: [Arc<Policy>; 2],
}

impl Scene {
    pub(crate) fn new() -> Self {
        let policies = POLICIES.map(|(price, allow)| {
            let text = policy(price, allow);
            Arc::new(
                overfall::policy::load::parse("model", &text).unwrap_or_else(|problems| panic!("{problems}")),
            )
        });
        Self { policies }
    }

    /// The policy in force.
    pub(crate) fn policy(&self, place: u8) -> &Arc<Policy> {
        &self.policies[usize::from(place)]
    }

    /// The policy of a version.
    pub(crate) fn version(&self, version: PolicyVersion) -> &Arc<Policy> {
        self.policies.iter().find(|policy| policy.version == version).unwrap()
    }

    pub(crate) fn ask(&self, place: usize, call: &CallPlan, policy: u8) -> Ask {
        let terms = terms(self.policy(policy));
        let demand = demand(&terms, call.estimate.0, call.estimate.1);
        Ask { decision: decision(place), user: user(call.user), terms, demand, lifetime: TICK }
    }

    pub(crate) fn order(place: usize, order: &OrderPlan) -> GrantOrder {
        GrantOrder {
            grant: grant(place),
            user: None,
            balance: "wallet".into(),
            key: CounterKey::of_balance("wallet"),
            amount: Credits::from_micros(order.credits * 1_000_000).unwrap(),
            priority: 100,
            expires_at: order.expires.map(at),
            origin: GrantOrigin::Operator { idempotency_key: "model".into(), note: None },
        }
    }
}

/// What a call is decided by.
pub(crate) fn terms(policy: &Arc<Policy>) -> Terms {
    Terms {
        policy: Arc::clone(policy),
        plan: policy.plan("plus").unwrap(),
        feature: policy.feature("codex").unwrap(),
        model: "coin".into(),
        tier: None,
        size: None,
    }
}

/// The instant after so many ticks.
pub(crate) fn at(ticks: u8) -> Timestamp {
    START.plus(Span::from_ms(TICK.ms() * u64::from(ticks)))
}

/// The decision of a call.
pub(crate) fn decision(call: usize) -> DecisionId {
    DecisionId::derived(&[b"call", &call.to_le_bytes()])
}

/// The grant of an order.
pub(crate) fn grant(order: usize) -> GrantId {
    GrantId::derived(&[b"order", &order.to_le_bytes()])
}

/// What makes an order that sets something right the same.
pub(crate) fn set_right(nth: usize) -> OrderId {
    OrderId::derived(&[b"set right", &nth.to_le_bytes()])
}

/// Who pays.
pub(crate) fn account() -> AccountId {
    AccountId::derived(&[b"model"])
}

/// A user.
pub(crate) fn user(nth: u8) -> UserId {
    UserId::derived(&[b"user", &[nth]])
}

/// So many tokens, priced.
pub(crate) fn demand(terms: &Terms, input_tokens: u64, output_tokens: u64) -> Demand {
    terms.estimate(Quantities { input_tokens, output_tokens, ..Quantities::default() }).unwrap()
}

/// How a call ends that reached the upstream.
pub(crate) fn ending(outcome: Outcome) -> Ending {
    Ending {
        outcome,
        grade: Grade::Exact,
        reached_upstream: true,
        status: Some(200),
        tier: None,
        resource: None,
    }
}

fn policy(price: &str, allow: &str) -> String {
    format!(
        "version: 1
prices: [{{model: coin, per_million_tokens: {{input: {price}, output: {price}}}}}]
balances: {{gift: {{per: user, issue: {{amount: 2}}}}, wallet: {{per: account}}}}
features: {{codex: {{apis: [responses], unit: credit, overage: {{forgive: 1, debt: 2}}}}}}
plans: {{plus: {{codex: {{
  guards: [{{name: places, concurrent: 2, per: user}}, {{name: cap, spend: 9, every: 2m, per: account}}],
  waterfall: [
    {{name: included, kind: rate_limit, per: account, windows: [{{allow: {allow}, every: 2m, starts: first_use}}]}},
    {{name: gift, kind: promotion, balance: gift}},
    {{name: credits, kind: prepaid, balance: wallet}}]}}}}}}
"
    )
}
