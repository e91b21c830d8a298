//! `overfall settle`: a settlement worker by itself.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tokio::sync::watch;

use super::ConfigFile;
use super::node::{Shared, worker_name};
use super::serve::{listen, open_shared, runtime};
use crate::admin;
use crate::config::Config;
use crate::meter::redis::{Store, Streams};
use crate::proxy::server::signalled;
use crate::settle::Worker;
use crate::telemetry::{self, Exposition};
use crate::units::time::Clock;

/// Brings what the gateways of a deployment have decided to the books. Any number may run, beside those in the gateways:
/// they share the queues, and go on where one that was killed had come to.
#[derive(Debug, Args)]
pub(super) struct Settle {
    #[command(flatten)]
    config: ConfigFile,
    /// Tell `/healthz` and `/metrics` here, as in `127.0.0.1:8082`; nowhere without it. Keep it private
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

impl Settle {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let config = Config::load(&self.config.config)?;
        telemetry::init_logs(&config.log)?;
        let exposition = telemetry::install_metrics()?;
        crate::settle::describe();
        let listener = self.listen.map(|address| listen(address, "worker")).transpose()?;
        runtime()?.block_on(async {
            tokio::spawn(exposition.clone().upkeep());
            if let Some(listener) = listener {
                tell(listener, exposition)?;
            }
            settle(&config).await
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Serves probes and scrapers until the process ends.
fn tell(listener: TcpListener, exposition: Exposition) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, admin::worker_router(exposition)).await {
            tracing::error!(error = %telemetry::chain(&error), "the worker's listener has ended");
        }
    });
    Ok(())
}

async fn settle(config: &Config) -> anyhow::Result<()> {
    let Some(Shared { redis, ledger, .. }) = open_shared(config).await? else {
        anyhow::bail!(
            "there is nothing to settle by itself: the deployment names no `stores.meter`, \
             and a gateway with counts of its own settles in its own process"
        );
    };
    let clock = Clock::machine();
    let store = Store::connect(&redis, clock.clone()).await.context("redis could not be connected to")?;
    let worker = Worker {
        name: worker_name(),
        queue: Arc::new(Streams::new(store)),
        ledger,
        stats: Arc::default(),
        clock,
    };
    let (stop, stopping) = watch::channel(false);
    let stats = Arc::clone(&worker.stats);
    tracing::info!(worker.name = worker.name, "the worker settles");
    let running = tokio::spawn(worker.run(stopping));
    signalled().await;
    stop.send_replace(true);
    running.await?;
    let booked = stats.booked.load(std::sync::atomic::Ordering::Relaxed);
    tracing::info!(records = booked, "the worker has ended; what was queued is on the books");
    Ok(())
}
