//! Grants: what fills balances. Whoever sells credits calls this with an idempotency key.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use super::Operator;
use super::asked::Body;
use super::error::{ErrorBody, Refused};
use super::keys::{ahead, instant_of};
use super::views::{GrantView, Items};
use crate::access::GrantOrder;
use crate::access::balance::DEFAULT_PRIORITY;
use crate::access::record::{GrantOrigin, GrantRecord};
use crate::ledger::rows::{AccountRow, GrantRow};
use crate::policy::compiled::Scope;
use crate::units::{Credits, GrantId};

/// Credits to be granted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewGrant {
    /// A balance of the policy in force.
    balance: String,
    /// How many credits, as a decimal string.
    amount: String,
    /// The user, by id or name, for a balance of users.
    user: Option<String>,
    /// Lower is drawn first; 100 where none is said.
    priority: Option<u16>,
    /// RFC 3339.
    expires_at: Option<String>,
    /// For people; kept in the books.
    note: Option<String>,
    /// Makes the order idempotent; instead of the header.
    idempotency_key: Option<String>,
}

/// Grant credits. The header `Idempotency-Key` (or the member) makes a repeated order the same order: 201 when it is
/// made, 200 when it was made before, 409 when the key was used for another one
#[utoipa::path(post, path = "/admin/v1/accounts/{account}/grants", tag = "grants", request_body = NewGrant,
    params(("Idempotency-Key" = Option<String>, Header,)), responses(
    (status = 201, body = GrantView), (status = 200, body = GrantView), (status = 400, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(super) async fn grant(
    State(operator): State<Arc<Operator>>,
    Path(account): Path<String>,
    headers: HeaderMap,
    Body(new): Body<NewGrant>,
) -> Result<(StatusCode, Json<GrantView>), Refused> {
    let account = operator.account(&account).await?;
    let order = operator.order(&account, &headers, new).await?;
    let _one_at_a_time = operator.grant_order.lock().await;
    if let Some(known) = operator.known(&order).await? {
        let same = is_same(&known, &order);
        let conflict = || Refused::conflict("this idempotency key was used for another grant");
        return if same { Ok((StatusCode::OK, Json(GrantView::of(&known)))) } else { Err(conflict()) };
    }
    // Only now: an order that is repeated after its credits have expired is still the same order.
    if let Some(expires_at) = order.expires_at {
        ahead(expires_at, operator.clock.now())?;
    }
    let granted = operator.meter.grant(account.id, order).await?;
    let Some((record, ticket)) = granted else {
        return Err(Refused::conflict("this grant is being made right now; try again"));
    };
    ticket.await?;
    Ok((StatusCode::CREATED, Json(GrantView::of(&row_of(record)))))
}

/// List the grants of an account, in the order they are drawn
#[utoipa::path(get, path = "/admin/v1/accounts/{account}/grants", tag = "grants", responses(
    (status = 200, body = Items<GrantView>), (status = 404, body = ErrorBody)))]
pub(super) async fn list(
    State(operator): State<Arc<Operator>>,
    Path(account): Path<String>,
) -> Result<Json<Items<GrantView>>, Refused> {
    let account = operator.account(&account).await?;
    let rows = operator.ledger.grants(account.id).await?;
    Ok(Json(Items::of(rows.iter().map(GrantView::of))))
}

impl Operator {
    async fn order(
        &self,
        account: &AccountRow,
        headers: &HeaderMap,
        new: NewGrant,
    ) -> Result<GrantOrder, Refused> {
        let key = idempotency_key(headers, new.idempotency_key.as_deref())?;
        let policy = self.policies.current();
        let index = policy.balance(&new.balance);
        let index =
            index.ok_or_else(|| Refused::invalid(format!("the policy has no balance `{}`", new.balance)))?;
        let balance = &policy[index];
        let user = match (balance.per, &new.user) {
            (Scope::User, Some(user)) => Some(self.user(account, user).await?.id),
            (Scope::Account, None) => None,
            (Scope::User, None) => return Err(Refused::invalid("this balance is per user: name the user")),
            (Scope::Account, Some(_)) => {
                return Err(Refused::invalid("this balance is the account's: name no user"));
            }
        };
        let amount: Credits =
            new.amount.parse().map_err(|error| Refused::invalid(format!("amount: {error}")))?;
        if amount.is_zero() {
            return Err(Refused::invalid("amount: grant more than nothing"));
        }
        let origin =
            GrantOrigin::Operator { idempotency_key: key.as_str().into(), note: new.note.map(Into::into) };
        Ok(GrantOrder {
            grant: GrantId::derived(&[b"order", account.id.as_bytes(), key.as_bytes()]),
            user,
            balance: balance.name.clone(),
            key: balance.key,
            amount,
            priority: new.priority.unwrap_or(DEFAULT_PRIORITY),
            expires_at: new.expires_at.as_deref().map(instant_of).transpose()?,
            origin,
        })
    }

    /// The grant of an order that was made before, as the books have it.
    async fn known(&self, order: &GrantOrder) -> Result<Option<GrantRow>, Refused> {
        // On its way to the books: it is there within moments, unless the ledger is away.
        for _ in 0..50 {
            if let Some(row) = self.ledger.grant(order.grant).await? {
                return Ok(Some(row));
            }
            if !self.meter.is_granting(order.grant).await? {
                return Ok(self.ledger.grant(order.grant).await?);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Err(Refused::conflict("this grant is made and on its way to the books; ask again later"))
    }
}

fn is_same(known: &GrantRow, order: &GrantOrder) -> bool {
    (known.user, &known.balance, known.amount, known.priority, known.expires_at, &known.origin)
        == (order.user, &order.balance, order.amount, order.priority, order.expires_at, &order.origin)
}

fn row_of(record: GrantRecord) -> GrantRow {
    GrantRow {
        grant: record.grant,
        account: record.account,
        user: record.user,
        balance: record.balance,
        remaining: record.amount.saturating_sub(record.repaid),
        amount: record.amount,
        priority: record.priority,
        expires_at: record.expires_at,
        granted_at: record.granted_at,
        origin: record.origin,
    }
}

/// The key in the header, bare or as a structured-field string, or in the body.
pub(super) fn idempotency_key(headers: &HeaderMap, member: Option<&str>) -> Result<String, Refused> {
    let header = headers.get("idempotency-key").and_then(|value| value.to_str().ok());
    let key = header.map(|value| value.trim_matches('"')).or(member).unwrap_or_default();
    let fits = (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    let wanted = || Refused::invalid("send an Idempotency-Key of 1 to 255 visible ASCII characters");
    fits.then(|| key.to_owned()).ok_or_else(wanted)
}
