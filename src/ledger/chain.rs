//! The hash chains: of an account's records ([`rows`]), and of a balance, here. Every update of a balance names the one
//! before it, so that none can be changed, left out or moved without changing the hash of all that follow, up to the one
//! that the balance keeps.
//!
//! # Layout
//!
//! SHA-256 over the hash of the update before it on the same balance (zeros before the first) and the SHA-256 of what
//! the update says, so that a chain can be shown without showing its updates. That is, in this order, integers big
//! endian:
//!
//! | bytes | what |
//! |---|---|
//! | 16 | the account |
//! | 1 + 16 | 1 and the user; 0 and zeros where the balance is the account's own |
//! | 1 + n | the balance's name behind its length |
//! | 8 | the record's seq |
//! | 1 | the kind: 0 grant, 1 debit, 2 refund, 3 expiry, 4 adjustment |
//! | 1 + 16 | the cause: 0 a decision, 1 a grant, 2 an adjustment, and its id |
//! | 1 + 16 | 1 and the grant it touches; 0 and zeros where it touches the debt |
//! | 8 + 8 + 8 | amount, before, after, in micro-credits, two's complement |
//! | 8 | the instant, in milliseconds since 1970 UTC |

pub mod rows;

use sha2::{Digest, Sha256};

use super::rows::{Cause, UpdateKind};
use crate::units::{AccountId, GrantId, Seq, SignedCredits, Timestamp, UserId};

/// The hash before the first update of a balance.
pub const START: [u8; 32] = [0; 32];

const NO_ID: [u8; 16] = [0; 16];

/// What is hashed of an update, beside the hash before it.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// Who pays.
    pub account: AccountId,
    /// Whose balance, where it is a user's.
    pub user: Option<UserId>,
    /// The balance.
    pub balance: &'a str,
    /// The record's place.
    pub seq: Seq,
    /// Why.
    pub kind: UpdateKind,
    /// What caused it.
    pub cause: Cause,
    /// The grant it touches; none where it touches the debt.
    pub grant: Option<GrantId>,
    /// How much.
    pub amount: SignedCredits,
    /// What the balance stood at before it.
    pub before: SignedCredits,
    /// What it stood at after it.
    pub after: SignedCredits,
    /// When.
    pub at: Timestamp,
}

impl Link<'_> {
    /// The hash of this update behind `previous`.
    pub fn hash(&self, previous: &[u8; 32]) -> [u8; 32] {
        rows::link(previous, &self.content())
    }

    /// The hash of what it says.
    pub fn content(&self) -> [u8; 32] {
        let name = self.balance.as_bytes();
        let mut bytes = smallvec::SmallVec::<[u8; 256]>::new();
        bytes.extend_from_slice(self.account.as_bytes());
        bytes.push(u8::from(self.user.is_some()));
        bytes.extend_from_slice(&self.user.map_or(NO_ID, |user| *user.as_bytes()));
        bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&self.seq.0.to_be_bytes());
        bytes.push(kind_byte(self.kind));
        bytes.push(match self.cause {
            Cause::Decision(_) => 0,
            Cause::Grant(_) => 1,
            Cause::Adjustment(_) => 2,
        });
        bytes.extend_from_slice(self.cause.as_bytes());
        bytes.push(u8::from(self.grant.is_some()));
        bytes.extend_from_slice(&self.grant.map_or(NO_ID, |grant| *grant.as_bytes()));
        for amount in [self.amount, self.before, self.after] {
            bytes.extend_from_slice(&amount.micros().to_be_bytes());
        }
        bytes.extend_from_slice(&self.at.ms().to_be_bytes());
        Sha256::digest(&bytes).into()
    }
}

const fn kind_byte(kind: UpdateKind) -> u8 {
    match kind {
        UpdateKind::Grant => 0,
        UpdateKind::Debit => 1,
        UpdateKind::Refund => 2,
        UpdateKind::Expiry => 3,
        UpdateKind::Adjustment => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{DecisionId, OrderId};

    fn link() -> Link<'static> {
        Link {
            account: AccountId::from_bytes([1; 16]),
            user: None,
            balance: "wallet",
            seq: Seq(7),
            kind: UpdateKind::Debit,
            cause: Cause::Decision(DecisionId::from_bytes([2; 16])),
            grant: Some(GrantId::from_bytes([3; 16])),
            amount: SignedCredits::from_micros(-5).unwrap(),
            before: SignedCredits::from_micros(9).unwrap(),
            after: SignedCredits::from_micros(4).unwrap(),
            at: Timestamp::from_ms(1_000),
        }
    }

    #[test]
    fn the_layout_never_changes() {
        let hash = link().hash(&START);
        insta::assert_snapshot!(hex::encode(hash), @"a19a524dcc5f2b7f10046c3c666b3b8f3ddf05e89ed07a091c521e4564aeb791");
    }

    #[test]
    fn every_part_of_an_update_is_in_its_hash() {
        let other = SignedCredits::from_micros(77).unwrap();
        let changed = [
            Link { account: AccountId::MIN, ..link() },
            Link { user: Some(UserId::MIN), ..link() },
            Link { balance: "walle", ..link() },
            Link { seq: Seq(8), ..link() },
            Link { kind: UpdateKind::Refund, ..link() },
            Link { cause: Cause::Decision(DecisionId::MIN), ..link() },
            Link { cause: Cause::Grant(GrantId::from_bytes([2; 16])), ..link() },
            Link { cause: Cause::Adjustment(OrderId::from_bytes([2; 16])), ..link() },
            Link { grant: None, ..link() },
            Link { grant: Some(GrantId::MIN), ..link() },
            Link { amount: other, ..link() },
            Link { before: other, ..link() },
            Link { after: other, ..link() },
            Link { at: Timestamp::from_ms(1_001), ..link() },
        ];
        let mut seen: Vec<_> = changed.iter().map(|link| link.hash(&START)).collect();
        seen.extend([link().hash(&START), link().hash(&[1; 32])]);
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
