use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;

use super::CalendarUnit::{Day, Month, Week};
use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp::from_ms(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

/// An instant, and from when to when the instance lasts that holds it.
const INSTANCES: &[(CalendarUnit, &str, &str, &str)] = &[
    // an ordinary day
    (Day, "UTC", "2026-11-22T12:00:00Z", "2026-11-22T00:00:00Z to 2026-11-23T00:00:00Z"),
    // its first instant
    (Day, "UTC", "2026-11-22T00:00:00Z", "2026-11-22T00:00:00Z to 2026-11-23T00:00:00Z"),
    // its last
    (Day, "UTC", "2026-11-22T23:59:59.999Z", "2026-11-22T00:00:00Z to 2026-11-23T00:00:00Z"),
    // 23 hours
    (Day, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z to 2026-03-29T22:00:00Z"),
    // 25 hours
    (Day, "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z to 2026-10-25T23:00:00Z"),
    // no midnight
    (Day, "America/Santiago", "2026-09-06T12:00:00Z", "2026-09-06T04:00:00Z to 2026-09-07T03:00:00Z"),
    // before it
    (Day, "America/Santiago", "2026-09-06T03:59:59Z", "2026-09-05T04:00:00Z to 2026-09-06T04:00:00Z"),
    // no midnight
    (Day, "Asia/Beirut", "2026-03-29T12:00:00Z", "2026-03-28T22:00:00Z to 2026-03-29T21:00:00Z"),
    // midnight twice
    (Day, "America/Havana", "2024-11-03T05:30:00Z", "2024-11-03T04:00:00Z to 2024-11-04T05:00:00Z"),
    // a day left out
    (Day, "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z to 2011-12-30T10:00:00Z"),
    // ISO week over the year
    (Week, "UTC", "2027-01-01T12:00:00Z", "2026-12-28T00:00:00Z to 2027-01-04T00:00:00Z"),
    // Monday
    (Week, "UTC", "2026-11-16T00:00:00Z", "2026-11-16T00:00:00Z to 2026-11-23T00:00:00Z"),
    // Sunday
    (Week, "UTC", "2026-11-22T23:59:59Z", "2026-11-16T00:00:00Z to 2026-11-23T00:00:00Z"),
    // 167 hours
    (Week, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-22T23:00:00Z to 2026-03-29T22:00:00Z"),
    // February
    (Month, "UTC", "2026-02-28T23:00:00Z", "2026-02-01T00:00:00Z to 2026-03-01T00:00:00Z"),
    // leap day
    (Month, "UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z to 2028-03-01T00:00:00Z"),
    // the year's end
    (Month, "UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z to 2027-01-01T00:00:00Z"),
    // east of UTC
    (Month, "Asia/Tokyo", "2026-10-31T15:00:00Z", "2026-10-31T15:00:00Z to 2026-11-30T15:00:00Z"),
    // changed clocks
    (Month, "Europe/Berlin", "2026-10-31T22:59:59Z", "2026-09-30T22:00:00Z to 2026-10-31T23:00:00Z"),
];

#[test]
fn days_weeks_and_months_begin_and_end_at_local_midnight() {
    for (unit, name, now, run) in INSTANCES {
        let (start, end) = run.split_once(" to ").unwrap();
        let expected = Instance { start: at(start), end: at(end) };
        assert_eq!(instance_at(*unit, &zone(name), at(now)), expected, "{unit:?} of {name} at {now}");
    }
}

#[test]
fn an_instant_outside_the_calendar_is_an_instance_of_its_own() {
    for ms in [i64::MIN, i64::MAX] {
        let now = Timestamp::from_ms(ms);
        assert_eq!(instance_at(CalendarUnit::Day, &TimeZone::UTC, now), Instance { start: now, end: now });
    }
}

proptest! {
    /// Design section 3: windows begin again without a gap and without an overlap.
    #[test]
    fn instances_follow_each_other_without_gap_or_overlap(
        ms in 0i64..4_102_444_800_000,
        unit in prop::sample::select(vec![CalendarUnit::Day, CalendarUnit::Week, CalendarUnit::Month]),
        name in prop::sample::select(vec![
            "UTC", "Europe/Berlin", "America/Santiago", "Asia/Beirut", "America/Havana", "Pacific/Apia",
            "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns", "Africa/Casablanca",
        ]),
    ) {
        let (zone, now) = (zone(name), Timestamp::from_ms(ms));
        let instance = instance_at(unit, &zone, now);
        prop_assert!(instance.start <= now && now < instance.end);
        prop_assert_eq!(instance_at(unit, &zone, instance.start), instance);
        prop_assert_eq!(instance_at(unit, &zone, Timestamp::from_ms(instance.end.ms() - 1)), instance);
        prop_assert_eq!(instance_at(unit, &zone, instance.end).start, instance.end);
    }
}
