//! `x-codex-*`: what Codex CLI shows as its limits, one family of two windows, and credits.
//!
//! The primary window is the shorter and the secondary the longer one of the first window layer that has two; without
//! such a layer, the first window there is. Codex keeps what an earlier answer said of credits, so every answer says
//! it, and while there are credits Codex does not warn that windows run out: `has-credits` is true only while a
//! request could really be paid from a balance.

use http::HeaderName;

use super::names::{
    CODEX_BALANCE, CODEX_HAS_CREDITS, CODEX_PRIMARY_MINUTES, CODEX_PRIMARY_RESET, CODEX_PRIMARY_USED,
    CODEX_SECONDARY_MINUTES, CODEX_SECONDARY_RESET, CODEX_SECONDARY_USED, CODEX_UNLIMITED,
};
use super::{Scene, Writer};
use crate::access::standing::{GuardStanding, WindowStanding};
use crate::policy::compiled::GuardRule;
use crate::units::{Amount, Credits, Unit};

const MS_PER_MINUTE: u64 = 60_000;
const PERMILLE: u128 = 1000;

pub(super) fn write(writer: &mut Writer, scene: &Scene<'_>) {
    let (primary, secondary) = windows(scene);
    let names = [
        [&CODEX_PRIMARY_USED, &CODEX_PRIMARY_MINUTES, &CODEX_PRIMARY_RESET],
        [&CODEX_SECONDARY_USED, &CODEX_SECONDARY_MINUTES, &CODEX_SECONDARY_RESET],
    ];
    for (window, names) in [primary, secondary].into_iter().zip(names) {
        if let Some((window, allow)) = window {
            write_window(writer, window, allow, names);
        }
    }
    let credits = spendable(scene);
    writer.put(&CODEX_HAS_CREDITS, if credits.is_zero() { "false" } else { "true" });
    writer.put(&CODEX_UNLIMITED, "false");
    writer.amount(Amount::clamped(credits.micros()), Unit::Credit);
    writer.end(&CODEX_BALANCE);
}

/// A window that has a limit, and the limit.
pub(in crate::proxy) type Limited<'a> = Option<(&'a WindowStanding, Amount)>;

/// The primary and the secondary window.
pub(in crate::proxy) fn windows<'a>(scene: &Scene<'a>) -> (Limited<'a>, Limited<'a>) {
    let standing = &scene.standing.windows;
    let mut layers = standing.chunk_by(|left, right| left.layer == right.layer);
    let several = layers.clone().find(|layer| limited(layer).count() > 1);
    let Some(layer) = several.or_else(|| layers.find(|layer| limited(layer).count() > 0)) else {
        return (None, None);
    };
    let shorter = limited(layer).min_by_key(|(window, _)| window.length_ms);
    let longer = limited(layer).max_by_key(|(window, _)| window.length_ms);
    (shorter, longer.filter(|_| several.is_some()))
}

fn limited(layer: &[WindowStanding]) -> impl Iterator<Item = (&WindowStanding, Amount)> {
    layer.iter().filter_map(|window| Some((window, window.allow?)))
}

fn write_window(
    writer: &mut Writer,
    window: &WindowStanding,
    allow: Amount,
    [used, minutes, reset]: [&'static HeaderName; 3],
) {
    let permille = used_permille(window.left, allow);
    writer.number(permille / 10);
    writer.fraction(permille % 10, 1);
    writer.end(used);
    writer.put_number(minutes, window.length_ms.div_ceil(MS_PER_MINUTE));
    if let Some(at) = window.resets_at {
        writer.put_number(reset, u64::try_from(at.seconds_ceil()).unwrap_or_default());
    }
}

/// Rounded down: only a window that has nothing left is used up.
pub(in crate::proxy) fn used_permille(left: Amount, allow: Amount) -> u64 {
    let used = u128::from(allow.saturating_sub(left).get()) * PERMILLE;
    u64::try_from(used / u128::from(allow.get().max(1))).unwrap_or_default()
}

/// What balances can give, each counted once; nothing where a spend cap lets none of it through.
pub(in crate::proxy) fn spendable(scene: &Scene<'_>) -> Credits {
    if spend_caps(scene).any(|cap| cap.left == 0) {
        return Credits::ZERO;
    }
    let balances = &scene.standing.balances;
    let distinct = balances.iter().enumerate().filter(|(place, one)| {
        one.debt.is_zero() && balances[..*place].iter().all(|earlier| earlier.balance != one.balance)
    });
    distinct.fold(Credits::ZERO, |sum, (_, one)| sum.saturating_add(one.available))
}

/// Every cap on what balances may give.
pub(in crate::proxy) fn spend_caps<'a>(scene: &Scene<'a>) -> impl Iterator<Item = &'a GuardStanding> {
    let caps = scene.guards().filter(|(guard, _)| matches!(guard.rule, GuardRule::Spend { .. }));
    caps.map(|(_, standing)| standing)
}
