//! Gauges that are read when somebody looks.

use std::sync::atomic::Ordering;

use crate::journal::{Health, Journal, Stats};
use crate::meter::Meter;
use crate::settle::SettlerStats;

/// Records what journal and meter stand at.
pub fn record_gauges(journal: &Journal, meter: &dyn Meter, settled: &SettlerStats) {
    let Stats { durable, next, queued_bytes, file_bytes, segments, holds_open, syncs, failures } =
        journal.stats();
    gauge("overfall_journal_queued_frames", next.value().saturating_sub(durable.value()));
    gauge("overfall_journal_queued_bytes", queued_bytes as u64);
    gauge("overfall_journal_file_bytes", file_bytes);
    gauge("overfall_journal_segments", segments as u64);
    gauge("overfall_journal_holds_open", holds_open as u64);
    metrics::counter!("overfall_journal_syncs_total").absolute(syncs);
    metrics::counter!("overfall_journal_failures_total").absolute(failures);
    let refusing = matches!(journal.health(), Health::Refusing { .. });
    gauge("overfall_journal_refusing", u64::from(refusing));
    let position = settled.position.load(Ordering::Relaxed);
    gauge("overfall_settle_lag_frames", next.value().saturating_sub(position));
    gauge("overfall_settle_waiting_records", settled.waiting.load(Ordering::Relaxed));
    let stats = meter.stats();
    gauge("overfall_meter_accounts", stats.accounts);
    gauge("overfall_meter_holds", stats.holds);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is for looking at, and exact below 2^53")]
fn gauge(name: &'static str, value: u64) {
    metrics::gauge!(name).set(value as f64);
}
