//! What a batch needs of the books, read before it is booked, and what it adds to them.

use std::collections::{HashMap, HashSet};

use super::table::{Kind, Rows};
use crate::access::record::{
    AdjustmentRecord, EndRecord, GrantOrigin, GrantRecord, JobRecord, MadeRecord, Resource,
};
use crate::ledger::LedgerError;
use crate::ledger::booking::{Head, Owner, Shelf, UpdateRow};
use crate::ledger::cells::{perhaps, words};
use crate::ledger::chain::rows::{Cell, EVENT, MONEY, ORDER, RECORD};
use crate::ledger::posting::{Numbered, Purse};
use crate::policy::compiled::Name;
use crate::units::{AccountId, Credits, DecisionId, GrantId, OrderId, Seq, UserId};

/// Where a booked call stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct BookedCall {
    /// Who pays.
    pub account: AccountId,
    /// Its place in the account's sequence.
    pub seq: Seq,
    /// The digest of its record.
    pub digest: [u8; 16],
}

/// Free places: the next of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Places {
    /// Of usage events.
    pub events: i64,
    /// Of balance updates.
    pub updates: i64,
    /// Of other records.
    pub records: i64,
    /// Of balances.
    pub balances: i64,
}

/// What the books have that the batch touches.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The accounts' newest rows.
    pub heads: HashMap<AccountId, Head>,
    /// What owners have.
    pub purses: HashMap<Owner, Purse>,
    /// The batch's decisions that are booked.
    pub calls: HashMap<DecisionId, BookedCall>,
    /// What revisions of its corrected decisions have charged, and what operators have given back by then.
    pub charged: HashMap<(DecisionId, u32), (Credits, Credits)>,
    /// Its orders, refunds and adjustments, that are booked.
    pub orders: HashSet<OrderId>,
    /// Its grants that are booked.
    pub grants: HashSet<GrantId>,
    /// Its other records that are booked.
    pub records: HashMap<(AccountId, Seq), [u8; 16]>,
    /// Free places.
    pub places: Places,
}

/// What the batch adds.
pub(super) struct Added {
    /// Usage events.
    pub events: Rows,
    /// Monetization events.
    pub money: Rows,
    /// Other records.
    pub records: Rows,
    /// Grants.
    pub grants: Rows,
    /// Adjustments.
    pub adjustments: Rows,
    /// Balance updates.
    pub updates: Rows,
    /// Rows of balances that are new.
    pub balances: HashSet<i64>,
    /// Owners whose counters or balances changed.
    pub owners: HashSet<Owner>,
    /// Whose things made upstream are, in turns: nothing is twice in one.
    pub owned: Vec<OwnedRows>,
    turns: HashMap<String, usize>,
}

/// One turn of things made upstream, by how they came to be known.
pub(super) struct OwnedRows {
    /// By the end of a call.
    pub ends: Rows,
    /// By a job.
    pub jobs: Rows,
    /// By their making.
    pub made: Rows,
}

/// The batch under way.
pub(super) struct Desk {
    /// What the books have.
    pub known: Known,
    /// What is added.
    pub added: Added,
}

/// Where a monetization event names the refund that it is.
const ORDER_ID: usize = MONEY.len() + 2;

const UPDATE: [&str; 13] = [
    "place",
    "balance",
    "seq",
    "previous",
    "kind",
    "cause_kind",
    "cause",
    "grant_id",
    "amount",
    "before",
    "after",
    "at",
    "hash",
];

impl Added {
    fn new() -> Self {
        let grant = [
            ("id", Kind::Id),
            ("balance", Kind::Integer),
            ("seq", Kind::Integer),
            ("amount", Kind::Integer),
            ("repaid", Kind::Integer),
            ("priority", Kind::Integer),
            ("expires_at", Kind::Integer),
            ("granted_at", Kind::Integer),
            ("decision", Kind::Id),
            ("idempotency_key", Kind::Text),
            ("note", Kind::Text),
        ];
        let adjustment =
            ["balance", "seq", "grant_id", "amount", "repaid", "adjusted_at", "idempotency_key", "reason"]
                .map(|column| (column, super::table::kind_of(column)));
        Self {
            events: Rows::new(EVENT.into_iter().chain(["place", "previous", "hash"])),
            money: Rows::new(MONEY.into_iter().chain(ORDER)),
            records: Rows::new(RECORD.into_iter().chain(["place", "hash"])),
            grants: Rows::of(grant),
            adjustments: Rows::of(std::iter::once(("id", Kind::Id)).chain(adjustment)),
            updates: Rows::new(UPDATE),
            balances: HashSet::new(),
            owners: HashSet::new(),
            owned: Vec::new(),
            turns: HashMap::new(),
        }
    }

    /// The turn in which something is noted of this thing.
    fn turn(&mut self, resource: &str) -> &mut OwnedRows {
        // As it is stored: see `cells::words`.
        let stored = resource.split('\0').next().unwrap_or_default();
        let turn = self.turns.entry(stored.to_owned()).or_default();
        let place = *turn;
        *turn += 1;
        if self.owned.len() <= place {
            self.owned.push(OwnedRows::new());
        }
        &mut self.owned[place]
    }
}

impl OwnedRows {
    fn new() -> Self {
        let id = ("id", Kind::Text);
        let of = |more: &[&'static str]| {
            let common = ["account", "user", "context_tokens", "upstream", "made_at"];
            let columns = common.iter().chain(more).map(|column| (*column, super::table::kind_of(column)));
            Rows::of(std::iter::once(id).chain(columns))
        };
        Self { ends: of(&[]), jobs: of(&["decision"]), made: of(&["kind", "model", "seconds", "size"]) }
    }
}

impl Desk {
    /// With nothing added yet.
    pub(super) fn new(known: Known) -> Self {
        Self { known, added: Added::new() }
    }

    fn common<'a>(
        resource: &'a Resource,
        account: &'a AccountId,
        user: &'a UserId,
        tokens: u64,
        at: crate::units::Timestamp,
    ) -> [Cell<'a>; 6] {
        [
            words(&resource.id),
            Cell::Blob(account.as_bytes()),
            Cell::Blob(user.as_bytes()),
            Cell::Integer(i64::try_from(tokens).unwrap_or(i64::MAX)),
            perhaps(resource.upstream.as_deref()),
            Cell::Integer(at.ms()),
        ]
    }
}

/// Takes the next of some places.
const fn next(place: &mut i64) -> i64 {
    let taken = *place;
    *place += 1;
    taken
}

impl Shelf for Desk {
    fn head(&mut self, account: AccountId) -> Result<Option<Head>, LedgerError> {
        Ok(self.known.heads.get(&account).copied())
    }

    fn set_head(&mut self, account: AccountId, head: Head) {
        self.known.heads.insert(account, head);
    }

    fn take_purse(&mut self, owner: Owner) -> Result<Purse, LedgerError> {
        Ok(self.known.purses.remove(&owner).unwrap_or_default())
    }

    fn return_purse(&mut self, owner: Owner, purse: Purse, changed: bool) {
        self.known.purses.insert(owner, purse);
        if changed {
            self.added.owners.insert(owner);
        }
    }

    fn booked_digest(&mut self, record: &Numbered<'_>) -> Result<Option<[u8; 16]>, LedgerError> {
        let (account, seq) = (record.account(), record.seq());
        Ok(match record {
            Numbered::End(end) if end.ending.reached_upstream => {
                let call = self.known.calls.get(&end.decision);
                call.filter(|call| (call.account, call.seq) == (account, seq)).map(|call| call.digest)
            }
            _ => self.known.records.get(&(account, seq)).copied(),
        })
    }

    fn charged(
        &mut self,
        decision: DecisionId,
        revision: u32,
        account: AccountId,
    ) -> Result<Option<(Credits, Credits)>, LedgerError> {
        let is_its = self.known.calls.get(&decision).is_some_and(|call| call.account == account);
        Ok(self.known.charged.get(&(decision, revision)).copied().filter(|_| is_its))
    }

    fn add_event(
        &mut self,
        row: &[Cell<'_>; EVENT.len()],
        previous: Option<i64>,
        hash: &[u8; 32],
    ) -> Result<Option<i64>, LedgerError> {
        let account = AccountId::from_bytes(bytes(row[1])?);
        let call = BookedCall { account, seq: seq(row[2])?, digest: bytes(row[25])? };
        let decision = DecisionId::from_bytes(bytes(row[0])?);
        if self.known.calls.contains_key(&decision) {
            return Ok(None);
        }
        self.known.calls.insert(decision, call);
        let place = next(&mut self.known.places.events);
        let more = [Cell::Integer(place), perhaps_place(previous), Cell::Blob(hash)];
        self.added.events.push(row.iter().copied().chain(more))?;
        Ok(Some(place))
    }

    fn add_money(&mut self, row: &[Cell<'_>]) -> Result<bool, LedgerError> {
        let decision = DecisionId::from_bytes(bytes(cell(row, 0))?);
        let key = (decision, u32::try_from(integer(cell(row, 1))?).unwrap_or(u32::MAX));
        if self.known.charged.contains_key(&key) {
            return Ok(false);
        }
        let credits = |cell: Cell<'_>| match cell {
            Cell::Integer(micros) => Credits::from_micros(micros.unsigned_abs()).unwrap_or_default(),
            _ => Credits::ZERO,
        };
        if let Cell::Blob(_) = cell(row, ORDER_ID)
            && !self.known.orders.insert(OrderId::from_bytes(bytes(cell(row, ORDER_ID))?))
        {
            return Ok(false);
        }
        self.known.charged.insert(key, (credits(cell(row, 8)), credits(cell(row, MONEY.len()))));
        self.added.money.push((0..MONEY.len() + ORDER.len()).map(|place| cell(row, place)))?;
        Ok(true)
    }

    fn add_record(&mut self, row: &[Cell<'_>; RECORD.len()], hash: &[u8; 32]) -> Result<(), LedgerError> {
        let account = AccountId::from_bytes(bytes(row[0])?);
        self.known.records.insert((account, seq(row[1])?), bytes(row[3])?);
        let more = [Cell::Integer(next(&mut self.known.places.records)), Cell::Blob(hash)];
        self.added.records.push(row.iter().copied().chain(more))
    }

    fn add_grant(&mut self, record: &GrantRecord, balance: i64) -> Result<bool, LedgerError> {
        if !self.known.grants.insert(record.grant) {
            return Ok(false);
        }
        let (decision, key, note) = match &record.origin {
            GrantOrigin::Operator { idempotency_key, note } => {
                (Cell::Null, words(idempotency_key), perhaps(note.as_deref()))
            }
            GrantOrigin::Issue { decision } => (Cell::Blob(decision.as_bytes()), Cell::Null, Cell::Null),
        };
        self.added.grants.push([
            Cell::Blob(record.grant.as_bytes()),
            Cell::Integer(balance),
            Cell::Integer(record.seq.0.cast_signed()),
            Cell::Integer(record.amount.micros().cast_signed()),
            Cell::Integer(record.repaid.micros().cast_signed()),
            Cell::Integer(record.priority.into()),
            record.expires_at.map_or(Cell::Null, |at| Cell::Integer(at.ms())),
            Cell::Integer(record.granted_at.ms()),
            decision,
            key,
            note,
        ])?;
        Ok(true)
    }

    fn add_adjustment(&mut self, record: &AdjustmentRecord, balance: i64) -> Result<bool, LedgerError> {
        if !self.known.orders.insert(record.id) {
            return Ok(false);
        }
        self.added.adjustments.push([
            Cell::Blob(record.id.as_bytes()),
            Cell::Integer(balance),
            Cell::Integer(record.seq.0.cast_signed()),
            record.grant.as_ref().map_or(Cell::Null, |grant| Cell::Blob(grant.as_bytes())),
            Cell::Integer(record.amount.micros()),
            Cell::Integer(record.repaid.micros().cast_signed()),
            Cell::Integer(record.adjusted_at.ms()),
            words(&record.idempotency_key),
            words(&record.reason),
        ])?;
        Ok(true)
    }

    fn add_balance(&mut self, _: Owner, _: &Name) -> Result<i64, LedgerError> {
        let row = next(&mut self.known.places.balances);
        self.added.balances.insert(row);
        Ok(row)
    }

    fn add_update(&mut self, row: &UpdateRow<'_>) -> Result<i64, LedgerError> {
        let UpdateRow { balance, seq, previous, cause, at, update } = row;
        let place = next(&mut self.known.places.updates);
        self.added.updates.push([
            Cell::Integer(place),
            Cell::Integer(*balance),
            Cell::Integer(seq.0.cast_signed()),
            perhaps_place(*previous),
            words(update.kind.as_str()),
            words(cause.kind()),
            Cell::Blob(cause.as_bytes()),
            update.grant.as_ref().map_or(Cell::Null, |grant| Cell::Blob(grant.as_bytes())),
            Cell::Integer(update.amount.micros()),
            Cell::Integer(update.before.micros()),
            Cell::Integer(update.after.micros()),
            Cell::Integer(at.ms()),
            Cell::Blob(&update.hash),
        ])?;
        Ok(place)
    }

    fn own(&mut self, resource: &Resource, end: &EndRecord) -> Result<(), LedgerError> {
        let tokens = end.used.quantities.tokens();
        let row = Self::common(resource, &end.account, &end.user, tokens, end.ended_at);
        self.added.turn(&resource.id).ends.push(row)
    }

    fn own_job(&mut self, job: &JobRecord) -> Result<(), LedgerError> {
        if self.known.calls.contains_key(&job.decision) {
            return Ok(());
        }
        let row = Self::common(&job.resource, &job.account, &job.user, 0, job.began_at);
        let decision = Cell::Blob(job.decision.as_bytes());
        self.added.turn(&job.resource.id).jobs.push(row.into_iter().chain([decision]))
    }

    fn own_made(&mut self, made: &MadeRecord) -> Result<(), LedgerError> {
        let row = Self::common(&made.resource, &made.account, &made.user, 0, made.made_at);
        let video = made.video.as_ref();
        let seconds = video.map(|video| i64::try_from(video.seconds).unwrap_or(i64::MAX));
        let more = [
            words(if video.is_some() { "video" } else { "character" }),
            perhaps(video.map(|video| &*video.model)),
            seconds.map_or(Cell::Null, Cell::Integer),
            perhaps(video.and_then(|video| video.size.as_deref())),
        ];
        self.added.turn(&made.resource.id).made.push(row.into_iter().chain(more))
    }
}

fn perhaps_place(place: Option<i64>) -> Cell<'static> {
    place.map_or(Cell::Null, Cell::Integer)
}

fn bytes<const N: usize>(cell: Cell<'_>) -> Result<[u8; N], LedgerError> {
    let Cell::Blob(bytes) = cell else { return Err(unfit(cell)) };
    bytes.try_into().map_err(|_| unfit(cell))
}

/// The cell in this place; null behind the last.
fn cell<'a>(row: &[Cell<'a>], place: usize) -> Cell<'a> {
    row.get(place).copied().unwrap_or(Cell::Null)
}

fn integer(cell: Cell<'_>) -> Result<i64, LedgerError> {
    let Cell::Integer(integer) = cell else { return Err(unfit(cell)) };
    Ok(integer)
}

fn seq(cell: Cell<'_>) -> Result<Seq, LedgerError> {
    let Cell::Integer(seq) = cell else { return Err(unfit(cell)) };
    Ok(Seq(seq.cast_unsigned()))
}

fn unfit(cell: Cell<'_>) -> LedgerError {
    LedgerError::Corrupt { what: format!("a row with {cell:?} where something else belongs") }
}
