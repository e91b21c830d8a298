//! Checkpoints: one signed hash over all heads of the books at an instant.
//!
//! Whoever keeps a checkpoint can prove later that nothing before it has changed ([`super::audit`] with it), however
//! able he is who changed the books and computed all their hashes anew: he would have to sign another checkpoint under
//! the same key, and whoever has the first would see two.
//!
//! # What is signed
//!
//! Ed25519 (RFC 8032) over the words `overfall checkpoint 1`, a line feed, and the checkpoint as compact JSON with its
//! members in the order in which they stand here. The root is that of a Merkle tree as in RFC 6962, with a leaf for the
//! newest link of each account's records and, behind it, for the newest hash of each of its balances.

use std::collections::HashMap;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ledger::LedgerError;
use crate::ledger::books::{BookedHead, BookedStanding, Books, Extent};
use crate::ledger::chain;
use crate::units::{AccountId, PolicyVersion, Seq, Timestamp, UserId};

pub mod tree;

use tree::Tree;

/// The grammar of the file.
const VERSION: u32 = 1;
/// Accounts whose heads are read together.
const PAGE: u32 = 10_000;
/// What every signature is over first.
const PURPOSE: &str = "overfall checkpoint 1\n";

/// All heads of the books at an instant, as one hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// 1.
    pub version: u32,
    /// When it was taken, in milliseconds since 1970 UTC.
    pub at: Timestamp,
    /// The newest usage event then, by its place in the books.
    pub usage_events: i64,
    /// The newest of the other records.
    pub records: i64,
    /// The newest balance update.
    pub balance_updates: i64,
    /// How many leaves the tree has.
    pub leaves: u64,
    /// The root of the tree over them, in hexadecimal.
    pub root: String,
    /// The policy snapshots then.
    pub policies: Vec<PolicyMark>,
}

/// A policy snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyMark {
    /// Its version, as decisions name it.
    pub version: String,
    /// The SHA-256 of its text, in hexadecimal.
    pub sha256: String,
}

/// A checkpoint and who signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// The public key that it was signed under, in hexadecimal.
    pub key: String,
    /// The signature, in hexadecimal.
    pub signature: String,
}

/// Why a checkpoint is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// It is of a version that this program does not know.
    #[error("the checkpoint is of a version that this program does not know")]
    Version,
    /// Key or signature are not hexadecimal.
    #[error("the key or signature of the checkpoint is not hexadecimal")]
    Hex,
    /// It names another key than the one that is trusted.
    #[error("the checkpoint is signed under another key")]
    Key,
    /// The signature is not one of this checkpoint under this key.
    #[error("the signature of the checkpoint is not right")]
    Signature,
}

impl Checkpoint {
    /// Takes one of the books as they are, at `at`.
    pub fn take(books: &dyn Books, at: Timestamp) -> Result<Self, LedgerError> {
        let mut tree = Tree::default();
        each_leaf(books, &mut |leaf| tree.push(leaf.hash(), None))?;
        let Extent { events, records, updates } = books.extent()?;
        Ok(Self {
            version: VERSION,
            at,
            usage_events: events,
            records,
            balance_updates: updates,
            leaves: tree.len(),
            root: hex::encode(tree.finish().root),
            policies: policies(books)?,
        })
    }

    /// Signs it.
    pub fn sign(self, key: &Ed25519KeyPair) -> Signed {
        let signature = hex::encode(key.sign(&self.signed_bytes()));
        Signed { checkpoint: self, key: hex::encode(key.public_key()), signature }
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = PURPOSE.as_bytes().to_vec();
        // Writing plain values into memory cannot fail; an empty text would be no checkpoint's.
        bytes.extend(serde_json::to_vec(self).unwrap_or_default());
        bytes
    }

    /// How far the books went then.
    pub const fn extent(&self) -> Extent {
        Extent { events: self.usage_events, records: self.records, updates: self.balance_updates }
    }
}

impl Signed {
    /// Checks the signature; under `trusted`, a public key in hexadecimal, where one is given.
    pub fn verify(&self, trusted: Option<&str>) -> Result<&Checkpoint, Untrusted> {
        if self.checkpoint.version != VERSION {
            return Err(Untrusted::Version);
        }
        if trusted.is_some_and(|trusted| !trusted.trim().eq_ignore_ascii_case(&self.key)) {
            return Err(Untrusted::Key);
        }
        let key = hex::decode(&self.key).map_err(|_| Untrusted::Hex)?;
        let signature = hex::decode(&self.signature).map_err(|_| Untrusted::Hex)?;
        let verified =
            UnparsedPublicKey::new(&ED25519, key).verify(&self.checkpoint.signed_bytes(), &signature);
        verified.map_err(|_| Untrusted::Signature)?;
        Ok(&self.checkpoint)
    }
}

/// A leaf of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf<'a> {
    /// The newest record of an account.
    Account {
        /// Which.
        account: AccountId,
        /// The record's place.
        seq: Seq,
        /// Its link.
        link: [u8; 32],
    },
    /// The newest update of a balance.
    Balance {
        /// Who pays.
        account: AccountId,
        /// Whose it is, where it is a user's.
        user: Option<UserId>,
        /// Its name.
        name: &'a str,
        /// The update's hash.
        hash: [u8; 32],
    },
}

impl Leaf<'_> {
    /// Its hash: SHA-256 over a zero, `a` or `b`, and its parts: ids as 16 bytes, whether there is a user as one byte,
    /// the seq as 8, the name behind its length in one byte.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        match self {
            Self::Account { account, seq, link } => {
                hash.update([0, b'a']);
                hash.update(account.as_bytes());
                hash.update(seq.0.to_be_bytes());
                hash.update(link);
            }
            Self::Balance { account, user, name, hash: newest } => {
                hash.update([0, b'b']);
                hash.update(account.as_bytes());
                hash.update([u8::from(user.is_some())]);
                hash.update(user.map_or([0; 16], |user| *user.as_bytes()));
                hash.update([u8::try_from(name.len()).unwrap_or(u8::MAX)]);
                hash.update(name.as_bytes());
                hash.update(newest);
            }
        }
        hash.finalize().into()
    }
}

/// Tells every leaf of the books as they are, in their order.
pub(super) fn each_leaf(books: &dyn Books, visit: &mut dyn FnMut(Leaf<'_>)) -> Result<(), LedgerError> {
    let mut after = None;
    loop {
        let heads = books.heads(after, PAGE)?;
        let Some(last) = heads.last().map(|head| head.account) else { return Ok(()) };
        let mut of_account: HashMap<AccountId, Vec<BookedStanding>> = HashMap::new();
        books.balances(after, Some(last), &mut |balance| {
            of_account.entry(balance.account).or_default().push(balance);
        })?;
        for head in &heads {
            leaves_of(head, of_account.get(&head.account).map_or(&[][..], |all| all), visit);
        }
        after = Some(last);
    }
}

/// The leaves of an account. What was booked before there was a chain has none.
fn leaves_of(head: &BookedHead, balances: &[BookedStanding], visit: &mut dyn FnMut(Leaf<'_>)) {
    if let Some(link) = head.hash {
        visit(Leaf::Account { account: head.account, seq: head.seq, link });
    }
    for balance in balances.iter().filter(|balance| balance.hash != chain::START) {
        let BookedStanding { account, user, ref name, hash, .. } = *balance;
        visit(Leaf::Balance { account, user, name, hash });
    }
}

fn policies(books: &dyn Books) -> Result<Vec<PolicyMark>, LedgerError> {
    let mut marks = Vec::new();
    books.policies(&mut |version, text| marks.push(mark(version, text)))?;
    Ok(marks)
}

/// A policy snapshot as checkpoints name it.
pub(super) fn mark(version: PolicyVersion, text: &str) -> PolicyMark {
    PolicyMark { version: version.to_string(), sha256: hex::encode(Sha256::digest(text)) }
}

#[cfg(test)]
mod tests;
