use proptest::prelude::*;

use super::*;

const MODEL: &str = "gpt-5.5";

fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

fn used(input_tokens: u64, output_tokens: u64) -> Quantities {
    Quantities { input_tokens, output_tokens, ..Quantities::default() }
}

fn teach(learner: &Learner, user: UserId, outputs: impl IntoIterator<Item = u64>) {
    for output in outputs {
        learner.observe(user, MODEL, &used(10, output), 10);
    }
}

/// Whole numbers as a log-normal distribution gives them: a product of many small factors, from a fixed seed.
fn log_normal(count: usize, median: u64) -> Vec<u64> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let product = |random: &mut dyn FnMut() -> u64| {
        (0..24).fold(median << 10, |value, _| value * [80, 90, 111, 125][(random() % 4) as usize] / 100) >> 10
    };
    (0..count).map(|_| product(&mut random)).collect()
}

fn p95(mut samples: Vec<u64>) -> u64 {
    samples.sort_unstable();
    samples[(samples.len() * 95).div_ceil(100) - 1]
}

#[test]
fn the_p95_of_log_normal_lengths_is_never_low_and_at_most_an_eighth_high() {
    for (count, median) in [(20, 800), (50, 800), (200, 800), (500, 300), (500, 20_000)] {
        let samples = log_normal(count, median);
        let truth = p95(samples.clone());
        let learner = Learner::default();
        teach(&learner, user(1), samples);
        let learnt = learner.output_p95(user(1), MODEL);
        assert!(learnt >= truth && learnt <= truth + truth / 8, "{count} of {median}: {learnt} for {truth}");
    }
}

#[test]
fn too_few_samples_fall_back_to_the_model_and_then_to_the_default() {
    let learner = Learner::default();
    assert_eq!(learner.output_p95(user(1), MODEL), OUTPUT_DEFAULT_TOKENS);
    teach(&learner, user(1), (1..SAMPLES_MIN).map(|_| 100));
    assert_eq!(learner.output_p95(user(1), MODEL), OUTPUT_DEFAULT_TOKENS);
    teach(&learner, user(2), [100]);
    assert_eq!(learner.output_p95(user(1), MODEL), 103);
    assert_eq!(learner.output_p95(user(3), MODEL), 103);
    assert_eq!(learner.output_p95(user(3), "another"), OUTPUT_DEFAULT_TOKENS);
    teach(&learner, user(3), (0..SAMPLES_MIN).map(|_| 5));
    assert_eq!(learner.output_p95(user(3), MODEL), 5);
}

#[test]
fn it_follows_a_change_within_some_hundred_calls() {
    let learner = Learner::default();
    teach(&learner, user(1), std::iter::repeat_n(10_000, 100_000));
    teach(&learner, user(1), std::iter::repeat_n(100, 4_000));
    assert_eq!(learner.output_p95(user(1), MODEL), 103);
    teach(&learner, user(1), [10_000; 50]);
    assert!(learner.output_p95(user(1), MODEL) >= 10_000);
}

#[test]
fn a_long_tail_survives_the_forgetting() {
    let learner = Learner::default();
    let samples: Vec<_> = log_normal(20_000, 800);
    let truth = p95(samples.clone());
    teach(&learner, user(1), samples);
    let learnt = learner.output_p95(user(1), MODEL);
    assert!(learnt > truth * 7 / 10 && learnt < truth * 14 / 10, "{learnt} for {truth}");
}

#[test]
fn input_estimates_come_true_with_an_eighth_to_spare() {
    let learner = Learner::default();
    for index in 0..1_000 {
        assert!(index >= SAMPLES_MIN || learner.input_factor(MODEL) == InputFactor::ONE);
        learner.observe(user(1), MODEL, &used(130, 1), 100);
    }
    let corrected = learner.input_factor(MODEL).apply(100);
    assert!((146..=147).contains(&corrected), "{corrected}");
    for _ in 0..3_000 {
        learner.observe(user(1), MODEL, &used(80, 1), 100);
    }
    assert!((90..=91).contains(&learner.input_factor(MODEL).apply(100)));
}

#[test]
fn no_call_can_spoil_the_input_factor() {
    let learner = Learner::default();
    for (counted, estimate) in [(u64::MAX, 1), (0, u64::MAX), (u64::MAX, u64::MAX), (1_000_000, 0)] {
        for _ in 0..100 {
            learner.observe(user(1), MODEL, &used(counted, counted), estimate);
        }
    }
    assert!(learner.input_factor(MODEL).apply(100) <= 100 * FACTOR_MAX * 9 / 8);
    assert_eq!(learner.input_factor(MODEL).apply(0), 0);
    assert_eq!(InputFactor { counted: u64::MAX, estimated: 0 }.apply(u64::MAX), u64::MAX);
}

#[test]
fn threads_learn_together() {
    let learner = Learner::default();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let learner = &learner;
            scope.spawn(move || teach(learner, user(number), [50; 100]));
        }
    });
    assert_eq!(learner.output_p95(user(9), MODEL), 51);
}

proptest! {
    #[test]
    fn the_p95_of_any_samples_is_within_its_error(samples in prop::collection::vec(0u64..1 << 20, 20..400)) {
        let truth = p95(samples.clone());
        let learner = Learner::default();
        teach(&learner, user(1), samples);
        let learnt = learner.output_p95(user(1), MODEL);
        prop_assert!(learnt >= truth && learnt <= truth + truth / 8, "{} for {}", learnt, truth);
    }
}
