//! Adjustments of balances, and refunds of calls: each with a reason, and with a key that makes it the same order.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use super::Operator;
use super::asked::Body;
use super::error::{ErrorBody, Refused};
use super::grants::idempotency_key;
use super::views::{AdjustmentView, Items, RefundView};
use crate::access::record::AdjustmentRecord;
use crate::access::{Adjusted, AdjustmentOrder, RefundOrder, Revision};
use crate::ledger::rows::{AccountRow, DecisionRow, GrantRow, RefundRow};
use crate::meter::{Adjusting, Revised};
use crate::policy::compiled::{CounterKey, Scope};
use crate::settle::Truths;
use crate::settle::truths::booked;
use crate::units::{Credits, DecisionId, GrantId, OrderId, SignedCredits};

/// How often is looked for what is on its way to the books.
const LOOKS: u32 = 50;
const LOOKS_FOR_A_CALL: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes of a reason.
const REASON_MAX: usize = 1000;

/// A change of a balance. Name the grant, or the balance whose debt it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAdjustment {
    /// The grant, `grt_…`, of which there is to be more or less.
    grant: Option<String>,
    /// The balance of the policy whose debt is to be less or more.
    debt_of: Option<String>,
    /// The user, by id or name, for the debt of a balance of users.
    user: Option<String>,
    /// How many credits are added, as a decimal string; with a minus, how many are taken out.
    amount: String,
    /// Why; kept in the books.
    reason: String,
    /// Makes the order idempotent; instead of the header.
    idempotency_key: Option<String>,
}

/// A part of a charge to be given back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRefund {
    /// How many credits, as a decimal string; all that is charged where none is said.
    amount: Option<String>,
    /// Why; kept in the books.
    reason: String,
    /// Makes the order idempotent; instead of the header.
    idempotency_key: Option<String>,
}

/// Adjust a balance: more or less of a grant, or of what is owed. The header `Idempotency-Key` (or the member) makes a
/// repeated order the same order: 201 when it is made, 200 when it was made before, 409 when the key was used for another
#[utoipa::path(post, path = "/admin/v1/accounts/{account}/adjustments", tag = "corrections",
    request_body = NewAdjustment, params(("Idempotency-Key" = Option<String>, Header,)), responses(
    (status = 201, body = AdjustmentView), (status = 200, body = AdjustmentView), (status = 400, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(super) async fn adjust(
    State(operator): State<Arc<Operator>>,
    Path(account): Path<String>,
    headers: HeaderMap,
    Body(new): Body<NewAdjustment>,
) -> Result<(StatusCode, Json<AdjustmentView>), Refused> {
    let account = operator.account(&account).await?;
    let order = operator.adjustment(&account, &headers, new).await?;
    let _one_at_a_time = operator.grant_order.lock().await;
    operator.is_unused_by_refunds(order.id).await?;
    if let Some(known) = operator.known_adjustment(order.id).await? {
        let is_same = is_same(&known, &order);
        return if is_same { Ok((StatusCode::OK, Json(AdjustmentView::of(&known)))) } else { Err(reused()) };
    }
    match operator.meter.adjust(account.id, order).await? {
        Adjusting::Now(record, ticket) => {
            ticket.await?;
            metrics::counter!("overfall_adjustments_total").increment(1);
            Ok((StatusCode::CREATED, Json(AdjustmentView::of(&record))))
        }
        Adjusting::Behind => Err(on_its_way()),
        Adjusting::Not(why) => Err(Refused::invalid(why.to_string())),
    }
}

/// List the adjustments of an account, in the order in which they were made
#[utoipa::path(get, path = "/admin/v1/accounts/{account}/adjustments", tag = "corrections", responses(
    (status = 200, body = Items<AdjustmentView>), (status = 404, body = ErrorBody)))]
pub(super) async fn adjustments(
    State(operator): State<Arc<Operator>>,
    Path(account): Path<String>,
) -> Result<Json<Items<AdjustmentView>>, Refused> {
    let account = operator.account(&account).await?;
    let rows = operator.ledger.adjustments(account.id).await?;
    Ok(Json(Items::of(rows.iter().map(AdjustmentView::of))))
}

/// Give back what a call was charged, or a part of it: the next revision of its money. Idempotent as adjustments are
#[utoipa::path(post, path = "/admin/v1/decisions/{decision}/refunds", tag = "corrections",
    request_body = NewRefund, params(("Idempotency-Key" = Option<String>, Header,)), responses(
    (status = 201, body = RefundView), (status = 200, body = RefundView), (status = 400, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(super) async fn refund(
    State(operator): State<Arc<Operator>>,
    Path(decision): Path<String>,
    headers: HeaderMap,
    Body(new): Body<NewRefund>,
) -> Result<(StatusCode, Json<RefundView>), Refused> {
    let key = idempotency_key(&headers, new.idempotency_key.as_deref())?;
    let reason = reason(&new.reason)?;
    let amount = new.amount.as_deref().map(credits).transpose()?;
    let row = operator.call(&decision).await?;
    let id = order_id(row.account, &key);
    let order = RefundOrder { id, amount, idempotency_key: key.into(), reason };
    let _one_at_a_time = operator.grant_order.lock().await;
    if operator.ledger.adjustment(id).await?.is_some() {
        return Err(reused());
    }
    if let Some(known) = operator.known_refund(id).await? {
        let is_same = known.decision == row.decision
            && known.reason == order.reason
            && amount.is_none_or(|amount| amount == known.amount);
        return if is_same { Ok((StatusCode::OK, Json(RefundView::of(&known)))) } else { Err(reused()) };
    }
    let told = operator.refunded(row.decision, order).await?;
    metrics::counter!("overfall_corrections_total", "by" => "refund").increment(1);
    Ok((StatusCode::CREATED, Json(RefundView::of(&told))))
}

impl Operator {
    async fn adjustment(
        &self,
        account: &AccountRow,
        headers: &HeaderMap,
        new: NewAdjustment,
    ) -> Result<AdjustmentOrder, Refused> {
        let key = idempotency_key(headers, new.idempotency_key.as_deref())?;
        let amount = signed(&new.amount)?;
        let reason = reason(&new.reason)?;
        let (user, balance, what) = match (&new.grant, &new.debt_of) {
            (Some(grant), None) if new.user.is_none() => {
                let missing = || Refused::missing(format!("grant {grant} of this account"));
                let id: GrantId = grant.parse().map_err(|_| missing())?;
                let row = self.booked_grant(id).await?;
                let row = row.filter(|row| row.account == account.id).ok_or_else(missing)?;
                (row.user, row.balance.clone(), Adjusted::Grant(booked(&row).state))
            }
            (None, Some(name)) => {
                let policy = self.policies.current();
                let unknown = || Refused::invalid(format!("the policy has no balance `{name}`"));
                let balance = &policy[policy.balance(name).ok_or_else(unknown)?];
                let user = match (balance.per, &new.user) {
                    (Scope::User, Some(user)) => Some(self.user(account, user).await?.id),
                    (Scope::Account, None) => None,
                    (Scope::User, None) => {
                        return Err(Refused::invalid("this balance is per user: name the user"));
                    }
                    (Scope::Account, Some(_)) => {
                        return Err(Refused::invalid("this balance is the account's: name no user"));
                    }
                };
                (user, balance.name.clone(), Adjusted::Debt { most: policy.lent_on(name) })
            }
            _ => return Err(Refused::invalid("name the grant, or the balance whose debt it is (debt_of)")),
        };
        Ok(AdjustmentOrder {
            id: order_id(account.id, &key),
            user,
            key: CounterKey::of_balance(&balance),
            balance,
            what,
            amount,
            idempotency_key: key.into(),
            reason,
        })
    }

    /// A grant, also one that is on its way to the books.
    async fn booked_grant(&self, id: GrantId) -> Result<Option<GrantRow>, Refused> {
        for _ in 0..LOOKS {
            if let Some(row) = self.ledger.grant(id).await? {
                return Ok(Some(row));
            }
            if !self.meter.is_granting(id).await? {
                return Ok(self.ledger.grant(id).await?);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(on_its_way())
    }

    /// The adjustment of an order that was made before, as the books have it.
    async fn known_adjustment(&self, id: OrderId) -> Result<Option<AdjustmentRecord>, Refused> {
        for _ in 0..LOOKS {
            if let Some(record) = self.ledger.adjustment(id).await? {
                return Ok(Some(record));
            }
            if !self.meter.is_ordered(id).await? {
                return Ok(self.ledger.adjustment(id).await?);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(on_its_way())
    }

    /// The refund of an order that was made before, as the books have it.
    async fn known_refund(&self, id: OrderId) -> Result<Option<RefundRow>, Refused> {
        for _ in 0..LOOKS {
            if let Some(row) = self.ledger.refund(id).await? {
                return Ok(Some(row));
            }
            if !self.meter.is_ordered(id).await? {
                return Ok(self.ledger.refund(id).await?);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(on_its_way())
    }

    async fn is_unused_by_refunds(&self, id: OrderId) -> Result<(), Refused> {
        if self.ledger.refund(id).await?.is_some() { Err(reused()) } else { Ok(()) }
    }

    async fn call(&self, decision: &str) -> Result<DecisionRow, Refused> {
        let missing = || Refused::missing(format!("a booked call {decision}"));
        let id: DecisionId = decision.parse().map_err(|_| missing())?;
        // One that has just ended is in the books within moments.
        for _ in 0..LOOKS_FOR_A_CALL {
            if let Some(row) = self.ledger.decision(id).await? {
                return Ok(row);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(missing())
    }

    /// Makes the next revision of a call's money, once the books know the newest one.
    async fn refunded(&self, decision: DecisionId, order: RefundOrder) -> Result<RefundRow, Refused> {
        for _ in 0..LOOKS {
            let row = self.call(&decision.to_string()).await?;
            let granted = self.ledger.grants(row.account).await?;
            let Some(prior) = self.truths().prior(&row, &granted).await? else {
                return Err(Refused::conflict("the policy that decided this call cannot be read any more"));
            };
            match self.meter.revise(row.account, prior, Revision::Refund(order.clone())).await? {
                Revised::Now(told, ticket) => {
                    ticket.await?;
                    let amount = told.charged_before.saturating_sub(told.charge.charged);
                    return Ok(RefundRow {
                        id: order.id,
                        account: row.account,
                        decision,
                        revision: told.revision,
                        amount,
                        charged: told.charge.charged,
                        refunded_at: told.corrected_at,
                        idempotency_key: order.idempotency_key,
                        reason: order.reason,
                    });
                }
                Revised::Behind => tokio::time::sleep(PAUSE).await,
                Revised::Not(why) => return Err(Refused::invalid(why.to_string())),
            }
        }
        Err(on_its_way())
    }

    pub(super) fn truths(&self) -> Truths {
        Truths { ledger: Arc::clone(&self.ledger), policies: Arc::clone(&self.policies) }
    }
}

fn order_id(account: crate::units::AccountId, key: &str) -> OrderId {
    OrderId::derived(&[b"order", account.as_bytes(), key.as_bytes()])
}

fn is_same(known: &AdjustmentRecord, order: &AdjustmentOrder) -> bool {
    let grant = match order.what {
        Adjusted::Grant(grant) => Some(grant.id),
        Adjusted::Debt { .. } => None,
    };
    (known.user, &known.balance, known.grant, known.amount, &known.reason)
        == (order.user, &order.balance, grant, order.amount, &order.reason)
}

pub(super) fn reason(text: &str) -> Result<Arc<str>, Refused> {
    let text = text.trim();
    let fits = (1..=REASON_MAX).contains(&text.len());
    fits.then(|| text.into()).ok_or_else(|| Refused::invalid("reason: say why, in 1 to 1000 bytes"))
}

fn credits(text: &str) -> Result<Credits, Refused> {
    text.parse().map_err(|error| Refused::invalid(format!("amount: {error}")))
}

fn signed(text: &str) -> Result<SignedCredits, Refused> {
    text.parse().map_err(|error| Refused::invalid(format!("amount: {error}")))
}

fn reused() -> Refused {
    Refused::conflict("this idempotency key was used for another order")
}

fn on_its_way() -> Refused {
    Refused::conflict("what was ordered before is on its way to the books; ask again later")
}
