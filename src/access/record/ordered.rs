//! Records of what an operator ordered to set the books right.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::CorrectionRecord;
use crate::policy::compiled::Name;
use crate::units::{AccountId, Credits, GrantId, OrderId, Seq, SignedCredits, Timestamp, UserId};

/// The next revision of a call's money, because an operator ordered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionRecord {
    /// The revision.
    pub correction: CorrectionRecord,
    /// The part of `charge.forgiven` that operators have given back, by this revision and those before.
    pub refunded: Credits,
    /// What was ordered.
    pub order: RevisionOrder,
}

/// What an operator ordered of a call's money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RevisionOrder {
    /// To give back a part of what was charged.
    Refund {
        /// The same for a repeated order.
        id: OrderId,
        /// What the operator made it the same by.
        idempotency_key: Arc<str>,
        /// What the operator wrote about it.
        reason: Arc<str>,
    },
    /// To price it by another policy.
    Rerate {
        /// What the operator wrote about it.
        reason: Arc<str>,
    },
}

impl RevisionOrder {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Refund { .. } => "refund",
            Self::Rerate { .. } => "rerate",
        }
    }

    /// What the operator wrote about it.
    pub const fn reason(&self) -> &Arc<str> {
        match self {
            Self::Refund { reason, .. } | Self::Rerate { reason } => reason,
        }
    }

    /// What makes a refund the same; a price is the same by its policy.
    pub const fn key(&self) -> Option<(OrderId, &Arc<str>)> {
        match self {
            Self::Refund { id, idempotency_key, .. } => Some((*id, idempotency_key)),
            Self::Rerate { .. } => None,
        }
    }
}

/// A change of what is left of a grant, or of what a balance owes, because an operator ordered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdjustmentRecord {
    /// Its place in the account's sequence.
    pub seq: Seq,
    /// The same for a repeated order.
    pub id: OrderId,
    /// Who pays.
    pub account: AccountId,
    /// Whose balance, where it is a user's.
    pub user: Option<UserId>,
    /// The balance.
    pub balance: Name,
    /// The grant; none where it is what the balance owes.
    pub grant: Option<GrantId>,
    /// How much is added to the balance; below zero, how much is taken out.
    pub amount: SignedCredits,
    /// How much of what is added to a grant paid a debt at once.
    pub repaid: Credits,
    /// The grant's priority, since one that was spent is not at hand any more; 0 of a debt.
    pub priority: u16,
    /// When the grant expires.
    pub expires_at: Option<Timestamp>,
    /// When it was adjusted.
    pub adjusted_at: Timestamp,
    /// What the operator made it the same by.
    pub idempotency_key: Arc<str>,
    /// What the operator wrote about it.
    pub reason: Arc<str>,
}
