//! API keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use rand::Rng;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Operator;
use super::accounts::Paging;
use super::asked::{Body, Parameters};
use super::error::{ErrorBody, Refused};
use super::views::{Items, KeyView};
use crate::ledger::rows::KeyRow;
use crate::proxy::keys::Key;
use crate::units::{KeyId, Timestamp};

/// A key to be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// RFC 3339; from then on the key is refused.
    expires_at: Option<String>,
}

/// Make a key for a user. The answer is the only place where it is ever shown
#[utoipa::path(post, path = "/admin/v1/accounts/{account}/users/{user}/keys", tag = "keys", request_body = NewKey,
    responses((status = 201, body = KeyView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn make(
    State(operator): State<Arc<Operator>>,
    Path((account, user)): Path<(String, String)>,
    body: Option<Body<NewKey>>,
) -> Result<(StatusCode, Json<KeyView>), Refused> {
    let new = body.map_or_else(NewKey::default, |Body(new)| new);
    let account = operator.account(&account).await?;
    let user = operator.user(&account, &user).await?;
    let now = operator.clock.now();
    let key = Key::generate(rand::rng().random());
    let row = KeyRow {
        id: KeyId::new(now, rand::rng().random()),
        user: user.id,
        account: account.id,
        hash: key.hash(),
        hint: key.hint().into(),
        created_at: now,
        expires_at: new.expires_at.as_deref().map(|text| ahead(instant_of(text)?, now)).transpose()?,
        revoked_at: None,
    };
    operator.ledger.add_key(&row).await?;
    operator.directory.put_key(&row);
    let view = KeyView { key: Some(key.reveal().to_owned()), ..KeyView::of(&row) };
    Ok((StatusCode::CREATED, Json(view)))
}

/// List the keys of an account
#[utoipa::path(get, path = "/admin/v1/accounts/{account}/keys", tag = "keys", params(Paging), responses(
    (status = 200, body = Items<KeyView>), (status = 404, body = ErrorBody)))]
pub(super) async fn list(
    State(operator): State<Arc<Operator>>,
    Path(account): Path<String>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<Items<KeyView>>, Refused> {
    let account = operator.account(&account).await?;
    let rows = operator.ledger.keys(account.id, paging.after()?, paging.page()).await?;
    Ok(Json(Items::of(rows.iter().map(KeyView::of))))
}

/// Revoke a key. The very next request with it is refused
#[utoipa::path(post, path = "/admin/v1/keys/{key}/revoke", tag = "keys", responses(
    (status = 204), (status = 404, body = ErrorBody)))]
pub(super) async fn revoke(
    State(operator): State<Arc<Operator>>,
    Path(key): Path<String>,
) -> Result<StatusCode, Refused> {
    let key: KeyId = key.parse().map_err(|_| Refused::missing(format!("key {key}")))?;
    // First where it counts: a store that does not answer must not keep a stolen key alive in this process.
    operator.directory.revoke(key);
    operator.ledger.revoke_key(key, operator.clock.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An instant, RFC 3339.
pub(super) fn instant_of(text: &str) -> Result<Timestamp, Refused> {
    let wanted = || Refused::invalid(format!("`{text}` is not an instant such as 2027-01-31T00:00:00Z"));
    let instant: jiff::Timestamp = text.parse().map_err(|_| wanted())?;
    Ok(Timestamp::from_ms(instant.as_millisecond()))
}

/// The instant, if it lies ahead.
pub(super) fn ahead(at: Timestamp, now: Timestamp) -> Result<Timestamp, Refused> {
    let passed = || Refused::invalid(format!("expires_at: {at} has passed"));
    (at > now).then_some(at).ok_or_else(passed)
}
