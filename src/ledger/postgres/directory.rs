//! Accounts, users, keys and policies.

use deadpool_postgres::Client;

use super::columns::Id;
use super::failure;
use crate::ledger::rows::{AccountRow, KeyRow, Page, UserRow};
use crate::ledger::{LedgerError, told};
use crate::units::{AccountId, KeyId, PolicyVersion, Timestamp, UserId};

pub(super) const ACCOUNT: &str = "SELECT id, name, plan, status, created_at FROM accounts";
pub(super) const USER: &str = "SELECT account, id, name, created_at FROM users";
pub(super) const KEY: &str =
    "SELECT account, id, \"user\", hash, hint, created_at, expires_at, revoked_at FROM keys";

/// The whole of a page.
pub(super) fn limit(page: Page) -> i64 {
    page.0.into()
}

pub(super) async fn add_account(client: &mut Client, account: &AccountRow) -> Result<(), LedgerError> {
    let transaction = client.transaction().await?;
    let added = transaction
        .execute(
            "INSERT INTO accounts (id, name, plan, status, created_at) VALUES ($1, $2, $3, $4, $5)",
            &[
                &Id::from(account.id),
                &&*account.name,
                &&*account.plan,
                &account.status.as_str(),
                &account.created_at.ms(),
            ],
        )
        .await;
    added.map_err(|error| failure::of_adding(error, &format!("account {}", account.name), ""))?;
    transaction.execute("INSERT INTO heads (account, seq) VALUES ($1, 0)", &[&Id::from(account.id)]).await?;
    Ok(transaction.commit().await?)
}

pub(super) async fn change_account(client: &Client, account: &AccountRow) -> Result<(), LedgerError> {
    let changed = client
        .execute(
            "UPDATE accounts SET name = $2, plan = $3, status = $4 WHERE id = $1",
            &[&Id::from(account.id), &&*account.name, &&*account.plan, &account.status.as_str()],
        )
        .await;
    match changed.map_err(|error| failure::of_adding(error, &format!("account {}", account.name), ""))? {
        0 => Err(LedgerError::Missing { what: account.id.to_string() }),
        _ => Ok(()),
    }
}

pub(super) async fn add_user(client: &Client, user: &UserRow) -> Result<(), LedgerError> {
    let added = client
        .execute(
            "INSERT INTO users (account, id, name, created_at) VALUES ($1, $2, $3, $4)",
            &[&Id::from(user.account), &Id::from(user.id), &&*user.name, &user.created_at.ms()],
        )
        .await;
    let (what, owner) = (format!("user {}", user.name), user.account.to_string());
    added.map_err(|error| failure::of_adding(error, &what, &owner))?;
    Ok(())
}

pub(super) async fn add_key(client: &Client, key: &KeyRow) -> Result<(), LedgerError> {
    let added = client
        .execute(
            "INSERT INTO keys (account, id, \"user\", hash, hint, created_at, expires_at, revoked_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                &Id::from(key.account),
                &Id::from(key.id),
                &Id::from(key.user),
                &&key.hash[..],
                &&*key.hint,
                &key.created_at.ms(),
                &key.expires_at.map(Timestamp::ms),
                &key.revoked_at.map(Timestamp::ms),
            ],
        )
        .await;
    let (what, owner) = (key.id.to_string(), format!("{} in {}", key.user, key.account));
    added.map_err(|error| failure::of_adding(error, &what, &owner))?;
    Ok(())
}

pub(super) async fn revoke_key(client: &Client, key: KeyId, at: Timestamp) -> Result<(), LedgerError> {
    let revoke = "UPDATE keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1";
    match client.execute(revoke, &[&Id::from(key), &at.ms()]).await? {
        0 => Err(LedgerError::Missing { what: key.to_string() }),
        _ => Ok(()),
    }
}

pub(super) async fn accounts(
    client: &Client,
    after: Option<AccountId>,
    page: Page,
) -> Result<Vec<AccountRow>, LedgerError> {
    let sql = format!("{ACCOUNT} WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2");
    let select = client.prepare_cached(&sql).await?;
    let rows = client.query(&select, &[&after.map(Id::from), &limit(page)]).await?;
    Ok(rows.iter().map(told::account).collect::<Result<_, _>>()?)
}

pub(super) async fn users(
    client: &Client,
    account: AccountId,
    after: Option<UserId>,
    page: Page,
) -> Result<Vec<UserRow>, LedgerError> {
    let sql = format!("{USER} WHERE account = $1 AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3");
    let select = client.prepare_cached(&sql).await?;
    let rows = client.query(&select, &[&Id::from(account), &after.map(Id::from), &limit(page)]).await?;
    Ok(rows.iter().map(told::user).collect::<Result<_, _>>()?)
}

pub(super) async fn keys(
    client: &Client,
    account: AccountId,
    after: Option<KeyId>,
    page: Page,
) -> Result<Vec<KeyRow>, LedgerError> {
    let sql = format!("{KEY} WHERE account = $1 AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3");
    let select = client.prepare_cached(&sql).await?;
    let rows = client.query(&select, &[&Id::from(account), &after.map(Id::from), &limit(page)]).await?;
    Ok(rows.iter().map(told::key).collect::<Result<_, _>>()?)
}

pub(super) async fn keep_policy(
    client: &Client,
    version: PolicyVersion,
    text: &str,
) -> Result<(), LedgerError> {
    let keep = "INSERT INTO policies (version, text) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    client.execute(keep, &[&version.0.cast_signed(), &text]).await?;
    Ok(())
}

pub(super) async fn policy(client: &Client, version: PolicyVersion) -> Result<Option<String>, LedgerError> {
    let select = client.prepare_cached("SELECT text FROM policies WHERE version = $1").await?;
    let row = client.query_opt(&select, &[&version.0.cast_signed()]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

pub(super) async fn find_account(
    client: &Client,
    id_or_name: &str,
) -> Result<Option<AccountRow>, LedgerError> {
    let id = Id::from(id_or_name.parse::<AccountId>().unwrap_or(AccountId::MIN));
    let select = client.prepare_cached(&format!("{ACCOUNT} WHERE id = $1 OR name = $2")).await?;
    let row = client.query_opt(&select, &[&id, &id_or_name]).await?;
    Ok(row.as_ref().map(told::account).transpose()?)
}

pub(super) async fn find_user(
    client: &Client,
    account: AccountId,
    id_or_name: &str,
) -> Result<Option<UserRow>, LedgerError> {
    let id = Id::from(id_or_name.parse::<UserId>().unwrap_or(UserId::MIN));
    let sql = format!("{USER} WHERE account = $1 AND (id = $2 OR name = $3)");
    let select = client.prepare_cached(&sql).await?;
    let row = client.query_opt(&select, &[&Id::from(account), &id, &id_or_name]).await?;
    Ok(row.as_ref().map(told::user).transpose()?)
}
