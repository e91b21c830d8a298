//! What the operator's API shows. Amounts of credits are decimal strings, instants RFC 3339.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::record::{AdjustmentRecord, GrantOrigin};
use crate::ledger::rows::{
    AccountRow, AccountStatus, BalanceUpdateRow, GrantRow, KeyRow, RefundRow, UpdateKind, UserRow,
};
use crate::units::Timestamp;

/// A page of a list.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct Items<T> {
    /// What is on it. A full page may have a next one, after its last id.
    pub(crate) items: Vec<T>,
}

impl<T> Items<T> {
    pub(super) fn of(items: impl Iterator<Item = T>) -> Self {
        Self { items: items.collect() }
    }
}

/// An account.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct AccountView {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) plan: String,
    #[schema(value_type = String)]
    pub(crate) status: AccountStatus,
    pub(crate) created_at: String,
}

impl AccountView {
    pub(super) fn of(row: &AccountRow) -> Self {
        Self {
            id: row.id.to_string(),
            name: row.name.to_string(),
            plan: row.plan.to_string(),
            status: row.status,
            created_at: row.created_at.to_string(),
        }
    }
}

/// A user.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct UserView {
    pub(crate) id: String,
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) created_at: String,
}

impl UserView {
    pub(super) fn of(row: &UserRow) -> Self {
        Self {
            id: row.id.to_string(),
            account: row.account.to_string(),
            name: row.name.to_string(),
            created_at: row.created_at.to_string(),
        }
    }
}

/// A key. The key itself is shown once, when it is made.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct KeyView {
    pub(crate) id: String,
    pub(crate) account: String,
    pub(crate) user: String,
    /// The beginning of the key.
    pub(crate) hint: String,
    pub(crate) created_at: String,
    pub(crate) expires_at: Option<String>,
    pub(crate) revoked_at: Option<String>,
    /// The key, in the answer that makes it only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
}

impl KeyView {
    pub(super) fn of(row: &KeyRow) -> Self {
        Self {
            id: row.id.to_string(),
            account: row.account.to_string(),
            user: row.user.to_string(),
            hint: row.hint.to_string(),
            created_at: row.created_at.to_string(),
            expires_at: instant(row.expires_at),
            revoked_at: instant(row.revoked_at),
            key: None,
        }
    }
}

/// A grant.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct GrantView {
    pub(crate) id: String,
    pub(crate) account: String,
    pub(crate) user: Option<String>,
    pub(crate) balance: String,
    pub(crate) amount: String,
    pub(crate) remaining: String,
    pub(crate) priority: u16,
    pub(crate) expires_at: Option<String>,
    pub(crate) granted_at: String,
    /// `operator` or `issue`.
    pub(crate) origin: String,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) note: Option<String>,
}

impl GrantView {
    pub(super) fn of(row: &GrantRow) -> Self {
        let (origin, key, note) = match &row.origin {
            GrantOrigin::Operator { idempotency_key, note } => {
                ("operator", Some(idempotency_key), note.as_ref())
            }
            GrantOrigin::Issue { .. } => ("issue", None, None),
        };
        Self {
            id: row.grant.to_string(),
            account: row.account.to_string(),
            user: row.user.map(|user| user.to_string()),
            balance: row.balance.to_string(),
            amount: row.amount.to_string(),
            remaining: row.remaining.to_string(),
            priority: row.priority,
            expires_at: instant(row.expires_at),
            granted_at: row.granted_at.to_string(),
            origin: origin.to_owned(),
            idempotency_key: key.map(ToString::to_string),
            note: note.map(ToString::to_string),
        }
    }
}

/// A balance update.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct BalanceUpdateView {
    /// Its place in the books: pages go on before it.
    pub(crate) place: i64,
    pub(crate) user: Option<String>,
    pub(crate) balance: String,
    #[schema(value_type = String)]
    pub(crate) kind: UpdateKind,
    pub(crate) cause: String,
    pub(crate) grant: Option<String>,
    pub(crate) amount: String,
    pub(crate) before: String,
    pub(crate) after: String,
    pub(crate) at: String,
    pub(crate) hash: String,
}

impl BalanceUpdateView {
    pub(super) fn of(row: &BalanceUpdateRow) -> Self {
        Self {
            place: row.place,
            user: row.user.map(|user| user.to_string()),
            balance: row.balance.to_string(),
            kind: row.kind,
            cause: row.cause.to_string(),
            grant: row.grant.map(|grant| grant.to_string()),
            amount: row.amount.to_string(),
            before: row.before.to_string(),
            after: row.after.to_string(),
            at: row.at.to_string(),
            hash: hex::encode(row.hash),
        }
    }
}

/// A change of a balance by an operator.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct AdjustmentView {
    pub(crate) id: String,
    pub(crate) account: String,
    pub(crate) user: Option<String>,
    pub(crate) balance: String,
    /// The grant; none where it is what the balance owes.
    pub(crate) grant: Option<String>,
    /// How many credits were added; with a minus, how many were taken out.
    pub(crate) amount: String,
    /// How much of what was added paid a debt at once.
    pub(crate) repaid: String,
    pub(crate) at: String,
    pub(crate) idempotency_key: String,
    pub(crate) reason: String,
}

impl AdjustmentView {
    pub(super) fn of(record: &AdjustmentRecord) -> Self {
        Self {
            id: record.id.to_string(),
            account: record.account.to_string(),
            user: record.user.map(|user| user.to_string()),
            balance: record.balance.to_string(),
            grant: record.grant.map(|grant| grant.to_string()),
            amount: record.amount.to_string(),
            repaid: record.repaid.to_string(),
            at: record.adjusted_at.to_string(),
            idempotency_key: record.idempotency_key.to_string(),
            reason: record.reason.to_string(),
        }
    }
}

/// A part of a charge that was given back.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct RefundView {
    pub(crate) id: String,
    pub(crate) account: String,
    pub(crate) decision: String,
    /// The revision of the call's money.
    pub(crate) revision: u32,
    pub(crate) amount: String,
    /// What is charged since then.
    pub(crate) charged: String,
    pub(crate) at: String,
    pub(crate) idempotency_key: String,
    pub(crate) reason: String,
}

impl RefundView {
    pub(super) fn of(row: &RefundRow) -> Self {
        Self {
            id: row.id.to_string(),
            account: row.account.to_string(),
            decision: row.decision.to_string(),
            revision: row.revision,
            amount: row.amount.to_string(),
            charged: row.charged.to_string(),
            at: row.refunded_at.to_string(),
            idempotency_key: row.idempotency_key.to_string(),
            reason: row.reason.to_string(),
        }
    }
}

fn instant(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}
