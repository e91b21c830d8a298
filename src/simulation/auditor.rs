//! The auditor: what the meter must answer and the books must say, worked out from the facts alone.
//!
//! It shares no code with the core, the settlement or the ledger. It keeps every call and every grant for ever, and
//! knows no counters: what a window stands at is the sum over all calls that name it, each time anew. For every frame
//! of the journal it keeps what was true behind it, so that after a crash the truth is that of the frames that are
//! there.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::rules::{Balance, Feature, Tier};

mod cap;
mod ordered;
mod verdict;
mod walk;

pub(super) use ordered::Of;
pub(super) use verdict::Verdict;

/// 16 bytes that name something.
pub(super) type Id = [u8; 16];
/// What somebody wanted to be otherwise.
pub(super) type Violation = String;

/// Whose: an account's, or one of its users'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    /// Which account.
    pub(super) account: usize,
    /// Which of all users, where it is a user's.
    pub(super) user: Option<usize>,
}

/// How much of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// Tokens of input.
    pub(super) input: u64,
    /// Tokens of output.
    pub(super) output: u64,
    /// Seconds of video.
    pub(super) seconds: u64,
    /// In which service.
    pub(super) tier: Tier,
}

/// Out of what a layer gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The windows that began then.
    Windows(Vec<i64>),
    /// A grant.
    Grant(Id),
    /// What is owed.
    Debt,
}

/// What a layer gives to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Take {
    /// Its place.
    pub(super) layer: usize,
    /// How much.
    pub(super) amount: u64,
    /// Out of what.
    pub(super) source: Source,
}

/// The money of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Money {
    pub(super) gross: u64,
    pub(super) covered: u64,
    pub(super) forgiven: u64,
    pub(super) excess: u64,
    pub(super) charged: u64,
}

/// What a job makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// A video: nothing is charged for half of one.
    Video,
    /// A response.
    Response,
}

/// A call that was let through.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) id: Id,
    pub(super) account: usize,
    pub(super) user: usize,
    pub(super) feature: Feature,
    pub(super) rules: usize,
    pub(super) held_at: i64,
    pub(super) expires: i64,
    pub(super) sent: bool,
    pub(super) estimate: Use,
    pub(super) takes: Vec<Take>,
    /// What counts under the spend cap, by the window's start: what it may come to while it is open, then what it came
    /// to.
    pub(super) spends: Vec<(i64, u64)>,
    /// What the journal knows of it: what is added while it runs is not written down.
    pub(super) written: Written,
    /// What it goes on as, and whether the journal knows.
    pub(super) job: Option<(Made, bool)>,
    pub(super) open: bool,
    pub(super) ended_at: i64,
    pub(super) outcome: &'static str,
    pub(super) money: Money,
    pub(super) corrected: bool,
    /// What it used, as was last told.
    pub(super) used: Use,
    /// The rules that price it.
    pub(super) priced: usize,
    /// The newest revision of its money.
    pub(super) revision: u32,
    /// When its money was settled: a refund settles nothing.
    pub(super) settled_at: i64,
    /// What operators have given back.
    pub(super) refunded: u64,
}

/// A call as its hold was written down.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) estimate: Use,
    pub(super) takes: Vec<Take>,
    pub(super) spends: Vec<(i64, u64)>,
}

/// Credits that were given.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) id: Id,
    pub(super) owner: Owner,
    pub(super) balance: Balance,
    pub(super) amount: u64,
    pub(super) priority: u16,
    pub(super) expires: i64,
    pub(super) left: u64,
    pub(super) issued: bool,
}

/// A change of a balance that the books must show.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Change {
    pub(super) owner: Owner,
    pub(super) balance: Balance,
    pub(super) kind: &'static str,
    pub(super) grant: Option<Id>,
    pub(super) amount: i64,
}

/// What a row of the books is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A call that reached the upstream: revision 1, or the correction after it.
    Call { id: Id, outcome: &'static str, tier: Tier, money: Money, revision: u32 },
    /// A call that did not.
    Void { id: Id },
    /// A grant.
    Grant { id: Id, amount: u64 },
    /// Grants that came to their end.
    Expiry,
    /// A balance adjusted by an operator.
    Adjustment { id: Id, amount: i64 },
}

/// What one number of an account's sequence must be in the books.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) account: usize,
    pub(super) seq: u64,
    pub(super) at: i64,
    pub(super) what: What,
    pub(super) changes: Vec<Change>,
}

/// All that is true behind one frame.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) calls: BTreeMap<Id, Call>,
    pub(super) grants: Vec<Grant>,
    pub(super) debts: BTreeMap<(Owner, Balance), u64>,
    /// By account and month.
    pub(super) forgiven: BTreeMap<(usize, usize), u64>,
    pub(super) seqs: BTreeMap<usize, u64>,
    pub(super) rows: Vec<Rc<Row>>,
    /// Orders of operators that were carried out: refunds and adjustments.
    pub(super) ordered: Vec<Id>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Auditor {
    /// What is true now.
    pub(super) state: State,
    /// What was true behind each frame; the first: before all of them.
    frames: Vec<State>,
    /// When requests were let through, by user.
    admitted: Vec<(usize, i64)>,
}

impl Auditor {
    pub(super) fn new() -> Self {
        Self { state: State::default(), frames: vec![State::default()], admitted: Vec::new() }
    }

    /// How many frames the journal must have been given.
    pub(super) fn frames(&self) -> u64 {
        self.frames.len() as u64 - 1
    }

    fn framed(&mut self) {
        self.frames.push(self.state.clone());
    }

    /// A hold was taken as the verdict says.
    pub(super) fn held(&mut self, call: Call, issued: Option<Grant>) {
        // Videos have no such guard.
        if call.feature == Feature::Codex {
            self.admitted.push((call.user, call.held_at));
        }
        if let Some(grant) = issued {
            self.state.granted(grant, 0, call.held_at);
        }
        self.state.calls.insert(call.id, call);
        self.framed();
    }

    /// I4 of the rate: in any time no more requests than its burst and what comes back.
    pub(super) fn check_rate(&self) -> Result<(), Violation> {
        let Some(newest) = self.admitted.last() else { return Ok(()) };
        let mine: Vec<i64> = self.admitted.iter().filter(|it| it.0 == newest.0).map(|it| it.1).collect();
        for (first, began) in mine.iter().enumerate() {
            let count = (mine.len() - first) as u64;
            let time = u64::try_from(newest.1 - began).unwrap_or(0);
            let rate = super::rules::BURST_MS.unsigned_abs();
            if count * rate > super::rules::BURST * rate + super::rules::BURST * time {
                return Err(format!("I4: {count} requests in {time} ms"));
            }
        }
        Ok(())
    }

    /// A call ended with what it used; `None`: it was never sent. Tells its money.
    pub(super) fn ended(&mut self, id: Id, used: Option<Use>, outcome: &'static str, now: i64) -> Money {
        let money = self.state.end(id, used, outcome, now);
        self.framed();
        money
    }

    /// What an order must repay at once; nothing where it was carried out before.
    pub(super) fn granted(&mut self, grant: Grant, now: i64) -> Option<u64> {
        if self.state.grants.iter().any(|other| other.id == grant.id) {
            return None;
        }
        let repaid = self.state.debt(grant.owner, grant.balance).min(grant.amount);
        self.state.granted(grant, repaid, now);
        self.framed();
        Some(repaid)
    }

    /// A call goes on as a job; `written`: the journal knows.
    pub(super) fn became_job(&mut self, id: Id, made: Made, expires: i64, written: bool) {
        if let Some(call) = self.state.calls.get_mut(&id) {
            call.sent = true;
            call.expires = expires;
            call.job = Some((made, written));
        }
        if written {
            self.framed();
        }
    }

    /// Those that are past their deadline.
    pub(super) fn due(&self, now: i64) -> Vec<Id> {
        let open = self.state.calls.values().filter(|call| call.open && call.expires <= now);
        open.map(|call| call.id).collect()
    }

    /// The sweeper came by. Tells how many were voided, charged, and how many
    /// grants expired.
    pub(super) fn swept(&mut self, now: i64) -> (u64, u64, u64) {
        let mut swept = (0, 0, 0);
        for id in self.due(now) {
            let call = &self.state.calls[&id];
            let floor = Use { output: 0, ..call.estimate };
            let (used, outcome) = match (call.sent, call.job) {
                (false, _) => (None, "not-sent"),
                (true, Some((Made::Video, _))) => (Some(Use::default()), "expired"),
                (true, _) => (Some(floor), "expired"),
            };
            let video = matches!(call.job, Some((Made::Video, _)));
            if call.sent && !video {
                swept.1 += 1;
            } else {
                swept.0 += 1;
            }
            self.ended(id, used, outcome, now);
        }
        for account in self.state.expiring(now) {
            swept.2 += self.expire(account, now);
        }
        swept
    }

    /// Takes out what has expired and nobody holds: one record for each owner.
    fn expire(&mut self, account: usize, now: i64) -> u64 {
        let mut count = 0;
        for owner in self.state.owners(account) {
            let mut changes = Vec::new();
            for balance in [Balance::Launch, Balance::Wallet] {
                changes.extend(self.state.expire(owner, balance, now));
            }
            if !changes.is_empty() {
                count += changes.len() as u64;
                self.state.book(account, now, What::Expiry, changes);
                self.framed();
            }
        }
        count
    }

    /// The machine died, and so many frames are there. Tells which holds must be charged at their floor.
    pub(super) fn crashed(&mut self, frames: u64) -> Vec<Id> {
        let kept = usize::try_from(frames).unwrap_or(usize::MAX);
        self.frames.truncate(kept + 1);
        self.state = self.frames[kept].clone();
        let known = &self.state.calls;
        let held: Vec<_> = known.values().map(|call| (call.user, call.held_at)).collect();
        self.admitted.retain(|it| held.contains(it));
        let mut floored = Vec::new();
        for call in self.state.calls.values_mut().filter(|call| call.open) {
            let Written { estimate, takes, spends } = call.written.clone();
            (call.estimate, call.takes, call.spends) = (estimate, takes, spends);
            call.sent = true;
            call.job = call.job.filter(|(_, written)| *written);
            if call.job.is_none() {
                floored.push(call.id);
            }
        }
        floored
    }

    /// After a restart they are charged, in the order of their ids.
    pub(super) fn floored(&mut self, ids: &[Id], now: i64) {
        for id in ids {
            let floor = Use { output: 0, ..self.state.calls[id].estimate };
            self.ended(*id, Some(floor), "crashed", now);
        }
    }

    /// A truth came after the deadline. Tells the money of it; nothing where it changes none.
    pub(super) fn corrected(&mut self, id: Id, used: Use, now: i64) -> Option<Money> {
        let money = self.state.correct(id, used, now)?;
        self.framed();
        Some(money)
    }
}

impl State {
    pub(super) fn debt(&self, owner: Owner, balance: Balance) -> u64 {
        self.debts.get(&(owner, balance)).copied().unwrap_or(0)
    }

    /// The account and those users of it that were ever given anything, in the order of their ids.
    fn owners(&self, account: usize) -> Vec<Owner> {
        let users = self.grants.iter().filter(|it| it.owner.account == account).map(|it| it.owner);
        let mut owners: Vec<Owner> = users.chain([Owner { account, user: None }]).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// Accounts with something to expire, the earliest first.
    fn expiring(&self, now: i64) -> Vec<usize> {
        let due = self.grants.iter().filter(|it| it.expires <= now && it.left > self.reserved(it.id));
        let mut due: Vec<_> = due.map(|it| (it.expires, it.owner.account)).collect();
        due.sort_unstable();
        let mut accounts: Vec<usize> = Vec::new();
        for (_, account) in due {
            if !accounts.contains(&account) {
                accounts.push(account);
            }
        }
        accounts
    }

    fn granted(&mut self, mut grant: Grant, repaid: u64, now: i64) {
        let (owner, balance, id) = (grant.owner, grant.balance, Some(grant.id));
        let change = |kind, grant, amount| Change { owner, balance, kind, grant, amount };
        let mut changes = vec![change("grant", id, grant.amount.cast_signed())];
        if repaid > 0 {
            changes.push(change("adjustment", None, repaid.cast_signed()));
            changes.push(change("adjustment", id, -repaid.cast_signed()));
        }
        grant.left -= repaid;
        if let Some(debt) = self.debts.get_mut(&(owner, balance)) {
            *debt -= repaid;
        }
        let what = What::Grant { id: grant.id, amount: grant.amount };
        self.grants.push(grant);
        self.grants.sort_unstable_by_key(|it| (it.priority, it.expires, it.id));
        self.book(owner.account, now, what, changes);
    }

    /// Gives the account's next number to what the books must say.
    fn book(&mut self, account: usize, at: i64, what: What, changes: Vec<Change>) {
        let seq = self.seqs.entry(account).or_default();
        *seq += 1;
        let row = Row { account, seq: *seq, at, what, changes };
        self.rows.push(Rc::new(row));
    }
}
