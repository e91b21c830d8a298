//! What the simulated upstream saw: the requests that reached it, and how each one's answer ended.
//!
//! Tests ask it who was let through, with whose key, and whether a client's leaving reached the upstream. A bounded
//! number of requests is kept, the oldest go first; counts are never lost. With nothing kept only the counts remain,
//! which is what benches want.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use tokio::sync::Notify;

/// The observations of one upstream. Clones share them; they outlive it.
#[derive(Clone)]
pub struct Seen(Arc<Shared>);

/// A request that reached the upstream.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    /// Counted from 0, in order of arrival.
    pub number: u64,
    /// The method.
    pub method: Method,
    /// The target as sent: path and query.
    pub target: Uri,
    /// All headers, the credentials included.
    pub headers: HeaderMap,
    /// The body as sent, cut off at the bound of [`super::Options::recorded_body_bytes_max`].
    pub body: Bytes,
    /// The length of the whole body in bytes; 0 if it did not arrive whole.
    pub body_bytes: u64,
    /// How its answer ended.
    pub end: End,
}

/// How the answer to a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has not ended yet.
    Open,
    /// It was handed over whole.
    Answered,
    /// The upstream broke it off, as it was asked to.
    Cut,
    /// The client closed the connection first, after so many events; 0 before the header.
    ClientGone {
        /// Events written so far.
        events: u64,
    },
}

/// What was waited for did not happen in time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not seen in time: {what}; {count} requests were seen")]
pub struct NotSeen {
    what: String,
    count: u64,
}

struct Shared {
    kept: Mutex<VecDeque<SeenRequest>>,
    kept_max: usize,
    body_bytes_max: usize,
    count: AtomicU64,
    in_flight: AtomicU64,
    in_flight_max: AtomicU64,
    changed: Notify,
}

impl Seen {
    pub(super) fn new(kept_max: usize, body_bytes_max: usize) -> Self {
        Self(Arc::new(Shared {
            kept: Mutex::default(),
            kept_max,
            body_bytes_max,
            count: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            in_flight_max: AtomicU64::new(0),
            changed: Notify::new(),
        }))
    }

    /// How many requests have arrived, from the beginning.
    pub fn count(&self) -> u64 {
        self.0.count.load(Ordering::SeqCst)
    }

    /// How many of them have not ended yet.
    pub fn in_flight(&self) -> u64 {
        self.0.in_flight.load(Ordering::SeqCst)
    }

    /// The most that were in flight at once.
    pub fn in_flight_max(&self) -> u64 {
        self.0.in_flight_max.load(Ordering::SeqCst)
    }

    /// The requests that are still kept, oldest first.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.kept().iter().cloned().collect()
    }

    /// The request with this number, counted from 0, if it is kept.
    pub fn request(&self, number: u64) -> Option<SeenRequest> {
        self.kept().iter().find(|request| request.number == number).cloned()
    }

    /// Waits until `count` requests have arrived.
    pub async fn wait_for_count(&self, count: u64, timeout: Duration) -> Result<(), NotSeen> {
        let found = self.wait(timeout, || (self.count() >= count).then_some(())).await;
        found.ok_or_else(|| self.not_seen(format!("{count} requests")))
    }

    /// Waits until the answer to the request with this number, counted from 0, has ended, and tells how.
    pub async fn wait_for_end(&self, number: u64, timeout: Duration) -> Result<End, NotSeen> {
        let ended = || self.request(number).map(|request| request.end).filter(|end| *end != End::Open);
        self.wait(timeout, ended).await.ok_or_else(|| self.not_seen(format!("the end of request {number}")))
    }

    /// Waits until no request is in flight.
    pub async fn wait_for_idle(&self, timeout: Duration) -> Result<(), NotSeen> {
        let idle = self.wait(timeout, || (self.in_flight() == 0).then_some(())).await;
        idle.ok_or_else(|| self.not_seen("no request in flight".to_owned()))
    }

    async fn wait<T>(&self, timeout: Duration, condition: impl Fn() -> Option<T>) -> Option<T> {
        let found = async {
            loop {
                // Listening starts before the look, so that no change falls between the two.
                let mut changed = std::pin::pin!(self.0.changed.notified());
                changed.as_mut().enable();
                match condition() {
                    Some(found) => return found,
                    None => changed.await,
                }
            }
        };
        tokio::time::timeout(timeout, found).await.ok()
    }

    fn not_seen(&self, what: String) -> NotSeen {
        NotSeen { what, count: self.count() }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<SeenRequest>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down a request of `body_bytes`, of which `body` is the beginning; it is empty if it did not arrive whole.
    pub(super) fn arrived(&self, head: &http::request::Parts, body: &Bytes, body_bytes: u64) -> Ticket {
        let shared = &self.0;
        let in_flight = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        shared.in_flight_max.fetch_max(in_flight, Ordering::SeqCst);
        let number = if shared.kept_max == 0 {
            shared.count.fetch_add(1, Ordering::SeqCst)
        } else {
            let request = SeenRequest {
                number: 0,
                method: head.method.clone(),
                target: head.uri.clone(),
                headers: head.headers.clone(),
                body: body.slice(..body.len().min(shared.body_bytes_max)),
                body_bytes,
                end: End::Open,
            };
            self.keep(request)
        };
        shared.changed.notify_waiters();
        Ticket { seen: self.clone(), number, end: End::ClientGone { events: 0 } }
    }

    /// Numbers are given under the lock, so that the kept requests stand in their order.
    fn keep(&self, request: SeenRequest) -> u64 {
        let mut kept = self.kept();
        let number = self.0.count.fetch_add(1, Ordering::SeqCst);
        if kept.len() >= self.0.kept_max {
            kept.pop_front();
        }
        kept.push_back(SeenRequest { number, ..request });
        number
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").field("count", &self.count()).field("in_flight", &self.in_flight()).finish()
    }
}

/// A request in flight. Dropped before its answer was handed over, it tells that the client is gone.
pub(super) struct Ticket {
    seen: Seen,
    number: u64,
    end: End,
}

impl Ticket {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// One more event was written.
    pub(super) fn wrote_event(&mut self) {
        if let End::ClientGone { events } = &mut self.end {
            *events += 1;
        }
    }

    /// The answer was handed over whole.
    pub(super) fn answered(&mut self) {
        self.end = End::Answered;
    }

    /// The answer was broken off on purpose.
    pub(super) fn cut(&mut self) {
        self.end = End::Cut;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let shared = &self.seen.0;
        if shared.kept_max > 0
            && let Some(request) =
                self.seen.kept().iter_mut().rev().find(|request| request.number == self.number)
        {
            request.end = self.end;
        }
        shared.in_flight.fetch_sub(1, Ordering::SeqCst);
        shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(seen: &Seen, target: &'static str) -> Ticket {
        let (head, ()) = http::Request::get(target).body(()).expect("request").into_parts();
        seen.arrived(&head, &Bytes::from_static(b"0123456789"), 10)
    }

    #[test]
    fn only_the_newest_requests_are_kept_and_all_are_counted() {
        let seen = Seen::new(2, 4);
        for target in ["/a", "/b", "/c"] {
            arrive(&seen, target).answered();
        }
        let kept: Vec<_> =
            seen.requests().into_iter().map(|seen| (seen.number, seen.target.to_string())).collect();
        assert_eq!(kept, [(1, "/b".to_owned()), (2, "/c".to_owned())]);
        assert_eq!((seen.count(), seen.in_flight(), seen.in_flight_max()), (3, 0, 1));
        assert!(seen.request(0).is_none());
        let last = seen.request(2).expect("kept");
        assert_eq!((last.body.as_ref(), last.body_bytes, last.end), (&b"0123"[..], 10, End::Answered));
    }

    #[test]
    fn with_nothing_kept_there_are_still_counts() {
        let seen = Seen::new(0, 4);
        let (first, second) = (arrive(&seen, "/"), arrive(&seen, "/"));
        drop((first, second));
        assert_eq!((seen.count(), seen.in_flight(), seen.in_flight_max()), (2, 0, 2));
        assert!(seen.requests().is_empty());
    }

    #[tokio::test]
    async fn a_ticket_that_is_dropped_tells_that_the_client_is_gone() {
        let seen = Seen::new(9, 9);
        let mut ticket = arrive(&seen, "/");
        ticket.wrote_event();
        let waiting = tokio::spawn({
            let seen = seen.clone();
            async move { seen.wait_for_end(0, Duration::from_secs(5)).await }
        });
        drop(ticket);
        assert_eq!(waiting.await.expect("joined"), Ok(End::ClientGone { events: 1 }));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_in_vain_says_what_was_waited_for() {
        let seen = Seen::new(9, 9);
        let missed = seen.wait_for_count(2, Duration::from_secs(1)).await.expect_err("nobody came");
        assert_eq!(missed.to_string(), "not seen in time: 2 requests; 0 requests were seen");
    }
}
