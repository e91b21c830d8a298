//! What is in flight: how many requests, which a shutdown waits for, and which holds, which are renewed while they run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::meter::{Meter, MeterError};
use crate::units::time::Clock;
use crate::units::{AccountId, DecisionId, IdMap, Span, Timestamp};

const SHARDS: usize = 16;
/// How often holds are looked at: a third of the shortest lifetime that a policy may name is longer.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Requests and holds in flight.
#[derive(Debug)]
pub struct InFlight {
    requests: AtomicUsize,
    holds: [Mutex<IdMap<DecisionId, Renewal>>; SHARDS],
}

#[derive(Clone, Copy, Debug)]
struct Renewal {
    account: AccountId,
    lifetime: Span,
    due: Timestamp,
}

/// Counts a request for as long as it lives.
#[derive(Debug)]
pub struct Counted(Arc<InFlight>);

impl InFlight {
    /// Nothing.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { requests: AtomicUsize::new(0), holds: std::array::from_fn(|_| Mutex::default()) })
    }

    /// Counts one more request.
    pub fn count(self: &Arc<Self>) -> Counted {
        self.requests.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(self))
    }

    /// How many requests there are.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    /// Renews a hold from now on.
    pub fn watch(&self, account: AccountId, decision: DecisionId, lifetime: Span, now: Timestamp) {
        let due = now.plus(third(lifetime));
        self.shard(decision).insert(decision, Renewal { account, lifetime, due });
    }

    /// Renews it no more.
    pub fn forget(&self, decision: DecisionId) {
        self.shard(decision).remove(&decision);
    }

    fn shard(&self, decision: DecisionId) -> MutexGuard<'_, IdMap<DecisionId, Renewal>> {
        lock(&self.holds[decision.shard(SHARDS)])
    }

    /// Renews each hold when a third of its lifetime has passed, until `shutdown` is true: what is left then is cut at once.
    pub async fn renew(
        self: Arc<Self>,
        meter: Arc<dyn Meter>,
        clock: Clock,
        mut shutdown: watch::Receiver<bool>,
    ) {
        while tokio::time::timeout(LOOK_EVERY, shutdown.wait_for(|stop| *stop)).await.is_err() {
            self.renew_due(&*meter, clock.now()).await;
        }
    }

    async fn renew_due(&self, meter: &dyn Meter, now: Timestamp) {
        for shard in &self.holds {
            let due: Vec<_> = {
                let mut holds = lock(shard);
                let due = holds.iter_mut().filter(|(_, renewal)| renewal.due <= now);
                due.map(|(decision, renewal)| {
                    renewal.due = now.plus(third(renewal.lifetime));
                    (*decision, *renewal)
                })
                .collect()
            };
            for (decision, Renewal { account, lifetime, .. }) in due {
                match meter.renew(account, decision, now.plus(lifetime)).await {
                    Ok(()) => {}
                    // It ended between the look and the renewal, or by its deadline: nothing is left to renew.
                    Err(MeterError::NoSuchHold) => self.forget(decision),
                    Err(error) => {
                        let error = crate::telemetry::chain(&error);
                        tracing::warn!(decision.id = %decision, %error, "a hold could not be renewed");
                    }
                }
            }
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

const fn third(lifetime: Span) -> Span {
    Span::from_ms(lifetime.ms() / 3)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
