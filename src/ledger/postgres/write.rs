//! Writing what a batch adds, and what it changes: statements are sent together, the commit behind them.

use deadpool_postgres::Client;
use futures_util::future::try_join_all;

use super::columns::Id;
use super::shelf::{Added, Desk, Known, OwnedRows};
use super::table::{Kind, Rows};
use crate::ledger::booking::Owner;
use crate::ledger::chain::rows::Cell;
use crate::ledger::posting::Purse;
use crate::ledger::{LedgerError, slots};
use crate::units::SignedCredits;

/// Statements that are sent together.
const TOGETHER: usize = 24;

/// A statement and its rows.
struct Write {
    sql: String,
    rows: Rows,
}

/// Writes everything and commits.
pub(super) async fn write(client: &Client, desk: Desk) -> Result<(), LedgerError> {
    let mut writes = Vec::new();
    let Desk { known, added } = desk;
    state(&known, &added, &mut writes)?;
    for (table, rows) in [
        ("usage_events", added.events),
        ("monetization_events", added.money),
        ("balance_updates", added.updates),
        ("grants", added.grants),
        ("adjustments", added.adjustments),
        ("records", added.records),
    ] {
        writes.push(Write { sql: rows.insert(table), rows });
    }
    for turn in added.owned {
        owned(turn, &mut writes);
    }
    writes.retain(|write| !write.rows.is_empty());
    let mut statements = Vec::with_capacity(writes.len());
    for write in &writes {
        statements.push(client.prepare_cached(&write.sql).await?);
    }
    let parameters: Vec<_> = writes.iter().map(|write| write.rows.parameters()).collect();
    let pairs: Vec<_> = statements.iter().zip(&parameters).collect();
    for some in pairs.chunks(TOGETHER) {
        try_join_all(some.iter().map(|(statement, rows)| client.execute(*statement, rows))).await?;
    }
    Ok(client.batch_execute("COMMIT").await?)
}

/// Heads, balances, what is left of grants, counters: whatever the batch changed of them.
fn state(known: &Known, added: &Added, writes: &mut Vec<Write>) -> Result<(), LedgerError> {
    let mut heads = Rows::new(["account", "seq", "event", "change", "hash"]);
    for (account, head) in known.heads.iter().filter(|(_, head)| head.changed) {
        let place = |place: Option<i64>| place.map_or(Cell::Null, Cell::Integer);
        heads.push([
            Cell::Blob(account.as_bytes()),
            Cell::Integer(head.seq.0.cast_signed()),
            place(head.event),
            place(head.change),
            head.hash.as_ref().map_or(Cell::Null, |hash| Cell::Blob(hash)),
        ])?;
    }
    let sql = format!(
        "UPDATE heads SET seq = given.seq, event = given.event, change = given.change, hash = given.hash FROM {} \
         WHERE heads.account = given.account",
        heads.unnested(1)
    );
    writes.push(Write { sql, rows: heads });
    let mut purses = Purses::new();
    let mut owners: Vec<_> = added.owners.iter().collect();
    owners.sort_unstable();
    for owner in owners {
        if let Some(purse) = known.purses.get(owner) {
            purses.add(owner, purse, added)?;
        }
    }
    purses.write(writes);
    Ok(())
}

/// The rows of purses.
struct Purses {
    counters: Rows,
    new: Rows,
    changed: Rows,
    left: Rows,
    spent: Rows,
}

impl Purses {
    fn new() -> Self {
        let id = ("id", Kind::Integer);
        let balance = [("standing", Kind::Integer), ("debt", Kind::Integer), ("hash", Kind::Bytes)];
        let owner = [("account", Kind::Id), ("user", Kind::Id), ("name", Kind::Text)];
        Self {
            counters: Rows::new(["account", "user", "slots"]),
            new: Rows::of([id].into_iter().chain(balance).chain(owner)),
            changed: Rows::of([id].into_iter().chain(balance)),
            left: Rows::new(["balance", "grant_id", "remaining"]),
            spent: Rows::new(["balance", "grant_id"]),
        }
    }

    fn add(&mut self, (account, user): &Owner, purse: &Purse, added: &Added) -> Result<(), LedgerError> {
        let account = Cell::Blob(account.as_bytes());
        let Id(user) = Id::of_owner(*user);
        if purse.slots_changed {
            self.counters.push([account, Cell::Blob(&user), Cell::Blob(&slots::pack(&purse.slots))])?;
        }
        for balance in purse.balances.iter().filter(|balance| balance.changed) {
            let Some(row) = balance.row else { continue };
            let state = [
                Cell::Integer(row),
                Cell::Integer(balance.standing.micros()),
                Cell::Integer(balance.debt.micros()),
                Cell::Blob(&balance.hash),
            ];
            if added.balances.contains(&row) {
                let owner = [account, Cell::Blob(&user), Cell::Text(balance.name.as_bytes())];
                self.new.push(state.into_iter().chain(owner))?;
            } else {
                self.changed.push(state)?;
            }
            for left in balance.remainders.iter().filter(|left| left.changed) {
                let key = [Cell::Integer(row), Cell::Blob(left.grant.as_bytes())];
                if left.remaining == SignedCredits::ZERO {
                    self.spent.push(key)?;
                } else {
                    self.left.push(key.into_iter().chain([Cell::Integer(left.remaining.micros())]))?;
                }
            }
        }
        Ok(())
    }

    fn write(self, writes: &mut Vec<Write>) {
        let Self { counters, new, changed, left, spent } = self;
        let upsert = |rows: &Rows, table: &str, key: &str, value: &str| {
            format!("{} ON CONFLICT ({key}) DO UPDATE SET {value} = excluded.{value}", rows.insert(table))
        };
        let (to_balances, of_spent) = (changed.unnested(1), spent.unnested(1));
        writes.extend([
            Write { sql: upsert(&counters, "counters", "account, \"user\"", "slots"), rows: counters },
            Write { sql: new.insert("balances"), rows: new },
            Write {
                sql: format!(
                    "UPDATE balances SET standing = given.standing, debt = given.debt, hash = given.hash \
                     FROM {to_balances} WHERE balances.id = given.id"
                ),
                rows: changed,
            },
            Write { sql: upsert(&left, "remainders", "balance, grant_id", "remaining"), rows: left },
            Write {
                sql: format!(
                    "DELETE FROM remainders USING {of_spent} \
                     WHERE remainders.balance = given.balance AND remainders.grant_id = given.grant_id"
                ),
                rows: spent,
            },
        ]);
    }
}

/// Whose things made upstream are. The first account that has one keeps it.
fn owned(turn: OwnedRows, writes: &mut Vec<Write>) {
    let upsert = |rows: &Rows, changes: &[&str]| {
        let changes: Vec<String> =
            changes.iter().map(|column| format!("{column} = excluded.{column}")).collect();
        format!(
            "{} ON CONFLICT (id) DO UPDATE SET {} WHERE resources.account = excluded.account",
            rows.insert("resources"),
            changes.join(", ")
        )
    };
    let OwnedRows { ends, jobs, made } = turn;
    let video = ["kind", "made_at", "model", "seconds", "size", "upstream"];
    writes.extend([
        Write { sql: upsert(&jobs, &["decision"]), rows: jobs },
        Write { sql: upsert(&ends, &["context_tokens", "upstream"]), rows: ends },
        Write { sql: upsert(&made, &video), rows: made },
    ]);
}
