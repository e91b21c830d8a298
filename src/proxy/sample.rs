//! A policy, an account and a few calls for tests: everything that headers, refusals and look-ups can show.

use std::sync::Arc;

use crate::access::draw::Draws;
use crate::access::record::GrantOrigin;
use crate::access::{Account, Ask, GrantOrder, Held, Standing, Terms};
use crate::policy::compiled::{FeatureIndex, PlanIndex, Policy};
use crate::policy::load;
use crate::proxy::headers::Scene;
use crate::units::{AccountId, Credits, DecisionId, GrantId, Quantities, Span, Timestamp, UserId};

/// 2026-11-22T16:34:55.123Z
pub(super) const NOW: Timestamp = Timestamp::from_ms(1_795_365_295_123);
pub(super) const REQUEST_ID: &str = "req_01jdc6a7f3";
pub(super) const USER: UserId = UserId::from_bytes([0x22; 16]);
pub(super) const DECISION: DecisionId = DecisionId::from_bytes([0x01; 16]);
pub(super) const GRANT: GrantId = GrantId::from_bytes([0x33; 16]);

/// Two plans of codex and sora, with every kind of guard and layer. Never to be changed for one test: snapshots show it.
const POLICY: &str = r#"
version: 1
prices:
  - model: "gpt-5.3-codex*"
    per_million_tokens: {input: 43.75, cached_input: 4.375, output: 350}
  - model: "sora-2*"
    per_second: {1280x720: 2.5}
balances:
  wallet: {per: account}
  launch: {per: user, issue: {amount: 200, from: "2026-11-01T00:00:00Z", until: "2026-12-31T00:00:00Z", expires_after: 30d}}
features:
  codex: {apis: [responses, chat], unit: credit, clamp: {minimum_output_tokens: 256}}
  sora: {apis: [videos], unit: second}
plans:
  plus:
    codex:
      guards:
        - {name: burst, requests: 60, every: 1m, burst: 20, per: user}
        - {name: tokens, tokens: 400000, every: 1m, per: user}
        - {name: in-flight, concurrent: 8, per: user}
      waterfall:
        - name: included
          kind: rate_limit
          per: user
          windows:
            - {allow: 50, every: 5h, starts: first_use}
            - {allow: 400, every: 7d, starts: first_use}
        - {name: launch-offer, kind: promotion, balance: launch}
        - {name: credits, kind: prepaid, balance: wallet}
    sora:
      guards: [{name: jobs, concurrent: 2, per: user}]
      waterfall:
        - {name: daily, kind: free_tier, per: user, windows: [{allow: 30, every: day, starts: calendar, time_zone: UTC}]}
        - {name: credits, kind: prepaid, balance: wallet}
  enterprise:
    extends: plus
    codex:
      guards: [{name: member-cap, spend: 5000, every: month, time_zone: UTC, per: user}]
      waterfall:
        - {name: contract, kind: entitlement, per: account, windows: [{allow: 100000, every: month, starts: calendar, time_zone: UTC}]}
        - {name: credits, kind: prepaid, balance: wallet}
"#;

/// One user of one account, and what is left to them in one feature.
pub(super) struct Sample {
    pub(super) policy: Arc<Policy>,
    pub(super) plan: PlanIndex,
    pub(super) feature: FeatureIndex,
    pub(super) account: Account,
    pub(super) standing: Standing,
    pub(super) draws: Draws,
    pub(super) now: Timestamp,
}

impl Sample {
    /// An untouched account on a plan of the policy above.
    pub(super) fn on(plan: &str, feature: &str) -> Self {
        Self::of(POLICY, plan, feature)
    }

    /// An untouched account under a policy.
    pub(super) fn of(policy: &str, plan: &str, feature: &str) -> Self {
        let policy = load::parse("policy.yaml", policy).unwrap_or_else(|problems| panic!("{problems}"));
        let (plan, feature) = (policy.plan(plan).unwrap(), policy.feature(feature).unwrap());
        let account = Account::new(AccountId::from_bytes([0x11; 16]));
        let standing = account.standing(&policy, plan, feature, USER, NOW);
        let draws = Draws::new();
        Self { policy: Arc::new(policy), plan, feature, account, standing, draws, now: NOW }
    }

    /// Grants credits to the account's wallet.
    pub(super) fn grant(mut self, credits: &str) -> Self {
        let balance = &self.policy[self.policy.balance("wallet").unwrap()];
        let order = GrantOrder {
            grant: GRANT,
            user: None,
            balance: Arc::clone(&balance.name),
            key: balance.key,
            amount: credits.parse::<Credits>().unwrap(),
            priority: 100,
            expires_at: None,
            origin: GrantOrigin::Operator { idempotency_key: "sample".into(), note: None },
        };
        let (key, granted) = (order.key, self.account.grant(order, self.now).unwrap());
        self.account.granted(&granted, key);
        self.restated()
    }

    /// Lets time pass.
    pub(super) fn later(mut self, ms: u64) -> Self {
        self.now = self.now.plus(Span::from_ms(ms));
        self.restated()
    }

    /// Holds a call of `gpt-5.3-codex` that is expected to write so many tokens: 350 credits for a million.
    pub(super) fn hold(mut self, output_tokens: u64) -> Self {
        let held = self.attempt(output_tokens).expect("a call that passes");
        self.draws = held.draws;
        self.standing = held.standing;
        self
    }

    /// Asks for a call, and says what came of it.
    pub(super) fn attempt(&mut self, output_tokens: u64) -> Result<Held, crate::access::Block> {
        let terms = Terms {
            policy: Arc::clone(&self.policy),
            plan: self.plan,
            feature: self.feature,
            model: "gpt-5.3-codex".into(),
            tier: None,
            size: None,
        };
        let demand = terms.estimate(Quantities { output_tokens, ..Quantities::default() }).unwrap();
        let decision = DecisionId::derived(&[&output_tokens.to_le_bytes(), &self.now.ms().to_le_bytes()]);
        let ask = Ask { decision, user: USER, terms, demand, lifetime: Span::from_seconds(120) };
        let proposal = self.account.propose(ask, self.now)?;
        Ok(self.account.accept(proposal, self.now))
    }

    /// What headers are made from.
    pub(super) fn scene(&self) -> Scene<'_> {
        Scene {
            policy: &self.policy,
            plan: self.plan,
            feature: self.feature,
            standing: &self.standing,
            now: self.now,
        }
    }

    fn restated(mut self) -> Self {
        self.standing = self.account.standing(&self.policy, self.plan, self.feature, USER, self.now);
        self
    }
}
