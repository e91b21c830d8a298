//! What the books say, read from the database's own tables, against what they must say.

use std::collections::BTreeMap;

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::auditor::{Change, Id, Money, Owner, Row, State, Violation, What};
use super::node::{ACCOUNTS, USERS, account_id, user_id};
use super::rules::{Balance, CREDIT};

/// The largest debt that any of the policies allows.
const DEBT_MAX: i64 = 15 * CREDIT.cast_signed();

/// A balance update as it stands there.
struct Update {
    account: Id,
    user: Vec<u8>,
    name: String,
    seq: u64,
    kind: String,
    cause_kind: String,
    cause: Id,
    grant: Option<Id>,
    amount: i64,
    before: i64,
    after: i64,
    at: i64,
    hash: [u8; 32],
}

/// What follows from the updates of one balance.
#[derive(Default)]
struct Chain {
    standing: i64,
    debt: i64,
    hash: [u8; 32],
    /// By kind of update.
    sums: BTreeMap<String, i64>,
    /// By grant.
    left: BTreeMap<Id, i64>,
}

/// I5 to I8 and I12, and that nothing else is there. Tells up to which number each account is booked.
pub(super) fn check(books: &Connection, state: &State) -> Result<Vec<u64>, Violation> {
    let failed = |error: rusqlite::Error| format!("the books cannot be read: {error}");
    let heads: Vec<u64> = (0..ACCOUNTS)
        .map(|account| {
            let sql = "SELECT seq FROM heads WHERE account = ?1";
            books.query_row(sql, [account_id(account).as_bytes()], |row| number(row, 0))
        })
        .collect::<rusqlite::Result<_>>()
        .map_err(failed)?;
    let found = records(books).map_err(failed)?;
    let updates = updates(books).map_err(failed)?;
    let mut expected = 0;
    for row in state.rows.iter().filter(|row| row.seq <= heads[row.account]) {
        expected += 1;
        let there = found.get(&(*account_id(row.account).as_bytes(), row.seq));
        if there.map(Vec::as_slice) != Some(&[said(row)]) {
            return Err(format!("I6, I7: {row:?} stands in the books as {there:?}"));
        }
        changes(row, &updates)?;
    }
    let booked: usize = found.values().map(Vec::len).sum();
    let known: u64 = heads.iter().sum();
    if booked != expected || known != expected as u64 {
        return Err(format!("I7: {booked} records, {known} numbers, and {expected} are known"));
    }
    chains(books, &updates).map_err(failed)??;
    Ok(heads)
}

/// What a row is told as by [`records`].
fn said(row: &Row) -> String {
    match &row.what {
        What::Call { id, outcome, tier, money, revision: 1 } => {
            let (id, tier) = (hex::encode(id), tier.name());
            format!("call {id} {outcome} {tier} {} {}", row.at, money_text(money))
        }
        What::Call { id, money, revision, .. } => {
            format!("correction {} {revision} {} {}", hex::encode(id), row.at, money_text(money))
        }
        What::Void { .. } => "void".to_owned(),
        What::Grant { id, amount } => format!("grant {} {amount}", hex::encode(id)),
        What::Expiry => "expiry".to_owned(),
        What::Adjustment { id, amount } => format!("adjustment {} {amount}", hex::encode(id)),
    }
}

fn money_text(money: &Money) -> String {
    let Money { gross, covered, forgiven, excess, charged } = money;
    format!("{gross} = {covered} + {forgiven} ({excess}) + {charged}")
}

type Records = BTreeMap<(Id, u64), Vec<String>>;

/// All that has a number, by account and number.
fn records(books: &Connection) -> rusqlite::Result<Records> {
    let mut found = Records::new();
    let money = "gross || ' = ' || covered || ' + ' || forgiven || ' (' || excess || ') + ' || charged";
    let queries = [
        format!(
            "SELECT account, seq, 'call ' || lower(hex(decision)) || ' ' || outcome || ' ' \
             || coalesce(tier, 'default') || ' ' || ended_at || ' ' || {money} \
             FROM usage_events JOIN (SELECT decision AS d, gross, covered, forgiven, excess, charged \
             FROM monetization_events WHERE revision = 1) ON d = decision"
        ),
        format!(
            "SELECT account, seq, 'correction ' || lower(hex(decision)) || ' ' || revision || ' ' || corrected_at || ' ' \
             || {money} FROM monetization_events WHERE revision > 1"
        ),
        "SELECT account, seq, kind FROM records WHERE kind IN ('void', 'expiry')".to_owned(),
        "SELECT records.account, records.seq, 'grant ' || lower(hex(grants.id)) || ' ' || amount FROM records \
         JOIN balances ON balances.account = records.account \
         JOIN grants ON grants.balance = balances.id AND grants.seq = records.seq WHERE kind = 'grant'"
            .to_owned(),
        "SELECT account, seq, 'adjustment ' || lower(hex(adjustments.id)) || ' ' || amount FROM adjustments \
         JOIN balances ON balances.id = adjustments.balance"
            .to_owned(),
    ];
    for sql in queries {
        let mut select = books.prepare(&sql)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            found.entry((row.get(0)?, number(row, 1)?)).or_default().push(row.get(2)?);
        }
    }
    Ok(found)
}

fn updates(books: &Connection) -> rusqlite::Result<Vec<Update>> {
    let sql = "SELECT account, user, name, seq, kind, cause_kind, cause, grant_id, amount, before, after, at, \
               balance_updates.hash FROM balance_updates JOIN balances ON balances.id = balance ORDER BY place";
    let mut select = books.prepare(sql)?;
    let rows = select.query_map([], |row| {
        Ok(Update {
            account: row.get(0)?,
            user: row.get(1)?,
            name: row.get(2)?,
            seq: number(row, 3)?,
            kind: row.get(4)?,
            cause_kind: row.get(5)?,
            cause: row.get(6)?,
            grant: row.get(7)?,
            amount: row.get(8)?,
            before: row.get(9)?,
            after: row.get(10)?,
            at: row.get(11)?,
            hash: row.get(12)?,
        })
    })?;
    rows.collect()
}

fn number(row: &rusqlite::Row<'_>, place: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(place).map(i64::cast_unsigned)
}

type Keyed = BTreeMap<(Owner, Balance, String, Option<Id>), i64>;

/// I6: the updates of a record are the changes that it must make.
fn changes(row: &Row, updates: &[Update]) -> Result<(), Violation> {
    let account = account_id(row.account);
    let mut expected = Keyed::new();
    for Change { owner, balance, kind, grant, amount } in &row.changes {
        *expected.entry((*owner, *balance, (*kind).to_owned(), *grant)).or_default() += amount;
    }
    let mut found = Keyed::new();
    for update in updates.iter().filter(|it| (it.account, it.seq) == (*account.as_bytes(), row.seq)) {
        let user = (0..USERS).find(|user| update.user == user_id(*user).as_bytes());
        let owner = Owner { account: row.account, user };
        let balance = if update.name == "launch" { Balance::Launch } else { Balance::Wallet };
        let cause = match &row.what {
            What::Call { id, .. } | What::Void { id } => Some(("decision", *id)),
            What::Grant { id, .. } => Some(("grant", *id)),
            What::Expiry => update.grant.map(|grant| ("grant", grant)),
            What::Adjustment { id, .. } => Some(("adjustment", *id)),
        };
        let key = (owner, balance, update.kind.clone(), update.grant);
        let twice = found.insert(key, update.amount).is_some();
        if twice || update.at != row.at || cause != Some((update.cause_kind.as_str(), update.cause)) {
            return Err(format!("I6: an update of {row:?} is told twice, or at another time or cause"));
        }
    }
    // What a void moves is moved by what it gives back, and has the void's number.
    if found == expected { Ok(()) } else { Err(format!("I6: {row:?} has made {found:?}")) }
}

/// I5, I8, I12: before, after and hash go on from each other, and lead to what the balances say.
fn chains(books: &Connection, updates: &[Update]) -> rusqlite::Result<Result<(), Violation>> {
    let mut chains: BTreeMap<(Id, Vec<u8>, String), Chain> = BTreeMap::new();
    for update in updates {
        let key = (update.account, update.user.clone(), update.name.clone());
        let chain = chains.entry(key).or_default();
        if update.before != chain.standing || update.after != update.before + update.amount {
            return Ok(Err(format!("I8: {} follows {} on {}", update.before, chain.standing, update.name)));
        }
        chain.hash = hash(update, &chain.hash);
        if chain.hash != update.hash {
            return Ok(Err(format!("I8: the hash of update {} of {} is another", update.seq, update.name)));
        }
        chain.standing = update.after;
        *chain.sums.entry(update.kind.clone()).or_default() += update.amount;
        match update.grant {
            Some(grant) => *chain.left.entry(grant).or_default() += update.amount,
            None => chain.debt -= update.amount,
        }
        if chain.standing < -DEBT_MAX || chain.debt < 0 || chain.left.values().any(|left| *left < 0) {
            return Ok(Err(format!("I5: {} stands at {}", update.name, chain.standing)));
        }
    }
    let mut select = books.prepare("SELECT account, user, name, standing, debt, hash, id FROM balances")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let chain = chains.remove(&(row.get(0)?, row.get(1)?, row.get(2)?)).unwrap_or_default();
        let sum = |kind: &str| chain.sums.get(kind).copied().unwrap_or(0);
        let given = sum("grant") + sum("adjustment") + sum("refund");
        let said: (i64, i64, [u8; 32]) = (row.get(3)?, row.get(4)?, row.get(5)?);
        if said != (chain.standing, chain.debt, chain.hash) || given != said.0 - sum("debit") - sum("expiry")
        {
            return Ok(Err(format!("I8, I12: a balance says {said:?}, its updates {:?}", chain.standing)));
        }
        let mut left =
            books.prepare_cached("SELECT grant_id, remaining FROM remainders WHERE balance = ?1")?;
        let left = left.query_map([row.get::<_, i64>(6)?], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let left: BTreeMap<Id, i64> = left.collect::<rusqlite::Result<_>>()?;
        let expected: BTreeMap<Id, i64> = chain.left.into_iter().filter(|(_, left)| *left != 0).collect();
        if left != expected {
            return Ok(Err(format!("I12: grants have {left:?} left and not {expected:?}")));
        }
    }
    Ok(if chains.is_empty() { Ok(()) } else { Err("I8: updates of a balance that is not there".to_owned()) })
}

/// The hash of an update, by the layout that the books are documented to have.
fn hash(update: &Update, previous: &[u8; 32]) -> [u8; 32] {
    let mut bytes = update.account.to_vec();
    bytes.push(u8::from(!update.user.is_empty()));
    bytes.extend(if update.user.is_empty() { vec![0; 16] } else { update.user.clone() });
    bytes.push(u8::try_from(update.name.len()).unwrap());
    bytes.extend(update.name.as_bytes());
    bytes.extend(update.seq.to_be_bytes());
    let kinds = ["grant", "debit", "refund", "expiry", "adjustment"];
    bytes.push(u8::try_from(kinds.iter().position(|kind| *kind == update.kind).unwrap()).unwrap());
    let causes = ["decision", "grant", "adjustment"];
    bytes.push(u8::try_from(causes.iter().position(|kind| *kind == update.cause_kind).unwrap()).unwrap());
    bytes.extend(update.cause);
    bytes.push(u8::from(update.grant.is_some()));
    bytes.extend(update.grant.unwrap_or_default());
    for number in [update.amount, update.before, update.after, update.at] {
        bytes.extend(number.to_be_bytes());
    }
    let said = Sha256::digest(&bytes);
    Sha256::digest([&previous[..], &said].concat()).into()
}
