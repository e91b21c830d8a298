//! What has changed in the directory, for nodes to follow.
//!
//! Numbers are given before a change is committed, so one may be seen after a higher one. What is young is therefore told
//! again each time: a transaction here is bounded to less than that.

use deadpool_postgres::Client;

use super::columns::Id;
use super::directory::{ACCOUNT, KEY, USER};
use crate::ledger::chain::rows::Cell;
use crate::ledger::fields::Fields as _;
use crate::ledger::rows::Restored;
use crate::ledger::shared::Change;
use crate::ledger::{LedgerError, told};
use crate::units::Seq;

const CHANGES: &str = "SELECT id, kind, row FROM changes \
     WHERE id > $1 OR at > clock_timestamp() - interval '20 s' ORDER BY id LIMIT 4096";
const NEWEST: &str = "SELECT coalesce(max(id), 0) AS id FROM changes";

pub(super) async fn newest(client: &Client) -> Result<Change, LedgerError> {
    Ok(Change(client.query_one(NEWEST, &[]).await?.try_get("id")?))
}

pub(super) async fn since(client: &Client, known: Change) -> Result<(Change, Vec<Restored>), LedgerError> {
    let select = client.prepare_cached(CHANGES).await?;
    let (mut newest, mut accounts, mut users, mut keys) = (known, Vec::new(), Vec::new(), Vec::new());
    for row in client.query(&select, &[&known.0]).await? {
        newest = Change(newest.0.max(row.try_get("id")?));
        let Cell::Blob(id) = row.cell("row")? else { continue };
        let Ok(id) = id.try_into().map(Id) else { continue };
        match row.try_get("kind")? {
            "account" => accounts.push(id),
            "user" => users.push(id),
            _ => keys.push(id),
        }
    }
    let mut changed = Vec::new();
    // In this order: a user is of an account, a key of a user.
    if !accounts.is_empty() {
        let select = client.prepare_cached(&format!("{ACCOUNT} WHERE id = ANY($1)")).await?;
        for row in client.query(&select, &[&accounts]).await? {
            changed.push(Restored::Account(told::account(&row)?, Seq::default()));
        }
    }
    if !users.is_empty() {
        let select = client.prepare_cached(&format!("{USER} WHERE id = ANY($1)")).await?;
        for row in client.query(&select, &[&users]).await? {
            changed.push(Restored::User(told::user(&row)?));
        }
    }
    if !keys.is_empty() {
        let select = client.prepare_cached(&format!("{KEY} WHERE keys.id = ANY($1)")).await?;
        for row in client.query(&select, &[&keys]).await? {
            changed.push(Restored::Key(told::key(&row)?));
        }
    }
    Ok((newest, changed))
}
