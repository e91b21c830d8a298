//! Background responses: calls that become jobs, and answers that tell how a job stands.
//!
//! The answer to a call with `background: true` names what it makes, as a body or as the first event of a stream. From
//! there on the hold is a job: what becomes of this connection no longer matters to it. The bytes that name it leave
//! only once the job is durable, so that nobody knows of a response that a crash would forget.
//!
//! A poll that passes, a resumed stream and a cancellation tell how the job stands. They cost nothing; their end is the
//! job's, whoever sees it first.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::StatusCode;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::observe::{Observer, Shape};
use super::settlement::{Call, Settlement};
use crate::access::record::{JobKind, JobRecord, Resource};
use crate::journal::Ticket;
use crate::meter::MeterError;
use crate::settle::Jobs;
use crate::telemetry::chain;
use crate::units::Timestamp;
use crate::units::time::Clock;

/// How long the bytes that name a job wait for the disk. What is not durable by then is settled all the same, unless
/// this process dies first.
const DURABLE_WITHIN: Duration = Duration::from_secs(5);

/// A call that asked to be made in the background.
pub struct Background {
    /// Where it becomes a job.
    pub jobs: Arc<Jobs>,
    /// When it does.
    pub clock: Clock,
    /// What tells its end, once it is one.
    watched: Option<Watched>,
}

/// An answer that tells how a job stands.
pub struct Watched {
    jobs: Arc<Jobs>,
    /// Nothing once its end is learnt.
    observer: Option<Box<Observer>>,
}

impl Background {
    /// Not a job yet.
    pub const fn new(jobs: Arc<Jobs>, clock: Clock) -> Self {
        Self { jobs, clock, watched: None }
    }

    /// Looks at the next bytes of the answer, which the settlement has seen. As soon as they name what is made, the
    /// hold is a job.
    pub fn pass(&mut self, settlement: &mut Settlement, chunk: &[u8]) {
        if let Some(watched) = &mut self.watched {
            return watched.pass(chunk);
        }
        let observer = settlement.call().and_then(|call| call.observer.as_ref());
        let Some(resource) = observer.and_then(|observer| observer.observed().resource_id.clone()) else {
            return;
        };
        if let Some(call) = settlement.hand_over() {
            let job = job(&call, &resource, self.clock.now());
            let jobs = Arc::clone(&self.jobs);
            begin_in_place(&jobs, job);
            let mut watched = Watched { jobs, observer: call.observer.map(Box::new) };
            // These bytes may have told its end too.
            watched.pass(&[]);
            self.watched = Some(watched);
        }
    }

    /// The answer has ended.
    pub fn end(&mut self) {
        if let Some(watched) = &mut self.watched {
            watched.end();
        }
    }
}

impl Watched {
    /// Watches an answer for the end of a job.
    pub fn new(jobs: Arc<Jobs>, events: bool) -> Self {
        let shape = if events { Shape::ResponsesSse } else { Shape::ResponsesJson };
        Self { jobs, observer: Some(Box::new(Observer::new(shape, StatusCode::OK))) }
    }

    /// Looks at the next bytes. The end is learnt before they leave.
    pub fn pass(&mut self, chunk: &[u8]) {
        let Some(observer) = &mut self.observer else { return };
        observer.feed(chunk);
        if observer.observed().terminal.is_some() {
            self.end();
        }
    }

    /// The answer has ended.
    pub fn end(&mut self) {
        let Some(observer) = self.observer.take() else { return };
        let observed = observer.end();
        if observed.terminal.is_none() {
            return;
        }
        let jobs = Arc::clone(&self.jobs);
        now_or_beside(async move {
            if let Err(error) = jobs.learn_observed(&observed).await {
                tracing::error!(error = %chain(&error), "the end of a job is not recorded");
            }
        });
    }
}

fn job(call: &Call, resource: &str, now: Timestamp) -> JobRecord {
    JobRecord {
        decision: call.decision,
        account: call.account,
        user: call.user,
        kind: JobKind::Response,
        resource: Resource { id: Arc::from(resource), upstream: call.upstream.clone() },
        began_at: now,
        expires_at: now.plus(call.terms.feature().deadlines.background),
    }
}

/// Begins a job and waits for it to be durable, from where nothing can be awaited: Pingora's filters of bodies are
/// plain functions. The thread's other work moves to another thread meanwhile; it takes one sync of the disk, and jobs
/// are few.
pub(super) fn begin_in_place(jobs: &Arc<Jobs>, job: JobRecord) {
    let decision = job.decision;
    let begun = {
        let jobs = Arc::clone(jobs);
        async move { jobs.begin(job).await }
    };
    let told = |error: &dyn std::fmt::Display| {
        tracing::error!(decision.id = %decision, error = %error, "a job would not survive a crash");
    };
    let wait = async {
        match begun.await {
            Ok(ticket) => durable(ticket, &told).await,
            Err(MeterError::NoSuchHold) => {
                tracing::warn!(decision.id = %decision, "a call became a job after its deadline had ended it");
            }
            Err(error) => told(&chain(&error)),
        }
    };
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(|| Handle::current().block_on(wait)),
        // One thread cannot wait for itself: the job is begun, and durable a moment later.
        _ => drop(poll_once(wait)),
    }
}

async fn durable(ticket: Ticket, told: &impl Fn(&dyn std::fmt::Display)) {
    match tokio::time::timeout(DURABLE_WITHIN, ticket).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => told(&chain(&error)),
        Err(late) => told(&late),
    }
}

/// Does something at once if it can be done at once, else beside what goes on.
fn now_or_beside(work: impl Future<Output = ()> + Send + 'static) {
    if let Some(rest) = poll_once(work) {
        tokio::spawn(rest);
    }
}

/// What is left of `work` after one step.
fn poll_once<F: Future<Output = ()>>(work: F) -> Option<std::pin::Pin<Box<F>>> {
    let mut work = Box::pin(work);
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(()) => None,
        Poll::Pending => Some(work),
    }
}
