//! A user asks, and the auditor knows the answer.

use std::sync::Arc;

use super::{InHand, LIFETIME_MS, Stage, World, quantities, takes};
use crate::access::{Ask, Reason, Terms};
use crate::meter::{self, Meter, MeterError};
use crate::simulation::auditor::{Call, Id, Money, Use, Verdict, Violation, Written};
use crate::simulation::node::{account_id, account_of, at_once, user_id};
use crate::simulation::rules::{Feature, Tier};
use crate::units::{DecisionId, GrantId, Span};

impl World {
    fn terms(&self, feature: Feature, tier: Tier) -> Terms {
        let policy = Arc::clone(&self.policies[self.in_force]);
        let sora = feature == Feature::Sora;
        Terms {
            plan: policy.plan("plus").unwrap(),
            feature: policy.feature(feature.name()).unwrap(),
            model: if sora { "v" } else { "m" }.into(),
            tier: (tier != Tier::Default).then(|| tier.name().into()),
            size: sora.then(|| "720x1280".into()),
            policy,
        }
    }

    pub(in crate::simulation) fn blank(&self, user: usize, feature: Feature, estimate: Use, id: Id) -> Call {
        let now = self.now();
        Call {
            id,
            account: account_of(user),
            user,
            feature,
            rules: self.in_force,
            held_at: now,
            expires: now + LIFETIME_MS,
            sent: false,
            estimate,
            takes: Vec::new(),
            spends: Vec::new(),
            written: Written { estimate, takes: Vec::new(), spends: Vec::new() },
            job: None,
            open: true,
            ended_at: 0,
            outcome: "",
            money: Money::default(),
            corrected: false,
            used: Use::default(),
            priced: self.in_force,
            revision: 0,
            settled_at: 0,
            refunded: 0,
        }
    }

    /// A user asks.
    pub(in crate::simulation) fn ask(
        &mut self,
        user: usize,
        feature: Feature,
        estimate: Use,
    ) -> Result<(), Violation> {
        let id = self.name();
        let call = self.blank(user, feature, estimate, id);
        let terms = self.terms(feature, estimate.tier);
        let demand = terms.estimate(quantities(estimate)).unwrap();
        let lifetime = Span::from_ms(LIFETIME_MS.unsigned_abs());
        let decision = DecisionId::from_bytes(id);
        let ask = Ask { decision, user: user_id(user), terms, demand, lifetime };
        let issue = *GrantId::derived(&[b"issue", user_id(user).as_bytes(), b"launch"]).as_bytes();
        let verdict = self.auditor.verdict(&call, issue, self.now());
        let answer = at_once(self.node.meter.hold(account_id(account_of(user)), ask.clone()));
        match (answer, verdict) {
            (Ok(meter::Verdict::Allow(held, ticket)), Verdict::Allow(call, issued)) => {
                let (found, expected) = (takes(&held.draws), &call.takes);
                if found != *expected {
                    return Err(format!("I3: {found:?} is held and not {expected:?}"));
                }
                let clamped_to = (call.estimate != estimate).then_some(call.estimate.output);
                if (&held.demand.quantities, held.clamped_to) != (&quantities(call.estimate), clamped_to) {
                    return Err(format!("I3: {:?} is held, to be cut to {clamped_to:?}", held.demand));
                }
                if let Some(output) = clamped_to {
                    self.tally.count("clamps");
                    self.tell(&format!("cut down to {output} tokens of output"));
                }
                self.tell(&format!("user {user} asks {estimate:?} of {feature:?}: held {found:?}"));
                self.auditor.held(*call, issued);
                self.auditor.check_rate()?;
                self.calls.push(InHand { id, ask, stage: Stage::Waiting(ticket) });
                self.tally.count("calls");
            }
            (Ok(meter::Verdict::Block(block)), verdict) => {
                let expected = match verdict {
                    _ if block.binding.as_deref() == Some("burst") => true,
                    Verdict::Places => block.reason == Reason::InFlightLimit,
                    Verdict::Capped => block.binding.as_deref() == Some("cap"),
                    Verdict::Lacking => {
                        block.reason != Reason::InFlightLimit && block.binding.as_deref() != Some("cap")
                    }
                    Verdict::Allow(..) => false,
                };
                if !expected {
                    return Err(format!("I2, I3: {estimate:?} of user {user} is blocked: {block:?}"));
                }
                self.tell(&format!(
                    "user {user} asks {estimate:?} of {feature:?}: {}",
                    block.reason.as_str()
                ));
                self.tally.count(if block.binding.as_deref() == Some("cap") { "caps" } else { "blocks" });
            }
            (Err(MeterError::Journal(error)), _) => self.tell(&format!("user {user} asks: {error}")),
            (answer, verdict) => {
                return Err(format!("I4: {answer:?} to {estimate:?} of user {user}, and not {verdict:?}"));
            }
        }
        Ok(())
    }
}
