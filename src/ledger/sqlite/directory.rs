//! Accounts, users, keys and policies.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::failure;
use super::writer::Books;
use crate::ledger::rows::{AccountRow, KeyRow, Page, UserRow};
use crate::ledger::{LedgerError, told};
use crate::units::{AccountId, KeyId, PolicyVersion, Timestamp, UserId};

pub(super) fn add_account(books: &mut Books, account: &AccountRow) -> Result<(), LedgerError> {
    let transaction = books.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let added = transaction.execute(
        "INSERT INTO accounts (id, name, plan, status, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![account.id, account.name, account.plan, account.status.as_str(), account.created_at],
    );
    added.map_err(|error| failure::of_adding(error, &format!("account {}", account.name), ""))?;
    transaction.execute("INSERT INTO heads (account, seq) VALUES (?1, 0)", [account.id])?;
    Ok(transaction.commit()?)
}

pub(super) fn change_account(books: &mut Books, account: &AccountRow) -> Result<(), LedgerError> {
    let what = || format!("account {}", account.name);
    let changed = books.connection.execute(
        "UPDATE accounts SET name = ?2, plan = ?3, status = ?4 WHERE id = ?1",
        params![account.id, account.name, account.plan, account.status.as_str()],
    );
    match changed.map_err(|error| failure::of_adding(error, &what(), ""))? {
        0 => Err(LedgerError::Missing { what: account.id.to_string() }),
        _ => Ok(()),
    }
}

pub(super) fn add_user(books: &mut Books, user: &UserRow) -> Result<(), LedgerError> {
    let added = books.connection.execute(
        "INSERT INTO users (account, id, name, created_at) VALUES (?1, ?2, ?3, ?4)",
        params![user.account, user.id, user.name, user.created_at],
    );
    let (what, owner) = (format!("user {}", user.name), user.account.to_string());
    added.map_err(|error| failure::of_adding(error, &what, &owner))?;
    Ok(())
}

pub(super) fn add_key(books: &mut Books, key: &KeyRow) -> Result<(), LedgerError> {
    let added = books.connection.execute(
        "INSERT INTO keys (account, id, user, hash, hint, created_at, expires_at, revoked_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            key.account,
            key.id,
            key.user,
            key.hash,
            key.hint,
            key.created_at,
            key.expires_at,
            key.revoked_at
        ],
    );
    let (what, owner) = (key.id.to_string(), format!("{} in {}", key.user, key.account));
    added.map_err(|error| failure::of_adding(error, &what, &owner))?;
    Ok(())
}

pub(super) fn revoke_key(books: &mut Books, key: KeyId, at: Timestamp) -> Result<(), LedgerError> {
    let revoked = books
        .connection
        .execute("UPDATE keys SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1", params![key, at]);
    match revoked? {
        0 => Err(LedgerError::Missing { what: key.to_string() }),
        _ => Ok(()),
    }
}

pub(super) fn accounts(
    connection: &Connection,
    after: Option<AccountId>,
    page: Page,
) -> Result<Vec<AccountRow>, LedgerError> {
    let mut select = connection.prepare_cached(
        "SELECT id, name, plan, status, created_at FROM accounts WHERE ?1 IS NULL OR id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let rows = select.query_map(params![after, page.0], |row| Ok(told::account(row)?))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn users(
    connection: &Connection,
    account: AccountId,
    after: Option<UserId>,
    page: Page,
) -> Result<Vec<UserRow>, LedgerError> {
    let mut select = connection.prepare_cached(
        "SELECT account, id, name, created_at FROM users WHERE account = ?1 AND (?2 IS NULL OR id > ?2) \
         ORDER BY id LIMIT ?3",
    )?;
    let rows = select.query_map(params![account, after, page.0], |row| Ok(told::user(row)?))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn keys(
    connection: &Connection,
    account: AccountId,
    after: Option<KeyId>,
    page: Page,
) -> Result<Vec<KeyRow>, LedgerError> {
    let mut select = connection.prepare_cached(
        "SELECT account, id, user, hash, hint, created_at, expires_at, revoked_at FROM keys \
         WHERE account = ?1 AND (?2 IS NULL OR id > ?2) ORDER BY id LIMIT ?3",
    )?;
    let rows = select.query_map(params![account, after, page.0], |row| Ok(told::key(row)?))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn keep_policy(books: &mut Books, version: PolicyVersion, text: &str) -> Result<(), LedgerError> {
    books.connection.execute(
        "INSERT INTO policies (version, text) SELECT ?1, ?2 \
         WHERE NOT EXISTS (SELECT 1 FROM policies WHERE version = ?1)",
        params![version, text],
    )?;
    Ok(())
}

pub(super) fn policy(connection: &Connection, version: PolicyVersion) -> Result<Option<String>, LedgerError> {
    let mut select = connection.prepare_cached("SELECT text FROM policies WHERE version = ?1")?;
    Ok(select.query_row([version], |row| row.get(0)).optional()?)
}

/// An account by its id or its name.
pub(super) fn find_account(
    connection: &Connection,
    id_or_name: &str,
) -> Result<Option<AccountRow>, LedgerError> {
    let id = id_or_name.parse::<AccountId>().unwrap_or(AccountId::MIN);
    let mut select = connection.prepare_cached(
        "SELECT id, name, plan, status, created_at FROM accounts WHERE id = ?1 OR name = ?2",
    )?;
    Ok(select.query_row(params![id, id_or_name], |row| Ok(told::account(row)?)).optional()?)
}

/// A user of an account by its id or its name.
pub(super) fn find_user(
    connection: &Connection,
    owner: AccountId,
    id_or_name: &str,
) -> Result<Option<UserRow>, LedgerError> {
    let id = id_or_name.parse::<UserId>().unwrap_or(UserId::MIN);
    let mut select = connection.prepare_cached(
        "SELECT id, account, name, created_at FROM users WHERE account = ?1 AND (id = ?2 OR name = ?3)",
    )?;
    Ok(select.query_row(params![owner, id, id_or_name], |row| Ok(told::user(row)?)).optional()?)
}
