//! Pingora's phases of one request. Each does one thing by calling the module that knows how.
//!
//! Pingora tells of everything but a request's death: then its context is dropped, and with it the
//! [`Settlement`](super::settlement::Settlement).

pub(super) mod answer;
pub(super) mod failure;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

use super::body::{self, Bodies};
use super::exchange::Exchange;
use super::finish::Cause;
use super::idempotency::Idempotency;
use super::in_flight::InFlight;
use super::learn::Learner;
use super::owners::Owners;
use super::request::{Metered, Request, Stage};
use super::routes::{Class, Route};
use super::server::Task;
use super::settlement::Settlements;
use super::upstreams::{Same, Upstreams};
use super::{admit, local, metrics, passing, upstreams, videos, webhooks};
use crate::access::record::MadeRecord;
use crate::idempotency::{self, Answers};
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::ledger::directory::Directory;
use crate::meter::Meter;
use crate::policy::live::Policies;
use crate::settle::jobs::webhook::Verifier;
use crate::settle::{BlockSender, Jobs, Progress};
use crate::units::time::Clock;

/// How long a client may take to read what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// What a request's body may still send after its refusal before its connection is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the numbers of what is under way are told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What a gateway is made of.
pub struct Parts {
    /// What time it is.
    pub clock: Clock,
    /// The policy in force.
    pub policies: Arc<Policies>,
    /// Who may call.
    pub directory: Arc<Directory>,
    /// Live counts.
    pub meter: Arc<dyn Meter>,
    /// The books.
    pub ledger: Arc<dyn Ledger>,
    /// What is on its way to the books.
    pub journal: Arc<Journal>,
    /// What was made upstream before a restart, and may not be in the books yet.
    pub made: Vec<MadeRecord>,
    /// The log of blocks.
    pub blocks: BlockSender,
    /// What is made in the background.
    pub jobs: Arc<Jobs>,
    /// Checks the upstream's webhooks, if they are taken.
    pub webhooks: Option<Verifier>,
    /// Where allowed requests go.
    pub upstreams: Arc<Upstreams>,
    /// Bounds on bodies.
    pub bodies: body::Limits,
    /// What is known of idempotency keys.
    pub answers: Arc<dyn Answers>,
    /// What is kept of them, and for how long.
    pub kept: idempotency::Limits,
}

/// The gateway. Clones are the same one.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

/// What all requests share.
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) policies: Arc<Policies>,
    pub(super) directory: Arc<Directory>,
    pub(super) meter: Arc<dyn Meter>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) blocks: BlockSender,
    pub(super) jobs: Arc<Jobs>,
    pub(super) webhooks: Option<Verifier>,
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) exchange: Exchange,
    pub(super) bodies: Bodies,
    pub(super) learner: Arc<Learner>,
    pub(super) owners: Arc<Owners>,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) settlements: Arc<Settlements>,
    pub(super) intake: Intake,
    pub(super) idempotency: Idempotency,
}

/// Whether requests are taken.
#[derive(Debug, Default)]
pub(super) struct Intake(AtomicU8);

const LEAVING: u8 = 1;
const CLOSED: u8 = 2;

impl Intake {
    /// From now on connections end with the answer at hand.
    pub(super) fn leave(&self) {
        self.0.store(LEAVING, Ordering::Release);
    }

    /// From now on requests are refused.
    pub(super) fn close(&self) {
        self.0.store(CLOSED, Ordering::Release);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.0.load(Ordering::Acquire) >= LEAVING
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire) == CLOSED
    }
}

impl Gateway {
    /// A gateway of these parts.
    pub fn new(parts: Parts) -> Self {
        metrics::describe();
        let (in_flight, learner) = (InFlight::new(), Arc::new(Learner::default()));
        let owners = Owners::new(
            Arc::clone(&parts.ledger),
            Arc::clone(&parts.journal),
            parts.clock.clone(),
            &parts.made,
        );
        let learnt = Arc::clone(&learner);
        // How long its body was is not known any more.
        parts.jobs.tell_counted(move |end| learnt.observe(end.user, &end.model, &end.used.quantities, 0));
        let settlements = Settlements::new(
            Arc::clone(&parts.meter),
            Arc::clone(&in_flight),
            Arc::clone(&owners),
            Arc::clone(&learner),
        );
        Self(Arc::new(Shared {
            upstreams: parts.upstreams,
            exchange: Exchange::default(),
            bodies: Bodies::new(parts.bodies),
            idempotency: Idempotency::new(parts.answers, parts.kept, parts.clock.clone()),
            clock: parts.clock,
            policies: parts.policies,
            directory: parts.directory,
            meter: parts.meter,
            ledger: parts.ledger,
            blocks: parts.blocks,
            jobs: parts.jobs,
            webhooks: parts.webhooks,
            learner,
            owners,
            in_flight,
            settlements,
            intake: Intake::default(),
        }))
    }

    /// Asks the books about the calls with idempotency keys that were under way when the gateway died.
    pub fn resolve_interrupted(&self, progress: Progress) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.0);
        async move { shared.idempotency.resolve(&*shared.meter, &*shared.ledger, &progress).await }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// The work that a gateway needs done beside its requests, on one thread.
    pub(super) fn task(&self) -> Task {
        let shared = Arc::clone(&self.0);
        Task::new("gateway beside", move |stop| async move {
            let told = async {
                let mut stop = stop.clone();
                while !*stop.borrow() {
                    metrics::under_way(shared.in_flight.requests(), shared.bodies.buffered_bytes());
                    shared.upstreams.tell();
                    tokio::select! {
                        () = tokio::time::sleep(TELL_EVERY) => {}
                        _ = stop.wait_for(|stop| *stop) => {}
                    }
                }
            };
            tokio::join!(
                told,
                shared.upstreams.run(stop.clone()),
                Arc::clone(&shared.settlements).run(stop.clone()),
                Arc::clone(&shared.in_flight).renew(
                    Arc::clone(&shared.meter),
                    shared.clock.clone(),
                    stop.clone()
                ),
            );
        })
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Request;

    fn new_ctx(&self) -> Request {
        Request::new(self.0.in_flight.count())
    }

    async fn early_request_filter(&self, session: &mut Session, _: &mut Request) -> pingora::Result<()> {
        session.set_write_timeout(Some(WRITE_TIMEOUT));
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        // A client that has closed its side is gone, for all that can be seen: generating on would cost somebody. Those
        // who close one half only and wait are few, and no client of these APIs.
        session.set_abort_on_close(true);
        session.set_pipelining_enabled(true);
        // The upstream is asked for plain answers; one that compresses all the same is read all the same.
        session.upstream_compression.adjust_decompression(true);
        if self.0.intake.is_leaving() {
            session.set_keepalive(None);
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, request: &mut Request) -> pingora::Result<bool> {
        let shared = &*self.0;
        if webhooks::is_one(session) {
            return match webhooks::take(shared, session, request).await {
                Ok(taken) => answer::tell(session, request, taken).await,
                Err(refusal) => answer::refuse(shared, session, request, refusal.into()).await,
            };
        }
        let known = match admit::identify(shared, session, request) {
            Ok(known) => known,
            Err(refusal) => return answer::refuse(shared, session, request, refusal.into()).await,
        };
        if videos::answers(known.action) {
            // Boxed: most requests are others, and carry none of its state.
            return Box::pin(videos::answer(&self.0, session, request, known)).await;
        }
        let decided = match known.class {
            Class::Metered(api) => admit::meter(shared, session, known, api).await,
            Class::Owned | Class::Free => admit::pass(shared, session, known).await,
            Class::Local => {
                return match local::answer(shared, &known).await {
                    Ok(found) => answer::tell(session, request, found).await,
                    Err(refusal) => answer::refuse(shared, session, request, refusal.into()).await,
                };
            }
        };
        match decided {
            Ok(Stage::Replayed(kept)) => answer::replay(session, request, *kept).await,
            Ok(stage) => {
                request.stage = stage;
                Ok(false)
            }
            Err(refused) => answer::refuse(shared, session, request, refused).await,
        }
    }

    async fn upstream_peer(&self, _: &mut Session, request: &mut Request) -> pingora::Result<Box<HttpPeer>> {
        let goal = request.goal();
        let peer = self.0.upstreams.enter(&mut request.way, goal).map(Box::new);
        peer.ok_or_else(|| Error::explain(failure::NO_UPSTREAM, "no upstream is usable").into_up())
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        peer: &HttpPeer,
        request: &mut Request,
        mut error: Box<Error>,
    ) -> Box<Error> {
        metrics::upstream_error("connect");
        self.0.upstreams.unreachable(&mut request.way, peer);
        let goal = request.goal();
        error.set_retry(self.0.upstreams.goes_on(&request.way, goal, Same::Again));
        error
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        header: &mut RequestHeader,
        request: &mut Request,
    ) -> pingora::Result<()> {
        let upstream = self.0.upstreams.present(&request.way);
        if let Some(Metered { settlement, .. }) = request.metered()
            && let Some(call) = settlement.call()
        {
            call.dispatched = true;
            call.upstream = upstreams::name_of(upstream);
            let dispatched = self.0.meter.dispatch(call.account, call.decision).await;
            dispatched.map_err(|error| {
                Error::because(ErrorType::InternalError, "the hold is gone", error).into_in()
            })?;
        }
        match (request.outgoing(), upstream) {
            (Some(outgoing), Some(upstream)) => passing::outward(header, outgoing, upstream),
            _ => Err(Error::explain(ErrorType::InternalError, "nothing was let through").into_in()),
        }
    }

    /// Never awaits: what the body is was decided before the upstream was chosen.
    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        request: &mut Request,
    ) -> pingora::Result<()> {
        let goal = request.goal();
        let goes_on = self.0.upstreams.goes_on(&request.way, goal, Same::Never);
        let whole = request.outgoing().and_then(|outgoing| outgoing.leave(goes_on));
        *body = if end_of_stream { whole } else { None };
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        header: &mut ResponseHeader,
        request: &mut Request,
    ) -> pingora::Result<()> {
        failure::judge(&self.0.upstreams, session, header, request)?;
        if matches!(header.status.as_u16(), 401 | 403) {
            // The key that it did not accept is the gateway's own: what it says about that is for the operator.
            metrics::upstream_error("auth");
            tracing::error!(
                status = header.status.as_u16(),
                "the upstream does not accept the gateway's key"
            );
            return Err(Error::new_up(failure::UPSTREAM_AUTH));
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        header: &mut ResponseHeader,
        request: &mut Request,
    ) -> pingora::Result<()> {
        answer::head(&self.0, session, header, request).await
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        request: &mut Request,
    ) -> pingora::Result<Option<Duration>> {
        match &mut request.stage {
            Stage::Metered(metered) => {
                *body = metered.pass(body.take());
                let left = session.body_bytes_sent();
                // An error here would drop what is on its way: first the client gets the end of its stream.
                if metered.stopped_at.is_some_and(|stopped_at| left > stopped_at) && !end_of_stream {
                    return Err(
                        Error::explain(failure::EXHAUSTED, "nothing is left for the stream").into_in()
                    );
                }
                if metered.settlement.must_stop() {
                    metered.record(body.as_ref(), false);
                    answer::append(body, metered.stop(left));
                }
                if end_of_stream {
                    answer::append(body, metered.conclude());
                }
                metered.record(body.as_ref(), end_of_stream);
                if end_of_stream {
                    metered.settlement.end_now(Cause::Ended);
                }
            }
            Stage::Free(free) => free.pass(body.as_deref(), end_of_stream),
            Stage::Arrived | Stage::Answered | Stage::Replayed(_) => {}
        }
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        request: &mut Request,
        reused: bool,
    ) -> Box<Error> {
        if *error.etype() == failure::UPSTREAM_BUSY {
            return error;
        }
        failure::note_silence(&self.0.upstreams, &error, request, reused);
        if request.is_repeatable() && session.response_written().is_none() {
            error.retry.decide_reuse(reused);
        } else {
            error.set_retry(false);
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        request: &mut Request,
    ) -> FailToProxy {
        failure::fail(&self.0, session, error, request).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, request: &mut Request) {
        if let Stage::Metered(metered) = &mut request.stage {
            // It has ended already, unless the answer had no body or a filter failed.
            let cause = error.map_or(Cause::Ended, failure::cause);
            metered.record(None, error.is_none());
            metered.settlement.end(cause).await;
        }
        let class = request.route.map_or("none", |route: &Route| route.class.as_str());
        let status = session.response_written().map_or(0, |header| header.status.as_u16());
        metrics::answered(class, status, request.began.elapsed());
    }

    fn suppress_error_log(&self, _: &Session, _: &Request, error: &Error) -> bool {
        // What is a fault has been told with its chain (`failure::note`), but for this.
        *error.etype() != failure::NO_UPSTREAM
    }
}
