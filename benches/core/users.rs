//! Memory of a user with state. A process of its own loads what a restart loads from the books: accounts, users, keys,
//! counters, grants, into the meter and the directory.

use std::io::Write as _;

use overfall::access::Account;
use overfall::access::record::{CounterEntry, Ending, GrantRecord};
use overfall::ledger::directory::Directory;
use overfall::ledger::rows::{AccountRow, AccountStatus, GrantRow, KeyRow, Restored, UserRow};
use overfall::meter::memory::Restoring;
use overfall::policy::compiled::Scope;
use overfall::units::time::Clock;
use overfall::units::{KeyId, Seq, Timestamp};
use sha2::{Digest as _, Sha256};

use super::SECTION;
use super::world::{self, World};
use crate::support::process::resident_bytes;
use crate::support::report::{Figure, Goal};
use crate::support::roles;
use crate::support::settings::Settings;

/// The role that loads users and tells the bytes of each.
pub(crate) const USERS: &str = "users";
/// The policy that comes with the gateway: three guards, two windows, a promotion and a wallet.
const POLICY: &str = include_str!("../../config/policy.yaml");

pub(super) fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let loaded = |per_account: usize| -> anyhow::Result<f64> {
        let told = roles::told(USERS, &[settings.users.to_string(), per_account.to_string()])?;
        Ok(told.trim().parse()?)
    };
    let what = |each: &str| format!("memory of a user with state, {} loaded, {each}", settings.users);
    let goal = Goal::AtMost(500.0);
    Ok(vec![
        Figure::aimed(SECTION, what("one in an account"), "bytes", goal, vec![loaded(1)?]),
        Figure::told(SECTION, what("ten in an account"), "bytes", vec![loaded(10)?]),
    ])
}

/// What one used account with one user looks like in the books.
struct Template {
    counters: Vec<CounterEntry>,
    grants: Vec<GrantRecord>,
    now: Timestamp,
}

/// The role [`USERS`].
pub(crate) fn serve(users: &str, per_account: &str) -> anyhow::Result<()> {
    let (users, per_account): (u64, u64) = (users.parse()?, per_account.parse()?);
    let template = Template::new()?;
    let before = resident_bytes(std::process::id())?;
    let (directory, restoring) = (Directory::new(), Restoring::new(Clock::machine()));
    for number in 0..users {
        for row in template.rows(number, number / per_account, number % per_account == 0) {
            directory.restore(&row);
            restoring.row(&row);
        }
    }
    let grown = resident_bytes(std::process::id())?.saturating_sub(before);
    anyhow::ensure!(directory.counts().users == usize::try_from(users)?, "not all are loaded");
    drop(restoring);
    Ok(writeln!(std::io::stdout(), "{}", grown / users)?)
}

impl Template {
    fn new() -> anyhow::Result<Self> {
        let world = World::of(POLICY)?;
        let now = Clock::machine().now();
        let mut account = Account::new(world::account(0, now));
        let mut grants = vec![world::grant(&mut account, world::order(0, "100", now)?, now)?];
        // More than a window gives, so that the promotion is issued; less than would use it up.
        let demand = world.demand(80_000)?;
        let ask = world.ask(0, world::user(0, now), &demand, now);
        let decision = ask.decision;
        grants.extend(world::hold(&mut account, ask, now)?.issued);
        let end = account.finish(decision, demand, Ending::not_sent(), now)?;
        anyhow::ensure!(grants.len() == 2 && end.counters.len() >= 4, "not a user with all kinds of state");
        Ok(Self { counters: end.counters, grants, now })
    }

    /// The rows of one user, and of its account where it is the first.
    fn rows(&self, number: u64, account: u64, is_first: bool) -> Vec<Restored> {
        let (account, user) = (world::account(account, self.now), world::user(number, self.now));
        let key = KeyRow {
            id: KeyId::new(self.now, world::random(number)),
            user,
            account,
            hash: Sha256::digest(number.to_le_bytes()).into(),
            hint: "ofk_abcdef".into(),
            created_at: self.now,
            expires_at: None,
            revoked_at: None,
        };
        let name = format!("user-{number}").into();
        let mut rows = vec![
            Restored::User(UserRow { id: user, account, name, created_at: self.now }),
            Restored::Key(key),
        ];
        let owned = |scope: Scope| is_first || scope == Scope::User;
        rows.extend(
            self.counters
                .iter()
                .filter(|entry| owned(entry.scope))
                .map(|entry| Restored::Counter(account, user, *entry)),
        );
        let grants = self.grants.iter().filter(|grant| is_first || grant.user.is_some());
        rows.extend(grants.map(|grant| {
            Restored::Grant(GrantRow {
                grant: overfall::units::GrantId::new(self.now, world::random(number)),
                account,
                user: grant.user.map(|_| user),
                balance: grant.balance.clone(),
                amount: grant.amount,
                remaining: grant.amount,
                priority: grant.priority,
                expires_at: grant.expires_at,
                granted_at: grant.granted_at,
                origin: grant.origin.clone(),
            })
        }));
        if is_first {
            let row = AccountRow {
                id: account,
                name: format!("account-{number}").into(),
                plan: "plus".into(),
                status: AccountStatus::Active,
                created_at: self.now,
            };
            rows.insert(0, Restored::Account(row, Seq(1)));
        }
        rows
    }
}
