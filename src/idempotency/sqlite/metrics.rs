//! What the store of answers counts.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

const KEYS: &str = "overfall_idempotency_keys";
const BYTES: &str = "overfall_idempotency_answer_bytes";
const FORGOTTEN: &str = "overfall_idempotency_keys_forgotten_early_total";
const DROPPED: &str = "overfall_idempotency_answers_dropped_total";
const FAILURES: &str = "overfall_idempotency_store_failures_total";

/// Says what each name means, for whoever reads `/metrics`. Again changes nothing.
pub fn describe() {
    describe_gauge!(KEYS, "Idempotency keys on record.");
    describe_gauge!(BYTES, Unit::Bytes, "Answers kept for idempotency keys.");
    describe_counter!(FORGOTTEN, "Idempotency keys forgotten before their time, for too many others.");
    describe_counter!(DROPPED, "Answers dropped before their time, for the size of all.");
    describe_counter!(FAILURES, "Times that the store of idempotency keys could not be written.");
    // An alarm is made of it: of a series that begins at one, nobody sees an increase.
    counter!(FAILURES).increment(0);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is for looking at, and exact below 2^53")]
pub(super) fn stand_at(keys: u64, bytes: u64) {
    gauge!(KEYS).set(keys as f64);
    gauge!(BYTES).set(bytes as f64);
}

pub(super) fn forgotten_early(keys: u64) {
    counter!(FORGOTTEN).increment(keys);
}

pub(super) fn answers_dropped(answers: u64) {
    counter!(DROPPED).increment(answers);
}

pub(super) fn failed() {
    counter!(FAILURES).increment(1);
}
