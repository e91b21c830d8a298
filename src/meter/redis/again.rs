//! What a node does again in a new epoch: the store has it no more, and the books have it not.
//!
//! A call that has ended is charged again, with a new number, by what there is now: what it drew from a window or a grant
//! may be gone, and is then drawn elsewhere, owed or forgiven as policy says. A hold is held again. Whatever was done
//! again before (by a node that was killed in the middle) is found in the store or in the books, and left as it is.
//!
//! What an operator ordered of a call's money or of a balance is not: the order is told as lost, with its id, so that it
//! can be given again.

use std::sync::Arc;

use super::attendant::AttendError;
use super::degraded::Lent;
use super::epochs::Word;
use super::kept::{Kept, OpenHold};
use super::keys::RowKey;
use super::sheet::{HoldState, Sheet};
use super::verbs::{finish, grant};
use super::{RedisMeter, StoreError};
use crate::access::record::{EndRecord, Entry, GrantRecord, HoldRecord, Record};
use crate::access::{GrantOrder, Terms};
use crate::journal::Position;
use crate::ledger::Ledger;
use crate::policy::compiled::CounterKey;
use crate::units::{AccountId, PolicyVersion, Span};

const BATCH_FRAMES: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;

impl RedisMeter {
    /// Fills balances again that this node has filled, where neither store nor books know of it. Tells what the journal
    /// has.
    pub(super) async fn grant_again(&self, ledger: &dyn Ledger, epoch: u64) -> Result<Kept, AttendError> {
        let word = self.office.epochs.word_to_hold()?;
        let kept = self.recall(epoch).await?;
        for record in kept.before() {
            if let Record::Grant(granted) = record
                && ledger.grant(granted.grant).await?.is_none()
            {
                self.give_again(&word, granted).await?;
            }
        }
        Ok(kept)
    }

    /// Has the store hold again what this node has in flight, and does again what is in neither store nor books: behind
    /// what fills balances, which these draw on. Tells what the journal has.
    pub(super) async fn hold_again(&self, ledger: &dyn Ledger, epoch: u64) -> Result<Kept, AttendError> {
        let word = self.office.epochs.word_to_hold()?;
        let mut kept = self.grant_again(ledger, epoch).await?;
        for record in kept.before() {
            self.again(&word, ledger, record).await?;
        }
        let mut over = Vec::new();
        for (decision, open) in &kept.open {
            // It may have ended without this node having heard.
            if ledger.decision(*decision).await?.is_some() {
                self.log.is_over(*decision);
                over.push(*decision);
            } else {
                self.take_up(&word, open).await?;
            }
        }
        kept.open.retain(|decision, _| !over.contains(decision));
        self.log.note(&Entry::DoneAgain(epoch))?.await.map_err(AttendError::NotDurable)?;
        if let Some(at) = kept.began_at() {
            self.log.began.set(epoch, at);
        }
        Ok(kept)
    }

    /// What the journal has, with the epoch noted there before anything is done in it.
    async fn recall(&self, epoch: u64) -> Result<Kept, AttendError> {
        let mut reader = self.log.journal.reader(Position::START);
        let (mut kept, mut is_noted) = (Kept::default(), false);
        loop {
            self.log.journal.flush().await.map_err(AttendError::NotDurable)?;
            let batch = reader.next_batch(BATCH_FRAMES, BATCH_BYTES)?;
            for frame in &batch {
                let entry = Entry::read(frame.id, &frame.payload).map_err(AttendError::Unreadable)?;
                kept.add(frame.position, entry);
            }
            if batch.is_empty() && kept.has_begun(epoch) {
                return Ok(kept);
            }
            if batch.is_empty() && !is_noted {
                let _seen_above = self.log.note(&Entry::Began(epoch))?;
                is_noted = true;
            }
        }
    }

    async fn again(&self, word: &Word, ledger: &dyn Ledger, record: &Record) -> Result<(), AttendError> {
        match record {
            Record::End(end) if ledger.decision(end.decision).await?.is_none() => {
                self.end_again(word, end).await?;
            }
            Record::Adjustment(adjusted) if ledger.adjustment(adjusted.id).await?.is_none() => {
                lost("an adjustment", adjusted.account, &adjusted.id.to_string());
            }
            Record::Correction(correction) => {
                let booked = ledger.decision(correction.decision).await?;
                if booked.is_none_or(|booked| booked.revision < correction.revision) {
                    lost("a correction", correction.account, &correction.decision.to_string());
                }
            }
            Record::Revision(revision) => {
                let correction = &revision.correction;
                let booked = ledger.decision(correction.decision).await?;
                if booked.is_none_or(|booked| booked.revision < correction.revision) {
                    lost(revision.order.as_str(), correction.account, &correction.decision.to_string());
                }
            }
            // What has expired expires again.
            Record::End(_)
            | Record::Grant(_)
            | Record::Adjustment(_)
            | Record::Hold(_)
            | Record::Expiry(_)
            | Record::Job(_)
            | Record::Made(_) => {}
        }
        Ok(())
    }

    async fn end_again(&self, word: &Word, end: &EndRecord) -> Result<(), AttendError> {
        let (account, decision) = (end.account, end.decision);
        let mut hold = HoldRecord::of_end(end);
        let terms = self.terms(&hold, end.policy).await?;
        // What it held was what it used, so that it is drawn from where it was.
        hold.draws = terms.draws_of(&end.draws);
        let rows = [RowKey::User(end.user), RowKey::Hold(decision)];
        let (by, end) = (rand::random(), end.clone());
        let verb = move |sheet: &mut Sheet| {
            match sheet.ended.get(&decision) {
                Some(HoldState::Ended { record, .. }) => return Some(record.clone()),
                Some(_) => return None,
                None => {}
            }
            if sheet.account.hold_of(decision).is_none() {
                sheet.account.take_up_again(hold.clone(), terms.clone());
            }
            finish(sheet, by, decision, end.used.clone(), end.ending.clone()).ok()
        };
        let done = self.desk(account).ask(&self.office, Arc::clone(word), &rows, verb).await?;
        if let Some(done) = done {
            metrics::counter!("overfall_records_done_again_total").increment(1);
            let _flushed_with_the_others = self.log.append(&Record::End(done))?;
        }
        Ok(())
    }

    async fn give_again(&self, word: &Word, granted: &GrantRecord) -> Result<(), AttendError> {
        let rows: Vec<_> =
            granted.user.map(RowKey::User).into_iter().chain([RowKey::Grant(granted.grant)]).collect();
        let order = GrantOrder {
            grant: granted.grant,
            user: granted.user,
            balance: granted.balance.clone(),
            key: CounterKey::of_balance(&granted.balance),
            amount: granted.amount,
            priority: granted.priority,
            expires_at: granted.expires_at,
            origin: granted.origin.clone(),
        };
        // It counts from when it was given: that is when it expires by, and what policy issued it at.
        let (by, granted_at) = (rand::random(), granted.granted_at);
        let verb = move |sheet: &mut Sheet| grant(sheet, by, order.clone(), granted_at);
        let done = self.desk(granted.account).ask(&self.office, Arc::clone(word), &rows, verb).await?;
        match done {
            Ok(Some(record)) => {
                metrics::counter!("overfall_records_done_again_total").increment(1);
                let _flushed_with_the_others = self.log.append(&record)?;
            }
            Ok(None) => {}
            Err(_) => lost("a grant", granted.account, &granted.grant.to_string()),
        }
        Ok(())
    }

    /// Takes an open hold up again that the store does not have any more: it reserves what it reserved, for as long again.
    /// One that is there, or has ended there, stays as it is.
    async fn take_up(&self, word: &Word, open: &OpenHold) -> Result<(), AttendError> {
        let terms = self.terms(&open.hold, open.hold.policy).await?;
        let (account, decision) = (open.hold.account, open.hold.decision);
        let rows = [RowKey::User(open.hold.user), RowKey::Hold(decision)];
        let (hold, job) = ((*open.hold).clone(), open.job.clone());
        let verb = move |sheet: &mut Sheet| {
            if sheet.account.hold_of(decision).is_none() && !sheet.has_ended(decision) {
                let lifetime = hold.expires_at.since(hold.held_at);
                let expires_at = hold.expires_at.max(sheet.now.plus(lifetime.max(Span::from_seconds(1))));
                sheet.account.take_up_again(HoldRecord { expires_at, ..hold.clone() }, terms.clone());
                if let Some(job) = &job
                    && sheet.account.begin_job(job.clone()).is_ok()
                {
                    sheet.records.push(Record::Job(job.clone()));
                }
            }
        };
        self.desk(account).ask(&self.office, Arc::clone(word), &rows, verb).await?;
        Ok(())
    }

    /// Has the store hold what this node let through without it.
    pub(super) async fn take_in(&self) -> Result<(), AttendError> {
        let word = self.office.epochs.word()?;
        for Lent { hold, .. } in self.office.degraded.all() {
            let decision = hold.decision;
            self.take_up(&word, &OpenHold { hold: Box::new(hold), job: None }).await?;
            self.office.degraded.taken_in(decision);
        }
        self.office.degraded.end_outage();
        Ok(())
    }

    async fn terms(&self, record: &HoldRecord, version: PolicyVersion) -> Result<Terms, StoreError> {
        let policies = &self.office.policies;
        policies.fetch(std::iter::once(version)).await;
        let terms = policies.at_hand(version).and_then(|policy| Terms::of_record(record, policy));
        terms.ok_or_else(|| StoreError::Unreadable {
            what: format!("{} was decided by policy {version}, which is not known", record.decision),
        })
    }
}

fn lost(what: &'static str, account: AccountId, id: &str) {
    metrics::counter!("overfall_orders_lost_total").increment(1);
    tracing::error!(account.id = %account, id, "{what} was lost with the store: order it again");
}
