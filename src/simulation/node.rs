//! The node: the real meter, journal, ledger, settler and jobs, without threads, on a disk that forgets.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::auditor::Violation;
use super::rules::RULES;
use crate::access::record::{JobKind, Resource};
use crate::journal::tests::disk::Disk;
use crate::journal::{ByHand, Durability, Frame, Journal, Options, Position, Reader};
use crate::ledger::Ledger;
use crate::ledger::rows::{AccountRow, AccountStatus, UserRow};
use crate::ledger::sqlite::SqliteLedger;
use crate::meter::memory::{MemoryMeter, Recovered, Restoring};
use crate::policy::compiled::Policy;
use crate::policy::live::Policies;
use crate::policy::load;
use crate::settle::Settler;
use crate::settle::jobs::{AskError, Jobs, Pace, Source, Told, Truths};
use crate::units::time::Clock;
use crate::units::{AccountId, Span, Timestamp, UserId};

/// How many accounts there are.
pub(super) const ACCOUNTS: usize = 2;
/// How many users there are, in all.
pub(super) const USERS: usize = 3;

/// The longest that relaxed frames wait for a sync.
pub(super) const SYNC_EVERY: Span = Span::from_seconds(10);

/// Who pays for a user.
pub(super) const fn account_of(user: usize) -> usize {
    if user < 2 { 0 } else { 1 }
}

pub(super) fn account_id(account: usize) -> AccountId {
    AccountId::from_bytes([u8::try_from(account).unwrap() + 1; 16])
}

pub(super) fn user_id(user: usize) -> UserId {
    UserId::from_bytes([u8::try_from(user).unwrap() + 0x11; 16])
}

/// A process with all that it has open.
pub(super) struct Node {
    pub(super) journal: Arc<Journal>,
    pub(super) writer: ByHand,
    pub(super) meter: Arc<MemoryMeter>,
    pub(super) ledger: Arc<SqliteLedger>,
    pub(super) settler: Settler,
    pub(super) reader: Reader,
    pub(super) jobs: Arc<Jobs>,
    /// What revisions are made from.
    pub(super) truths: Truths,
}

/// What never ends: nothing asks the upstream by itself.
struct Silent;

#[async_trait]
impl Source for Silent {
    async fn ask(&self, _: JobKind, _: &Resource) -> Result<Told, AskError> {
        Err(AskError::Status { status: 503 })
    }
}

/// The policies that are switched between.
pub(super) fn policies() -> [Arc<Policy>; 2] {
    RULES.map(|rules| Arc::new(load::parse("policy.yaml", &rules.yaml()).unwrap()))
}

/// The clock as the journal's writer sees it.
#[expect(clippy::disallowed_methods, reason = "where it begins is nobody's concern")]
fn time(clock: Clock) -> impl Fn() -> Instant {
    let (began, at) = (Instant::now(), clock.now());
    move || began + Duration::from_millis(clock.now().since(at).ms())
}

/// What a future gives that never has to wait.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("something waits that has nobody to wait for"),
    }
}

/// Books with the accounts in them.
pub(super) fn found_books(path: &Path, policies: &[Arc<Policy>; 2], now: Timestamp) {
    let ledger = SqliteLedger::open_here(path).unwrap();
    for policy in policies {
        at_once(ledger.keep_policy(policy.version, &policy.text)).unwrap();
    }
    for account in 0..ACCOUNTS {
        let row = AccountRow {
            id: account_id(account),
            name: format!("account-{account}").into(),
            plan: "plus".into(),
            status: AccountStatus::Active,
            created_at: now,
        };
        at_once(ledger.add_account(&row)).unwrap();
    }
    for user in 0..USERS {
        let row = UserRow {
            id: user_id(user),
            account: account_id(account_of(user)),
            name: format!("user-{user}").into(),
            created_at: now,
        };
        at_once(ledger.add_user(&row)).unwrap();
    }
}

impl Node {
    /// Opens what there is, by the real recovery. Tells how many frames the journal had, and what was taken up.
    pub(super) fn open(
        disk: &Disk,
        books: &Path,
        clock: &Clock,
        policies: &[Arc<Policy>; 2],
        relaxed: bool,
    ) -> Result<(Self, u64, Recovered), Violation> {
        let ledger = SqliteLedger::open_here(books).map_err(|error| format!("I10: the ledger: {error:?}"))?;
        let ledger = Arc::new(ledger);
        let mut restoring = Restoring::new(clock.clone());
        at_once(ledger.restore(&mut |row| restoring.row(&row))).map_err(|error| format!("I10: {error:?}"))?;
        let durability =
            if relaxed { Durability::Relaxed { sync_every: SYNC_EVERY } } else { Durability::Strict };
        let options =
            Options { segment_bytes: 16 << 10, bytes_max: 256 << 10, durability, ..Options::default() };
        let mut each = |_: Position, frame: Frame<'_>| Ok(restoring.frame(frame.payload)?);
        let opened = Journal::open_by_hand(disk, options, &mut each, time(clock.clone()));
        let (journal, recovery, writer) = opened.map_err(|error| format!("I10: {error:?}"))?;
        restoring.keep_open(&recovery.open);
        let journal = Arc::new(journal);
        let live = Arc::new(Policies::new(Arc::clone(&policies[0])));
        live.remember(Arc::clone(&policies[1]));
        let restored = restoring.meter(Arc::clone(&journal), |version| live.version(version));
        let (meter, recovered) = restored.map_err(|error| format!("I10: {error:?}"))?;
        let meter = Arc::new(meter);
        let booked = Arc::clone(&meter);
        let settler = Settler::new(Arc::clone(&journal), ledger.clone(), move |grant| booked.booked(grant));
        let reader = journal.reader(Position::START);
        let of_operators = Truths { ledger: ledger.clone(), policies: Arc::clone(&live) };
        let truths = Truths { ledger: ledger.clone(), policies: live };
        let pace =
            Pace { polls_per_second: 1, first: Span::from_seconds(10), longest: Span::from_seconds(60) };
        let jobs = at_once(Jobs::open(meter.clone(), truths, Arc::new(Silent), clock.clone(), pace));
        let jobs = jobs.map_err(|error| format!("I10: {error:?}"))?;
        let node = Self { journal, writer, meter, ledger, settler, reader, jobs, truths: of_operators };
        Ok((node, recovery.next.value(), recovered))
    }
}
