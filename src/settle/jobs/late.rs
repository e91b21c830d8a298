//! Truths that come after a job's deadline: the books have its end, so they become corrections.
//!
//! What the end drew is read from the books, which may take a moment to have it: until then the job is asked for
//! again. At a start such jobs are found again, in the books too. One correction is made of each, by the first who
//! learns the truth; the meter and the books know no second.

use std::sync::Arc;

use super::ending::Ended;
use super::watch::jittered;
use super::{Jobs, Open, tell_outcome};
use crate::access::ledgered::BookedGrant;
use crate::access::record::{GrantOrigin, JobRecord, OriginEntry, Outcome};
use crate::access::{Demand, Prior, Terms};
use crate::journal::Ticket;
use crate::ledger::rows::{DecisionRow, GrantRow, Page};
use crate::ledger::{Ledger, LedgerError};
use crate::meter::{Corrected, InFlight, MeterError};
use crate::policy::compiled::{CounterKey, Policy};
use crate::policy::live::Policies;
use crate::telemetry::chain;
use crate::units::{Credits, Span, Timestamp};

/// How long after its deadline a job is asked for.
pub const LATE_FOR: Span = Span::from_seconds(7 * 24 * 3600);
/// Jobs past their deadline that are known; the oldest go first.
pub const LATE_MAX: u16 = 10_000;

/// What a correction is made from: the books, and the policies that they name.
pub struct Truths {
    /// The books.
    pub ledger: Arc<dyn Ledger>,
    /// Policies at hand.
    pub policies: Arc<Policies>,
}

/// What the books say of a job's end.
enum Booked {
    /// It is on its way there.
    NotYet,
    /// It is no end by the deadline, or was corrected.
    Final,
    /// It can be corrected.
    Expired(Box<Prior>, Box<InFlight>),
}

impl Jobs {
    /// Finds the jobs again that their deadline has ended within [`LATE_FOR`], whichever process lived then, and tells
    /// how many there are. For after a start, once the books are up to date. Each is asked for within the longest pause.
    pub async fn find_late(&self) -> Result<usize, LedgerError> {
        let now = self.clock.now();
        let late = self.truths.ledger.late_jobs(now.minus(LATE_FOR), Page(LATE_MAX)).await?;
        let mut index = self.index();
        let mut found = 0;
        for job in late.into_iter().rev() {
            let resource = Arc::clone(&job.resource.id);
            if index.open.contains_key(&resource) || index.late.len() >= usize::from(LATE_MAX) {
                continue;
            }
            let (pause, due) = (self.pace.longest, now.plus(jittered(self.pace.longest)));
            index.open.insert(Arc::clone(&resource), Open { job: Arc::new(job), pause, due, late: true });
            index.due.insert((due, Arc::clone(&resource)));
            index.late.push_back(resource);
            found += 1;
        }
        Ok(found)
    }

    /// Corrects the end of a job that its deadline has ended.
    pub(super) async fn correct(
        &self,
        job: &JobRecord,
        of: impl FnOnce(&InFlight) -> Option<Ended>,
    ) -> Result<Option<Ticket>, MeterError> {
        let (prior, held) = match self.truths.booked(job).await {
            Ok(Booked::Expired(prior, held)) => (prior, held),
            Ok(Booked::NotYet) => return Ok(None),
            Ok(Booked::Final) => {
                self.forget(&job.resource.id);
                return Ok(None);
            }
            Err(error) => {
                tracing::warn!(decision.id = %job.decision, error = %chain(&error), "the books do not tell of a job");
                return Ok(None);
            }
        };
        let Some((used, ending)) = of(&held) else { return Ok(None) };
        let corrected = self.meter.correct(job.account, *prior, used, ending).await?;
        self.forget(&job.resource.id);
        Ok(match corrected {
            Corrected::Now(record, ticket) => {
                metrics::counter!("overfall_corrections_total").increment(1);
                tell_outcome(job, &record.ending, &record.charge);
                Some(ticket)
            }
            Corrected::Already => None,
            Corrected::Not(why) => {
                tracing::error!(decision.id = %job.decision, reason = %why, "a late truth changes no money");
                None
            }
        })
    }

    /// Whether a job without a hold may still be corrected; counts it among the late ones.
    pub(super) fn is_worth_asking(&self, job: &JobRecord, now: Timestamp) -> bool {
        let mut index = self.index();
        let Some(open) = index.open.get_mut(&*job.resource.id) else { return false };
        if now < job.expires_at || now > job.expires_at.plus(LATE_FOR) {
            return false;
        }
        open.pause = self.pace.longest;
        if !std::mem::replace(&mut open.late, true) {
            index.late.push_back(Arc::clone(&job.resource.id));
        }
        if index.late.len() > usize::from(LATE_MAX)
            && let Some(oldest) = index.late.pop_front()
            && index.open.get(&oldest).is_some_and(|open| open.late)
        {
            drop(index);
            self.forget(&oldest);
        }
        true
    }
}

impl Truths {
    async fn booked(&self, job: &JobRecord) -> Result<Booked, LedgerError> {
        let Some(row) = self.ledger.decision(job.decision).await? else { return Ok(Booked::NotYet) };
        if row.outcome != Outcome::Expired || row.revision > 1 {
            return Ok(Booked::Final);
        }
        let Some(terms) = self.terms(&row).await? else { return Ok(Booked::Final) };
        let granted = self.ledger.grants(row.account).await?;
        let named = granted.iter().filter(|grant| row.draws.iter().any(|draw| names(&draw.origin, grant)));
        let demand = |quantities: &crate::units::Quantities| {
            terms.estimate(quantities.clone()).unwrap_or_else(|_| Demand::nothing())
        };
        let used = if row.charge.gross.is_zero() && row.draws.is_empty() {
            Demand::nothing()
        } else {
            demand(&row.used)
        };
        let prior = Prior {
            decision: row.decision,
            user: row.user,
            ended_at: row.ended_at,
            used,
            charge: row.charge,
            grants: named.map(booked).collect(),
            draws: row.draws,
            terms: terms.clone(),
        };
        let held = InFlight {
            user: row.user,
            held_at: row.held_at,
            expires_at: row.ended_at,
            draws: row.held,
            demand: demand(&row.estimate),
            feature: row.feature,
            model: row.model,
            terms,
        };
        Ok(Booked::Expired(Box::new(prior), Box::new(held)))
    }

    /// What the call was decided by; nothing where this version cannot read that policy any more.
    async fn terms(&self, row: &DecisionRow) -> Result<Option<Terms>, LedgerError> {
        let policy = match self.policies.version(row.policy) {
            Some(policy) => Some(policy),
            None => self.ledger.policy(row.policy).await?.and_then(|text| read(&text)),
        };
        let terms = policy.and_then(|policy| {
            Some(Terms {
                plan: policy.plan(&row.plan)?,
                feature: policy.feature(&row.feature)?,
                policy,
                model: row.model.clone(),
                tier: row.tier.clone(),
                size: row.size.clone(),
            })
        });
        if terms.is_none() {
            tracing::error!(decision.id = %row.decision, "the policy of a late truth cannot be read any more");
        }
        Ok(terms)
    }
}

fn read(text: &str) -> Option<Arc<Policy>> {
    crate::policy::load::parse("a policy in the books", text).ok().map(Arc::new)
}

fn names(origin: &OriginEntry, row: &GrantRow) -> bool {
    matches!(origin, OriginEntry::Grant { grant, .. } if *grant == row.grant)
}

fn booked(row: &GrantRow) -> BookedGrant {
    BookedGrant {
        user: row.user,
        balance: CounterKey::of_balance(&row.balance),
        state: crate::access::balance::GrantState {
            id: row.grant,
            priority: row.priority,
            expires_at: row.expires_at.unwrap_or(Timestamp::NEVER),
            remaining: row.remaining,
            held: Credits::ZERO,
        },
        issued: matches!(row.origin, GrantOrigin::Issue { .. }),
    }
}
