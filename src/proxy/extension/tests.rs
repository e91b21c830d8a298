use proptest::prelude::*;

use super::*;

/// Asks a purse that can give `capacity` tokens in all, as [`Question::ask`] does. Says how often.
fn ask(growth: &mut Growth, seen: u64, capacity: u64) -> usize {
    let Some(wanted) = growth.wanted(seen) else { return 0 };
    let wanted: Vec<_> = wanted.collect();
    let held = wanted.iter().position(|wanted| *wanted <= capacity);
    growth.answered(held.map_or(Answer::Refused, |place| Answer::Held(wanted[place])));
    held.map_or(wanted.len(), |place| place + 1)
}

#[test]
fn it_asks_for_half_of_the_estimate_more_when_more_has_passed_than_is_held() {
    let mut growth = Growth::new(100, u64::MAX);
    for (seen, held) in [(1, 100), (100, 100), (101, 151), (151, 151), (200, 250), (1000, 1050)] {
        ask(&mut growth, seen, u64::MAX);
        assert_eq!(growth.held, held, "{seen}");
    }
}

#[test]
fn where_half_is_not_to_be_had_less_is_asked_for_and_at_last_just_what_has_passed() {
    let wanted = |growth: &Growth, seen| growth.wanted(seen).map(Iterator::collect::<Vec<_>>);
    let mut growth = Growth::new(200, u64::MAX);
    assert_eq!(wanted(&growth, 201), Some(vec![301, 251, 226, 201]));
    ask(&mut growth, 201, 260);
    assert_eq!((growth.held, growth.state), (251, State::Growing));
    assert_eq!(wanted(&growth, 252), Some(vec![303, 277, 252]), "what was refused is not asked for again");
    ask(&mut growth, 252, 260);
    ask(&mut growth, 261, 260);
    assert_eq!((growth.held, growth.state), (252, State::Exhausted));
    assert_eq!(wanted(&growth, 1000), None);
}

#[test]
fn a_request_that_has_reached_its_own_bound_lacks_nothing() {
    let mut growth = Growth::new(100, 120);
    ask(&mut growth, 110, u64::MAX);
    assert_eq!(growth.held, 120);
    ask(&mut growth, 500, 120);
    assert_eq!(growth, Growth { held: 120, state: State::Growing, ..growth });
    let mut clamped = Growth::new(100, 100);
    assert_eq!((ask(&mut clamped, 101, 0), clamped.state), (0, State::Growing));
}

#[test]
fn a_meter_that_does_not_tell_is_asked_no_more_and_stops_nothing() {
    let mut extension = Extension::new(10, u64::MAX);
    extension.growth.answered(Answer::Unknown);
    assert!(!extension.is_exhausted() && extension.growth.wanted(1000).is_none());
}

proptest! {
    /// Never less is held than has passed, within what could be had; never more than the bound; and a stream asks by
    /// steps, not by events.
    #[test]
    fn no_less_is_held_than_has_passed_as_far_as_it_could_be_had(
        held in 1u64..5_000,
        bound in prop::option::of(1u64..20_000),
        capacity in 0u64..30_000,
        deltas in prop::collection::vec(1u64..200, 1..400),
    ) {
        let (bound, capacity) = (bound.unwrap_or(u64::MAX).max(held), capacity.max(held));
        let mut growth = Growth::new(held, bound);
        let (mut seen, mut asked) = (0, 0);
        for delta in deltas {
            seen += delta;
            asked += ask(&mut growth, seen, capacity);
            prop_assert!(growth.held >= seen.min(bound).min(capacity) || growth.state == State::Exhausted);
            prop_assert!(growth.held <= bound.min(capacity));
            if growth.state == State::Exhausted {
                prop_assert!(seen.min(bound) > capacity, "it could have been had");
                break;
            }
        }
        // Once for each whole step, a few times for the halves of the last one, and at its end for the last few tokens.
        let steps = seen / (held / 2).max(STEP_LEAST_TOKENS) + 1;
        prop_assert!(asked as u64 <= steps + 2 * 13 + STEP_LEAST_TOKENS + 2, "{asked} for {steps} steps");
    }
}
