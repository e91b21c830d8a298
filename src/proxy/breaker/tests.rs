use proptest::prelude::*;

use super::*;
use crate::units::Span;

const RULES: Rules = Rules { failures: 3, within: Span::from_ms(1000), pause: Span::from_ms(500) };

fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(1_000_000 + ms)
}

/// A breaker that has opened at 0.
fn open() -> Breaker {
    let mut breaker = Breaker::new(RULES);
    for _ in 0..RULES.failures {
        breaker.failed(Pass::Plain, at(0));
    }
    assert_eq!(breaker.position(), Position::Open);
    breaker
}

#[test]
fn so_many_failures_in_a_row_and_within_the_time_open_it() {
    let failure = |ms| (ms, false);
    for (name, reports, position) in [
        ("fewer", vec![failure(0), failure(1)], Position::Closed),
        ("as many", vec![failure(0), failure(1), failure(2)], Position::Open),
        ("at the edge of the time", vec![failure(0), failure(500), failure(1000)], Position::Open),
        ("beyond it", vec![failure(0), failure(500), failure(1001)], Position::Closed),
        (
            "the first is forgotten",
            vec![failure(0), failure(900), failure(1001), failure(1100)],
            Position::Open,
        ),
        ("not in a row", vec![failure(0), failure(1), (2, true), failure(3), failure(4)], Position::Closed),
    ] {
        let mut breaker = Breaker::new(RULES);
        for (ms, succeeded) in reports {
            if succeeded { breaker.succeeded(Pass::Plain) } else { breaker.failed(Pass::Plain, at(ms)) }
        }
        assert_eq!(breaker.position(), position, "{name}");
    }
}

#[test]
fn an_open_one_lets_one_probe_through_after_the_pause() {
    let mut breaker = open();
    assert_eq!((breaker.allows(at(499)), breaker.enter(at(499))), (false, None));
    assert!(breaker.allows(at(500)), "asking takes nothing");
    assert_eq!(breaker.enter(at(500)), Some(Pass::Probe));
    assert_eq!((breaker.enter(at(501)), breaker.position()), (None, Position::HalfOpen));
}

#[test]
fn the_probe_decides_and_nothing_that_was_sent_before() {
    for pass in [Pass::Plain, Pass::Probe] {
        let mut breaker = open();
        breaker.enter(at(500)).expect("a probe");
        breaker.succeeded(pass);
        let closed = pass == Pass::Probe;
        assert_eq!(breaker.position() == Position::Closed, closed, "{pass:?}");
        let mut breaker = open();
        breaker.enter(at(500)).expect("a probe");
        breaker.failed(pass, at(600));
        assert_eq!(
            (breaker.allows(at(1000)), breaker.allows(at(1100))),
            (pass == Pass::Plain, true),
            "{pass:?}"
        );
    }
    let mut breaker = open();
    breaker.succeeded(Pass::Plain);
    assert_eq!(breaker.position(), Position::Open, "a late success is none");
}

#[test]
fn a_probe_that_never_reports_is_followed_by_another() {
    let mut breaker = open();
    assert_eq!(breaker.enter(at(500)), Some(Pass::Probe));
    assert_eq!((breaker.enter(at(999)), breaker.enter(at(1000))), (None, Some(Pass::Probe)));
    breaker.succeeded(Pass::Probe);
    assert_eq!(breaker.enter(at(1000)), Some(Pass::Plain));
}

/// What happens to a breaker.
#[derive(Clone, Copy, Debug)]
enum Event {
    Enter,
    Succeed(Pass),
    Fail(Pass),
}

fn events() -> impl Strategy<Value = Vec<(i64, Event)>> {
    let pass = prop_oneof![Just(Pass::Plain), Just(Pass::Probe)];
    let event = prop_oneof![
        3 => Just(Event::Enter),
        1 => pass.clone().prop_map(Event::Succeed),
        4 => pass.prop_map(Event::Fail),
    ];
    prop::collection::vec((0i64..400, event), 0..80)
}

proptest! {
    /// It opens exactly at the last of so many failures in a row within the time, it lets at most one probe through in
    /// a pause, and it is never shut for longer than a pause.
    #[test]
    fn whatever_happens_it_opens_by_its_rules_and_is_never_shut_for_good(events in events()) {
        let mut breaker = Breaker::new(RULES);
        let (mut now, mut failures, mut probed) = (0, Vec::<i64>::new(), None::<i64>);
        for (later, event) in events {
            now += later;
            let before = breaker.position();
            match event {
                Event::Enter => match breaker.enter(at(now)) {
                    Some(Pass::Probe) => {
                        prop_assert_ne!(before, Position::Closed);
                        prop_assert!(probed.is_none_or(|last| now - last >= 500));
                        probed = Some(now);
                    }
                    Some(Pass::Plain) => prop_assert_eq!(before, Position::Closed),
                    None => prop_assert_ne!(before, Position::Closed),
                },
                Event::Succeed(pass) => {
                    breaker.succeeded(pass);
                    failures.clear();
                    if pass == Pass::Probe {
                        prop_assert_eq!(breaker.position(), Position::Closed);
                        probed = None;
                    }
                }
                Event::Fail(pass) => {
                    breaker.failed(pass, at(now));
                    if before == Position::Closed {
                        failures.push(now);
                        let opens = failures.len() >= 3 && now - failures[failures.len() - 3] <= 1000;
                        prop_assert_eq!(breaker.position() == Position::Open, opens);
                    } else if pass == Pass::Probe {
                        prop_assert_eq!(breaker.position(), Position::Open);
                    }
                    if breaker.position() != Position::Closed {
                        failures.clear();
                    }
                }
            }
            prop_assert!(breaker.clone().enter(at(now + 500)).is_some());
        }
    }
}
