//! Lives of an account: calls, blocks, grants, truths that come late, and what operators order.

use super::*;
use crate::access::ledgered::BookedGrant;
use crate::access::record::{Ending, Grade, GrantOrigin, Record};
use crate::access::{
    Account, Adjusted, AdjustmentOrder, Ask, Demand, GrantOrder, Prior, RefundOrder, Repriced, Revision,
    Terms,
};
use crate::ledger::Ledger;
use crate::ledger::rows::{AccountRow, AccountStatus, BlockRow};
use crate::ledger::sqlite::SqliteLedger;
use crate::policy::compiled::CounterKey;
use crate::units::{Credits, DecisionId, GrantId, OrderId, PolicyVersion, Quantities, SignedCredits, Span};

/// One step of a life: what happens some milliseconds after the one before.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Ask {
        user: u8,
        input: u64,
        output: u64,
    },
    End {
        percent: u64,
        outcome: Outcome,
    },
    Grant {
        credits: u64,
        hours: Option<u64>,
    },
    /// The truth of the nth ended call comes late.
    Tell {
        nth: usize,
        percent: u64,
    },
    /// So many micro-credits of the nth ended call are given back; all of it where nothing is said.
    Refund {
        nth: usize,
        micros: Option<u64>,
    },
    /// There is so much more of the nth grant.
    Adjust {
        nth: usize,
        micros: i64,
    },
    /// There is so much less debt on the wallet.
    Forgive {
        micros: i64,
    },
    /// All calls are priced by another policy, at twice their price.
    Rerate,
}

pub(super) fn step() -> impl Strategy<Value = (u64, Step)> {
    let outcome =
        prop::sample::select(vec![Outcome::Completed, Outcome::Cut, Outcome::Refused, Outcome::Expired]);
    let (nth, micros) = (0..50usize, -40_000_000i64..40_000_000);
    let step = prop_oneof![
        4 => (0u8..2, 0u64..20, 1u64..40).prop_map(|(user, input, output)| Step::Ask { user, input, output }),
        4 => (0u64..250, outcome).prop_map(|(percent, outcome)| Step::End { percent, outcome }),
        1 => (1u64..60, prop::option::of(1u64..9)).prop_map(|(credits, hours)| Step::Grant { credits, hours }),
        1 => (nth.clone(), 0u64..250).prop_map(|(nth, percent)| Step::Tell { nth, percent }),
        1 => (nth.clone(), prop::option::of(1u64..30_000_000))
            .prop_map(|(nth, micros)| Step::Refund { nth, micros }),
        1 => (nth, micros.clone()).prop_map(|(nth, micros)| Step::Adjust { nth, micros }),
        1 => micros.prop_map(|micros| Step::Forgive { micros }),
    ];
    // At once, too: what is numbered of an instant has its order.
    (prop_oneof![1 => Just(0u64), 4 => 1u64..2_000_000], step)
}

/// A life, and all that it leaves behind.
pub(super) struct Lived {
    account: Account,
    policy: Arc<Policy>,
    pub(super) records: Vec<Record>,
    pub(super) blocks: Vec<BlockRow>,
    /// Ended calls, as they are settled.
    calls: Vec<Prior>,
    grants: Vec<BookedGrant>,
    open: Vec<DecisionId>,
    /// Orders that were carried out.
    pub(super) ordered: u64,
    nth: u8,
    now: Timestamp,
}

fn account() -> AccountId {
    AccountId::derived(&[b"acme"])
}

pub(super) fn lived(policy: &Arc<Policy>, steps: &[(u64, Step)]) -> Lived {
    let mut life = Lived {
        account: Account::new(account()),
        policy: Arc::clone(policy),
        records: Vec::new(),
        blocks: Vec::new(),
        calls: Vec::new(),
        grants: Vec::new(),
        open: Vec::new(),
        ordered: 0,
        nth: 0,
        now: START,
    };
    let mut was_asked = true;
    for (wait_ms, step) in steps {
        // Requests have no place among what is numbered of an instant.
        let asks = matches!(step, Step::Ask { .. });
        let least = u64::from(asks || was_asked);
        was_asked = asks;
        life.now = life.now.plus(Span::from_ms((*wait_ms).max(least)));
        life.step(step);
        life.nth += 1;
    }
    while !life.open.is_empty() {
        life.now = life.now.plus(Span::from_ms(1));
        life.step(&Step::End { percent: 100, outcome: Outcome::Completed });
    }
    life
}

impl Lived {
    /// What all calls are charged.
    pub(super) fn charged(&self) -> u128 {
        self.calls.iter().map(|call| u128::from(call.charge.charged.micros())).sum()
    }

    /// All that was asked for.
    pub(super) fn requests(&self) -> u64 {
        (self.calls.len() + self.blocks.len()) as u64
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Ask { user, input, output } => self.ask(user, input, output),
            Step::End { percent, outcome } => self.end(percent, outcome),
            Step::Grant { credits, hours } => self.grant(credits, hours),
            Step::Tell { nth, percent } => self.tell(nth, percent),
            Step::Refund { nth, micros } => self.refund(nth, micros),
            Step::Adjust { nth, micros } if !self.grants.is_empty() => {
                let booked = &self.grants[nth % self.grants.len()];
                let (user, what) = (booked.user, Adjusted::Grant(booked.state));
                let balance = if user.is_some() { "launch" } else { "wallet" };
                self.adjust(user, balance, what, micros);
            }
            Step::Adjust { .. } => {}
            Step::Forgive { micros } => {
                let most = self.policy.lent_on("wallet");
                self.adjust(None, "wallet", Adjusted::Debt { most }, micros);
            }
            Step::Rerate => self.rerate(),
        }
    }

    fn ask(&mut self, user: u8, input_tokens: u64, output_tokens: u64) {
        let estimate = Quantities { input_tokens, output_tokens, ..Quantities::default() };
        let terms = Terms {
            policy: Arc::clone(&self.policy),
            plan: self.policy.plan("plus").unwrap(),
            feature: self.policy.feature("codex").unwrap(),
            model: "m".into(),
            tier: None,
            size: None,
        };
        // The user of all zeros is nobody.
        let (user, now) = (UserId::from_bytes([user + 1; 16]), self.now);
        let decision = DecisionId::new(now, [self.nth; 10]);
        let demand = terms.estimate(estimate.clone()).unwrap();
        let lifetime = Span::from_seconds(60);
        match self.account.propose(Ask { decision, user, terms, demand, lifetime }, now) {
            Ok(proposal) => {
                let hold = proposal.record(self.account.id);
                self.grants.extend(hold.issued.iter().map(BookedGrant::as_granted));
                self.records.push(Record::Hold(Box::new(hold)));
                self.account.accept(proposal, now);
                self.open.push(decision);
            }
            Err(block) => self.blocks.push(BlockRow {
                decision,
                at: now,
                account: self.account.id,
                user,
                feature: "codex".into(),
                model: "m".into(),
                policy: self.policy.version,
                plan: Some("plus".into()),
                tier: None,
                size: None,
                estimate,
                block,
                count: 1,
            }),
        }
    }

    fn end(&mut self, percent: u64, outcome: Outcome) {
        if self.open.is_empty() {
            return;
        }
        let decision = self.open.remove(0);
        let hold = self.account.hold_of(decision).unwrap();
        let (terms, quantities) = (hold.terms.clone(), hold.demand.quantities.clone());
        let used = used(&terms, quantities, percent, outcome);
        let end = self.account.finish(decision, used, ending(outcome), self.now).unwrap();
        self.calls.push(Prior::of(&end, terms, Vec::new()));
        self.records.push(Record::End(end));
    }

    fn grant(&mut self, credits: u64, hours: Option<u64>) {
        let key = CounterKey::of_balance("wallet");
        let order = GrantOrder {
            grant: GrantId::from_bytes([self.nth; 16]),
            user: None,
            balance: "wallet".into(),
            key,
            amount: Credits::from_micros(credits * 1_000_000).unwrap(),
            priority: 100,
            expires_at: hours.map(|hours| self.now.plus(Span::from_seconds(hours * 3600))),
            origin: GrantOrigin::Operator { idempotency_key: format!("{}", self.nth).into(), note: None },
        };
        let grant = self.account.grant(order, self.now).unwrap();
        self.account.granted(&grant, key);
        self.grants.push(BookedGrant::as_granted(&grant));
        self.records.push(Record::Grant(grant));
    }

    fn tell(&mut self, nth: usize, percent: u64) {
        let Some(call) = self.nth_call(nth) else { return };
        let call = &self.calls[call];
        let quantities = Quantities { output_tokens: 30, ..call.used.quantities.clone() };
        let used = used(&call.terms, quantities, percent, Outcome::Completed);
        self.revise(nth, Revision::Truth { used, ending: ending(Outcome::Completed) });
    }

    fn refund(&mut self, nth: usize, micros: Option<u64>) {
        let amount = micros.map(|micros| Credits::from_micros(micros).unwrap());
        let (id, idempotency_key) = self.order();
        let order = RefundOrder { id, amount, idempotency_key, reason: "an outage".into() };
        self.ordered += u64::from(self.revise(nth, Revision::Refund(order)));
    }

    fn rerate(&mut self) {
        for nth in 0..self.calls.len() {
            let call = &self.calls[nth];
            let quantities = call.used.quantities.clone();
            let twice = Quantities {
                input_tokens: 2 * quantities.input_tokens,
                output_tokens: 2 * quantities.output_tokens,
                ..quantities.clone()
            };
            let used = Demand { quantities, ..call.terms.estimate(twice).unwrap() };
            let (policy, reason) = (PolicyVersion(7), "a wrong price".into());
            self.revise(nth, Revision::Price(Repriced { used, policy, reason }));
        }
    }

    fn revise(&mut self, nth: usize, revision: Revision) -> bool {
        let Some(nth) = self.nth_call(nth) else { return false };
        let call = &mut self.calls[nth];
        call.grants.clone_from(&self.grants);
        let Ok(record) = self.account.revise(call, revision, self.now) else { return false };
        call.revised(&record);
        self.records.push(record);
        true
    }

    fn nth_call(&self, nth: usize) -> Option<usize> {
        nth.checked_rem(self.calls.len())
    }

    fn adjust(&mut self, user: Option<UserId>, balance: &str, what: Adjusted, micros: i64) {
        let (id, idempotency_key) = self.order();
        let (key, reason) = (CounterKey::of_balance(balance), "a complaint".into());
        let (balance, amount) = (balance.into(), SignedCredits::from_micros(micros).unwrap());
        let order = AdjustmentOrder { id, user, balance, key, what, amount, idempotency_key, reason };
        if let Ok(record) = self.account.adjust(&order, self.now) {
            self.account.adjusted(&record, key);
            self.records.push(Record::Adjustment(record));
            self.ordered += 1;
        }
    }

    fn order(&self) -> (OrderId, Arc<str>) {
        (OrderId::from_bytes([self.nth; 16]), format!("order {}", self.nth).into())
    }
}

fn used(terms: &Terms, mut quantities: Quantities, percent: u64, outcome: Outcome) -> Demand {
    if outcome == Outcome::Refused {
        return Demand::nothing();
    }
    quantities.output_tokens = quantities.output_tokens * percent / 100;
    terms.estimate(quantities).unwrap()
}

fn ending(outcome: Outcome) -> Ending {
    Ending { outcome, grade: Grade::Exact, reached_upstream: true, status: None, tier: None, resource: None }
}

pub(super) fn booked(policy: &Policy, life: Lived) -> (PathBuf, TempDir) {
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
