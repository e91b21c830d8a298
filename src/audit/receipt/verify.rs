//! Checking a receipt, offline: from its rows by hashes to the root, from the root to the signature.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::super::ReadPolicy;
use super::super::checkpoint::tree::root_of;
use super::super::checkpoint::{Checkpoint, Leaf, PolicyMark, Untrusted};
use super::super::regenerate::{Inadmissible, Usage, weigh};
use super::{BalanceProof, Receipt, Told, VERSION};
use crate::ledger::chain::Link;
use crate::ledger::chain::rows::{Cell, EVENT, MONEY, ORDER, OwnedCell, RECORD, RowBytes, RowKind, link};
use crate::ledger::rows::{Cause, UpdateKind};
use crate::ledger::text;
use crate::units::{
    AccountId, Credits, DecisionId, PolicyVersion, Quantities, Seq, Timestamp, ToolCalls, UserId,
};

/// Why a receipt proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproved {
    /// Of another version, or a cell of it is missing or of another kind.
    #[error("{0} is not what a receipt of this version says")]
    Malformed(&'static str),
    /// The checkpoint is not to be trusted.
    #[error("its checkpoint is not to be trusted")]
    Checkpoint(#[from] Untrusted),
    /// A way does not lead to the checkpoint.
    #[error("{0} is not what the checkpoint was taken of")]
    Way(&'static str),
    /// Amounts do not agree.
    #[error("its amounts do not agree: {0}")]
    Amounts(&'static str),
    /// The policy is another one, or prices otherwise.
    #[error("its policy is not the one that priced it")]
    Policy,
    /// The draws cannot have come about under its policy.
    #[error("its draws cannot have come about under its policy")]
    Draws(#[source] Inadmissible),
}

/// The cells of a row by their names.
pub(super) struct Row<'a>(pub(super) &'a BTreeMap<String, OwnedCell>);

impl<'a> Row<'a> {
    pub(super) fn text(&self, name: &'static str) -> Result<&'a str, Unproved> {
        self.optional(name)?.ok_or(Unproved::Malformed(name))
    }

    pub(super) fn optional(&self, name: &'static str) -> Result<Option<&'a str>, Unproved> {
        match self.0.get(name) {
            Some(OwnedCell::Text(text)) => Ok(Some(text)),
            Some(OwnedCell::Null) => Ok(None),
            _ => Err(Unproved::Malformed(name)),
        }
    }

    pub(super) fn integer(&self, name: &'static str) -> Result<i64, Unproved> {
        match self.0.get(name) {
            Some(OwnedCell::Integer(integer)) => Ok(*integer),
            _ => Err(Unproved::Malformed(name)),
        }
    }

    pub(super) fn count(&self, name: &'static str) -> Result<u64, Unproved> {
        u64::try_from(self.integer(name)?).map_err(|_| Unproved::Malformed(name))
    }

    pub(super) fn credits(&self, name: &'static str) -> Result<Credits, Unproved> {
        Credits::from_micros(self.count(name)?).ok_or(Unproved::Malformed(name))
    }

    pub(super) fn id(&self, name: &'static str) -> Result<[u8; 16], Unproved> {
        match self.0.get(name) {
            Some(OwnedCell::Blob(bytes)) => bytes.as_slice().try_into().ok(),
            _ => None,
        }
        .ok_or(Unproved::Malformed(name))
    }

    /// What a later revision says, in words.
    fn correction(&self) -> Result<String, Unproved> {
        let cell = |name: &str| self.0.get(name);
        let text = |name: &str| match cell(name) {
            Some(OwnedCell::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        let by = text("ordered").unwrap_or("truth");
        let why = text("reason").map(|reason| format!(": {reason}")).unwrap_or_default();
        let at = Timestamp::from_ms(self.integer("corrected_at")?);
        let priced_by = PolicyVersion(self.integer("policy")?.cast_unsigned());
        let (revision, charged) = (self.integer("revision")?, self.credits("charged")?);
        Ok(format!("revision {revision}, {by} of {at}, priced by {priced_by}, charged {charged}{why}"))
    }

    /// The hash of a monetization event. Receipts of older programs do not show what an operator ordered.
    fn money_hash(&self) -> Result<[u8; 32], Unproved> {
        let mut cells = Vec::with_capacity(MONEY.len() + ORDER.len());
        for column in MONEY {
            cells.push(self.0.get(column).ok_or(Unproved::Malformed(column))?.as_cell());
        }
        cells.extend(ORDER.map(|column| self.0.get(column).map_or(Cell::Null, OwnedCell::as_cell)));
        let mut bytes = RowBytes::default();
        bytes.money(&cells);
        Ok(bytes.hash(None))
    }

    pub(super) fn hash(
        &self,
        kind: RowKind,
        columns: &[&'static str],
        money: Option<&[u8; 32]>,
    ) -> Result<[u8; 32], Unproved> {
        let mut bytes = RowBytes::default();
        bytes.begin(kind);
        for column in columns {
            bytes.put(self.0.get(*column).ok_or(Unproved::Malformed(column))?.as_cell());
        }
        Ok(bytes.hash(money))
    }
}

impl Receipt {
    /// Whether all that it says follows from its checkpoint, which is signed under `trusted`.
    pub fn verify(&self, trusted: Option<&str>, read_policy: ReadPolicy<'_>) -> Result<&Told, Unproved> {
        if self.version != VERSION {
            return Err(Unproved::Malformed("version"));
        }
        let checkpoint = self.signed.verify(trusted)?;
        let root = unhex(&checkpoint.root, "root")?;
        let event = Row(&self.usage_event);
        let account = AccountId::from_bytes(event.id("account")?);
        self.verify_rows(&event, account, &root)?;
        let mut moved = 0i64;
        for balance in &self.balances {
            moved = moved.saturating_add(Self::verify_balance(balance, &event, account, &root)?);
        }
        let first =
            Row(self.monetization_events.first().ok_or(Unproved::Malformed("monetization_events"))?);
        for money in self.monetization_events.iter().map(Row) {
            let [gross, covered] = [money.count("gross")?, money.count("covered")?];
            let [forgiven, charged] = [money.count("forgiven")?, money.count("charged")?];
            if covered.saturating_add(forgiven).saturating_add(charged) != gross {
                return Err(Unproved::Amounts("gross is not covered, forgiven and charged"));
            }
        }
        let charged = first.count("charged")?;
        if moved.checked_neg().and_then(|moved| u64::try_from(moved).ok()) != Some(charged) {
            return Err(Unproved::Amounts("what balances gave is not what is charged"));
        }
        self.verify_policy(&event, &first, checkpoint, read_policy)?;
        if self.tell()? != self.told {
            return Err(Unproved::Amounts("what it tells is not what its rows say"));
        }
        Ok(&self.told)
    }

    /// The way of the usage event, its money and its corrections to the root.
    fn verify_rows(&self, event: &Row<'_>, account: AccountId, root: &[u8; 32]) -> Result<(), Unproved> {
        let money = self.monetization_events.iter().map(|cells| Row(cells).money_hash());
        let money: Vec<[u8; 32]> = money.collect::<Result<_, _>>()?;
        let seq = event.count("seq")?;
        let row = event.hash(RowKind::Event, &EVENT, money.first())?;
        let mut newest = link(&unhex(&self.link_before, "link_before")?, &row);
        let mut rows = Vec::new();
        for row in &self.rows_after {
            rows.push(unhex(row, "rows_after")?);
            newest = link(&newest, &rows[rows.len() - 1]);
        }
        let seq_of_head = Seq(seq.saturating_add(rows.len() as u64));
        let leaf = Leaf::Account { account, seq: seq_of_head, link: newest };
        if root_of(leaf.hash(), &self.way) != Some(*root) {
            return Err(Unproved::Way("the usage event"));
        }
        for ((cells, hash), revision) in self.monetization_events.iter().zip(&money).zip(1..) {
            let row = Row(cells);
            if row.id("decision")? != event.id("decision")? || row.integer("revision")? != revision {
                return Err(Unproved::Way("a monetization event"));
            }
            if revision == 1 {
                continue;
            }
            let kind = ("kind".to_owned(), OwnedCell::Text("correction".into()));
            let record: BTreeMap<_, _> = cells.clone().into_iter().chain([kind]).collect();
            let record = Row(&record).hash(RowKind::Record, &RECORD, Some(hash))?;
            let place = row.count("seq")?.checked_sub(seq.saturating_add(1));
            let place = place.and_then(|place| usize::try_from(place).ok());
            if place.and_then(|place| rows.get(place)) != Some(&record) {
                return Err(Unproved::Way("a correction"));
            }
        }
        Ok(())
    }

    /// The way of a balance's updates to the root; what they come to.
    fn verify_balance(
        proof: &BalanceProof,
        event: &Row<'_>,
        account: AccountId,
        root: &[u8; 32],
    ) -> Result<i64, Unproved> {
        let (seq, decision) = (Seq(event.count("seq")?), DecisionId::from_bytes(event.id("decision")?));
        let mut newest = unhex(&proof.hash_before, "hash_before")?;
        let mut moved = 0i64;
        for update in &proof.updates {
            if update.before.checked_add(update.amount) != Some(update.after) {
                return Err(Unproved::Amounts("a balance after is not that before and the amount"));
            }
            let said = Link {
                account,
                user: proof.user,
                balance: &proof.name,
                seq,
                kind: update.kind,
                cause: Cause::Decision(decision),
                grant: update.grant,
                amount: update.amount,
                before: update.before,
                after: update.after,
                at: update.at,
            };
            newest = said.hash(&newest);
            if matches!(update.kind, UpdateKind::Debit) {
                moved = moved.saturating_add(update.amount.micros());
            }
        }
        for later in &proof.updates_after {
            newest = link(&newest, &unhex(later, "updates_after")?);
        }
        let leaf = Leaf::Balance { account, user: proof.user, name: &proof.name, hash: newest };
        if root_of(leaf.hash(), &proof.way) != Some(*root) {
            return Err(Unproved::Way("a balance"));
        }
        Ok(moved)
    }

    /// The policy is the one that the checkpoint knows, and prices the call so.
    fn verify_policy(
        &self,
        event: &Row<'_>,
        money: &Row<'_>,
        checkpoint: &Checkpoint,
        read_policy: ReadPolicy<'_>,
    ) -> Result<(), Unproved> {
        let Some(policy) = &self.policy else { return Ok(()) };
        let version = PolicyVersion(event.integer("policy")?.cast_unsigned());
        let sha256 = hex::encode(Sha256::digest(policy));
        let is_known = |mark: &PolicyMark| mark.version == version.to_string() && mark.sha256 == sha256;
        if !checkpoint.policies.iter().any(is_known) {
            return Err(Unproved::Policy);
        }
        let policy = read_policy(policy).ok_or(Unproved::Policy)?;
        let used = quantities(event)?;
        let draws = text::to_draws(event.text("draws")?).ok_or(Unproved::Malformed("draws"))?;
        let usage = Usage {
            plan: event.text("plan")?,
            feature: event.text("feature")?,
            unit: text::to_word(event.text("unit")?).ok_or(Unproved::Malformed("unit"))?,
            model: event.text("model")?,
            size: event.optional("size")?,
            tier: event.optional("tier")?,
            outcome: text::to_word(event.text("outcome")?).ok_or(Unproved::Malformed("outcome"))?,
            quantities: &used,
            held_at: Timestamp::from_ms(event.integer("held_at")?),
            ended_at: Timestamp::from_ms(event.integer("ended_at")?),
            draws: &draws,
        };
        let weighed = weigh(&usage, &policy, &policy).map_err(Unproved::Draws)?;
        let found = (money.credits("gross")?, money.credits("covered")?, money.credits("charged")?);
        if (weighed.gross, weighed.covered, weighed.granted.saturating_add(weighed.owed)) != found {
            return Err(Unproved::Policy);
        }
        Ok(())
    }

    /// What its rows say. Of the money, the newest revision.
    pub(super) fn tell(&self) -> Result<Told, Unproved> {
        let event = Row(&self.usage_event);
        let money = Row(self.monetization_events.last().ok_or(Unproved::Malformed("monetization_events"))?);
        let used = match money.optional("true_used")? {
            Some(told) => text::to_quantities(told).ok_or(Unproved::Malformed("true_used"))?,
            None => quantities(&event)?,
        };
        let credits = |name| money.credits(name).map(|credits| credits.to_string());
        let corrections = self.monetization_events.iter().skip(1).map(|cells| Row(cells).correction());
        let corrections = corrections.collect::<Result<_, _>>()?;
        let balances = self.balances.iter().filter_map(|proof| {
            let (first, last) = (proof.updates.first()?, proof.updates.last()?);
            Some(format!("{}: {} before, {} after", proof.name, first.before, last.after))
        });
        Ok(Told {
            decision: DecisionId::from_bytes(event.id("decision")?).to_string(),
            account: AccountId::from_bytes(event.id("account")?).to_string(),
            user: UserId::from_bytes(event.id("user")?).to_string(),
            what: format!("{}: {}", event.text("feature")?, event.text("model")?),
            ended_at: Timestamp::from_ms(event.integer("ended_at")?).to_string(),
            used,
            price: money.text("price")?.to_owned(),
            gross: credits("gross")?,
            covered: credits("covered")?,
            forgiven: credits("forgiven")?,
            charged: credits("charged")?,
            balances: balances.collect(),
            corrections,
        })
    }
}

fn quantities(event: &Row<'_>) -> Result<Quantities, Unproved> {
    let tool_calls = match event.optional("tool_calls")? {
        Some(text) => serde_json::from_str(text).map_err(|_| Unproved::Malformed("tool_calls"))?,
        None => ToolCalls::new(),
    };
    Ok(Quantities {
        input_tokens: event.count("input_tokens")?,
        cached_input_tokens: event.count("cached_input_tokens")?,
        cache_write_tokens: event.count("cache_write_tokens")?,
        output_tokens: event.count("output_tokens")?,
        seconds: event.count("seconds")?,
        tool_calls,
    })
}

fn unhex(text: &str, what: &'static str) -> Result<[u8; 32], Unproved> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| Unproved::Malformed(what))?;
    Ok(bytes)
}
