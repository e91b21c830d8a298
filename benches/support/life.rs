//! Lives of accounts: what the access core decides for them, record by record, so that books made of it must hold.
//!
//! Shared by the audit's tests and its bench. The same number lives the same life.

use std::sync::Arc;

use overfall::access::balance::GrantState;
use overfall::access::ledgered::BookedGrant;
use overfall::access::record::{
    EndRecord, Ending, Grade, GrantOrigin, GrantRecord, Outcome, Record, RevisionOrder,
};
use overfall::access::terms::priced;
use overfall::access::{
    Account, Adjusted, AdjustmentOrder, Ask, Demand, GrantOrder, Prior, RefundOrder, Repriced, Revision,
    Terms,
};
use overfall::ledger::Ledger;
use overfall::ledger::rows::{AccountRow, AccountStatus, UserRow};
use overfall::policy::compiled::{CounterKey, Policy};
use overfall::policy::load;
use overfall::units::{
    AccountId, Credits, DecisionId, GrantId, OrderId, Quantities, SignedCredits, Span, Timestamp, UserId,
};

/// The policy of all lives: small limits, so that every layer is drawn from, and debts and gifts are made.
pub(crate) const POLICY: &str = r#"
version: 1
prices:
  - model: "codex*"
    per_million_tokens: {input: 43.75, cached_input: 4.375, output: 350}
    per_tool_call: {web_search: 0.01}
    tiers: {priority: 2, flex: 0.5}
    long_context: {over_input_tokens: 1500, multiply: {input: 2, cached_input: 2, output: 1.5}}
  - model: "film"
    per_second: {720x1280: 0.05, 1280x720: 0.125}
balances:
  wallet: {per: account}
  launch: {per: user, issue: {amount: 0.3, expires_after: 2d}}
features:
  codex: {apis: [responses], unit: credit, overage: {forgive: 0.2, debt: 0.4}}
  sora: {apis: [videos], unit: second}
plans:
  plus:
    codex:
      guards: [{name: cap, spend: 1000, every: month, time_zone: UTC, per: user}]
      waterfall:
        - {name: free-calls, kind: free_tier, per: user, unit: request, windows: [{allow: 1, every: day, starts: calendar, time_zone: UTC}]}
        - {name: included, kind: rate_limit, per: user, windows: [{allow: 0.4, every: 5h, starts: first_use}, {allow: 2, every: 7d, starts: first_use}]}
        - {name: launch-offer, kind: promotion, balance: launch}
        - {name: credits, kind: prepaid, balance: wallet}
    sora:
      waterfall:
        - {name: daily, kind: free_tier, per: account, windows: [{allow: 6, every: day, starts: calendar, time_zone: Europe/Berlin}]}
        - {name: credits, kind: prepaid, balance: wallet}
"#;

/// Where lives begin: midnight of a Monday.
pub(crate) const START: Timestamp = Timestamp::from_ms(1_793_577_600_000);

/// Records that are booked together.
const BATCH: usize = 2_000;
/// How far the clock goes from one turn of all accounts to the next.
const TURN: Span = Span::from_seconds(600);

/// Fills books with the lives of so many accounts, until at least so many usage events are booked.
pub(crate) async fn fill(ledger: &dyn Ledger, accounts: u64, events: usize) -> anyhow::Result<()> {
    let policy = Arc::new(load::parse("lives", POLICY)?);
    ledger.keep_policy(policy.version, POLICY).await?;
    let mut lives: Vec<Life> = (0..accounts).map(|nth| Life::new(nth, &policy, false)).collect();
    for life in &lives {
        ledger.add_account(&life.account).await?;
        for user in &life.users {
            ledger.add_user(user).await?;
        }
    }
    let (mut booked, mut now, mut records): (usize, Timestamp, Vec<Record>) = (0, START, Vec::new());
    while booked < events {
        now = now.plus(TURN);
        for life in &mut lives {
            life.step(now, &mut records);
        }
        if records.len() >= BATCH {
            booked += book(ledger, &mut records).await?;
        }
    }
    for life in &mut lives {
        life.close(&mut records);
    }
    book(ledger, &mut records).await?;
    Ok(())
}

/// Books what has happened, and tells how many usage events that is.
async fn book(ledger: &dyn Ledger, records: &mut Vec<Record>) -> anyhow::Result<usize> {
    let events = records.iter().filter(|record| is_event(record)).count();
    let applied = ledger.apply(std::mem::take(records)).await?;
    anyhow::ensure!(applied.conflicts.is_empty() && applied.waiting.is_empty(), "{applied:?}");
    Ok(events)
}

const fn is_event(record: &Record) -> bool {
    matches!(record, Record::End(end) if end.ending.reached_upstream)
}

/// One account, its users, and what they do.
pub(crate) struct Life {
    /// The account.
    pub(crate) account: AccountRow,
    /// Its users.
    pub(crate) users: [UserRow; 2],
    policy: Arc<Policy>,
    state: Account,
    now: Timestamp,
    random: u64,
    open: Vec<(DecisionId, Terms)>,
    grants: Vec<GrantRecord>,
    granted: u64,
    corrects: bool,
    /// What an operator prices calls anew by, in a life in which one sets things right: adjusts balances, refunds calls.
    pub(crate) repriced: Option<Arc<Policy>>,
    /// What ended, as of its newest revision.
    ended: Vec<Prior>,
    ordered: u64,
}

impl Life {
    /// The life of this number. Those whose ended calls are corrected remember their grants.
    pub(crate) fn new(nth: u64, policy: &Arc<Policy>, corrects: bool) -> Self {
        let id = AccountId::derived(&[b"life", &nth.to_be_bytes()]);
        let user = |user: u64| UserRow {
            id: UserId::derived(&[b"life", &nth.to_be_bytes(), &user.to_be_bytes()]),
            account: id,
            name: format!("user {user}").into(),
            created_at: START,
        };
        let (name, plan) = (format!("account {nth}").into(), "plus".into());
        Self {
            account: AccountRow { id, name, plan, status: AccountStatus::Active, created_at: START },
            users: [user(0), user(1)],
            policy: Arc::clone(policy),
            state: Account::new(id),
            now: START,
            random: nth.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x2545_f491_4f6c_dd1d,
            open: Vec::new(),
            grants: Vec::new(),
            granted: 0,
            corrects,
            repriced: None,
            ended: Vec::new(),
            ordered: 0,
        }
    }

    /// Does the next thing, at `now` or later, and tells its records.
    pub(crate) fn step(&mut self, now: Timestamp, records: &mut Vec<Record>) {
        self.now = self.now.max(now);
        match self.pick(20) {
            0 => self.grant(records),
            1 => records.extend(self.state.expire_grants(self.now).into_iter().map(Record::Expiry)),
            2 => self.end(Some(Outcome::Refused), records),
            3 => self.end(Some(Outcome::NotSent), records),
            4 => self.expire_a_job(records),
            5 | 6 if self.open.len() < 4 => self.begin(records),
            7 | 8 if self.repriced.is_some() => self.order(records),
            _ => self.end(None, records),
        }
    }

    /// Ends what is open.
    pub(crate) fn close(&mut self, records: &mut Vec<Record>) {
        while !self.open.is_empty() {
            self.end(None, records);
        }
    }

    /// Grants credits to the wallet, some of them for a time.
    pub(crate) fn grant(&mut self, records: &mut Vec<Record>) {
        self.granted += 1;
        let hours = self.pick(72);
        let order = GrantOrder {
            grant: GrantId::derived(&[self.account.id.as_bytes(), &self.granted.to_be_bytes()]),
            user: None,
            balance: "wallet".into(),
            key: CounterKey::of_balance("wallet"),
            amount: Credits::from_micros(100_000 + self.pick(900_000)).unwrap_or(Credits::ZERO),
            priority: u16::try_from(self.pick(3)).unwrap_or(0),
            expires_at: (hours > 24).then(|| self.now.plus(Span::from_seconds(hours * 3600))),
            origin: GrantOrigin::Operator {
                idempotency_key: format!("order {}", self.granted).into(),
                note: (hours > 48).then(|| "thanks".into()),
            },
        };
        let key = order.key;
        if let Ok(grant) = self.state.grant(order, self.now) {
            self.state.granted(&grant, key);
            if self.corrects {
                self.grants.push(grant.clone());
            }
            records.push(Record::Grant(grant));
        }
    }

    fn begin(&mut self, records: &mut Vec<Record>) {
        let is_film = self.pick(8) == 0;
        let terms = Terms {
            policy: Arc::clone(&self.policy),
            plan: self.policy.plan("plus").unwrap_or(overfall::policy::compiled::PlanIndex(0)),
            feature: self
                .policy
                .feature(if is_film { "sora" } else { "codex" })
                .unwrap_or(overfall::policy::compiled::FeatureIndex(0)),
            model: if is_film { "film".into() } else { "codex-max".into() },
            tier: (self.pick(5) == 0).then(|| "flex".into()),
            size: is_film.then(|| "1280x720".into()),
        };
        let quantities = if is_film {
            Quantities { seconds: 4 * (1 + self.pick(3)), ..Quantities::default() }
        } else {
            Quantities { input_tokens: self.pick(2_000), output_tokens: 600, ..Quantities::default() }
        };
        let user = self.users[usize::try_from(self.pick(2)).unwrap_or(0)].id;
        let decision = self.decision();
        let Ok(demand) = terms.estimate(quantities) else { return };
        let ask = Ask { decision, user, terms: terms.clone(), demand, lifetime: Span::from_seconds(120) };
        if let Ok(proposal) = self.state.propose(ask, self.now) {
            let hold = proposal.record(self.account.id);
            if self.corrects {
                self.grants.extend(hold.issued.iter().cloned());
            }
            records.push(Record::Hold(Box::new(hold)));
            self.state.accept(proposal, self.now);
            self.open.push((decision, terms));
        }
    }

    fn end(&mut self, as_what: Option<Outcome>, records: &mut Vec<Record>) {
        if self.open.is_empty() {
            self.begin(records);
        }
        let outcomes =
            [Outcome::Completed, Outcome::Completed, Outcome::Incomplete, Outcome::Cut, Outcome::Failed];
        let outcome = as_what.unwrap_or(outcomes[usize::try_from(self.pick(5)).unwrap_or(0)]);
        if let Some(end) = self.end_with(outcome) {
            self.remember(&end);
            records.push(Record::End(end));
        }
    }

    fn remember(&mut self, end: &EndRecord) {
        if self.repriced.is_some() && end.ending.reached_upstream {
            let prior = self.prior(end);
            self.ended.push(prior);
        }
    }

    /// An operator orders something.
    fn order(&mut self, records: &mut Vec<Record>) {
        self.ordered += 1;
        let id = OrderId::derived(&[self.account.id.as_bytes(), &self.ordered.to_be_bytes()]);
        let key: Arc<str> = format!("order {}", self.ordered).into();
        if self.pick(3) == 0 {
            return self.adjust(id, key, records);
        }
        let place = usize::try_from(self.pick(self.ended.len().max(1) as u64)).unwrap_or(0);
        let Some(mut prior) = self.ended.get(place).cloned() else { return };
        prior.grants = self.grants.iter().map(booked).collect();
        let charged = prior.charge.charged.micros();
        let revision = if self.pick(2) == 0 {
            let amount = (self.pick(2) == 0).then(|| 1 + self.pick(charged.max(1)));
            let amount = amount.and_then(Credits::from_micros);
            Revision::Refund(RefundOrder { id, amount, idempotency_key: key, reason: "an outage".into() })
        } else {
            let Some(policy) = self.repriced.clone() else { return };
            let priced = policy.prices.row(&prior.terms.model).and_then(|row| {
                let (unit, used) = (prior.terms.feature().unit, prior.used.quantities.clone());
                let tier = prior.ending.tier.as_deref();
                priced(row, unit, used, prior.terms.size.as_deref(), tier).ok()
            });
            let Some((used, _)) = priced.filter(|_| !prior.used.whole.is_zero()) else { return };
            let reason = "a wrong price".into();
            Revision::Price(Repriced { used, policy: policy.version, reason })
        };
        let Ok(record) = self.state.revise(&prior, revision, self.now) else { return };
        if let Record::Revision(told) = &record {
            let correction = &told.correction;
            let settles = matches!(told.order, RevisionOrder::Rerate { .. });
            self.ended[place] = Prior {
                revision: correction.revision,
                priced_by: correction.policy,
                ended_at: if settles { correction.corrected_at } else { prior.ended_at },
                used: correction.used.clone(),
                draws: correction.draws.clone(),
                charge: correction.charge,
                refunded: told.refunded,
                ..prior
            };
        }
        records.push(record);
    }

    fn adjust(&mut self, id: OrderId, idempotency_key: Arc<str>, records: &mut Vec<Record>) {
        let place = usize::try_from(self.pick(self.grants.len().max(1) as u64)).unwrap_or(0);
        let Some(grant) = self.grants.get(place) else { return };
        let (user, balance, state) = (grant.user, grant.balance.clone(), booked(grant).state);
        let amount = SignedCredits::from_micros(self.pick(400_000).cast_signed() - 200_000);
        let what = match self.pick(4) {
            // The wallet alone is the last of a waterfall that lends.
            0 if user.is_none() => {
                Adjusted::Debt { most: Credits::from_micros(400_000).unwrap_or(Credits::ZERO) }
            }
            _ => Adjusted::Grant(state),
        };
        let key = CounterKey::of_balance(&balance);
        let (amount, reason) = (amount.unwrap_or_default(), "a complaint".into());
        let order = AdjustmentOrder { id, user, balance, key, what, amount, idempotency_key, reason };
        if let Ok(record) = self.state.adjust(&order, self.now) {
            self.state.adjusted(&record, key);
            records.push(Record::Adjustment(record));
        }
    }

    fn prior(&self, end: &EndRecord) -> Prior {
        let terms = Terms {
            policy: Arc::clone(&self.policy),
            plan: self.policy.plan(&end.plan).unwrap_or(overfall::policy::compiled::PlanIndex(0)),
            feature: self.policy.feature(&end.feature).unwrap_or(overfall::policy::compiled::FeatureIndex(0)),
            model: end.model.clone(),
            tier: end.ending.tier.clone(),
            size: end.size.clone(),
        };
        Prior::of(end, terms, self.grants.iter().map(booked).collect())
    }

    fn end_with(&mut self, outcome: Outcome) -> Option<Box<EndRecord>> {
        let (decision, terms) = if self.open.is_empty() { return None } else { self.open.remove(0) };
        let held = self.state.hold_of(decision)?.demand.clone();
        let (used, tier) = match outcome {
            Outcome::Refused | Outcome::NotSent => (Demand::nothing(), terms.tier.clone()),
            _ if held.quantities.seconds > 0 => {
                (if outcome == Outcome::Failed { Demand::nothing() } else { held }, terms.tier.clone())
            }
            _ => self.truth(&terms, &held),
        };
        let ending = if outcome == Outcome::NotSent {
            Ending::not_sent()
        } else {
            let grade = if outcome == Outcome::Cut { Grade::Floor } else { Grade::Exact };
            Ending { outcome, grade, reached_upstream: true, status: Some(200), tier, resource: None }
        };
        self.state.finish(decision, used, ending, self.now).ok()
    }

    fn truth(&mut self, terms: &Terms, held: &Demand) -> (Demand, Option<Arc<str>>) {
        let mut used = held.quantities.clone();
        used.input_tokens += self.pick(300);
        used.cached_input_tokens = self.pick(used.input_tokens + 1);
        used.output_tokens = self.pick(1_500);
        if self.pick(10) == 0 {
            used.tool_calls.push(("web_search".into(), 1 + self.pick(3)));
        }
        let tier = if self.pick(5) == 0 { Some("priority".into()) } else { terms.tier.clone() };
        let demand =
            terms.priced(used, tier.as_deref()).map_or_else(|_| Demand::nothing(), |(demand, _)| demand);
        (demand, tier)
    }

    /// Ends a call at its deadline, and tells the truth about it later.
    fn expire_a_job(&mut self, records: &mut Vec<Record>) {
        if !self.corrects {
            return self.end(None, records);
        }
        if self.open.is_empty() {
            self.begin(records);
        }
        let Some((_, terms)) = self.open.first().cloned() else { return };
        let Some(end) = self.end_with(Outcome::Expired) else { return };
        records.push(Record::End(end.clone()));
        self.now = self.now.plus(Span::from_seconds(1 + self.pick(90_000)));
        let prior = self.prior(&end);
        let (used, tier) = if end.used.quantities.seconds > 0 {
            (Demand::nothing(), None)
        } else {
            self.truth(&terms, &end.estimate)
        };
        let outcome = if used.whole.is_zero() { Outcome::Failed } else { Outcome::Completed };
        let ending = Ending {
            outcome,
            grade: Grade::Exact,
            reached_upstream: true,
            status: Some(200),
            tier,
            resource: None,
        };
        let prior = match self.state.correct(&prior, used, ending, self.now) {
            Ok(correction) => {
                let told = Prior {
                    revision: correction.revision,
                    ended_at: correction.corrected_at,
                    ending: correction.ending.clone(),
                    used: correction.used.clone(),
                    draws: correction.draws.clone(),
                    charge: correction.charge,
                    ..prior
                };
                records.push(Record::Correction(correction));
                told
            }
            Err(_) => prior,
        };
        if self.repriced.is_some() {
            self.ended.push(prior);
        }
    }

    fn decision(&mut self) -> DecisionId {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.next().to_be_bytes());
        DecisionId::new(self.now, random)
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.next() % below.max(1)
    }

    /// The next of the life's own numbers (`SplitMix64`).
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn booked(grant: &GrantRecord) -> BookedGrant {
    BookedGrant {
        user: grant.user,
        balance: CounterKey::of_balance(&grant.balance),
        state: GrantState {
            id: grant.grant,
            priority: grant.priority,
            expires_at: grant.expires_at.unwrap_or(Timestamp::NEVER),
            remaining: Credits::ZERO,
            held: Credits::ZERO,
        },
        issued: matches!(grant.origin, GrantOrigin::Issue { .. }),
    }
}
