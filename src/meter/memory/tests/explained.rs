//! What is explained is what then happens: before every request of a random life, the meter is asked what would.

use proptest::prelude::*;

use super::*;

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
fn policies() -> impl Strategy<Value = Arc<Policy>> {
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

#[derive(Clone, Debug)]
enum Step {
    Ask { user: u8, model: &'static str, is_flex: bool, input: u64, output: u64 },
    Finish { nth: usize, percent: u64 },
    Void { nth: usize },
    Grant { is_users: bool, credits: u64, lives_ms: Option<u64> },
    Sweep,
}

fn step() -> impl Strategy<Value = (u64, Step)> {
    let model = prop::sample::select(vec!["m", "m", "n"]);
    let step = prop_oneof![
        6 => (0u8..2, model, any::<bool>(), 0u64..25, 1u64..60)
            .prop_map(|(user, model, is_flex, input, output)| Step::Ask { user, model, is_flex, input, output }),
        3 => (0usize..6, 0u64..250).prop_map(|(nth, percent)| Step::Finish { nth, percent }),
        1 => (0usize..6).prop_map(|nth| Step::Void { nth }),
        1 => (any::<bool>(), 1u64..50, prop::option::of(1u64..90_000))
            .prop_map(|(is_users, credits, lives_ms)| Step::Grant { is_users, credits, lives_ms }),
        1 => Just(Step::Sweep),
    ];
    (0u64..20_000, step)
}

/// A meter with one account, and its open calls.
struct Living {
    meter: MemoryMeter,
    policy: Arc<Policy>,
    clock: Clock,
    account: AccountId,
    open: Vec<Ask>,
    told: [u64; 2],
}

impl Living {
    fn begin(folder: &Path, policy: &Arc<Policy>) -> Self {
        let clock = Clock::manual(Timestamp::from_ms(0));
        let (journal, _) = Journal::open(folder, journal::Options::default(), |_, _| Ok(())).unwrap();
        let known = Arc::clone(policy);
        let restored =
            Restoring::new(clock.clone()).meter(Arc::new(journal), move |_| Some(Arc::clone(&known)));
        let account = AccountId::from_bytes([1; 16]);
        let policy = Arc::clone(policy);
        Self { meter: restored.unwrap().0, policy, clock, account, open: Vec::new(), told: [0; 2] }
    }

    async fn step(&mut self, nth: u8, step: &Step) {
        match *step {
            Step::Ask { user, model, is_flex, input, output } => {
                let terms = Terms {
                    policy: Arc::clone(&self.policy),
                    plan: self.policy.plan("plus").unwrap(),
                    feature: self.policy.feature("codex").unwrap(),
                    model: model.into(),
                    tier: is_flex.then(|| "flex".into()),
                    size: None,
                };
                let quantities =
                    Quantities { input_tokens: input, output_tokens: output, ..Quantities::default() };
                let demand = terms.estimate(quantities).unwrap();
                let decision = DecisionId::from_bytes([nth; 16]);
                let (user, lifetime) = (UserId::from_bytes([user; 16]), Span::from_seconds(50));
                self.ask(Ask { decision, user, terms, demand, lifetime }).await;
            }
            Step::Finish { nth, percent } if !self.open.is_empty() => {
                let ask = self.open.remove(nth % self.open.len());
                let mut used = ask.demand.quantities.clone();
                used.output_tokens = used.output_tokens * percent / 100;
                let used = ask.terms.estimate(used).unwrap();
                let ending =
                    Ending { outcome: Outcome::Completed, reached_upstream: true, ..Ending::not_sent() };
                // The sweeper may have ended it.
                let _ = self.meter.finish(self.account, ask.decision, used, ending).await;
            }
            Step::Void { nth } if !self.open.is_empty() => {
                let ask = self.open.remove(nth % self.open.len());
                let _ = self.meter.void(self.account, ask.decision, Ending::not_sent()).await;
            }
            Step::Finish { .. } | Step::Void { .. } => {}
            Step::Grant { is_users, credits, lives_ms } => {
                let balance = if is_users { "launch" } else { "wallet" };
                let order = GrantOrder {
                    grant: GrantId::from_bytes([nth; 16]),
                    user: is_users.then(|| UserId::from_bytes([0; 16])),
                    balance: balance.into(),
                    key: crate::policy::compiled::CounterKey::of_balance(balance),
                    amount: Credits::from_micros(credits * 1_000_000).unwrap(),
                    priority: DEFAULT_PRIORITY,
                    expires_at: lives_ms.map(|ms| self.clock.now().plus(Span::from_ms(ms))),
                    origin: GrantOrigin::Operator { idempotency_key: format!("{nth}").into(), note: None },
                };
                self.meter.grant(self.account, order).await.unwrap();
            }
            Step::Sweep => drop(self.meter.sweep().await.unwrap()),
        }
    }

    /// Explains, explains again, and asks in earnest.
    async fn ask(&mut self, ask: Ask) {
        let terms = &ask.terms;
        let explained = self.meter.explain(self.account, &ask).await.unwrap();
        let again = self.meter.explain(self.account, &ask).await.unwrap();
        assert_eq!(format!("{explained:?}"), format!("{again:?}"), "an explanation changes something");
        let before = self.meter.standing(self.account, ask.user, &terms.policy, terms.plan, terms.feature);
        assert_eq!(explained.standing, before.await.unwrap());
        match self.meter.hold(self.account, ask.clone()).await.unwrap() {
            Verdict::Allow(held, _) => {
                let allow =
                    explained.outcome.unwrap_or_else(|block| panic!("{held:?} was explained as {block:?}"));
                assert_eq!(allow.draws, terms.entries(&held.draws));
                assert_eq!((allow.demand, allow.clamped_to), (held.demand, held.clamped_to));
                self.told[0] += 1;
                self.open.push(ask);
            }
            Verdict::Block(block) => {
                assert_eq!(explained.outcome.map(|allow| allow.draws), Err(block));
                self.told[1] += 1;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever an account has lived through, an explanation takes nothing, and is what then happens: the same draws
    /// of the same demand, or the same block with the same reason, next, need and have.
    #[test]
    fn what_is_explained_is_what_then_happens(
        policy in policies(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut living = Living::begin(&folder.path().join("journal"), &policy);
            for (nth, (wait_ms, step)) in (0u8..).zip(&steps) {
                living.clock.advance(Span::from_ms(*wait_ms));
                living.step(nth, step).await;
            }
            let asked = steps.iter().filter(|(_, step)| matches!(step, Step::Ask { .. })).count() as u64;
            assert_eq!(living.told[0] + living.told[1], asked);
        });
    }
}
