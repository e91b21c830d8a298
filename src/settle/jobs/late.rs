//! Truths that come after a job's deadline: the books have its end, so they become corrections.
//!
//! What the end drew is read from the books, which may take a moment to have it: until then the job is asked for
//! again. At a start such jobs are found again, in the books too. One correction is made of each, by the first who
//! learns the truth; the meter and the books know no second.

use std::sync::Arc;

use super::ending::Ended;
use super::watch::jittered;
use super::{Jobs, Open, tell_outcome};
use crate::access::record::{JobRecord, Outcome};
use crate::access::{Demand, Prior, Revision};
use crate::journal::Ticket;
use crate::ledger::LedgerError;
use crate::ledger::rows::Page;
use crate::meter::{InFlight, MeterError, Revised};
use crate::settle::Truths;
use crate::telemetry::chain;
use crate::units::{Span, Timestamp};

/// How long after its deadline a job is asked for.
pub const LATE_FOR: Span = Span::from_seconds(7 * 24 * 3600);
/// Jobs past their deadline that are known; the oldest go first.
pub const LATE_MAX: u16 = 10_000;

/// What the books say of a job's end.
enum Booked {
    /// It is on its way there.
    NotYet,
    /// It is no end by the deadline, or a truth was told, or an operator has given something back.
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
        let revised = self.meter.revise(job.account, *prior, Revision::Truth { used, ending }).await?;
        // What the books do not know yet they know when the job is asked for again.
        if matches!(revised, Revised::Behind) {
            return Ok(None);
        }
        self.forget(&job.resource.id);
        Ok(match revised {
            Revised::Now(record, ticket) => {
                metrics::counter!("overfall_corrections_total", "by" => "truth").increment(1);
                tell_outcome(job, &record.ending, &record.charge);
                Some(ticket)
            }
            Revised::Behind => None,
            Revised::Not(why) => {
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
        if row.outcome != Outcome::Expired || !row.refunded.is_zero() {
            return Ok(Booked::Final);
        }
        let granted = self.ledger.grants(row.account).await?;
        let Some(prior) = self.prior(&row, &granted).await? else { return Ok(Booked::Final) };
        // By what it is priced, in the unit that it is counted in.
        let terms = self.terms(&row, row.priced_by).await?;
        let Some(terms) = terms.filter(|terms| terms.feature().unit == row.unit) else {
            return Ok(Booked::Final);
        };
        let held = InFlight {
            user: row.user,
            held_at: row.held_at,
            expires_at: row.ended_at,
            draws: row.held,
            demand: terms.estimate(row.estimate).unwrap_or_else(|_| Demand::nothing()),
            feature: row.feature,
            model: row.model,
            terms,
        };
        Ok(Booked::Expired(Box::new(prior), Box::new(held)))
    }
}
