//! The operator's API: accounts, users, keys, grants, corrections, decisions, policy; health and metrics.
//!
//! It has a listener of its own. What changes or tells anything about customers stands under `/admin/v1/` and wants the
//! operator's token; `/healthz`, `/readyz` and `/metrics` are for probes and scrapers, which have none. Their
//! description is `/admin/v1/openapi.json`. The command line speaks to the same routes, over the listener where one runs,
//! else in process.

mod accounts;
mod asked;
mod auth;
mod books;
mod corrections;
mod error;
mod explain;
mod grants;
mod health;
mod keys;
mod policy;
mod rerate;
mod views;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::middleware;
use axum::routing::get;
use tokio::sync::{Mutex, Notify};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::Secret;
use crate::ledger::Ledger;
use crate::ledger::directory::Directory;
use crate::meter::Meter;
use crate::policy::live::Policies;
use crate::settle::SettlerStats;
use crate::telemetry::Exposition;
use crate::units::time::Clock;

pub use health::Readiness;

/// Everything that the operator's routes act on.
pub struct Operator {
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
    /// Whether requests are taken.
    pub readiness: Readiness,
    /// What settlement has done.
    pub settled: Arc<SettlerStats>,
    /// What `/metrics` shows; none where nothing is recorded.
    pub exposition: Option<Exposition>,
    /// The operator's token.
    pub token: Secret,
    /// Wakes whoever reads the policy file again.
    pub reload: Arc<Notify>,
    /// One order of credits at a time: between asking the books for a grant and making it, nobody else makes it.
    pub grant_order: Mutex<()>,
    /// Refuses what changes anything, from the beginning of the shutdown on.
    pub closing: AtomicBool,
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Overfall operator's API",
    description = "Accounts, users, keys, grants, corrections, decisions and policy. Every call carries `Authorization: Bearer` and the operator's token. Amounts of credits are decimal strings."
))]
struct Document;

/// The routes.
pub fn router(operator: Arc<Operator>) -> Router {
    let (operated, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(accounts::add, accounts::list))
        .routes(routes!(accounts::show, accounts::change))
        .routes(routes!(accounts::add_user, accounts::list_users))
        .routes(routes!(accounts::standing))
        .routes(routes!(explain::explain))
        .routes(routes!(keys::make))
        .routes(routes!(keys::list))
        .routes(routes!(keys::revoke))
        .routes(routes!(grants::grant, grants::list))
        .routes(routes!(corrections::adjust, corrections::adjustments))
        .routes(routes!(corrections::refund))
        .routes(routes!(rerate::rerate))
        .routes(routes!(books::balance_updates))
        .routes(routes!(books::decisions))
        .routes(routes!(books::blocks))
        .routes(routes!(books::decision))
        .routes(routes!(policy::show))
        .routes(routes!(policy::reload))
        .split_for_parts();
    let document = Arc::new(document);
    let operated = operated
        .route("/admin/v1/openapi.json", get(move || async move { axum::Json(Arc::clone(&document)) }))
        .method_not_allowed_fallback(error::no_such_route)
        .layer(middleware::from_fn_with_state(Arc::clone(&operator), auth::require_token));
    Router::new()
        .merge(operated)
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(error::no_such_route)
        .with_state(operator)
}

/// The routes of a settlement worker that runs by itself: it has nothing that an operator could change.
pub fn worker_router(exposition: Exposition) -> Router {
    health::of_worker(exposition)
}

impl Operator {
    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }
}
