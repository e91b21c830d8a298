//! What the gateway counts: names, meanings, labels.
//!
//! Labels are closed words, or names of the policy's products or of the deployment's upstreams: never an account, a
//! user, a key or a model. So the number of series is bounded by the code and the policy.
//!
//! The recorder finds a series by the text of its labels, which costs far more than to count. So the series that every
//! request counts in are kept, once found. The recorder has to be there before the first request.

use std::sync::{Arc, PoisonError, RwLock};

use metrics::{Counter, Histogram, SharedString, Unit};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::breaker::Position;
use crate::access::record::EndRecord;
use crate::idempotency::Why;
use crate::policy::compiled::{Feature, Name};

/// Requests answered.
const REQUESTS: &str = "overfall_requests_total";
/// From the head of a request to the end of its answer.
const REQUEST_SECONDS: &str = "overfall_request_duration_seconds";
/// Decisions made.
const DECISIONS: &str = "overfall_decisions_total";
/// Calls ended.
const ENDS: &str = "overfall_calls_ended_total";
/// Keys that let nobody in.
const UNIDENTIFIED: &str = "overfall_unidentified_total";
/// Faults of the upstream.
const UPSTREAM_ERRORS: &str = "overfall_upstream_errors_total";
/// Requests sent to an upstream.
const UPSTREAM_REQUESTS: &str = "overfall_upstream_requests_total";
/// What counts against an upstream's breaker.
const UPSTREAM_FAILURES: &str = "overfall_upstream_failures_total";
/// How far an upstream's breaker is.
const UPSTREAM_BREAKER: &str = "overfall_upstream_breaker";
/// Whether requests are sent to an upstream.
const UPSTREAM_USABLE: &str = "overfall_upstream_usable";
/// Requests under way.
const IN_FLIGHT: &str = "overfall_requests_in_flight";
/// Bodies in memory.
const BUFFERED: &str = "overfall_buffered_body_bytes";
/// Names that did not resolve.
pub(super) const RESOLVE_FAILURES: &str = "overfall_upstream_resolve_failures_total";
/// Calls that ended by being dropped.
pub(super) const SETTLED_BY_DROP: &str = "overfall_settled_by_drop_total";
/// Calls that were dropped and are left to their deadline.
pub(super) const SETTLEMENTS_LEFT: &str = "overfall_settlements_left_to_deadline_total";
/// Ends that the meter did not take.
pub(super) const ENDS_FAILED: &str = "overfall_ends_failed_total";

/// Answers given again.
const REPLAYS: &str = "overfall_idempotency_replays_total";
/// Requests whose key is known, and that cannot go on.
const CONFLICTS: &str = "overfall_idempotency_conflicts_total";

/// The outcome of a decision that lets a request through.
pub(super) const ALLOWED: &str = "none";

/// Says what each name means, for whoever reads `/metrics`. Again changes nothing.
pub fn describe() {
    describe_counter!(REQUESTS, "Requests answered, by class of route and status.");
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "Time from a request's head to its answer's end, by class."
    );
    describe_counter!(DECISIONS, "Decisions, by product, outcome and reason.");
    describe_counter!(ENDS, "Calls ended, by product, outcome and grade of their usage.");
    describe_counter!(UNIDENTIFIED, "Requests without a key that lets in, by what is wrong with it.");
    describe_counter!(UPSTREAM_ERRORS, "Faults of the upstream, by kind.");
    describe_counter!(UPSTREAM_REQUESTS, "Requests sent to an upstream, each attempt by itself.");
    describe_counter!(UPSTREAM_FAILURES, "No connection, 502, 503, 504 or no answer: what opens a breaker.");
    describe_gauge!(UPSTREAM_BREAKER, "An upstream's breaker: 0 closed, 1 half open, 2 open.");
    describe_gauge!(UPSTREAM_USABLE, "1 while requests would be sent to an upstream.");
    describe_counter!(REPLAYS, "Answers given again to requests whose idempotency key was known.");
    describe_counter!(CONFLICTS, "Requests refused because of their idempotency key, by why.");
    crate::idempotency::sqlite::metrics::describe();
    describe_gauge!(IN_FLIGHT, "Requests under way.");
    describe_gauge!(BUFFERED, Unit::Bytes, "Bodies of requests in memory.");
    describe_counter!(RESOLVE_FAILURES, "Times that the upstream's name did not resolve.");
    describe_counter!(SETTLED_BY_DROP, "Calls settled because their request was dropped: panic or stop.");
    describe_counter!(SETTLEMENTS_LEFT, "Dropped calls that found no place and are left to their deadline.");
    describe_counter!(ENDS_FAILED, "Ends of calls that the meter or the journal did not take.");
    // Alarms are made of these: of a series that begins at one, nobody sees an increase.
    for name in [SETTLED_BY_DROP, SETTLEMENTS_LEFT, ENDS_FAILED] {
        counter!(name).increment(0);
    }
}

static ANSWERED: Kept<(&str, &str), Counter> = Kept::new();
static TOOK: Kept<&str, Histogram> = Kept::new();
static DECIDED: Kept<(Name, &str), Counter> = Kept::new();
static ENDED: Kept<(Name, &str, &str), Counter> = Kept::new();

/// The series of one name that were met, by their labels: few, and found one by one.
struct Kept<L, S>(RwLock<Vec<(L, S)>>);

impl<L: PartialEq, S: Clone> Kept<L, S> {
    const fn new() -> Self {
        Self(RwLock::new(Vec::new()))
    }

    fn of(&self, labels: L, register: impl FnOnce(&L) -> S) -> S {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, series)) = known.iter().find(|(known, _)| *known == labels) {
            return series.clone();
        }
        drop(known);
        let series = register(&labels);
        // Two requests that find it missing keep it twice: both count in the same series.
        self.0.write().unwrap_or_else(PoisonError::into_inner).push((labels, series.clone()));
        series
    }
}

/// A request was answered with `status`; 0: the client had left before.
pub(super) fn answered(class: &'static str, status: u16, took: std::time::Duration) {
    let answered = ANSWERED.of(
        (class, status_word(status)),
        |(class, status)| counter!(REQUESTS, "class" => *class, "status" => *status),
    );
    answered.increment(1);
    TOOK.of(class, |class| histogram!(REQUEST_SECONDS, "class" => *class)).record(took);
}

/// A decision was made; `reason` is [`ALLOWED`] or a block's.
pub(super) fn decided(feature: &Feature, reason: &'static str) {
    let decided = DECIDED.of((Arc::clone(&feature.name), reason), |(feature, reason)| {
        let outcome = if *reason == ALLOWED { "allow" } else { "block" };
        counter!(DECISIONS, "feature" => shared(feature), "outcome" => outcome, "reason" => *reason)
    });
    decided.increment(1);
}

/// A call ended.
pub(super) fn ended(record: &EndRecord) {
    let (outcome, grade) = (record.ending.outcome.as_str(), record.ending.grade.as_str());
    let ended = ENDED.of((Arc::clone(&record.feature), outcome, grade), |(feature, outcome, grade)| {
        counter!(ENDS, "feature" => shared(feature), "outcome" => *outcome, "grade" => *grade)
    });
    ended.increment(1);
}

/// A key let nobody in.
pub(super) fn unidentified(why: &'static str) {
    counter!(UNIDENTIFIED, "why" => why).increment(1);
}

/// An answer is given again.
pub(super) fn replayed() {
    counter!(REPLAYS).increment(1);
}

/// A request cannot go on because of its key.
pub(super) fn key_refused(why: Why) {
    counter!(CONFLICTS, "why" => why.as_str()).increment(1);
}

/// The upstream is at fault.
pub(super) fn upstream_error(kind: &'static str) {
    counter!(UPSTREAM_ERRORS, "kind" => kind).increment(1);
}

/// A request is sent to an upstream.
pub(super) fn sent(upstream: &Name) {
    counter!(UPSTREAM_REQUESTS, "upstream" => label(upstream)).increment(1);
}

/// An upstream failed as breakers count it.
pub(super) fn upstream_failed(upstream: &Name) {
    counter!(UPSTREAM_FAILURES, "upstream" => label(upstream)).increment(1);
}

/// How an upstream stands now.
pub(super) fn upstream_state(upstream: &Name, position: Position, usable: bool) {
    let place = match position {
        Position::Closed => 0.0,
        Position::HalfOpen => 1.0,
        Position::Open => 2.0,
    };
    gauge!(UPSTREAM_BREAKER, "upstream" => label(upstream)).set(place);
    gauge!(UPSTREAM_USABLE, "upstream" => label(upstream)).set(if usable { 1.0 } else { 0.0 });
}

fn label(name: &Name) -> metrics::SharedString {
    metrics::SharedString::from_shared(Arc::clone(name))
}

/// What is under way now.
pub(super) fn under_way(requests: usize, buffered_bytes: usize) {
    let number = |count: usize| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
    gauge!(IN_FLIGHT).set(number(requests));
    gauge!(BUFFERED).set(number(buffered_bytes));
}

fn shared(name: &Name) -> SharedString {
    SharedString::from_shared(Arc::clone(name))
}

const fn status_word(status: u16) -> &'static str {
    match status {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "none",
    }
}
