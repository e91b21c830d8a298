//! The ledger of many machines: PostgreSQL.
//!
//! The same rows, keys and hashes as in the embedded store; `schema/` says what stands where, and who may do what.
//!
//! # Roles
//!
//! Tables are made by whoever owns them, the first time that a program of a newer version opens the ledger under that
//! role. Everything else is done as `overfall_writer`, who may add to events, grants, records and policies and change
//! none, or as `overfall_reader`, who may only read. Making the tables makes both roles and grants them to the owner;
//! a gateway that shall not own the tables logs in as another role, to which both are granted.
//!
//! # Workers
//!
//! Any number of gateways may book into one ledger. Those that book for the same account wait for each other; a batch
//! that was booked already is told so.
//!
//! # Failure
//!
//! A server that is away, read-only, full or late is [`LedgerError::Unavailable`], with the cause; its transaction is
//! rolled back, the connection is thrown away, and later work connects again.
//!
//! # Bounds
//!
//! One connection books and 4 look things up; more callers wait, and every wait, statement and connection has an end.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::{Object, Pool};
use tokio::sync::mpsc;

use super::rows::{
    AccountRow, Applied, BalanceUpdateRow, BlockRow, DecisionRow, GrantRow, KeyRow, Owner, Page, RefundRow,
    Restored, UserRow, VideosFrom,
};
use super::shared::{Attendance, Booking, Change, Epoch, Lease, Place, SharedLedger, Taken};
use super::{Ledger, LedgerError};
use crate::access::record::{AdjustmentRecord, JobRecord, Record};
use crate::units::{
    AccountId, DecisionId, GrantId, KeyId, OrderId, PolicyVersion, Seq, Span, Timestamp, UserId,
};
use connection::Server;
use partitions::Partitions;
use runtime::Runtime;

mod apply;
mod blocks;
mod books;
mod changes;
mod columns;
mod connection;
mod directory;
mod epochs;
mod failure;
mod history;
mod partitions;
mod queues;
mod recorded;
mod resources;
mod restore;
mod runtime;
mod shelf;
mod table;
mod takeover;
mod wanted;
mod write;

#[cfg(test)]
#[path = "../../benches/support/postgres.rs"]
pub(crate) mod server;

pub use books::PostgresBooks;
pub use connection::OpenError;
pub use takeover::{MoveError, take_over};

/// Portions of a restore that wait for the caller.
const RESTORE_QUEUE: usize = 4;

/// The ledger on a PostgreSQL server.
pub struct PostgresLedger {
    writer: Pool,
    readers: Pool,
    partitions: Arc<Partitions>,
    runtime: Runtime,
}

impl PostgresLedger {
    /// Connects to the server at an address (`postgres://user:password@host:port/database`), and brings its tables up
    /// to date.
    pub async fn open(address: &str) -> Result<Self, OpenError> {
        let server = Server::of(address)?;
        let (writer, readers) = (server.writer()?, server.readers()?);
        let runtime = Runtime::start().map_err(OpenError::Thread)?;
        runtime.run_long(async move { server.migrate().await }, || OpenError::Closed).await?;
        Ok(Self { writer, readers, partitions: Arc::default(), runtime })
    }
}

/// Does a piece of work with a connection of a pool.
macro_rules! with {
    ($ledger:ident.$pool:ident, |$client:ident| $work:expr) => {{
        let pool = $ledger.$pool.clone();
        let work = async move {
            let mut lent = Lent::from(&pool).await?;
            let $client = lent.client()?;
            let done = $work.await;
            lent.end(&done);
            done
        };
        $ledger.runtime.run(work).await
    }};
}

#[async_trait]
impl Ledger for PostgresLedger {
    async fn apply(&self, batch: Vec<Record>) -> Result<Applied, LedgerError> {
        let partitions = Arc::clone(&self.partitions);
        with!(self.writer, |client| apply::apply(client, &partitions, &batch))
    }

    async fn restore(&self, visit: &mut (dyn FnMut(Restored) + Send)) -> Result<(), LedgerError> {
        let (sender, mut receiver) = mpsc::channel(RESTORE_QUEUE);
        let pool = self.readers.clone();
        let work = async move {
            let mut lent = Lent::from(&pool).await?;
            let done = restore::restore(lent.client()?, sender).await;
            lent.end(&done);
            done
        };
        let reading = self.runtime.run_long(work, failure::closed);
        let visiting = async {
            while let Some(portion) = receiver.recv().await {
                portion.into_iter().for_each(&mut *visit);
            }
        };
        tokio::join!(reading, visiting).0
    }

    async fn keep_policy(&self, version: PolicyVersion, text: &str) -> Result<(), LedgerError> {
        let text = text.to_owned();
        with!(self.writer, |client| directory::keep_policy(client, version, &text))
    }

    async fn policy(&self, version: PolicyVersion) -> Result<Option<String>, LedgerError> {
        with!(self.readers, |client| directory::policy(client, version))
    }

    async fn add_account(&self, account: &AccountRow) -> Result<(), LedgerError> {
        let account = account.clone();
        with!(self.writer, |client| directory::add_account(client, &account))
    }

    async fn change_account(&self, account: &AccountRow) -> Result<(), LedgerError> {
        let account = account.clone();
        with!(self.writer, |client| directory::change_account(client, &account))
    }

    async fn add_user(&self, user: &UserRow) -> Result<(), LedgerError> {
        let user = user.clone();
        with!(self.writer, |client| directory::add_user(client, &user))
    }

    async fn add_key(&self, key: &KeyRow) -> Result<(), LedgerError> {
        let key = key.clone();
        with!(self.writer, |client| directory::add_key(client, &key))
    }

    async fn revoke_key(&self, key: KeyId, at: Timestamp) -> Result<(), LedgerError> {
        with!(self.writer, |client| directory::revoke_key(client, key, at))
    }

    async fn accounts(&self, after: Option<AccountId>, page: Page) -> Result<Vec<AccountRow>, LedgerError> {
        with!(self.readers, |client| directory::accounts(client, after, page))
    }

    async fn find_account(&self, id_or_name: &str) -> Result<Option<AccountRow>, LedgerError> {
        let text = id_or_name.to_owned();
        with!(self.readers, |client| directory::find_account(client, &text))
    }

    async fn find_user(&self, account: AccountId, id_or_name: &str) -> Result<Option<UserRow>, LedgerError> {
        let text = id_or_name.to_owned();
        with!(self.readers, |client| directory::find_user(client, account, &text))
    }

    async fn users(
        &self,
        account: AccountId,
        after: Option<UserId>,
        page: Page,
    ) -> Result<Vec<UserRow>, LedgerError> {
        with!(self.readers, |client| directory::users(client, account, after, page))
    }

    async fn keys(
        &self,
        account: AccountId,
        after: Option<KeyId>,
        page: Page,
    ) -> Result<Vec<KeyRow>, LedgerError> {
        with!(self.readers, |client| directory::keys(client, account, after, page))
    }

    async fn grant(&self, grant: GrantId) -> Result<Option<GrantRow>, LedgerError> {
        with!(self.readers, |client| history::grant(client, grant))
    }

    async fn grants(&self, account: AccountId) -> Result<Vec<GrantRow>, LedgerError> {
        with!(self.readers, |client| history::grants(client, account))
    }

    async fn balance_updates(
        &self,
        account: AccountId,
        before: Option<i64>,
        page: Page,
    ) -> Result<Vec<BalanceUpdateRow>, LedgerError> {
        with!(self.readers, |client| history::balance_updates(client, account, before, page))
    }

    async fn adjustment(&self, order: OrderId) -> Result<Option<AdjustmentRecord>, LedgerError> {
        with!(self.readers, |client| history::adjustment(client, order))
    }

    async fn adjustments(&self, account: AccountId) -> Result<Vec<AdjustmentRecord>, LedgerError> {
        with!(self.readers, |client| history::adjustments(client, account))
    }

    async fn refund(&self, order: OrderId) -> Result<Option<RefundRow>, LedgerError> {
        with!(self.readers, |client| history::refund(client, order))
    }

    async fn decision(&self, decision: DecisionId) -> Result<Option<DecisionRow>, LedgerError> {
        with!(self.readers, |client| history::decision(client, decision))
    }

    async fn decisions(
        &self,
        account: AccountId,
        before: Option<DecisionId>,
        page: Page,
    ) -> Result<Vec<DecisionRow>, LedgerError> {
        with!(self.readers, |client| history::decisions(client, account, before, page))
    }

    async fn owner_of(&self, resource: &str) -> Result<Option<Owner>, LedgerError> {
        let resource = resource.to_owned();
        with!(self.readers, |client| resources::owner_of(client, &resource))
    }

    async fn videos_of(
        &self,
        user: UserId,
        from: VideosFrom,
        page: Page,
    ) -> Result<Vec<(Arc<str>, Timestamp)>, LedgerError> {
        with!(self.readers, |client| resources::videos_of(client, user, &from, page))
    }

    async fn disown(&self, resource: &str) -> Result<(), LedgerError> {
        let resource = resource.to_owned();
        with!(self.writer, |client| resources::disown(client, &resource))
    }

    async fn forget_made(&self, before: Timestamp, most: Page) -> Result<u64, LedgerError> {
        with!(self.writer, |client| resources::forget_made(client, before, most))
    }

    async fn late_jobs(&self, since: Timestamp, page: Page) -> Result<Vec<JobRecord>, LedgerError> {
        with!(self.readers, |client| resources::late_jobs(client, since, page))
    }

    async fn log_blocks(&self, blocks: Vec<BlockRow>, keep: u64) -> Result<(), LedgerError> {
        with!(self.writer, |client| blocks::log(client, &blocks, keep))
    }

    async fn block(&self, decision: DecisionId) -> Result<Option<BlockRow>, LedgerError> {
        with!(self.readers, |client| blocks::block(client, decision))
    }

    async fn blocks(
        &self,
        account: AccountId,
        before: Option<DecisionId>,
        page: Page,
    ) -> Result<Vec<BlockRow>, LedgerError> {
        with!(self.readers, |client| blocks::blocks(client, account, before, page))
    }
}

#[async_trait]
impl SharedLedger for PostgresLedger {
    async fn share(&self, worker: &str, alive: Span) -> Result<Vec<Lease>, LedgerError> {
        let worker = worker.to_owned();
        with!(self.writer, |client| queues::share(client, &worker, alive))
    }

    async fn leave(&self, worker: &str) -> Result<(), LedgerError> {
        let worker = worker.to_owned();
        with!(self.writer, |client| queues::leave(client, &worker))
    }

    async fn apply_from(&self, taken: &[Taken]) -> Result<Booking, LedgerError> {
        let (partitions, taken) = (Arc::clone(&self.partitions), taken.to_vec());
        with!(self.writer, |client| apply::apply_from(client, &partitions, &taken))
    }

    async fn places(&self) -> Result<Vec<Place>, LedgerError> {
        with!(self.readers, |client| queues::places(client))
    }

    async fn apply_in(&self, epoch: u64, batch: Vec<Record>) -> Result<Booking, LedgerError> {
        let partitions = Arc::clone(&self.partitions);
        with!(self.writer, |client| apply::apply_in(client, &partitions, epoch, &batch))
    }

    async fn attend(&self, node: &str, alive: Span, reached: Epoch) -> Result<Attendance, LedgerError> {
        let node = node.to_owned();
        with!(self.writer, |client| epochs::attend(client, &node, alive, reached))
    }

    async fn depart(&self, node: &str) -> Result<(), LedgerError> {
        let node = node.to_owned();
        with!(self.writer, |client| epochs::depart(client, &node))
    }

    async fn begin_epoch(&self, after: u64, why: &str) -> Result<(), LedgerError> {
        let why = why.to_owned();
        with!(self.writer, |client| epochs::begin(client, after, &why))
    }

    async fn move_epoch(&self, from: Epoch, store: &str) -> Result<bool, LedgerError> {
        let store = store.to_owned();
        with!(self.writer, |client| epochs::move_on(client, from, &store))
    }

    async fn take_slot(&self, home: &str, most: u64) -> Result<bool, LedgerError> {
        let home = home.to_owned();
        with!(self.writer, |client| epochs::take_slot(client, &home, most))
    }

    async fn free_slot(&self, home: &str) -> Result<(), LedgerError> {
        let home = home.to_owned();
        with!(self.writer, |client| epochs::free_slot(client, &home))
    }

    async fn changes(&self, since: Change) -> Result<(Change, Vec<Restored>), LedgerError> {
        with!(self.readers, |client| changes::since(client, since))
    }

    async fn newest_change(&self) -> Result<Change, LedgerError> {
        with!(self.readers, |client| changes::newest(client))
    }

    async fn heads(&self, accounts: &[AccountId]) -> Result<Vec<(AccountId, Seq)>, LedgerError> {
        let accounts = accounts.to_vec();
        with!(self.readers, |client| queues::heads(client, &accounts))
    }
}

/// A connection of a pool. It goes back if all went well, and is thrown away otherwise: nobody knows what it is in.
struct Lent(Option<Object>);

impl Lent {
    async fn from(pool: &Pool) -> Result<Self, LedgerError> {
        Ok(Self(Some(pool.get().await?)))
    }

    /// The connection.
    fn client(&mut self) -> Result<&mut Object, LedgerError> {
        self.0.as_mut().ok_or_else(failure::closed)
    }

    /// Gives it back after what was done with it.
    fn end<T>(mut self, done: &Result<T, LedgerError>) {
        if !matches!(done, Err(LedgerError::Unavailable(_) | LedgerError::Corrupt { .. })) {
            drop(self.0.take());
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        drop(self.0.take().map(Object::take));
    }
}

#[cfg(test)]
mod tests;
