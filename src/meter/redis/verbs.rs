//! The verbs of the meter on a sheet. Each may run several times before its step is taken, so each says whether what it
//! finds was done by itself: by the id that it was given when it was asked for.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::keys::{Fixed, Member, Partition, RowKey};
use super::owed::End;
use super::sheet::{HoldState, Sheet};
use super::{RedisMeter, sweep};
use crate::access::record::{
    CorrectionRecord, EndRecord, Ending, GrantRecord, HoldRecord, JobRecord, Record,
};
use crate::access::{
    Account, AdjustmentOrder, Ask, Block, Demand, Extended, GrantOrder, Held, NoSuchHold, Prior, Revision,
    Standing, TooMuch, Unrevisable,
};
use crate::journal::Ticket;
use crate::meter::{
    Adjusting, Explained, ExplainedAllow, InFlight, Meter, MeterError, MeterStats, Revised, Swept, Verdict,
    lock,
};
use crate::policy::compiled::{FeatureIndex, PlanIndex, Policy};
use crate::units::{AccountId, DecisionId, GrantId, OrderId, Timestamp, UserId};

/// In how many seconds it is tried to end a hold of which nobody knows whether it was taken, each after the one before.
const GIVE_UP_SECONDS: [u64; 6] = [1, 2, 5, 10, 20, 40];

/// What came of a request for a hold.
#[expect(clippy::large_enum_variant, reason = "most are the large one, and each lives for one call")]
enum Asked {
    Held(Held, HoldRecord),
    Blocked(Block),
    Over,
}

fn hold(sheet: &mut Sheet, ask: &Ask) -> Asked {
    let (decision, now) = (ask.decision, sheet.now);
    if sheet.has_ended(decision) {
        return Asked::Over;
    }
    if let Some(held) = sheet.account.held_already(ask, now) {
        let Some(row) = sheet.account.hold_row(decision) else { return Asked::Over };
        return Asked::Held(held, row.record);
    }
    match sheet.account.propose(ask.clone(), now) {
        Err(block) => Asked::Blocked(block),
        Ok(proposal) => {
            let record = proposal.record(sheet.account.id);
            if proposal.issues() {
                sheet.records.push(Record::Hold(Box::new(record.clone())));
            }
            Asked::Held(sheet.account.accept(proposal, now), record)
        }
    }
}

/// Ends a hold; the first end wins. One that was never seen to begin never will.
pub(super) fn finish(
    sheet: &mut Sheet,
    by: u64,
    decision: DecisionId,
    used: Demand,
    ending: Ending,
) -> Result<Box<EndRecord>, NoSuchHold> {
    match sheet.ended.get(&decision) {
        Some(HoldState::Ended { by: other, record }) if *other == by => return Ok(record.clone()),
        Some(_) => return Err(NoSuchHold),
        None => {}
    }
    let Ok(end) = sheet.account.finish(decision, used, ending, sheet.now) else {
        sheet.ended.insert(decision, HoldState::Never);
        return Err(NoSuchHold);
    };
    sheet.ended.insert(decision, HoldState::Ended { by, record: end.clone() });
    sheet.records.push(Record::End(end.clone()));
    Ok(end)
}

pub(super) fn grant(
    sheet: &mut Sheet,
    by: u64,
    order: GrantOrder,
    at: Timestamp,
) -> Result<Option<Record>, TooMuch> {
    let row = RowKey::Grant(order.grant);
    if let Some(known) = sheet.kept.get(&row) {
        return Ok((known.by == by).then(|| known.record.clone()));
    }
    let key = order.key;
    let granted = sheet.account.grant(order, at)?;
    sheet.account.granted(&granted, key);
    Ok(Some(sheet.keep(&[row], by, Record::Grant(granted))))
}

#[async_trait]
impl Meter for RedisMeter {
    async fn hold(&self, account: AccountId, ask: Ask) -> Result<Verdict, MeterError> {
        self.log.takes_holds()?;
        let rows = [RowKey::User(ask.user), RowKey::Hold(ask.decision)];
        let decision = ask.decision;
        // Whoever asked may go away; then nobody sends the request.
        let mut asking = Asking { meter: self, account, decision, is_open: true };
        let spare = self.office.degraded.allowance.map(|_| ask.clone());
        let asked = self.ask(account, &rows, move |sheet| hold(sheet, &ask)).await;
        if let (Err(MeterError::Store(error)), Some(ask)) = (&asked, &spare)
            && error.is_away()
            && let Some(lent) = self.office.degraded.give(account, ask, self.office.time.now())
        {
            asking.is_open = false;
            return self.lend(lent);
        }
        asking.is_open = matches!(&asked, Err(MeterError::Store(error)) if error.is_open());
        drop(asking);
        match asked? {
            Asked::Blocked(block) => Ok(Verdict::Block(block)),
            Asked::Over => Err(MeterError::NoSuchHold),
            Asked::Held(held, record) => match self.log.append(&Record::Hold(Box::new(record))) {
                Ok(ticket) => {
                    self.log.opened();
                    Ok(Verdict::Allow(held, ticket))
                }
                Err(error) => {
                    let _ended = self.void(account, decision, Ending::not_sent()).await;
                    Err(error)
                }
            },
        }
    }

    /// Nothing is told: a hold counts as dispatched from the beginning, and one that does not leave is ended by its
    /// node.
    async fn dispatch(&self, _account: AccountId, _decision: DecisionId) -> Result<(), MeterError> {
        Ok(())
    }

    async fn extend(
        &self,
        account: AccountId,
        decision: DecisionId,
        estimate: Demand,
    ) -> Result<Extended, MeterError> {
        let rows = [RowKey::Hold(decision)];
        let extend = move |sheet: &mut Sheet| sheet.account.extend(decision, estimate.clone(), sheet.now);
        Ok(self.ask(account, &rows, extend).await??)
    }

    async fn renew(
        &self,
        account: AccountId,
        decision: DecisionId,
        expires_at: Timestamp,
    ) -> Result<(), MeterError> {
        let rows = [RowKey::Hold(decision)];
        Ok(self.ask(account, &rows, move |sheet| sheet.account.renew(decision, expires_at)).await??)
    }

    async fn begin_job(&self, job: JobRecord) -> Result<Ticket, MeterError> {
        let (account, rows, told) = (job.account, [RowKey::Hold(job.decision)], job.clone());
        let begin = move |sheet: &mut Sheet| {
            let known = sheet.account.hold_of(job.decision).and_then(|hold| hold.job.as_deref());
            let is_new = known != Some(&job);
            let begun = sheet.account.begin_job(job.clone());
            if begun.is_ok() && is_new {
                sheet.records.push(Record::Job(job.clone()));
            }
            begun
        };
        self.ask(account, &rows, begin).await??;
        self.log.append(&Record::Job(told))
    }

    async fn jobs(&self) -> Result<Vec<JobRecord>, MeterError> {
        let mut jobs = Vec::new();
        for partition in Partition::all() {
            for Member { account, of } in self.due(partition, Fixed::Jobs, Timestamp::NEVER, None).await? {
                let decision = DecisionId::from_bytes(of);
                let job = move |sheet: &mut Sheet| {
                    sheet.account.hold_of(decision).and_then(|hold| hold.job.as_deref().cloned())
                };
                jobs.extend(self.ask(account, &[RowKey::Hold(decision)], job).await?);
            }
        }
        Ok(jobs)
    }

    async fn finish(
        &self,
        account: AccountId,
        decision: DecisionId,
        used: Demand,
        ending: Ending,
    ) -> Result<(Box<EndRecord>, Ticket), MeterError> {
        self.end(account, End { decision, by: rand::random(), used, ending }).await
    }

    async fn revise(
        &self,
        account: AccountId,
        prior: Prior,
        revision: Revision,
    ) -> Result<Revised, MeterError> {
        self.revise_there(account, prior, revision).await
    }

    async fn rehearse(
        &self,
        account: AccountId,
        revisions: Vec<(Prior, Revision)>,
    ) -> Result<Vec<Result<CorrectionRecord, Unrevisable>>, MeterError> {
        self.rehearse_there(account, revisions).await
    }

    async fn adjust(&self, account: AccountId, order: AdjustmentOrder) -> Result<Adjusting, MeterError> {
        self.adjust_there(account, order).await
    }

    async fn is_ordered(&self, account: AccountId, order: OrderId) -> Result<bool, MeterError> {
        self.is_on_its_way(account, RowKey::Order(order)).await
    }

    async fn grant(
        &self,
        account: AccountId,
        order: GrantOrder,
    ) -> Result<Option<(GrantRecord, Ticket)>, MeterError> {
        let rows: Vec<_> =
            order.user.map(RowKey::User).into_iter().chain([RowKey::Grant(order.grant)]).collect();
        let by = rand::random();
        let give = move |sheet: &mut Sheet| grant(sheet, by, order.clone(), sheet.now);
        let Some(record) = self.ask(account, &rows, give).await?? else { return Ok(None) };
        let ticket = self.log.append(&record)?;
        let Record::Grant(granted) = record else { return Ok(None) };
        Ok(Some((granted, ticket)))
    }

    async fn is_granting(&self, account: AccountId, grant: GrantId) -> Result<bool, MeterError> {
        self.is_on_its_way(account, RowKey::Grant(grant)).await
    }

    async fn standing(
        &self,
        account: AccountId,
        user: UserId,
        policy: &Policy,
        plan: PlanIndex,
        feature: FeatureIndex,
    ) -> Result<Standing, MeterError> {
        let (account, now) = self.copy_of(account, user).await?;
        Ok(account.standing(policy, plan, feature, user, now))
    }

    async fn explain(&self, id: AccountId, ask: &Ask) -> Result<Explained, MeterError> {
        let (account, now) = self.copy_of(id, ask.user).await?;
        let terms = &ask.terms;
        let outcome = account.decide(terms, ask.user, &ask.demand, now).map(|draft| ExplainedAllow {
            draws: terms.entries(&draft.walk.draws),
            demand: draft.demand,
            clamped_to: draft.clamped_to,
        });
        let standing = account.standing(&terms.policy, terms.plan, terms.feature, ask.user, now);
        Ok(Explained { outcome, standing })
    }

    async fn in_flight(
        &self,
        account: AccountId,
        decision: DecisionId,
    ) -> Result<Option<InFlight>, MeterError> {
        let look = move |sheet: &mut Sheet| sheet.account.hold_of(decision).map(InFlight::of);
        self.ask(account, &[RowKey::Hold(decision)], look).await
    }

    async fn sweep(&self) -> Result<Swept, MeterError> {
        sweep::sweep(self).await
    }

    fn stats(&self) -> MeterStats {
        let accounts = self.desks.iter().map(|desks| lock(desks).len() as u64).sum();
        MeterStats { accounts, holds: self.log.open(), owed: self.owed.count() as u64 }
    }
}

/// A hold that is asked for: given up where nobody hears what came of it.
struct Asking<'a> {
    meter: &'a RedisMeter,
    account: AccountId,
    decision: DecisionId,
    is_open: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.meter.give_up(self.account, self.decision);
        }
    }
}

impl RedisMeter {
    /// Lets a call through that the store does not know.
    fn lend(&self, hold: HoldRecord) -> Result<Verdict, MeterError> {
        let decision = hold.decision;
        let held = Held {
            decision,
            demand: hold.demand.clone(),
            draws: hold.draws.clone(),
            clamped_to: None,
            standing: Standing::default(),
            is_degraded: true,
        };
        match self.log.append(&Record::Hold(Box::new(hold))) {
            Ok(ticket) => {
                metrics::counter!("overfall_degraded_holds_total").increment(1);
                self.log.opened();
                Ok(Verdict::Allow(held, ticket))
            }
            Err(error) => {
                // It did not leave. What was given of the allowance stays given.
                self.office.degraded.taken_in(decision);
                Err(error)
            }
        }
    }

    /// Ends a hold of which nobody knows whether it was taken, now or when it arrives late. What cannot be told by then
    /// ends by its deadline.
    fn give_up(&self, account: AccountId, decision: DecisionId) {
        let (desk, office) = (self.desk(account), Arc::clone(&self.office));
        self.office.runtime.spawn(async move {
            for pause in GIVE_UP_SECONDS {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                let by = rand::random();
                let end = move |sheet: &mut Sheet| {
                    finish(sheet, by, decision, Demand::nothing(), Ending::not_sent()).is_ok()
                };
                let Ok(epoch) = office.epochs.word() else { continue };
                if desk.ask(&office, epoch, &[RowKey::Hold(decision)], end).await.is_ok() {
                    return;
                }
            }
            tracing::warn!(decision.id = %decision, "whether a hold was taken is not known: its deadline ends it");
        });
    }

    /// Whether something is on its way to the books.
    async fn is_on_its_way(&self, account: AccountId, row: RowKey) -> Result<bool, MeterError> {
        self.ask(account, &[row], move |sheet| sheet.kept.contains_key(&row)).await
    }

    /// The account as a user meets it, and the instant.
    pub(super) async fn copy_of(
        &self,
        account: AccountId,
        user: UserId,
    ) -> Result<(Account, Timestamp), MeterError> {
        self.ask(account, &[RowKey::User(user)], |sheet| (sheet.account.clone(), sheet.now)).await
    }
}
