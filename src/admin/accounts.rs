//! Accounts and their users.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use rand::Rng;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::Operator;
use super::asked::{Body, Parameters};
use super::error::{ErrorBody, Refused};
use super::views::{AccountView, Items, UserView};
use crate::ledger::rows::{AccountRow, AccountStatus, Page, UserRow};
use crate::proxy::access_view::{AccessView, access_view};
use crate::units::{AccountId, UserId};

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Paging {
    /// The last id of the page before.
    pub(super) after: Option<String>,
    /// How many, 1 to 1000; 100 where none is said.
    pub(super) limit: Option<u16>,
}

/// An account to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAccount {
    /// For people; unique.
    name: String,
    /// A plan of the policy in force.
    plan: String,
}

/// What to change about an account.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountChange {
    /// Another name.
    name: Option<String>,
    /// Another plan of the policy in force. Windows and balances stay as they are.
    plan: Option<String>,
    /// `active` or `suspended`.
    #[schema(value_type = Option<String>)]
    status: Option<AccountStatus>,
}

/// A user to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    /// For people; unique within the account.
    name: String,
}

/// Add an account
#[utoipa::path(post, path = "/admin/v1/accounts", tag = "accounts", request_body = NewAccount, responses(
    (status = 201, body = AccountView), (status = 400, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(super) async fn add(
    State(operator): State<Arc<Operator>>,
    Body(new): Body<NewAccount>,
) -> Result<(StatusCode, Json<AccountView>), Refused> {
    let account = AccountRow {
        id: AccountId::new(operator.clock.now(), rand::rng().random()),
        name: name_of(&new.name)?,
        plan: operator.plan_of(&new.plan)?,
        status: AccountStatus::Active,
        created_at: operator.clock.now(),
    };
    operator.ledger.add_account(&account).await?;
    operator.directory.put_account(&account);
    Ok((StatusCode::CREATED, Json(AccountView::of(&account))))
}

/// List accounts
#[utoipa::path(get, path = "/admin/v1/accounts", tag = "accounts", params(Paging), responses(
    (status = 200, body = Items<AccountView>)))]
pub(super) async fn list(
    State(operator): State<Arc<Operator>>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<Items<AccountView>>, Refused> {
    let rows = operator.ledger.accounts(paging.after()?, paging.page()).await?;
    Ok(Json(Items::of(rows.iter().map(AccountView::of))))
}

/// Show an account, by id or name
#[utoipa::path(get, path = "/admin/v1/accounts/{account}", tag = "accounts", responses(
    (status = 200, body = AccountView), (status = 404, body = ErrorBody)))]
pub(super) async fn show(
    State(operator): State<Arc<Operator>>,
    Path(account): Path<String>,
) -> Result<Json<AccountView>, Refused> {
    Ok(Json(AccountView::of(&operator.account(&account).await?)))
}

/// Change an account's name, plan or status
#[utoipa::path(patch, path = "/admin/v1/accounts/{account}", tag = "accounts", request_body = AccountChange,
    responses((status = 200, body = AccountView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn change(
    State(operator): State<Arc<Operator>>,
    Path(account): Path<String>,
    Body(change): Body<AccountChange>,
) -> Result<Json<AccountView>, Refused> {
    let mut account = operator.account(&account).await?;
    if let Some(name) = &change.name {
        account.name = name_of(name)?;
    }
    if let Some(plan) = &change.plan {
        account.plan = operator.plan_of(plan)?;
    }
    account.status = change.status.unwrap_or(account.status);
    operator.ledger.change_account(&account).await?;
    operator.directory.put_account(&account);
    Ok(Json(AccountView::of(&account)))
}

/// Add a user to an account
#[utoipa::path(post, path = "/admin/v1/accounts/{account}/users", tag = "users", request_body = NewUser, responses(
    (status = 201, body = UserView), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(super) async fn add_user(
    State(operator): State<Arc<Operator>>,
    Path(account): Path<String>,
    Body(new): Body<NewUser>,
) -> Result<(StatusCode, Json<UserView>), Refused> {
    let account = operator.account(&account).await?;
    let now = operator.clock.now();
    let id = UserId::new(now, rand::rng().random());
    let user = UserRow { id, account: account.id, name: name_of(&new.name)?, created_at: now };
    operator.ledger.add_user(&user).await?;
    operator.directory.put_user(&user);
    Ok((StatusCode::CREATED, Json(UserView::of(&user))))
}

/// List the users of an account
#[utoipa::path(get, path = "/admin/v1/accounts/{account}/users", tag = "users", params(Paging), responses(
    (status = 200, body = Items<UserView>), (status = 404, body = ErrorBody)))]
pub(super) async fn list_users(
    State(operator): State<Arc<Operator>>,
    Path(account): Path<String>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<Items<UserView>>, Refused> {
    let account = operator.account(&account).await?;
    let rows = operator.ledger.users(account.id, paging.after()?, paging.page()).await?;
    Ok(Json(Items::of(rows.iter().map(UserView::of))))
}

/// What is left for a user: every window, guard and balance
#[utoipa::path(get, path = "/admin/v1/accounts/{account}/users/{user}/access", tag = "users", responses(
    (status = 200, body = AccessView), (status = 404, body = ErrorBody)))]
pub(super) async fn standing(
    State(operator): State<Arc<Operator>>,
    Path((account, user)): Path<(String, String)>,
) -> Result<Json<AccessView>, Refused> {
    let account = operator.account(&account).await?;
    let user = operator.user(&account, &user).await?;
    let policy = operator.policies.current();
    let plan =
        policy.plan(&account.plan).ok_or_else(|| Refused::missing(format!("plan {}", account.plan)))?;
    let mut standings = Vec::new();
    for feature in policy.feature_indices() {
        let standing = operator.meter.standing(account.id, user.id, &policy, plan, feature).await?;
        standings.push((feature, standing));
    }
    Ok(Json(access_view(&policy, plan, &standings, operator.clock.now())))
}

impl Paging {
    /// The page that is asked for.
    pub(super) fn page(&self) -> Page {
        Page(self.limit.unwrap_or(100).clamp(1, 1000))
    }

    /// The id to begin after.
    pub(super) fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, Refused> {
        let parse =
            |text: &String| text.parse().map_err(|_| Refused::invalid(format!("`{text}` is not an id")));
        self.after.as_ref().map(parse).transpose()
    }
}

impl Operator {
    /// An account by id or name.
    pub(super) async fn account(&self, text: &str) -> Result<AccountRow, Refused> {
        let found = self.ledger.find_account(text).await?;
        found.ok_or_else(|| Refused::missing(format!("account {text}")))
    }

    /// A user of an account by id or name.
    pub(super) async fn user(&self, account: &AccountRow, text: &str) -> Result<UserRow, Refused> {
        let found = self.ledger.find_user(account.id, text).await?;
        found.ok_or_else(|| Refused::missing(format!("user {text} of account {}", account.name)))
    }

    fn plan_of(&self, name: &str) -> Result<Arc<str>, Refused> {
        let policy = self.policies.current();
        let plan = policy.plans.iter().find(|plan| &*plan.name == name);
        let known = || policy.plans.iter().map(|plan| &*plan.name).collect::<Vec<_>>().join(", ");
        let refused = || Refused::invalid(format!("the policy has no plan `{name}`, only {}", known()));
        plan.map(|plan| Arc::clone(&plan.name)).ok_or_else(refused)
    }
}

/// A name for people: one to 64 printable characters.
fn name_of(text: &str) -> Result<Arc<str>, Refused> {
    let text = text.trim();
    let fits = (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits { Ok(Arc::from(text)) } else { Err(Refused::invalid("a name has 1 to 64 printable characters")) }
}
