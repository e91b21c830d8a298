//! The vocabulary of the core's tests: a policy from a few lines, an account, and a clock moved by hand.
//!
//! A token of the model `coin` costs one credit, so that a demand reads as an amount of credits.

mod auditor;
mod balances;
mod clamp;
mod correct;
mod estimate;
mod extend;
mod guards;
mod ledgered;
mod ordered;
mod overage;
mod properties;
mod reasons;
mod waterfall;
mod windows;

use std::sync::Arc;

use super::ledgered::BookedGrant;
use super::reason::{Block, Reason};
use super::record::{
    Charge, DrawEntry, EndRecord, Ending, Grade, GrantOrigin, GrantRecord, OriginEntry, Outcome, Record,
};
use super::{Account, Ask, Demand, Extended, GrantOrder, Held, NoSuchHold, Standing, Terms, TooMuch};
use crate::policy::compiled::{CounterKey, Policy, Scope, Source};
use crate::units::{
    AccountId, Amount, Credits, DecisionId, GrantId, Quantities, Seq, Span, Timestamp, Unit, UserId,
};

/// What a policy says beside the prices, in flow style.
#[derive(Clone, Copy, Debug, Default)]
struct Rules<'a> {
    /// Balances beside `wallet`, which is there where a layer draws it; each with a comma behind it.
    balances: &'a str,
    /// Keys of the feature `codex` beside its APIs; it counts credits unless they say otherwise.
    feature: &'a str,
    /// Guards of `codex` in the plan `plus`.
    guards: &'a str,
    /// Layers of `codex` in the plan `plus`.
    layers: &'a str,
    /// Layers of `sora`, which counts seconds; the plan does not include it where there are none.
    film: &'a str,
}

const PRICES: &str = "
  - {model: coin, per_million_tokens: {input: 1000000, output: 1000000}, tiers: {flex: 0.5}}
  - {model: uneven, per_million_tokens: {input: 1000000, output: 10000000}}
  - {model: grain, per_million_tokens: {input: 0.1, output: 0.3}}
  - {model: free, per_million_tokens: {input: 0, output: 0}}
  - {model: film, per_second: {720x1280: 2.5, 1280x720: 0}}
";

const WALLET: &str = "{name: credits, kind: prepaid, balance: wallet}";
/// Midnight of a Monday.
const START: Timestamp = Timestamp::from_ms(1_793_577_600_000);
const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;

impl Rules<'_> {
    fn policy(&self) -> Arc<Policy> {
        let Self { balances, feature, guards, layers, film } = self;
        let unit = if feature.contains("unit:") { "" } else { "unit: credit," };
        // A debt is for a feature that some plan pays for.
        let is_owed = feature.contains("debt:") && !layers.contains("balance:");
        let payer =
            if is_owed { format!(", payer: {{codex: {{waterfall: [{WALLET}]}}}}") } else { String::new() };
        let is_drawn = format!("{layers}{film}{payer}").contains("balance: wallet");
        let wallet = if is_drawn { "wallet: {per: account}" } else { "" };
        let balances = format!("{balances} {wallet}");
        let balances =
            if balances.trim().is_empty() { String::new() } else { format!("balances: {{{balances}}}") };
        let film = if film.is_empty() { String::new() } else { format!(", sora: {{waterfall: [{film}]}}") };
        let text = format!(
            "version: 1
prices:{PRICES}
{balances}
features: {{codex: {{apis: [responses, chat], {unit} {feature}}}, sora: {{apis: [videos], unit: second}}}}
plans: {{plus: {{codex: {{guards: [{guards}], waterfall: [{layers}]}}{film}}}, none: {{}}{payer}}}
"
        );
        let parsed = crate::policy::load::parse("test", &text);
        Arc::new(parsed.unwrap_or_else(|problems| panic!("{problems}\n{text}")))
    }

    fn open(&self) -> World {
        World::under(self.policy())
    }
}

/// An account under a policy, at an instant.
struct World {
    policy: Arc<Policy>,
    plan: &'static str,
    account: Account,
    user: UserId,
    now: Timestamp,
    decisions: u64,
    records: Vec<Record>,
}

impl World {
    fn under(policy: Arc<Policy>) -> Self {
        let account = Account::new(AccountId::derived(&[b"account"]));
        let mut world = Self {
            policy,
            plan: "plus",
            account,
            user: user(0),
            now: START,
            decisions: 0,
            records: Vec::new(),
        };
        world.by(0);
        world
    }

    /// The user who calls from here on.
    fn by(&mut self, nth: u64) -> &mut Self {
        self.user = user(nth);
        self
    }

    /// Sets the clock to so many milliseconds after the start.
    fn at(&mut self, ms: u64) -> &mut Self {
        self.now = START.plus(Span::from_ms(ms));
        self
    }

    /// Milliseconds from the start to an instant.
    fn since_start(at: Timestamp) -> u64 {
        at.since(START).ms()
    }

    fn terms(&self, model: &str) -> Terms {
        let feature = if model == "film" { "sora" } else { "codex" };
        Terms {
            policy: Arc::clone(&self.policy),
            plan: self.policy.plan(self.plan).unwrap(),
            feature: self.policy.feature(feature).unwrap(),
            model: model.into(),
            tier: None,
            size: Some("720x1280".into()),
        }
    }

    fn next_ask(&mut self, model: &str, quantities: Quantities) -> Ask {
        let terms = self.terms(model);
        let demand = terms.estimate(quantities).unwrap();
        self.decisions += 1;
        let decision = DecisionId::derived(&[&self.decisions.to_le_bytes()]);
        Ask { decision, user: self.user, terms, demand, lifetime: Span::from_seconds(120) }
    }

    fn take(&mut self, ask: Ask) -> Result<Held, Block> {
        let before = format!("{:?}", self.account);
        let proposed = self.account.propose(ask, self.now);
        assert_eq!(
            format!("{:?}", self.account),
            before,
            "I2: neither a block nor a proposal changes anything"
        );
        let proposal = proposed?;
        self.records.push(Record::Hold(Box::new(proposal.record(self.account.id))));
        Ok(self.account.accept(proposal, self.now))
    }

    /// Asks for so many credits.
    fn ask(&mut self, credits: u64) -> Result<Held, Block> {
        self.ask_of("coin", 0, credits)
    }

    /// Asks for tokens of a model.
    fn ask_of(&mut self, model: &str, input: u64, output: u64) -> Result<Held, Block> {
        let ask = self.next_ask(model, tokens(input, output));
        self.take(ask)
    }

    /// Asks for seconds of film.
    fn ask_film(&mut self, seconds: u64) -> Result<Held, Block> {
        let ask = self.next_ask("film", Quantities { seconds, ..Quantities::default() });
        self.take(ask)
    }

    /// Holds so many credits.
    fn hold(&mut self, credits: u64) -> DecisionId {
        self.ask(credits).unwrap().decision
    }

    /// Why so many credits are not let through.
    fn block(&mut self, credits: u64) -> Block {
        self.ask(credits).unwrap_err()
    }

    /// Ends a hold with so many credits used.
    fn finish(&mut self, decision: DecisionId, credits: u64) -> Box<EndRecord> {
        self.finish_with(decision, tokens(0, credits))
    }

    fn finish_with(&mut self, decision: DecisionId, used: Quantities) -> Box<EndRecord> {
        let used = self.account.hold_of(decision).unwrap().terms.estimate(used).unwrap();
        self.end(decision, used, completed()).unwrap()
    }

    fn void(&mut self, decision: DecisionId) -> Box<EndRecord> {
        self.end(decision, Demand::nothing(), Ending::not_sent()).unwrap()
    }

    fn end(
        &mut self,
        decision: DecisionId,
        used: Demand,
        ending: Ending,
    ) -> Result<Box<EndRecord>, NoSuchHold> {
        let end = self.account.finish(decision, used, ending, self.now)?;
        self.records.push(Record::End(end.clone()));
        Ok(end)
    }

    /// Holds and ends with the same.
    fn spend(&mut self, credits: u64) -> Box<EndRecord> {
        let decision = self.hold(credits);
        self.finish(decision, credits)
    }

    fn extend(&mut self, decision: DecisionId, model: &str, input: u64, output: u64) -> Extended {
        let estimate = self.terms(model).estimate(tokens(input, output)).unwrap();
        self.account.extend(decision, estimate, self.now).unwrap()
    }

    /// Grants credits to the wallet: the grant `nth`.
    fn grant(&mut self, nth: u64, credits: u64) -> GrantRecord {
        self.grant_to("wallet", nth, credits, 100, None)
    }

    fn grant_to(
        &mut self,
        balance: &str,
        nth: u64,
        credits: u64,
        priority: u16,
        expires_at_ms: Option<u64>,
    ) -> GrantRecord {
        let scope = self.policy[self.policy.balance(balance).unwrap()].per;
        let order = GrantOrder {
            grant: grant_id(nth),
            user: (scope == Scope::User).then_some(self.user),
            balance: balance.into(),
            key: CounterKey::of_balance(balance),
            amount: whole(credits),
            priority,
            expires_at: expires_at_ms.map(|ms| START.plus(Span::from_ms(ms))),
            origin: GrantOrigin::Operator { idempotency_key: "key".into(), note: None },
        };
        self.carry_out(order).unwrap()
    }

    fn carry_out(&mut self, order: GrantOrder) -> Result<GrantRecord, TooMuch> {
        let key = order.key;
        let record = self.account.grant(order, self.now)?;
        self.account.granted(&record, key);
        self.records.push(Record::Grant(record.clone()));
        Ok(record)
    }

    /// What the newest hold issued.
    fn issued(&self) -> &[GrantRecord] {
        match self.records.last() {
            Some(Record::Hold(hold)) => &hold.issued,
            other => panic!("{other:?} is no hold"),
        }
    }

    fn expire(&mut self) -> usize {
        let records = self.account.expire_grants(self.now);
        let count = records.iter().map(|record| record.grants.len()).sum();
        self.records.extend(records.into_iter().map(Record::Expiry));
        count
    }

    fn standing(&self) -> Standing {
        let terms = self.terms("coin");
        self.account.standing(&self.policy, terms.plan, terms.feature, self.user, self.now)
    }

    /// What is left of the windows of `codex`, in their order; whole credits where they give credits.
    fn left(&self) -> Vec<u64> {
        let terms = self.terms("coin");
        let layers = &terms.waterfall().unwrap().layers;
        let scale = |layer: u16| match &layers[usize::from(layer)].source {
            Source::Window(windows) if windows.unit != Unit::Credit => 1,
            _ => 1_000_000,
        };
        self.standing().windows.iter().map(|window| window.left.get() / scale(window.layer)).collect()
    }

    /// What new requests can take of the balances of `codex`, in their order, in whole credits.
    fn available(&self) -> Vec<u64> {
        self.standing().balances.iter().map(|balance| balance.available.micros() / 1_000_000).collect()
    }

    /// What a balance stands at, in whole credits.
    fn stands_at(&self, balance: &str) -> i64 {
        let key = CounterKey::of_balance(balance);
        let states = self.account.purses().flat_map(|(_, purse)| purse.balances());
        states.filter(|state| state.key == key).map(|state| state.standing().micros() / 1_000_000).sum()
    }

    /// The account as books and journal know it: rebuilt from the records alone.
    fn rebuilt(&self) -> Account {
        rebuilt(self.account.id, &self.records)
    }
}

/// An account made of its records, open holds left out.
fn rebuilt(id: AccountId, records: &[Record]) -> Account {
    let mut account = Account::new(id);
    for record in records {
        // A record that comes twice is applied once (I7).
        for _ in 0..2 {
            match record {
                Record::Hold(hold) => hold.issued.iter().for_each(|grant| {
                    account.replay_grant(grant, CounterKey::of_balance(&grant.balance)).unwrap();
                }),
                Record::End(end) => account.replay_end(end, CounterKey::of_balance).unwrap(),
                Record::Grant(grant) => {
                    account.replay_grant(grant, CounterKey::of_balance(&grant.balance)).unwrap();
                }
                Record::Expiry(expiry) => account.replay_expiry(expiry).unwrap(),
                Record::Job(_) | Record::Made(_) => {}
                Record::Correction(_) | Record::Revision(_) => {
                    let revision = record.revision().unwrap();
                    account.replay_correction(revision, CounterKey::of_balance).unwrap();
                }
                Record::Adjustment(adjustment) => {
                    let key = CounterKey::of_balance(&adjustment.balance);
                    account.replay_adjustment(adjustment, key).unwrap();
                }
            }
        }
    }
    account
}

fn user(nth: u64) -> UserId {
    UserId::derived(&[b"user", &nth.to_le_bytes()])
}

fn grant_id(nth: u64) -> GrantId {
    GrantId::derived(&[b"grant", &nth.to_le_bytes()])
}

fn tokens(input_tokens: u64, output_tokens: u64) -> Quantities {
    Quantities { input_tokens, output_tokens, ..Quantities::default() }
}

fn whole(credits: u64) -> Credits {
    Credits::from_micros(credits * 1_000_000).unwrap()
}

fn completed() -> Ending {
    Ending {
        outcome: Outcome::Completed,
        grade: Grade::Exact,
        reached_upstream: true,
        status: Some(200),
        tier: None,
        resource: None,
    }
}

/// Draws as text: `included 8, credits 4.5`.
fn shown(draws: &[DrawEntry]) -> String {
    let amount = |draw: &DrawEntry| match (draw.unit, &draw.origin) {
        (_, OriginEntry::Debt { .. }) => format!("owed {}", credits_of(draw)),
        (Unit::Credit, _) => credits_of(draw).to_string(),
        _ => draw.amount.get().to_string(),
    };
    let parts: Vec<_> = draws.iter().map(|draw| format!("{} {}", draw.layer, amount(draw))).collect();
    parts.join(", ")
}

fn credits_of(draw: &DrawEntry) -> Credits {
    Credits::from_micros(draw.amount.get()).unwrap()
}

/// What came of a request, as text: its draws, or the reason of the block.
fn told(world: &World, outcome: &Result<Held, Block>) -> String {
    match outcome {
        Ok(held) => {
            let hold = world.account.hold_of(held.decision).unwrap();
            shown(&hold.terms.entries(&held.draws))
        }
        Err(block) => block.reason.as_str().to_owned(),
    }
}
