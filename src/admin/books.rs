//! What the books and the decision log say.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Operator;
use super::accounts::Paging;
use super::asked::Parameters;
use super::error::{ErrorBody, Refused};
use super::views::{BalanceUpdateView, Items};
use crate::proxy::decision_view::DecisionView;
use crate::units::DecisionId;

/// Which page of a list that begins with the newest.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Back {
    /// The last id, or place, of the page before.
    before: Option<String>,
    /// How many, 1 to 1000; 100 where none is said.
    limit: Option<u16>,
}

impl Back {
    fn paging(&self) -> Paging {
        Paging { after: self.before.clone(), limit: self.limit }
    }
}

/// Balance updates of an account, newest first
#[utoipa::path(get, path = "/admin/v1/accounts/{account}/balance-updates", tag = "books", params(Back), responses(
    (status = 200, body = Items<BalanceUpdateView>), (status = 404, body = ErrorBody)))]
pub(super) async fn balance_updates(
    State(operator): State<Arc<Operator>>,
    Path(account): Path<String>,
    Parameters(back): Parameters<Back>,
) -> Result<Json<Items<BalanceUpdateView>>, Refused> {
    let account = operator.account(&account).await?;
    let paging = back.paging();
    let rows = operator.ledger.balance_updates(account.id, paging.after()?, paging.page()).await?;
    Ok(Json(Items::of(rows.iter().map(BalanceUpdateView::of))))
}

/// Booked decisions of an account, newest first
#[utoipa::path(get, path = "/admin/v1/accounts/{account}/decisions", tag = "books", params(Back), responses(
    (status = 200, body = Items<DecisionView>), (status = 404, body = ErrorBody)))]
pub(super) async fn decisions(
    State(operator): State<Arc<Operator>>,
    Path(account): Path<String>,
    Parameters(back): Parameters<Back>,
) -> Result<Json<Items<DecisionView>>, Refused> {
    let account = operator.account(&account).await?;
    let paging = back.paging();
    let rows = operator.ledger.decisions(account.id, paging.after()?, paging.page()).await?;
    Ok(Json(Items::of(rows.iter().map(DecisionView::ended_for_operators))))
}

/// Blocked decisions of an account, newest first, from the bounded decision log
#[utoipa::path(get, path = "/admin/v1/accounts/{account}/blocks", tag = "books", params(Back), responses(
    (status = 200, body = Items<DecisionView>), (status = 404, body = ErrorBody)))]
pub(super) async fn blocks(
    State(operator): State<Arc<Operator>>,
    Path(account): Path<String>,
    Parameters(back): Parameters<Back>,
) -> Result<Json<Items<DecisionView>>, Refused> {
    let account = operator.account(&account).await?;
    let paging = back.paging();
    let rows = operator.ledger.blocks(account.id, paging.after()?, paging.page()).await?;
    Ok(Json(Items::of(rows.iter().map(DecisionView::blocked))))
}

/// A decision, booked or blocked
#[utoipa::path(get, path = "/admin/v1/decisions/{decision}", tag = "books", responses(
    (status = 200, body = DecisionView), (status = 404, body = ErrorBody)))]
pub(super) async fn decision(
    State(operator): State<Arc<Operator>>,
    Path(decision): Path<String>,
) -> Result<Json<DecisionView>, Refused> {
    let unknown =
        || Refused::missing(format!("decision {decision}, among those booked and the blocks still logged,"));
    let id: DecisionId = decision.parse().map_err(|_| unknown())?;
    if let Some(row) = operator.ledger.decision(id).await? {
        return Ok(Json(DecisionView::ended_for_operators(&row)));
    }
    let block = operator.ledger.block(id).await?;
    block.map(|row| Json(DecisionView::blocked(&row))).ok_or_else(unknown)
}
