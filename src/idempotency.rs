//! Idempotency keys: which calls carry one, and what they were answered, so that asking again costs nothing again.
//!
//! A client that did not hear its answer asks again with the same key. It gets the answer that was given, or hears why
//! it cannot; it never pays twice without being told. [`state`] decides what a key stands for, and knows no store;
//! [`Answers`] is the port of what is kept, and [`sqlite`] keeps it in a file of its own beside the ledger: what is
//! kept here is no book, ends by itself, and must not make the books wait.
//!
//! # Contract of every implementation
//!
//! - **Atomic**: of two claims on one key at most one is [`Claimed::Taken`].
//! - **Durable** (I10): a key that was taken survives the loss of the process, and of power with `durability: strict`.
//!   So a call whose hold can be found after a crash has a key that can be found.
//! - **In order**: an end is seen by every later claim.
//! - **First end wins**: what ends a key is the decision that took it, once; all else is a no-op.
//! - **Cancel-safe**: dropping a claim's future leaves it unknown whether the key was taken; end it.

pub mod sqlite;
pub mod state;

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use crate::units::{AccountId, DecisionId, Span, Timestamp, UserId};
pub use state::Why;

/// A key as its user chose it: the same word of another user is another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScopedKey([u8; 16]);

/// What a request says, in so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// A request with a key, before it is decided.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The key.
    pub key: ScopedKey,
    /// What is asked.
    pub fingerprint: Fingerprint,
    /// The decision that it is going to be.
    pub decision: DecisionId,
    /// Who would pay.
    pub account: AccountId,
    /// Now.
    pub at: Timestamp,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claimed {
    /// The key is this call's, durably.
    Taken,
    /// It was answered before, by this decision, with so many bytes.
    Answered(DecisionId, u64),
    /// It cannot go on, because of this decision.
    Refused(DecisionId, Why),
}

/// An answer as it is kept.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Its headers, as lines that each end with a line feed.
    pub head: Vec<u8>,
    /// Its whole body.
    pub body: Bytes,
    /// Its place in bounded memory, while it is there.
    pub room: Option<OwnedSemaphorePermit>,
}

/// How a call with a key ended.
#[derive(Debug)]
pub enum End {
    /// It charged nothing: the key is free again.
    Free,
    /// It was answered whole.
    Answered(Answer),
    /// It was answered whole, and the answer is not kept.
    NotKept,
    /// It ended without an answer, and may have been charged.
    Unanswered,
}

/// The end of a call with a key.
#[derive(Debug)]
pub struct Ended {
    /// The key.
    pub key: ScopedKey,
    /// The decision that took it.
    pub decision: DecisionId,
    /// How it ended.
    pub end: End,
    /// Its place among the calls that have a key, until the end is written.
    pub place: Option<OwnedSemaphorePermit>,
}

/// A call that was under way when the gateway died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// Its key.
    pub key: ScopedKey,
    /// Its decision.
    pub decision: DecisionId,
    /// Who pays.
    pub account: AccountId,
}

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long after its claim a key is known.
    pub keep: Span,
    /// The largest body of one answer, in bytes.
    pub answer_bytes: u64,
    /// All answers together, in bytes.
    pub total_bytes: u64,
}

/// Why a key could not be looked up or taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AnswersError {
    /// The store does not answer, and may later: full, read-only, gone.
    #[error("the store of answers is not available")]
    Unavailable(#[source] std::sync::Arc<dyn std::error::Error + Send + Sync>),
    /// Its thread has ended.
    #[error("the store of answers is closed")]
    Closed,
}

/// What is known of keys.
#[async_trait]
pub trait Answers: Send + Sync + 'static {
    /// Takes a key, where it is free.
    async fn claim(&self, claim: Claim) -> Result<Claimed, AnswersError>;

    /// The answer of a decision. `None`: it has gone since the claim.
    async fn answer(&self, key: ScopedKey, decision: DecisionId) -> Result<Option<Answer>, AnswersError>;

    /// Notes the end of a call with a key. Waits for nothing: a store that cannot write now does it later, and keeps the
    /// end without its answer until then.
    fn end(&self, ended: Ended);

    /// The calls that were under way when the gateway died. Their keys stay taken until they are ended.
    async fn interrupted(&self) -> Result<Vec<Interrupted>, AnswersError>;
}

impl ScopedKey {
    /// The key of this user by that name.
    pub fn new(user: UserId, name: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(user.as_bytes()).chain_update(name).finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        Self(key)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl Fingerprint {
    /// From the 32 bytes of a hash.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { keep: Span::from_seconds(24 * 60 * 60), answer_bytes: 1 << 20, total_bytes: 1 << 30 }
    }
}

impl Limits {
    /// How many keys are known: one for each KiB of all answers.
    pub const fn keys_max(&self) -> u64 {
        self.total_bytes / 1024
    }
}
