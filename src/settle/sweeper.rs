//! Calls the meter's sweep at a steady pace.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::meter::{Meter, Swept};

/// Ends holds that are past their deadline and takes out grants that have expired.
pub struct Sweeper {
    /// What is swept.
    pub meter: Arc<dyn Meter>,
    /// How often.
    pub every: Duration,
}

impl Sweeper {
    /// Sweeps until `shutdown` is true.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(self.every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = super::stopped(&mut shutdown) => return,
            }
            match self.meter.sweep().await {
                Ok(swept) => tell(swept),
                Err(error) => tracing::error!(error = %crate::telemetry::chain(&error), "sweep failed"),
            }
        }
    }
}

fn tell(swept: Swept) {
    metrics::counter!("overfall_holds_expired_total", "end" => "voided").increment(swept.voided);
    metrics::counter!("overfall_holds_expired_total", "end" => "floored").increment(swept.floored);
    metrics::counter!("overfall_grants_expired_total").increment(swept.expired);
    if swept.voided + swept.floored > 0 {
        tracing::warn!(voided = swept.voided, floored = swept.floored, "holds ended at their deadline");
    }
}
