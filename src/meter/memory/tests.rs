mod explained;
mod ordered;

use std::path::Path;

use super::*;
use crate::access::balance::DEFAULT_PRIORITY;
use crate::access::record::{Grade, GrantOrigin, JobKind, Outcome, Resource};
use crate::access::{Reason, Terms};
use crate::journal;
use crate::ledger::Ledger;
use crate::ledger::rows::{AccountRow, AccountStatus, Page};
use crate::ledger::sqlite::SqliteLedger;
use crate::meter::Booked;
use crate::policy::load;
use crate::settle::Settler;
use crate::units::{Credits, Quantities, Span};

const POLICY: &str = r#"
version: 1
prices: [{model: "m", per_million_tokens: {input: 1000000, output: 1000000}}]
balances: {wallet: {per: account}}
features: {codex: {apis: [responses], unit: credit}}
plans:
  plus:
    codex:
      guards:
        - {name: tokens, tokens: 1000, every: 1h, per: user}
        - {name: in-flight, concurrent: 1000, per: user}
      waterfall:
        - {name: included, kind: rate_limit, per: user, windows: [{allow: 50, every: 5h, starts: first_use}]}
        - {name: credits, kind: prepaid, balance: wallet}
  narrow:
    extends: plus
    codex:
      guards: [{name: in-flight, concurrent: 2, per: user}]
"#;
/// The places of `narrow`.
const ROOMS: u8 = 2;

/// One node's stores in a folder, and what is asked of them.
struct Rig {
    meter: Arc<MemoryMeter>,
    journal: Arc<Journal>,
    ledger: Arc<SqliteLedger>,
    policy: Arc<Policy>,
    clock: Clock,
    account: AccountId,
    user: UserId,
}

impl Rig {
    async fn open(folder: &Path, clock: Clock) -> (Self, Recovered) {
        let policy = Arc::new(load::parse("policy.yaml", POLICY).unwrap());
        let ledger = Arc::new(SqliteLedger::open(&folder.join("ledger.sqlite")).unwrap());
        ledger.keep_policy(policy.version, &policy.text).await.unwrap();
        let (account, user) = (AccountId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
        if ledger.find_account("acme").await.unwrap().is_none() {
            let row = AccountRow {
                id: account,
                name: "acme".into(),
                plan: "plus".into(),
                status: AccountStatus::Active,
                created_at: clock.now(),
            };
            ledger.add_account(&row).await.unwrap();
        }
        let mut restoring = Restoring::new(clock.clone());
        ledger.restore(&mut |row| restoring.row(&row)).await.unwrap();
        let each = |_, frame: Frame<'_>| Ok(restoring.frame(frame.payload)?);
        let (journal, _) = Journal::open(&folder.join("journal"), journal::Options::default(), each).unwrap();
        let journal = Arc::new(journal);
        let known = Arc::clone(&policy);
        let (meter, recovered) =
            restoring.meter(Arc::clone(&journal), move |_| Some(Arc::clone(&known))).unwrap();
        (Self { meter: Arc::new(meter), journal, ledger, policy, clock, account, user }, recovered)
    }

    fn ask(&self, nth: u8, tokens: u64) -> Ask {
        let terms = Terms {
            policy: Arc::clone(&self.policy),
            plan: self.policy.plan("plus").unwrap(),
            feature: self.policy.feature("codex").unwrap(),
            model: "m".into(),
            tier: None,
            size: None,
        };
        let quantities = Quantities { output_tokens: tokens, ..Quantities::default() };
        let demand = terms.estimate(quantities).unwrap();
        let mut id = [0; 16];
        id[15] = nth;
        let decision = DecisionId::from_bytes(id);
        Ask { decision, user: self.user, terms, demand, lifetime: Span::from_seconds(120) }
    }

    async fn hold(&self, nth: u8, tokens: u64) -> Result<DecisionId, Block> {
        let ask = self.ask(nth, tokens);
        let decision = ask.decision;
        match self.meter.hold(self.account, ask).await.unwrap() {
            Verdict::Allow(_, ticket) => {
                ticket.await.unwrap();
                Ok(decision)
            }
            Verdict::Block(block) => Err(block),
        }
    }

    /// A plan with few places.
    fn narrow(&self) -> PlanIndex {
        self.policy.plan("narrow").unwrap()
    }

    async fn hold_in(&self, plan: &PlanIndex, nth: u8) -> Result<DecisionId, Block> {
        let ask = self.ask(nth, 1);
        let ask = Ask { terms: Terms { plan: *plan, ..ask.terms }, ..ask };
        let decision = ask.decision;
        match self.meter.hold(self.account, ask).await.unwrap() {
            Verdict::Allow(_, ticket) => ticket.await.map(|()| decision).map_err(|error| panic!("{error}")),
            Verdict::Block(block) => Err(block),
        }
    }

    async fn finish(&self, decision: DecisionId, tokens: u64) -> Box<EndRecord> {
        let used = self.ask(0, tokens).demand;
        let ending = Ending {
            outcome: Outcome::Completed,
            grade: Grade::Exact,
            reached_upstream: true,
            status: Some(200),
            tier: None,
            resource: None,
        };
        let (end, ticket) = self.meter.finish(self.account, decision, used, ending).await.unwrap();
        ticket.await.unwrap();
        end
    }

    async fn grant(&self, nth: u8, credits: &str) -> bool {
        let order = GrantOrder {
            grant: GrantId::from_bytes([nth; 16]),
            user: None,
            balance: "wallet".into(),
            key: crate::policy::compiled::CounterKey::of_balance("wallet"),
            amount: credits.parse().unwrap(),
            priority: DEFAULT_PRIORITY,
            expires_at: None,
            origin: GrantOrigin::Operator { idempotency_key: "order".into(), note: None },
        };
        match self.meter.grant(self.account, order).await.unwrap() {
            Some((_, ticket)) => ticket.await.is_ok(),
            None => false,
        }
    }

    /// What is left of the window and of the wallet, in credits.
    async fn left(&self) -> (String, String) {
        let (plan, feature) = (self.policy.plan("plus").unwrap(), self.policy.feature("codex").unwrap());
        let standing =
            self.meter.standing(self.account, self.user, &self.policy, plan, feature).await.unwrap();
        let window = Credits::from_micros(standing.windows[0].left.get()).unwrap();
        (window.to_string(), standing.balances[0].available.to_string())
    }

    async fn settle(&self) {
        let (stop, stopping) = tokio::sync::watch::channel(true);
        let settler = Settler::new(Arc::clone(&self.journal), self.ledger.clone(), |_| {});
        settler.run(stopping).await;
        drop(stop);
    }
}

fn rig_clock() -> Clock {
    Clock::manual(Timestamp::from_ms(1_795_000_000_000))
}

use crate::access::Block;

#[tokio::test]
async fn a_restart_restores_windows_balances_and_seq_from_journal_and_ledger() {
    let folder = tempfile::tempdir().unwrap();
    for settled_before in [false, true] {
        let data = folder.path().join(format!("{settled_before}"));
        std::fs::create_dir(&data).unwrap();
        let (rig, _) = Rig::open(&data, rig_clock()).await;
        assert!(rig.grant(7, "100").await);
        let decision = rig.hold(1, 60).await.unwrap();
        rig.finish(decision, 55).await;
        assert_eq!(rig.left().await, ("0".into(), "95".into()));
        if settled_before {
            rig.settle().await;
        }
        let clock = rig.clock.clone();
        rig.journal.close().unwrap();
        drop(rig);
        let (again, recovered) = Rig::open(&data, clock).await;
        assert_eq!(recovered.floored, 0);
        assert_eq!(again.left().await, ("0".into(), "95".into()), "settled before: {settled_before}");
        let decision = again.hold(2, 5).await.unwrap();
        assert_eq!(again.finish(decision, 5).await.seq.0, 3, "grant, end, end: no gap");
    }
}

#[tokio::test]
async fn a_hold_that_was_open_at_a_crash_is_charged_at_its_floor_once() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, _) = Rig::open(folder.path(), rig_clock()).await;
    rig.hold(1, 30).await.unwrap();
    assert_eq!(rig.left().await.0, "20");
    let clock = rig.clock.clone();
    rig.journal.close().unwrap();
    drop(rig);
    for floored in [1, 0] {
        let (again, recovered) = Rig::open(folder.path(), clock.clone()).await;
        assert_eq!(recovered.floored, floored, "I9: it ends once");
        assert_eq!(again.left().await.0, "50", "its floor is its input: nothing here");
        again.settle().await;
        let booked = again.ledger.decisions(again.account, None, Page(10)).await.unwrap();
        assert_eq!(booked.len(), 1);
        assert_eq!((booked[0].outcome, booked[0].grade), (Outcome::Crashed, Grade::Floor));
        again.journal.close().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_window_is_passed_by_any_number_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, _) = Rig::open(folder.path(), rig_clock()).await;
    let rig = Arc::new(rig);
    let tasks: Vec<_> = (0..200u8)
        .map(|nth| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move { rig.hold(nth, 1).await.is_ok() })
        })
        .collect();
    let mut allowed = 0;
    for task in tasks {
        allowed += u32::from(task.await.unwrap());
    }
    assert_eq!(allowed, 50, "I4: 50 of one credit each, and the wallet is empty");
}

#[tokio::test]
async fn past_its_deadline_a_hold_is_voided_or_charged_by_whether_it_left() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, _) = Rig::open(folder.path(), rig_clock()).await;
    let kept = rig.hold(1, 10).await.unwrap();
    let left = rig.hold(2, 10).await.unwrap();
    rig.hold(3, 10).await.unwrap();
    rig.meter.dispatch(rig.account, left).await.unwrap();
    rig.clock.advance(Span::from_seconds(60));
    let later = rig.clock.now().plus(Span::from_seconds(120));
    rig.meter.renew(rig.account, kept, later).await.unwrap();
    rig.clock.advance(Span::from_seconds(60));
    let swept = rig.meter.sweep().await.unwrap();
    assert_eq!(swept, Swept { voided: 1, floored: 1, expired: 0 }, "I9");
    assert_eq!(rig.left().await.0, "40", "the renewed one still holds");
    assert_eq!(rig.meter.sweep().await.unwrap(), Swept::default());
    assert!(rig.meter.finish(rig.account, left, rig.ask(0, 1).demand, Ending::not_sent()).await.is_err());
}

#[tokio::test]
async fn a_grant_is_made_once_while_it_is_on_its_way_to_the_books() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, _) = Rig::open(folder.path(), rig_clock()).await;
    assert!(rig.grant(7, "100").await);
    assert!(!rig.grant(7, "100").await);
    assert_eq!(rig.left().await.1, "100");
    assert!(rig.meter.is_granting(GrantId::from_bytes([7; 16])).await.unwrap());
    rig.meter.booked(Booked::Grant(GrantId::from_bytes([7; 16])));
    assert!(!rig.meter.is_granting(GrantId::from_bytes([7; 16])).await.unwrap());
}

#[tokio::test]
async fn an_explanation_is_what_then_happens_and_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, _) = Rig::open(folder.path(), rig_clock()).await;
    let ask = rig.ask(1, 60);
    let explained = rig.meter.explain(rig.account, &ask).await.unwrap();
    let told = explained.outcome.unwrap_err();
    assert_eq!(rig.hold(1, 60).await.unwrap_err(), told);
    assert_eq!(told.reason, Reason::CreditsExhausted);
    rig.grant(7, "10").await;
    let explained = rig.meter.explain(rig.account, &ask).await.unwrap();
    assert_eq!(explained.outcome.unwrap().draws.len(), 2);
    assert_eq!(rig.left().await, ("50".into(), "10".into()));
}

fn job(rig: &Rig, decision: DecisionId, kind: JobKind, resource: &str, lives: Span) -> JobRecord {
    let now = rig.clock.now();
    JobRecord {
        decision,
        account: rig.account,
        user: rig.user,
        kind,
        resource: Resource { id: resource.into(), upstream: None },
        began_at: now,
        expires_at: now.plus(lives),
    }
}

/// I9, I10: a job goes on over restarts, with its reservation, its place and its deadline; other holds do not.
#[tokio::test]
async fn a_job_goes_on_over_restarts_with_all_that_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, _) = Rig::open(folder.path(), rig_clock()).await;
    let (made, lost) = (rig.hold(1, 30).await.unwrap(), rig.hold(2, 10).await.unwrap());
    let job = job(&rig, made, JobKind::Response, "resp_1", Span::from_seconds(3600));
    rig.meter.begin_job(job.clone()).await.unwrap().await.unwrap();
    let clock = rig.clock.clone();
    rig.journal.close().unwrap();
    drop(rig);
    for floored in [1, 0] {
        let (again, recovered) = Rig::open(folder.path(), clock.clone()).await;
        assert_eq!((recovered.floored, recovered.jobs), (floored, 1));
        assert_eq!(again.left().await.0, "20", "what it holds stays held");
        assert_eq!(again.meter.jobs().await.unwrap(), std::slice::from_ref(&job));
        assert!(again.meter.in_flight(again.account, lost).await.unwrap().is_none());
        let held = again.meter.in_flight(again.account, made).await.unwrap().unwrap();
        assert_eq!(held.expires_at, job.expires_at);
        assert_eq!(again.meter.sweep().await.unwrap(), Swept::default(), "its deadline is not a request's");
        again.settle().await;
        again.journal.close().unwrap();
    }
    let (again, _) = Rig::open(folder.path(), clock.clone()).await;
    again.finish(made, 25).await;
    assert_eq!(again.left().await.0, "25");
    again.journal.close().unwrap();
    drop(again);
    let (last, recovered) = Rig::open(folder.path(), clock).await;
    assert_eq!((recovered.jobs, last.left().await.0.as_str()), (0, "25"));
    assert!(last.meter.jobs().await.unwrap().is_empty());
}

/// Design section 3, "Deadlines": a video is voided, a response is charged at its floor, and neither as a request.
#[tokio::test]
async fn a_job_ends_at_its_own_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, _) = Rig::open(folder.path(), rig_clock()).await;
    let asked = rig.ask(1, 10);
    let demand =
        asked.terms.estimate(Quantities { input_tokens: 5, ..asked.demand.quantities.clone() }).unwrap();
    let mut held = Vec::new();
    for (nth, kind) in [(1, JobKind::Video), (2, JobKind::Response)] {
        let ask = Ask { demand: demand.clone(), ..rig.ask(nth, 10) };
        let decision = ask.decision;
        let verdict = rig.meter.hold(rig.account, ask).await.unwrap();
        assert!(matches!(verdict, Verdict::Allow(..)));
        let job = job(&rig, decision, kind, kind.as_str(), Span::from_seconds(3600));
        rig.meter.begin_job(job).await.unwrap().await.unwrap();
        held.push(decision);
    }
    rig.clock.advance(Span::from_seconds(3599));
    assert_eq!(rig.meter.sweep().await.unwrap(), Swept::default());
    assert_eq!(rig.left().await.0, "20");
    rig.clock.advance(Span::from_seconds(1));
    let swept = rig.meter.sweep().await.unwrap();
    assert_eq!(swept, Swept { voided: 1, floored: 1, expired: 0 }, "I9");
    assert_eq!(rig.left().await.0, "45", "the input of the response, and nothing of the video");
    rig.settle().await;
    for decision in held {
        let row = rig.ledger.decision(decision).await.unwrap().unwrap();
        assert_eq!((row.outcome, row.grade), (Outcome::Expired, Grade::Floor));
    }
    assert!(rig.ledger.owner_of("video").await.unwrap().is_some());
}

/// Guards of places count jobs by themselves: the hold has the place.
#[tokio::test]
async fn a_job_keeps_its_place_over_a_restart_and_gives_it_back_once() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, _) = Rig::open(folder.path(), rig_clock()).await;
    let mut open = Vec::new();
    for nth in 0..ROOMS {
        let decision = rig.hold_in(&rig.narrow(), nth).await.unwrap();
        let resource = format!("video_{nth}");
        let job = job(&rig, decision, JobKind::Video, &resource, Span::from_seconds(3600));
        rig.meter.begin_job(job).await.unwrap().await.unwrap();
        open.push(decision);
    }
    assert_eq!(rig.hold_in(&rig.narrow(), 100).await.unwrap_err().reason, Reason::InFlightLimit);
    let clock = rig.clock.clone();
    rig.journal.close().unwrap();
    drop(rig);
    let (again, _) = Rig::open(folder.path(), clock).await;
    assert_eq!(again.hold_in(&again.narrow(), 101).await.unwrap_err().reason, Reason::InFlightLimit, "I4");
    again.finish(open[0], 0).await;
    again.hold_in(&again.narrow(), 102).await.unwrap();
    assert_eq!(again.hold_in(&again.narrow(), 103).await.unwrap_err().reason, Reason::InFlightLimit, "I4");
}

/// I12: found by the simulation. What a hold had of a grant while the sweeper looked for the next one to expire.
#[tokio::test]
async fn a_grant_that_was_wholly_held_when_the_sweeper_came_by_expires_at_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, _) = Rig::open(folder.path(), rig_clock()).await;
    let ends = |seconds| Some(rig.clock.now().plus(Span::from_seconds(seconds)));
    for (nth, credits, expires_at) in [(7, "10", ends(60)), (8, "20", ends(600))] {
        let order = GrantOrder {
            grant: GrantId::from_bytes([nth; 16]),
            user: None,
            balance: "wallet".into(),
            key: crate::policy::compiled::CounterKey::of_balance("wallet"),
            amount: credits.parse().unwrap(),
            priority: DEFAULT_PRIORITY,
            expires_at,
            origin: GrantOrigin::Operator { idempotency_key: "order".into(), note: None },
        };
        let _granted = rig.meter.grant(rig.account, order).await.unwrap().unwrap();
    }
    // The window's 50, and all that was granted.
    let decision = rig.hold(1, 80).await.unwrap();
    rig.clock.advance(Span::from_seconds(60));
    assert_eq!(rig.meter.sweep().await.unwrap(), Swept::default(), "all of the first is held");
    rig.finish(decision, 50).await;
    rig.clock.advance(Span::from_seconds(540));
    assert_eq!(rig.meter.sweep().await.unwrap(), Swept { expired: 1, ..Swept::default() });
}
