//! Windows: what they give, when they begin, and that each of a layer can be the one that binds.

use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::super::compiled::{CalendarUnit, Period, Window};
use super::super::decode::{At, List};
use super::super::keys::{Identity, Keys};
use super::super::problem::{Place, Sink, nearest, quoted};
use super::super::raw;
use super::super::scalars::{Allowance, Every, Starts, Text, credits, digits};
use super::plans::Scene;
use crate::units::{Amount, Unit};

const HOUR_MS: u64 = 3_600_000;

/// The windows of a layer, those that do not fit left out; `None` if none fits or their unit is unknown.
pub(super) fn compile(
    windows: &At<List<raw::Window>>,
    unit: Option<Unit>,
    layer: &At<raw::Layer>,
    scene: &Scene<'_>,
    keys: &mut Keys,
    problems: &mut Sink<'_>,
) -> Option<Vec<Window>> {
    let mut compiled: Vec<(Window, &Place)> = Vec::new();
    for window in &windows.value.items {
        let period = period(&window.value, problems);
        let allow = &window.value.allow;
        let allow = match &allow.value {
            Allowance::Unlimited => Some(None),
            Allowance::Amount(text) => amount(text, &allow.at, unit, problems).map(Some),
        };
        let (Some(unit), Some(period), Some(allow)) = (unit, period, allow) else {
            continue;
        };
        let name = &layer.value.name;
        let identity = Identity::window(scene.name, &name.value.0, unit, &period);
        let key = keys.give("layer", &identity, &name.at, problems);
        compiled.push((Window { key, allow, period }, &window.at));
    }
    check_reachable(&compiled, problems);
    (!compiled.is_empty()).then(|| compiled.into_iter().map(|(window, _)| window).collect())
}

/// An amount as written, in micro-credits where that is the unit.
fn amount(text: &str, at: &Place, unit: Option<Unit>, problems: &mut Sink<'_>) -> Option<Amount> {
    let (read, kind) = match unit {
        None | Some(Unit::Credit) => {
            (credits(text).map(|credits| Amount::clamped(credits.micros())), "an amount of credits")
        }
        Some(_) => {
            let whole = digits(text).filter(|count| *count <= Amount::MAX.get()).map(Amount::clamped);
            (whole.ok_or_else(|| "digits only, at most 9007199254740991".to_owned()), "a whole number")
        }
    };
    let hint = match read {
        Ok(amount) if amount.is_zero() => {
            "no limit is the word `unlimited`; to give nothing, leave it out".to_owned()
        }
        Ok(amount) => return Some(amount),
        Err(hint) => hint,
    };
    let in_unit = unit.map(|unit| format!(" (unit `{unit}`)")).unwrap_or_default();
    let allowed = format!("{kind} above 0{in_unit}, or the word `unlimited`");
    problems.report(at, format!("the number {}", quoted(text)), allowed).hint(hint);
    None
}

fn period(window: &raw::Window, problems: &mut Sink<'_>) -> Option<Period> {
    let time_zone = window.time_zone.as_ref();
    match (window.starts.value, window.every.value) {
        (Starts::Calendar, Every::Calendar(unit)) => Some(Period::Calendar(unit, zone(time_zone, problems)?)),
        (Starts::FirstUse, Every::Length(length)) => {
            if let Some(time_zone) = time_zone {
                let problem = problems.report(
                    &time_zone.at,
                    "a time zone where the first use starts",
                    "allow, every, starts",
                );
                problem.hint("only `starts: calendar` has a time zone");
            }
            Some(Period::FirstUse(length))
        }
        (Starts::Calendar, Every::Length(_)) => {
            let problem =
                problems.report(&window.every.at, "a length of time by the calendar", "day, week, month");
            problem.hint("a length of time goes with `starts: first_use`");
            None
        }
        (Starts::FirstUse, Every::Calendar(_)) => {
            let found = "a stretch of the calendar from the first use";
            let problem = problems.report(&window.every.at, found, "a length of time such as 24h or 7d");
            problem.hint("day, week and month go with `starts: calendar`");
            None
        }
    }
}

/// The zone of this name, UTC for none. Zones come from the database in the program, not the machine's, so that every
/// machine agrees on when a day begins.
pub(super) fn zone(name: Option<&At<Text>>, problems: &mut Sink<'_>) -> Option<TimeZone> {
    let Some(name) = name else {
        return Some(TimeZone::UTC);
    };
    let database = TimeZoneDatabase::bundled();
    let known = database.get(&name.value.0).ok().filter(|zone| !zone.is_unknown());
    if known.is_none() {
        let found = format!("unknown time zone {}", quoted(&name.value.0));
        let problem = problems.report(&name.at, found, "a name such as UTC or Europe/Berlin");
        let names: Vec<String> = database.available().map(|zone| zone.as_str().to_owned()).collect();
        if let Some(near) = nearest(&name.value.0, names.iter().map(String::as_str)) {
            problem.hint(format!("did you mean `{near}`?"));
        }
    }
    known
}

/// Reports the windows that never are the ones that bind: `unlimited` beside others, the looser of two of one length,
/// the shorter of two when the longer gives no more, the longer when the shorter cannot use it up.
fn check_reachable(windows: &[(Window, &Place)], problems: &mut Sink<'_>) {
    for (nth, (window, at)) in windows.iter().enumerate() {
        let others = windows.iter().enumerate().filter(|(other, _)| *other != nth);
        let binding = others.filter_map(|(other, (by, by_at))| {
            Some((reason(window, by, other < nth)?, by_at.line, by_at.column))
        });
        if let Some((reason, line, column)) = binding.min_by_key(|(_, line, column)| (*line, *column)) {
            let found = format!("a window that never binds: the one at {line}:{column} {reason}");
            problems.report(at, found, "windows that each can be the first to run out").hint("remove it");
        }
    }
}

/// Why `window` never binds beside `by`.
fn reason(window: &Window, by: &Window, by_is_first: bool) -> Option<&'static str> {
    let Some(allow) = window.allow else {
        return (by.allow.is_some() || by_is_first).then_some("has a limit and this has none");
    };
    let by_allow = by.allow?;
    let (own, other) = (lengths(&window.period), lengths(&by.period));
    if window.period == by.period {
        let looser = by_allow < allow || (by_allow == allow && by_is_first);
        return looser.then_some("lasts as long and gives no more");
    }
    if own.1 < other.0 && by_allow <= allow {
        return Some("lasts longer and gives no more");
    }
    let all = u128::from(by_allow.get()) * u128::from(instances_within(&by.period, &window.period));
    let ample = other.1 < own.0 && all <= u128::from(allow.get());
    ample.then_some("is shorter and gives less in all that time")
}

/// Least and greatest length in milliseconds, with room for changes of the clocks.
fn lengths(period: &Period) -> (u64, u64) {
    let hours = match period {
        Period::FirstUse(length) => return (length.ms(), length.ms()),
        Period::Calendar(CalendarUnit::Day, _) => (23, 25),
        Period::Calendar(CalendarUnit::Week, _) => (7 * 24 - 1, 7 * 24 + 1),
        Period::Calendar(CalendarUnit::Month, _) => (28 * 24 - 1, 31 * 24 + 1),
    };
    (hours.0 * HOUR_MS, hours.1 * HOUR_MS)
}

/// How many instances of the shorter period can share time with one of the longer, at most.
fn instances_within(shorter: &Period, longer: &Period) -> u64 {
    match (shorter, longer) {
        (Period::Calendar(CalendarUnit::Day, zone), Period::Calendar(longer, other)) if zone == other => {
            match longer {
                CalendarUnit::Day => 1,
                CalendarUnit::Week => 7,
                CalendarUnit::Month => 31,
            }
        }
        // Instances do not begin together, so one more is cut by either end.
        _ => lengths(longer).1.div_ceil(lengths(shorter).0.max(1)) + 1,
    }
}
