//! Telling all that live state is made of.
//!
//! One read transaction, so that all of it is of one instant, table after table. Rows come and go in bounded portions.

use deadpool_postgres::Client;
use tokio::sync::mpsc;
use tokio_postgres::{IsolationLevel, Row};

use super::directory::{ACCOUNT, KEY, USER};
use super::history::GRANTS;
use crate::access::record::CounterEntry;
use crate::ledger::fields::{Fields, Owned, Slots, Told};
use crate::ledger::rows::Restored;
use crate::ledger::{LedgerError, told};
use crate::policy::compiled::Scope;
use crate::units::{AccountId, SignedCredits, UserId};

/// Rows that travel together.
const PORTION: i32 = 2_000;

/// What a row tells.
type Tell = fn(&Row, &mut Vec<Restored>) -> Told<()>;

/// Tells everything through a channel, until nobody listens any more.
pub(super) async fn restore(
    client: &mut Client,
    portions: mpsc::Sender<Vec<Restored>>,
) -> Result<(), LedgerError> {
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = transaction.start().await?;
    let accounts = format!(
        "SELECT accounts.*, seq FROM ({ACCOUNT}) AS accounts JOIN heads ON heads.account = id ORDER BY id"
    );
    let keys = format!("{KEY} WHERE revoked_at IS NULL");
    let grants = format!("{GRANTS} WHERE remaining <> 0 OR decision IS NOT NULL ORDER BY grants.id");
    let steps: [(&str, Tell); 6] = [
        (&accounts, |row, told| {
            told.push(Restored::Account(told::account(row)?, row.told("seq")?));
            Ok(())
        }),
        (USER, |row, told| {
            told.push(Restored::User(told::user(row)?));
            Ok(())
        }),
        (&keys, |row, told| {
            told.push(Restored::Key(told::key(row)?));
            Ok(())
        }),
        ("SELECT account, \"user\", slots FROM counters", counters),
        (&grants, |row, told| {
            told.push(Restored::Grant(told::grant_row(row)?));
            Ok(())
        }),
        ("SELECT account, \"user\", name, debt FROM balances WHERE debt > 0", debt),
    ];
    for (sql, tell) in steps {
        let portal = transaction.bind(sql, &[]).await?;
        loop {
            let rows = transaction.query_portal(&portal, PORTION).await?;
            if rows.is_empty() {
                break;
            }
            let mut portion = Vec::with_capacity(rows.len());
            for row in &rows {
                tell(row, &mut portion)?;
            }
            if portions.send(portion).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(transaction.commit().await?)
}

fn counters(row: &Row, told: &mut Vec<Restored>) -> Told<()> {
    let account: AccountId = row.told("account")?;
    let Owned(user) = row.told("user")?;
    let scope = if user.is_some() { Scope::User } else { Scope::Account };
    let Slots(slots) = row.told("slots")?;
    let entry = |slot| Restored::Counter(account, user.unwrap_or(UserId::MIN), CounterEntry { scope, slot });
    told.extend(slots.into_iter().map(entry));
    Ok(())
}

fn debt(row: &Row, told: &mut Vec<Restored>) -> Told<()> {
    let Owned(user) = row.told("user")?;
    let debt: SignedCredits = row.told("debt")?;
    told.push(Restored::Debt(row.told("account")?, user, row.told("name")?, debt.available()));
    Ok(())
}
