//! What calls like this one have really used: the estimate for those whose bound says little.
//!
//! A client that sets no `max_output_tokens` may use 128,000 tokens and uses 800. Holding the bound would pin it at zero
//! spend, holding nothing would overspend; so the p95 of what this user had from this model is held, else of what anyone
//! had from it, else [`OUTPUT_DEFAULT_TOKENS`]. The input is corrected by a factor per model, since bytes are a rough
//! measure of tokens.
//!
//! This stands outside the core: a decision is made from the recorded estimate, never from this state. It is forgotten
//! at a restart. Bounds: at most [`PAIRS_MAX`] pairs of user and model and [`MODELS_MAX`] models are remembered, and those
//! used longest ago go first; a pair takes about 350 bytes.

mod histogram;
mod recent;

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::units::{Quantities, UserId};

use histogram::Histogram;
use recent::Recent;

/// Held where too little is known: above the p95 of most coding turns, a 60th of the largest bound.
pub const OUTPUT_DEFAULT_TOKENS: u64 = 2_048;
/// Calls from which a quantile or factor is believed: the fewest of which a twentieth is one.
pub const SAMPLES_MIN: u64 = 20;
/// Pairs of user and model that are remembered.
pub const PAIRS_MAX: usize = 8_192;
/// Models that are remembered.
pub const MODELS_MAX: usize = 512;
/// So that threads that learn of different users seldom wait for each other.
const SHARDS: usize = 16;
/// Calls after which the older half weighs half.
const FACTOR_SAMPLES: u64 = 256;
/// Larger estimates count as this, far above any body; the sums then stay far below 2^64.
const ESTIMATE_MAX: u64 = 1 << 32;
/// A call counts at most so many times its estimate, since a stored conversation's history is not in its body.
const FACTOR_MAX: u64 = 8;

/// What is remembered of a model, or of a user's calls to it, by a keyed hash of their names. A collision would mix
/// two estimates, at worst.
#[derive(Debug)]
pub struct Learner {
    pairs: [Mutex<Recent<Histogram>>; SHARDS],
    models: Mutex<Recent<Model>>,
    hash: RandomState,
}

#[derive(Debug, Default)]
struct Model {
    output: Histogram,
    input: InputSums,
}

/// How many tokens a model counts per estimated token, as a ratio of two whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputFactor {
    /// Tokens that were counted.
    pub counted: u64,
    /// Tokens that had been estimated for them.
    pub estimated: u64,
}

/// Tokens of the latest calls, older ones at less weight.
#[derive(Clone, Copy, Debug, Default)]
struct InputSums {
    counted: u64,
    estimated: u64,
    samples: u64,
    calls: u64,
}

impl Default for Learner {
    fn default() -> Self {
        Self {
            pairs: std::array::from_fn(|_| Mutex::new(Recent::new(PAIRS_MAX / SHARDS))),
            models: Mutex::new(Recent::new(MODELS_MAX)),
            hash: RandomState::new(),
        }
    }
}

impl Learner {
    /// Learns from a call that the upstream counted exactly; `input_estimate` is its input as estimated by size,
    /// or 0 where that is not known.
    pub fn observe(&self, user: UserId, model: &str, quantities: &Quantities, input_estimate: u64) {
        let pair = self.pair(user, model);
        lock(self.shard(pair)).entry(pair).record(quantities.output_tokens);
        let mut models = lock(&self.models);
        let known = models.entry(self.hash.hash_one(model));
        known.output.record(quantities.output_tokens);
        known.input.record(quantities.input_tokens, input_estimate);
    }

    /// Tokens that 19 of 20 answers of this model to this user do not exceed, at most an eighth too high.
    pub fn output_p95(&self, user: UserId, model: &str) -> u64 {
        let pair = self.pair(user, model);
        let known = lock(self.shard(pair)).find(pair).and_then(Histogram::p95);
        let anyone =
            || lock(&self.models).find(self.hash.hash_one(model)).and_then(|model| model.output.p95());
        known.or_else(anyone).unwrap_or(OUTPUT_DEFAULT_TOKENS)
    }

    /// What to multiply a model's input estimates by: the mean and an eighth, or 1 while too little is known.
    pub fn input_factor(&self, model: &str) -> InputFactor {
        lock(&self.models)
            .find(self.hash.hash_one(model))
            .map_or(InputFactor::ONE, |model| model.input.factor())
    }

    fn pair(&self, user: UserId, model: &str) -> u64 {
        self.hash.hash_one((user, model))
    }

    fn shard(&self, pair: u64) -> &Mutex<Recent<Histogram>> {
        let [low, ..] = pair.to_le_bytes();
        &self.pairs[usize::from(low) % SHARDS]
    }
}

impl InputFactor {
    /// The estimate as it is.
    pub const ONE: Self = Self { counted: 1, estimated: 1 };

    /// The estimate corrected, rounded up.
    pub fn apply(self, estimate: u64) -> u64 {
        let product = u128::from(estimate) * u128::from(self.counted);
        u64::try_from(product.div_ceil(u128::from(self.estimated.max(1)))).unwrap_or(u64::MAX)
    }
}

impl InputSums {
    fn record(&mut self, counted: u64, estimated: u64) {
        if estimated == 0 {
            return;
        }
        let estimated = estimated.min(ESTIMATE_MAX);
        if self.calls == FACTOR_SAMPLES {
            *self =
                Self { counted: self.counted / 2, estimated: self.estimated.div_ceil(2), calls: 0, ..*self };
        }
        self.counted = self.counted.saturating_add(counted.min(estimated * FACTOR_MAX));
        self.estimated += estimated;
        self.calls += 1;
        self.samples = self.samples.saturating_add(1);
    }

    fn factor(self) -> InputFactor {
        if self.samples < SAMPLES_MIN {
            return InputFactor::ONE;
        }
        InputFactor {
            counted: self.counted.saturating_add(self.counted / 8),
            estimated: self.estimated.max(1),
        }
    }
}

/// What is learnt stays usable whatever happened to a thread that held the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
