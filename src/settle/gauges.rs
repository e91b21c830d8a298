//! What settlement, journal and meter count, and the gauges that are read when somebody looks.

use std::sync::atomic::Ordering;

use metrics::{Unit, describe_counter, describe_gauge};

use crate::journal::{Health, Journal, Stats};
use crate::meter::Meter;
use crate::settle::SettlerStats;

/// Says what each name means, for whoever reads `/metrics`. Again changes nothing.
pub fn describe() {
    describe_gauge!("overfall_journal_queued_frames", "Frames that wait for the disk.");
    describe_gauge!("overfall_journal_queued_bytes", Unit::Bytes, "Frames that wait for the disk.");
    describe_gauge!("overfall_journal_file_bytes", Unit::Bytes, "All files of the journal together.");
    describe_gauge!("overfall_journal_segments", "Files of the journal.");
    describe_gauge!("overfall_journal_holds_open", "Holds in the journal without their end.");
    describe_counter!("overfall_journal_syncs_total", "Syncs to the disk.");
    describe_counter!("overfall_journal_failures_total", "Writes and syncs that failed.");
    describe_gauge!("overfall_journal_refusing", "1 while the journal takes no holds: requests get 503.");
    describe_gauge!("overfall_settle_lag_frames", "Frames of the journal that are not in the books yet.");
    describe_gauge!(
        "overfall_settle_waiting_records",
        "Records that wait for an earlier one of their account."
    );
    describe_counter!("overfall_settled_records_total", "Records booked.");
    describe_counter!(
        "overfall_settle_failures_total",
        "Batches that the ledger did not take; they are tried again."
    );
    describe_counter!(
        "overfall_settle_conflicts_total",
        "Records booked before with other content: an alarm."
    );
    describe_counter!("overfall_settle_gaps_total", "Records that came without the one before: an alarm.");
    begin_alarms();
    describe_counter!("overfall_blocks_dropped_total", "Blocks that the decision log had no room for.");
    describe_counter!("overfall_holds_expired_total", "Holds that ended by their deadline, by how.");
    describe_counter!("overfall_grants_expired_total", "Grants that expired with something left.");
    describe_counter!("overfall_resources_forgotten_total", "Ownership records forgotten after their time.");
    metrics::counter!("overfall_resources_forgotten_total").increment(0);
    describe_gauge!("overfall_jobs_open", "Jobs without an end: videos and background responses.");
    describe_gauge!("overfall_jobs_oldest_seconds", Unit::Seconds, "The age of the oldest open job.");
    describe_counter!(
        "overfall_job_polls_total",
        "Questions to the upstream for a job, by what came of them."
    );
    describe_counter!("overfall_jobs_ended_total", "Jobs whose end was learnt, by kind and outcome.");
    describe_counter!(
        "overfall_corrections_total",
        "Revisions of the money of ended calls, by what made them: truth, refund, rerate."
    );
    describe_counter!("overfall_adjustments_total", "Balances that an operator adjusted.");
    describe_gauge!(
        "overfall_directory_behind",
        "1 while changes of accounts and keys by other nodes are not heard."
    );
    describe_gauge!("overfall_worker_queues", "Queues that this worker has leased.");
    describe_gauge!("overfall_queue_records", "Records that wait in them.");
    describe_gauge!("overfall_queue_oldest_seconds", Unit::Seconds, "The age of the oldest of those.");
    describe_counter!("overfall_records_resent_total", "Records sent to the books again, past the queue.");
    describe_gauge!(
        "overfall_epoch_open",
        "1 while this gateway decides by shared counts that are complete."
    );
    describe_counter!("overfall_records_done_again_total", "Records that a loss of Redis took, done again.");
    describe_counter!("overfall_orders_lost_total", "An operator's orders that a loss of Redis took.");
    describe_counter!("overfall_degraded_holds_total", "Calls let through while Redis was away.");
    describe_gauge!("overfall_degraded_slot", "1 where this gateway may give something while Redis is away.");
    describe_gauge!(
        "overfall_degraded_limit_microcredits",
        "The most that all gateways together may give an account while Redis is away, in micro-credits."
    );
    describe_gauge!("overfall_meter_accounts", "Accounts with live state in memory.");
    describe_gauge!("overfall_meter_holds", "Holds open in the meter.");
    describe_gauge!("overfall_meter_owed", "Ends of calls that the store of live counts has not taken yet.");
}

/// Has what alarms are made of there from the start: of a series that begins at one, nobody sees an increase.
fn begin_alarms() {
    for name in [
        "overfall_settle_failures_total",
        "overfall_settle_conflicts_total",
        "overfall_settle_gaps_total",
        "overfall_records_resent_total",
        "overfall_records_done_again_total",
        "overfall_orders_lost_total",
        "overfall_degraded_holds_total",
        "overfall_panics_total",
    ] {
        metrics::counter!(name).increment(0);
    }
}

/// Records what waits in the queues that a worker has.
pub(super) fn backlog(queues: u64, records: u64, age_ms: u64) {
    gauge("overfall_worker_queues", queues);
    gauge("overfall_queue_records", records);
    gauge("overfall_queue_oldest_seconds", age_ms.div_ceil(1000));
}

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
    gauge("overfall_meter_owed", stats.owed);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is for looking at, and exact below 2^53")]
fn gauge(name: &'static str, value: u64) {
    metrics::gauge!(name).set(value as f64);
}
