//! Jobs with a meter and a journal of their own, and an upstream that says what it is told to.

mod late;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::access::record::{Grade, GrantOrigin, Outcome};
use crate::access::{Ask, GrantOrder, Terms};
use crate::journal::{self, Journal};
use crate::ledger::Ledger;
use crate::ledger::rows::{AccountRow, AccountStatus, DecisionRow};
use crate::ledger::sqlite::SqliteLedger;
use crate::meter::Verdict;
use crate::meter::memory::{MemoryMeter, Restoring};
use crate::policy::compiled::{CounterKey, Policy};
use crate::policy::live::Policies;
use crate::policy::load;
use crate::settle::Settler;
use crate::units::{AccountId, Credits, DecisionId, GrantId, Quantities, UserId};

const POLICY: &str = r#"
version: 1
prices:
  - {model: "m", per_million_tokens: {input: 1000000, output: 1000000}}
  - {model: "film", per_second: {720x1280: 2.5}}
balances: {wallet: {per: account}}
features:
  codex: {apis: [responses], unit: credit}
  sora: {apis: [videos], unit: second}
plans:
  plus:
    codex: {waterfall: [{name: credits, kind: prepaid, balance: wallet}]}
    sora: {waterfall: [{name: credits, kind: prepaid, balance: wallet}]}
"#;
const PACE: Pace =
    Pace { polls_per_second: 1000, first: Span::from_seconds(10), longest: Span::from_seconds(60) };
const HOUR: Span = Span::from_seconds(3600);

/// Says of each job what a test wants it to.
#[derive(Default)]
struct Script {
    objects: Mutex<HashMap<String, Value>>,
    poll_after: Option<Span>,
    away: std::sync::atomic::AtomicBool,
    asked: AtomicU32,
}

#[async_trait]
impl Source for Arc<Script> {
    async fn ask(&self, _: JobKind, resource: &Resource) -> Result<Told, AskError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(AskError::Status { status: 503 });
        }
        let object = self.objects.lock().unwrap().get(&*resource.id).cloned();
        Ok(object.map_or(Told::Unknown, |object| Told::Object { object, poll_after: self.poll_after }))
    }
}

struct Rig {
    jobs: Arc<Jobs>,
    script: Arc<Script>,
    meter: Arc<MemoryMeter>,
    journal: Arc<Journal>,
    ledger: Arc<SqliteLedger>,
    policy: Arc<Policy>,
    clock: Clock,
}

const ACCOUNT: AccountId = AccountId::from_bytes([1; 16]);
const USER: UserId = UserId::from_bytes([2; 16]);

impl Rig {
    async fn new(folder: &Path) -> Self {
        Self::with(folder, Script::default()).await
    }

    async fn with(folder: &Path, script: Script) -> Self {
        let clock = Clock::manual(Timestamp::from_ms(1_795_000_000_000));
        let policy = Arc::new(load::parse("policy.yaml", POLICY).unwrap());
        let ledger = Arc::new(SqliteLedger::open(&folder.join("ledger.sqlite")).unwrap());
        ledger.keep_policy(policy.version, &policy.text).await.unwrap();
        let row = AccountRow {
            id: ACCOUNT,
            name: "acme".into(),
            plan: "plus".into(),
            status: AccountStatus::Active,
            created_at: clock.now(),
        };
        ledger.add_account(&row).await.unwrap();
        let options = journal::Options::default();
        let (journal, _) = Journal::open(&folder.join("journal"), options, |_, _| Ok(())).unwrap();
        let journal = Arc::new(journal);
        let (meter, _) = Restoring::new(clock.clone()).meter(Arc::clone(&journal), |_| None).unwrap();
        let (meter, script) = (Arc::new(meter), Arc::new(script));
        let source = Arc::new(Arc::clone(&script));
        let truths = truths(&ledger, &policy);
        let jobs = Jobs::open(meter.clone(), truths, source, clock.clone(), PACE).await.unwrap();
        let rig = Self { jobs, script, meter, journal, ledger, policy, clock };
        rig.grant("1000").await;
        rig
    }

    /// The jobs as another process would open them.
    async fn opened(&self, pace: Pace) -> Arc<Jobs> {
        let source = Arc::new(Arc::clone(&self.script));
        let truths = truths(&self.ledger, &self.policy);
        Jobs::open(self.meter.clone(), truths, source, self.clock.clone(), pace).await.unwrap()
    }

    async fn restarted(&self) -> Self {
        Self {
            jobs: self.opened(PACE).await,
            script: Arc::clone(&self.script),
            meter: Arc::clone(&self.meter),
            journal: Arc::clone(&self.journal),
            ledger: Arc::clone(&self.ledger),
            policy: Arc::clone(&self.policy),
            clock: self.clock.clone(),
        }
    }

    async fn grant(&self, credits: &str) {
        let order = GrantOrder {
            grant: GrantId::from_bytes([9; 16]),
            user: None,
            balance: "wallet".into(),
            key: CounterKey::of_balance("wallet"),
            amount: credits.parse().unwrap(),
            priority: 100,
            expires_at: None,
            origin: GrantOrigin::Operator { idempotency_key: "order".into(), note: None },
        };
        self.meter.grant(ACCOUNT, order).await.unwrap().unwrap().1.await.unwrap();
    }

    /// Holds what makes `resource`, and makes it a job.
    async fn begin(&self, nth: u8, kind: JobKind, resource: &str) -> DecisionId {
        let (feature, model, size, quantities) = match kind {
            JobKind::Video => {
                ("sora", "film", Some("720x1280"), Quantities { seconds: 8, ..Quantities::default() })
            }
            JobKind::Response => {
                let tokens = Quantities { input_tokens: 10, output_tokens: 100, ..Quantities::default() };
                ("codex", "m", None, tokens)
            }
        };
        let terms = Terms {
            policy: Arc::clone(&self.policy),
            plan: self.policy.plan("plus").unwrap(),
            feature: self.policy.feature(feature).unwrap(),
            model: model.into(),
            tier: None,
            size: size.map(Into::into),
        };
        let demand = terms.estimate(quantities).unwrap();
        let decision = DecisionId::from_bytes([nth; 16]);
        let ask = Ask { decision, user: USER, terms, demand, lifetime: Span::from_seconds(120) };
        let Verdict::Allow(_, ticket) = self.meter.hold(ACCOUNT, ask).await.unwrap() else {
            panic!("it is blocked");
        };
        ticket.await.unwrap();
        let now = self.clock.now();
        let job = JobRecord {
            decision,
            account: ACCOUNT,
            user: USER,
            kind,
            resource: Resource { id: resource.into(), upstream: None },
            began_at: now,
            expires_at: now.plus(HOUR),
        };
        self.jobs.begin(job).await.unwrap().await.unwrap();
        decision
    }

    /// What is booked of a decision.
    async fn booked(&self, decision: DecisionId) -> DecisionRow {
        let (stop, stopping) = watch::channel(true);
        Settler::new(Arc::clone(&self.journal), self.ledger.clone(), |_| {}).run(stopping).await;
        drop(stop);
        self.ledger.decision(decision).await.unwrap().unwrap()
    }
}

fn truths(ledger: &Arc<SqliteLedger>, policy: &Arc<Policy>) -> Truths {
    Truths { ledger: ledger.clone(), policies: Arc::new(Policies::new(Arc::clone(policy))) }
}

fn video(status: &str, seconds: &Value) -> Value {
    json!({"id": "video_1", "object": "video", "status": status, "seconds": seconds, "error": null})
}

fn response(status: &str, usage: &Value) -> Value {
    json!({"id": "resp_1", "object": "response", "status": status, "background": true, "usage": usage, "output": []})
}

/// Design section 3, "Charge by outcome": every way in which a job can be shown.
#[tokio::test]
async fn a_job_is_charged_by_its_first_terminal_state_and_by_no_other() {
    use JobKind::{Response, Video};
    let usage = json!({"input_tokens": 12, "output_tokens": 30, "total_tokens": 42});
    let rows = [
        (Video, video("completed", &json!("8")), Outcome::Completed, Grade::Exact, "20"),
        (Video, video("completed", &json!("4")), Outcome::Completed, Grade::Exact, "10"),
        (Video, video("completed", &json!(4)), Outcome::Completed, Grade::Exact, "10"),
        (Video, video("completed", &json!("16")), Outcome::Completed, Grade::Exact, "20"),
        (Video, video("completed", &json!("0")), Outcome::Completed, Grade::Exact, "20"),
        (Video, video("completed", &Value::Null), Outcome::Completed, Grade::Exact, "20"),
        (Video, video("failed", &json!("8")), Outcome::Failed, Grade::Exact, "0"),
        (Video, video("moderated", &json!("8")), Outcome::Failed, Grade::Exact, "0"),
        (Video, video("cancelled", &json!("8")), Outcome::Cancelled, Grade::Exact, "0"),
        (Response, response("completed", &usage), Outcome::Completed, Grade::Exact, "42"),
        (Response, response("incomplete", &usage), Outcome::Incomplete, Grade::Exact, "42"),
        (Response, response("failed", &usage), Outcome::Failed, Grade::Exact, "42"),
        (Response, response("cancelled", &usage), Outcome::Cancelled, Grade::Exact, "42"),
        (Response, response("failed", &Value::Null), Outcome::Failed, Grade::Estimated, "10"),
        (Response, response("cancelled", &Value::Null), Outcome::Cancelled, Grade::Estimated, "10"),
    ];
    for (kind, object, outcome, grade, charged) in rows {
        let folder = tempfile::tempdir().unwrap();
        let rig = Rig::new(folder.path()).await;
        let resource = object["id"].as_str().unwrap().to_owned();
        let decision = rig.begin(1, kind, &resource).await;
        for running in [
            json!({"id": resource, "status": "queued"}),
            json!({"id": resource, "status": "in_progress", "usage": null}),
            json!({"id": resource, "status": "something new"}),
            json!({"id": resource, "deleted": true}),
            json!({"id": "another", "status": "completed"}),
            json!({"status": "completed"}),
            json!([]),
        ] {
            assert!(rig.jobs.learn(kind, &running).await.unwrap().is_none(), "{running}");
        }
        let other = if kind == Video { Response } else { Video };
        assert!(rig.jobs.learn(other, &object).await.unwrap().is_none(), "an id of another kind");
        assert!(!rig.jobs.is_ended(&resource));
        rig.jobs.learn(kind, &object).await.unwrap().unwrap().await.unwrap();
        assert!(rig.jobs.is_ended(&resource));
        let again =
            if kind == Video { video("failed", &json!("8")) } else { response("failed", &Value::Null) };
        assert!(rig.jobs.learn(kind, &again).await.unwrap().is_none(), "I9: it ends once");
        let row = rig.booked(decision).await;
        assert_eq!((row.outcome, row.grade), (outcome, grade), "{object}");
        assert_eq!(row.charge.charged.to_string(), charged, "{object}");
        assert_eq!(rig.ledger.owner_of(&resource).await.unwrap().unwrap().account, ACCOUNT);
    }
}

#[tokio::test]
async fn a_job_is_retrieved_when_somebody_has_to_know() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(folder.path()).await;
    assert_eq!(rig.jobs.retrieve("nothing").await.unwrap(), JobState::Ended, "it is no job");
    let decision = rig.begin(1, JobKind::Video, "video_1").await;
    assert_eq!(rig.jobs.retrieve("video_1").await.unwrap(), JobState::Running, "the upstream knows none");
    let say = |object| rig.script.objects.lock().unwrap().insert("video_1".to_owned(), object);
    say(video("in_progress", &json!("8")));
    assert_eq!(rig.jobs.retrieve("video_1").await.unwrap(), JobState::Running);
    rig.script.away.store(true, Ordering::SeqCst);
    assert!(matches!(rig.jobs.retrieve("video_1").await, Err(RetrieveError::Upstream(_))));
    rig.script.away.store(false, Ordering::SeqCst);
    say(video("completed", &json!("8")));
    assert_eq!(rig.jobs.retrieve("video_1").await.unwrap(), JobState::Ended);
    assert_eq!(rig.booked(decision).await.charge.charged.to_string(), "20");
    let asked = rig.script.asked.load(Ordering::SeqCst);
    assert_eq!(rig.jobs.retrieve("video_1").await.unwrap(), JobState::Ended);
    assert_eq!(rig.script.asked.load(Ordering::SeqCst), asked, "its end is on record");
}

#[tokio::test]
async fn what_was_deleted_before_its_end_ends_by_that() {
    for (kind, charged) in [(JobKind::Video, "0"), (JobKind::Response, "10")] {
        let folder = tempfile::tempdir().unwrap();
        let rig = Rig::new(folder.path()).await;
        let decision = rig.begin(1, kind, "it").await;
        rig.jobs.deleted("it").await.unwrap().unwrap().await.unwrap();
        assert!(rig.jobs.deleted("it").await.unwrap().is_none());
        let row = rig.booked(decision).await;
        assert_eq!((row.outcome, row.charge.charged.to_string().as_str()), (Outcome::Cancelled, charged));
    }
}

/// Runs the watcher until `done` and no question is under way: one that is dropped is asked again at the next start.
async fn watch_until(rig: &Rig, done: impl Fn() -> bool) {
    let (stop, stopping) = watch::channel(false);
    let watching = tokio::spawn(Arc::clone(&rig.jobs).watch(stopping));
    let waiting = async {
        let is_asking = || {
            let index = rig.jobs.index();
            index.due.len() < index.open.len()
        };
        while !done() || is_asking() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await.expect("it is done in time");
    stop.send_replace(true);
    watching.await.unwrap();
}

#[tokio::test]
async fn the_watcher_asks_when_it_is_time_and_again_while_the_upstream_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(folder.path()).await;
    let decision = rig.begin(1, JobKind::Video, "video_1").await;
    rig.script.objects.lock().unwrap().insert("video_1".to_owned(), video("completed", &json!("8")));
    rig.script.away.store(true, Ordering::SeqCst);
    let asked = || rig.script.asked.load(Ordering::SeqCst);
    rig.clock.advance(Span::from_ms(9_999));
    let looks = AtomicU32::new(0);
    watch_until(&rig, || looks.fetch_add(1, Ordering::SeqCst) > 30).await;
    assert_eq!(asked(), 0, "ten seconds are not over");
    rig.clock.advance(Span::from_ms(1));
    watch_until(&rig, || asked() == 1).await;
    rig.script.away.store(false, Ordering::SeqCst);
    rig.clock.advance(Span::from_seconds(61));
    watch_until(&rig, || rig.jobs.is_ended("video_1")).await;
    assert_eq!((asked(), rig.booked(decision).await.outcome), (2, Outcome::Completed));
}

#[tokio::test]
async fn a_word_of_the_upstreams_moves_the_watcher_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(folder.path()).await;
    rig.begin(1, JobKind::Response, "resp_1").await;
    let usage = json!({"input_tokens": 12, "output_tokens": 30});
    rig.script.objects.lock().unwrap().insert("resp_1".to_owned(), response("completed", &usage));
    rig.jobs.ask_soon("resp_1");
    rig.jobs.ask_soon("nothing");
    watch_until(&rig, || rig.jobs.is_ended("resp_1")).await;
    assert_eq!(rig.script.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_wish_of_the_upstreams_stands_over_the_pace_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script { poll_after: Some(Span::from_ms(300)), ..Script::default() };
    let rig = Rig::with(folder.path(), script).await;
    rig.begin(1, JobKind::Video, "video_1").await;
    rig.script.objects.lock().unwrap().insert("video_1".to_owned(), video("queued", &json!("8")));
    rig.jobs.ask_after("video_1", Span::from_ms(300));
    let asked = || rig.script.asked.load(Ordering::SeqCst);
    for round in 1..4 {
        rig.clock.advance(Span::from_ms(300));
        watch_until(&rig, || asked() == round).await;
    }
    for (wish, pause) in [(0, 100), (300, 300), (600_000, 60_000)] {
        assert_eq!(PACE.wished(Span::from_ms(wish)), Span::from_ms(pause));
    }
}

/// Who waits to be told asks no faster than the watcher, and not for what others have learnt meanwhile.
#[tokio::test]
async fn what_requests_wait_for_is_asked_at_a_steady_pace() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(folder.path()).await;
    rig.jobs = rig.opened(Pace { polls_per_second: 10, ..PACE }).await;
    rig.begin(1, JobKind::Video, "video_1").await;
    let say = |object| rig.script.objects.lock().unwrap().insert("video_1".to_owned(), object);
    say(video("in_progress", &json!("8")));
    let began = tokio::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(rig.jobs.retrieve("video_1").await.unwrap(), JobState::Running);
    }
    assert!(began.elapsed() >= std::time::Duration::from_millis(200), "{:?}", began.elapsed());
    say(video("completed", &json!("8")));
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let jobs = Arc::clone(&rig.jobs);
        waiting.spawn(async move { jobs.retrieve("video_1").await.unwrap() });
    }
    assert_eq!(waiting.join_all().await, [JobState::Ended; 5]);
    assert_eq!(rig.script.asked.load(Ordering::SeqCst), 4, "the first of them has learnt it");
}

#[tokio::test]
async fn the_ends_of_responses_that_the_upstream_has_counted_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(folder.path()).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    rig.jobs.tell_counted(move |end| telling.lock().unwrap().push(end.used.quantities.output_tokens));
    rig.jobs.tell_counted(|_| panic!("the first is told, and nobody else"));
    let usage = json!({"input_tokens": 12, "output_tokens": 30});
    for (nth, kind, object) in [
        (1, JobKind::Response, response("completed", &usage)),
        (2, JobKind::Response, response("failed", &Value::Null)),
        (3, JobKind::Video, video("completed", &json!("8"))),
    ] {
        rig.begin(nth, kind, object["id"].as_str().unwrap()).await;
        rig.jobs.learn(kind, &object).await.unwrap().unwrap().await.unwrap();
    }
    assert_eq!(*told.lock().unwrap(), [30]);
}

/// I10: what was open is found again, and asked for at once.
#[tokio::test]
async fn the_index_is_made_anew_from_what_the_meter_has_open() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(folder.path()).await;
    rig.begin(1, JobKind::Video, "video_1").await;
    let again = rig.restarted().await;
    assert!(!again.jobs.is_ended("video_1"));
    rig.script.objects.lock().unwrap().insert("video_1".to_owned(), video("failed", &json!("8")));
    watch_until(&again, || again.jobs.is_ended("video_1")).await;
}
