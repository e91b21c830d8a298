//! Receipts: one call's charge, with all that proves it, for somebody who has neither the books nor a reason to trust
//! whoever keeps them.
//!
//! A receipt shows the usage event, its money and its balance updates as they stand in the books, and the ways from them
//! to the root of a signed checkpoint: of the account's later records and of its balances' later updates only hashes.
//! [`Receipt::verify`] needs the file, the public key, and nothing else.

use std::collections::BTreeMap;

use ring::signature::Ed25519KeyPair;
use serde::{Deserialize, Serialize};

use super::checkpoint::tree::{Step, Tree};
use super::checkpoint::{Checkpoint, Leaf, Signed, each_leaf};
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedStanding, BookedUpdate, Books};
use crate::ledger::chain::rows::{EVENT, MONEY, ORDER, OwnedCell};
use crate::ledger::chain::{self, Link};
use crate::ledger::rows::UpdateKind;
use crate::units::{
    AccountId, DecisionId, GrantId, PolicyVersion, Quantities, Seq, SignedCredits, Timestamp, UserId,
};

mod verify;

pub use verify::Unproved;

use verify::Row;

/// The grammar of the file.
const VERSION: u32 = 1;

/// One call's charge and the proof of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// 1.
    pub version: u32,
    /// What it says, for people; [`Self::verify`] computes it from the rows.
    pub told: Told,
    /// The usage event as it is booked, cell by cell.
    pub usage_event: BTreeMap<String, OwnedCell>,
    /// Its monetization events, by revision.
    pub monetization_events: Vec<BTreeMap<String, OwnedCell>>,
    /// The link of the account's record before it, in hexadecimal.
    pub link_before: String,
    /// The hashes of the account's records after it, up to the checkpoint.
    pub rows_after: Vec<String>,
    /// The way from the account's newest record to the root.
    pub way: Vec<Step>,
    /// The balances that it changed.
    pub balances: Vec<BalanceProof>,
    /// The text of the policy that priced it, where it may be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The signed checkpoint.
    pub signed: Signed,
}

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// The decision.
    pub decision: String,
    /// Who pays.
    pub account: String,
    /// Who called.
    pub user: String,
    /// The product and the model.
    pub what: String,
    /// When it ended.
    pub ended_at: String,
    /// What was used.
    pub used: Quantities,
    /// The exact price, in micro-credits.
    pub price: String,
    /// Credits: the price rounded up.
    pub gross: String,
    /// Credits that windows covered.
    pub covered: String,
    /// Credits that are not owed.
    pub forgiven: String,
    /// Credits that balances gave.
    pub charged: String,
    /// What each balance stood at, in credits.
    pub balances: Vec<String>,
    /// How its money was corrected, revision by revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corrections: Vec<String>,
}

/// A balance that a call changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalanceProof {
    /// Its name.
    pub name: String,
    /// Whose it is, where it is a user's.
    pub user: Option<UserId>,
    /// Its hash before the call.
    pub hash_before: String,
    /// What the call changed.
    pub updates: Vec<UpdateProof>,
    /// The hashes of what its later updates say, up to the checkpoint.
    pub updates_after: Vec<String>,
    /// The way from its newest update to the root.
    pub way: Vec<Step>,
}

/// One balance update of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateProof {
    /// Why.
    pub kind: UpdateKind,
    /// The grant it touches; none where it touches the debt.
    pub grant: Option<GrantId>,
    /// How much, in micro-credits, as below.
    pub amount: SignedCredits,
    /// What the balance stood at before it.
    pub before: SignedCredits,
    /// What it stood at after it.
    pub after: SignedCredits,
    /// When, in milliseconds since 1970 UTC.
    pub at: Timestamp,
}

/// Why a receipt cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Unmade {
    /// There is no such usage event.
    #[error("no usage event is booked for this decision")]
    NoCall,
    /// It, or what stands behind it, was booked before there was a chain, or the books do not hold.
    #[error("the books have no whole chain from this decision on; overfall audit says more")]
    NoChain,
    /// The books cannot be read.
    #[error("the books cannot be read")]
    Books(#[from] LedgerError),
}

impl Receipt {
    /// Makes one, with a checkpoint of the books as they are.
    pub fn make(
        books: &dyn Books,
        decision: DecisionId,
        key: &Ed25519KeyPair,
        now: Timestamp,
        shows_policy: bool,
    ) -> Result<Self, Unmade> {
        let call = books.cells(decision)?.ok_or(Unmade::NoCall)?;
        let named = |columns: &[&'static str], cells: Vec<OwnedCell>| -> BTreeMap<String, OwnedCell> {
            columns.iter().map(|column| (*column).to_owned()).zip(cells).collect()
        };
        let usage_event = named(&EVENT, call.event);
        let monetization_events: Vec<_> =
            call.money.into_iter().map(|cells| named(&[&MONEY[..], &ORDER[..]].concat(), cells)).collect();
        let row = Row(&usage_event);
        let unreadable = |_| Unmade::NoChain;
        let account = AccountId::from_bytes(row.id("account").map_err(unreadable)?);
        let seq = Seq(row.count("seq").map_err(unreadable)?);
        let policy = PolicyVersion(row.integer("policy").map_err(unreadable)?.cast_unsigned());
        let link_before = match seq.0 {
            0 | 1 => chain::START,
            _ => books.link_of(account, Seq(seq.0 - 1))?.ok_or(Unmade::NoChain)?,
        };
        let rows_after: Vec<_> = books.rows_after(account, seq)?.iter().map(hex::encode).collect();
        let mut balances = balances(books, account, seq)?;
        let mut tree = Tree::default();
        each_leaf(books, &mut |leaf| {
            let mark = match leaf {
                Leaf::Account { account: other, .. } => (other == account).then_some(0),
                Leaf::Balance { account: other, user, name, .. } => {
                    let of_account = balances.iter().filter(|_| other == account);
                    let named = |proof: &&BalanceProof| proof.user == user && proof.name == name;
                    of_account.zip(1..).find(|(proof, _)| named(proof)).map(|(_, mark)| mark)
                }
            };
            tree.push(leaf.hash(), mark);
        })?;
        let mut ways: BTreeMap<u8, Vec<Step>> = tree.finish().ways.into_iter().collect();
        for (proof, mark) in balances.iter_mut().zip(1..) {
            proof.way = ways.remove(&mark).ok_or(Unmade::NoChain)?;
        }
        let mut text = None;
        books.policies(&mut |version, found| {
            if version == policy && shows_policy {
                text = Some(found.to_owned());
            }
        })?;
        let mut receipt = Self {
            version: VERSION,
            told: Told::default(),
            usage_event,
            monetization_events,
            link_before: hex::encode(link_before),
            rows_after,
            way: ways.remove(&0).ok_or(Unmade::NoChain)?,
            balances,
            policy: text,
            signed: Checkpoint::take(books, now)?.sign(key),
        };
        receipt.told = receipt.tell().map_err(unreadable)?;
        Ok(receipt)
    }
}

impl Default for Told {
    fn default() -> Self {
        let no = String::new;
        Self {
            decision: no(),
            account: no(),
            user: no(),
            what: no(),
            ended_at: no(),
            used: Quantities::default(),
            price: no(),
            gross: no(),
            covered: no(),
            forgiven: no(),
            charged: no(),
            balances: Vec::new(),
            corrections: Vec::new(),
        }
    }
}

/// The balances that a record changed, with what came after on each; their ways are not known yet.
fn balances(books: &dyn Books, account: AccountId, seq: Seq) -> Result<Vec<BalanceProof>, Unmade> {
    let updates = books.updates_from(account, seq)?;
    let mut standings: BTreeMap<i64, BookedStanding> = BTreeMap::new();
    for update in updates.iter().filter(|update| update.seq == seq) {
        if let Some(standing) = books.standing(update.balance)? {
            standings.insert(update.balance, standing);
        }
    }
    let mut proofs = Vec::new();
    for (balance, standing) in standings {
        let of_balance = || updates.iter().filter(move |update| update.balance == balance);
        let Some(first) = of_balance().next() else { continue };
        let hash_before = books.hash_of(balance, first.previous)?.unwrap_or(chain::START);
        let (own, later): (Vec<_>, Vec<_>) = of_balance().partition(|update| update.seq == seq);
        let shown = |update: &&BookedUpdate| {
            Some(UpdateProof {
                kind: update.kind?,
                grant: update.grant,
                amount: SignedCredits::from_micros(update.amount)?,
                before: SignedCredits::from_micros(update.before)?,
                after: SignedCredits::from_micros(update.after)?,
                at: update.at,
            })
        };
        let content = |update: &&BookedUpdate| {
            let shown = shown(update)?;
            let said = Link {
                account,
                user: standing.user,
                balance: &standing.name,
                seq: update.seq,
                kind: shown.kind,
                cause: update.cause?,
                grant: shown.grant,
                amount: shown.amount,
                before: shown.before,
                after: shown.after,
                at: shown.at,
            };
            Some(hex::encode(said.content()))
        };
        proofs.push(BalanceProof {
            updates: own.iter().map(shown).collect::<Option<_>>().ok_or(Unmade::NoChain)?,
            updates_after: later.iter().map(content).collect::<Option<_>>().ok_or(Unmade::NoChain)?,
            name: standing.name.to_string(),
            user: standing.user,
            hash_before: hex::encode(hash_before),
            way: Vec::new(),
        });
    }
    Ok(proofs)
}

#[cfg(test)]
mod tests;
