//! A log-linear histogram of tokens that forgets.
//!
//! Eight buckets to the octave, so a quantile read from a bucket's upper end is at most an eighth above the truth, and
//! never below it. Whole numbers throughout. When it is full every count is halved: a sample's weight halves with each
//! [`FULL`] later ones, and a change is believed after some two hundred calls.

use super::SAMPLES_MIN;

/// Buckets to the octave.
const SPLIT: u64 = 1 << SPLIT_BITS;
const SPLIT_BITS: u32 = 3;
/// Values from here on, a million tokens, share the last bucket.
const VALUE_BITS: u32 = 20;
const BUCKETS: usize = ((VALUE_BITS - SPLIT_BITS + 1) as usize) << SPLIT_BITS;
/// Weight of a new sample: a lone one in the tail survives four halvings.
const WEIGHT: u16 = 16;
/// Samples that fill it; the weights then fit the counts.
const FULL: u64 = 256;
/// Of a hundred answers, those that do not exceed the quantile.
const PERCENT: u64 = 95;

/// See the module.
#[derive(Debug)]
pub(super) struct Histogram {
    counts: [u16; BUCKETS],
    weight: u64,
    samples: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], weight: 0, samples: 0 }
    }
}

impl Histogram {
    pub(super) fn record(&mut self, value: u64) {
        if self.weight >= FULL * u64::from(WEIGHT) * 2 {
            self.weight = 0;
            for count in &mut self.counts {
                *count /= 2;
                self.weight += u64::from(*count);
            }
        }
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count = count.saturating_add(WEIGHT);
            self.weight += u64::from(WEIGHT);
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// The upper end of the bucket of the 95th percentile, once [`SAMPLES_MIN`] samples are in.
    pub(super) fn p95(&self) -> Option<u64> {
        if self.samples < SAMPLES_MIN {
            return None;
        }
        let mut rest = (self.weight * PERCENT).div_ceil(100);
        for (index, count) in self.counts.iter().enumerate() {
            match rest.checked_sub(u64::from(*count)) {
                Some(0) | None => return Some(upper(index as u64)),
                Some(more) => rest = more,
            }
        }
        None
    }
}

fn bucket(value: u64) -> usize {
    let value = value.min((1 << VALUE_BITS) - 1);
    let index = match value.checked_ilog2() {
        Some(octave) if octave >= SPLIT_BITS => {
            let shift = octave - SPLIT_BITS;
            u64::from(shift + 1) * SPLIT + ((value >> shift) - SPLIT)
        }
        _ => value,
    };
    usize::try_from(index).unwrap_or(BUCKETS - 1)
}

/// The largest value of a bucket.
const fn upper(index: u64) -> u64 {
    if index < SPLIT {
        return index;
    }
    let shift = index / SPLIT - 1;
    ((index % SPLIT + SPLIT + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_where_the_next_begins_and_is_an_eighth_wide_at_most() {
        for value in (0..10_000).chain((1..21).map(|bits| (1u64 << bits) - 1)) {
            let end = upper(bucket(value) as u64);
            assert!(end >= value && end - value <= value / SPLIT, "{value}: {end}");
            assert_eq!(bucket(end), bucket(value));
            assert_eq!(bucket(end + 1), (bucket(value) + 1).min(BUCKETS - 1), "{value}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }
}
