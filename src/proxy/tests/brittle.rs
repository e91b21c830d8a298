//! A meter that can be made to panic: what a fault inside the gateway looks like to everything around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use crate::access::record::{CorrectionRecord, EndRecord, Ending, GrantRecord, JobRecord};
use crate::access::{
    AdjustmentOrder, Ask, Demand, Extended, GrantOrder, Prior, Revision, Standing, Unrevisable,
};
use crate::journal::Ticket;
use crate::meter::memory::MemoryMeter;
use crate::meter::{Adjusting, Explained, InFlight, Meter, MeterError, MeterStats, Revised, Swept, Verdict};
use crate::policy::compiled::{FeatureIndex, PlanIndex, Policy};
use crate::units::{AccountId, DecisionId, GrantId, OrderId, Timestamp, UserId};

/// A meter that can be made to panic.
pub(super) struct Brittle {
    pub(super) meter: Arc<MemoryMeter>,
    pub(super) breaks: Arc<AtomicBool>,
}

#[async_trait]
impl Meter for Brittle {
    async fn hold(&self, account: AccountId, ask: Ask) -> Result<Verdict, MeterError> {
        self.meter.hold(account, ask).await
    }
    async fn dispatch(&self, account: AccountId, decision: DecisionId) -> Result<(), MeterError> {
        assert!(!self.breaks.load(Ordering::SeqCst), "as it was asked to");
        self.meter.dispatch(account, decision).await
    }
    async fn extend(
        &self,
        account: AccountId,
        decision: DecisionId,
        estimate: Demand,
    ) -> Result<Extended, MeterError> {
        self.meter.extend(account, decision, estimate).await
    }
    async fn renew(&self, account: AccountId, decision: DecisionId, at: Timestamp) -> Result<(), MeterError> {
        self.meter.renew(account, decision, at).await
    }
    async fn begin_job(&self, job: JobRecord) -> Result<Ticket, MeterError> {
        self.meter.begin_job(job).await
    }
    async fn revise(
        &self,
        account: AccountId,
        prior: Prior,
        revision: Revision,
    ) -> Result<Revised, MeterError> {
        self.meter.revise(account, prior, revision).await
    }
    async fn rehearse(
        &self,
        account: AccountId,
        revisions: Vec<(Prior, Revision)>,
    ) -> Result<Vec<Result<CorrectionRecord, Unrevisable>>, MeterError> {
        self.meter.rehearse(account, revisions).await
    }
    async fn adjust(&self, account: AccountId, order: AdjustmentOrder) -> Result<Adjusting, MeterError> {
        self.meter.adjust(account, order).await
    }
    async fn is_ordered(&self, order: OrderId) -> Result<bool, MeterError> {
        self.meter.is_ordered(order).await
    }
    async fn jobs(&self) -> Result<Vec<JobRecord>, MeterError> {
        self.meter.jobs().await
    }
    async fn finish(
        &self,
        account: AccountId,
        decision: DecisionId,
        used: Demand,
        ending: Ending,
    ) -> Result<(Box<EndRecord>, Ticket), MeterError> {
        self.meter.finish(account, decision, used, ending).await
    }
    async fn grant(
        &self,
        account: AccountId,
        order: GrantOrder,
    ) -> Result<Option<(GrantRecord, Ticket)>, MeterError> {
        self.meter.grant(account, order).await
    }
    async fn is_granting(&self, grant: GrantId) -> Result<bool, MeterError> {
        self.meter.is_granting(grant).await
    }
    async fn standing(
        &self,
        account: AccountId,
        user: UserId,
        policy: &Policy,
        plan: PlanIndex,
        feature: FeatureIndex,
    ) -> Result<Standing, MeterError> {
        self.meter.standing(account, user, policy, plan, feature).await
    }
    async fn explain(&self, account: AccountId, ask: &Ask) -> Result<Explained, MeterError> {
        self.meter.explain(account, ask).await
    }
    async fn in_flight(
        &self,
        account: AccountId,
        decision: DecisionId,
    ) -> Result<Option<InFlight>, MeterError> {
        self.meter.in_flight(account, decision).await
    }
    async fn sweep(&self) -> Result<Swept, MeterError> {
        self.meter.sweep().await
    }
    fn stats(&self) -> MeterStats {
        self.meter.stats()
    }
}
