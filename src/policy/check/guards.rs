//! Guards: one limit each, in a form that can be counted.

use std::sync::Arc;

use super::super::compiled::{Guard, GuardRule, Period, Rate, Window};
use super::super::decode::{At, missing_key};
use super::super::keys::{Identity, Keys};
use super::super::problem::{Place, Sink, listed, quoted};
use super::super::raw;
use super::super::scalars::{Count, Every};
use super::features::counts_tokens;
use super::plans::Scene;
use super::windows::zone;
use crate::units::{Amount, Unit};

/// The limits a guard can have, and the keys that go with each.
const FORMS: [(&str, &[&str]); 4] = [
    ("requests", &["every", "burst"]),
    ("tokens", &["every", "burst"]),
    ("concurrent", &[]),
    ("spend", &["every", "time_zone"]),
];

/// A guard as decisions use it; `None` and a report where it makes none.
pub(super) fn compile(
    guard: &At<raw::Guard>,
    scene: &Scene<'_>,
    keys: &mut Keys,
    problems: &mut Sink<'_>,
) -> Option<Guard> {
    let raw = &guard.value;
    let form = form(guard, problems)?;
    if raw.per.is_none() && raw.whole {
        missing_key(&guard.at, "per", problems);
    }
    let name = raw.name.value.0.as_str();
    let (rule, identity) = match form {
        "requests" => bucket(guard, raw.requests.as_ref()?, Unit::Request, scene, problems)?,
        "tokens" => {
            check_tokens(&raw.tokens.as_ref()?.at, scene, problems);
            bucket(guard, raw.tokens.as_ref()?, Unit::Token, scene, problems)?
        }
        "concurrent" => {
            let limit = raw.concurrent.as_ref()?.value.0;
            (GuardRule::Concurrent { limit }, Identity::in_flight(scene.name, name))
        }
        _ => {
            let period = spend_period(guard, problems)?;
            let identity = Identity::window(scene.name, name, Unit::Credit, &period);
            let key = keys.give("guard", &identity, &raw.name.at, problems);
            let allow = Some(Amount::clamped(raw.spend.as_ref()?.value.0.micros()));
            (GuardRule::Spend { window: Window { key, allow, period } }, identity)
        }
    };
    let key = keys.give("guard", &identity, &raw.name.at, problems);
    Some(Guard { name: Arc::from(name), per: raw.per.as_ref()?.value, key, rule })
}

/// A guard that removes another has nothing but its name.
pub(super) fn check_off(guard: &At<raw::Guard>, off: &At<bool>, problems: &mut Sink<'_>) {
    if !off.value {
        let problem = problems.report(&off.at, "`off: false`", "off: true");
        problem.hint("a guard is on unless it is removed; leave `off` out");
    }
    for (key, at) in written(&guard.value) {
        let found = format!("`{key}` in a guard that is removed");
        problems
            .report(at, found, "name, off")
            .hint("a guard of the same name replaces the other without `off`");
    }
}

/// The keys of a guard besides name and off, as far as they are written.
fn written(guard: &raw::Guard) -> impl Iterator<Item = (&'static str, &Place)> {
    let keys = [
        ("requests", guard.requests.as_ref().map(|some| &some.at)),
        ("tokens", guard.tokens.as_ref().map(|some| &some.at)),
        ("concurrent", guard.concurrent.as_ref().map(|some| &some.at)),
        ("spend", guard.spend.as_ref().map(|some| &some.at)),
        ("every", guard.every.as_ref().map(|some| &some.at)),
        ("burst", guard.burst.as_ref().map(|some| &some.at)),
        ("time_zone", guard.time_zone.as_ref().map(|some| &some.at)),
        ("per", guard.per.as_ref().map(|some| &some.at)),
    ];
    keys.into_iter().filter_map(|(key, at)| Some((key, at?)))
}

/// Which of the four limits a guard has.
fn form(guard: &At<raw::Guard>, problems: &mut Sink<'_>) -> Option<&'static str> {
    let limits = || FORMS.iter().filter(|(form, _)| written(&guard.value).any(|(key, _)| key == *form));
    let count = limits().count();
    let allowed = "exactly one of requests, tokens, concurrent, spend";
    if count == 0 && guard.value.whole {
        let problem = problems.report(&guard.at, "a guard without a limit", allowed);
        problem.hint("a guard that limits nothing is left out, or removed by `off: true`");
    }
    if count > 1 {
        let found = format!("a guard with {}", listed(limits().map(|(form, _)| *form)));
        problems.report(&guard.at, found, allowed).hint("make it several guards, each with a name");
    }
    let (form, partners) = limits().next().filter(|_| count == 1)?;
    for (key, at) in written(&guard.value) {
        if key != *form && key != "per" && !partners.contains(&key) {
            let allowed = listed(["name", form].into_iter().chain(partners.iter().copied()).chain(["per"]));
            problems.report(at, format!("`{key}` beside `{form}`, where it means nothing"), allowed);
        }
    }
    Some(form)
}

fn bucket(
    guard: &At<raw::Guard>,
    amount: &At<Count>,
    unit: Unit,
    scene: &Scene<'_>,
    problems: &mut Sink<'_>,
) -> Option<(GuardRule, Identity)> {
    let raw = &guard.value;
    let every = every(guard, problems)?;
    let Every::Length(length) = every.value else {
        let problem =
            problems.report(&every.at, "a stretch of the calendar", "a length of time such as 1m or 24h");
        problem.hint("a bucket refills steadily; limits by the calendar are windows of a layer");
        return None;
    };
    let burst = raw.burst.as_ref().unwrap_or(amount);
    let fits = u128::from(burst.value.0) * u128::from(length.ms()) < 1 << 63;
    if !fits {
        let found = format!("a burst of {} over {} ms", burst.value.0, length.ms());
        problems
            .report(&burst.at, found, "burst × milliseconds below 2^63")
            .hint("a smaller burst or a shorter time");
        return None;
    }
    let rate = Rate { unit, amount: amount.value.0, every: length, burst: burst.value.0 };
    Some((GuardRule::Rate(rate), Identity::bucket(scene.name, &raw.name.value.0, &rate)))
}

fn every<'a>(guard: &'a At<raw::Guard>, problems: &mut Sink<'_>) -> Option<&'a At<Every>> {
    if guard.value.every.is_none() && guard.value.whole {
        missing_key(&guard.at, "every", problems);
    }
    guard.value.every.as_ref()
}

fn spend_period(guard: &At<raw::Guard>, problems: &mut Sink<'_>) -> Option<Period> {
    let time_zone = guard.value.time_zone.as_ref();
    match every(guard, problems)?.value {
        Every::Calendar(unit) => Some(Period::Calendar(unit, zone(time_zone, problems)?)),
        Every::Length(length) => {
            if let Some(time_zone) = time_zone {
                let allowed = "a time zone beside day, week or month only";
                problems
                    .report(&time_zone.at, "a time zone beside a length of time", allowed)
                    .hint("leave it out");
            }
            Some(Period::FirstUse(length))
        }
    }
}

fn check_tokens(at: &Place, scene: &Scene<'_>, problems: &mut Sink<'_>) {
    let known = |feature: &&At<raw::Feature>| feature.value.apis.as_ref().is_some_and(|apis| apis.whole);
    if scene.feature.filter(known).is_some_and(|feature| !counts_tokens(&feature.value)) {
        let found = format!("a limit on tokens, which {} never uses", quoted(scene.name));
        problems.report(at, found, "requests, concurrent, spend");
    }
}
