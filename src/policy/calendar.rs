//! Days, weeks and months of a time zone.

use jiff::ToSpan;
use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;

use super::compiled::{CalendarUnit, Instance};
use crate::units::Timestamp;

/// The day, ISO week or month of `zone` that holds `now`.
///
/// Edges are local midnights; where a change of the clocks skips or repeats midnight, the first instant that follows
/// it (jiff's "compatible" rule). An instant outside the calendar (years −9999 to 9999) is an instance of its own.
pub fn instance_at(unit: CalendarUnit, zone: &TimeZone, now: Timestamp) -> Instance {
    edges(unit, zone, now).unwrap_or(Instance { start: now, end: now })
}

fn edges(unit: CalendarUnit, zone: &TimeZone, now: Timestamp) -> Option<Instance> {
    let local = zone.to_datetime(jiff::Timestamp::from_millisecond(now.ms()).ok()?);
    let today = local.date();
    let (first, next) = match unit {
        CalendarUnit::Day => (today, today.tomorrow().ok()?),
        CalendarUnit::Week => {
            let monday = today.checked_sub(today.weekday().since(Weekday::Monday).days()).ok()?;
            (monday, monday.checked_add(7.days()).ok()?)
        }
        CalendarUnit::Month => (today.first_of_month(), today.last_of_month().tomorrow().ok()?),
    };
    let instant = |midnight: DateTime| zone.to_timestamp(midnight).ok();
    Some(Instance {
        start: Timestamp::from_ms(instant(first.at(0, 0, 0, 0))?.as_millisecond()),
        end: Timestamp::from_ms(instant(next.at(0, 0, 0, 0))?.as_millisecond()),
    })
}

#[cfg(test)]
mod tests;
