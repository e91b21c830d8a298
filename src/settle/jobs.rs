//! Jobs: calls whose answer is not their end. A video or a background response is made after its request is over.
//!
//! A job is its hold, which lives with it: taken at creation, ended once. Who learns its end first settles it: a poll
//! of the client's that passes, the upstream's webhook, or the watcher, which asks by itself ([`Jobs::watch`]). All of
//! them call [`Jobs::learn`]; the meter knows no second end (I9), so the others change nothing. A job whose end nobody
//! learns ends at its deadline, and is asked for still: a truth that comes then is a correction ([`Truths`]).
//!
//! The meter and the journal keep the jobs; what stands here is their index by the upstream's id, made anew at a start.
//! Those past their deadline are found in the books then ([`Jobs::find_late`]).
//!
//! # Bounds
//!
//! One entry for each open job, and the journal bounds those; [`LATE_MAX`] for jobs past their deadline, which are known
//! for [`LATE_FOR`]. Questions to the upstream: [`ASKING_MAX`] at once, and [`Pace::polls_per_second`] in a second: of
//! the watcher's, and as many of those that a request waits for.

pub mod client;
mod ending;
mod late;
mod turns;
mod watch;
pub mod webhook;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::access::record::{Charge, EndRecord, Ending, Grade, JobKind, JobRecord, Resource};
use crate::journal::{NotDurable, Ticket};
use crate::meter::{Meter, MeterError};
use crate::observe::Observed;
use crate::units::time::Clock;
use crate::units::{Span, Timestamp};

pub use super::truths::Truths;
pub use late::{LATE_FOR, LATE_MAX};
use turns::Turns;
pub use watch::Pace;

/// Questions to the upstream that may be under way at once.
pub const ASKING_MAX: usize = 32;

/// Where jobs are made, and who knows how they are.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The job as it stands there now.
    async fn ask(&self, kind: JobKind, resource: &Resource) -> Result<Told, AskError>;
}

/// What the upstream tells of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// How it stands.
    Object {
        /// The object as the API shows it.
        object: Value,
        /// When to ask again, if it said so.
        poll_after: Option<Span>,
    },
    /// It knows no such job.
    Unknown,
}

/// Why the upstream did not tell.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It was not reached, or did not answer in time.
    #[error("the upstream does not answer")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answered with an error.
    #[error("the upstream answers with status {status}")]
    Status {
        /// Which.
        status: u16,
    },
    /// Its answer is no object of its API.
    #[error("the upstream's answer is not JSON")]
    Unreadable(#[source] serde_json::Error),
}

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It has no end yet.
    Running,
    /// Its end is on record.
    Ended,
}

/// Why it cannot be told how a job stands.
#[derive(Debug, thiserror::Error)]
pub enum RetrieveError {
    /// The upstream does not tell.
    #[error("the upstream does not tell how a job stands")]
    Upstream(#[source] AskError),
    /// The upstream is not asked: too many wait for that already.
    #[error("too many wait to be told how their jobs stand")]
    Crowded,
    /// The end could not be recorded.
    #[error("the end of a job is not recorded")]
    Meter(#[from] MeterError),
    /// The end is not durable.
    #[error("the end of a job is not durable")]
    NotDurable(#[from] NotDurable),
}

/// The jobs of this gateway.
pub struct Jobs {
    meter: Arc<dyn Meter>,
    truths: Truths,
    source: Arc<dyn Source>,
    clock: Clock,
    pace: Pace,
    asking: Semaphore,
    turns: Turns,
    counted: OnceLock<Box<Counted>>,
    index: Mutex<Index>,
}

/// Is told of the end of a response whose use the upstream has counted.
type Counted = dyn Fn(&EndRecord) + Send + Sync;

#[derive(Default)]
struct Index {
    open: HashMap<Arc<str>, Open>,
    /// When each is asked for next; one that is being asked for is not in here.
    due: BTreeSet<(Timestamp, Arc<str>)>,
    /// Those past their deadline, oldest first; some may be gone.
    late: VecDeque<Arc<str>>,
}

struct Open {
    job: Arc<JobRecord>,
    /// How long to wait after the next question that brings no end.
    pause: Span,
    due: Timestamp,
    /// Whether its deadline has ended it.
    late: bool,
}

impl Jobs {
    /// The jobs that `meter` has open.
    pub async fn open(
        meter: Arc<dyn Meter>,
        truths: Truths,
        source: Arc<dyn Source>,
        clock: Clock,
        pace: Pace,
    ) -> Result<Arc<Self>, MeterError> {
        let open = meter.jobs().await?;
        let jobs = Self {
            meter,
            truths,
            source,
            clock,
            pace,
            asking: Semaphore::new(ASKING_MAX),
            turns: Turns::new(pace.between_polls()),
            counted: OnceLock::new(),
            index: Mutex::default(),
        };
        for job in open {
            // What ended while nobody looked is learnt at once.
            jobs.list(job, Span::ZERO);
        }
        Ok(Arc::new(jobs))
    }

    /// Has `counted` told of each end of a background response whose use the upstream has counted, within its deadline.
    /// Nobody else is told after the first who asks for it.
    pub fn tell_counted(&self, counted: impl Fn(&EndRecord) + Send + Sync + 'static) {
        let _told_before = self.counted.set(Box::new(counted));
    }

    /// Makes the open hold of a call a job: it ends by its terminal state, or at `expires_at`. The ticket is awaited
    /// before the answer's head leaves. After an error of the journal it is a job until this process ends.
    pub async fn begin(&self, job: JobRecord) -> Result<Ticket, MeterError> {
        self.list(job.clone(), self.pace.first);
        let begun = self.meter.begin_job(job.clone()).await;
        if let Err(MeterError::NoSuchHold) = begun {
            self.forget(&job.resource.id);
        }
        begun
    }

    /// Takes in what somebody learnt of a job: the object as the upstream shows it. The first terminal state ends the
    /// hold; all else is a no-op. The ticket tells when the end is durable.
    pub async fn learn(&self, kind: JobKind, object: &Value) -> Result<Option<Ticket>, MeterError> {
        let Some(job) = object.get("id").and_then(Value::as_str).and_then(|id| self.job(id)) else {
            return Ok(None);
        };
        if job.kind != kind {
            return Ok(None);
        }
        match kind {
            JobKind::Video => self.end(&job, |held| ending::of_video(&job, held, object)).await,
            JobKind::Response => {
                let observed = ending::observe(object);
                self.end(&job, |held| ending::of_response(&job, held, &observed)).await
            }
        }
    }

    /// Takes in what a response told that passed: a body, or a stream that was resumed.
    pub async fn learn_observed(&self, observed: &Observed) -> Result<Option<Ticket>, MeterError> {
        let job = observed.resource_id.as_deref().and_then(|id| self.job(id));
        match job.filter(|job| job.kind == JobKind::Response) {
            Some(job) => self.end(&job, |held| ending::of_response(&job, held, observed)).await,
            None => Ok(None),
        }
    }

    /// Whether the end of this resource's job is on record. `true` for what is no job.
    pub fn is_ended(&self, resource: &str) -> bool {
        self.job(resource).is_none()
    }

    /// Has the watcher ask for a job after so long: as the upstream wished.
    pub fn ask_after(&self, resource: &str, after: Span) {
        self.index().reschedule(resource, self.clock.now().plus(self.pace.wished(after)));
    }

    /// Has the watcher ask for a job before all others: it is said to have changed.
    pub fn ask_soon(&self, resource: &str) {
        self.index().reschedule(resource, Timestamp::default());
    }

    /// Takes in that a job was deleted upstream by its owner: it ends, as if cancelled, without a word of its use.
    pub async fn deleted(&self, resource: &str) -> Result<Option<Ticket>, MeterError> {
        let Some(job) = self.job(resource) else { return Ok(None) };
        self.end(&job, |held| Some(ending::of_deleted(&job, held))).await
    }

    /// Asks the upstream for the job, as soon as it is its turn, and learns it. What the upstream does not know runs, for
    /// all that can be told: nothing can be had of it there.
    pub async fn retrieve(&self, resource: &str) -> Result<JobState, RetrieveError> {
        if self.is_ended(resource) {
            return Ok(JobState::Ended);
        }
        if !self.turns.next().await {
            return Err(RetrieveError::Crowded);
        }
        let Some(job) = self.job(resource) else { return Ok(JobState::Ended) };
        let told = self.ask(&job).await.map_err(RetrieveError::Upstream)?;
        let Told::Object { object, poll_after } = told else { return Ok(JobState::Running) };
        if let Some(ticket) = self.learn(job.kind, &object).await? {
            ticket.await?;
        }
        if self.is_ended(resource) {
            return Ok(JobState::Ended);
        }
        if let Some(after) = poll_after {
            self.ask_after(resource, after);
        }
        Ok(JobState::Running)
    }

    async fn ask(&self, job: &JobRecord) -> Result<Told, AskError> {
        // Never closed, so a permit is always had in the end.
        let _asking = self.asking.acquire().await.ok();
        let told = self.source.ask(job.kind, &job.resource).await;
        let outcome = match &told {
            Ok(Told::Object { .. }) => "told",
            Ok(Told::Unknown) => "unknown",
            Err(_) => "failed",
        };
        metrics::counter!("overfall_job_polls_total", "outcome" => outcome).increment(1);
        told
    }

    /// Ends a job as `of` says from what it holds; nothing where it says that there is no end.
    async fn end(
        &self,
        job: &JobRecord,
        of: impl FnOnce(&crate::meter::InFlight) -> Option<ending::Ended>,
    ) -> Result<Option<Ticket>, MeterError> {
        let Some(held) = self.meter.in_flight(job.account, job.decision).await? else {
            return self.correct(job, of).await;
        };
        let Some((used, ending)) = of(&held) else { return Ok(None) };
        match self.meter.finish(job.account, job.decision, used, ending).await {
            Ok((record, ticket)) => {
                self.forget(&job.resource.id);
                tell(job, &record);
                if let Some(counted) = self.counted.get()
                    && job.kind == JobKind::Response
                    && record.ending.grade == Grade::Exact
                {
                    counted(&record);
                }
                Ok(Some(ticket))
            }
            // Somebody else was first, and has seen to the rest.
            Err(MeterError::NoSuchHold) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn job(&self, resource: &str) -> Option<Arc<JobRecord>> {
        self.index().open.get(resource).map(|open| Arc::clone(&open.job))
    }

    fn list(&self, job: JobRecord, after: Span) {
        let (resource, due) = (Arc::clone(&job.resource.id), self.clock.now().plus(after));
        let mut index = self.index();
        let open = Open { job: Arc::new(job), pause: self.pace.first, due, late: false };
        if let Some(before) = index.open.insert(Arc::clone(&resource), open) {
            index.due.remove(&(before.due, Arc::clone(&resource)));
        }
        index.due.insert((due, resource));
    }

    fn forget(&self, resource: &str) {
        let mut index = self.index();
        if let Some((resource, open)) = index.open.remove_entry(resource) {
            index.due.remove(&(open.due, resource));
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn reschedule(&mut self, resource: &str, due: Timestamp) {
        let Some((resource, _)) = self.open.get_key_value(resource) else { return };
        let resource = Arc::clone(resource);
        if let Some(open) = self.open.get_mut(&resource) {
            self.due.remove(&(open.due, Arc::clone(&resource)));
            open.due = due;
            self.due.insert((due, resource));
        }
    }
}

fn tell(job: &JobRecord, record: &EndRecord) {
    let (outcome, grade) = (record.ending.outcome.as_str(), record.ending.grade.as_str());
    let feature = metrics::SharedString::from_shared(Arc::clone(&record.feature));
    metrics::counter!("overfall_calls_ended_total", "feature" => feature, "outcome" => outcome, "grade" => grade)
        .increment(1);
    tell_outcome(job, &record.ending, &record.charge);
}

fn tell_outcome(job: &JobRecord, ending: &Ending, charge: &Charge) {
    let outcome = ending.outcome.as_str();
    metrics::counter!("overfall_jobs_ended_total", "kind" => job.kind.as_str(), "outcome" => outcome)
        .increment(1);
    if !charge.excess.is_zero() {
        tracing::error!(
            decision.id = %job.decision,
            account.id = %job.account,
            excess = %charge.excess,
            "use beyond every limit was forgiven"
        );
    }
}

#[cfg(test)]
mod tests;
