//! Output lengths with a log-normal spread, from a seed.
//!
//! Whole numbers only, so that the n-th length of a seed is the same on every machine. The normal distribution stands
//! here as 64 equally likely quantiles; lengths therefore stay within exp(±2.42 σ) of the median, and their mean is
//! within 1 % of the mean asked for up to σ = 0.6 (2 % up to σ = 1).

/// A seeded series of lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogNormal {
    /// Chooses the series.
    pub seed: u64,
    /// σ of the logarithm, in hundredths; at most [`LogNormal::SPREAD_MAX`].
    pub spread_hundredths: u64,
}

impl LogNormal {
    /// The widest spread, σ = 1.
    pub const SPREAD_MAX: u64 = 100;

    /// The `index`-th length of a series with this mean, in tokens; at least 1.
    pub fn length(self, index: u64, mean: u64) -> u64 {
        let drawn = mix(self.seed ^ mix(index)) % 64;
        let quantile = usize::try_from(drawn).map_or(0, |at| NORMAL_QUANTILES_MILLI[at]);
        let sigma = i64::try_from(self.spread_hundredths.min(Self::SPREAD_MAX)).unwrap_or(0);
        // ln(length / mean) = σz − σ²/2, here in units of 10⁻⁵.
        let factor = exponential_nano(sigma * quantile - 5 * sigma * sigma);
        let length = u128::from(mean) * factor / NANO;
        u64::try_from(length).unwrap_or(u64::MAX).max(1)
    }
}

/// The quantiles of the standard normal distribution at (i + ½) / 64, in thousandths.
const NORMAL_QUANTILES_MILLI: [i64; 64] = [
    -2418, -1987, -1762, -1601, -1473, -1366, -1273, -1189, -1113, -1043, -978, -917, -858, -803, -750, -699,
    -650, -602, -556, -511, -467, -424, -381, -339, -298, -257, -217, -177, -138, -98, -59, -20, 20, 59, 98,
    138, 177, 217, 257, 298, 339, 381, 424, 467, 511, 556, 602, 650, 699, 750, 803, 858, 917, 978, 1043,
    1113, 1189, 1273, 1366, 1473, 1601, 1762, 1987, 2418,
];

const NANO: u128 = 1_000_000_000;

/// exp(`exponent` × 10⁻⁵) × 10⁹, by the series; the exponent is at most ±3 here, where 40 terms are exact enough.
fn exponential_nano(exponent: i64) -> u128 {
    let size = u128::from(exponent.unsigned_abs());
    let mut term = NANO;
    let mut sum = NANO;
    for k in 1..=40 {
        term = term * size / (100_000 * k);
        sum += term;
    }
    if exponent < 0 { NANO * NANO / sum } else { sum }
}

/// The finaliser of `SplitMix64`: neighbouring inputs give unrelated outputs.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_right_to_six_digits() {
        for (exponent, expected) in [
            (0, 1_000_000_000),
            (100_000, 2_718_281_828),
            (-100_000, 367_879_441),
            (242_000, 11_245_859_314),
            (-292_000, 53_933_687),
        ] {
            let told = exponential_nano(exponent);
            assert!(told.abs_diff(expected) <= expected / 1_000_000, "{exponent}: {told}");
        }
    }

    #[test]
    fn lengths_have_the_mean_that_was_asked_for() {
        for (spread, percent) in [(30, 1), (60, 1), (100, 2)] {
            let sigma = i64::from(spread);
            let sum: u128 =
                NORMAL_QUANTILES_MILLI.iter().map(|z| exponential_nano(sigma * z - 5 * sigma * sigma)).sum();
            assert!((sum / 64).abs_diff(NANO) * 100 <= NANO * percent, "{spread}");
        }
    }

    #[test]
    fn a_seed_always_gives_the_same_series_and_another_seed_another() {
        let series = |seed| -> Vec<u64> {
            let lengths = LogNormal { seed, spread_hundredths: 30 };
            (0..200).map(|index| lengths.length(index, 1000)).collect()
        };
        assert_eq!(series(7), series(7));
        assert_ne!(series(7), series(8));
        let mean = series(7).iter().sum::<u64>() / 200;
        assert!((900..1100).contains(&mean), "{mean}");
    }

    #[test]
    fn without_spread_every_length_is_the_mean() {
        let lengths = LogNormal { seed: 1, spread_hundredths: 0 };
        assert_eq!((0..50).map(|index| lengths.length(index, 321)).max(), Some(321));
        assert_eq!(lengths.length(0, 0), 1);
    }
}
