//! A policy, accounts under it and requests to decide, without a gateway around them.

use std::sync::Arc;

use anyhow::Context as _;
use overfall::access::record::{GrantOrigin, GrantRecord, HoldRecord};
use overfall::access::{Account, Ask, Demand, GrantOrder, Terms};
use overfall::policy::compiled::{CounterKey, Policy};
use overfall::policy::load;
use overfall::units::{AccountId, DecisionId, GrantId, Quantities, Span, Timestamp, UserId};

/// Two guards and three layers: a window, a promotion that each user is issued, and credits.
pub(crate) const POLICY: &str = r#"
version: 1
prices:
  - model: "gpt-5.5*"
    per_million_tokens: {input: 125, cached_input: 12.5, output: 750}
balances:
  wallet: {per: account}
  launch: {per: user, issue: {amount: 0.5, from: "2020-01-01T00:00:00Z", until: "2100-01-01T00:00:00Z", expires_after: 3650d}}
features:
  codex: {apis: [responses, chat], unit: credit, overage: {forgive: 0, debt: 0}}
plans:
  plus:
    codex:
      guards:
        - {name: burst, requests: 600000000, every: 1m, per: user}
        - {name: in-flight, concurrent: 100000, per: user}
      waterfall:
        - name: included
          kind: rate_limit
          per: user
          windows: [{allow: 0.5, every: 5h, starts: first_use}, {allow: 5, every: 7d, starts: first_use}]
        - {name: launch-offer, kind: promotion, balance: launch}
        - {name: credits, kind: prepaid, balance: wallet}
"#;

/// What requests are decided by.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// The policy in force.
    pub(crate) policy: Arc<Policy>,
    /// The terms of every request.
    pub(crate) terms: Terms,
}

impl World {
    /// Under a policy that has a plan `plus` and a product `codex`.
    pub(crate) fn of(policy: &str) -> anyhow::Result<Self> {
        let policy = Arc::new(
            load::parse("the bench's policy", policy).map_err(|problems| anyhow::anyhow!("{problems}"))?,
        );
        let terms = Terms {
            plan: policy.plan("plus").context("no plan")?,
            feature: policy.feature("codex").context("no product")?,
            policy: Arc::clone(&policy),
            model: "gpt-5.5".into(),
            tier: None,
            size: None,
        };
        Ok(Self { policy, terms })
    }

    /// The demand of a call with so many tokens of output: 0.4 credits for 512.
    pub(crate) fn demand(&self, output_tokens: u64) -> anyhow::Result<Demand> {
        Ok(self.terms.estimate(Quantities { input_tokens: 150, output_tokens, ..Quantities::default() })?)
    }

    /// A request of a user.
    pub(crate) fn ask(&self, number: u64, user: UserId, demand: &Demand, now: Timestamp) -> Ask {
        Ask {
            decision: DecisionId::new(now, random(number)),
            user,
            terms: self.terms.clone(),
            demand: demand.clone(),
            lifetime: Span::from_seconds(120),
        }
    }
}

/// An order of credits for the wallet.
pub(crate) fn order(number: u64, credits: &str, now: Timestamp) -> anyhow::Result<GrantOrder> {
    Ok(GrantOrder {
        grant: GrantId::new(now, random(number)),
        user: None,
        balance: "wallet".into(),
        key: CounterKey::of_balance("wallet"),
        amount: credits.parse()?,
        priority: overfall::access::balance::DEFAULT_PRIORITY,
        expires_at: None,
        origin: GrantOrigin::Operator { idempotency_key: format!("bench-{number}").into(), note: None },
    })
}

/// Carries an order out.
pub(crate) fn grant(account: &mut Account, order: GrantOrder, now: Timestamp) -> anyhow::Result<GrantRecord> {
    let key = order.key;
    let granted = account.grant(order, now)?;
    account.granted(&granted, key);
    Ok(granted)
}

/// Holds what passes.
pub(crate) fn hold(account: &mut Account, ask: Ask, now: Timestamp) -> anyhow::Result<HoldRecord> {
    let proposal = account.propose(ask, now).map_err(|block| anyhow::anyhow!("{block:?}"))?;
    let record = proposal.record(account.id);
    let _held = account.accept(proposal, now);
    Ok(record)
}

/// The account of a number.
pub(crate) fn account(number: u64, now: Timestamp) -> AccountId {
    AccountId::new(now, random(number))
}

/// The user of a number.
pub(crate) fn user(number: u64, now: Timestamp) -> UserId {
    UserId::new(now, random(number))
}

/// Bytes that look random and are the same each time.
pub(crate) fn random(number: u64) -> [u8; 10] {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&(mixed ^ (mixed >> 29)).to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes()[..2]);
    bytes
}
