mod crowd;
mod differential;
mod faults;
mod rights;
mod server;

use std::path::Path;

use super::*;
use crate::access::balance::DEFAULT_PRIORITY;
use crate::access::record::{EndRecord, Ending, GrantOrigin, Outcome};
use crate::access::{Ask, GrantOrder, Terms};
use crate::journal;
use crate::ledger::sqlite::SqliteLedger;
use crate::meter::{Meter, Verdict};
use crate::policy::compiled::CounterKey;
use crate::policy::load;
use crate::units::{DecisionId, GrantId, Quantities, Span, UserId};
use server::Server;

const POLICY: &str = r#"
version: 1
prices: [{model: "m", per_million_tokens: {input: 1000000, output: 1000000}}]
balances: {wallet: {per: account}}
features: {codex: {apis: [responses], unit: credit}}
plans:
  plus:
    codex:
      waterfall:
        - {name: included, kind: rate_limit, per: account, windows: [{allow: 50, every: 5h, starts: first_use}]}
        - {name: credits, kind: prepaid, balance: wallet}
"#;
const ACCOUNT: AccountId = AccountId::from_bytes([1; 16]);

fn policy() -> Arc<Policy> {
    Arc::new(load::parse("policy.yaml", POLICY).unwrap())
}

/// A node's meter on a Redis that other nodes may share, with a journal of its own.
async fn node(server: &Server, folder: &Path, policy: &Arc<Policy>, clock: &Clock) -> RedisMeter {
    std::fs::create_dir_all(folder).unwrap();
    let ledger = Arc::new(SqliteLedger::open(&folder.join("ledger.sqlite")).unwrap());
    ledger.keep_policy(policy.version, &policy.text).await.unwrap();
    let (journal, _) =
        Journal::open(&folder.join("journal"), journal::Options::default(), |_, _| Ok(())).unwrap();
    let store = Store::connect(&RedisAt::one(server.url()), Clock::machine()).await.unwrap();
    let policies = Arc::new(Policies::new(Arc::clone(policy)));
    let meter =
        RedisMeter::open(store, clock.clone(), policies, ledger, Arc::new(journal), None).await.unwrap();
    meter.alone(1).await.unwrap();
    meter
}

/// A request of `tokens` credits.
fn ask(policy: &Arc<Policy>, user: u16, nth: u16, tokens: u64) -> Ask {
    let terms = Terms {
        policy: Arc::clone(policy),
        plan: policy.plan("plus").unwrap(),
        feature: policy.feature("codex").unwrap(),
        model: "m".into(),
        tier: None,
        size: None,
    };
    let demand = terms.estimate(Quantities { output_tokens: tokens, ..Quantities::default() }).unwrap();
    let id = |n: u16| std::array::from_fn(|place| n.to_be_bytes().get(place).copied().unwrap_or(1));
    let (decision, user) = (DecisionId::from_bytes(id(nth)), UserId::from_bytes(id(user)));
    Ask { decision, user, terms, demand, lifetime: Span::from_seconds(120) }
}

async fn is_held(meter: &RedisMeter, ask: Ask) -> bool {
    matches!(meter.hold(ACCOUNT, ask).await.unwrap(), Verdict::Allow(..))
}

async fn finish(meter: &RedisMeter, ask: &Ask) -> Result<Box<EndRecord>, MeterError> {
    let ending = Ending { outcome: Outcome::Completed, reached_upstream: true, ..Ending::not_sent() };
    let ended = meter.finish(ACCOUNT, ask.decision, ask.demand.clone(), ending).await;
    ended.map(|(record, _)| record)
}

fn order(nth: u8, credits: &str) -> GrantOrder {
    GrantOrder {
        grant: GrantId::from_bytes([nth; 16]),
        user: None,
        balance: "wallet".into(),
        key: CounterKey::of_balance("wallet"),
        amount: credits.parse().unwrap(),
        priority: DEFAULT_PRIORITY,
        expires_at: None,
        origin: GrantOrigin::Operator { idempotency_key: "order".into(), note: None },
    }
}
