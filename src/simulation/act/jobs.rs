//! What goes on in the background, and the truths that come of it.

use serde_json::json;

use super::super::auditor::{Made, Use, Violation};
use super::super::node::{account_id, account_of, at_once, user_id};
use super::super::rules::{Feature, Tier};
use super::super::world::{InHand, Job, World};
use super::{pick, resource_of};
use crate::access::record::{JobKind, JobRecord, Resource};
use crate::meter::MeterError;
use crate::units::Timestamp;

/// How long a job lives.
const JOB_MS: i64 = 300_007;

impl World {
    pub(in crate::simulation) fn begin_job(&mut self, call: &InHand, made: Made) -> Result<(), Violation> {
        let known = &self.auditor.state.calls[&call.id];
        let (user, open, now) = (known.user, known.open, self.now());
        let resource = resource_of(call.id);
        let job = JobRecord {
            decision: call.ask.decision,
            account: account_id(account_of(user)),
            user: user_id(user),
            kind: if made == Made::Video { JobKind::Video } else { JobKind::Response },
            resource: Resource { id: resource.as_str().into(), upstream: None },
            began_at: Timestamp::from_ms(now),
            expires_at: Timestamp::from_ms(now + JOB_MS),
        };
        let written = match at_once(self.node.jobs.begin(job)) {
            Ok(ticket) if open => {
                self.awaited.push((self.auditor.frames() + 1, ticket));
                true
            }
            Err(MeterError::Journal(_)) if open => false,
            Err(MeterError::NoSuchHold) if !open => return Ok(()),
            other => return Err(format!("I9: open: {open}, and as a job: {other:?}")),
        };
        self.tell(&format!("{} becomes a job", hex::encode(&call.id[12..])));
        self.auditor.became_job(call.id, made, now + JOB_MS, written);
        self.jobs.push(Job { id: call.id, resource });
        Ok(())
    }

    pub(in crate::simulation) fn act_learn(&mut self, a: u32, b: u32, c: u32) -> Result<(), Violation> {
        let Some(job) = pick(&self.jobs, a) else { return Ok(()) };
        let (id, resource) = (job.id, job.resource.clone());
        let Some(call) = self.auditor.state.calls.get(&id).cloned() else { return Ok(()) };
        let video = call.feature == Feature::Sora;
        let (input, output) = (u64::from(c % 12), u64::from(c / 12 % 15));
        let truth = Use { input, output, seconds: 0, tier: Tier::any(c / 180) };
        let (kind, object, used, outcome) = match (video, b % 4) {
            (true, 0) => {
                (JobKind::Video, json!({"id": resource, "status": "failed"}), Use::default(), "failed")
            }
            (true, _) => {
                let seconds = call.estimate.seconds.min(u64::from(c % 6 + 1));
                let object = json!({"id": resource, "status": "completed", "seconds": seconds.to_string()});
                (JobKind::Video, object, Use { seconds, ..Use::default() }, "completed")
            }
            (false, _) => {
                let usage = json!({"input_tokens": truth.input, "output_tokens": truth.output});
                let tier = truth.tier.name();
                let object =
                    json!({"id": resource, "status": "completed", "service_tier": tier, "usage": usage});
                (JobKind::Response, object, truth, "completed")
            }
        };
        let next = self.node.journal.stats().next;
        let learnt = at_once(self.node.jobs.learn(kind, &object)).map_err(|error| format!("{error:?}"))?;
        let now = self.now();
        let told = self.node.journal.stats().next > next;
        self.tell(&format!("{resource} is {outcome} with {used:?}: {told}"));
        if told && call.open {
            self.auditor.ended(id, Some(used), outcome, now);
        } else if told {
            let late = call.outcome == "expired" && !call.corrected && call.refunded == 0;
            if !late || self.auditor.corrected(id, used, now).is_none() {
                return Err(format!("I9: {resource} is corrected, though {}", call.outcome));
            }
            self.tally.count("corrections");
            self.learn_again(kind, &object)?;
        } else if call.open && call.job.is_some() {
            return Err(format!("I9: nothing is learnt of {resource}"));
        }
        self.awaited.extend(learnt.map(|ticket| (self.auditor.frames(), ticket)));
        Ok(())
    }

    /// I9: there is no second correction, though the books do not know of the first yet.
    fn learn_again(&mut self, kind: JobKind, object: &serde_json::Value) -> Result<(), Violation> {
        let failed = |error: &dyn std::fmt::Debug| format!("{error:?}");
        at_once(self.node.jobs.find_late()).map_err(|error| failed(&error))?;
        match at_once(self.node.jobs.learn(kind, object)) {
            Ok(None) => Ok(()),
            other => Err(format!("I9: a second correction: {other:?}")),
        }
    }
}
