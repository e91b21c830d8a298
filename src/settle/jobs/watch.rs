//! The watcher: asks the upstream for every open job, now and then, so that a job ends though nobody looks at it.
//!
//! Each job is asked for with growing pauses, or when the upstream wished; all of them together no faster than a set
//! pace. An upstream that is away costs pauses and nothing else: its jobs end when it tells, or at their deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{ASKING_MAX, Jobs, Told};
use crate::access::record::JobRecord;
use crate::config;
use crate::telemetry::chain;
use crate::units::Span;

/// How often it is looked whether anything is due.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often the numbers are told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// No wish of the upstream's makes a job be asked for more often.
const WISHED_LEAST: Span = Span::from_ms(100);

/// How often the upstream is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Questions in a second, for all jobs together; at least one.
    pub polls_per_second: u32,
    /// The pause before the first question for a job.
    pub first: Span,
    /// The longest pause between two.
    pub longest: Span,
}

impl From<config::Jobs> for Pace {
    fn from(jobs: config::Jobs) -> Self {
        let config::Jobs { polls_per_second, poll_first: first, poll_longest: longest } = jobs;
        Self { polls_per_second, first, longest }
    }
}

impl Pace {
    /// A pause as the upstream wished it, within bounds.
    pub(super) fn wished(&self, after: Span) -> Span {
        after.clamp(WISHED_LEAST, self.longest.max(WISHED_LEAST))
    }

    /// The pause after one that brought no end: half as long again.
    fn longer(&self, pause: Span) -> Span {
        Span::from_ms(pause.ms().saturating_add(pause.ms() / 2)).min(self.longest)
    }

    pub(super) fn between_polls(&self) -> Duration {
        Duration::from_secs(1) / self.polls_per_second.max(1)
    }
}

/// Up to a fifth less, so that jobs which began together part.
pub(super) fn jittered(pause: Span) -> Span {
    Span::from_ms(pause.ms() - rand::random_range(0..=pause.ms() / 5))
}

impl Jobs {
    /// Asks for open jobs until `shutdown` is true. A question that is under way then is dropped: what it would have
    /// told is told at the next start.
    pub async fn watch(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut asked = JoinSet::new();
        let mut tell = tokio::time::interval(TELL_EVERY);
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                _ = tell.tick() => {
                    self.tell();
                    continue;
                }
                () = super::super::stopped(&mut shutdown) => return,
            }
            while asked.try_join_next().is_some() {}
            let mut pause = LOOK_EVERY;
            if asked.len() < ASKING_MAX
                && let Some(job) = self.take_due()
            {
                let jobs = Arc::clone(&self);
                asked.spawn(async move { jobs.poll(&job).await });
                pause = self.pace.between_polls();
            }
            next = Instant::now() + pause;
        }
    }

    /// Takes out the job that is due first, if one is.
    fn take_due(&self) -> Option<Arc<JobRecord>> {
        let now = self.clock.now();
        let mut index = self.index();
        if index.due.first().is_none_or(|(due, _)| *due > now) {
            return None;
        }
        let (_, resource) = index.due.pop_first()?;
        index.open.get(&resource).map(|open| Arc::clone(&open.job))
    }

    async fn poll(&self, job: &JobRecord) {
        let mut wished = None;
        match self.ask(job).await {
            Ok(Told::Object { object, poll_after }) => {
                wished = poll_after;
                if let Err(error) = self.learn(job.kind, &object).await {
                    tracing::error!(decision.id = %job.decision, error = %chain(&error), "the end of a job is not recorded");
                }
            }
            Ok(Told::Unknown) => {
                tracing::debug!(decision.id = %job.decision, "the upstream does not know a job of its own");
            }
            Err(error) => {
                tracing::warn!(decision.id = %job.decision, error = %chain(&error), "a job could not be asked for");
            }
        }
        self.next_poll(job, wished).await;
    }

    /// Has the job asked for again, unless it has ended.
    async fn next_poll(&self, job: &JobRecord, wished: Option<Span>) {
        let held = self.meter.in_flight(job.account, job.decision).await;
        let now = self.clock.now();
        if held.is_ok_and(|held| held.is_none()) && !self.is_worth_asking(job, now) {
            return self.forget(&job.resource.id);
        }
        let mut index = self.index();
        let Some(open) = index.open.get_mut(&*job.resource.id) else { return };
        let pause = wished.map_or_else(|| jittered(open.pause), |after| self.pace.wished(after));
        open.pause = self.pace.longer(open.pause);
        index.reschedule(&job.resource.id, now.plus(pause));
    }

    fn tell(&self) {
        let now = self.clock.now();
        let index = self.index();
        let oldest = index.open.values().map(|open| now.since(open.job.began_at)).max();
        gauge("overfall_jobs_open", index.open.len() as u64);
        gauge("overfall_jobs_oldest_seconds", oldest.unwrap_or_default().ms() / 1000);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is for looking at, and exact below 2^53")]
fn gauge(name: &'static str, value: u64) {
    metrics::gauge!(name).set(value as f64);
}
