//! `RateLimit-Policy` and `RateLimit`, as the IETF's draft has them.
//!
//! A window is named by its layer and length, a guard by its own name. A token bucket is told as what it holds (`q`)
//! and the time in which that comes back (`w`): that is its rate, and `r` never passes `q`. What is unlimited is not
//! told. Counts are whole: credits are rounded down.

use super::names::{RATE_LIMIT, RATE_LIMIT_POLICY};
use super::{Scene, Writer};
use crate::access::standing::GuardStanding;
use crate::policy::compiled::{Guard, GuardRule, Layer, Rate, Window};
use crate::units::credits::MICROS_PER_CREDIT;
use crate::units::{Amount, Span, Timestamp, Unit};

pub(super) fn write(writer: &mut Writer, scene: &Scene<'_>) {
    for (layer, windows, window, standing) in scene.windows() {
        let Some(allow) = standing.allow else { continue };
        write_name(writer, layer, window);
        writer.raw(";q=");
        writer.number(whole(allow, windows.unit));
        writer.raw(";w=");
        writer.number(Span::from_ms(standing.length_ms).seconds_ceil());
        write_unit(writer, windows.unit);
    }
    for (guard, standing) in scene.guards() {
        write_guard_policy(writer, scene, guard, standing);
    }
    writer.end(&RATE_LIMIT_POLICY);

    for (layer, windows, window, standing) in scene.windows() {
        if standing.allow.is_some() {
            write_name(writer, layer, window);
            writer.raw(";r=");
            writer.number(whole(standing.left, windows.unit));
            write_time(writer, scene, standing.resets_at);
        }
    }
    for (guard, standing) in scene.guards() {
        write_guard_left(writer, scene, guard, standing);
    }
    writer.end(&RATE_LIMIT);
}

fn write_guard_policy(writer: &mut Writer, scene: &Scene<'_>, guard: &Guard, standing: &GuardStanding) {
    match &guard.rule {
        GuardRule::Rate(rate) => {
            begin(writer, &guard.name, ";q=", rate.burst);
            writer.raw(";w=");
            writer.number(refill(rate).seconds_ceil().max(1));
            write_unit(writer, rate.unit);
        }
        GuardRule::Concurrent { limit } => {
            begin(writer, &guard.name, ";q=", *limit);
            writer.raw(";qu=\"concurrent-requests\"");
        }
        GuardRule::Spend { window } => {
            begin(writer, &guard.name, ";q=", standing.limit / MICROS_PER_CREDIT);
            let instance = window.period.instance_at(scene.now);
            writer.raw(";w=");
            writer.number(instance.end.since(instance.start).seconds_ceil());
            write_unit(writer, Unit::Credit);
        }
    }
}

fn write_guard_left(writer: &mut Writer, scene: &Scene<'_>, guard: &Guard, standing: &GuardStanding) {
    match &guard.rule {
        GuardRule::Rate(rate) => {
            begin(writer, &guard.name, ";r=", standing.left);
            write_time(writer, scene, one_more_at(rate, standing));
        }
        GuardRule::Concurrent { .. } => begin(writer, &guard.name, ";r=", standing.left),
        GuardRule::Spend { .. } => {
            begin(writer, &guard.name, ";r=", standing.left / MICROS_PER_CREDIT);
            let untouched = standing.left == standing.limit;
            write_time(writer, scene, standing.full_at.filter(|_| !untouched));
        }
    }
}

/// The time in which an empty bucket fills.
fn refill(rate: &Rate) -> Span {
    Span::from_ms(rate.burst.saturating_mul(rate.every.ms()).div_ceil(rate.amount.max(1)))
}

/// When one more fits than now: the draft's `t` is not the time until all is back. `None` where all is there.
fn one_more_at(rate: &Rate, standing: &GuardStanding) -> Option<Timestamp> {
    let missing_then = standing.limit.checked_sub(standing.left)?.checked_sub(1)?;
    let refill_ms = missing_then.saturating_mul(rate.every.ms()) / rate.amount.max(1);
    standing.full_at.map(|full_at| Timestamp::from_ms(full_at.ms().saturating_sub_unsigned(refill_ms)))
}

fn write_name(writer: &mut Writer, layer: &Layer, window: &Window) {
    writer.member();
    writer.raw("\"");
    writer.raw(&layer.name);
    writer.raw("-");
    writer.length(&window.period);
    writer.raw("\"");
}

fn begin(writer: &mut Writer, name: &str, parameter: &str, value: u64) {
    writer.member();
    writer.raw("\"");
    writer.raw(name);
    writer.raw("\"");
    writer.raw(parameter);
    writer.number(value);
}

/// Requests are the draft's own default. Credits, tokens and seconds are not registered with it.
fn write_unit(writer: &mut Writer, unit: Unit) {
    if unit != Unit::Request {
        writer.raw(";overfall-unit=\"");
        writer.raw(unit.as_str());
        writer.raw("\"");
    }
}

fn write_time(writer: &mut Writer, scene: &Scene<'_>, at: Option<Timestamp>) {
    if let Some(at) = at {
        writer.raw(";t=");
        writer.number(scene.seconds_until(at));
    }
}

const fn whole(amount: Amount, unit: Unit) -> u64 {
    match unit {
        Unit::Credit => amount.get() / MICROS_PER_CREDIT,
        _ => amount.get(),
    }
}
