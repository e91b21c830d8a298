//! The decision allocates nothing.
//!
//! Claimed, and counted here: [`Account::decide`] – the walk over 2 guards and 3 layers, their draws and charges – once
//! the account has state, whether it allows or blocks. A hold then keeps what was decided: a place in the map of open
//! holds, the boxed record for the journal, names. Those allocate, and are outside the claim. So is a demand with more
//! than one kind of tool call, or a split over more than four draws.

#![expect(unsafe_code, reason = "an allocator that counts can be written in no other way")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use overfall::access::{Account, Ask, Demand, GrantOrder, Terms};
use overfall::policy::compiled::{CounterKey, Policy};
use overfall::units::{AccountId, Credits, DecisionId, GrantId, Quantities, Span, Timestamp, UserId};

struct Counting;

thread_local! {
    /// Allocations of this thread; the test harness has threads of its own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and nothing to prove.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `run` gives, and how often this thread allocated meanwhile.
fn allocations<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let before = ALLOCATIONS.get();
    let value = run();
    (value, ALLOCATIONS.get() - before)
}

const POLICY: &str = r#"
version: 1
prices: [{model: m, per_million_tokens: {input: 43.75, cached_input: 4.375, output: 350}}]
balances:
  wallet: {per: account}
  launch: {per: user, issue: {amount: 1, from: "2026-11-01T00:00:00Z", expires_after: 30d}}
features: {codex: {apis: [responses], unit: credit, clamp: {minimum_output_tokens: 10}}}
plans:
  plus:
    codex:
      guards:
        - {name: burst, requests: 600, every: 1m, burst: 200, per: user}
        - {name: cap, spend: 50, every: month, time_zone: Europe/Berlin, per: user}
      waterfall:
        - name: included
          kind: rate_limit
          per: user
          windows: [{allow: 1, every: 5h, starts: first_use}, {allow: 7, every: week, starts: calendar, time_zone: Europe/Berlin}]
        - {name: launch-offer, kind: promotion, balance: launch}
        - {name: credits, kind: prepaid, balance: wallet}
"#;

struct Scene {
    account: Account,
    terms: Terms,
    user: UserId,
    now: Timestamp,
}

impl Scene {
    fn new() -> Self {
        let parsed = overfall::policy::load::parse("policy.yaml", POLICY);
        let policy: Arc<Policy> = Arc::new(parsed.unwrap_or_else(|problems| panic!("{problems}")));
        let terms = Terms {
            plan: policy.plan("plus").unwrap(),
            feature: policy.feature("codex").unwrap(),
            policy,
            model: "m".into(),
            tier: None,
            size: None,
        };
        let now = Timestamp::from_ms(1_795_365_295_123);
        let mut account = Account::new(AccountId::derived(&[b"account"]));
        let order = GrantOrder {
            grant: GrantId::derived(&[b"grant"]),
            user: None,
            balance: "wallet".into(),
            key: CounterKey::of_balance("wallet"),
            amount: "20".parse::<Credits>().unwrap(),
            priority: 100,
            expires_at: None,
            origin: overfall::access::record::GrantOrigin::Operator {
                idempotency_key: "key".into(),
                note: None,
            },
        };
        let (key, granted) = (order.key, account.grant(order, now).unwrap());
        account.granted(&granted, key);
        Self { account, terms, user: UserId::derived(&[b"user"]), now }
    }

    fn demand(&self, input_tokens: u64, output_tokens: u64) -> Demand {
        let quantities = Quantities { input_tokens, output_tokens, ..Quantities::default() };
        self.terms.estimate(quantities).unwrap()
    }

    fn hold(&mut self, demand: Demand) {
        let decision = DecisionId::derived(&[b"decision", &demand.whole.get().to_le_bytes()]);
        let ask = Ask {
            decision,
            user: self.user,
            terms: self.terms.clone(),
            demand,
            lifetime: Span::from_seconds(120),
        };
        let proposal = self.account.propose(ask, self.now).unwrap();
        let _held = self.account.accept(proposal, self.now);
    }

    /// Decides once, and tells whether it allowed, over how many sources, and how often it allocated.
    fn decide(&self, demand: &Demand) -> (bool, usize, u64) {
        let decide = || self.account.decide(&self.terms, self.user, demand, self.now);
        let (decision, allocated) = allocations(decide);
        (decision.is_ok(), decision.map_or(0, |draft| draft.walk.draws.len()), allocated)
    }
}

#[test]
fn a_decision_allocates_nothing() {
    let mut scene = Scene::new();
    let (small, split) = (scene.demand(1_000, 1_000), scene.demand(8_000, 15_000));
    let (cut_down, too_dear) = (scene.demand(8_000, 100_000), scene.demand(1_000_000, 1));
    // Of an account that has nothing but a grant, the issue still to come; and of one that has used everything.
    for round in 0..2 {
        for (demand, allowed, sources) in [
            (&small, true, 1),
            (&split, true, 3 - round),
            (&cut_down, true, 3 - round),
            (&too_dear, false, 0),
        ] {
            assert_eq!(scene.decide(demand), (allowed, sources, 0), "round {round}: {:?}", demand.quantities);
        }
        scene.hold(scene.demand(8_000, 3_000));
    }
    // The counter counts.
    assert_eq!(allocations(|| Box::new(7)).1, 1);
}
