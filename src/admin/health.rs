//! Health for probes, metrics for scrapers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::Operator;
use crate::journal::{Health, Journal};
use crate::telemetry::Exposition;

/// Whether the gateway should be sent requests.
#[derive(Clone)]
pub struct Readiness {
    serving: Arc<AtomicBool>,
    journal: Arc<Journal>,
    upstreams: Arc<OnceLock<IsUp>>,
}

/// Whether any upstream answers, as far as is known.
type IsUp = Box<dyn Fn() -> bool + Send + Sync>;

impl Readiness {
    /// Not serving yet, on top of this journal.
    pub fn new(journal: Arc<Journal>) -> Self {
        Self { serving: Arc::default(), journal, upstreams: Arc::default() }
    }

    /// From now on requests should come only while some upstream answers, as `is_up` tells. The first one who tells
    /// stays.
    pub fn watch(&self, is_up: impl Fn() -> bool + Send + Sync + 'static) {
        let _later = self.upstreams.set(Box::new(is_up));
    }

    /// From now on requests are taken.
    pub fn begin(&self) {
        self.serving.store(true, Ordering::SeqCst);
    }

    /// From now on no new requests should come.
    pub fn end(&self) {
        self.serving.store(false, Ordering::SeqCst);
    }

    /// Why no requests should come, if so.
    pub fn unready(&self) -> Option<&'static str> {
        if !self.serving.load(Ordering::SeqCst) {
            return Some("not-serving");
        }
        match self.journal.health() {
            Health::Good if self.upstreams.get().is_some_and(|is_up| !is_up()) => Some("no-upstream"),
            Health::Good => None,
            Health::Refusing { reason } => Some(reason.as_str()),
        }
    }
}

/// The process runs.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Requests may come.
pub(super) async fn ready(State(operator): State<Arc<Operator>>) -> impl IntoResponse {
    let policy = operator.policies.current().version.to_string();
    match operator.readiness.unready() {
        None => (StatusCode::OK, Json(json!({"ready": true, "policy": policy}))),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"ready": false, "reason": reason, "policy": policy})),
        ),
    }
}

/// Metrics in Prometheus' text format.
pub(super) async fn metrics(State(operator): State<Arc<Operator>>) -> String {
    crate::settle::record_gauges(&operator.readiness.journal, &*operator.meter, &operator.settled);
    operator.exposition.as_ref().map(Exposition::render).unwrap_or_default()
}

/// What a worker by itself tells: that it runs, and what it counts.
pub(super) fn of_worker(exposition: Exposition) -> Router {
    Router::new()
        .route("/healthz", get(alive))
        .route("/metrics", get(async move || exposition.render()))
        .fallback(super::error::no_such_route)
}
