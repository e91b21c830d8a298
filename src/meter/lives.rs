//! Random lives of one account, for whatever meter keeps it.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Meter, Verdict};
use crate::access::balance::DEFAULT_PRIORITY;
use crate::access::record::{Ending, GrantOrigin, Outcome};
use crate::access::{Ask, Demand, GrantOrder, Terms};
use crate::policy::compiled::{CounterKey, Policy};
use crate::policy::load;
use crate::units::time::Clock;
use crate::units::{AccountId, Credits, DecisionId, GrantId, Quantities, Span, UserId};

const LAYERS: &str = "
        - {name: calls, kind: free_tier, per: user, unit: request, windows: [{allow: 1, every: 40s, starts: first_use}]}
        - {name: included, kind: rate_limit, per: user, windows: [{allow: 40, every: 30s, starts: first_use}, {allow: 90, every: day, starts: calendar, time_zone: Europe/Berlin}]}
        - {name: shared, kind: entitlement, per: account, windows: [{allow: 60, every: 2m, starts: first_use}]}";
const BALANCES: &str = "
        - {name: offer, kind: promotion, balance: launch}
        - {name: credits, kind: prepaid, balance: wallet}";
const GUARDS: &str = "{name: burst, requests: 4, every: 20s, burst: 6, per: user}, {name: flight, concurrent: 3, per: user},
        {name: tokens, tokens: 150, every: 1m, per: account}, {name: cap, spend: 70, every: 2m, per: account}";

const GRANTED: &str = "balances: {wallet: {per: account},
  launch: {per: user, issue: {amount: 25, from: \"1970-01-01T00:01:00Z\", expires_after: 90s}}}";

/// Waterfalls that tell every kind of reason.
pub(crate) fn policies() -> impl Strategy<Value = Arc<Policy>> {
    let kinds = [
        ("unit: credit, overage: {forgive: 5, debt: 15}", GUARDS, format!("{LAYERS}{BALANCES}")),
        ("unit: credit, overage: {debt: 15}, clamp: {minimum_output_tokens: 4}", GUARDS, BALANCES.to_owned()),
        ("unit: credit, clamp: {minimum_output_tokens: 2}", "", format!("{LAYERS}{BALANCES}")),
        ("unit: token, overage: {forgive: 5}", "", LAYERS.to_owned()),
    ];
    let policies = kinds.map(|(feature, guards, layers)| {
        let balances = if layers.contains("balance:") { GRANTED } else { "" };
        let text = format!(
            "version: 1
prices: [{{model: m, per_million_tokens: {{input: 1000000, output: 1000000}}, tiers: {{flex: 0.5}}}}, {{model: n, per_million_tokens: {{input: 0.1, output: 0.3}}}}]
{balances}
features: {{codex: {{apis: [responses], {feature}}}}}
plans:
  plus:
    codex:
      guards: [{guards}]
      waterfall: {layers}
"
        );
        Arc::new(load::parse("policy", &text).unwrap_or_else(|problems| panic!("{problems}\n{text}")))
    });
    prop::sample::select(policies.to_vec())
}

/// What happens next to an account.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Ask { user: u8, model: &'static str, is_flex: bool, input: u64, output: u64 },
    Finish { nth: usize, percent: u64 },
    Void { nth: usize },
    Extend { nth: usize, percent: u64 },
    Renew { nth: usize, ms: u64 },
    Grant { is_users: bool, credits: u64, lives_ms: Option<u64> },
    Sweep,
}

pub(crate) fn step() -> impl Strategy<Value = (u64, Step)> {
    let model = prop::sample::select(vec!["m", "m", "n"]);
    let step = prop_oneof![
        6 => (0u8..2, model, any::<bool>(), 0u64..25, 1u64..60)
            .prop_map(|(user, model, is_flex, input, output)| Step::Ask { user, model, is_flex, input, output }),
        3 => (0usize..6, 0u64..250).prop_map(|(nth, percent)| Step::Finish { nth, percent }),
        1 => (0usize..6).prop_map(|nth| Step::Void { nth }),
        1 => (0usize..6, 50u64..300).prop_map(|(nth, percent)| Step::Extend { nth, percent }),
        1 => (0usize..6, 0u64..90_000).prop_map(|(nth, ms)| Step::Renew { nth, ms }),
        1 => (any::<bool>(), 1u64..50, prop::option::of(1u64..90_000))
            .prop_map(|(is_users, credits, lives_ms)| Step::Grant { is_users, credits, lives_ms }),
        1 => Just(Step::Sweep),
    ];
    (0u64..20_000, step)
}

/// Who pays.
pub(crate) const ACCOUNT: AccountId = AccountId::from_bytes([1; 16]);

/// One account, and its open calls.
pub(crate) struct Life {
    pub(crate) policy: Arc<Policy>,
    pub(crate) clock: Clock,
    pub(crate) open: Vec<Ask>,
}

impl Life {
    /// Carries out a step, and tells all that came of it.
    pub(crate) async fn step(&mut self, meter: &dyn Meter, nth: u8, step: &Step) -> String {
        match *step {
            Step::Ask { .. } => {
                let Some(ask) = self.ask(nth, step) else { return String::new() };
                match meter.hold(ACCOUNT, ask.clone()).await.unwrap() {
                    Verdict::Allow(held, _) => {
                        self.open.push(ask);
                        format!("{held:?}")
                    }
                    Verdict::Block(block) => format!("{block:?}"),
                }
            }
            Step::Finish { nth, percent } if !self.open.is_empty() => {
                let ask = self.open.remove(nth % self.open.len());
                let used = used(&ask, percent);
                let ending =
                    Ending { outcome: Outcome::Completed, reached_upstream: true, ..Ending::not_sent() };
                // The sweeper may have ended it.
                let ended = meter.finish(ACCOUNT, ask.decision, used, ending).await;
                format!("{:?}", ended.map(|(record, _)| record).map_err(|error| error.to_string()))
            }
            Step::Void { nth } if !self.open.is_empty() => {
                let ask = self.open.remove(nth % self.open.len());
                let ended = meter.void(ACCOUNT, ask.decision, Ending::not_sent()).await;
                format!("{:?}", ended.map(|(record, _)| record).map_err(|error| error.to_string()))
            }
            Step::Extend { nth, percent } if !self.open.is_empty() => {
                let ask = &self.open[nth % self.open.len()];
                let extended = meter.extend(ACCOUNT, ask.decision, used(ask, percent)).await;
                format!("{:?}", extended.map_err(|error| error.to_string()))
            }
            Step::Renew { nth, ms } if !self.open.is_empty() => {
                let decision = self.open[nth % self.open.len()].decision;
                let until = self.clock.now().plus(Span::from_ms(ms));
                let renewed = meter.renew(ACCOUNT, decision, until).await;
                format!("{:?}", renewed.map_err(|error| error.to_string()))
            }
            Step::Finish { .. } | Step::Void { .. } | Step::Extend { .. } | Step::Renew { .. } => {
                String::new()
            }
            Step::Grant { is_users, credits, lives_ms } => {
                let order = self.order(nth, is_users, credits, lives_ms);
                let granted = meter.grant(ACCOUNT, order).await.unwrap();
                format!("{:?}", granted.map(|(record, _)| record))
            }
            Step::Sweep => format!("{:?}", meter.sweep().await.unwrap()),
        }
    }

    /// The request of a step that is one.
    pub(crate) fn ask(&self, nth: u8, step: &Step) -> Option<Ask> {
        let Step::Ask { user, model, is_flex, input, output } = *step else { return None };
        let terms = Terms {
            policy: Arc::clone(&self.policy),
            plan: self.policy.plan("plus").unwrap(),
            feature: self.policy.feature("codex").unwrap(),
            model: model.into(),
            tier: is_flex.then(|| "flex".into()),
            size: None,
        };
        let quantities = Quantities { input_tokens: input, output_tokens: output, ..Quantities::default() };
        let demand = terms.estimate(quantities).unwrap();
        let decision = DecisionId::from_bytes([nth; 16]);
        let (user, lifetime) = (UserId::from_bytes([user + 1; 16]), Span::from_seconds(50));
        Some(Ask { decision, user, terms, demand, lifetime })
    }

    fn order(&self, nth: u8, is_users: bool, credits: u64, lives_ms: Option<u64>) -> GrantOrder {
        let balance = if is_users { "launch" } else { "wallet" };
        GrantOrder {
            grant: GrantId::from_bytes([nth; 16]),
            user: is_users.then(|| UserId::from_bytes([1; 16])),
            balance: balance.into(),
            key: CounterKey::of_balance(balance),
            amount: Credits::from_micros(credits * 1_000_000).unwrap(),
            priority: DEFAULT_PRIORITY,
            expires_at: lives_ms.map(|ms| self.clock.now().plus(Span::from_ms(ms))),
            origin: GrantOrigin::Operator { idempotency_key: format!("{nth}").into(), note: None },
        }
    }
}

fn used(ask: &Ask, percent: u64) -> Demand {
    let mut used = ask.demand.quantities.clone();
    used.output_tokens = used.output_tokens * percent / 100;
    ask.terms.estimate(used).unwrap()
}
