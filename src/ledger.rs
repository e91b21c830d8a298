//! The ledger: the books, and the directory of who may call.
//!
//! A small port of domain verbs. One machine keeps the books in SQLite (`sqlite`); nothing outside this folder knows
//! which store it is. Settlement never decides: what is drawn stands in each record, and a ledger books it.
//!
//! # Contract of every implementation
//!
//! - **Atomic**: [`Ledger::apply`] books a batch in one transaction with the balances and counters it changes. After an
//!   error nothing of the batch is booked.
//! - **Idempotent** (I7): a record whose `seq` the account has passed is compared with what is booked. The same is a
//!   no-op; other content is a conflict, counted and left out, with an alarm; so is a record that does not add up or
//!   names what is not there. A record that does not follow is a gap: it and the account's later ones wait.
//! - **Durable** (I10): what was answered with `Ok` survives the loss of the process and of power.
//! - **Append-only**: the database itself refuses updates and deletes of events and balance updates.
//! - **Cancel-safe**: dropping a future leaves it unknown whether it was done; do it again.

pub mod books;
pub mod chain;
#[cfg(test)]
pub(crate) mod conformance;
pub mod directory;
pub mod posting;
pub mod recorded;
pub mod rows;
#[cfg(test)]
pub(crate) mod samples;
pub mod sqlite;
pub mod text;

use async_trait::async_trait;

use crate::access::record::{AdjustmentRecord, JobRecord, Record};
use crate::units::{AccountId, DecisionId, GrantId, KeyId, OrderId, PolicyVersion, Timestamp, UserId};
use rows::{
    AccountRow, Applied, BalanceUpdateRow, BlockRow, DecisionRow, GrantRow, KeyRow, Page, RefundRow,
    Restored, UserRow,
};

/// Why the ledger could not do a thing.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It does not answer now, and may later: busy, full, read-only, gone.
    #[error("the ledger is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What it holds is not what it wrote.
    #[error("the ledger is damaged: {what}")]
    Corrupt {
        /// What is wrong, and where.
        what: String,
    },
    /// A name or id that is taken.
    #[error("{what} exists already")]
    Exists {
        /// Which.
        what: String,
    },
    /// A name or id that does not exist.
    #[error("{what} does not exist")]
    Missing {
        /// Which.
        what: String,
    },
}

/// The books and the directory.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Books records in the order given, which is the order of `seq` within each account. Holds are booked as what they
    /// issue, jobs and what was made as whose their resource is (the first who made it stays), nothing else.
    async fn apply(&self, batch: Vec<Record>) -> Result<Applied, LedgerError>;

    /// Tells everything that live state is made of, as of one instant.
    async fn restore(&self, visit: &mut (dyn FnMut(Restored) + Send)) -> Result<(), LedgerError>;

    /// Keeps the text of a policy under its version. Again is a no-op.
    async fn keep_policy(&self, version: PolicyVersion, text: &str) -> Result<(), LedgerError>;
    /// The text of a policy version.
    async fn policy(&self, version: PolicyVersion) -> Result<Option<String>, LedgerError>;

    /// Adds an account. Its name is its own.
    async fn add_account(&self, account: &AccountRow) -> Result<(), LedgerError>;
    /// Replaces an account's name, plan and status.
    async fn change_account(&self, account: &AccountRow) -> Result<(), LedgerError>;
    /// Adds a user to an account. Its name is its own within the account.
    async fn add_user(&self, user: &UserRow) -> Result<(), LedgerError>;
    /// Adds a key to a user.
    async fn add_key(&self, key: &KeyRow) -> Result<(), LedgerError>;
    /// Marks a key as revoked. Again is a no-op.
    async fn revoke_key(&self, key: KeyId, at: Timestamp) -> Result<(), LedgerError>;

    /// Accounts in the order of their ids, after one.
    async fn accounts(&self, after: Option<AccountId>, page: Page) -> Result<Vec<AccountRow>, LedgerError>;
    /// An account by its id or its name.
    async fn find_account(&self, id_or_name: &str) -> Result<Option<AccountRow>, LedgerError>;
    /// A user of an account by its id or its name.
    async fn find_user(&self, account: AccountId, id_or_name: &str) -> Result<Option<UserRow>, LedgerError>;
    /// Users of an account in the order of their ids, after one.
    async fn users(
        &self,
        account: AccountId,
        after: Option<UserId>,
        page: Page,
    ) -> Result<Vec<UserRow>, LedgerError>;
    /// Keys of an account in the order of their ids, after one. Hashes only.
    async fn keys(
        &self,
        account: AccountId,
        after: Option<KeyId>,
        page: Page,
    ) -> Result<Vec<KeyRow>, LedgerError>;

    /// A booked grant.
    async fn grant(&self, grant: GrantId) -> Result<Option<GrantRow>, LedgerError>;
    /// The grants of an account in the order they are drawn, spent ones included.
    async fn grants(&self, account: AccountId) -> Result<Vec<GrantRow>, LedgerError>;
    /// The balance updates of an account, newest first, before the place of one of them.
    async fn balance_updates(
        &self,
        account: AccountId,
        before: Option<i64>,
        page: Page,
    ) -> Result<Vec<BalanceUpdateRow>, LedgerError>;

    /// A booked adjustment.
    async fn adjustment(&self, order: OrderId) -> Result<Option<AdjustmentRecord>, LedgerError>;
    /// The adjustments of an account, in the order in which they were made.
    async fn adjustments(&self, account: AccountId) -> Result<Vec<AdjustmentRecord>, LedgerError>;
    /// A booked refund.
    async fn refund(&self, order: OrderId) -> Result<Option<RefundRow>, LedgerError>;

    /// A booked decision.
    async fn decision(&self, decision: DecisionId) -> Result<Option<DecisionRow>, LedgerError>;
    /// The booked decisions of an account, newest first, before one.
    async fn decisions(
        &self,
        account: AccountId,
        before: Option<DecisionId>,
        page: Page,
    ) -> Result<Vec<DecisionRow>, LedgerError>;

    /// Whose a thing made upstream is.
    async fn owner_of(&self, resource: &str) -> Result<Option<rows::Owner>, LedgerError>;
    /// The videos that a user has made, in the order in which they were made, from a place on.
    async fn videos_of(
        &self,
        user: UserId,
        from: rows::VideosFrom,
        page: Page,
    ) -> Result<Vec<(std::sync::Arc<str>, Timestamp)>, LedgerError>;
    /// Forgets a thing that was deleted upstream.
    async fn disown(&self, resource: &str) -> Result<(), LedgerError>;
    /// Forgets whose things are that were made before an instant: the oldest, at most `most`, together. What an open job
    /// makes stays, and so do all books. Tells how many it were; fewer than `most`: there are no more.
    async fn forget_made(&self, before: Timestamp, most: Page) -> Result<u64, LedgerError>;
    /// The jobs that their deadline has ended since an instant and that no truth has corrected and no operator has paid
    /// back, newest first; their end
    /// is their `expires_at`. What was deleted or forgotten is not among them.
    async fn late_jobs(&self, since: Timestamp, page: Page) -> Result<Vec<JobRecord>, LedgerError>;

    /// Adds blocks to the decision log, which keeps the newest `keep`. Never part of the books.
    async fn log_blocks(&self, blocks: Vec<BlockRow>, keep: u64) -> Result<(), LedgerError>;
    /// A logged block.
    async fn block(&self, decision: DecisionId) -> Result<Option<BlockRow>, LedgerError>;
    /// The logged blocks of an account, newest first, before one.
    async fn blocks(
        &self,
        account: AccountId,
        before: Option<DecisionId>,
        page: Page,
    ) -> Result<Vec<BlockRow>, LedgerError>;
}
