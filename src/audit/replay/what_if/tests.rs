//! Recorded lives, asked again: of the same policy, and of others.

use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::access::record::{Ending, Grade, GrantOrigin, Outcome, Record};
use crate::access::{Account, Ask, GrantOrder, Terms};
use crate::ledger::Ledger;
use crate::ledger::rows::{AccountRow, AccountStatus, BlockRow};
use crate::ledger::sqlite::{SqliteBooks, SqliteLedger};
use crate::policy::compiled::CounterKey;
use crate::policy::load;
use crate::units::{Credits, DecisionId, GrantId, Quantities, Span};

const POLICY: &str = "
version: 1
prices: [{model: m, per_million_tokens: {input: 1000000, output: 1000000}}]
balances: {wallet: {per: account}, launch: {per: user, issue: {amount: 30, expires_after: 1h}}}
features: {codex: {apis: [responses], unit: credit, overage: {forgive: 10, debt: 20}, clamp: {minimum_output_tokens: 5}}}
plans:
  plus:
    codex:
      guards: [{name: flight, concurrent: 2, per: user}]
      waterfall:
        - {name: included, kind: rate_limit, per: user, windows: [{allow: 50, every: 5h, starts: first_use}]}
        - {name: offer, kind: promotion, balance: launch}
        - {name: credits, kind: prepaid, balance: wallet}
";
const START: Timestamp = Timestamp::from_ms(1_793_577_600_000);

/// One step of a life: what happens some milliseconds after the one before.
#[derive(Clone, Debug)]
enum Step {
    Ask { user: u8, input: u64, output: u64 },
    End { percent: u64, outcome: Outcome },
    Grant { credits: u64, hours: Option<u64> },
}

fn step() -> impl Strategy<Value = (u64, Step)> {
    let outcome = prop::sample::select(vec![Outcome::Completed, Outcome::Cut, Outcome::Refused]);
    let step = prop_oneof![
        4 => (0u8..2, 0u64..20, 1u64..40).prop_map(|(user, input, output)| Step::Ask { user, input, output }),
        4 => (0u64..250, outcome).prop_map(|(percent, outcome)| Step::End { percent, outcome }),
        1 => (1u64..60, prop::option::of(1u64..9)).prop_map(|(credits, hours)| Step::Grant { credits, hours }),
    ];
    (1u64..2_000_000, step)
}

/// A life, and all that it leaves behind.
struct Lived {
    records: Vec<Record>,
    blocks: Vec<BlockRow>,
    charged: u128,
}

fn account() -> AccountId {
    AccountId::derived(&[b"acme"])
}

fn lived(policy: &Arc<Policy>, steps: &[(u64, Step)]) -> Lived {
    let mut account = Account::new(account());
    let mut now = START;
    let mut open: Vec<DecisionId> = Vec::new();
    let mut life = Lived { records: Vec::new(), blocks: Vec::new(), charged: 0 };
    for (nth, (wait_ms, step)) in (0u8..).zip(steps) {
        now = now.plus(Span::from_ms(*wait_ms));
        match step {
            Step::Ask { user, input, output } => {
                let estimate =
                    Quantities { input_tokens: *input, output_tokens: *output, ..Quantities::default() };
                let terms = Terms {
                    policy: Arc::clone(policy),
                    plan: policy.plan("plus").unwrap(),
                    feature: policy.feature("codex").unwrap(),
                    model: "m".into(),
                    tier: None,
                    size: None,
                };
                let user = UserId::from_bytes([*user; 16]);
                let decision = DecisionId::new(now, [nth; 10]);
                let demand = terms.estimate(estimate.clone()).unwrap();
                let lifetime = Span::from_seconds(60);
                match account.propose(Ask { decision, user, terms, demand, lifetime }, now) {
                    Ok(proposal) => {
                        life.records.push(Record::Hold(Box::new(proposal.record(account.id))));
                        account.accept(proposal, now);
                        open.push(decision);
                    }
                    Err(block) => life.blocks.push(BlockRow {
                        decision,
                        at: now,
                        account: account.id,
                        user,
                        feature: "codex".into(),
                        model: "m".into(),
                        policy: policy.version,
                        plan: Some("plus".into()),
                        tier: None,
                        size: None,
                        estimate,
                        block,
                        count: 1,
                    }),
                }
            }
            Step::End { percent, outcome } if !open.is_empty() => {
                life.end(&mut account, open.remove(0), (*percent, *outcome), now);
            }
            Step::End { .. } => {}
            Step::Grant { credits, hours } => {
                let key = CounterKey::of_balance("wallet");
                let order = GrantOrder {
                    grant: GrantId::from_bytes([nth; 16]),
                    user: None,
                    balance: "wallet".into(),
                    key,
                    amount: Credits::from_micros(credits * 1_000_000).unwrap(),
                    priority: 100,
                    expires_at: hours.map(|hours| now.plus(Span::from_seconds(hours * 3600))),
                    origin: GrantOrigin::Operator { idempotency_key: format!("{nth}").into(), note: None },
                };
                let grant = account.grant(order, now).unwrap();
                account.granted(&grant, key);
                life.records.push(Record::Grant(grant));
            }
        }
    }
    for decision in open {
        now = now.plus(Span::from_ms(1));
        life.end(&mut account, decision, (100, Outcome::Completed), now);
    }
    life
}

impl Lived {
    fn end(&mut self, account: &mut Account, decision: DecisionId, how: (u64, Outcome), now: Timestamp) {
        let (percent, outcome) = how;
        let hold = account.hold_of(decision).unwrap();
        let mut used = hold.demand.quantities.clone();
        used.output_tokens = used.output_tokens * percent / 100;
        let used = match outcome {
            Outcome::Refused => crate::access::Demand::nothing(),
            _ => hold.terms.estimate(used).unwrap(),
        };
        let ending = Ending {
            outcome,
            grade: Grade::Exact,
            reached_upstream: true,
            status: None,
            tier: None,
            resource: None,
        };
        let end = account.finish(decision, used, ending, now).unwrap();
        self.charged += u128::from(end.charge.charged.micros());
        self.records.push(Record::End(end));
    }
}

fn booked(policy: &Policy, life: Lived) -> (PathBuf, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ledger = SqliteLedger::open(&path).unwrap();
        ledger.keep_policy(policy.version, &policy.text).await.unwrap();
        let row = AccountRow {
            id: account(),
            name: "acme".into(),
            plan: "plus".into(),
            status: AccountStatus::Active,
            created_at: START,
        };
        ledger.add_account(&row).await.unwrap();
        let applied = ledger.apply(life.records).await.unwrap();
        assert_eq!((applied.conflicts.len(), applied.waiting.len()), (0, 0));
        ledger.log_blocks(life.blocks, 1_000_000).await.unwrap();
    });
    (path, folder)
}

fn policy(text: &str) -> Arc<Policy> {
    Arc::new(load::parse("policy", text).unwrap_or_else(|problems| panic!("{problems}")))
}

fn asked(path: &std::path::Path, policy: &Arc<Policy>, since: Option<Timestamp>) -> WhatIf {
    what_if(&SqliteBooks::open(path).unwrap(), policy, since, &mut |_| {}).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Asked again, the policy that decided decides the same, and earns the same.
    #[test]
    fn the_same_policy_changes_nothing(steps in prop::collection::vec(step(), 1..80)) {
        let policy = policy(POLICY);
        let life = lived(&policy, &steps);
        let (charged, blocks) = (life.charged, life.blocks.len() as u64);
        let (path, _folder) = booked(&policy, life);
        let told = asked(&path, &policy, None);
        prop_assert_eq!((told.users_changed, told.users.len()), (0, 0));
        for tally in &told.tallies {
            prop_assert_eq!(&tally.then, &tally.now);
            prop_assert_eq!((tally.newly_allowed, tally.newly_blocked), (0, 0));
            prop_assert_eq!(tally.now.charged.total(), charged);
            prop_assert_eq!(tally.now.blocked, blocks);
        }
    }
}

/// The policy without a clamp.
fn plain() -> String {
    POLICY.replace(", clamp: {minimum_output_tokens: 5}", "")
}

/// Three calls of 30 by one user, of whom 50 are included and 30 are on offer: the third is blocked.
fn three_calls() -> (PathBuf, TempDir) {
    let ask = Step::Ask { user: 0, input: 10, output: 20 };
    let end = Step::End { percent: 100, outcome: Outcome::Completed };
    let policy = policy(&plain());
    let steps: Vec<_> =
        [&ask, &end, &ask, &end, &ask].into_iter().map(|step| (1_000, step.clone())).collect();
    let mut life = lived(&policy, &steps);
    life.blocks[0].count = 4;
    booked(&policy, life)
}

#[test]
fn a_policy_that_gives_more_lets_blocks_through_and_one_that_gives_less_stops_calls() {
    let (path, _folder) = three_calls();
    let more = asked(&path, &policy(&plain().replace("allow: 50", "allow: 110")), None);
    let tally = &more.tallies[0];
    assert_eq!((tally.then.allowed, tally.then.blocked, tally.now.allowed), (2, 4, 4), "{more}");
    assert_eq!((tally.newly_allowed, tally.newly_blocked, more.users_changed), (2, 0, 1), "{more}");
    assert_eq!(tally.now.sources["included"].amount.to_string(), "110");
    assert_eq!(tally.now.charged.to_string(), "10");
    assert_eq!(tally.now.reasons["limit-reached"], 2);

    let less = asked(
        &path,
        &policy(&plain().replace("allow: 50", "allow: 1").replace("amount: 30", "amount: 1")),
        None,
    );
    let tally = &less.tallies[0];
    assert_eq!((tally.now.allowed, tally.newly_blocked), (0, 2), "{less}");
    assert_eq!((less.users_changed, less.users_freed, less.users_stopped), (1, 0, 0), "{less}");
    assert_eq!(less.users[0].newly_blocked, 2);
}

#[test]
fn a_plan_feature_or_price_that_is_gone_is_the_reason() {
    let (path, _folder) = three_calls();
    for (from, to, reason) in [
        ("plus:", "team:", "not-in-plan"),
        ("codex", "agent", "not-in-plan"),
        ("model: m,", "model: n,", "unpriced-model"),
    ] {
        let told = asked(&path, &policy(&plain().replace(from, to)), None);
        assert_eq!(told.tallies[0].now.reasons[reason], 6, "{told}");
    }
}

#[test]
fn requests_before_the_asked_time_make_the_accounts_and_are_not_counted() {
    let (path, _folder) = three_calls();
    let told = asked(&path, &policy(&plain()), Some(START.plus(Span::from_ms(2_500))));
    let tally = &told.tallies[0];
    assert_eq!((tally.then.allowed, tally.then.blocked), (1, 4), "{told}");
    assert_eq!(tally.then.charged.to_string(), "10");
}

#[test]
fn a_what_if_is_told_to_people() {
    let (path, _folder) = three_calls();
    let told = asked(&path, &policy(&plain().replace("allow: 50", "allow: 110")), None).to_string();
    let lines = [
        "plus codex",
        "  allowed",
        "limit-reached",
        "  from included (credit)",
        "2 newly allowed, 0 newly blocked",
    ];
    for line in lines {
        assert!(told.contains(line), "no {line:?} in\n{told}");
    }
    assert!(told.contains("1 users change sides"), "{told}");
}
