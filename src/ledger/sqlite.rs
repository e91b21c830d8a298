//! The embedded ledger: one SQLite file, one thread that writes, a few connections that read.
//!
//! The file is plain SQL for anyone who may read it, also while the gateway runs; `schema/` says what stands where.
//!
//! # Failure
//!
//! A file that is busy, full, read-only or gone is [`LedgerError::Unavailable`], with the cause; the transaction is
//! rolled back, and later work opens the file again. Nothing is repaired and nothing is made anew on the way.
//!
//! # Bounds
//!
//! 64 pieces of work wait for the writer and 4 readers read; more callers wait. What the writer remembers is bounded
//! (`cache`), and so is the page cache of every connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::rows::{
    AccountRow, Applied, BalanceUpdateRow, BlockRow, DecisionRow, GrantRow, KeyRow, Owner, Page, RefundRow,
    Restored, UserRow, VideosFrom,
};
use super::{Ledger, LedgerError};
use crate::access::record::{AdjustmentRecord, JobRecord, Record};
use crate::units::{AccountId, DecisionId, GrantId, KeyId, OrderId, PolicyVersion, Timestamp, UserId};
use readers::Readers;
use writer::Writer;

mod apply;
mod blocks;
mod books;
mod cache;
mod columns;
mod connection;
mod directory;
mod failure;
mod history;
mod insert;
mod merge;
mod readers;
mod recorded;
mod resources;
mod restore;
mod state;
mod writer;

pub use books::SqliteBooks;
pub use connection::OpenError;

/// Portions of a restore that wait for the caller.
const RESTORE_QUEUE: usize = 4;

/// The ledger in one SQLite file.
pub struct SqliteLedger {
    writer: Writer,
    readers: Readers,
}

impl SqliteLedger {
    /// Opens the file, makes it where there is none, and brings its tables up to date.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = connection::create(path)?;
        let path: PathBuf = path.to_owned();
        Ok(Self { writer: Writer::start(path.clone(), connection)?, readers: Readers::new(path) })
    }

    /// Has the next write fail: undone, or though it is done.
    #[cfg(test)]
    pub(crate) fn fail_next(&self, done: bool) {
        self.writer.fail_next(done);
    }

    /// The same without threads: whoever asks for something does it.
    #[cfg(test)]
    pub(crate) fn open_here(path: &Path) -> Result<Self, OpenError> {
        let connection = connection::create(path)?;
        let path: PathBuf = path.to_owned();
        Ok(Self { writer: Writer::here(path.clone(), connection), readers: Readers::here(path) })
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn apply(&self, batch: Vec<Record>) -> Result<Applied, LedgerError> {
        self.writer.run(move |books| apply::apply(books, &batch)).await
    }

    async fn restore(&self, visit: &mut (dyn FnMut(Restored) + Send)) -> Result<(), LedgerError> {
        let (sender, mut receiver) = mpsc::channel(RESTORE_QUEUE);
        let reading =
            self.readers.run(move |connection| restore::restore(connection, restore::Teller::new(sender)));
        let visiting = async {
            while let Some(portion) = receiver.recv().await {
                portion.into_iter().for_each(&mut *visit);
            }
        };
        tokio::join!(reading, visiting).0
    }

    async fn keep_policy(&self, version: PolicyVersion, text: &str) -> Result<(), LedgerError> {
        let text = text.to_owned();
        self.writer.run(move |books| directory::keep_policy(books, version, &text)).await
    }

    async fn policy(&self, version: PolicyVersion) -> Result<Option<String>, LedgerError> {
        self.readers.run(move |connection| directory::policy(connection, version)).await
    }

    async fn add_account(&self, account: &AccountRow) -> Result<(), LedgerError> {
        let account = account.clone();
        self.writer.run(move |books| directory::add_account(books, &account)).await
    }

    async fn change_account(&self, account: &AccountRow) -> Result<(), LedgerError> {
        let account = account.clone();
        self.writer.run(move |books| directory::change_account(books, &account)).await
    }

    async fn add_user(&self, user: &UserRow) -> Result<(), LedgerError> {
        let user = user.clone();
        self.writer.run(move |books| directory::add_user(books, &user)).await
    }

    async fn add_key(&self, key: &KeyRow) -> Result<(), LedgerError> {
        let key = key.clone();
        self.writer.run(move |books| directory::add_key(books, &key)).await
    }

    async fn revoke_key(&self, key: KeyId, at: Timestamp) -> Result<(), LedgerError> {
        self.writer.run(move |books| directory::revoke_key(books, key, at)).await
    }

    async fn accounts(&self, after: Option<AccountId>, page: Page) -> Result<Vec<AccountRow>, LedgerError> {
        self.readers.run(move |connection| directory::accounts(connection, after, page)).await
    }

    async fn find_account(&self, id_or_name: &str) -> Result<Option<AccountRow>, LedgerError> {
        let text = id_or_name.to_owned();
        self.readers.run(move |connection| directory::find_account(connection, &text)).await
    }

    async fn find_user(&self, account: AccountId, id_or_name: &str) -> Result<Option<UserRow>, LedgerError> {
        let text = id_or_name.to_owned();
        self.readers.run(move |connection| directory::find_user(connection, account, &text)).await
    }

    async fn users(
        &self,
        account: AccountId,
        after: Option<UserId>,
        page: Page,
    ) -> Result<Vec<UserRow>, LedgerError> {
        self.readers.run(move |connection| directory::users(connection, account, after, page)).await
    }

    async fn keys(
        &self,
        account: AccountId,
        after: Option<KeyId>,
        page: Page,
    ) -> Result<Vec<KeyRow>, LedgerError> {
        self.readers.run(move |connection| directory::keys(connection, account, after, page)).await
    }

    async fn grant(&self, grant: GrantId) -> Result<Option<GrantRow>, LedgerError> {
        self.readers.run(move |connection| history::grant(connection, grant)).await
    }

    async fn grants(&self, account: AccountId) -> Result<Vec<GrantRow>, LedgerError> {
        self.readers.run(move |connection| history::grants(connection, account)).await
    }

    async fn balance_updates(
        &self,
        account: AccountId,
        before: Option<i64>,
        page: Page,
    ) -> Result<Vec<BalanceUpdateRow>, LedgerError> {
        self.readers.run(move |connection| history::balance_updates(connection, account, before, page)).await
    }

    async fn adjustment(&self, order: OrderId) -> Result<Option<AdjustmentRecord>, LedgerError> {
        self.readers.run(move |connection| history::adjustment(connection, order)).await
    }

    async fn adjustments(&self, account: AccountId) -> Result<Vec<AdjustmentRecord>, LedgerError> {
        self.readers.run(move |connection| history::adjustments(connection, account)).await
    }

    async fn refund(&self, order: OrderId) -> Result<Option<RefundRow>, LedgerError> {
        self.readers.run(move |connection| history::refund(connection, order)).await
    }

    async fn decision(&self, decision: DecisionId) -> Result<Option<DecisionRow>, LedgerError> {
        self.readers.run(move |connection| history::decision(connection, decision)).await
    }

    async fn decisions(
        &self,
        account: AccountId,
        before: Option<DecisionId>,
        page: Page,
    ) -> Result<Vec<DecisionRow>, LedgerError> {
        self.readers.run(move |connection| history::decisions(connection, account, before, page)).await
    }

    async fn owner_of(&self, resource: &str) -> Result<Option<Owner>, LedgerError> {
        let resource = resource.to_owned();
        self.readers.run(move |connection| resources::owner_of(connection, &resource)).await
    }

    async fn videos_of(
        &self,
        user: UserId,
        from: VideosFrom,
        page: Page,
    ) -> Result<Vec<(Arc<str>, Timestamp)>, LedgerError> {
        self.readers.run(move |connection| resources::videos_of(connection, user, &from, page)).await
    }

    async fn disown(&self, resource: &str) -> Result<(), LedgerError> {
        let resource = resource.to_owned();
        self.writer.run(move |books| resources::disown(books, &resource)).await
    }

    async fn forget_made(&self, before: Timestamp, most: Page) -> Result<u64, LedgerError> {
        self.writer.run(move |books| resources::forget_made(books, before, most)).await
    }

    async fn late_jobs(&self, since: Timestamp, page: Page) -> Result<Vec<JobRecord>, LedgerError> {
        self.readers.run(move |connection| resources::late_jobs(connection, since, page)).await
    }

    async fn log_blocks(&self, blocks: Vec<BlockRow>, keep: u64) -> Result<(), LedgerError> {
        self.writer.run(move |books| blocks::log(books, &blocks, keep)).await
    }

    async fn block(&self, decision: DecisionId) -> Result<Option<BlockRow>, LedgerError> {
        self.readers.run(move |connection| blocks::block(connection, decision)).await
    }

    async fn blocks(
        &self,
        account: AccountId,
        before: Option<DecisionId>,
        page: Page,
    ) -> Result<Vec<BlockRow>, LedgerError> {
        self.readers.run(move |connection| blocks::blocks(connection, account, before, page)).await
    }
}

#[cfg(test)]
mod tests;
