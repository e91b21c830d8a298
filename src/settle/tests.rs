//! I10, and I6 to I9 and I12 by the audit: a node is stopped at every write and sync of its journal in turn, and its
//! books are cut at every sector of the ledger's log. What it had promised is then on the books, once.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::*;
use crate::access::record::{Charge, Ending, Grade, GrantOrigin, JobKind, JobRecord, Outcome, Resource};
use crate::access::{Ask, Demand, GrantOrder, Terms};
use crate::audit::{AuditReport, Scope, audit};
use crate::journal::tests::disk::{Cut, Disk};
use crate::journal::tests::open_on;
use crate::journal::{Frame, Journal, Options, Ticket};
use crate::ledger::Ledger;
use crate::ledger::rows::{AccountRow, AccountStatus, UserRow};
use crate::ledger::sqlite::{SqliteBooks, SqliteLedger};
use crate::meter::memory::{MemoryMeter, Restoring};
use crate::meter::{Meter, Verdict};
use crate::policy::compiled::{CounterKey, Policy};
use crate::policy::load;
use crate::units::time::Clock;
use crate::units::{AccountId, Credits, DecisionId, GrantId, Quantities, Span, Timestamp, UserId};

const POLICY: &str = r"
version: 1
prices: [{model: coin, per_million_tokens: {input: 1000000, output: 1000000}}]
balances: {gift: {per: user, issue: {amount: 2}}, wallet: {per: account}}
features: {codex: {apis: [responses], unit: credit, overage: {forgive: 1, debt: 2}}}
plans:
  plus:
    codex:
      waterfall:
        - {name: included, kind: rate_limit, per: user, windows: [{allow: 5, every: 5h, starts: first_use}]}
        - {name: gift, kind: promotion, balance: gift}
        - {name: credits, kind: prepaid, balance: wallet}
";
const ACCOUNT: AccountId = AccountId::from_bytes([1; 16]);
const USER: UserId = UserId::from_bytes([2; 16]);
const START: Timestamp = Timestamp::from_ms(1_793_577_600_000);
/// What may be lost is a part of the log that was written and not synced: SQLite writes whole sectors.
const SECTOR: usize = 512;

/// What somebody outside was told, and so must be true for ever.
#[derive(Default)]
struct Promised {
    /// Requests that left for the upstream.
    sent: Vec<u8>,
    /// Ends that were told, with their money.
    ended: Vec<(u8, Charge)>,
    /// Orders that were confirmed.
    granted: Vec<u8>,
    /// Calls whose clients were told that they run in the background.
    jobs: Vec<u8>,
}

/// One node, its journal on a disk that stops.
struct Node {
    meter: Arc<MemoryMeter>,
    journal: Arc<Journal>,
    ledger: Arc<SqliteLedger>,
    policy: Arc<Policy>,
    clock: Clock,
}

/// The disk has stopped, and the node with it.
struct Stopped;

impl Node {
    async fn open(disk: &Disk, ledger: &Path, clock: &Clock) -> Result<Self, Stopped> {
        let policy = Arc::new(load::parse("policy.yaml", POLICY).unwrap());
        let ledger = Arc::new(SqliteLedger::open(ledger).unwrap());
        if ledger.find_account("acme").await.unwrap().is_none() {
            ledger.keep_policy(policy.version, &policy.text).await.unwrap();
            introduce(&*ledger).await;
        }
        let mut restoring = Restoring::new(clock.clone());
        ledger.restore(&mut |row| restoring.row(&row)).await.unwrap();
        let each = |_, frame: Frame<'_>| Ok(restoring.frame(frame.payload)?);
        let options = Options { segment_bytes: 16 << 10, bytes_max: 256 << 10, ..Options::default() };
        let (journal, recovery) = open_on(disk, options, each).map_err(|_| Stopped)?;
        restoring.keep_open(&recovery.open);
        let journal = Arc::new(journal);
        let known = Arc::clone(&policy);
        let meter = restoring.meter(Arc::clone(&journal), move |_| Some(Arc::clone(&known)));
        let (meter, _) = meter.map_err(|_| Stopped)?;
        Ok(Self { meter: Arc::new(meter), journal, ledger, policy, clock: clock.clone() })
    }

    /// The demand of so many credits, one of them input.
    fn demand(&self, credits: u64) -> Demand {
        let quantities = Quantities { input_tokens: 1, output_tokens: credits - 1, ..Quantities::default() };
        self.terms().estimate(quantities).unwrap()
    }

    fn terms(&self) -> Terms {
        Terms {
            policy: Arc::clone(&self.policy),
            plan: self.policy.plan("plus").unwrap(),
            feature: self.policy.feature("codex").unwrap(),
            model: "coin".into(),
            tier: None,
            size: None,
        }
    }

    async fn grant(&self, nth: u8, credits: u64, expires: bool, told: &mut Promised) -> Result<(), Stopped> {
        let order = GrantOrder {
            grant: GrantId::from_bytes([nth; 16]),
            user: None,
            balance: "wallet".into(),
            key: CounterKey::of_balance("wallet"),
            amount: Credits::from_micros(credits * 1_000_000).unwrap(),
            priority: 100,
            expires_at: expires.then(|| START.plus(Span::from_seconds(90))),
            origin: GrantOrigin::Operator { idempotency_key: nth.to_string().into(), note: None },
        };
        if self.ledger.grant(order.grant).await.unwrap().is_some() {
            return Ok(());
        }
        if let Some((_, ticket)) = self.meter.grant(ACCOUNT, order).await.map_err(|_| Stopped)? {
            durable(ticket).await?;
            told.granted.push(nth);
        }
        Ok(())
    }

    /// Holds, and sends once that is durable.
    async fn send(&self, nth: u8, credits: u64, told: &mut Promised) -> Result<(), Stopped> {
        let (terms, demand) = (self.terms(), self.demand(credits));
        let ask = Ask { decision: id(nth), user: USER, terms, demand, lifetime: Span::from_seconds(3600) };
        let Verdict::Allow(_, ticket) = self.meter.hold(ACCOUNT, ask).await.map_err(|_| Stopped)? else {
            panic!("{nth} is blocked");
        };
        durable(ticket).await?;
        self.meter.dispatch(ACCOUNT, id(nth)).await.map_err(|_| Stopped)?;
        told.sent.push(nth);
        Ok(())
    }

    async fn finish(&self, nth: u8, credits: u64, told: &mut Promised) -> Result<(), Stopped> {
        let outcome = if credits == 0 { Outcome::Refused } else { Outcome::Completed };
        let used = if credits == 0 { Demand::nothing() } else { self.demand(credits) };
        let ended = self.meter.finish(ACCOUNT, id(nth), used, ending(outcome)).await.map_err(|_| Stopped)?;
        durable(ended.1).await?;
        told.ended.push((nth, ended.0.charge));
        Ok(())
    }

    async fn begin_job(&self, nth: u8, told: &mut Promised) -> Result<(), Stopped> {
        let job = JobRecord {
            decision: id(nth),
            account: ACCOUNT,
            user: USER,
            kind: JobKind::Response,
            resource: Resource { id: format!("resp_{nth}").into(), upstream: None },
            began_at: self.clock.now(),
            expires_at: START.plus(Span::from_seconds(36_000)),
        };
        durable(self.meter.begin_job(job).await.map_err(|_| Stopped)?).await?;
        told.jobs.push(nth);
        Ok(())
    }

    /// Brings to the books all that is durable.
    async fn settle(&self) {
        let booked = Arc::clone(&self.meter);
        let journal = Arc::clone(&self.journal);
        let settler = Settler::new(journal, self.ledger.clone(), move |grant| booked.booked(grant));
        let stats = settler.stats();
        let (_shutdown, stopping) = watch::channel(true);
        settler.run(stopping).await;
        let read = |number: &std::sync::atomic::AtomicU64| number.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((read(&stats.conflicts), read(&stats.waiting)), (0, 0), "I7");
    }

    /// Everything that happens to a node, until its disk stops.
    async fn live(&self, told: &mut Promised) -> Result<(), Stopped> {
        self.grant(1, 9, false, told).await?;
        self.grant(2, 3, true, told).await?;
        self.send(1, 8, told).await?;
        self.finish(1, 11, told).await?;
        self.settle().await;
        self.send(2, 2, told).await?;
        self.send(3, 2, told).await?;
        self.finish(3, 0, told).await?;
        self.send(4, 2, told).await?;
        self.begin_job(4, told).await?;
        self.clock.no_earlier_than(START.plus(Span::from_seconds(100)));
        self.meter.sweep().await.map_err(|_| Stopped)?;
        self.settle().await;
        self.finish(4, 1, told).await?;
        self.finish(2, 2, told).await?;
        self.settle().await;
        self.journal.close().map_err(|_| Stopped)
    }

    /// What goes on after a restart.
    async fn live_on(&self, told: &mut Promised) -> Result<(), Stopped> {
        self.settle().await;
        self.grant(3, 5, false, told).await?;
        self.send(5, 2, told).await?;
        self.finish(5, 1, told).await?;
        self.settle().await;
        self.journal.close().map_err(|_| Stopped)
    }

    /// What was promised is on the books, which hold.
    async fn check(&self, told: &Promised, books: &Path) {
        self.settle().await;
        for nth in &told.granted {
            assert!(
                self.ledger.grant(GrantId::from_bytes([*nth; 16])).await.unwrap().is_some(),
                "grant {nth}"
            );
        }
        for nth in &told.sent {
            let row = self.ledger.decision(id(*nth)).await.unwrap();
            let open = self.meter.in_flight(ACCOUNT, id(*nth)).await.unwrap();
            assert!(row.is_some() != open.is_some(), "call {nth} is on the books, or goes on");
            assert!(open.is_none() || told.jobs.contains(nth), "only a job goes on");
        }
        for (nth, charge) in &told.ended {
            let row = self.ledger.decision(id(*nth)).await.unwrap();
            assert_eq!(row.map(|row| row.charge), Some(*charge), "call {nth}");
        }
        let report = report(books);
        assert!(report.holds(), "{report}");
    }
}

async fn introduce(ledger: &dyn Ledger) {
    let (name, plan, status) = ("acme".into(), "plus".into(), AccountStatus::Active);
    ledger.add_account(&AccountRow { id: ACCOUNT, name, plan, status, created_at: START }).await.unwrap();
    let row = UserRow { id: USER, account: ACCOUNT, name: "ada".into(), created_at: START };
    ledger.add_user(&row).await.unwrap();
}

async fn durable(ticket: Ticket) -> Result<(), Stopped> {
    ticket.await.map_err(|_| Stopped)
}

fn id(nth: u8) -> DecisionId {
    DecisionId::from_bytes([nth; 16])
}

fn ending(outcome: Outcome) -> Ending {
    Ending {
        outcome,
        grade: Grade::Exact,
        reached_upstream: true,
        status: Some(200),
        tier: None,
        resource: None,
    }
}

fn report(books: &Path) -> AuditReport {
    let books = SqliteBooks::open(books).unwrap();
    let read = |text: &str| load::parse("books", text).ok().map(Arc::new);
    audit(&books, &read, Scope::default(), &mut |_| {}).unwrap()
}

/// Lives until the disk stops at an operation, restarts, lives on until it stops again, restarts, and is checked.
async fn stop_at(stop: u64, cut: Cut) {
    let folder = tempfile::tempdir().unwrap();
    let books = folder.path().join("ledger.sqlite");
    let (clock, mut told) = (Clock::manual(START), Promised::default());
    let disk = Disk::default();
    disk.stop_at(stop);
    if let Ok(node) = Node::open(&disk, &books, &clock).await {
        let _stopped = node.live(&mut told).await.is_err();
        let _lost = node.journal.close().is_err();
    }
    let disk = disk.after(cut);
    disk.stop_at(1 + stop * 7 % 30);
    if let Ok(node) = Node::open(&disk, &books, &clock).await {
        let _stopped = node.live_on(&mut told).await.is_err();
        let _lost = node.journal.close().is_err();
    }
    let disk = disk.after(cut);
    let Ok(node) = Node::open(&disk, &books, &clock).await else { panic!("stopped at {stop}, {cut:?}") };
    node.check(&told, &books).await;
    node.journal.close().unwrap();
}

#[tokio::test]
async fn a_node_that_is_stopped_at_any_write_or_sync_keeps_every_promise() {
    let operations = {
        let folder = tempfile::tempdir().unwrap();
        let (disk, clock) = (Disk::default(), Clock::manual(START));
        let books = folder.path().join("ledger.sqlite");
        let Ok(node) = Node::open(&disk, &books, &clock).await else { panic!("a disk that works") };
        let mut told = Promised::default();
        assert!(node.live(&mut told).await.is_ok());
        assert_eq!((told.sent.len(), told.ended.len(), told.granted.len()), (4, 4, 2));
        disk.operations()
    };
    assert!(operations > 30, "{operations} say little");
    for stop in 1..=operations {
        for cut in [Cut::LosesAll, Cut::Tears { seed: stop }] {
            stop_at(stop, cut).await;
        }
    }
}

/// A power cut leaves some beginning of SQLite's log: whatever it leaves, the books hold, and what the journal still
/// has brings them to where they were.
#[tokio::test]
async fn books_that_are_cut_at_any_sector_hold_and_catch_up() {
    let folder = tempfile::tempdir().unwrap();
    let (books, log) = (folder.path().join("ledger.sqlite"), folder.path().join("ledger.sqlite-wal"));
    let (disk, clock, mut told) = (Disk::default(), Clock::manual(START), Promised::default());
    let Ok(node) = Node::open(&disk, &books, &clock).await else { panic!("a disk that works") };
    // The account is on the books for good before anything happens.
    let at_rest = std::fs::read(&books).unwrap();
    let beginning = std::fs::read(&log).unwrap_or_default().len();
    assert!(node.live(&mut told).await.is_ok());
    assert_eq!(std::fs::read(&books).unwrap(), at_rest, "all of it is in the log");
    let written = std::fs::read(&log).unwrap();
    let whole = report(&books).checked;
    for (place, length) in (beginning..=written.len()).step_by(SECTOR).enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let books = folder.path().join("ledger.sqlite");
        std::fs::write(&books, &at_rest).unwrap();
        std::fs::write(folder.path().join("ledger.sqlite-wal"), &written[..length]).unwrap();
        let ledger = SqliteLedger::open(&books).unwrap();
        let report = report(&books);
        assert!(report.holds(), "cut at {length}: {report}");
        drop(ledger);
        // Catching up from the journal costs more time than it tells, at every sector.
        if place.is_multiple_of(16) {
            let Ok(node) = Node::open(&disk.after(Cut::KeepsAll), &books, &clock).await else {
                panic!("cut at {length}")
            };
            node.check(&told, &books).await;
            assert_eq!(self::report(&books).checked, whole, "cut at {length}");
        }
    }
}
