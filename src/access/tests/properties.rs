//! Random sequences of all verbs, audited after every step.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::auditor::Auditor;
use super::*;

const LAYERS: &str = "{name: included, kind: rate_limit, per: user, windows: [{allow: A, every: 5s, starts: first_use}, {allow: 55, every: 12s, starts: first_use}]},
    {name: daily, kind: free_tier, per: account, windows: [{allow: B, every: day, starts: calendar, time_zone: Europe/Berlin}]},
    {name: offer, kind: promotion, balance: launch}, {name: credits, kind: prepaid, balance: wallet}";
const CALLS: &str = "{name: calls, kind: free_tier, per: user, unit: request, windows: [{allow: 2, every: 9s, starts: first_use}]},";
const GUARDS: &str =
    "{name: burst, requests: 2, every: 4s, burst: 5, per: user}, {name: flight, concurrent: 4, per: user},
    {name: cap, spend: C, every: 20s, per: account}, {name: tokens, tokens: 70, every: 7s, per: user}";
const BALANCES: &str =
    "launch: {per: user, issue: {amount: 25, from: \"2026-11-02T00:00:10Z\", expires_after: 15s}},";

/// Policies under which the same counters go on: `[unit or kind][generous, tight]`.
static POLICIES: LazyLock<Vec<[Arc<Policy>; 2]>> = LazyLock::new(|| {
    let kinds = [
        ("overage: {forgive: 20, debt: 15}", ""),
        ("unit: token, overage: {forgive: 5, debt: 8}", ""),
        ("overage: {debt: 15}, clamp: {minimum_output_tokens: 4}", CALLS),
        ("unit: output_token, overage: {forgive: 20}", CALLS),
    ];
    let policies = kinds.map(|(feature, calls)| {
        [("30", "80", "70"), ("25", "35", "30")].map(|(included, daily, cap)| {
            let layers = format!("{calls}{LAYERS}").replace("allow: A", &format!("allow: {included}"));
            let layers = layers.replace("allow: B", &format!("allow: {daily}"));
            let guards = GUARDS.replace("spend: C", &format!("spend: {cap}"));
            Rules { balances: BALANCES, feature, guards: &guards, layers: &layers, film: "" }.policy()
        })
    });
    policies.to_vec()
});

/// One step. A number that names a hold counts through those that are open.
#[derive(Clone, Debug)]
enum Step {
    Hold {
        user: u64,
        model: &'static str,
        input: u64,
        output: u64,
    },
    /// With so many percent of the estimate used.
    Finish {
        nth: usize,
        percent: u64,
    },
    Void {
        nth: usize,
    },
    Extend {
        nth: usize,
        percent: u64,
    },
    Renew {
        nth: usize,
    },
    Grant {
        balance: &'static str,
        credits: u64,
        priority: u16,
        lives_ms: Option<u64>,
    },
    Expire,
    Wait {
        ms: u64,
    },
    Reload {
        tight: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let model = prop::sample::select(vec!["coin", "coin", "grain", "free", "uneven"]);
    prop_oneof![
        6 => (0u64..2, model, 0u64..20, 0u64..40)
            .prop_map(|(user, model, input, output)| Step::Hold { user, model, input, output }),
        4 => (0usize..8, 0u64..300).prop_map(|(nth, percent)| Step::Finish { nth, percent }),
        2 => (0usize..8).prop_map(|nth| Step::Void { nth }),
        2 => (0usize..8, 50u64..250).prop_map(|(nth, percent)| Step::Extend { nth, percent }),
        1 => (0usize..8).prop_map(|nth| Step::Renew { nth }),
        2 => (prop::sample::select(vec!["wallet", "wallet", "launch"]), 1u64..60, 99u16..102, prop::option::of(1u64..15_000))
            .prop_map(|(balance, credits, priority, lives_ms)| Step::Grant { balance, credits, priority, lives_ms }),
        1 => Just(Step::Expire),
        4 => (0u64..9_000).prop_map(|ms| Step::Wait { ms }),
        1 => any::<bool>().prop_map(|tight| Step::Reload { tight }),
    ]
}

struct Run {
    world: World,
    auditor: Auditor,
    kind: usize,
    grants: u64,
}

impl Run {
    fn new(kind: usize) -> Self {
        let world = World::under(Arc::clone(&POLICIES[kind][0]));
        Self { world, auditor: Auditor::default(), kind, grants: 0 }
    }

    fn nth_hold(&self, nth: usize) -> Option<DecisionId> {
        let mut open: Vec<_> = self.world.account.holds().map(|hold| hold.decision).collect();
        open.sort_unstable();
        open.get(nth % open.len().max(1)).copied()
    }

    fn step(&mut self, step: &Step) {
        let world = &mut self.world;
        match *step {
            Step::Hold { user, model, input, output } => {
                // `take` proves I2 of every block.
                if let Ok(held) = world.by(user).ask_of(model, input, output) {
                    self.auditor.held(world, &held);
                }
            }
            Step::Finish { nth, percent } => {
                let Some(decision) = self.nth_hold(nth) else { return };
                let estimate = &self.world.account.hold_of(decision).unwrap().demand.quantities;
                let used = tokens(estimate.input_tokens, estimate.output_tokens * percent / 100);
                let end = self.world.finish_with(decision, used);
                self.auditor.ended(&end);
            }
            Step::Void { nth } => {
                let Some(decision) = self.nth_hold(nth) else { return };
                let end = self.world.void(decision);
                assert!(end.draws.is_empty() && end.charge == Charge::default(), "a void charges nothing");
                self.auditor.ended(&end);
            }
            Step::Extend { nth, percent } => {
                let Some(decision) = self.nth_hold(nth) else { return };
                let hold = self.world.account.hold_of(decision).unwrap();
                let (model, held) = (hold.terms.model.clone(), hold.demand.quantities.clone());
                let before = format!("{:?}", self.world.account.purses().collect::<Vec<_>>());
                let output = held.output_tokens * percent / 100;
                if self.world.extend(decision, &model, held.input_tokens, output) == Extended::Lacking {
                    assert_eq!(format!("{:?}", self.world.account.purses().collect::<Vec<_>>()), before);
                }
            }
            Step::Renew { nth } => {
                let Some(decision) = self.nth_hold(nth) else { return };
                let until = self.world.now.plus(Span::from_seconds(120));
                self.world.account.renew(decision, until).unwrap();
            }
            Step::Grant { balance, credits, priority, lives_ms } => {
                self.grants += 1;
                let expires = lives_ms.map(|ms| World::since_start(world.now) + ms);
                world.grant_to(balance, self.grants, credits, priority, expires);
            }
            Step::Expire => drop(world.expire()),
            Step::Wait { ms } => world.now = world.now.plus(Span::from_ms(ms)),
            Step::Reload { tight } => world.policy = Arc::clone(&POLICIES[self.kind][usize::from(tight)]),
        }
        self.auditor.check(&self.world);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// I2, I3, I4, I5, I6, I9, I12, gapless numbers, and replay, under any sequence of verbs.
    #[test]
    fn the_account_agrees_with_its_auditor(kind in 0usize..4, steps in prop::collection::vec(step(), 1..40)) {
        let mut run = Run::new(kind);
        for step in &steps {
            run.step(step);
        }
        while let Some(open) = run.nth_hold(0) {
            let end = run.world.void(open);
            run.auditor.ended(&end);
            run.auditor.check(&run.world);
        }
    }

    /// I13: adding credits never turns an allow into a block, now or later.
    #[test]
    fn more_credits_never_turn_an_allow_into_a_block(
        kind in 0usize..4,
        steps in prop::collection::vec(step(), 0..25),
        asked in (0u64..20, 0u64..40),
        credits in 1u64..100,
        priority in 99u16..102,
        balance in prop::sample::select(vec!["wallet", "launch"]),
    ) {
        let mut run = Run::new(kind);
        for step in &steps {
            run.step(step);
        }
        let ask = run.world.next_ask("coin", tokens(asked.0, asked.1));
        let passes =
            |world: &World, at| world.account.decide(&ask.terms, ask.user, &ask.demand, at).is_ok();
        // Now, and at every instant up to a minute from now that was tried.
        let instants: Vec<_> = (0..60).map(|second| run.world.now.plus(Span::from_seconds(second))).collect();
        let before: Vec<_> = instants.iter().map(|at| passes(&run.world, *at)).collect();
        let left = run.world.standing();
        run.world.grant_to(balance, 1_000, credits, priority, None);
        let more = run.world.standing();
        for (at, before) in instants.into_iter().zip(before) {
            prop_assert!(!before || passes(&run.world, at), "{at}");
        }
        prop_assert!(
            left.balances.iter().zip(&more.balances).all(|(one, other)| one.available <= other.available)
        );
    }

    /// I13: using less never lowers what is left, at the end and ever after.
    #[test]
    fn saving_never_lowers_what_is_left(
        kind in 0usize..4,
        steps in prop::collection::vec(step(), 0..25),
        asked in (0u64..20, 1u64..40),
        (less, more) in (0u64..100, 0u64..100),
        wait in 0u64..9_000,
    ) {
        let left = |used: u64| {
            let mut run = Run::new(kind);
            for step in &steps {
                run.step(step);
            }
            let Ok(held) = run.world.by(0).ask_of("coin", asked.0, asked.1) else { return None };
            run.world.now = run.world.now.plus(Span::from_ms(wait));
            run.world.finish_with(held.decision, tokens(asked.0, used));
            Some(run.world.standing())
        };
        let (saved, spent) = (left(less.min(more)), left(less.max(more)));
        let (Some(saved), Some(spent)) = (saved, spent) else { return Ok(()) };
        let windows = saved.windows.iter().zip(&spent.windows).all(|(saved, spent)| saved.left >= spent.left);
        let guards = saved.guards.iter().zip(&spent.guards).all(|(saved, spent)| saved.left >= spent.left);
        let balances = saved.balances.iter().zip(&spent.balances);
        let balances = balances.into_iter().all(|(saved, spent)| saved.available >= spent.available && saved.debt <= spent.debt);
        prop_assert!(windows && guards && balances, "{saved:?}\n{spent:?}");
    }
}
