//! A gateway with everything behind it, in a folder of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

use super::brittle::Brittle;
use super::wire::{Answer, Client, request};
use crate::access::GrantOrder;
use crate::access::record::GrantOrigin;
use crate::config::{Breaker, Health, Secret};
use crate::idempotency::sqlite::{SqliteAnswers, Syncs};
use crate::idempotency::{Answers, Limits};
use crate::journal::{self, Journal};
use crate::ledger::Ledger;
use crate::ledger::directory::Directory;
use crate::ledger::rows::{AccountRow, AccountStatus, DecisionRow, KeyRow, UserRow};
use crate::ledger::sqlite::SqliteLedger;
use crate::meter::Meter;
use crate::meter::memory::{MemoryMeter, Restoring};
use crate::policy::compiled::{CounterKey, Policy};
use crate::policy::live::Policies;
use crate::proxy::gateway::{Gateway, Parts};
use crate::proxy::keys::Key;
use crate::proxy::server::{self, Listener};
use crate::proxy::upstreams::Upstreams;
use crate::proxy::{body, upstream};
use crate::settle::{BlockLog, Settler};
use crate::simulate::{self, Seen};
use crate::units::time::Clock;
use crate::units::{AccountId, Credits, DecisionId, GrantId, KeyId, UserId};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// The key that the simulated upstream wants.
pub(super) const UPSTREAM_KEY: &str = "sk-upstream-secret";

/// The key that the spare one wants.
pub(super) const SPARE_KEY: &str = "sk-spare-secret";

pub(super) const POLICY: &str = r#"
version: 1
prices:
  - model: "gpt-5.5*"
    per_million_tokens: {input: 125, cached_input: 12.5, output: 750}
    tiers: {priority: 2}
  - model: "sora-2*"
    per_second: {720x1280: 2.5}
balances:
  wallet: {per: account}
features:
  codex:
    apis: [responses, chat]
    unit: credit
    clamp: {minimum_output_tokens: 16}
  sora: {apis: [videos], unit: second}
plans:
  payg:
    codex:
      guards: [{name: in-flight, concurrent: 50, per: user}]
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
  nothing: {}
"#;

/// Who calls.
pub(super) struct Person {
    pub(super) account: AccountId,
    pub(super) user: UserId,
    pub(super) key: String,
}

/// What a world is to be like.
pub(super) struct Wishes {
    pub(super) bodies: body::Limits,
    pub(super) credits: &'static str,
    /// Where the upstream is said to be, instead of where it is.
    pub(super) upstream: Option<SocketAddr>,
    pub(super) read_timeout: Duration,
    pub(super) grace: Duration,
    pub(super) upstream_key: &'static str,
    /// What the first upstream does with every request, in its own words.
    pub(super) first: &'static str,
    /// Whether there is a second upstream behind the first.
    pub(super) spare: bool,
    pub(super) breaker: Breaker,
    /// How the first upstream is asked whether it is there.
    pub(super) health: Option<Health>,
    pub(super) policy: String,
    pub(super) kept: Limits,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            bodies: body::Limits { timeout: Duration::from_secs(2), ..body::Limits::default() },
            credits: "1000",
            upstream: None,
            read_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(5),
            upstream_key: UPSTREAM_KEY,
            first: "",
            spare: false,
            breaker: Breaker::default(),
            health: None,
            policy: POLICY.to_owned(),
            kept: Limits::default(),
        }
    }
}

impl Wishes {
    fn settings(&self, name: &str, address: SocketAddr, key: &str) -> upstream::Settings {
        upstream::Settings {
            name: name.into(),
            base_url: format!("http://{address}").parse().expect("a URL"),
            key: Secret::new(key, "a test").expect("a key"),
            ca_file: None,
            connect_timeout: Duration::from_secs(2),
            read_timeout: self.read_timeout,
            breaker: self.breaker,
            health: self.health.clone().filter(|_| name == "first"),
        }
    }
}

pub(super) struct World {
    pub(super) address: SocketAddr,
    pub(super) seen: Seen,
    /// What the second upstream has seen.
    pub(super) spare: Option<Seen>,
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) meter: Arc<MemoryMeter>,
    pub(super) journal: Arc<Journal>,
    /// Makes the meter panic when a request is about to leave.
    pub(super) brittle: Arc<AtomicBool>,
    pub(super) anna: Person,
    pub(super) other: Person,
    pub(super) poor: Person,
    /// The folder of its stores.
    pub(super) folder: tempfile::TempDir,
    policies: Arc<Policies>,
    pub(super) runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
    settled: watch::Sender<bool>,
    settlement: Option<JoinHandle<()>>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(&Wishes::default())
    }

    pub(super) fn with(wishes: &Wishes) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::machine();
        let policy: Arc<Policy> =
            Arc::new(crate::policy::load::parse("test", &wishes.policy).expect("a policy"));
        let (ledger, journal, meter) = stores(folder.path(), &clock);
        let policies = Arc::new(Policies::new(Arc::clone(&policy)));
        let directory = Arc::new(Directory::new());
        let (upstream_address, seen) = runtime.block_on(async { simulated(UPSTREAM_KEY, wishes.first) });
        let spare = wishes.spare.then(|| runtime.block_on(async { simulated(SPARE_KEY, "") }));
        let first = ("first", wishes.upstream.unwrap_or(upstream_address), wishes.upstream_key);
        let second = spare.as_ref().map(|(address, _)| ("spare", *address, SPARE_KEY));
        let settings: Vec<_> = std::iter::once(first)
            .chain(second)
            .map(|(name, address, key)| wishes.settings(name, address, key))
            .collect();
        let upstreams = Arc::new(Upstreams::new(&settings).expect("upstreams"));
        let person = |name: &str, plan: &str| runtime.block_on(person(&*ledger, &directory, name, plan));
        let (anna, other, poor) = (person("anna", "payg"), person("other", "payg"), person("poor", "payg"));
        for (person, credits) in [(&anna, wishes.credits), (&other, "1000")] {
            runtime.block_on(grant(&meter, person.account, credits));
        }
        let (log, blocks) = BlockLog::new(Arc::clone(&ledger));
        let booked = Arc::clone(&meter);
        let settler =
            Settler::new(Arc::clone(&journal), Arc::clone(&ledger), move |grant| booked.booked(grant));
        let brittle = Arc::new(AtomicBool::new(false));
        let answers = folder.path().join("idempotency.sqlite");
        let answers = SqliteAnswers::open(&answers, wishes.kept, Syncs::Seldom, clock.clone());
        let answers = Arc::new(answers.expect("a store of answers"));
        let gateway = Gateway::new(Parts {
            clock,
            policies: Arc::clone(&policies),
            directory,
            meter: Arc::new(Brittle { meter: Arc::clone(&meter), breaks: Arc::clone(&brittle) }),
            ledger: Arc::clone(&ledger),
            blocks,
            upstreams: Arc::clone(&upstreams),
            bodies: wishes.bodies,
            answers: Arc::clone(&answers) as Arc<dyn Answers>,
            kept: wishes.kept,
        });
        let (settled, settling) = watch::channel(false);
        let settlement = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                tokio::join!(settler.run(settling.clone()), log.run(settling));
            });
        });
        let (address, stop, server) = serve(gateway, wishes.grace);
        Self {
            address,
            seen,
            spare: spare.map(|(_, seen)| seen),
            upstreams,
            ledger,
            meter,
            journal,
            brittle,
            anna,
            other,
            poor,
            folder,
            policies,
            runtime,
            stop: Some(stop),
            server: Some(server),
            settled,
            settlement: Some(settlement),
        }
    }

    pub(super) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub(super) fn ask(&self, method: &str, target: &str, key: &str, headers: &str, body: &[u8]) -> Answer {
        self.client().exchange(&request(method, target, key, headers, body))
    }

    /// A POST of Anna's.
    pub(super) fn post(&self, target: &str, body: &str) -> Answer {
        self.ask("POST", target, &self.anna.key, "", body.as_bytes())
    }

    /// The decision as it is booked.
    pub(super) fn booked(&self, decision: DecisionId) -> DecisionRow {
        self.runtime.block_on(async {
            let deadline = tokio::time::Instant::now() + PATIENCE;
            loop {
                if let Some(row) = self.ledger.decision(decision).await.expect("the ledger") {
                    return row;
                }
                assert!(tokio::time::Instant::now() < deadline, "{decision} is not booked");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    }

    /// The newest decision of an account, as it is booked.
    pub(super) fn newest(&self, account: AccountId) -> DecisionRow {
        self.wait_idle();
        self.runtime.block_on(async {
            let deadline = tokio::time::Instant::now() + PATIENCE;
            loop {
                let rows = self.ledger.decisions(account, None, crate::ledger::rows::Page(1)).await;
                if let Some(row) = rows.expect("the ledger").pop() {
                    return row;
                }
                assert!(tokio::time::Instant::now() < deadline, "nothing is booked");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    }

    /// Waits until no hold is open (I9).
    pub(super) fn wait_idle(&self) {
        let deadline = std::time::Duration::from_secs(20);
        let idle = async {
            while self.meter.stats().holds > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        self.runtime.block_on(async { tokio::time::timeout(deadline, idle).await }).expect("no open hold");
    }

    /// What Anna's wallet has.
    pub(super) fn wallet(&self, person: &Person) -> Credits {
        let policy = self.policies.current();
        let (plan, feature) =
            (policy.plan("payg").expect("a plan"), policy.feature("codex").expect("a feature"));
        let standing = self.meter.standing(person.account, person.user, &policy, plan, feature);
        self.runtime.block_on(standing).expect("a standing").balances[0].available
    }

    /// The simulated upstream's requests so far.
    pub(super) fn upstream_requests(&self) -> Vec<crate::simulate::SeenRequest> {
        self.seen.requests()
    }

    /// Asks the gateway to stop, and waits until it has.
    pub(super) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            server.join().expect("the server ended");
        }
    }

    /// Asks the gateway to stop.
    pub(super) fn begin_stop(&mut self) {
        drop(self.stop.take());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
        self.settled.send_replace(true);
        if let Some(settlement) = self.settlement.take() {
            settlement.join().expect("settlement ended");
        }
    }
}

/// Books, journal and meter, all empty.
fn stores(folder: &std::path::Path, clock: &Clock) -> (Arc<dyn Ledger>, Arc<Journal>, Arc<MemoryMeter>) {
    let ledger = SqliteLedger::open(&folder.join("ledger.sqlite")).expect("a ledger");
    let options =
        journal::Options { segment_bytes: 1 << 20, bytes_max: 64 << 20, ..journal::Options::default() };
    let (journal, _) = Journal::open(&folder.join("journal"), options, |_, _| Ok(())).expect("a journal");
    let journal = Arc::new(journal);
    let (meter, _) = Restoring::new(clock.clone()).meter(Arc::clone(&journal), |_| None).expect("a meter");
    (Arc::new(ledger), journal, Arc::new(meter))
}

/// A simulated upstream that serves as long as the runtime lives.
fn simulated(key: &str, words: &str) -> (SocketAddr, Seen) {
    let options = simulate::Options {
        key: Some(key.to_owned()),
        recorded_body_bytes_max: 16 << 20,
        behaviour: simulate::Behaviour::default().with_words(words).expect("words"),
        ..simulate::Options::default()
    };
    let upstream = simulate::Upstream::bind((Ipv4Addr::LOCALHOST, 0).into(), options).expect("an upstream");
    let (address, seen) = (upstream.local_addr(), upstream.seen());
    tokio::spawn(upstream.serve(std::future::pending()));
    (address, seen)
}

/// An upstream that gives one answer, these bytes, and closes the connection.
pub(super) fn canned(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while !request.ends_with(b"}") {
            let count = stream.read(&mut buffer).expect("a request");
            request.extend_from_slice(&buffer[..count]);
        }
        stream.write_all(&answer).expect("answered");
    });
    address
}

/// Serves on a free port.
fn serve(gateway: Gateway, grace: Duration) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let address = free.expect("a free port");
    let settings = server::Settings { listeners: vec![Listener { address, tls: None }], threads: 1, grace };
    let (stop, stopped) = oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let stopped = async {
            // Dropping the sender is the signal.
            let _dropped = stopped.await;
        };
        server::run(&settings, gateway, Vec::new(), stopped).expect("served");
    });
    while std::net::TcpStream::connect(address).is_err() {
        assert!(!server.is_finished(), "the server ended");
        std::thread::sleep(Duration::from_millis(2));
    }
    (address, stop, server)
}

async fn person(ledger: &dyn Ledger, directory: &Directory, name: &str, plan: &str) -> Person {
    let now = Clock::machine().now();
    let key = Key::generate(rand::random());
    let account = AccountRow {
        id: AccountId::new(now, rand::random()),
        name: name.into(),
        plan: plan.into(),
        status: AccountStatus::Active,
        created_at: now,
    };
    let user = UserRow {
        id: UserId::new(now, rand::random()),
        account: account.id,
        name: name.into(),
        created_at: now,
    };
    let row = KeyRow {
        id: KeyId::new(now, rand::random()),
        user: user.id,
        account: account.id,
        hash: key.hash(),
        hint: key.hint().into(),
        created_at: now,
        expires_at: None,
        revoked_at: None,
    };
    ledger.add_account(&account).await.expect("an account");
    ledger.add_user(&user).await.expect("a user");
    ledger.add_key(&row).await.expect("a key");
    directory.put_account(&account);
    directory.put_user(&user);
    directory.put_key(&row);
    Person { account: account.id, user: user.id, key: key.reveal().to_owned() }
}

async fn grant(meter: &MemoryMeter, account: AccountId, credits: &str) {
    let order = GrantOrder {
        grant: GrantId::derived(&[account.as_bytes(), b"first"]),
        user: None,
        balance: "wallet".into(),
        key: CounterKey::of_balance("wallet"),
        amount: credits.parse().expect("credits"),
        priority: 100,
        expires_at: None,
        origin: GrantOrigin::Operator { idempotency_key: "first".into(), note: None },
    };
    let granted = meter.grant(account, order).await.expect("granted");
    granted.expect("new").1.await.expect("durable");
}
