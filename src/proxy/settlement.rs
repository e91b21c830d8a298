//! The end of every hold, whatever interrupts its request.
//!
//! A [`Settlement`] stands in the request's context from the hold on. Who sees the end of the call ends it; if nobody
//! does – a panic, a cancelled task, a runtime that is shut down – its `Drop` hands the call to a bounded queue, whose
//! worker ends it by what was seen. What finds no place there ends by its deadline, at its floor. Exactly one of these
//! is first, and the meter knows no second (I9).

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::extension::{Extension, Question};
use super::finish::{Cause, Facts};
use super::idempotency::Taken;
use super::in_flight::InFlight;
use super::learn::Learner;
use super::metrics;
use super::observe::Observer;
use super::owners::{Owners, Response};
use crate::access::Terms;
use crate::access::record::{EndRecord, Resource};
use crate::journal::{NotDurable, Ticket};
use crate::meter::{Meter, MeterError};
use crate::policy::compiled::{Name, WhenExhausted};
use crate::telemetry::chain;
use crate::units::{AccountId, DecisionId, Quantities, UserId};

/// How many calls may wait whose end nobody saw.
const QUEUE: usize = 16_384;

/// What has to be known to end a call.
pub struct Call {
    /// Who pays.
    pub account: AccountId,
    /// Who calls.
    pub user: UserId,
    /// The decision that let it through.
    pub decision: DecisionId,
    /// What it was decided and is priced by.
    pub terms: Terms,
    /// What is held.
    pub estimate: Quantities,
    /// The tokens of the input by size, before what has been learnt: what the truth is compared with.
    pub input_by_size: u64,
    /// Whether the request left for the upstream.
    pub dispatched: bool,
    /// Which upstream it left for.
    pub upstream: Option<Name>,
    /// The status of the upstream's answer.
    pub status: Option<u16>,
    /// The request's own bound on its output, in tokens.
    pub output_bound: u64,
    /// Reserves more while the answer streams, once it does.
    pub extension: Option<Extension>,
    /// What watches the answer, once there is one.
    pub observer: Option<Observer>,
    /// Whether what the call made upstream is known to be its account's.
    pub owned: bool,
    /// Its idempotency key, if it has one.
    pub taken: Option<Box<Taken>>,
}

/// Ends calls.
pub struct Settlements {
    meter: Arc<dyn Meter>,
    in_flight: Arc<InFlight>,
    owners: Arc<Owners>,
    learner: Arc<Learner>,
    queue: mpsc::Sender<Box<Call>>,
    /// Shared, so that what is still in it can be ended after the worker's runtime has gone.
    queued: Arc<Mutex<mpsc::Receiver<Box<Call>>>>,
}

/// A call whose hold is open.
#[must_use = "a hold is money: end it"]
pub struct Settlement {
    call: Option<Box<Call>>,
    /// The key of a call that has become a job: its answer is still to come.
    taken: Option<Box<Taken>>,
    settlements: Arc<Settlements>,
}

/// The end of a call, which resolves when it is durable. Only then the key of a call that charged nothing is free, whether
/// anybody waits or not: before, a crash would charge the call all the same.
#[must_use = "an end is durable only once it says so"]
pub struct End {
    ticket: Option<Ticket>,
    freed: Option<Box<Taken>>,
}

impl Settlements {
    /// Ends calls with `meter`.
    pub fn new(
        meter: Arc<dyn Meter>,
        in_flight: Arc<InFlight>,
        owners: Arc<Owners>,
        learner: Arc<Learner>,
    ) -> Arc<Self> {
        let (queue, queued) = mpsc::channel(QUEUE);
        Arc::new(Self { meter, in_flight, owners, learner, queue, queued: Arc::new(Mutex::new(queued)) })
    }

    /// Takes charge of a hold.
    pub fn take_charge(self: &Arc<Self>, call: Call) -> Settlement {
        Settlement { call: Some(Box::new(call)), taken: None, settlements: Arc::clone(self) }
    }

    /// Ends what was dropped, until `shutdown` is true and nothing is left.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        loop {
            let stopping = *shutdown.borrow();
            self.drain().await;
            if stopping {
                return;
            }
            // Whoever is dropped is in no hurry: nothing waits for its end but the books.
            tokio::select! {
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Ends what was dropped so far.
    pub async fn drain(&self) {
        loop {
            let next = self.queued.lock().unwrap_or_else(PoisonError::into_inner).try_recv();
            let Ok(call) = next else { return };
            ::metrics::counter!(metrics::SETTLED_BY_DROP).increment(1);
            let cause = if call.dispatched { Cause::Dropped } else { Cause::NotSent };
            self.end(call, cause).await;
        }
    }

    async fn end(&self, call: Box<Call>, cause: Cause) -> Option<End> {
        let Call {
            account,
            user,
            decision,
            terms,
            estimate,
            input_by_size,
            status,
            upstream,
            observer,
            taken,
            ..
        } = *call;
        let observed = observer.map(Observer::end);
        let facts = Facts {
            terms: &terms,
            estimate: &estimate,
            observed: observed.as_ref(),
            status,
            upstream: upstream.as_ref(),
        };
        let (used, ending) = facts.end(cause);
        self.in_flight.forget(decision);
        if let Some(Resource { id, upstream }) = &ending.resource {
            let context_tokens = used.quantities.tokens();
            self.owners.made(id, Response { account, user, context_tokens, upstream: upstream.clone() });
        }
        if observed.is_some_and(|observed| observed.quantities.is_some()) {
            self.learner.observe(user, &terms.model, &used.quantities, input_by_size);
        }
        let charges_nothing = Taken::is_freed_by(ending.outcome);
        let was_sent = ending.reached_upstream;
        match self.meter.finish(account, decision, used, ending).await {
            Ok((record, ticket)) => {
                tell(&record);
                let mut freed = taken.filter(|_| charges_nothing);
                if let Some(taken) = &mut freed {
                    taken.free();
                }
                // What never left is free at once: a journal that takes nothing must not keep the key from a retry.
                Some(End { ticket: Some(ticket), freed: freed.filter(|_| was_sent) })
            }
            Err(error) => {
                untold(decision, &error);
                None
            }
        }
    }
}

impl Future for End {
    type Output = Result<(), NotDurable>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(ticket) = &mut self.ticket else { return Poll::Ready(Ok(())) };
        let durable = ready!(Pin::new(ticket).poll(context));
        self.freed = None;
        Poll::Ready(durable)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let (Some(ticket), Some(freed)) = (self.ticket.take(), self.freed.take()) else { return };
        // Without a runtime the process is ending, and the journal with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _told = ticket.await;
                drop(freed);
            });
        }
    }
}

impl Settlement {
    /// The call, while it is open.
    pub fn call(&mut self) -> Option<&mut Call> {
        self.call.as_deref_mut()
    }

    /// The call's idempotency key, if it has one, while its answer is still to come.
    pub fn taken(&mut self) -> Option<&mut Taken> {
        let of_call = self.call.as_mut().and_then(|call| call.taken.as_deref_mut());
        of_call.or(self.taken.as_deref_mut())
    }

    /// Looks at the next bytes of the answer, and notes whose it is as soon as it tells its id.
    pub fn observe(&mut self, chunk: &[u8]) {
        let Some(call) = self.call.as_deref_mut() else { return };
        let Some(observer) = &mut call.observer else { return };
        observer.feed(chunk);
        if let Some(extension) = &mut call.extension {
            let seen = observer.observed().output_seen.tokens();
            extension.saw(seen, &self.settlements.meter, || Question {
                account: call.account,
                decision: call.decision,
                terms: call.terms.clone(),
                estimate: call.estimate.clone(),
            });
        }
        if !call.owned
            && let Some(id) = &observer.observed().resource_id
        {
            call.owned = true;
            let owner = Response {
                account: call.account,
                user: call.user,
                context_tokens: call.estimate.input_tokens,
                upstream: call.upstream.clone(),
            };
            self.settlements.owners.made(id, owner);
        }
    }

    /// Lets the call go without ending it: it has become a job, which ends by itself.
    pub fn hand_over(&mut self) -> Option<Box<Call>> {
        let mut call = self.call.take()?;
        self.taken = call.taken.take();
        self.settlements.in_flight.forget(call.decision);
        Some(call)
    }

    /// Whether the stream must end here: nothing is left to pay for more, policy says so, and it has not ended itself.
    pub fn must_stop(&self) -> bool {
        let Some(call) = self.call.as_deref() else { return false };
        let ended = call.observer.as_ref().is_some_and(|observer| observer.observed().terminal.is_some());
        !ended
            && call.extension.as_ref().is_some_and(Extension::is_exhausted)
            && call.terms.feature().when_exhausted == WhenExhausted::Stop
    }

    /// Ends the call. What is given resolves when the end is durable; `None`: it had ended before, or the journal is
    /// closed.
    pub async fn end(&mut self, cause: Cause) -> Option<End> {
        let call = self.call.take()?;
        self.settlements.end(call, cause).await
    }

    /// Ends the call from where nothing can be awaited: before the last byte of the answer leaves, so that a client
    /// that has all of it finds it settled. A meter that cannot answer at once goes on by itself.
    pub fn end_now(&mut self, cause: Cause) {
        self.taken = None;
        let Some(call) = self.call.take() else { return };
        let settlements = Arc::clone(&self.settlements);
        let mut ending = Box::pin(async move { settlements.end(call, cause).await });
        if ending.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(ending);
        }
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        if let Err(error) = self.settlements.queue.try_send(call) {
            let call = match error {
                mpsc::error::TrySendError::Full(call) | mpsc::error::TrySendError::Closed(call) => call,
            };
            ::metrics::counter!(metrics::SETTLEMENTS_LEFT).increment(1);
            tracing::error!(decision.id = %call.decision, "a dropped call is left to its deadline");
            self.settlements.in_flight.forget(call.decision);
        }
    }
}

fn tell(record: &EndRecord) {
    metrics::ended(record);
    if !record.charge.excess.is_zero() {
        tracing::error!(
            decision.id = %record.decision,
            account.id = %record.account,
            excess = %record.charge.excess,
            "use beyond every limit was forgiven"
        );
    }
}

fn untold(decision: DecisionId, error: &MeterError) {
    match error {
        MeterError::NoSuchHold => {
            tracing::warn!(decision.id = %decision, "a call ended after its deadline had ended it");
        }
        MeterError::Store(error) => {
            tracing::warn!(decision.id = %decision, error = %chain(error), "the end of a call waits for the store");
        }
        MeterError::Journal(_) | MeterError::TooMuch => {
            tracing::error!(decision.id = %decision, error = %chain(error), "the end of a call is not kept");
        }
    }
    ::metrics::counter!(metrics::ENDS_FAILED).increment(1);
}
