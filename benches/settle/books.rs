//! Journal, meter and ledger of a node, without the node: what runs, and when, is for the bench to say.

use std::sync::Arc;

use overfall::access::record::{Ending, Resource};
use overfall::journal::{self, Frame, Journal};
use overfall::ledger::Ledger;
use overfall::ledger::rows::{AccountRow, AccountStatus, UserRow};
use overfall::ledger::sqlite::SqliteLedger;
use overfall::meter::memory::{MemoryMeter, Restoring};
use overfall::meter::{Meter as _, Verdict};
use overfall::units::time::Clock;
use overfall::units::{AccountId, Timestamp, UserId};

use crate::core::world::{self, World};
use crate::support::settings::folder;

/// How many records may wait for the disk before the maker of them does.
const FLUSH_EVERY: usize = 1_000;

/// The stores, and accounts with credits in them.
pub(crate) struct Books {
    /// What requests are decided by.
    pub(crate) world: World,
    /// The time.
    pub(crate) clock: Clock,
    /// The journal.
    pub(crate) journal: Arc<Journal>,
    /// Live counts.
    pub(crate) meter: MemoryMeter,
    /// The books.
    pub(crate) ledger: Arc<dyn Ledger>,
    /// Who pays; each has one user.
    pub(crate) accounts: Vec<AccountId>,
    since: Timestamp,
    made: u64,
    _folder: tempfile::TempDir,
}

impl Books {
    /// New stores with as many accounts, each granted credits.
    pub(crate) async fn open(policy: &str, accounts: u64) -> anyhow::Result<Self> {
        let folder = folder()?;
        let ledger = Arc::new(SqliteLedger::open(&folder.path().join("ledger.sqlite"))?);
        Self::in_folder(folder, ledger, policy, accounts).await
    }

    /// The same with the books elsewhere.
    pub(crate) async fn on(ledger: Arc<dyn Ledger>, policy: &str, accounts: u64) -> anyhow::Result<Self> {
        Self::in_folder(folder()?, ledger, policy, accounts).await
    }

    async fn in_folder(
        folder: tempfile::TempDir,
        ledger: Arc<dyn Ledger>,
        policy: &str,
        accounts: u64,
    ) -> anyhow::Result<Self> {
        let clock = Clock::machine();
        let since = clock.now();
        let world = World::of(policy)?;
        ledger.keep_policy(world.policy.version, &world.policy.text).await?;
        let each = |_, _: Frame<'_>| Ok(());
        let (journal, _) = Journal::open(&folder.path().join("journal"), journal::Options::default(), each)?;
        let journal = Arc::new(journal);
        let (meter, _) = Restoring::new(clock.clone()).meter(Arc::clone(&journal), |_| None)?;
        let mut books = Self {
            world,
            clock,
            journal,
            meter,
            ledger,
            accounts: Vec::new(),
            since,
            made: 0,
            _folder: folder,
        };
        for number in 0..accounts {
            books.add(number).await?;
        }
        books.journal.flush().await?;
        Ok(books)
    }

    /// The one user of the account in this place.
    pub(crate) fn user(&self, place: u64) -> UserId {
        world::user(place, self.since)
    }

    /// Calls that are held and end well, by all accounts in turns. What the journal has of them is durable then.
    pub(crate) async fn call(&mut self, count: usize) -> anyhow::Result<()> {
        let demand = self.world.demand(200)?;
        for _ in 0..count {
            let place = usize::try_from(self.made)? % self.accounts.len();
            let (account, user) = (self.accounts[place], self.user(u64::try_from(place)?));
            let ask = self.world.ask(self.made, user, &demand, self.clock.now());
            let decision = ask.decision;
            let Verdict::Allow(..) = self.meter.hold(account, ask).await? else { anyhow::bail!("refused") };
            let (_record, _ticket) =
                self.meter.finish(account, decision, demand.clone(), self.ending()).await?;
            self.made += 1;
            if usize::try_from(self.made)?.is_multiple_of(FLUSH_EVERY) {
                self.journal.flush().await?;
            }
        }
        Ok(self.journal.flush().await?)
    }

    /// A good end, with a response that belongs to the account, as each call of the Responses API makes one.
    fn ending(&self) -> Ending {
        Ending {
            resource: Some(Resource { id: format!("resp_{:032x}", self.made).into(), upstream: None }),
            ..crate::core::meter::completed()
        }
    }

    async fn add(&mut self, number: u64) -> anyhow::Result<()> {
        let id = world::account(number, self.since);
        let account = AccountRow {
            id,
            name: format!("account-{number}").into(),
            plan: "plus".into(),
            status: AccountStatus::Active,
            created_at: self.since,
        };
        self.ledger.add_account(&account).await?;
        let name = "user".into();
        let user = UserRow { id: self.user(number), account: id, name, created_at: self.since };
        self.ledger.add_user(&user).await?;
        self.meter.grant(id, world::order(number, "1000000", self.since)?).await?;
        self.accounts.push(id);
        Ok(())
    }
}
