//! Metrics: recorded through the `metrics` facade, exposed in Prometheus' text format.
//!
//! Labels are closed words; no account, user, key or model ever is one, so the number of series is bounded by the code.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of every duration's histogram, in seconds.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0];
/// How often raw samples are folded into their histograms: they would grow without bound between two scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// What `/metrics` shows.
#[derive(Clone)]
pub struct Exposition(PrometheusHandle);

/// Starts recording. Once in a process; a second recorder is an error.
pub fn install_metrics() -> Result<Exposition, BuildError> {
    let builder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?;
    let exposition = Exposition(builder.install_recorder()?);
    metrics::describe_counter!("overfall_panics_total", "Tasks that panicked: a fault of the gateway.");
    Ok(exposition)
}

impl Exposition {
    /// The metrics as text.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds samples into histograms until it is dropped.
    pub async fn upkeep(self) {
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tick.tick().await;
            self.0.run_upkeep();
        }
    }
}
