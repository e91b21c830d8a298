use jiff::tz::TimeZone;

use super::*;
use crate::units::Span;

fn five_hours() -> Period {
    Period::FirstUse(Span::from_seconds(5 * 3600))
}

fn day() -> Period {
    Period::Calendar(CalendarUnit::Day, TimeZone::UTC)
}

#[test]
fn a_key_stays_what_it_is_from_release_to_release() {
    // State on disk is found by these. They are the first eight bytes of SHA-256 over the parts, each behind its
    // length in eight bytes.
    let included = Identity::window("codex", "included", Unit::Credit, &five_hours());
    assert_eq!(included.key(), CounterKey(0x57e6_3666_9396_6107));
    let daily = Identity::window("sora", "daily", Unit::Second, &day());
    assert_eq!(daily.key(), CounterKey(0x95fb_1bb2_b121_aa6d));
}

#[test]
fn each_part_of_an_identity_makes_another_key() {
    let berlin = Period::Calendar(CalendarUnit::Day, TimeZone::get("Europe/Berlin").unwrap());
    let week = Period::Calendar(CalendarUnit::Week, TimeZone::UTC);
    let rate = Rate { unit: Unit::Request, amount: 1, every: Span::from_seconds(5 * 3600), burst: 1 };
    let keys = [
        Identity::window("codex", "included", Unit::Credit, &five_hours()).key(),
        Identity::window("sora", "included", Unit::Credit, &five_hours()).key(),
        Identity::window("codex", "other", Unit::Credit, &five_hours()).key(),
        Identity::window("codexi", "ncluded", Unit::Credit, &five_hours()).key(),
        Identity::window("codex", "included", Unit::Request, &five_hours()).key(),
        Identity::window("codex", "included", Unit::Credit, &Period::FirstUse(Span::from_seconds(1))).key(),
        Identity::window("codex", "included", Unit::Credit, &day()).key(),
        Identity::window("codex", "included", Unit::Credit, &week).key(),
        Identity::window("codex", "included", Unit::Credit, &berlin).key(),
        Identity::bucket("codex", "included", &rate).key(),
        Identity::in_flight("codex", "included").key(),
        Identity::balance("included").key(),
    ];
    let different: std::collections::HashSet<_> = keys.iter().collect();
    assert_eq!(different.len(), keys.len());
}

#[test]
fn two_owners_of_one_key_are_told_and_one_owner_is_not() {
    let mut problems = Sink::new("");
    let mut keys = Keys::default();
    let identity = Identity::window("codex", "x", Unit::Credit, &day());
    let place = Place::default();
    let first = keys.give("guard", &identity, &place, &mut problems);
    assert_eq!(keys.give("guard", &identity, &place, &mut problems), first);
    assert!(problems.is_clean());
    keys.give("layer", &identity, &place, &mut problems);
    assert!(!problems.is_clean());
}
