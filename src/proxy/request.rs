//! One request on its way through: what Pingora's phases hand from one to the next.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use pingora::http::ResponseHeader;

use super::background::{Background, Watched};
use super::client::Dialect;
use super::extension::Extension;
use super::finish::Cause;
use super::headers::{self, Allowed, Headers, Scene};
use super::idempotency::{Kept, Taken};
use super::in_flight::Counted;
use super::observe::{ChatFilter, Failure, Observer, Shape};
use super::passing::Outgoing;
use super::routes::{Action, Route};
use super::settlement::Settlement;
use super::upstreams::{Goal, Way};
use crate::access::draw::Draws;
use crate::access::{Standing, Terms};
use crate::units::{DecisionId, Timestamp};

/// What a stream tells that the upstream cut.
const CUT: Failure<'static> = Failure {
    kind: "server_error",
    code: "server_error",
    message: "The model provider ended the stream early. You were charged for what it produced.",
};
/// What a stream tells for which nothing is left. Codex and the SDKs take this code as final.
const EXHAUSTED: Failure<'static> = Failure {
    kind: "insufficient_quota",
    code: "insufficient_quota",
    message: "Your allowance and credits are used up, so the answer was stopped. You were charged for what it produced.",
};

/// A request's context.
pub struct Request {
    /// How the client wants to be answered.
    pub dialect: Dialect,
    /// Its row of the table, once it is known.
    pub route: Option<&'static Route>,
    /// How far it is.
    pub stage: Stage,
    /// When it came, by the monotonic clock.
    pub began: tokio::time::Instant,
    /// Which upstreams it was sent to.
    pub way: Way,
    _counted: Counted,
}

/// How far a request is.
pub enum Stage {
    /// Nothing is decided.
    Arrived,
    /// The gateway has answered, or will, by itself.
    Answered,
    /// It was answered before, and is answered so again.
    Replayed(Box<Kept>),
    /// It goes on, and costs nothing.
    Free(Free),
    /// It goes on, and is held.
    Metered(Box<Metered>),
}

/// A request that costs nothing.
#[derive(Default)]
pub struct Free {
    /// What leaves.
    pub outgoing: Outgoing,
    /// The response that is gone when the upstream agrees.
    pub deletes: Option<String>,
    /// The response that the answer is about.
    pub about: Option<String>,
    /// The job whose end it may tell.
    pub tells: Option<Watched>,
}

/// A request that is held.
pub struct Metered {
    /// What leaves.
    pub outgoing: Outgoing,
    /// Its hold.
    pub settlement: Settlement,
    /// What was decided.
    pub decided: Decided,
    /// What it does.
    pub action: Action,
    /// Takes the usage chunk out, where the client did not ask for it.
    pub filter: Option<ChatFilter>,
    /// Whether the answer comes as events.
    pub streams: bool,
    /// Where the stream was ended because nothing is left: the bytes of its body that had left before.
    pub stopped_at: Option<usize>,
    /// What makes it a job, where it asks to be made in the background.
    pub background: Option<Background>,
}

/// A decision to let a request through, for the headers of its answer.
#[derive(Debug)]
pub struct Decided {
    /// Its id.
    pub decision: DecisionId,
    /// What it was decided by.
    pub terms: Terms,
    /// Where it is drawn from.
    pub draws: Draws,
    /// The output tokens that it has been cut down to.
    pub clamped_to: Option<u64>,
    /// What is left, after it.
    pub standing: Standing,
    /// Whether it was let through without the store of live counts.
    pub is_degraded: bool,
}

impl Request {
    /// A request that has just come.
    pub fn new(counted: Counted) -> Self {
        Self {
            dialect: Dialect::OpenAi,
            route: None,
            stage: Stage::Arrived,
            began: tokio::time::Instant::now(),
            way: Way::default(),
            _counted: counted,
        }
    }

    /// What leaves, if anything does.
    pub fn outgoing(&mut self) -> Option<&mut Outgoing> {
        match &mut self.stage {
            Stage::Free(free) => Some(&mut free.outgoing),
            Stage::Metered(metered) => Some(&mut metered.outgoing),
            Stage::Arrived | Stage::Answered | Stage::Replayed(_) => None,
        }
    }

    /// Where it may go.
    pub fn goal(&mut self) -> Goal {
        self.outgoing().map_or(Goal::Any, |outgoing| outgoing.goal)
    }

    /// The hold, if there is one.
    pub fn metered(&mut self) -> Option<&mut Metered> {
        match &mut self.stage {
            Stage::Metered(metered) => Some(metered),
            Stage::Arrived | Stage::Answered | Stage::Replayed(_) | Stage::Free(_) => None,
        }
    }

    /// Whether sending it twice does what sending it once does.
    pub fn is_repeatable(&self) -> bool {
        self.route.is_some_and(Route::is_repeatable)
    }
}

impl Decided {
    /// The headers that tell of it.
    pub fn headers(&self, dialect: Dialect, request_id: &str, now: Timestamp) -> Headers {
        let scene = self.scene(now);
        let allowed = Allowed {
            decision: self.decision,
            draws: &self.draws,
            clamped_to: self.clamped_to,
            is_degraded: self.is_degraded,
        };
        headers::allowed(&scene, &allowed, dialect, request_id)
    }

    /// What its headers are made from.
    pub fn scene(&self, now: Timestamp) -> Scene<'_> {
        let Terms { policy, plan, feature, .. } = &self.terms;
        Scene { policy, plan: *plan, feature: *feature, standing: &self.standing, now }
    }
}

impl Free {
    /// Looks at the next bytes of an answer that tells of a job.
    pub fn pass(&mut self, chunk: Option<&[u8]>, last: bool) {
        let Some(tells) = &mut self.tells else { return };
        if let Some(chunk) = chunk {
            tells.pass(chunk);
        }
        if last {
            tells.end();
        }
    }
}

/// Whether an answer comes as events.
pub fn is_stream(answer: &ResponseHeader) -> bool {
    answer.headers.get(CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes().get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
    })
}

impl Metered {
    /// Begins to watch an answer.
    pub fn watch(&mut self, answer: &ResponseHeader) {
        let events = is_stream(answer);
        let shape = match (self.action, events) {
            (Action::CompleteChat, true) => Shape::ChatSse,
            (Action::CompleteChat, false) => Shape::ChatJson,
            (Action::CompactResponse, false) => Shape::CompactJson,
            (_, true) => Shape::ResponsesSse,
            (_, false) => Shape::ResponsesJson,
        };
        self.streams = events;
        if shape != Shape::ChatSse {
            self.filter = None;
        }
        if let Some(call) = self.settlement.call() {
            call.status = Some(answer.status.as_u16());
            call.observer = Some(Observer::new(shape, answer.status));
            call.extension = events.then(|| Extension::new(call.estimate.output_tokens, call.output_bound));
        }
    }

    /// What the client gets of the next bytes of the answer.
    pub fn pass(&mut self, chunk: Option<Bytes>) -> Option<Bytes> {
        let chunk = chunk.filter(|_| self.stopped_at.is_none())?;
        self.settlement.observe(&chunk);
        if let Some(background) = &mut self.background {
            background.pass(&mut self.settlement, &chunk);
        }
        match &mut self.filter {
            Some(filter) => Some(filter.feed(&chunk)),
            None => Some(chunk),
        }
    }

    /// What the client gets when the answer has ended: what was held back, and what ends a stream that was cut.
    pub fn conclude(&mut self) -> Bytes {
        if let Some(background) = &mut self.background {
            background.end();
        }
        let ending = self.ending();
        if !ending.is_empty() {
            return ending.into();
        }
        self.filter.take().map(ChatFilter::end).unwrap_or_default()
    }

    /// Ends a stream for which nothing is left, whose body has so many bytes that have left: settles it, and gives what
    /// tells the client.
    pub fn stop(&mut self, left: usize) -> Bytes {
        let ending = Bytes::from(self.ending_with(&EXHAUSTED));
        self.filter = None;
        self.stopped_at = Some(left);
        self.record(Some(&ending), true);
        self.settlement.end_now(Cause::Exhausted);
        ending
    }

    /// Its idempotency key, if it has one and the call goes on.
    pub fn taken(&mut self) -> Option<&mut Taken> {
        self.settlement.taken()
    }

    /// Records what the client gets of the answer.
    pub fn record(&mut self, chunk: Option<&Bytes>, end_of_answer: bool) {
        let Some(taken) = self.taken() else { return };
        if let Some(chunk) = chunk {
            taken.pass(chunk);
        }
        if end_of_answer {
            taken.whole();
        }
    }

    /// What ends a stream that was cut.
    pub fn ending(&mut self) -> Vec<u8> {
        self.ending_with(&CUT)
    }

    fn ending_with(&mut self, failure: &Failure<'_>) -> Vec<u8> {
        let observer = self.settlement.call().and_then(|call| call.observer.as_ref());
        match observer.filter(|observer| observer.observed().terminal.is_none()) {
            Some(observer) => observer.ending(failure, self.filter.as_ref()),
            None => Vec::new(),
        }
    }
}
